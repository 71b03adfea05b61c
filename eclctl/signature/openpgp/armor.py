"""ASCII armor, RFC 9580 section 6.2, read strictly: what it holds has one reading or none.

A CRC24 footer may be missing (Singularity writes none). One that is there must have its form, and is not computed: RFC
9580 section 6.1 forbids to refuse a block for it, and it protects against nothing that the signature does not.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

from .errors import PacketError

_MAX_LINE: Final = 96
_SIGNATURE_HEADER: Final = re.compile(rb"(?:Version|Comment): ?[\x20-\x7e]*")
_KEY_HEADER: Final = re.compile(rb"[A-Za-z-]+:.*")
_FOOTER: Final = re.compile(rb"=[A-Za-z0-9+/]{4}")
_BLOCK: Final = re.compile(rb"^-----BEGIN PGP ([A-Z ]+)-----[ \t]*$", re.MULTILINE)


def decode_body(lines: list[bytes], header: re.Pattern[bytes] = _SIGNATURE_HEADER) -> bytes:
    """Return the bytes that armor holds.

    Args:
        lines: What stands between the BEGIN and the END line, without line endings: headers, an empty line, base64,
            and perhaps a CRC24 footer.
        header: What a header line may be. In a signature, unsigned words that a reader could take for part of the
            message are limited to what GnuPG wrote.

    Raises:
        PacketError: Anything else stands there.
    """
    try:
        blank = lines.index(b"")
    except ValueError:
        raise PacketError("armor without an empty line after its headers") from None
    if not all(header.fullmatch(line) for line in lines[:blank]):
        raise PacketError("an unknown armor header")
    body = lines[blank + 1 :]
    footer = _FOOTER.fullmatch(body[-1]) if body else None
    return _decode_base64(body[:-1] if footer else body)


def _decode_base64(lines: list[bytes]) -> bytes:
    if not lines or any(not line or len(line) > _MAX_LINE for line in lines):
        raise PacketError("armor without base64, or with an empty or overlong line")
    try:
        return binascii.a2b_base64(b"".join(lines), strict_mode=True)
    except binascii.Error:
        raise PacketError("armor that is not base64") from None


def split_blocks(data: bytes) -> list[tuple[str, bytes]]:
    """Return the kind and content of every armored block in a file, in order.

    Text between blocks is allowed: key files often carry remarks. White space at the ends of lines is too.

    Args:
        data: A file of any number of blocks.

    Raises:
        PacketError: A block has no END line, or its body is malformed.
    """
    blocks = []
    position = 0
    data = data.replace(b"\r\n", b"\n")
    while begin := _BLOCK.search(data, position):
        kind = begin[1]
        end = re.compile(rb"^-----END PGP " + kind + rb"-----[ \t]*$", re.MULTILINE).search(data, begin.end())
        if end is None:
            raise PacketError("an armored block has no end")
        lines = [line.rstrip(b" \t") for line in data[begin.end() + 1 : end.start()].split(b"\n")[:-1]]
        while lines and not lines[-1]:
            lines.pop()
        blocks.append((kind.decode("ascii"), decode_body(lines, _KEY_HEADER)))
        position = end.end()
    return blocks
