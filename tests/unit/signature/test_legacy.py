"""A legacy text is its prefix and one digest, of the length that its descriptor's hash has."""

from __future__ import annotations

import pytest

from eclctl.model import Finding
from eclctl.signature import legacy
from eclctl.signature.metadata import Digest


@pytest.mark.parametrize(("hash_type", "name", "size"), [(1, "sha256", 32), (2, "sha384", 48), (3, "sha512", 64)])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_a_digest_of_the_descriptors_hash_is_read(hash_type, name, size, line):
    text = b"SIFHASH:" + line + b"ab" * size
    assert legacy.parse(text, hash_type) == Digest(name, b"\xab" * size)
    assert legacy.parse(text + line, hash_type) == Digest(name, b"\xab" * size)


@pytest.mark.parametrize("hash_type", [0, 4, 5, 6, -1])
def test_other_hashes_are_unsupported(hash_type):
    assert legacy.parse(b"SIFHASH:\n" + b"ab" * 32, hash_type) == legacy.UNSUPPORTED_HASH


@pytest.mark.parametrize("size", [20, 31, 33, 48])
def test_a_digest_of_another_length_is_malformed(size):
    assert legacy.parse(b"SIFHASH:\n" + b"ab" * size, 1) == Finding("bad-metadata", "digest malformed")


@pytest.mark.parametrize(
    "text",
    [b"", b"SIFHASH:\n", b"ab" * 32, b"SIFHASH:\n" + b"a" * 63, b"SIFHASH:\n" + b"ab" * 32 + b"\n\n", b'{"version":1}'],
)
def test_other_texts_are_no_legacy_digest(text):
    found = legacy.parse(text, 1)
    assert isinstance(found, Finding)
    assert found.code == "bad-metadata"
