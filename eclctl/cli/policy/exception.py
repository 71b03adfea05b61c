"""`eclctl policy exception`: writes an exception for images, and shows how those that there are stand."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from eclctl.cli.inputs.policies import SYSTEM_CONFIG
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_json, wrapped
from eclctl.cli.terminal.parser import UsageError, add_repeatable
from eclctl.cli.terminal.subcommands import Commands
from eclctl.config.accounts import NAMES
from eclctl.config.document import Report
from eclctl.decide.breakglass import Candidate, Standing, State, moment, standing
from eclctl.decide.snapshot import Snapshot
from eclctl.errors import ConfigError, EclctlError
from eclctl.files.atomic import Existing, write_file
from eclctl.local.engine import load_site
from eclctl.policy.breakglass import FILE_NAME, FileName, read_exception
from eclctl.policy.breakglass_write import Draft, write_exception
from eclctl.policy.language import ExceptionTerms
from eclctl.text import duration_as_written, json_text, parse_duration, printable
from eclctl.verify.hashing import hash_file

_STATUS = """
exit status:
  0  done; for `check`, each exception is active, or waits for its start
  1  it is not, or could not be done
  2  the command line is wrong
  3  the output cannot be written
"""
_EXAMPLES = f"""An exception (break-glass) lets named images run for a while, for named users or
groups, although a rule's requirements are not met. The policy says who approves
an exception.
{_STATUS}
examples:
  eclctl policy exception new drain-node-12 --for 12h --user alice \\
      --image /srv/containers/prod/a.sif --reason "scanner down, ticket 4711"
  eclctl policy exception list
  eclctl policy exception check drain-node-12
"""
_NEW = f"""--image names a file by its content, and approvers sign for just that content;
--path names files by where they lie. The exception is written to the directory
where the policy looks for exceptions.
{_STATUS}
examples:
  eclctl policy exception new drain-node-12 --for 12h --user alice \\
      --image /srv/containers/prod/a.sif --reason "scanner down, ticket 4711"
  eclctl policy exception new hotfix --for 1d --group hpc-admins -o - \\
      --reason "CVE-2026-1, ticket 4712" --path '/srv/containers/hotfix/*.sif'
"""
_LIST = f"""Signatures are judged as the daemon would judge them now. A running daemon knows
of new exceptions and signatures after `eclctl reload`.
{_STATUS}
examples:
  eclctl policy exception list
  eclctl policy exception list --json | jq '.exceptions[] | [.name, .state]'
  eclctl policy exception check drain-node-12
"""

_SHOWING = {
    "list": "shows how each exception stands",
    "check": "shows the same, and fails unless each is active or waits for its start",
}


def add(commands: Commands) -> None:
    """Add the subcommand's parser, with its own commands."""
    parser = commands.add_parser(
        "exception",
        help="writes exceptions (break-glass), and shows how they stand",
        description="Writes exceptions to the policy, and shows how they stand: docs/exceptions.md.",
        examples=_EXAMPLES,
    )
    orders = parser.add_subparsers(dest="order", required=True, metavar="COMMAND")
    _add_new(orders)
    for name, text in _SHOWING.items():
        order = orders.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", examples=_LIST)
        order.add_argument("names", nargs="*", metavar="NAME", help="only these exceptions; without names, all")
        _add_common(order)


def _add_new(orders: Commands) -> None:
    new = orders.add_parser(
        "new", help="writes the file of an exception", description="Writes an exception, to be signed.", examples=_NEW
    )
    new.add_argument("name", metavar="NAME", help="what to call it: a-z, 0-9, dot, dash, underscore")
    add_repeatable(new, "--image", metavar="FILE", text="an image that may run")
    add_repeatable(new, "--path", metavar="PATTERN", text="or images that may run, by where they lie")
    new.add_argument("--for", dest="span", required=True, metavar="TIME", type=_duration, help="how long: 90m, 12h, 2d")
    new.add_argument("--starts", metavar="TIME", type=_time, help="from when: 2026-11-22T03:00:00Z (now)")
    new.add_argument("--reason", required=True, metavar="TEXT", help="why, for approvers and auditors")
    who = new.add_mutually_exclusive_group(required=True)
    add_repeatable(who, "--user", metavar="USER", text="who may run it")
    add_repeatable(who, "--group", metavar="GROUP", text="whose members may run it")
    new.add_argument("-o", "--output", metavar="FILE", help="write to this file; - is standard output")
    _add_common(new)


def _add_common(order: argparse.ArgumentParser) -> None:
    order.add_argument("--config", metavar="FILE", default=SYSTEM_CONFIG, help=f"configuration ({SYSTEM_CONFIG})")
    order.add_argument("-j", "--json", action="store_true", help="print one JSON object")


def _duration(word: str) -> float:
    seconds = parse_duration(word)
    if not seconds:
        raise argparse.ArgumentTypeError("a number and s, m, h, d or w is needed: 12h")
    return seconds


def _time(word: str) -> datetime:
    try:
        time = datetime.fromisoformat(word)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise argparse.ArgumentTypeError("a time with its zone is needed: 2026-11-22T03:00:00Z")
    return time.astimezone(UTC)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand; return its exit status. An output that cannot be written raises OSError."""
    now = datetime.now(UTC)
    _, snapshot = load_site(options.config)  # as the daemon reads it: nothing is called active that the daemon refuses
    terms = None if snapshot.policy is None else snapshot.policy.exceptions
    if terms is None:
        hint = "exceptions: {directory: exceptions.d, approvals: {count: 2, of: ROLE}, longest: 72h}"
        raise ConfigError(f"the policy knows no exceptions; to have some, it needs {hint}")
    return _new(options, terms, now) if options.order == "new" else _show(options, snapshot, terms, now)


# -- new ---------------------------------------------------------------------------------------------------------------


def _new(options: argparse.Namespace, terms: ExceptionTerms, now: datetime) -> int:
    if not options.image and not options.path:
        raise UsageError("say what may run, with --image or --path")
    if not FILE_NAME.fullmatch(options.name):
        raise UsageError(f"{options.name!r} is no name for an exception: 1 to 64 of a-z, 0-9, dot, dash, underscore")
    starts = (options.starts or now).replace(microsecond=0)
    draft = Draft(
        name=options.name,
        reason=options.reason,
        users=options.user,
        groups=options.group,
        starts=starts,
        ends=starts + timedelta(seconds=options.span),
        files=[(_file(image), os.path.abspath(image)) for image in options.image],
        paths=options.path,
    )
    text = write_exception(draft).encode("utf-8", "surrogateescape")
    path = options.output or os.path.join(terms.directory, f"{options.name}.yaml")
    _require_acceptable(f"{options.name}.yaml", text, terms)
    if path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(text)
    else:
        _write(path, text)
    _say(options, draft, terms, path, now)
    return OK


def _file(image: str) -> FileName:
    try:
        fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"{image}: cannot be read: {error.strerror}") from error
    try:
        size, digest = hash_file(fd)
    except OSError as error:
        raise ConfigError(f"{image}: cannot be read: {error.strerror}") from error
    except EclctlError as error:
        raise ConfigError(f"{image}: {error}") from error
    finally:
        os.close(fd)
    return FileName(digest, size)


def _require_acceptable(name: str, text: bytes, terms: ExceptionTerms) -> None:
    """Read what is to be written as the daemon would."""
    report = Report()
    read_exception(name, text, terms, report, resolve_user=NAMES.user, resolve_group=NAMES.group)
    if report.errors:
        raise ConfigError("; ".join(each.message + f" ({each.hint})" * bool(each.hint) for each in report.errors))


def _write(path: str, text: bytes) -> None:
    """Write a new file, whole or not at all; one that exists stays as it is."""
    try:
        write_file(path, text, existing=Existing.REFUSED, mode=0o644)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists; choose another name, or remove it and its signatures") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _say(options: argparse.Namespace, draft: Draft, terms: ExceptionTerms, path: str, now: datetime) -> None:
    """Tell what comes next, on the error output when the file went to the output."""
    file = shlex.quote(path if path != "-" else f"{draft.name}.yaml")
    begin = draft.ends - timedelta(seconds=terms.longest)
    if options.json and path != "-":
        print_json({"file": path, "ends": moment(draft.ends), "approvals": terms.count})
        return
    out = sys.stderr if path == "-" else sys.stdout
    who = f"{terms.count} of {terms.role} ({', '.join(terms.people)})"
    line = f"{path if path != '-' else draft.name}: until {moment(draft.ends)}, once {who} approve it:"
    print("\n".join(wrapped(printable(line))), file=out)
    shown = printable(file)
    print(f"\n  gpg --armor --detach-sign \\\n      -o {shown}.$USER.asc \\\n      {shown}", file=out)
    if begin > now:
        print(f"\nnot before {moment(begin)}: a signature counts for {duration_as_written(terms.longest)}", file=out)
    print(f"\nthen `eclctl policy exception check {draft.name}` and `eclctl reload`", file=out)


# -- list and check ----------------------------------------------------------------------------------------------------


def _show(options: argparse.Namespace, snapshot: Snapshot, terms: ExceptionTerms, now: datetime) -> int:
    policy = snapshot.policy
    assert policy is not None
    known = {candidate.name: candidate for candidate in snapshot.exceptions.candidates}
    for name in options.names:
        if name not in known:
            raise ConfigError(f"there is no exception {name} in {terms.directory}")
    chosen = [known[name] for name in options.names] if options.names else list(known.values())
    found = [(candidate, standing(candidate, policy, snapshot.store, now)) for candidate in chosen]
    if options.json:
        print_json({"terms": _terms(terms), "exceptions": [_shape(*each) for each in found]})
    else:
        _print(found, terms)
    stands = all(each.state in {State.ACTIVE, State.WAITING} for _, each in found)
    return OK if stands or options.order == "list" else FAILED


def _print(found: Sequence[tuple[Candidate, Standing]], terms: ExceptionTerms) -> None:
    if not found:
        print(f"there are no exceptions in {printable(terms.directory)}")
    for candidate, stands in found:
        print(f"{printable(candidate.name)}: {stands.state.value}")
        for line in _details(candidate, stands):
            print("\n".join(wrapped(printable(line), "  ", "    ")))


def _details(candidate: Candidate, stands: Standing) -> list[str]:
    exception = candidate.exception
    if exception is None:
        return [str(problem) for problem in candidate.problems]
    users, groups = exception.users, exception.groups
    word, numbers = ("users", users) if users is not None else ("groups", groups or frozenset())
    lines = [stands.why, f"because: {exception.reason}", f"for {word} {', '.join(map(str, sorted(numbers)))}"]
    lines.append(f"from {moment(exception.starts)} to {moment(exception.ends)}")
    lines += [f"the file {file.digest}, {file.size} bytes" for file in sorted(exception.files, key=lambda f: f.digest)]
    lines += [f"each file at {glob.pattern}" for glob in exception.paths]
    return [*lines, *stands.discounted]


def _terms(terms: ExceptionTerms) -> dict[str, object]:
    return {
        "directory": json_text(terms.directory),
        "role": terms.role,
        "people": list(terms.people),
        "count": terms.count,
        "longest": terms.longest,
        "where": json_text(terms.where),
    }


def _shape(candidate: Candidate, stands: Standing) -> dict[str, object]:
    found = candidate.exception
    said: dict[str, object] = {
        "name": json_text(candidate.name),
        "file": json_text(candidate.file),
        "digest": candidate.digest or None,
        "state": stands.state.value,
        "why": json_text(stands.why),
        "approvers": list(stands.approvers),
        "discounted": [json_text(each) for each in stands.discounted],
        "problems": [json_text(str(problem)) for problem in candidate.problems],
    }
    if found is None:
        return said | dict.fromkeys(("reason", "starts", "ends", "users", "groups", "files", "paths"))
    return said | {
        "reason": found.reason,
        "starts": found.starts.isoformat(),
        "ends": found.ends.isoformat(),
        "users": None if found.users is None else sorted(found.users),
        "groups": None if found.groups is None else sorted(found.groups),
        "files": [{"sha256": file.digest, "size": file.size} for file in found.files],
        "paths": [json_text(glob.pattern) for glob in found.paths],
    }
