"""Key stores: everything that may verify a signature, and whether a verified signature still counts.

`verify` asks a store which key made a signature (a fact, whatever the time). Here that fact is judged at a given
time: keys expire and are revoked, certificates too, PEM keys are trusted for as long as they are listed.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from eclctl.errors import KeyMaterialError
from eclctl.signature import openpgp
from eclctl.signature.keys import MAX_KEY_FILE, PublicKey, parse_public_key
from eclctl.terms import Finding, KeyRef, SignerKind
from eclctl.trust.revocation import NO_STATUS, Known, Link, Status, StatusSource

if TYPE_CHECKING:
    from eclctl.trust.x509 import Credential

__all__ = [
    "MAX_KEYRING_FILE",
    "KeyStore",
    "Signed",
    "cosign_name",
    "judge",
    "judge_credential",
    "load_keyring",
    "load_public_keys",
    "needed",
    "next_turning_point",
    "read_file",
    "unasked",
]

_UNTRUSTED = Finding("unknown-key", "signature made by a key that is no longer trusted")

MAX_KEYRING_FILE = 64 * 1024 * 1024
"""The longest keyring file that is read, in bytes."""


@dataclass(frozen=True, slots=True)
class KeyStore:
    """Everything that may verify a signature, each sort for its own: a key signs only what it was listed for.

    `pgp` are OpenPGP certificates; `keys` PEM keys and `credentials` X.509 certificates, for DSSE envelopes; `cosign`
    PEM keys for cosign signatures. `digest` is `sha256:<hex>` over all of them and does not depend on their order:
    facts found with one store hold for every store with that digest.
    """

    pgp: openpgp.Keyring
    keys: tuple[PublicKey, ...] = ()
    credentials: tuple[Credential, ...] = ()
    cosign: tuple[PublicKey, ...] = ()
    digest: str = field(init=False)
    dsse_keys: tuple[PublicKey, ...] = field(init=False, repr=False)
    _names: Mapping[str, tuple[KeyRef, ...]] = field(init=False, repr=False, compare=False)
    _credentials: Mapping[str, Credential] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("keys", "credentials", "cosign"):
            object.__setattr__(self, name, tuple({each.id: each for each in getattr(self, name)}.values()))
        names: dict[str, list[KeyRef]] = {}
        for key in self.keys:
            names.setdefault(key.id, []).append(KeyRef(SignerKind.KEY, key.id))
        for credential in self.credentials:
            names.setdefault(credential.key.id, []).append(KeyRef(SignerKind.CERTIFICATE, credential.id))
        listed = (*self.keys, *(credential.key for credential in self.credentials))
        object.__setattr__(self, "dsse_keys", tuple({key.id: key for key in listed}.values()))
        object.__setattr__(self, "_names", {key: tuple(found) for key, found in names.items()})
        object.__setattr__(self, "_credentials", {credential.id: credential for credential in self.credentials})
        object.__setattr__(self, "digest", self._digest())

    def _digest(self) -> str:
        lines = [f"pgp {self.pgp.facts}"]
        for name in ("keys", "credentials", "cosign"):
            lines += sorted(f"{name} {each.id}" for each in getattr(self, name))
        return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def names(self, key: PublicKey) -> tuple[KeyRef, ...]:
        """Return what a key in `dsse_keys` was listed as: itself, certificates that speak for it, or both."""
        return self._names.get(key.id, ())

    def credential(self, name: str) -> Credential | None:
        """Return the certificate with this `Credential.id`."""
        return self._credentials.get(name)


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


def judge(store: KeyStore, claim: Signed, now: datetime, statuses: StatusSource = NO_STATUS) -> Finding | None:
    """Return why a verified signature does not count at `now`, or None when it does.

    Args:
        store: The keys that are trusted now; they may be others than those that verified the claim.
        claim: A fact from `verify.examine`.
        now: Aware, UTC.
        statuses: What is known of whether certificates were revoked.
    """
    kind, name = claim.signer.kind, claim.signer.id
    if kind is SignerKind.PGP:
        return openpgp.judge(name, claim.key, claim.created, claim.expires, store.pgp, now)
    if kind is SignerKind.CERTIFICATE:
        credential = store.credential(name)
        return _UNTRUSTED if credential is None else judge_credential(credential, now, statuses)
    if kind is SignerKind.COSIGN:
        return None if any(cosign_name(key) == name for key in store.cosign) else _UNTRUSTED
    return None if any(key.id == name for key in store.keys) else _UNTRUSTED


def judge_credential(credential: Credential, now: datetime, statuses: StatusSource) -> Finding | None:
    """Return why a certificate does not count at `now`, or None when it does.

    It counts when a path leads to one of its roots and, if it asks for that, when every certificate of the path but the
    root is known to be good. What is not known is not good.
    """
    from eclctl.trust.x509 import path_links  # noqa: PLC0415 - only a certificate needs X.509

    found = path_links(credential, now)
    if isinstance(found, Finding):
        return found
    for link in found if credential.ocsp else ():
        known = statuses.known(link, now)
        if known is None or known.status is not Status.GOOD or known.until <= now:
            return _not_good(link, known)
    return None


def unasked(store: KeyStore, claims: Iterable[Signed], now: datetime, statuses: StatusSource) -> tuple[Link, ...]:
    """Return what somebody would have to ask about before the claims can be judged, because nothing is known of it."""
    return tuple(
        link
        for claim in claims
        if claim.signer.kind is SignerKind.CERTIFICATE
        for link in _needed(store.credential(claim.signer.id), now)
        if statuses.known(link, now) is None
    )


def needed(credentials: Iterable[Credential], now: datetime) -> tuple[Link, ...]:
    """Return all that must be known to be good of these certificates, once they lead to a trusted root."""
    return tuple({link.id: link for credential in credentials for link in _needed(credential, now)}.values())


def _needed(credential: Credential | None, now: datetime) -> tuple[Link, ...]:
    if credential is None or not credential.ocsp:
        return ()
    from eclctl.trust.x509 import path_links  # noqa: PLC0415 - only a certificate needs X.509

    found = path_links(credential, now)
    return () if isinstance(found, Finding) else found


def _not_good(link: Link, known: Known | None) -> Finding:
    subject = link.certificate.subject.rfc4514_string()
    if known is not None and known.status is Status.REVOKED:
        return Finding("revoked", f"the certificate {subject} is revoked: {known.reason}")
    why = "nobody has been asked" if known is None else f"{known.status.value}: {known.reason}"
    return Finding("ocsp", f"the certificate {subject} is not known to be good ({why})")


def cosign_name(key: PublicKey) -> str:
    """Return the `KeyRef.id` of a key that is listed for cosign signatures."""
    return f"cosign:{key.id}"


def next_turning_point(
    store: KeyStore, claims: Iterable[Signed], now: datetime, statuses: StatusSource = NO_STATUS
) -> float:
    """Return the first time after `now` at which `judge` may say something else of any of the claims.

    It is in seconds since the epoch; infinity when there is none. What `statuses` learn meanwhile is not foreseen:
    their `version` tells.
    """
    seconds = now.timestamp()
    times = (time for claim in claims for time in _turning_points(store, claim, now, statuses))
    return min((time for time in times if time > seconds), default=math.inf)


def _turning_points(store: KeyStore, claim: Signed, now: datetime, statuses: StatusSource) -> Iterable[float]:
    kind, name = claim.signer.kind, claim.signer.id
    if kind is SignerKind.PGP:
        return openpgp.turning_points(name, claim.key, claim.created, claim.expires, store.pgp)
    credential = store.credential(name) if kind is SignerKind.CERTIFICATE else None
    if credential is None:
        return ()
    from eclctl.trust.x509 import turning_points  # noqa: PLC0415 - only a certificate needs X.509

    known = [statuses.known(link, now) for link in _needed(credential, now)]
    return [*turning_points(credential), *(each.until.timestamp() for each in known if each is not None)]


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
    """Return a regular file of at most `limit` bytes; a FIFO under that name does not stall us.

    Raises:
        KeyMaterialError: There is none, it cannot be read or it is longer; the message names it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyMaterialError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)  # os.fdopen refuses a directory in its own words
        raise KeyMaterialError(f"{path}: not a regular file")
    with os.fdopen(descriptor, "rb") as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise KeyMaterialError(f"{path}: {error.strerror}") from error
    if len(data) > limit:
        raise KeyMaterialError(f"{path}: larger than {limit} bytes")
    return data


def _blame(files: Sequence[str], blobs: Sequence[bytes]) -> None:
    """Raise an error that names the file that does not parse; return when each parses alone."""
    for file, blob in zip(files, blobs, strict=True):
        try:
            openpgp.Keyring.parse(blob)
        except KeyMaterialError as error:
            raise KeyMaterialError(f"{file}: {error}") from error
