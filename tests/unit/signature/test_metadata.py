"""Signed metadata has exactly its members, each once, and only digests that count. So has a legacy digest."""

from __future__ import annotations

import hashlib
import json

import pytest

from eclctl.signature import metadata
from eclctl.signature.metadata import UNSUPPORTED_HASH, Digest, parse_legacy_digest
from eclctl.terms import Finding
from tests.helpers.sifbuilder import same_in_every_process

DIGEST = "sha256:" + "ab" * 32


def document(**members):
    item = {"relativeId": 0, "descriptorDigest": DIGEST, "objectDigest": DIGEST}
    return {"version": 1, "header": {"digest": DIGEST}, "objects": [item]} | members


def parse(value):
    return metadata.parse_metadata(value if isinstance(value, bytes) else json.dumps(value).encode())


def item(**members):
    return document()["objects"][0] | members


def test_version_1_is_read():
    found = parse(document())
    assert found.header == metadata.Digest("sha256", b"\xab" * 32)
    assert [part.relative for part in found.objects] == [0]


@pytest.mark.parametrize("name", ["sha224", "sha256", "sha384", "sha512", "sha512_224", "sha512_256"])
def test_every_digest_of_the_format_is_known(name):
    text = f"{name}:{hashlib.new(name, b'data').hexdigest()}"
    found = parse(document(header={"digest": text}))
    assert found.header.matches(b"data")
    assert not found.header.matches(b"date")


@pytest.mark.parametrize("text", ["sha1:" + "00" * 20, "md5:" + "00" * 16, "sha3-256:" + "00" * 32, ":00"])
def test_weak_and_unknown_hashes_are_unsupported(text):
    assert parse(document(header={"digest": text})) == Finding("bad-metadata", "hash algorithm unsupported")


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", "sha256:00", "sha256:" + "0" * 63, "sha256:" + "zz" * 32, DIGEST + ":00", 7, None]
)
def test_malformed_digests_are_refused(text):
    assert parse(document(header={"digest": text})) == Finding("bad-metadata", "digest malformed")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"hello",
        b"[]",
        b"null",
        b"\xef\xbb\xbf{}",
        b"\xff",
        {},
        document(version=2),
        document(version=True),
        document(version="1"),
        document(version=None),
        document(extra=1),
        {**document(), "Version": 1},
        document(objects=None),
        document(objects={}),
        document(objects=[None]),
        document(objects=[item(relativeId=-1)]),
        document(objects=[item(relativeId=1.0)]),
        document(objects=[item(relativeId="0")]),
        document(objects=[item(relativeId=True)]),
        document(objects=[item(relativeId=1 << 32)]),
        document(objects=[item(x=1)]),
        document(objects=[item(), item()]),
        document(header={"digest": DIGEST, "Digest": DIGEST}),
        json.dumps(document()).encode() + b"x",
        json.dumps(document()).encode().replace(b'"version": 1', b'"version": 1, "version": 1'),
        json.dumps(document()).encode().replace(b'"relativeId": 0', b'"relativeId": -0'),
        json.dumps(document()).encode().replace(b'"relativeId": 0', b'"relativeId": NaN'),
        json.dumps(document()).encode().replace(b'"relativeId": 0', b'"relativeId": ' + b"9" * 10_000),
        b"[" * 200_000,
    ],
    ids=same_in_every_process,
)
def test_everything_else_is_bad_metadata(value):
    found = parse(value)
    assert isinstance(found, Finding)
    assert found.code == "bad-metadata"
    assert len(found.message) < 300


@pytest.mark.parametrize(("hash_type", "name", "size"), [(1, "sha256", 32), (2, "sha384", 48), (3, "sha512", 64)])
@pytest.mark.parametrize("line", [b"\n", b"\r\n"])
def test_a_digest_of_the_descriptors_hash_is_read(hash_type, name, size, line):
    text = b"SIFHASH:" + line + b"ab" * size
    assert parse_legacy_digest(text, hash_type) == Digest(name, b"\xab" * size)
    assert parse_legacy_digest(text + line, hash_type) == Digest(name, b"\xab" * size)


@pytest.mark.parametrize("hash_type", [0, 4, 5, 6, -1])
def test_other_hashes_are_unsupported(hash_type):
    assert parse_legacy_digest(b"SIFHASH:\n" + b"ab" * 32, hash_type) == UNSUPPORTED_HASH


@pytest.mark.parametrize("size", [20, 31, 33, 48])
def test_a_digest_of_another_length_is_malformed(size):
    assert parse_legacy_digest(b"SIFHASH:\n" + b"ab" * size, 1) == Finding("bad-metadata", "digest malformed")


@pytest.mark.parametrize(
    "text",
    [b"", b"SIFHASH:\n", b"ab" * 32, b"SIFHASH:\n" + b"a" * 63, b"SIFHASH:\n" + b"ab" * 32 + b"\n\n", b'{"version":1}'],
)
def test_other_texts_are_no_legacy_digest(text):
    found = parse_legacy_digest(text, 1)
    assert isinstance(found, Finding)
    assert found.code == "bad-metadata"
