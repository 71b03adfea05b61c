"""Of any key file and image: a clean refusal that changes nothing, or signatures that all verify."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.sign.cosign_keys import generate_pair, read_cosign_key
from eclctl.sign.pem import PrivateKey
from tests.helpers.cosigning import laid_open, made_key, sign, verified
from tests.helpers.ocibuilder import ROOT_INDEX, cosign_key, oci_sample
from tests.helpers.support import CORPUS

NAMES = ("ci", "release", "scan")


def quick(password: bytes, *, salt: bytes, **_: int) -> bytes:
    """Be scrypt, but for its cost, which is what these tests are not about."""
    return hashlib.sha256(salt + password).digest()


@cache
def key_file() -> bytes:
    with mock.patch("hashlib.scrypt", quick):
        return generate_pair(b"pw").private


@cache
def original() -> PrivateKey:
    with mock.patch("hashlib.scrypt", quick):
        return read_cosign_key(key_file(), lambda: b"pw")


def clean(text: bytes) -> None:
    """The file is refused with an error of ours, or is still the same key."""
    with mock.patch("hashlib.scrypt", quick), suppress(KeyMaterialError):
        assert read_cosign_key(text, lambda: b"pw") == original()


@given(st.integers(0, 700))
def test_a_truncated_key_file_is_refused(length):
    text = key_file()[:length]
    if len(text) < len(key_file().rstrip()):
        with pytest.raises(KeyMaterialError), mock.patch("hashlib.scrypt", quick):
            read_cosign_key(text, lambda: b"pw")


@given(st.lists(st.tuples(st.integers(0, 640), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300)
def test_a_mutated_key_file_is_refused_or_still_the_same_key(changes):
    text = bytearray(key_file())
    for place, value in changes:
        text[place] = value
    clean(bytes(text))


@given(st.binary(max_size=2000))
def test_what_is_no_key_file_is_refused(junk):
    clean(junk)
    clean(
        b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n" + junk + b"\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
    )


@contextmanager
def a_file(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.sif"
        path.write_bytes(data)
        yield path
        assert list(Path(folder).iterdir()) == [path]


def unsigned(*, signed: bool) -> bytes:
    image = oci_sample(*([cosign_key("other")] if signed else []))
    return image.build()


STEPS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(NAMES), min_size=1),
        st.integers(0, 3),
        st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
    ),
    min_size=1,
    max_size=4,
)


@given(STEPS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_signing_n_times_gives_n_valid_signatures(steps, signed):
    with a_file(unsigned(signed=signed)) as path:
        made = []
        for names, at, said in steps:
            sign(path, *map(made_key, sorted(names)), at=at, **{f"x{name}": text for name, text in said.items()})
            made += names
        for name in NAMES:
            assert len(verified(path, made_key(name)).payloads) == made.count(name)
        _, fields, data = laid_open(path)
        assert len(verified(path, made_key("ci")).signatures) == len(made) + signed
        assert [field[0] for field in fields].count(ROOT_INDEX) == 1
        assert len(set(data)) == len(data), "no blob is there twice"


BASE = (CORPUS / "oci" / "app-ci+approver.oci.sif").read_bytes()


@given(st.lists(st.tuples(st.integers(0, len(BASE) - 1), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_a_mutated_image_is_left_alone_or_signed_validly(changes):
    data = bytearray(BASE)
    for place, value in changes:
        data[place] = value
    with a_file(bytes(data)) as path:
        try:
            sign(path, made_key("ci"))
        except EclctlError:
            assert path.read_bytes() == data
        else:
            assert verified(path, made_key("ci")).verified
