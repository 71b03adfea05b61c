"""Key stores: everything that may verify a signature, and whether a verified signature still counts.

`verify` asks a store which key made a signature (a fact, which holds at all times). Here that fact is judged at a given
time: keys expire and are revoked, certificates too, PEM keys are trusted for as long as they are listed.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from eclctl.errors import ConfigError, KeyMaterialError
from eclctl.files.guarded import read_unguarded
from eclctl.signature import openpgp
from eclctl.signature.keys import MAX_KEY_FILE, PublicKey, parse_public_key
from eclctl.terms import Finding, KeyRef, SignatureFormat, SignerKind
from eclctl.trust.revocation import NO_STATUS, Link, StatusSource
from eclctl.trust.signer_types import SIGNER_TYPES, Listing, Signed
from eclctl.trust.signer_types.cosign_key import cosign_name

if TYPE_CHECKING:
    from eclctl.trust.x509 import Credential

MAX_KEYRING_FILE = 64 * 1024 * 1024
"""The longest keyring file that is read, in bytes."""


class KeyStore:
    """Everything that may verify a signature, each sort for its own: a key signs only what it was listed for.

    pgp: OpenPGP certificates.
    listed: what a policy lists besides, by kind and name. Each signer type knows its values.
    digest: `sha256:<hex>` over all of them, which does not depend on their order. Facts found with one store hold for
        every store with that digest.
    dsse_keys: every key that may have signed a DSSE envelope, each once.
    """

    def __init__(self, pgp: openpgp.Keyring, listed: Listing | None = None) -> None:
        self.pgp = pgp
        self.listed = listed or {}
        self._names: dict[str, tuple[KeyRef, ...]] = {}
        keys: dict[str, PublicKey] = {}
        lines = [f"pgp {pgp.facts}"]
        for kind, entry in SIGNER_TYPES.items():
            listed_here = entry.listed(self)
            lines += sorted(f"{entry.digest_word} {each.id}" for each in listed_here.values())
            for name, each in listed_here.items() if entry.format is SignatureFormat.DSSE else ():
                if (key := entry.verification_key(each)) is not None:
                    keys.setdefault(key.id, key)
                    self._names[key.id] = (*self._names.get(key.id, ()), KeyRef(kind, name))
        self.dsse_keys = tuple(keys.values())
        self.digest = "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @classmethod
    def of(
        cls,
        pgp: openpgp.Keyring,
        keys: Iterable[PublicKey] = (),
        credentials: Iterable[Credential] = (),
        cosign: Iterable[PublicKey] = (),
    ) -> KeyStore:
        """Return a store of these certificates and keys, for DSSE envelopes and for cosign signatures."""
        return cls(
            pgp,
            {
                SignerKind.KEY: {key.id: key for key in keys},
                SignerKind.CERTIFICATE: {credential.id: credential for credential in credentials},
                SignerKind.COSIGN: {cosign_name(key): key for key in cosign},
            },
        )

    @property
    def cosign(self) -> tuple[PublicKey, ...]:
        """The keys for cosign signatures."""
        return tuple(self.listed.get(SignerKind.COSIGN, {}).values())

    def names(self, key: PublicKey) -> tuple[KeyRef, ...]:
        """Return what a key in `dsse_keys` was listed as: itself, certificates that speak for it, or both."""
        return self._names.get(key.id, ())

    def names_of(self, ref: KeyRef) -> tuple[KeyRef, ...]:
        """Return every name under which signatures by this key count; none when it is not trusted.

        A PEM key also counts as a certificate's. `ref` may name such a key when only the certificate is listed.
        """
        entry = SIGNER_TYPES[ref.kind]
        if entry.in_keyrings:
            return (ref,) if self.pgp.get(ref.id) is not None else ()
        listed = entry.listed(self).get(ref.id)
        if entry.format is not SignatureFormat.DSSE:
            return () if listed is None else (ref,)
        key = None if listed is None else entry.verification_key(listed)
        return self._names.get(ref.id if key is None else key.id, ())


def judge_claim(store: KeyStore, claim: Signed, now: datetime, statuses: StatusSource = NO_STATUS) -> Finding | None:
    """Return why a verified signature does not count at `now`, or None when it does.

    Args:
        store: The keys that are trusted now; they may be others than those that verified the claim.
        claim: A fact from `verify.examine`.
        now: Aware, UTC.
        statuses: What is known of whether certificates were revoked.
    """
    return SIGNER_TYPES[claim.signer.kind].judge(store, claim, now, statuses)


def unasked(store: KeyStore, claims: Iterable[Signed], now: datetime, statuses: StatusSource) -> tuple[Link, ...]:
    """Return what responders must be asked about before the claims can be judged, because nothing is known of it."""
    subjects = (
        subject
        for claim in claims
        for subject in SIGNER_TYPES[claim.signer.kind].must_be_good(store, claim.signer.id, now)
    )
    return tuple(each for each in subjects if isinstance(each, Link) and statuses.known(each, now) is None)


def needed(store: KeyStore, now: datetime) -> tuple[Link, ...]:
    """Return all that must be known to be good of what a policy lists, each once."""
    subjects = (
        subject
        for kind, listed in store.listed.items()
        for name in listed
        for subject in SIGNER_TYPES[kind].must_be_good(store, name, now)
    )
    return tuple({each.id: each for each in subjects if isinstance(each, Link)}.values())


def next_turning_point(
    store: KeyStore, claims: Iterable[Signed], now: datetime, statuses: StatusSource = NO_STATUS
) -> float:
    """Return the first time after `now` at which `judge_claim` may say something else of any of the claims.

    It is in seconds since the epoch; infinity when there is none. What `statuses` learn meanwhile is not foreseen:
    their `version` tells.
    """
    seconds = now.timestamp()
    times = (
        time for claim in claims for time in SIGNER_TYPES[claim.signer.kind].turning_points(store, claim, now, statuses)
    )
    return min((time for time in times if time > seconds), default=math.inf)


def load_keyring(paths: Iterable[str | os.PathLike[str]]) -> openpgp.Keyring:
    """Return one keyring of all OpenPGP certificates in files and directories.

    Of a directory, every regular file directly in it is read, in name order, but hidden ones and editors' copies
    (`.…`, `…~`).

    Args:
        paths: Files (armored, any number of blocks, or binary) and directories.

    Raises:
        KeyMaterialError: A path cannot be read, or a file holds no OpenPGP certificate; the message names it.
    """
    files = [file for path in paths for file in _keyring_files(os.fspath(path))]
    blobs = [read_file(file, MAX_KEYRING_FILE) for file in files]
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
    return tuple(parse_public_key(read_file(path, MAX_KEY_FILE), source=os.fspath(path)) for path in paths)


def _keyring_files(path: str) -> list[str]:
    try:
        if not _is(stat.S_ISDIR, path):
            return [path]
        visible = (name for name in sorted(os.listdir(path)) if not name.startswith(".") and not name.endswith("~"))
        return [file for name in visible if _is(stat.S_ISREG, file := os.path.join(path, name))]
    except OSError as error:
        raise KeyMaterialError(f"{path}: {error.strerror}") from error


def _is(sort: Callable[[int], bool], path: str) -> bool:
    """Return whether a file is of a sort; what is not there is of none.

    Raises:
        OSError: That cannot be found out: the file may be one with keys.
    """
    try:
        return sort(os.stat(path).st_mode)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return False
        raise


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes. Its owner is not looked at.

    Raises:
        KeyMaterialError: There is none, it cannot be read or it is longer; the message names it.
    """
    try:
        return read_unguarded(os.fspath(path), limit=limit)
    except ConfigError as error:
        raise KeyMaterialError(f"{path}: {error}") from error


def _blame(files: Sequence[str], blobs: Sequence[bytes]) -> None:
    """Raise an error that names the file that does not parse; return when each parses alone."""
    for file, blob in zip(files, blobs, strict=True):
        try:
            openpgp.Keyring.parse(blob)
        except KeyMaterialError as error:
            raise KeyMaterialError(f"{file}: {error}") from error
