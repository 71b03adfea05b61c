"""`eclctl policy simulate`: what a candidate policy, or a withdrawal, would change."""

from __future__ import annotations

import argparse
import gzip
import os
import stat
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import IO, TYPE_CHECKING, cast

from eclctl.cli.inputs.policies import SYSTEM_CONFIG
from eclctl.cli.policy.simulation_text import Simulation, simulation_as_json, simulation_lines
from eclctl.cli.terminal.exit_codes import FAILED, NO_RESULT, OK
from eclctl.cli.terminal.output import print_failure, print_json
from eclctl.cli.terminal.parser import UsageError, add_repeatable, whole_number
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.accounts import NAMES, subject
from eclctl.dataclass import dataclass, replace
from eclctl.decide.caller_identity import identifier
from eclctl.decide.host_mounts import trusted_file_systems
from eclctl.decide.snapshot import Snapshot, build
from eclctl.errors import ConfigError
from eclctl.files.guarded import read_unguarded
from eclctl.files.locating import Locator
from eclctl.files.mounts import MountTable
from eclctl.files.sandboxes import Sandboxes
from eclctl.files.walk import walk
from eclctl.files.writers import ignore_broken_leases
from eclctl.local.engine import Responders, load_site
from eclctl.preview.policy_pair import PolicyPair, Side
from eclctl.preview.records import History
from eclctl.preview.replay import ReplayResult, replay
from eclctl.preview.withdrawing import digest_of, signatory, with_withdrawn
from eclctl.text import parse_duration, printable
from eclctl.verify.hashing import HashPool

if TYPE_CHECKING:
    from eclctl.config.settings import Settings

_LONGEST_LINE = 1 << 20
_LIMIT = 50
_TICK_SECONDS = 0.2

_EXAMPLES = """Today's policy is the one that the configuration names. The images are those in
its watched directories and those of its audit log. Each image is read once, and
tried under both policies as: a user that no rule names, each named user, a
member of each named group, and each user who asked for it. Images, users'
groups and the time are taken as they are now: the log does not say what they
were. No daemon is asked, and nothing changes.

exit status:
  0  no answer turns from allow to deny, or from deny to allow
  1  some do
  2  the command line is wrong
  3  it could not be done, or only in part, and no answer seen turns

examples:
  eclctl policy simulate new/policies.d
  eclctl policy simulate --since 30d --audit /var/log/eclctl/audit.jsonl \\
      --audit /var/log/eclctl/audit.jsonl.1.gz new/policies.d
  eclctl policy simulate --revoke 81F111F6190C46143937EF7C22BC3A3BC942487F
  eclctl policy simulate --revoke mallory --json
  eclctl policy simulate --withdraw sha256:9f86d081884c7d659a2feaa0c55ad015...
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl policy`."""
    text = "Shows which answers a candidate policy, or a withdrawal, would change."
    parser = add_command(commands, "simulate", text, _EXAMPLES)
    parser.add_argument("new", nargs="*", metavar="NEW", help="files or directories of the candidate policy")
    parser.add_argument("--new-config", metavar="FILE", help="the candidate is the policy of this configuration")
    text = "certificates of the candidate, instead of today's"
    add_repeatable(parser, "--keyring", metavar="FILE_OR_DIR", text=text)
    text = (
        "today's policy, with a key or signer withdrawn: a signer's name, a fingerprint, sha256:..., or a file "
        "with a key or certificate"
    )
    add_repeatable(parser, "--revoke", metavar="KEY", text=text)
    text = "today's policy, with this data object or OCI manifest withdrawn"
    add_repeatable(parser, "--withdraw", metavar="DIGEST", text=text)
    parser.add_argument("--config", metavar="FILE", default=SYSTEM_CONFIG, help=f"today's policy ({SYSTEM_CONFIG})")
    add_repeatable(parser, "--images", metavar="DIR", text="more directories of images")
    text = "audit logs, also compressed ones (.gz), instead of today's"
    add_repeatable(parser, "--audit", metavar="FILE", text=text)
    text = "decisions since a date (2026-11-01) or in the last 30d"
    parser.add_argument("--since", metavar="WHEN", type=_since, help=text)
    text = f"list at most N changes ({_LIMIT}); 0 is all"
    parser.add_argument("--limit", metavar="N", type=whole_number(0, 999_999_999), default=_LIMIT, help=text)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl policy simulate`; return its exit status."""
    if wrong := _misuse(options):
        raise UsageError(wrong)
    try:
        made = _simulation(options, datetime.now(UTC))
    except (ConfigError, OSError) as error:
        print_failure(options.prog, error, as_json=options.json)
        return NO_RESULT
    if made is None:
        return NO_RESULT
    if options.json:
        print_json(simulation_as_json(made))
    else:
        print("\n".join(simulation_lines(made)))
    if made.result.flips:
        return FAILED  # some answers change
    return NO_RESULT if made.incomplete else OK


def _misuse(options: argparse.Namespace) -> str | None:
    withdrawal = bool(options.revoke or options.withdraw)
    candidates = bool(options.new) + (options.new_config is not None) + withdrawal
    if not candidates:
        return "name a candidate policy, or --revoke or --withdraw"
    if candidates > 1:
        return "give one of NEW, --new-config, and --revoke or --withdraw"
    if missing := next((each for each in options.images if not os.path.isdir(each)), None):
        return f"--images {missing} is no directory"
    if options.keyring and not options.new:
        return "--keyring needs the files of a candidate policy"
    try:
        for text in options.withdraw:
            digest_of(text)
    except ConfigError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class _Named:
    """A policy with its configuration, and what it was named."""

    settings: Settings
    snapshot: Snapshot
    name: str


def _simulation(options: argparse.Namespace, now: datetime) -> Simulation | None:
    """Load both policies and replay; None when the candidate's errors have been printed."""
    today = _Named(*load_site(options.config), options.config)
    candidate = _candidate(options, today.settings, today.snapshot, now)
    if candidate is None:
        return None
    history = History()
    unread = _read_audit(options, today.settings, history)
    result = _replayed((today, candidate), history, unread, options, now)
    both = (today.name, today.snapshot), (candidate.name, candidate.snapshot)
    made = Simulation(*both, history, result, now, tuple(unread))
    if made.empty:
        hint = "no directory is watched and no decision is recorded; name --images DIR or --audit FILE"
        raise ConfigError(f"there is nothing to compare: {hint}")
    return made


def _candidate(options: argparse.Namespace, settings: Settings, snapshot: Snapshot, now: datetime) -> _Named | None:
    if options.new_config is not None:
        return _Named(*load_site(options.new_config), options.new_config)
    if not options.new:
        return _withdrawn(options, settings, snapshot)
    keyrings = tuple(options.keyring) or settings.keyrings
    named = replace(settings, policies=tuple(options.new), keyrings=keyrings)
    built = build(named, NAMES, generation=snapshot.generation + 1, now=now, read=read_unguarded)
    for problem in built.errors:
        print(f"error: {problem}", file=sys.stderr)
    if built.snapshot is None:
        print(f"{options.prog}: the candidate policy does not load", file=sys.stderr)
        return None
    return _Named(named, built.snapshot, " ".join(options.new))


def _withdrawn(options: argparse.Namespace, settings: Settings, snapshot: Snapshot) -> _Named:
    found = tuple(signatory(snapshot, text, read_unguarded) for text in options.revoke)
    digests = frozenset(digest_of(text) for text in options.withdraw)
    named = ", ".join([*options.revoke, *options.withdraw])
    withdrawn = with_withdrawn(snapshot, signatories=found, digests=digests)
    return _Named(settings, withdrawn, f"today's policy, with {named} withdrawn")


def _replayed(
    both: tuple[_Named, _Named],
    history: History,
    unread: list[str],
    options: argparse.Namespace,
    now: datetime,
) -> ReplayResult:
    today, candidate = both
    settings = today.settings
    roots = [(watch.path, watch.recursive) for watch in settings.watch] + [(each, True) for each in options.images]
    with ExitStack() as stack:
        pool = stack.enter_context(HashPool(os.cpu_count() or 1))
        old = Side(today.snapshot, _locator(settings, stack))
        new = Side(candidate.snapshot, _locator(candidate.settings, stack))
        looker = PolicyPair(old, new, pool, Responders(settings.ocsp.timeout), now)
        progress = _Progress()
        stack.callback(progress.clear)
        resolve, identify = lru_cache(maxsize=None)(subject), lru_cache(maxsize=None)(identifier())
        paths = _paths(roots, unread)
        return replay(
            looker, paths, history, resolve, identify=identify, limit=options.limit or None, tick=progress.tick
        )


def _locator(settings: Settings, stack: ExitStack) -> Locator:
    ignore_broken_leases()
    mounts = MountTable(trusted_file_systems(settings))
    stack.callback(mounts.close)
    return Locator(mounts, settings.trusted_owners, sandboxes=Sandboxes(time.monotonic))


def _paths(roots: Sequence[tuple[str, bool]], unread: list[str]) -> Iterator[str]:
    """Yield every file that could be an image and every root of a sandbox; take note of what cannot be listed."""

    def refused(directory: str, error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # it went while its parent was read
            unread.append(f"the directory {directory} could not be read: {error.strerror}")

    for root, recursive in roots:
        for files in walk(os.path.realpath(root), recursive=recursive, sandboxes=True, refused=refused):
            yield from (path for path, _ in files)


def _read_audit(options: argparse.Namespace, settings: Settings, history: History) -> list[str]:
    """Read the logs that are named, or today's; return why the latter could not be read."""
    for path in options.audit:
        _read_log(path, history, options.since)
    if options.audit or settings.audit_path is None or not os.path.lexists(settings.audit_path):
        return []
    try:
        _read_log(settings.audit_path, history, options.since)
    except ConfigError as error:
        return [str(error)]
    return []


def _read_log(path: str, history: History, since: datetime | None) -> None:
    """Add what a log holds; raise ConfigError when it cannot be read to its end."""
    try:
        with _opened(path) as log:
            # A line that is longer than any record comes in pieces, which are no records.
            history.read(iter(lambda: log.readline(_LONGEST_LINE), b""), since)
    except (OSError, EOFError, zlib.error) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"the audit log {path} could not be read: {why}") from error


def _opened(path: str) -> IO[bytes]:
    """Open a log.

    Raises:
        OSError: it cannot be opened.
        ConfigError: it is no regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ConfigError(f"{path} is not a regular file")
    if path.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path))
    return open(path, "rb")


class _Progress:
    """How far it is, on a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = 0.0
        self._count = 0

    def tick(self, path: str) -> None:
        """Show an image's number and, as far as there is room, its name."""
        self._count += 1
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _TICK_SECONDS
            text = f"{self._count} {printable(path)}"
            print(f"\r\x1b[K{text[:78]}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take it away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _since(text: str) -> datetime:
    span = parse_duration(text)
    try:
        if span is not None:
            return datetime.now(UTC) - timedelta(seconds=span)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no date and no span: write 2026-11-01 or 30d") from error
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
