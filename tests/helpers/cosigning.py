"""Shared by the tests of cosign signing: corpus keys that sign, and a file laid open."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from eclctl.sif.reader import read
from eclctl.sign import cosign_sign
from eclctl.sign.cosign_keys import read_cosign_key
from eclctl.sign.cosign_sign import CosignSigned
from eclctl.sign.edit.editing import editing
from eclctl.sign.pem import PrivateKey, private_key
from eclctl.verify.cosign import CosignReport, verify_cosign
from tests.helpers.ocibuilder import cosign_key
from tests.helpers.support import CORPUS

KEYS = CORPUS / "keys" / "cosign"
PASSWORD = (KEYS / "password.txt").read_text(encoding="ascii").strip()
REFERENCE = "Singularity-Ce/4.5.1 (Linux amd64) Go/1.26.8"
WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class SteadyKey(PrivateKey):
    """A key whose ECDSA signatures have 96 letters in base64, as all but one in a hundred have: one size of file."""

    def sign(self, message: bytes) -> bytes:
        """Return a signature of 70 to 72 bytes."""
        while len(signature := super().sign(message)) not in range(70, 73):
            pass
        return signature


@cache
def corpus_key(name: str) -> PrivateKey:
    """Return a private key of the corpus: ci, approver, site or stranger."""
    found = _corpus_key(name)
    return SteadyKey(found.public, found._key)


def _corpus_key(name: str) -> PrivateKey:
    return read_cosign_key((KEYS / f"{name}.key").read_bytes(), PASSWORD.encode, source=name)


@cache
def made_key(name: str = "ci", kind: str = "p256") -> PrivateKey:
    """Return the private key that `ocibuilder` signs with under this name, as the code under test has it."""
    return private_key(cosign_key(name, kind).private, name)


def sign(image: Path, *keys: PrivateKey, at: int = 1, **optional: str | int) -> CosignSigned:
    """Sign an image in place at some second since 1970."""
    with editing(str(image)) as edited:
        said = {"creator": REFERENCE, "timestamp": at, **optional}
        return cosign_sign.sign_cosign(edited, keys, said, datetime.fromtimestamp(at, UTC))


def verified(image: Path, *keys: PrivateKey) -> CosignReport:
    """Return how an image verifies with the public halves of keys."""
    fd = os.open(image, os.O_RDONLY)
    try:
        return verify_cosign(fd, [key.public for key in keys])
    finally:
        os.close(fd)


def laid_open(image: Path) -> tuple[Any, list[tuple[Any, ...]], list[bytes]]:
    """Return the header of a file, every field of each descriptor but name and extra, and each object's data."""
    fd = os.open(image, os.O_RDONLY)
    try:
        file = read(fd)
        fields = [
            (d.type, d.id, d.group, d.raw_link, d.offset, d.size, d.created, d.modified, d.uid, d.gid, d.name)
            for d in file.descriptors
        ]
        return file.header, fields, [bytes(file.data(d)) for d in file.descriptors]
    finally:
        os.close(fd)


def extras(image: Path) -> list[bytes]:
    """Return the extra fields of a file's descriptors."""
    fd = os.open(image, os.O_RDONLY)
    try:
        return [d.extra for d in read(fd).descriptors]
    finally:
        os.close(fd)


def without_chance(data: Sequence[bytes]) -> list[bytes]:
    """Return documents without what no two signings have in common: ECDSA's signatures, and digests over them."""
    digests = re.compile(rb"sha256[-:][0-9a-f]{64}")
    signatures = re.compile(rb'cosign/signature":"[A-Za-z0-9+/=]+"')
    sizes = re.compile(rb'"size":\d+')
    return [sizes.sub(b"SIZE", digests.sub(b"DIGEST", signatures.sub(b"SIGNATURE", each))) for each in data]
