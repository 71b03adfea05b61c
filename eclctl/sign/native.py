"""Native SIF signatures: a text about the image, signed with OpenPGP or with PEM keys, and put where SIF has it.

1. What is signed is the metadata of `eclctl.sign.metadata`, over the digests of just the bytes that the new file has.
2. It becomes a clear-signed message (RFC 9580 section 7) or a DSSE envelope.
3. That is a data object of its own: a signature in no group, linked to the group of what it covers, without a name, its
   extra field the number of the hash and the fingerprint of the primary key, which a DSSE signature leaves empty.
4. Before the new file gets its name, all of that is verified as anybody would, with the public halves of the keys.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from eclctl.errors import KeyMaterialError, SigningError
from eclctl.image.sif import DataType, Sif
from eclctl.model import KeyRef, SignatureFormat, SignerKind, Verification
from eclctl.sign import dsse, metadata
from eclctl.sign.coverage import Part
from eclctl.sign.editing import NewObject
from eclctl.sign.gnupg import PgpSigner
from eclctl.sign.pem import PrivateKey
from eclctl.signature import openpgp
from eclctl.trust.keyring import KeyStore, judge
from eclctl.verify import DigestCache, examine
from eclctl.verify.hashing import Want

__all__ = ["PemMaterial", "PgpMaterial", "Signing", "check", "signature_objects"]

_EXTRA = struct.Struct("<i")
_HASH_NUMBERS = {"sha256": 1, "sha384": 2, "sha512": 3}
_OPENPGP_HASHES = {"sha224": "sha256", "sha512_224": "sha512", "sha512_256": "sha512"}
_V4_HEX = 40


class Signing(Protocol):
    """A key, or several, with which native signatures are made."""

    @property
    def format(self) -> SignatureFormat:
        """What the signatures are."""

    @property
    def store(self) -> KeyStore:
        """The public halves, and nothing else: what verifies the signatures."""

    @property
    def refs(self) -> tuple[KeyRef, ...]:
        """Who signs."""

    @property
    def purposes(self) -> frozenset[str]:
        """What the signatures will say that they approve; none is everything."""

    @property
    def extra(self) -> bytes:
        """What a signature's descriptor says of hash and key."""

    def seal(self, text: bytes) -> bytes:
        """Return the signed text."""


@dataclass(frozen=True, slots=True)
class PgpMaterial:
    """An OpenPGP key that is unlocked.

    `certificate` is its public half, `hash_name` the digest of the metadata; the signature itself is over the nearest
    that every reader knows. `purpose` is what the signature approves, None everything. A fingerprint of version 6 has
    32 bytes and fits no reader that expects 20, so such a key signs only with `allow_v6`.

    Raises:
        KeyMaterialError: The key is of another version, and that was not asked for.
    """

    signer: PgpSigner
    certificate: openpgp.Keyring
    hash_name: str
    purpose: str | None = None
    allow_v6: bool = False
    store: KeyStore = field(init=False)

    def __post_init__(self) -> None:
        if len(self.signer.identity.fingerprint) != _V4_HEX and not self.allow_v6:
            raise KeyMaterialError(
                f"{self.signer.identity.fingerprint} is a key of version 6: its fingerprint does not fit where SIF has"
                " it, and SingularityCE and Apptainer never accept its signatures; --allow-v6 signs all the same"
            )
        object.__setattr__(self, "store", KeyStore(self.certificate))

    @property
    def format(self) -> SignatureFormat:
        """Clear-signed."""
        return SignatureFormat.PGP

    @property
    def refs(self) -> tuple[KeyRef, ...]:
        """The certificate."""
        return (KeyRef(SignerKind.PGP, self.signer.identity.fingerprint),)

    @property
    def purposes(self) -> frozenset[str]:
        """The purpose, if there is one."""
        return frozenset() if self.purpose is None else frozenset({self.purpose})

    @property
    def extra(self) -> bytes:
        """The number of the hash that is signed, and the primary fingerprint."""
        return _EXTRA.pack(_HASH_NUMBERS[self._hash]) + bytes.fromhex(self.signer.identity.fingerprint)

    @property
    def _hash(self) -> str:
        return _OPENPGP_HASHES.get(self.hash_name, self.hash_name)

    def seal(self, text: bytes) -> bytes:
        """Return a clear-signed message, without the newline at its end that the reference does not write."""
        return self.signer.clear_sign(text, hash_name=self._hash, purpose=self.purpose).rstrip(b"\n")


@dataclass(frozen=True, slots=True)
class PemMaterial:
    """PEM keys, all of which sign one envelope. They sign SHA-256, whatever digests the metadata has."""

    keys: tuple[PrivateKey, ...]
    store: KeyStore = field(init=False)

    def __post_init__(self) -> None:
        store = KeyStore(openpgp.Keyring.parse(), tuple(key.public for key in self.keys))
        object.__setattr__(self, "store", store)

    @property
    def format(self) -> SignatureFormat:
        """A DSSE envelope."""
        return SignatureFormat.DSSE

    @property
    def refs(self) -> tuple[KeyRef, ...]:
        """Each key."""
        return tuple(KeyRef(SignerKind.KEY, key.id) for key in self.store.keys)

    @property
    def purposes(self) -> frozenset[str]:
        """None: an envelope cannot say any."""
        return frozenset()

    @property
    def extra(self) -> bytes:
        """SHA-256, and no fingerprint."""
        return _EXTRA.pack(_HASH_NUMBERS["sha256"])

    def seal(self, text: bytes) -> bytes:
        """Return an envelope."""
        return dsse.seal(text, self.keys)


def signature_objects(
    image: Sif, parts: Sequence[Part], signing: Signing, digests: Mapping[tuple[int, str], bytes], algorithm: str
) -> tuple[NewObject, ...]:
    """Return a signature object for each part.

    Args:
        image: The image as it is.
        parts: What to sign, from `coverage.plan`.
        signing: The keys.
        digests: Of the data of every object that is signed, by object ID and algorithm.
        algorithm: One of `metadata.HASHES`.

    Raises:
        KeyMaterialError: A key did not sign.
    """
    return tuple(_signature_object(image, part, signing, digests, algorithm) for part in parts)


def _signature_object(
    image: Sif, part: Part, signing: Signing, digests: Mapping[tuple[int, str], bytes], algorithm: str
) -> NewObject:
    data = {each.id: digests[each.id, algorithm] for each in part.objects}
    text = metadata.write(image.header, part.objects, data, algorithm)
    return NewObject(
        DataType.SIGNATURE, signing.seal(text), link=part.group, links_group=True, extra=signing.extra, alignment=1
    )


def check(
    fd: int,
    expected: Mapping[int, Part],
    signing: Signing,
    digests: Mapping[tuple[int, str], bytes],
    now: datetime,
) -> None:
    """Verify the new signatures of an image as anybody would, with the public halves of the keys.

    The digests of data are those that copying found, for the data of the file on `fd` is what was copied; header,
    descriptors and signatures are read from it.

    Args:
        fd: The new file, open for reading.
        expected: What each new signature must cover, by its object ID.
        signing: The keys.
        digests: As given to `signature_objects`.
        now: When the keys must be good; aware, UTC.

    Raises:
        SigningError: A signature does not prove what it should.
    """
    known = DigestCache()
    for (identity, algorithm), digest in digests.items():
        known.put(Want(algorithm, (identity,)), digest)
    found = examine(fd, signing.store, known=known)
    for identity, part in expected.items():
        _check_one(found, identity, part, signing, now)


def _check_one(found: Verification, identity: int, part: Part, signing: Signing, now: datetime) -> None:
    why = next((failure.finding.message for failure in found.failures if failure.signature == identity), None)
    claims = [claim for claim in found.claims if claim.signature == identity]
    for claim in claims:
        wrong = claim.mismatch or judge(signing.store, claim, now)
        why = why or (wrong.message if wrong is not None else None)
    good = {
        claim.signer
        for claim in claims
        if claim.header and claim.group == part.group and claim.objects == frozenset(part.ids)
    }
    if why is None and good != set(signing.refs):
        why = "it is not over what was to be signed, or not by the keys that were to sign it"
    if why is not None:
        raise SigningError(
            f"signature {identity} does not verify once it is written, so the image stays as it was: {why}"
        )
