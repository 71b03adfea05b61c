"""Escaping, plurals, durations and bounded numbers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from eclctl.text import (
    bounded_integer,
    bounded_seconds,
    counted,
    duration_as_written,
    duration_in_words,
    json_text,
    parse_duration,
    printable,
    printable_ascii,
    printable_message,
    quoted,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain.sif", "plain.sif"),
        ("größe ✓", "größe ✓"),
        ("a b", "a b"),
        ("a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\u009b31m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028\u200b\ufeff", r"\u2028\u200b\ufeff"),
        ("\u00a0", r"\u00a0"),
        ("\U000e0041", r"\U000e0041"),
        ("back\\x41slash", r"back\\x41slash"),
        (os.fsdecode(b"\xff.sif"), r"\xff.sif"),
        (os.fsdecode(b"\x9b31m"), r"\x9b31m"),
        ("\ud800", r"\ud800"),
        ("", ""),
    ],
)
def test_shows(text, shown):
    assert printable(text) == shown


def test_everything_shown_is_printable():
    for show in (printable, printable_message, printable_ascii):
        assert all(show(chr(point)).isprintable() for point in range(0x30000))


@pytest.mark.parametrize("show", [printable, printable_ascii])
def test_no_two_texts_look_the_same(show):
    shown = [show(chr(point)) for point in range(0x30000)]
    assert len(set(shown)) == len(shown)


def test_a_message_keeps_what_is_escaped_in_it():
    message = "there is no " + quoted("a\x1b\\b")
    assert message == r"there is no 'a\x1b\\b'"
    assert printable_message(message) == message
    assert printable_message("a\nb") == r"a\x0ab"


def test_a_log_line_is_ascii():
    assert printable_ascii("größe \U0001f600 \\ \n") == r"gr\u00f6\u00dfe \U0001f600 \\ \x0a"
    assert printable_ascii(os.fsdecode(b"\xf6")) == r"\xf6"
    assert all(printable_ascii(chr(point)).isascii() for point in range(0x30000))


def test_a_long_value_is_cut():
    assert quoted("x" * 80) == "'" + "x" * 80 + "'"
    assert quoted("x" * 81) == "'" + "x" * 80 + "...'"


def test_a_path_for_json_is_utf_8():
    assert json_text(os.fsdecode(b"\xff\xc3\xb6\n")) == "\\xff\u00f6\n"


def test_counts():
    assert [counted(number, "image") for number in (0, 1, 2)] == ["0 images", "1 image", "2 images"]
    assert counted(2, "directory", "directories") == "2 directories"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("15m", 900), ("12h", 43200), ("365d", 31536000), ("2w", 1209600), ("0s", 0)]
    + [
        (text, None) for text in ("", "s", "30", "1.5h", "-1h", "+1h", " 1h", "1h ", "1y", "1H", "٣h", "9" * 5000 + "s")
    ],
)
def test_parses_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (259200, "72h"),
        (5400, "90m"),
        (3600, "1h"),
        (45, "45s"),
        (90.0, "90s"),
        (7200, "2h"),
        (3601, "3601s"),
        (0, "0s"),
    ],
)
def test_writes_durations_as_policies_do(seconds, text):
    assert duration_as_written(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (300, "5 min"), (12000, "3 h 20 min"), (183600, "2 d 3 h"), (0.0, "0 s")]
)
def test_says_durations_in_two_units(seconds, text):
    assert duration_in_words(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1.5", 1.5), ("86400", 86400.0)] + [(text, None) for text in ("0", "-1", "86401", "nan", "inf", "ten", "")],
)
def test_bounds_seconds(text, seconds):
    assert bounded_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "low", "high", "number"),
    [
        ("7", 1, 9, 7),
        ("007", 1, 9, 7),
        ("0", 0, 9, 0),
        ("0", 1, 9, None),
        ("10", 1, 9, None),
        ("-3", -5, 5, -3),
        ("-3", 0, 5, None),
        ("+3", 0, 5, None),
        (" 3", 0, 5, None),
        ("3.0", 0, 5, None),
        ("٣", 0, 5, None),
        ("²", 0, 5, None),
        ("", 0, 5, None),
        ("9" * 5000, 0, 5, None),
        (str(2**63 - 1), 1, 2**63 - 1, 2**63 - 1),
        (str(2**63), 1, 2**63 - 1, None),
    ],
)
def test_bounds_integers(text, low, high, number):
    assert bounded_integer(text, low, high) == number


def test_costs_next_to_nothing_to_import():
    code = "import sys; before = set(sys.modules); import eclctl.text; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["__future__", "eclctl", "eclctl.text"]
