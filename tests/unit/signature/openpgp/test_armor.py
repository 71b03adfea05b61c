"""ASCII armor has one reading or none."""

from __future__ import annotations

import base64

import pytest

from eclctl.signature.openpgp.armor import decode_body, split_blocks
from eclctl.signature.openpgp.errors import PacketError
from tests.helpers.pgp import armor

DATA = bytes(range(100))
BASE64 = base64.b64encode(DATA)


def test_body_without_checksum_decodes():
    assert decode_body([b"", BASE64[:64], BASE64[64:]]) == DATA


@pytest.mark.parametrize("checksum", [b"=Ic8C", b"=AAAA"])
def test_a_checksum_is_not_computed(checksum):
    """RFC 9580 section 6.1: a block is not to be refused for its CRC24."""
    assert decode_body([b"", BASE64[:64], BASE64[64:], checksum]) == DATA


@pytest.mark.parametrize("footer", [b"=", b"=AAA", b"=AAAAA", b"=AA=A", b"=AAAA "])
def test_a_checksum_has_its_form(footer):
    with pytest.raises(PacketError):
        decode_body([b"", BASE64[:64], BASE64[64:], footer])


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
        [b"", b"=AAAA"],
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
