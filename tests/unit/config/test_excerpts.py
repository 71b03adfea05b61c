"""The line of a problem as it is shown: within the width, safe, and with the caret below its column."""

from __future__ import annotations

import unicodedata
from random import Random

import pytest

from eclctl.config.document import Problem
from eclctl.config.excerpts import excerpt, problem_lines


def lines(source: str, column: int, width: int = 80) -> tuple[str, ...]:
    return excerpt(Problem("a.yaml", 3, column, "wrong", source=source), width)


@pytest.mark.parametrize(
    ("source", "column", "under"),
    [
        ("name: it", 7, "it"),
        ("name: it", 1, "name"),
        ("name:", 6, ""),
        ("\tname: it", 8, "it"),
        ("a\x1b[31mb: it", 10, "it"),
        ("名前: it", 5, "it"),
        ("e\u0301: it", 5, "it"),
        ("x" * 300 + "here" + "y" * 300, 301, "here"),
        ("here" + "y" * 300, 1, "here"),
        ("x" * 300 + "here", 301, "here"),
    ],
)
def test_the_caret_is_below_what_is_meant(source: str, column: int, under: str) -> None:
    line, caret = lines(source, column)
    at = caret.index("^")
    seen = 0
    for place, character in enumerate(line):
        if seen == at and not unicodedata.combining(character):
            assert line[place:].startswith(under)
            return
        seen += 0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
    assert not under


def test_no_line_is_wider_than_the_terminal_or_moves_it() -> None:
    random = Random(1)
    for _ in range(3000):
        source = "".join(random.choices("ab \t\x1b\u202e名\u0301\xa0", k=random.randint(0, 200)))
        width = random.randint(40, 120)
        for line in lines(source, random.randint(1, len(source) + 1), width):
            assert line.isprintable()
            assert sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) <= width + line.count(
                "\u0301"
            )


def test_a_line_of_a_million_characters_is_cut_quickly() -> None:
    line, _ = lines("\u0301" * 1_000_000, 500_000)
    assert len(line) < 200


def test_what_is_about_no_line_shows_none() -> None:
    assert excerpt(Problem("a.yaml", 0, 0, "empty")) == ()
    assert problem_lines("error", Problem("a.yaml", 0, 0, "empty", "write one")) == [
        "error: a.yaml: empty",
        "       = write one",
    ]
