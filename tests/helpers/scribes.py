"""Signing in tests: keys that sign without any program, and images that are signed where they lie."""

from __future__ import annotations

import hashlib
import shutil
from datetime import UTC, datetime
from pathlib import Path

from eclctl.sif import reader
from eclctl.sign.coverage import plan_coverage
from eclctl.sign.edit.editing import editing
from eclctl.sign.native import Signing, sign, signing_with_pem, signing_with_pgp
from eclctl.sign.pem import PrivateKey, read_private_key
from eclctl.signature import openpgp
from eclctl.signature.openpgp.signature import PURPOSE_NOTATION
from tests.helpers import pgp
from tests.helpers.sifbuilder import SifBuilder, corpus_pgp_key, opened
from tests.helpers.support import CORPUS

SIGNED = datetime(2026, 1, 1, tzinfo=UTC)
"""When the reference signed the images of the corpus."""


def notation(purpose: str) -> bytes:
    """Return the subpacket in which a signature states a purpose (RFC 9580 section 5.2.3.24)."""
    name, value = PURPOSE_NOTATION.encode(), purpose.encode()
    return pgp.sub(20, b"\x80\0\0\0" + len(name).to_bytes(2) + len(value).to_bytes(2) + name + value)


class Scribe:
    """An OpenPGP key that signs in this process, as another program would. `said` lets it sign another text."""

    hash_names: tuple[str, ...] = ("sha256", "sha384", "sha512")

    def __init__(self, key: pgp.Key, certificate: bytes, *, now: datetime = SIGNED, said: bytes | None = None) -> None:
        self.key = key
        self.keyring = openpgp.Keyring.parse(certificate)
        self.now = now
        self.said = said
        self.fingerprint = key.fingerprint

    def clear_sign(self, text: bytes, *, hash_name: str, purpose: str | None) -> bytes:
        """Return a clear-signed message."""
        text = text if self.said is None else self.said
        hash_id = {"sha256": 8, "sha384": 9, "sha512": 10}[hash_name]
        stated = [] if purpose is None else [notation(purpose)]
        created = int(self.now.timestamp())
        signature = self.key.sign(1, text.replace(b"\n", b"\r\n"), *stated, created=created, hash_id=hash_id)
        header = f"Hash: {hash_name.upper()}\n".encode()
        return pgp.clearsign(pgp.packet(2, signature), text=text, header=header)


def scribe(name: str = "builder", **options: object) -> Scribe:
    """Return a key of the corpus as a scribe."""
    certificate = (CORPUS / "keys" / "pgp" / f"{name}.asc").read_bytes()
    return Scribe(corpus_pgp_key(name), certificate, **options)  # type: ignore[arg-type]


def pgp_signing(
    name: str = "builder", algorithm: str = "sha256", purpose: str | None = None, *, now: datetime = SIGNED
) -> Signing:
    """Return what signs with an OpenPGP key of the corpus."""
    return signing_with_pgp(scribe(name, now=now), algorithm, purpose)


def private_pem_key(name: str) -> PrivateKey:
    """Return a PEM key of the corpus."""
    path = CORPUS / "keys" / "pem" / f"{name}-private.pem"
    return read_private_key(path.read_bytes(), lambda: b"", source=str(path))


def pem_signing(*names: str) -> Signing:
    """Return what signs with PEM keys of the corpus."""
    return signing_with_pem(tuple(private_pem_key(name) for name in names))


def sign_file(
    path: Path,
    signing: Signing,
    *,
    groups: tuple[int, ...] = (),
    objects: tuple[int, ...] = (),
    algorithm: str = "sha256",
    now: datetime = SIGNED,
) -> tuple[int, ...]:
    """Sign an image where it lies, at a time; return the IDs of the new signatures."""
    with editing(str(path)) as edited:
        return sign(edited, plan_coverage(edited.image, groups, objects), signing, algorithm, clock=lambda: now)


def corpus_copy(name: str, folder: Path) -> Path:
    """Return a copy of a corpus image that can be signed."""
    return Path(shutil.copyfile(CORPUS / "images" / name, folder / name))


def built(builder: SifBuilder, folder: Path, name: str = "built.sif") -> Path:
    """Write an image of the builder's to a file."""
    path = folder / name
    path.write_bytes(builder.build())
    return path


def objects_of(path: Path) -> list[tuple[reader.Descriptor, str]]:
    """Return every object of an image: its descriptor, and what its data hashes to."""
    with opened(path) as fd:
        found = reader.read(fd)
        return [(each, hashlib.sha256(found.data(each)).hexdigest()) for each in found.descriptors]


def signature_data(path: Path, identity: int) -> bytes:
    """Return the data of a signature object."""
    with opened(path) as fd:
        found = reader.read(fd)
        return bytes(found.data(next(each for each in found.descriptors if each.id == identity)))
