"""`eclctl explain`: why an image may run or not, as a tree."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eclctl.cli.check import ALLOW, DENY, NO_DECISION, status_of, unreadable
from eclctl.cli.options import Parser, timeout
from eclctl.cli.text import printable
from eclctl.client import CHECK_SOCKET, TIMEOUT, Client, NoAnswerError, Question, open_image, wire_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WIDTH = 80
_NARROWEST = 24

_EXAMPLES = """exit status, as of `eclctl check`:
  0  the image may run
  1  it may not
  2  the command line is wrong
  3  there is no decision

examples:
  eclctl explain /srv/containers/prod/solver.sif
  eclctl explain --json solver.sif | jq '.missing[].could_sign'
"""


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of the tree, and what hangs below it.

    `note` ends the line, or has the next one to itself where it does not fit.
    """

    text: str
    below: list[Branch] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Strokes:
    """What the tree is drawn with."""

    fork: str
    last: str
    down: str
    yes: str
    no: str


BOXES = Strokes("├─ ", "└─ ", "│  ", "✓", "✗")
PLAIN = Strokes("|- ", "`- ", "|  ", "+", "-")


def run(argv: list[str]) -> int:
    """Run `eclctl explain`; return its exit status."""
    options = _parser().parse_args(argv)
    outcome = explain(options.image, options.role, options.socket, options.timeout)
    if options.json:
        print(json.dumps({"v": 1, "image": options.image} | _fields(outcome)).replace("\x7f", "\\u007f"))
    elif isinstance(outcome, NoAnswerError):
        print(f"eclctl explain: no decision: {printable(str(outcome))}", file=sys.stderr)
    else:
        strokes = BOXES if "utf" in (sys.stdout.encoding or "").lower() else PLAIN
        print("\n".join(draw(tree(options.image, outcome, strokes), strokes)))
    return {ALLOW: ALLOW, DENY: DENY}.get(status_of(outcome), NO_DECISION)


def _parser() -> Parser:
    text = (
        "Shows which rule decides on an image, each requirement, who signed, who did not\n"
        "and why, and who could still sign. The image is opened here, as you, and sent to\n"
        "the daemon."
    )
    parser = Parser("eclctl explain", text, _EXAMPLES)
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--role", default="rootfs", help="what it is for: rootfs, overlay, data")
    parser.add_argument("--socket", metavar="PATH", default=CHECK_SOCKET, help=f"the daemon's socket ({CHECK_SOCKET})")
    parser.add_argument("--timeout", metavar="SECS", type=timeout, default=TIMEOUT, help="how long to wait (40)")
    return parser


def explain(image: str, role: str, path: str, patience: float) -> dict[str, Any] | NoAnswerError:
    """Ask the daemon to explain; an image that cannot be opened is a deny without asking."""
    try:
        name, descriptor = wire_path(image), open_image(image)
    except (OSError, ValueError) as error:
        return unreadable(error)
    try:
        with Client(path, patience) as client:
            return client.ask(Question("explain", {"image": name, "role": role, "fd": True}, (descriptor,)))
    except NoAnswerError as error:
        return error
    finally:
        os.close(descriptor)


def _fields(outcome: dict[str, Any] | NoAnswerError) -> dict[str, Any]:
    if isinstance(outcome, NoAnswerError):
        return {"error": {"code": outcome.code, "message": str(outcome)}}
    return {name: value for name, value in outcome.items() if name != "image"}


def tree(image: str, result: Mapping[str, Any], strokes: Strokes) -> Branch:
    """The tree of a result, its texts made safe for a terminal."""
    verdict = "ALLOW" if result.get("decision") == "allow" else "DENY"
    root = Branch(f"{verdict} {printable(image)}", [Branch(_text(result, "reason"))], f"({_text(result, 'code')})")
    if result.get("message"):
        root.below.append(Branch(f"message: {_text(result, 'message')}"))
    root.below.append(_rule(result, strokes))
    if ignored := _ignored(result):
        root.below.append(ignored)
    root.below.append(_image(image, result))
    return root


def _text(result: Mapping[str, Any], name: str) -> str:
    return printable(str(result.get(name)))


def _rule(result: Mapping[str, Any], strokes: Strokes) -> Branch:
    if not result.get("rule"):
        return Branch("no rule decided")
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
    return Branch(f"rule {_text(result, 'rule')}", below, where)


def _requirement(
    report: Mapping[str, Any], rule_where: str, unmet: Mapping[str, Any] | None, strokes: Strokes
) -> Branch:
    mark = strokes.yes if report["met"] else strokes.no
    text = f"{mark} {_text(report, 'text')}: {report['have']} of {report['needed']}"
    below = [_signer(each, strokes) for each in report["signers"]]
    if unmet is not None:
        below.append(Branch(f"could still sign: {_names(unmet['could_sign'])}"))
    return Branch(text, below, _place(report.get("where"), rule_where))


def _place(where: object, rule_where: str) -> str:
    """Where a requirement is written: the line alone, in the file of its rule."""
    if not where:
        return ""
    file, _, line = printable(str(where)).rpartition(":")
    return f"(line {line})" if file == rule_where.rpartition(":")[0] else f"({file}:{line})"


def _signer(report: Mapping[str, Any], strokes: Strokes) -> Branch:
    mark = strokes.yes if report["counts"] else strokes.no
    why = f": {_text(report, 'why')}" if report.get("why") else ""
    return Branch(f"{mark} {_text(report, 'signer')}{why}")


def _ignored(result: Mapping[str, Any]) -> Branch | None:
    """The signatures that count for nothing: by keys that nobody knows, broken, expired, and so on."""
    found = [each for each in result.get("signatures") or () if not each["counts"]]
    if not found:
        return None
    below = []
    for each in found:
        by = f" by {_text(each, 'signer')}" if each.get("signer") else ""
        below.append(Branch(f"signature {each['id']} ({_text(each, 'format')}){by}: {_text(each, 'why')}"))
    return Branch("signatures that count for nothing", below)


def _names(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name in names) or "nobody"


def _image(image: str, result: Mapping[str, Any]) -> Branch:
    below = []
    if result.get("signers"):
        below.append(Branch(f"approved by: {_names(result['signers'])}"))
    if result.get("path") and result["path"] != image:
        below.append(Branch("found at", note=_text(result, "path")))
    if result.get("assurance"):
        below.append(Branch(f"assurance: {_text(result, 'assurance')}"))
    if result.get("policy"):
        below.append(Branch(f"policy generation {result.get('generation')}", note=_text(result, "policy")))
    return Branch(f"image: {_kind(result.get('kind'))}", below)


def _kind(kind: object) -> str:
    if not kind:
        return "not examined"
    if kind == "other":
        return "of no known format (kind other)"
    return printable(str(kind))


def draw(root: Branch, strokes: Strokes) -> Iterator[str]:
    """Draw a tree, each line at most 80 columns wide where words allow."""
    yield from _lines(root, "", "")
    yield from _below(root, "", strokes)


def _below(branch: Branch, indent: str, strokes: Strokes) -> Iterator[str]:
    for child in branch.below:
        last = child is branch.below[-1]
        further = indent + (" " * len(strokes.down) if last else strokes.down)
        hang = further + (strokes.down if child.below else "  ")
        yield from _lines(child, indent + (strokes.last if last else strokes.fork), hang)
        yield from _below(child, further, strokes)


def _lines(branch: Branch, first: str, later: str) -> list[str]:
    width = max(_NARROWEST, _WIDTH - max(len(first), len(later)))
    lines = textwrap.wrap(branch.text, width, break_long_words=False, break_on_hyphens=False) or [""]
    if branch.note and len(lines[-1]) + 1 + len(branch.note) <= width:
        lines[-1] += f" {branch.note}"
    elif branch.note:
        lines.append(branch.note)
    return [first + lines[0], *(later + line for line in lines[1:])]
