"""What files say reaches a terminal as visible characters alone."""

from __future__ import annotations

import os

import pytest

from eclctl.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.sif", "plain.sif"),
        ("größe ✓", "größe ✓"),
        ("a b", "a b"),
        ("a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028\u200b\ufeff", r"\u2028\u200b\ufeff"),
        ("\u00a0", r"\xa0"),
        ("\U000e0041", r"\U000e0041"),
        ("back\\x41slash", r"back\\x41slash"),
        (os.fsdecode(b"\xff.sif"), r"\xff.sif"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_shows(text, shown):
    assert printable(text) == shown


def test_everything_shown_is_printable():
    assert all(printable(chr(point)).isprintable() for point in range(0x30000))
