"""The packet layer of OpenPGP: RFC 9580 sections 3.2 (numbers) and 4.2 (packet headers).

Everything here is a plain walk over bytes with a bound on each step. Partial and indeterminate body lengths are for
streamed data (section 4.2.1.4) and never occur in signatures and certificates: they are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .errors import PacketError

_MAX_PACKETS: Final = 500_000
_PARTIAL_LENGTHS: Final = 224
"""From here on the first octet of a packet's length announces a part; in a subpacket it may be the first of two."""


class Tag:
    """Packet type IDs, RFC 9580 section 5."""

    SIGNATURE: Final = 2
    SECRET_KEY: Final = 5
    PUBLIC_KEY: Final = 6
    SECRET_SUBKEY: Final = 7
    USER_ID: Final = 13
    PUBLIC_SUBKEY: Final = 14
    USER_ATTRIBUTE: Final = 17


def read_packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the packet type ID and body of each packet in `data`.

    Raises:
        PacketError: A header is malformed, a body is truncated, or there are too many packets.
    """
    position, size = 0, len(data)
    for _ in range(_MAX_PACKETS):
        if position == size:
            return
        first = data[position]
        if first < 0x80:  # noqa: PLR2004 - bit 7, which every header has
            raise PacketError("not a packet")
        if first & 0x40:
            tag = first & 0x3F
            length, start = _new_length(data, position + 1, _PARTIAL_LENGTHS)
        else:
            tag = (first >> 2) & 0x0F
            length, start = _legacy_length(data, position + 1, first & 3)
        position = start + length
        if position > size:
            raise PacketError("a packet is truncated")
        yield tag, data[start:position]
    raise PacketError(f"more than {_MAX_PACKETS} packets")


def _new_length(data: bytes, position: int, two_octets_below: int) -> tuple[int, int]:
    """Read an OpenPGP format length (sections 4.2.1 and 5.2.3.7); return it and the position behind it."""
    first = data[position] if position < len(data) else 255
    if first < 192:  # noqa: PLR2004 - the format's own bounds
        return first, position + 1
    if first < two_octets_below and position + 1 < len(data):
        return ((first - 192) << 8) + data[position + 1] + 192, position + 2
    if first == 255 and position + 5 <= len(data):  # noqa: PLR2004
        return int.from_bytes(data[position + 1 : position + 5]), position + 5
    raise PacketError("a packet length is malformed")


def _legacy_length(data: bytes, position: int, kind: int) -> tuple[int, int]:
    """Read a legacy format length (section 4.2.2); return it and the position behind it."""
    end = position + (1 << kind)
    if kind == 3 or end > len(data):  # noqa: PLR2004 - 3 is the indeterminate length
        raise PacketError("a packet length is malformed")
    return int.from_bytes(data[position:end]), end


def read_subpacket(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Read one signature subpacket (section 5.2.3.7).

    Returns:
        The type octet with its critical bit, the body, and the position behind it.

    Raises:
        PacketError: The subpacket is empty or truncated.
    """
    length, position = _new_length(data, position, 255)
    end = position + length
    if not length or end > len(data):
        raise PacketError("a signature subpacket is malformed")
    return data[position], data[position + 1 : end], end


def read_mpis(data: bytes, count: int) -> tuple[list[bytes], bytes]:
    """Read multiprecision integers (section 3.2) as big-endian bytes without leading zeros.

    The bit count only says how many octets follow: writers of real images set it too large, which changes no value.

    Returns:
        The numbers, and what follows them.

    Raises:
        PacketError: A number is truncated.
    """
    numbers = []
    for _ in range(count):
        end = 2 + (int.from_bytes(data[:2]) + 7) // 8
        if len(data) < end:
            raise PacketError("a number is truncated")
        numbers.append(data[2:end].lstrip(b"\0"))
        data = data[end:]
    return numbers, data
