"""Trees of text for a terminal: what hangs below what, in 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eclctl.cli.terminal.output import wrapped
from eclctl.dataclass import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 80
_NARROWEST = 24


@dataclass(frozen=True, slots=True)
class Branch:
    """One line of a tree, and what hangs below it.

    `note` ends the line, or has the next one to itself where it does not fit. The texts must be safe to show.
    """

    text: str
    below: list[Branch] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Strokes:
    """What a tree is drawn with."""

    fork: str
    last: str
    down: str
    yes: str
    no: str


BOXES = Strokes("├─ ", "└─ ", "│  ", "✓", "✗")
PLAIN = Strokes("|- ", "`- ", "|  ", "+", "-")


def strokes_for(encoding: str | None) -> Strokes:
    """Return what an output of this encoding can show."""
    return BOXES if "utf" in (encoding or "").lower() else PLAIN


def draw_tree(root: Branch, strokes: Strokes) -> Iterator[str]:
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
    width = max(_NARROWEST, WIDTH - max(len(first), len(later)))
    lines = wrapped(branch.text, width=width) or [""]
    if branch.note and len(lines[-1]) + 1 + len(branch.note) <= width:
        lines[-1] += f" {branch.note}"
    elif branch.note:
        lines.append(branch.note)
    return [first + lines[0], *(later + line for line in lines[1:])]
