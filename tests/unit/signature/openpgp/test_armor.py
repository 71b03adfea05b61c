"""ASCII armor has one reading or none."""

from __future__ import annotations

import base64
import binascii

import pytest

from eclctl.signature.openpgp.armor import decode_body, split_blocks
from eclctl.signature.openpgp.errors import PacketError
from tests.pgp import armor

DATA = bytes(range(100))
BASE64 = base64.b64encode(DATA)


def crc24(data):
    crc = 0xB704CE
    for octet in data:
        crc ^= octet << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return b"=" + base64.b64encode((crc & 0xFFFFFF).to_bytes(3))


def test_body_without_checksum_decodes():
    assert decode_body([b"", BASE64[:64], BASE64[64:]]) == DATA


def test_right_checksum_is_accepted():
    assert decode_body([b"", BASE64[:64], BASE64[64:], crc24(DATA)]) == DATA


def test_known_crc24():
    """The check value of CRC-24/OPENPGP."""
    assert decode_body([b"", binascii.b2a_base64(b"123456789", newline=False), b"=Ic8C"]) == b"123456789"


def test_wrong_checksum_is_refused():
    with pytest.raises(PacketError, match="CRC24"):
        decode_body([b"", BASE64[:64], BASE64[64:], b"=AAAA"])


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [BASE64[:64]],
        [b"", b""],
        [b"", BASE64[:64], b"", BASE64[64:]],
        [b"", BASE64[:64] + b" ", BASE64[64:]],
        [b"", BASE64[:64] + b"!", BASE64[64:]],
        [b"", BASE64.rstrip(b"=")],
        [b"", BASE64 + BASE64],
        [b"", b"AAAA=AAA"],
        [b"", b"A" * 100],
        [b"Comment x", b"", BASE64[:64], BASE64[64:]],
        [b"Hash: SHA256", b"", BASE64[:64], BASE64[64:]],
        [b"Comment: \x1b[2J", b"", BASE64[:64], BASE64[64:]],
        [b"", crc24(b"")],
    ],
)
def test_anything_else_is_refused(lines):
    with pytest.raises(PacketError):
        decode_body(lines)


@pytest.mark.parametrize("header", [b"Version: GnuPG v1", b"Comment: GPGTools - https://gpgtools.org"])
def test_headers_that_gnupg_wrote_are_accepted(header):
    assert decode_body([header, b"", BASE64[:64], BASE64[64:]]) == DATA


def test_every_block_of_a_key_file_is_found_with_remarks_between():
    file = b"Alice's key:\n" + armor("PUBLIC KEY BLOCK", DATA) + b"\nBob's:\r\n" + armor("PUBLIC KEY BLOCK", b"bob" * 9)
    assert split_blocks(file) == [("PUBLIC KEY BLOCK", DATA), ("PUBLIC KEY BLOCK", b"bob" * 9)]
    assert split_blocks(file.replace(b"\n", b"\r\n")) == split_blocks(file)


def test_block_without_end_is_refused():
    with pytest.raises(PacketError):
        split_blocks(armor("PUBLIC KEY BLOCK", DATA)[:-10])


def test_file_without_blocks_has_none():
    assert split_blocks(b"hello\n") == []
