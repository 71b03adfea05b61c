"""Native SIF signatures: a text about the image, signed with OpenPGP or with PEM keys, and put where SIF has it.

1. What is signed is the metadata of `eclctl.sign.metadata`, over the digests of just the bytes that the new file has.
2. It becomes a clear-signed message (RFC 9580 section 7) or a DSSE envelope.
3. That is a data object of its own: a signature in no group, linked to the group of what it covers, without a name, its
   extra field the number of the hash and the fingerprint of the primary key, which a DSSE signature leaves empty.
4. Before anything is written, the image as it will be is verified with the public halves of the keys.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from eclctl.errors import KeyMaterialError, SigningError
from eclctl.model import Verification
from eclctl.sif.reader import DataType, Descriptor, Sif
from eclctl.sign import dsse, metadata
from eclctl.sign.coverage import Part
from eclctl.sign.edit.editing import Edit, Editing, NewObject, Progress
from eclctl.sign.gnupg import PgpSigner
from eclctl.sign.pem import PrivateKey
from eclctl.signature import openpgp
from eclctl.terms import KeyRef, SignatureFormat, SignerKind
from eclctl.trust.keyring import KeyStore, judge_claim
from eclctl.verify.examine import examine
from eclctl.verify.hashing import DigestCache, Want

__all__ = ["PemMaterial", "PgpMaterial", "Signing", "sign", "signature_objects"]

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

    `hash_name` is the digest of the metadata; the signature itself is under the same, or the nearest that the key may
    sign under and SIF has a number for. `purpose` is what the signature approves, None everything. A fingerprint of
    version 6 has 32 bytes and fits no reader that expects 20, so such a key signs only with `allow_v6`.

    Raises:
        KeyMaterialError: The key is of another version, and that was not asked for.
    """

    signer: PgpSigner
    hash_name: str
    purpose: str | None = None
    allow_v6: bool = False
    store: KeyStore = field(init=False)

    def __post_init__(self) -> None:
        if len(self.signer.identity.fingerprint) != _V4_HEX and not self.allow_v6:
            raise KeyMaterialError(
                f"{self.signer.identity.fingerprint} is a key of version 6: its fingerprint does not fit where SIF has"
                " it. Policies count its signatures, but SingularityCE, Apptainer and `eclctl verify` never do;"
                " --allow-v6 signs all the same"
            )
        object.__setattr__(self, "store", KeyStore(self.signer.keyring))

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
        """The number of the hash that was asked for, and the primary fingerprint.

        Under a key that may not sign so short a hash, the signature is under a longer one, and says so itself. The
        number stays, as the reference's does.
        """
        return _EXTRA.pack(_HASH_NUMBERS[self._wanted]) + bytes.fromhex(self.signer.identity.fingerprint)

    @property
    def _wanted(self) -> str:
        return _OPENPGP_HASHES.get(self.hash_name, self.hash_name)

    @property
    def _hash(self) -> str:
        able = [name for name in self.signer.hash_names if name in _HASH_NUMBERS]
        return self._wanted if self._wanted in able or not able else able[0]

    def seal(self, text: bytes) -> bytes:
        """Return a clear-signed message, without the newline at its end that the reference does not write."""
        return self.signer.clear_sign(text, hash_name=self._hash, purpose=self.purpose).rstrip(b"\n")


@dataclass(frozen=True, slots=True)
class PemMaterial:
    """PEM keys, all of which sign one envelope. They sign SHA-256; the metadata may have other digests."""

    keys: tuple[PrivateKey, ...]
    store: KeyStore = field(init=False)

    def __post_init__(self) -> None:
        store = KeyStore.of(openpgp.Keyring.parse(), tuple(key.public for key in self.keys))
        object.__setattr__(self, "store", store)

    @property
    def format(self) -> SignatureFormat:
        """A DSSE envelope."""
        return SignatureFormat.DSSE

    @property
    def refs(self) -> tuple[KeyRef, ...]:
        """Each key."""
        return tuple(KeyRef(SignerKind.KEY, key.id) for key in self.store.dsse_keys)

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
        parts: What to sign, from `coverage.plan_coverage`.
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


def sign(
    opened: Editing,
    parts: Sequence[Part],
    signing: Signing,
    algorithm: str,
    *,
    clock: Callable[[], datetime],
    progress: Progress | None = None,
) -> tuple[int, ...]:
    """Add a signature for each part to an image; return the IDs of the new signature objects.

    Args:
        opened: The image; once this returns, it is the signed one, else it is as it was.
        parts: What to sign, from `coverage.plan_coverage`.
        signing: The keys.
        algorithm: One of `metadata.HASHES`.
        clock: Gives the time, aware, UTC.
        progress: Is told how many bytes more are hashed, in all as many as the objects have.

    Raises:
        EclctlError: A key did not sign, a signature does not verify, or the file cannot be written.
    """
    ids = {each.id for part in parts for each in part.objects}
    work = _Work(opened.image, tuple(parts), signing, opened.digests(ids, (algorithm,), progress))
    objects = signature_objects(work.image, work.parts, signing, work.digests, algorithm)
    made: list[int] = []
    opened.commit(Edit(add=objects), clock(), lambda after: made.extend(work.checked(after, clock())))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is signed in one image, as it was before."""

    image: Sif
    parts: tuple[Part, ...]
    signing: Signing
    digests: Mapping[tuple[int, str], bytes]

    def checked(self, after: Sif, now: datetime) -> list[int]:
        """Return the IDs of the new signatures of the image as it will be, once they verify.

        The digests of data are those that were found for signing. All that was there before is still there, unchanged.
        """
        kept, there = _by_id(self.image), _by_id(after)
        new = sorted(there.keys() - kept.keys())
        old = {identity: each for identity, each in there.items() if identity in kept}
        if len(new) != len(self.parts) or old != kept or after.header.signed_bytes != self.image.header.signed_bytes:
            raise SigningError("it would not be what was there and new signatures; the image stays as it was")
        known = DigestCache()
        for (identity, name), digest in self.digests.items():
            known[Want(name, (identity,))] = digest
        found = examine(after, self.signing.store, known=known)
        for identity, part in zip(new, self.parts, strict=True):
            why = _fault(found, identity, part, self.signing, now)
            if why is not None:
                raise SigningError(f"signature {identity} does not verify, so the image stays as it was: {why}")
        return new


def _by_id(image: Sif) -> dict[int, Descriptor]:
    """Return the descriptors, without the relative ID of what is in no group: it counts from the first such object."""
    return {each.id: each if each.group else each._replace(relative=0) for each in image.descriptors}


def _fault(found: Verification, identity: int, part: Part, signing: Signing, now: datetime) -> str | None:
    """Return why a new signature is not what it should be, None when it is."""
    for failure in found.failures:
        if failure.signature == identity:
            return failure.finding.message
    claims = [claim for claim in found.claims if claim.signature == identity]
    for claim in claims:
        wrong = claim.mismatch or judge_claim(signing.store, claim, now)
        if wrong is not None:
            return wrong.message
    ids = frozenset(part.ids)
    good = {claim.signer for claim in claims if claim.header and claim.group == part.group and claim.objects == ids}
    return None if good == set(signing.refs) else "it is not over what was to be signed, or not by every key"
