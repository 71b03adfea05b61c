"""`eclctl explain`: why an image may run or not, by which rule, key and line, and what to do now; as a tree."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from eclctl.cli.explain.advice import advice
from eclctl.cli.terminal.exit_codes import NO_DECISION, code_of_decision
from eclctl.cli.terminal.output import error_as_json, print_json
from eclctl.cli.terminal.parser import Parser, timeout
from eclctl.cli.terminal.tree import Branch, Strokes, draw_tree, strokes_for
from eclctl.client import CHECK_SOCKET, TIMEOUT, Client, ClientRequest, NoAnswerError, open_image, unreadable, wire_path
from eclctl.text import printable

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

_MOST_SIGNATURES = 64

_EXAMPLES = """With --config no daemon is asked: the policy that FILE names is loaded here, and
the image verified here, as you, without what a daemon keeps. Responders are
asked about certificates where the policy wants that.

exit status, like `eclctl check`:
  0  the image may run
  1  it may not
  2  the command line is wrong
  3  there is no decision

examples:
  eclctl explain /srv/containers/prod/solver.sif
  eclctl explain --json solver.sif | jq -r '.next[]'
  eclctl explain --socket /run/eclctl/admin.sock solver.sif
  eclctl explain --config /etc/eclctl/config.yaml solver.sif
"""


def run(argv: list[str]) -> int:
    """Run `eclctl explain`; return its exit status."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.config is not None and options.socket is not None:
        return parser.misused("--config asks no daemon; give it without --socket")
    outcome = _outcome(options)
    if options.json:
        if isinstance(outcome, NoAnswerError):
            fields: dict[str, Any] = {"error": error_as_json(outcome)}
        else:
            fields = {**outcome, "next": advice(outcome)}
        print_json({**fields, "image": options.image})
    elif isinstance(outcome, NoAnswerError):
        print(f"eclctl explain: no decision: {printable(str(outcome))}", file=sys.stderr)
        if outcome.code == "no-daemon":
            print("without a daemon: eclctl explain --config /etc/eclctl/config.yaml IMAGE", file=sys.stderr)
    else:
        strokes = strokes_for(sys.stdout.encoding)
        print("\n".join(draw_tree(tree(options.image, outcome, strokes), strokes)))
    return NO_DECISION if isinstance(outcome, NoAnswerError) else code_of_decision(outcome.get("decision"))


def _parser() -> Parser:
    text = (
        "Shows which rule decides on an image, each requirement, who signed with which\n"
        "key, who did not and why, and what to do now. The image is opened here, as you,\n"
        "and sent to the daemon. Asked on the admin socket, it shows more of each key."
    )
    parser = Parser("eclctl explain", text, _EXAMPLES)
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")
    parser.add_argument("--role", default="rootfs", help="what it is for: rootfs, overlay, data")
    parser.add_argument("--config", metavar="FILE", help="ask no daemon; decide here, by the policy that FILE names")
    parser.add_argument("--socket", metavar="PATH", help=f"the daemon's socket ({CHECK_SOCKET})")
    parser.add_argument("--timeout", metavar="SECS", type=timeout, default=TIMEOUT, help="how long to wait (40)")
    return parser


def _outcome(options: argparse.Namespace) -> dict[str, Any] | NoAnswerError:
    if options.config is None:
        return ask_for_explanation(options.image, options.role, options.socket or CHECK_SOCKET, options.timeout)
    from eclctl.local.engine import explain_here  # noqa: PLC0415 (asking a daemon needs none of it)

    return explain_here(options.config, options.image, options.role)


def ask_for_explanation(image: str, role: str, path: str, patience: float) -> dict[str, Any] | NoAnswerError:
    """Ask the daemon to explain; an image that cannot be opened is a deny without asking."""
    try:
        name, descriptor = wire_path(image), open_image(image)
    except (OSError, ValueError) as error:
        return unreadable(error)
    try:
        with Client(path, patience) as client:
            return client.ask(ClientRequest("explain", {"image": name, "role": role, "fd": True}, (descriptor,)))
    except NoAnswerError as error:
        return error
    finally:
        os.close(descriptor)


def tree(image: str, result: Mapping[str, Any], strokes: Strokes) -> Branch:
    """The tree of a result, its texts made safe for a terminal."""
    verdict = "ALLOW" if result.get("decision") == "allow" else "DENY"
    root = Branch(f"{verdict} {printable(image)}", [Branch(_text(result, "reason"))], f"({_text(result, 'code')})")
    root.below.append(_rule(result, strokes))
    if result.get("caller"):
        root.below.append(Branch(f"who asks: {_text(result, 'caller')}"))
    if result.get("signatures"):
        # Also those that count for nothing: unknown, broken, expired, and so on.
        signatures = [_signature(each, strokes) for each in result["signatures"][:_MOST_SIGNATURES]]
        if (more := len(result["signatures"]) - _MOST_SIGNATURES) > 0:
            signatures.append(Branch(f"and {more} more; --json has them all"))
        root.below.append(Branch("signatures", signatures))
    root.below.append(_image(image, result))
    if result.get("config"):
        root.below.append(Branch("no daemon was asked: decided here, by", note=_text(result, "config")))
    steps = [printable(step) for step in advice(result)]
    if len(steps) > 1:
        root.below.append(Branch("what to do now", [Branch(step) for step in steps]))
    else:
        root.below.append(Branch(f"what to do now: {steps[0] if steps else 'nothing, it may run'}"))
    return root


def _text(result: Mapping[str, Any], name: str) -> str:
    return printable(str(result.get(name)))


def _rule(result: Mapping[str, Any], strokes: Strokes) -> Branch:
    if not result.get("rule"):
        near = [
            Branch(f"{_text(each, 'rule')} does not match: {_text(each, 'why')}", note=f"({_text(each, 'where')})")
            for each in result.get("nearly") or ()
        ]
        return Branch("no rule decided", near)
    where = _text(result, "rule_where") if result.get("rule_where") else ""
    below = []
    if result.get("mode") == "permissive":
        would = _text(result, "would") if result.get("would") else "the same"
        below.append(Branch(f"permissive: enforced, the answer would be {would}"))
    unmet = iter(result.get("missing") or ())
    below.extend(
        _requirement(report, where, None if report["met"] else next(unmet, None), strokes)
        for report in result.get("requirements") or ()
    )
    if result.get("exception"):
        below.append(Branch(f"exception {_text(result, 'exception')} allows it for now"))
    return Branch(f"rule {_text(result, 'rule')}", below, where)


def _requirement(
    report: Mapping[str, Any], rule_where: str, unmet: Mapping[str, Any] | None, strokes: Strokes
) -> Branch:
    mark = strokes.yes if report["met"] else strokes.no
    stage = f"stage {_text(report, 'stage')}: " if report.get("stage") else ""
    text = f"{mark} {stage}{_text(report, 'text')}: {report['have']} of {report['needed']}"
    below = []
    for each in report["signers"]:
        why = f": {_text(each, 'why')}" if each.get("why") else ""
        below.append(Branch(f"{strokes.yes if each['counts'] else strokes.no} {_text(each, 'signer')}{why}"))
    if unmet is not None:
        below.append(Branch(f"could still sign: {_names(unmet['could_sign'])}"))
    return Branch(text, below, _place(report.get("where"), rule_where))


def _place(where: object, rule_where: str) -> str:
    """Where a requirement is written: the line alone, in the file of its rule."""
    if not where:
        return ""
    file, _, line = printable(str(where)).rpartition(":")
    return f"(line {line})" if file == rule_where.rpartition(":")[0] else f"({file}:{line})"


def _signature(report: Mapping[str, Any], strokes: Strokes) -> Branch:
    mark = strokes.yes if report["counts"] else strokes.no
    key = report.get("key")
    by = f" by {_text(report, 'signer')}" if report.get("signer") else ""
    if key is not None and report.get("signer") in {key["id"], key["primary"]}:
        by = ""  # the policy names no such signer: the key is shown below
    text = f"{mark} signature {report['id']} ({_text(report, 'format')}){by}: {_text(report, 'why')}"
    return Branch(text, [] if key is None else _key(key))


def _key(key: Mapping[str, Any]) -> list[Branch]:
    """The key that made a signature: what it is called, its times, and for an admin where it comes from."""
    what = "certificate" if key["kind"] == "certificate" else "key"
    times = [f"signed {_time(key['signed'])}"] if key["signed"] else []
    if key["signature_expires"]:
        times.append(f"signature expires {_time(key['signature_expires'])}")
    times.append(f"good until {_text(key, 'ends')[:10]}" if key["ends"] else "does not expire")
    lines = [Branch(f"{what} {_text(key, 'short')}: {', '.join(times)}", note=_text(key, "id"))]
    if key["primary"] and key["primary"] != key["id"]:
        lines.append(Branch("a subkey of", note=_text(key, "primary")))
    labels = {"subject": "", "revocation": "revocation: ", "user_id": "user ID: ", "source": "read from "}
    lines += [Branch(f"{label}{_text(key, name)}") for name, label in labels.items() if key.get(name)]
    lines += [Branch(f"listed at {printable(str(where))}") for where in key.get("declared") or ()]
    return lines


def _time(time: object) -> str:
    """A time of the daemon's, to the minute."""
    text = printable(str(time))
    return f"{text[:10]} {text[11:16]}Z" if text.endswith("Z") and text[10:11] == "T" else text


def _names(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name in names) or "no signer"


def _image(image: str, result: Mapping[str, Any]) -> Branch:
    below = []
    if result.get("signers"):
        below.append(Branch(f"approved by: {_names(result['signers'])}"))
    if result.get("path") and result["path"] != image:
        below.append(Branch("found at", note=_text(result, "path")))
    if result.get("assurance"):
        below.append(Branch(f"assurance: {_text(result, 'assurance')}", _assurance(result)))
    if result.get("policy"):
        generation = result.get("generation")
        what = "policy" if generation is None else f"policy generation {generation}"
        below.append(Branch(what, note=_text(result, "policy")))
    return Branch(f"image: {_kind(result.get('kind'))}", below)


def _assurance(result: Mapping[str, Any]) -> list[Branch]:
    """What keeps it from a trusted path, and whether anyone could be writing the file."""
    lacks, writers = result.get("assurance_lacks"), result.get("writers")
    below = [] if not lacks else [Branch(f"because {printable(str(lacks))}")]
    if not lacks and writers == "not known" and result.get("kind") != "sandbox":
        below.append(Branch("whether it is open for writing is not known: its file system gives no leases"))
    return below


def _kind(kind: object) -> str:
    if not kind:
        return "not examined"
    if kind == "other":
        return "of no known format (kind other)"
    return printable(str(kind))
