"""Key stores: everything that may verify a signature, and whether a verified signature still counts.

`verify` asks a store which key made a signature (a fact, whatever the time). Here that fact is judged at a given
time: keys expire and are revoked, PEM keys are trusted for as long as they are listed.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from eclctl.errors import KeyMaterialError
from eclctl.model import Finding, KeyRef, SignerKind
from eclctl.signature import openpgp
from eclctl.signature.keys import MAX_KEY_FILE, PublicKey, parse_public_key

__all__ = ["MAX_KEYRING_FILE", "KeyStore", "Signed", "judge", "load_keyring", "load_public_keys", "next_turning_point"]

MAX_KEYRING_FILE = 64 * 1024 * 1024
"""The longest keyring file that is read, in bytes."""


@dataclass(frozen=True, slots=True)
class KeyStore:
    """OpenPGP certificates and PEM keys that are looked at together.

    `digest` is `sha256:<hex>` over all of them and does not depend on their order: facts found with one store hold
    for every store with that digest.
    """

    pgp: openpgp.Keyring
    keys: tuple[PublicKey, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        unique = tuple({key.id: key for key in self.keys}.values())
        object.__setattr__(self, "keys", unique)
        lines = [f"pgp {self.pgp.digest}", *sorted(f"key {key.id}" for key in unique)]
        object.__setattr__(self, "digest", "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest())


class Signed(Protocol):
    """The part of a `Claim` that is judged: which key signed, and when."""

    @property
    def signer(self) -> KeyRef:
        """Whose key it is."""

    @property
    def key(self) -> str:
        """The key that made the signature."""

    @property
    def created(self) -> datetime | None:
        """When the signature was made."""

    @property
    def expires(self) -> datetime | None:
        """When it expires."""


def judge(store: KeyStore, claim: Signed, now: datetime) -> Finding | None:
    """Return why a verified signature does not count at `now`, or None when it does.

    Args:
        store: The keys that are trusted now; they may be others than those that verified the claim.
        claim: A fact from `verify.examine`.
        now: Aware, UTC.
    """
    if claim.signer.kind is SignerKind.PGP:
        return openpgp.judge(claim.signer.id, claim.key, claim.created, claim.expires, store.pgp, now)
    if any(key.id == claim.signer.id for key in store.keys):
        return None
    return Finding("unknown-key", "signature made by a key that is no longer trusted")


def next_turning_point(store: KeyStore, claims: Iterable[Signed], now: float) -> float:
    """Return the first time after `now` at which `judge` may say something else of any of the claims.

    Times are seconds since the epoch; infinity when there is none.
    """
    times = (
        time
        for claim in claims
        if claim.signer.kind is SignerKind.PGP
        for time in openpgp.turning_points(claim.signer.id, claim.key, claim.created, claim.expires, store.pgp)
    )
    return min((time for time in times if time > now), default=math.inf)


def load_keyring(paths: Iterable[str | os.PathLike[str]]) -> openpgp.Keyring:
    """Return one keyring of all OpenPGP certificates in files and directories.

    Of a directory, every regular file directly in it is read, in name order, but hidden ones and editors' copies
    (`.…`, `…~`).

    Args:
        paths: Files (armored, any number of blocks, or binary) and directories.

    Raises:
        KeyMaterialError: A path cannot be read, or a file holds no OpenPGP certificate; the message names it.
    """
    files = [file for path in paths for file in _keyring_files(Path(path))]
    blobs = [_read(file, MAX_KEYRING_FILE) for file in files]
    try:
        return openpgp.Keyring.parse(*blobs)
    except KeyMaterialError:
        _blame(files, blobs)
        raise


def load_public_keys(paths: Iterable[str | os.PathLike[str]]) -> tuple[PublicKey, ...]:
    """Return the PEM public keys of several files, one each.

    Raises:
        KeyMaterialError: A file cannot be read or does not hold exactly one acceptable public key.
    """
    return tuple(parse_public_key(_read(Path(path), MAX_KEY_FILE), source=os.fspath(path)) for path in paths)


def _keyring_files(path: Path) -> list[Path]:
    try:
        if not path.is_dir():
            return [path]
        return sorted(entry for entry in path.iterdir() if _is_keyring_file(entry))
    except OSError as error:
        raise KeyMaterialError(f"{path}: {error.strerror}") from error


def _is_keyring_file(entry: Path) -> bool:
    return not entry.name.startswith(".") and not entry.name.endswith("~") and entry.is_file()


def _read(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes; a FIFO under that name must not stall us."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyMaterialError(f"{path}: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise KeyMaterialError(f"{path}: not a regular file")
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise KeyMaterialError(f"{path}: {error.strerror}") from error
    if len(data) > limit:
        raise KeyMaterialError(f"{path}: larger than {limit} bytes")
    return data


def _blame(files: Sequence[Path], blobs: Sequence[bytes]) -> None:
    """Raise an error that names the file that does not parse; return when each parses alone."""
    for file, blob in zip(files, blobs, strict=True):
        try:
            openpgp.Keyring.parse(blob)
        except KeyMaterialError as error:
            raise KeyMaterialError(f"{file}: {error}") from error
