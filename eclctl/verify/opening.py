"""From a signature object to what it says: which keys signed which statement.

The order of checks is the reference's: format, descriptor's hash type, cryptography, statement, and only then the
fingerprint that the descriptor claims.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from eclctl.sif.reader import Descriptor, Sif
from eclctl.signature import dsse, formats, openpgp
from eclctl.signature.metadata import UNSUPPORTED_HASH, Digest, Metadata, parse_legacy_digest, parse_metadata
from eclctl.terms import Finding, KeyRef, SignatureFormat, SignerKind
from eclctl.trust.keyring import KeyStore
from eclctl.trust.signer_types import SIGNER_TYPES

MAX_SIGNATURES = 256
"""The most signature objects of an image that are looked at."""

MAX_SIGNATURE_SIZE = 1024 * 1024
"""The largest signature object that is read, in bytes. One object signed takes about 230."""

MAX_SIGNATURE_BYTES = 8 * 1024 * 1024
"""The most bytes of signature objects that are read of one image."""

NOT_RECOGNIZED = Finding("unrecognized", "signature format not recognized")
_TOO_MANY = Finding("too-many", f"only {MAX_SIGNATURES} signatures and {MAX_SIGNATURE_BYTES} bytes are looked at")
_TOO_LARGE = Finding("too-large", f"larger than the {MAX_SIGNATURE_SIZE} bytes that a signature may have")
OTHER_FINGERPRINT = Finding("wrong-fingerprint", "fingerprint in descriptor does not correspond to signing entity")
_UNKNOWN_KEY = Finding("unknown-key", "openpgp: signature made by unknown entity")
_HASH_TYPES = range(1, 6)  # SHA-256, SHA-384, SHA-512, BLAKE2s, BLAKE2b: what a descriptor may name


class SigningKey(NamedTuple):
    """A key that verified a signature, and the signature's own times and purposes (none for DSSE)."""

    signer: KeyRef
    key: str
    created: datetime | None = None
    expires: datetime | None = None
    purposes: frozenset[str] = frozenset()


class SignatureData(NamedTuple):
    """A signature object that has been read and recognized. `refused` is set when it is not to be looked at."""

    descriptor: Descriptor
    format: SignatureFormat
    data: bytes = b""
    refused: Finding | None = None


class Opened(NamedTuple):
    """What a signature object turned out to be.

    `failure` is set when no key verified it, and then there is nothing else. `keys` verified it otherwise. `statement`
    is what they signed; it is None when `defect` says what is wrong with the text. `fingerprint` is a finding
    when the descriptor claims another key.
    """

    signature: SignatureData
    failure: Finding | None = None
    keys: tuple[SigningKey, ...] = ()
    statement: Metadata | Digest | None = None
    defect: Finding | None = None
    fingerprint: Finding | None = None


def read_signatures(sif: Sif, descriptors: Iterable[Descriptor]) -> list[SignatureData]:
    """Read and recognize signature objects, up to the bounds of this module.

    Raises:
        BusyImageError, UnreadableImageError: As `Sif.data`.
    """
    loaded: list[SignatureData] = []
    left = MAX_SIGNATURE_BYTES
    for number, descriptor in enumerate(descriptors):
        if descriptor.size > MAX_SIGNATURE_SIZE:
            loaded.append(SignatureData(descriptor, SignatureFormat.UNKNOWN, refused=_TOO_LARGE))
        elif number >= MAX_SIGNATURES or descriptor.size > left:
            loaded.append(SignatureData(descriptor, SignatureFormat.UNKNOWN, refused=_TOO_MANY))
        else:
            left -= descriptor.size
            data = bytes(sif.data(descriptor))
            kind = formats.recognize(data)
            refused = NOT_RECOGNIZED if kind is SignatureFormat.UNKNOWN else None
            loaded.append(SignatureData(descriptor, kind, data, refused))
    return loaded


def open_signature(
    signature: SignatureData, store: KeyStore, effort: dsse.Effort, *, legacy_statement: bool | None = None
) -> Opened:
    """Verify one signature object with the keys of a store and read its statement.

    Args:
        signature: From `read_signatures`.
        store: The keys that may verify it.
        effort: Shared by the signatures of one image.
        legacy_statement: Whether the text must be a legacy digest; None means that the format decides.
    """
    if signature.refused is not None:
        return Opened(signature, signature.refused)
    wants_digest = signature.format is SignatureFormat.LEGACY if legacy_statement is None else legacy_statement
    if not wants_digest and signature.descriptor.hash_type not in _HASH_TYPES:
        return Opened(signature, UNSUPPORTED_HASH)
    if signature.format is SignatureFormat.DSSE:
        text, keys = _open_dsse(signature.data, store, effort)
    else:
        text, keys = _open_pgp(signature.data, store)
    if isinstance(text, Finding):
        return Opened(signature, text)
    fingerprint = _fingerprint(signature.descriptor, keys)
    statement = parse_legacy_digest(text, signature.descriptor.hash_type) if wants_digest else parse_metadata(text)
    if isinstance(statement, Finding):
        return Opened(signature, keys=keys, defect=statement, fingerprint=fingerprint)
    return Opened(signature, keys=keys, statement=statement, fingerprint=fingerprint)


def _open_dsse(data: bytes, store: KeyStore, effort: dsse.Effort) -> tuple[bytes | Finding, tuple[SigningKey, ...]]:
    envelope = dsse.parse_envelope(data)
    if isinstance(envelope, Finding):
        return envelope, ()
    keys = dsse.verify_envelope(envelope, store.dsse_keys, effort)
    if isinstance(keys, Finding):
        return keys, ()
    return envelope.payload, tuple(SigningKey(name, key.id) for key in keys for name in store.names(key))


def _open_pgp(data: bytes, store: KeyStore) -> tuple[bytes | Finding, tuple[SigningKey, ...]]:
    """Check a clear-signed message; when it bears several signatures, every one must verify."""
    try:
        message = openpgp.check(data, store.pgp)
    except openpgp.VerificationError as error:
        return error.finding, ()
    keys: dict[str, SigningKey] = {}
    for signature in message.signatures:
        if isinstance(signature, Finding):
            return signature, ()
        signer = KeyRef(SignerKind.PGP, signature.certificate)
        made = SigningKey(signer, signature.key, signature.created, signature.expires, signature.purposes)
        keys.setdefault(signature.key, made)
    if not keys:
        return _UNKNOWN_KEY, ()
    return message.text, tuple(keys.values())


def _fingerprint(descriptor: Descriptor, keys: Iterable[SigningKey]) -> Finding | None:
    """Return a finding when a descriptor that names its signer names another key than the one that signed."""
    for key in keys:
        fingerprint = SIGNER_TYPES[key.signer.kind].descriptor_fingerprint(key.signer.id)
        if fingerprint is not None and descriptor.entity[: len(fingerprint)] != fingerprint:
            return OTHER_FINGERPRINT
    return None
