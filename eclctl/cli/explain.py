"""`eclctl explain`: why an image may run or not, as a tree."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eclctl.cli.check import ALLOW, DENY, NO_DECISION, seconds, status_of, unreadable
from eclctl.cli.text import printable
from eclctl.client import CHECK_SOCKET, TIMEOUT, Client, NoAnswerError, Question, open_image, wire_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_WIDTH = 80
_NARROWEST = 24

_EXAMPLES = """exit status: as of `eclctl check` (0 allow, 1 deny, 2 usage, 3 no decision)

examples:
  eclctl explain /srv/containers/prod/solver.sif
  eclctl explain --json solver.sif | jq .requirements
"""


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of the tree, and what hangs below it."""

    text: str
    below: list[Branch] = field(default_factory=list)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="eclctl explain",
        description="Shows which rule decides on an image, each requirement, who signed, who did not and why, and who "
        "could still sign. The image is opened here, as you, and sent to the daemon.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--role", default="rootfs", help="what the image is for: rootfs, overlay, data")
    parser.add_argument("--socket", metavar="PATH", default=CHECK_SOCKET, help="the daemon's socket")
    parser.add_argument("--timeout", metavar="SECS", type=seconds, default=TIMEOUT, help="how long to wait")
    return parser


def explain(image: str, role: str, path: str, timeout: float) -> dict[str, Any] | NoAnswerError:
    """Ask the daemon to explain; an image that cannot be opened is a deny without asking."""
    try:
        name, descriptor = wire_path(image), open_image(image)
    except (OSError, ValueError) as error:
        return unreadable(error)
    try:
        with Client(path, timeout) as client:
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
    root = Branch(f"{verdict} {printable(image)}", [Branch(f"{_text(result, 'reason')} ({_text(result, 'code')})")])
    if result.get("message"):
        root.below.append(Branch(_text(result, "message")))
    root.below.append(_rule(result, strokes))
    if missing := result.get("missing"):
        root.below.append(Branch("still needed", [_missing(unmet) for unmet in missing]))
    root.below.append(_image(image, result))
    return root


def _text(result: Mapping[str, Any], name: str) -> str:
    return printable(str(result.get(name)))


def _rule(result: Mapping[str, Any], strokes: Strokes) -> Branch:
    if not result.get("rule"):
        return Branch("no rule decided")
    text = f"rule {_text(result, 'rule')}"
    if result.get("rule_where"):
        text += f", {_text(result, 'rule_where')}"
    if result.get("mode") == "permissive":
        text += f", permissive (would be: {_text(result, 'would') if result.get('would') else 'the same'})"
    return Branch(text, [_requirement(each, strokes) for each in result.get("requirements") or ()])


def _requirement(report: Mapping[str, Any], strokes: Strokes) -> Branch:
    mark = strokes.yes if report["met"] else strokes.no
    where = f" ({_text(report, 'where')})" if report.get("where") else ""
    text = f"{mark} {_text(report, 'text')}{where}: {report['have']} of {report['needed']}"
    return Branch(text, [_signer(each, strokes) for each in report["signers"]])


def _signer(report: Mapping[str, Any], strokes: Strokes) -> Branch:
    mark = strokes.yes if report["counts"] else strokes.no
    why = f": {_text(report, 'why')}" if report.get("why") else ""
    return Branch(f"{mark} {_text(report, 'signer')}{why}")


def _missing(unmet: Mapping[str, Any]) -> Branch:
    could = _names(unmet["could_sign"])
    return Branch(
        f"{_text(unmet, 'requirement')}: {unmet['have']} of {unmet['needed']}",
        [Branch(f"signed: {_names(unmet['signed'])}"), Branch(f"could still sign: {could}")],
    )


def _names(names: Sequence[str]) -> str:
    return ", ".join(printable(name) for name in names) or "nobody"


def _image(image: str, result: Mapping[str, Any]) -> Branch:
    below = [Branch(f"signed by: {_names(result.get('signers') or ())}")]
    if result.get("path") and result["path"] != image:
        below.append(Branch(f"found at {_text(result, 'path')}"))
    if result.get("assurance"):
        below.append(Branch(f"assurance: {_text(result, 'assurance')}"))
    if result.get("policy"):
        below.append(Branch(f"policy generation {result.get('generation')}, {_text(result, 'policy')}"))
    return Branch(f"image: {_text(result, 'kind') if result.get('kind') else 'kind unknown'}", below)


def draw(root: Branch, strokes: Strokes) -> Iterator[str]:
    """Draw a tree, each line at most 80 columns wide where words allow."""
    yield from _wrapped(root.text, "", "")
    yield from _below(root, "", strokes)


def _below(branch: Branch, indent: str, strokes: Strokes) -> Iterator[str]:
    for child in branch.below:
        last = child is branch.below[-1]
        further = indent + (" " * len(strokes.down) if last else strokes.down)
        hang = further + (strokes.down if child.below else "  ")
        yield from _wrapped(child.text, indent + (strokes.last if last else strokes.fork), hang)
        yield from _below(child, further, strokes)


def _wrapped(text: str, first: str, later: str) -> list[str]:
    width = max(_NARROWEST, _WIDTH - max(len(first), len(later)))
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]
    return [first + lines[0], *(later + line for line in lines[1:])]
