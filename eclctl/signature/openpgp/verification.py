"""Verifying clear-signed messages: first what holds at all times, then judgement at a given time.

Several signatures on one message must all verify and all count; anything else would leave a reader guessing which
one did. Detached signatures over a file (`check_detached`) are counted one by one: the file says nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from eclctl.errors import KeyMaterialError
from eclctl.terms import Finding

from .algorithms import STRONG_HASHES
from .cleartext import parse_cleartext
from .detached import parse_detached
from .errors import (
    HASH_MISMATCH_WORDS,
    UNKNOWN_ENTITY,
    FindingCode,
    PacketError,
    VerificationError,
    bad_certificate,
)
from .keyring import Certificate, Keyring
from .keys import OpenPgpKey
from .signature import Signature, SignatureType, key_id_of

_MAX_CANDIDATES: Final = 8
"""Keys with one key ID that are tried: a second one takes 2^64 work, or a certificate that adopts another's subkey."""


class GoodSignature(NamedTuple):
    """A signature that a key made. A fact: whether it counts at some time is for `judge_signature`.

    `certificate` and `key` are fingerprints in upper-case hex, of the primary key and of the key that signed. Times
    are aware, UTC; `expires` is None for never. `hash` is its name in armor headers. `purposes` are what the signature
    says that it approves (`PURPOSE_NOTATION`).
    """

    certificate: str
    key: str
    created: datetime
    expires: datetime | None
    hash: str
    purposes: frozenset[str] = frozenset()


class CheckedMessage(NamedTuple):
    """A message whose framing is right. `text` is what the good ones among its signatures sign, with CR LF.

    A finding says why a signature counts for nothing, at any time.
    """

    text: bytes
    signatures: tuple[GoodSignature | Finding, ...]


class MessageSigner(NamedTuple):
    """Who signed. `id` is the primary fingerprint, `key` the fingerprint of the key that signed (upper-case hex).

    `name` is the user ID as text, unescaped. Times are aware, UTC.
    """

    id: str
    key: str
    name: str
    created: datetime
    expires: datetime | None


class VerifiedMessage(NamedTuple):
    """A message that every one of its signatures verifies. `text` is exactly the signed bytes, with CR LF."""

    text: bytes
    signers: tuple[MessageSigner, ...]


def verify(message: bytes, certificates: bytes | Keyring, *, now: datetime) -> VerifiedMessage:
    """Verify a clear-signed message at a given time.

    Args:
        message: The message, nothing around it.
        certificates: Armored (any number of blocks) or binary; or a keyring, which is read and indexed once.
        now: Aware.

    Returns:
        The signed text, and the signers in the order of the signatures.

    Raises:
        VerificationError: The framing is wrong, or any signature does not verify or does not count at `now`.
    """
    try:
        keyring = certificates if isinstance(certificates, Keyring) else Keyring.parse(certificates)
    except KeyMaterialError as error:
        raise VerificationError(Finding(FindingCode.BAD_CERTIFICATE, f"openpgp: {error}")) from error
    checked = check(message, keyring)
    signers = []
    for signature in checked.signatures:
        if isinstance(signature, Finding):
            raise VerificationError(signature)
        finding = judge_signature(
            signature.certificate, signature.key, signature.created, signature.expires, keyring, now
        )
        if finding is not None:
            raise VerificationError(finding)
        certificate = keyring.get(signature.certificate)
        name = "" if certificate is None else certificate.name
        signers.append(MessageSigner(signature.certificate, signature.key, name, signature.created, signature.expires))
    return VerifiedMessage(checked.text, tuple(signers))


def check(message: bytes, keyring: Keyring) -> CheckedMessage:
    """Find out which keys signed a clear-signed message. The time plays no part.

    Args:
        message: The message, nothing around it.
        keyring: The keys to look for.

    Raises:
        VerificationError: The framing is wrong: code `bad-framing`.
    """
    cleartext = parse_cleartext(message)
    signatures = [_parse(body) for body in cleartext.signatures]
    _check_hash_headers(cleartext.hashes, [found for found in signatures if isinstance(found, Signature)])
    return CheckedMessage(cleartext.text, tuple(_check_signature(each, cleartext.text, keyring) for each in signatures))


def check_detached(armored: bytes, content: bytes, keyring: Keyring) -> tuple[GoodSignature | Finding, ...]:
    """Find out which keys signed a file whose signatures stand beside it. The time plays no part.

    Only signatures over the exact octets count (RFC 9580 section 5.2.1.1): one over text would hold for every file that
    differs from this one in line endings.

    Args:
        armored: One armored block of signatures, nothing around it.
        content: The file.
        keyring: The keys to look for.

    Returns:
        One entry for each signature, in their order. Each stands for itself.

    Raises:
        VerificationError: The framing is wrong: code `bad-framing`.
    """
    found = [_parse(body) for body in parse_detached(armored)]
    return tuple(_check_signature(each, content, keyring, kind=SignatureType.BINARY) for each in found)


def _parse(body: bytes) -> Signature | Finding:
    try:
        return Signature.parse(body)
    except PacketError:
        # The reference skips what it cannot read, and then finds no signer.
        return Finding(FindingCode.UNSUPPORTED, UNKNOWN_ENTITY.message)


def _check_hash_headers(names: frozenset[str], signatures: Iterable[Signature]) -> None:
    """Refuse Hash headers that name other hashes than the signatures' (RFC 9580 section 7.1).

    Without a header only version 6 signatures may stand: for older ones none means MD5 (RFC 4880 section 7).
    """
    signatures = tuple(signatures)
    used = {signature.hash.name for signature in signatures}
    only_v6 = all(signature.version == 6 for signature in signatures)  # noqa: PLR2004 - the packet version
    if signatures and names != used and (names or not only_v6):
        raise VerificationError(Finding(FindingCode.BAD_FRAMING, HASH_MISMATCH_WORDS))


def _check_signature(
    signature: Signature | Finding, text: bytes, keyring: Keyring, *, kind: int = SignatureType.TEXT
) -> GoodSignature | Finding:
    if isinstance(signature, Finding):
        return signature
    refusal = _refusal(signature, kind)
    if refusal is not None:
        return refusal
    # The keys that every hint at the issuer names.
    key_id = signature.key_ids[0] if signature.key_ids else key_id_of(signature.fingerprints[0])
    candidates = [found for found in keyring.find(key_id) if signature.names(found[1].fingerprint)]
    signing = _find_signing_key(signature, text, candidates)
    return signing if isinstance(signing, Finding) else _attribute(signature, signing, candidates)


def _refusal(signature: Signature, kind: int) -> Finding | None:
    """Return why a data signature counts for nothing, before looking for its key. Only the type `kind` is wanted."""
    if signature.hash_id not in STRONG_HASHES:
        return Finding(FindingCode.WEAK_HASH, HASH_MISMATCH_WORDS)
    if signature.problem is not None:
        return signature.problem
    if signature.created is None:
        return Finding(FindingCode.UNSUPPORTED, "openpgp: invalid data: no creation time in signature")
    if not signature.fingerprints and not signature.key_ids:
        return Finding(FindingCode.UNKNOWN_KEY, "openpgp: invalid data: signature doesn't have an issuer")
    if signature.type != kind:
        words = f"openpgp: unsupported feature: unsupported signature type: {signature.type}"
        return Finding(FindingCode.UNSUPPORTED, words)
    return None


def _find_signing_key(
    signature: Signature, text: bytes, candidates: list[tuple[Certificate, OpenPgpKey]]
) -> OpenPgpKey | Finding:
    """Return the key that made the signature, or why none of the candidates did."""
    finding = UNKNOWN_ENTITY
    unique = {key.fingerprint: key for _, key in candidates}
    for key in list(unique.values())[:_MAX_CANDIDATES]:
        if key.weakness is not None:
            finding = key.weakness
        elif not key.is_long_enough(signature):
            words = f"openpgp: {signature.hash.name} is too short for this {key.algorithm_name} key"
            finding = Finding(FindingCode.WEAK_HASH, words)
        elif key.verifies(signature, text):
            return key
        else:
            words = f"openpgp: invalid signature: {key.algorithm_name} verification failure"
            finding = Finding(FindingCode.BAD_SIGNATURE, words)
    return finding


def _attribute(
    signature: Signature, key: OpenPgpKey, candidates: list[tuple[Certificate, OpenPgpKey]]
) -> GoodSignature | Finding:
    """Find the one certificate that speaks for the key. A certificate may hold another's subkey without right."""
    held = {
        certificate.fingerprint: status
        for certificate, found in candidates
        if found.fingerprint == key.fingerprint and (status := certificate.status(key.fingerprint)) is not None
    }
    owners = [fingerprint for fingerprint, status in held.items() if status.attributable]
    if not owners:
        faults = (status.fault for status in held.values() if status.fault is not None)
        return next(faults, UNKNOWN_ENTITY)
    if len(owners) > 1:
        return bad_certificate("the key belongs to several certificates")
    if signature.critical_notation is not None:
        words = f"openpgp: invalid signature: unknown critical notation: {signature.critical_notation}"
        return Finding(FindingCode.UNSUPPORTED, words)
    created, expires = _time(signature.created or 0), signature.expires
    return GoodSignature(
        owners[0],
        key.fingerprint,
        created,
        None if expires is None else _time(expires),
        signature.hash.name,
        frozenset(signature.purposes),
    )


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def judge_signature(  # noqa: PLR0917 - a claim's fields, in its order
    certificate: str, key: str, created: datetime | None, expires: datetime | None, keyring: Keyring, now: datetime
) -> Finding | None:
    """Return why a verified signature does not count at `now`, or None when it does.

    Args:
        certificate: The primary fingerprint, in upper-case hex.
        key: The fingerprint of the key that made the signature.
        created: The signature's creation time; without one it never counts.
        expires: When the signature expires, None for never.
        keyring: The certificates that are trusted now; they may be others than those that verified the signature.
        now: Aware.
    """
    status = keyring.status(certificate, key)
    return UNKNOWN_ENTITY if status is None or created is None else status.judge(created, expires, now)


def turning_points(
    certificate: str, key: str, created: datetime | None, expires: datetime | None, keyring: Keyring
) -> tuple[float, ...]:
    """Return every time (seconds since the epoch) at which `judge_signature` may come to say something else.

    Between two neighbouring times, and from one of them on, it always says the same.
    """
    status = keyring.status(certificate, key)
    return () if status is None or created is None else status.turning_points(created, expires)
