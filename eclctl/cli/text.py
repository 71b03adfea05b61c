"""Text that is safe to show on a terminal or to put on one line of output."""

from __future__ import annotations

import unicodedata

__all__ = ["printable"]

# Control, format (bidirectional overrides, zero-width), surrogate, private-use, unassigned, line and paragraph
# separators: whatever can move the cursor, reorder a line or show as nothing.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


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
    if 0xDC80 <= point <= 0xDCFF:  # os.fsdecode of a byte that is not UTF-8
        return f"\\x{point - 0xDC00:02x}"
    if point <= 0xFF:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
