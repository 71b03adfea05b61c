r"""The one place for escaping, plurals, durations and bounded numbers.

Cheap to import: `eclctl check` starts a process for each question.

Names, user IDs and paths come from the author of an image or of a request. None of them may move a cursor, reorder a
line, forge a second line or hide. An escape is `\xNN` for a character below U+0080 and for a byte that is not UTF-8
(a surrogate escape of Python, always `\x80` or above), else `\uNNNN` or `\UNNNNNNNN`: two different texts never look
the same.
"""

from __future__ import annotations

import os

_SURROGATE_ESCAPE = 0xDC00
_NOT_UTF_8 = range(0xDC80, 0xDD00)  # what os.fsdecode makes of a byte that is not UTF-8
_NOT_ASCII = 0x80
_BASIC_PLANE = 0xFFFF
_MOST_QUOTED = 80
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST_DURATION = 999_999_999


def printable(text: str) -> str:
    """Return one value, such as a name or a path, with each character escaped that is not plainly visible.

    A backslash doubles, so that the result is unambiguous.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join("\\\\" if each == "\\" else each if each.isprintable() else _escaped(each) for each in text)


def printable_message(text: str) -> str:
    """Return a whole message with each character escaped that is not plainly visible.

    Backslashes stay: the values inside the message are escaped already.
    """
    return text if text.isprintable() else "".join(each if each.isprintable() else _escaped(each) for each in text)


def printable_ascii(text: str) -> str:
    """Return `text` in printable ASCII, for log lines and URLs. A backslash doubles."""
    if text.isascii():
        return printable(text)
    return "".join(printable(each) if each.isascii() else _escaped(each) for each in text)


def quoted(text: str) -> str:
    """Return a value in single quotes, printable, and cut after 80 characters."""
    return "'" + printable(text if len(text) <= _MOST_QUOTED else text[:_MOST_QUOTED] + "...") + "'"


def json_text(text: str) -> str:
    r"""Return a path as text that is valid UTF-8, for JSON: other bytes become `\xNN`, all else stays."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _escaped(character: str) -> str:
    point = ord(character)
    if point in _NOT_UTF_8:
        return f"\\x{point - _SURROGATE_ESCAPE:02x}"
    if point < _NOT_ASCII:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= _BASIC_PLANE else f"\\U{point:08x}"


def counted(number: int, noun: str, several: str | None = None) -> str:
    """Return a number with its noun: `1 image`, `2 images`. `several` is the plural that is not noun and s."""
    return f"{number} {noun if number == 1 else several or noun + 's'}"


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration such as `30s`, `15m`, `12h`, `365d` or `2w`; None when it is not one."""
    digits, unit = text[:-1], text[-1:]
    if unit not in _UNITS or bounded_integer(digits, 0, _LONGEST_DURATION) is None:
        return None
    return float(int(digits) * _UNITS[unit])


def duration_as_written(seconds: float) -> str:
    """Return a duration as policies write it, in whole hours, minutes or seconds: `72h`, `90m`, `45s`."""
    whole = int(seconds)
    for unit in ("h", "m"):
        if whole >= _UNITS[unit] and whole % _UNITS[unit] == 0:
            return f"{whole // _UNITS[unit]}{unit}"
    return f"{whole}s"


def duration_in_words(seconds: float) -> str:
    """Return a duration in its two largest units, for people: `2 d 3 h`, `3 h 20 min`, `5 min`, `12 s`."""
    minutes = int(seconds) // 60
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds:.0f} s"


def bounded_seconds(text: str, highest: float = 86400.0) -> float | None:
    """Return the seconds that a decimal number says; None unless it is above 0 and at most `highest`."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 < seconds <= highest else None  # false for nan, too


def bounded_integer(text: str, low: int, high: int) -> int | None:
    """Return the decimal integer that `text` says, from `low` to `high`; None when it is anything else.

    Digits are ASCII. More digits than the bounds have, leading zeros apart, are refused before Python converts them.
    """
    digits = text[1:] if low < 0 and text.startswith("-") else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    if len(digits.lstrip("0")) > max(len(str(abs(low))), len(str(abs(high)))):
        return None
    number = int(digits.lstrip("0") or "0")
    number = -number if digits is not text else number
    return number if low <= number <= high else None
