"""Text that is safe to show on a terminal or to put on one line of output."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

# Control, format (bidirectional overrides, zero-width), surrogate, private-use, unassigned, line and paragraph
# separators: whatever can move the cursor, reorder a line or show as nothing.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_SURROGATE_ESCAPE = 0xDC00
_NOT_UTF_8 = range(0xDC80, 0xDD00)  # what os.fsdecode makes of a byte that is not UTF-8
_BYTE = 0xFF
_BASIC_PLANE = 0xFFFF


def printable(text: str) -> str:
    r"""Return `text` with every character escaped that is not plainly visible.

    Names, user IDs and paths come from whoever wrote the image. Escapes are `\xNN`, `\uNNNN` or `\UNNNNNNNN`, a
    backslash doubles, so that the result is unambiguous; a byte that was no UTF-8 (a surrogate escape) shows as
    `\xNN`.
    """
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    point = ord(character)
    if character == "\\":
        return "\\\\"
    if character == " " or (unicodedata.category(character) not in _UNSAFE and character.isprintable()):
        return character
    if point in _NOT_UTF_8:
        point -= _SURROGATE_ESCAPE
    if point <= _BYTE:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= _BASIC_PLANE else f"\\U{point:08x}"
