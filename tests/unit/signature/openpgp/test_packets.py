"""Packet headers and numbers."""

from __future__ import annotations

import pytest

from eclctl.signature.openpgp.errors import PacketError
from eclctl.signature.openpgp.packets import read_mpis, read_packets, read_subpacket


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xc2\x03abc", [(2, b"abc")]),
        (b"\xc2\xc0\x00" + b"x" * 192, [(2, b"x" * 192)]),
        (b"\xc2\xff\x00\x00\x00\x01a", [(2, b"a")]),
        (b"\x88\x01a", [(2, b"a")]),
        (b"\x89\x00\x01a", [(2, b"a")]),
        (b"\x8a\x00\x00\x00\x01a", [(2, b"a")]),
        (b"\xc2\x00\xcd\x01u", [(2, b""), (13, b"u")]),
        (b"", []),
    ],
)
def test_every_definite_length_is_read(data, expected):
    assert list(read_packets(data)) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x01a",
        b"\xc2",
        b"\xc2\x02a",
        b"\xc2\xc0",
        b"\xc2\xff\x00\x00\x00",
        b"\xc2\xff\xff\xff\xff\xffa",
        b"\xc2\xe1ab",
        b"\x8b",
        b"\x8babc",
        b"\x89\x00",
        b"\x8a\xff\xff\xff\xff",
    ],
    ids=[
        "no tag bit",
        "cut",
        "short",
        "cut 2",
        "cut 5",
        "huge",
        "partial",
        "indeterminate",
        "same",
        "cut old",
        "huge old",
    ],
)
def test_malformed_partial_and_truncated_packets_are_refused(data):
    with pytest.raises(PacketError):
        list(read_packets(data))


def test_numbers_lose_leading_zeros():
    """Writers of real images set bit counts too large."""
    assert read_mpis(b"\x00\x09\x01\x02" + b"\x00\x10\x00\x07" + b"rest", 2) == ([b"\x01\x02", b"\x07"], b"rest")


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x08", b"\xff\xffab"])
def test_truncated_number_is_refused(data):
    with pytest.raises(PacketError):
        read_mpis(data, 1)


@pytest.mark.parametrize(
    "data", [b"\x00", b"\x05abc", b"\xc0", b"\xff\x00\x00", b"\xff\x00\x00\x00\x00", b"\xff\xff\xff\xff\xffa"]
)
def test_malformed_subpacket_is_refused(data):
    with pytest.raises(PacketError):
        read_subpacket(data, 0)


@pytest.mark.parametrize("data", [b"\x02\x90a", b"\xff\x00\x00\x00\x02\x90a"])
def test_subpacket_is_read_with_its_critical_bit(data):
    assert read_subpacket(data, 0) == (0x90, b"a", len(data))
