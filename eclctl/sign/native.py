"""Native SIF signatures: a text about the image, signed with OpenPGP or with PEM keys, and put where SIF has it.

1. What is signed is the metadata of `eclctl.sign.metadata`, over the digests of just the bytes that the new file has.
2. It becomes a clear-signed message (RFC 9580 section 7) or a DSSE envelope.
3. That is a data object of its own: a signature in no group, linked to the group of what it covers, without a name, its
   extra field the number of the hash and the fingerprint of the primary key, which a DSSE signature leaves empty.
4. Before anything is written, the image as it will be is verified with the public halves of the keys.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from eclctl.dataclass import dataclass
from eclctl.errors import KeyMaterialError, SigningError
from eclctl.model import Verification
from eclctl.sif.reader import DataType, Descriptor, Sif
from eclctl.sign import metadata
from eclctl.sign.coverage import Part
from eclctl.sign.edit.editing import Edit, Editing, NewObject, Progress
from eclctl.sign.gnupg import PgpSigner
from eclctl.sign.pem import PrivateKey
from eclctl.signature import openpgp
from eclctl.signature.dsse import MAX_SIGNATURES, PAYLOAD_TYPE, pae
from eclctl.terms import KeyRef, SignatureFormat, SignerKind
from eclctl.trust.keyring import KeyStore, judge_claim
from eclctl.verify.examine import examine
from eclctl.verify.hashing import DigestCache, Want

_EXTRA = struct.Struct("<i")
_HASH_NUMBERS = {"sha256": 1, "sha384": 2, "sha512": 3}
_OPENPGP_HASHES = {"sha224": "sha256", "sha512_224": "sha512", "sha512_256": "sha512"}
_V4_HEX = 40


@dataclass(frozen=True, slots=True)
class Signing:
    """A key, or several, with which native signatures are made.

    Attributes:
        format: What the signatures are.
        store: The public halves, and nothing else: what verifies the signatures.
        refs: The keys that sign.
        extra: What a signature's descriptor says of hash and key.
        seal: Returns the signed text.
        purposes: What the signatures will say that they approve; none is everything.
    """

    format: SignatureFormat
    store: KeyStore
    refs: tuple[KeyRef, ...]
    extra: bytes
    seal: Callable[[bytes], bytes]
    purposes: frozenset[str] = frozenset()


def signing_with_pgp(
    signer: PgpSigner, hash_name: str, purpose: str | None = None, *, allow_v6: bool = False
) -> Signing:
    """Return what signs with an OpenPGP key that is unlocked.

    Args:
        signer: The key.
        hash_name: The digest of the metadata. The signature itself is under the same, or the nearest that the key may
            sign under and SIF has a number for; it says so itself. The number in the descriptor stays, as the
            reference's does.
        purpose: What the signature approves, None everything.
        allow_v6: Sign with a key of version 6: its fingerprint has 32 bytes and fits no reader that expects 20.

    Raises:
        KeyMaterialError: The key is of another version, and that was not asked for.
    """
    if len(signer.fingerprint) != _V4_HEX and not allow_v6:
        raise KeyMaterialError(
            f"{signer.fingerprint} is a key of version 6: its fingerprint does not fit where SIF has it. Policies count"
            " its signatures, but SingularityCE, Apptainer and `eclctl verify` never do; --allow-v6 signs all the same"
        )
    asked = _OPENPGP_HASHES.get(hash_name, hash_name)
    able = [name for name in signer.hash_names if name in _HASH_NUMBERS]
    used = asked if asked in able or not able else able[0]

    def seal(text: bytes) -> bytes:
        # The reference writes no newline at the end.
        return signer.clear_sign(text, hash_name=used, purpose=purpose).rstrip(b"\n")

    return Signing(
        SignatureFormat.PGP,
        KeyStore(signer.keyring),
        (KeyRef(SignerKind.PGP, signer.fingerprint),),
        _EXTRA.pack(_HASH_NUMBERS[asked]) + bytes.fromhex(signer.fingerprint),
        seal,
        frozenset() if purpose is None else frozenset({purpose}),
    )


def signing_with_pem(keys: Sequence[PrivateKey]) -> Signing:
    """Return what signs with PEM keys, all of which sign one envelope.

    They sign SHA-256; the metadata may have other digests. An envelope cannot say a purpose.
    """
    store = KeyStore.of(openpgp.Keyring.parse(), tuple(key.public for key in keys))
    refs = tuple(KeyRef(SignerKind.KEY, key.id) for key in store.dsse_keys)
    extra = _EXTRA.pack(_HASH_NUMBERS["sha256"])
    return Signing(SignatureFormat.DSSE, store, refs, extra, lambda text: seal_envelope(text, keys))


def seal_envelope(payload: bytes, keys: Sequence[PrivateKey]) -> bytes:
    """Return a DSSE envelope of SIF metadata with a signature by each key, in their order.

    A key that is given twice signs once. Each signs the pre-authentication encoding of payload and payload type, never
    the payload alone. The envelope is written as the reference writes it: compact JSON in this order of members,
    standard base64, the SSH fingerprint of each key as its `keyid`.

    Raises:
        SigningError: There is no key, or there are more than any reader looks at.
    """
    signers = list({key.public.id: key for key in keys}.values())
    if not 0 < len(signers) <= MAX_SIGNATURES:
        raise SigningError(f"an envelope has 1 to {MAX_SIGNATURES} signatures; there are {len(signers)} keys")
    message = pae(PAYLOAD_TYPE, payload)
    document = {
        "payloadType": PAYLOAD_TYPE,
        "payload": _base64(payload),
        "signatures": [{"keyid": key.public.keyid, "sig": _base64(key.sign(message))} for key in signers],
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _signature_objects(
    image: Sif, parts: Sequence[Part], signing: Signing, digests: Mapping[tuple[int, str], bytes], algorithm: str
) -> tuple[NewObject, ...]:
    """Return a signature object for each part, by the digests of all that is signed; raises as `sign`."""
    made = []
    for part in parts:
        data = {each.id: digests[each.id, algorithm] for each in part.objects}
        sealed = signing.seal(metadata.write(image.header, part.objects, data, algorithm))
        made.append(
            NewObject(DataType.SIGNATURE, sealed, link=part.group, links_group=True, extra=signing.extra, alignment=1)
        )
    return tuple(made)


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
    image = opened.image
    digests = opened.digests({each.id for part in parts for each in part.objects}, (algorithm,), progress)
    objects = _signature_objects(image, parts, signing, digests, algorithm)
    known = DigestCache()
    for (identity, name), digest in digests.items():
        known[Want(name, (identity,))] = digest
    made: list[int] = []
    opened.commit(
        Edit(add=objects),
        clock(),
        lambda after: made.extend(_checked(image, after, parts, signing, known=known, now=clock())),
    )
    return tuple(made)


def _checked(
    before: Sif, after: Sif, parts: Sequence[Part], signing: Signing, *, known: DigestCache, now: datetime
) -> list[int]:
    """Return the IDs of the new signatures of the image as it will be, once they verify.

    The digests of data are those that were found for signing. All that was there before is still there, unchanged.
    """
    kept, there = _by_id(before), _by_id(after)
    new = sorted(there.keys() - kept.keys())
    old = {identity: each for identity, each in there.items() if identity in kept}
    if len(new) != len(parts) or old != kept or after.header.signed_bytes != before.header.signed_bytes:
        raise SigningError("it would not be what was there and new signatures; the image stays as it was")
    found = examine(after, signing.store, known=known)
    for identity, part in zip(new, parts, strict=True):
        why = _fault(found, identity, part, signing, now)
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
