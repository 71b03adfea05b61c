"""A reader of DER (X.690) for what the certificate library does not show: where elements begin and end, and their tags.

It reads what the library has already accepted, and refuses what is not definite, minimal or whole all the same.
"""

from __future__ import annotations

from typing import NamedTuple

BOOLEAN = 0x01
SEQUENCE = 0x30

_LONG = 0x80
_HIGH_TAG = 0x1F
_MAX_LENGTH_OCTETS = 4


class Element(NamedTuple):
    """An element: its identifier octet (class, constructed bit and tag number) and its contents."""

    tag: int
    contents: bytes


def elements(data: bytes) -> list[Element]:
    """Return the elements that `data` consists of.

    Raises:
        ValueError: It is no sequence of whole elements with definite lengths and low tag numbers.
    """
    found = []
    while data:
        element, data = _first(data)
        found.append(element)
    return found


def one(data: bytes, tag: int) -> bytes:
    """Return the contents of the only element in `data`.

    Raises:
        ValueError: There is not exactly one, or its tag is another.
    """
    found = elements(data)
    if len(found) != 1 or found[0].tag != tag:
        raise ValueError(f"one element with tag {tag:#x} expected")
    return found[0].contents


def _first(data: bytes) -> tuple[Element, bytes]:
    if len(data) < 2 or data[0] & _HIGH_TAG == _HIGH_TAG:  # noqa: PLR2004 (tag and length)
        raise ValueError("no element of DER")
    start, length = 2, data[1]
    if length & _LONG:
        start += length & ~_LONG
        octets = data[2:start]
        length = int.from_bytes(octets, "big")
        if not 0 < len(octets) <= _MAX_LENGTH_OCTETS or start > len(data) or not octets[0] or length < _LONG:
            raise ValueError("a length that is not DER")
    if start + length > len(data):
        raise ValueError("an element is cut short")
    return Element(data[0], data[start : start + length]), data[start + length :]
