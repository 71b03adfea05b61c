"""Shows the line that a problem is about with a caret below it, escaped, and as wide as the terminal at most."""

from __future__ import annotations

import unicodedata

from eclctl.config.document import Problem
from eclctl.text import printable_message

WIDTH = 80
"""Columns of a terminal that a problem is written for."""

_CUT = "..."
_WIDE = frozenset("WF")
_NARROWEST = 20


def problem_lines(sort: str, problem: Problem, width: int = WIDTH) -> list[str]:
    """Return a problem as people see it: the sentence, the line that it is about, and what to do.

    Args:
        sort: `error`, `warning` or `note`.
        problem: from the loader.
        width: columns of the terminal; the sentence itself is never broken.
    """
    lines = [f"{sort}: {problem.sentence}", *excerpt(problem, width)]
    return lines if problem.hint is None else [*lines, f"       = {printable_message(problem.hint)}"]


def excerpt(problem: Problem, width: int = WIDTH) -> tuple[str, ...]:
    """Return the line with its number and a line with a caret below the column; nothing when no line is meant.

    Args:
        problem: from the loader, with the line that it read.
        width: columns of the terminal. Of a longer line, the part around the column is shown.
    """
    if problem.source is None or not problem.line:
        return ()
    number = f"{problem.line:>6} | "
    shown, caret = _window(problem.source, problem.column - 1, max(width - len(number), _NARROWEST))
    return (number + shown).rstrip(), " " * (len(number) - 2) + "| " + " " * caret + "^"


def _window(line: str, at: int, room: int) -> tuple[str, int]:
    """Return the part of a line around the character `at` that fits into `room` columns, and that one's column."""
    at = min(max(at, 0), len(line))
    start, end = _reach(line, at, room)
    before, after = _CUT if start else "", _CUT if end < len(line) else ""
    caret = len(before) + _columns(line[start:at])
    return before + printable_message(line[start:end]) + after, caret


def _reach(line: str, at: int, room: int) -> tuple[int, int]:
    """Return the slice of a line to show: all of it when it fits, else what is around `at`, most of it before."""
    if len(line) <= room and _columns(line) <= room:
        return 0, len(line)
    left = room - 2 * len(_CUT)
    start = end = at
    before = left * 2 // 3
    while start and at - start < before and _columns(line[start - 1 : at]) <= before:
        start -= 1
    while end < len(line) and end - start < left and _columns(line[start : end + 1]) <= left:
        end += 1
    while start and end - start < left and _columns(line[start - 1 : end]) <= left:
        start -= 1
    return start, end


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes when it is shown."""
    return sum(_column(character) for character in text)


def _column(character: str) -> int:
    shown = printable_message(character)  # escaped when it could move the cursor, or shows as nothing
    if len(shown) > 1:
        return len(shown)
    if unicodedata.combining(shown):
        return 0
    return 2 if unicodedata.east_asian_width(shown) in _WIDE else 1
