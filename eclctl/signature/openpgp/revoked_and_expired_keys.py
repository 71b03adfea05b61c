"""Which keys of a certificate are revoked, expired or not bound, and when the others count (RFC 9580 section 10.1).

A certificate is assessed once, for all times: its self-signatures, bindings and revocations are verified, and for each
of its keys a `KeyStatus` says from when until when it counts, or why it never does. Judging at a given time
(`KeyStatus.judge`) is then a few comparisons.

Strict where opinions differ:

- A self-signature or binding counts only under SHA-224/256/384/512, without unknown critical subpackets. Of several the
  newest counts, also one that is dated in the future (which then is not yet valid) or has a critical notation (which
  then refuses the key, as its demand is not known here).
- Key flags must allow signing explicitly; a signing subkey must have signed its primary key back.
- Any revocation of the primary key or the subkey that verifies, under any hash, for any reason and of
  any date, refuses the key for good, and so does one by a designated revoker. One that this build cannot verify
  counts too; one that does not verify is ignored.
- A version 4 certificate needs a user ID that a self-signature binds and nothing ever revoked, a version 6 certificate
  a direct-key signature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from eclctl.terms import Finding

from .algorithms import STRONG_HASHES
from .certificate import Component, Material
from .errors import (
    KEY_EXPIRED,
    KEY_NOT_YET_VALID,
    KEY_REVOKED,
    NOT_A_SIGNING_KEY,
    SIGNATURE_EXPIRED,
    SIGNATURE_FROM_FUTURE,
    PacketError,
    UnknownHashError,
    bad_certificate,
)
from .keys import OpenPgpKey
from .signature import Signature, SignatureType, key_id_of, user_id_prefix

_MAX_SIGNATURES: Final = 1024
"""Signatures of one certificate that may need verifying; a certificate with more is not looked at."""

_SIGN: Final = 0x02
_CRITICAL_NOTATION: Final = bad_certificate("a self-signature has an unknown critical notation")

FindKeys = Callable[[bytes], Iterable[OpenPgpKey]]
"""Finds the keys of the keyring that have a key ID."""


class KeyStatus(NamedTuple):
    """What a key of a certificate is worth, at all times. Times are seconds since 1970; None is for ever.

    attributable: the certificate provably speaks for the key, and lets it sign.
    fault: why the key never counts.
    created: when the key itself was made: what it signed is no older.
    valid_from, valid_until: it counts from when its primary key was made, until before the other time.
    vouched_from, vouched_until: when the self-signatures that say so hold, likewise.
    """

    key: OpenPgpKey
    attributable: bool = False
    fault: Finding | None = None
    created: int = 0
    valid_from: int = 0
    valid_until: int | None = None
    vouched_from: int = 0
    vouched_until: int | None = None

    def judge(self, created: datetime, expires: datetime | None, now: datetime) -> Finding | None:
        """Return why a signature of the key does not count at `now`, or None when it does.

        The key must be valid now, and must have been when it signed. The self-signatures must be valid now. They may be
        newer than the signature: keys are prolonged.

        Args:
            created: The signature's creation time.
            expires: When the signature expires, None for never.
            now: Aware.
        """
        if self.fault is not None:
            return self.fault
        seconds, signed = now.timestamp(), created.timestamp()
        if seconds < self.valid_from or signed < self.created:
            return KEY_NOT_YET_VALID
        if self.valid_until is not None and max(seconds, signed) >= self.valid_until:
            return KEY_EXPIRED
        ends = None if expires is None else expires.timestamp()
        for begin, end in ((self.vouched_from, self.vouched_until), (signed, ends)):
            if seconds < begin:
                return SIGNATURE_FROM_FUTURE
            if end is not None and seconds >= end:
                return SIGNATURE_EXPIRED
        return None

    def turning_points(self, created: datetime, expires: datetime | None) -> tuple[float, ...]:
        """Return every time (seconds since the epoch) at which `judge` may come to say something else."""
        times = (self.valid_from, self.valid_until, self.vouched_from, self.vouched_until, created.timestamp())
        ends = None if expires is None else expires.timestamp()
        return tuple(time for time in (*times, ends) if time is not None)


class Assessment(NamedTuple):
    """What a certificate is worth: each key by its fingerprint, and the user ID that it vouches for."""

    keys: Mapping[str, KeyStatus]
    user_id: bytes | None


class _Identity(NamedTuple):
    """The self-signature that speaks for the whole certificate, and the user ID it is about (None for V6)."""

    signature: Signature
    user_id: bytes | None


def assess(material: Material, subkeys: Sequence[tuple[OpenPgpKey, Component]], find_keys: FindKeys) -> Assessment:
    """Return what the keys of a certificate are worth.

    Args:
        material: Its packets.
        subkeys: The subkeys among them that can be read.
        find_keys: Where designated revokers are looked for.
    """
    return _Assessor(material, subkeys, find_keys).assess()


def _parse_signatures(bodies: Iterable[bytes]) -> Iterator[Signature]:
    for body in bodies:
        try:
            yield Signature.parse(body)
        except PacketError:
            continue


def _problem(signature: Signature) -> str | None:
    """Return why a self-signature may not be relied on, before verifying it."""
    if signature.hash_id not in STRONG_HASHES:
        return f"a self-signature is under {signature.hash.name}, which is too weak"
    if signature.created is None:
        return "a self-signature has no creation time"
    return None if signature.problem is None else signature.problem.message


def _age(signature: Signature) -> tuple[int, bytes, bytes]:
    """Of one second the order of their octets decides, so that a ring's order does not."""
    return signature.created or 0, signature.trailer, signature.fields


def _earliest(*times: int | None) -> int | None:
    return min((time for time in times if time is not None), default=None)


class _Assessor:
    """Assesses one certificate."""

    def __init__(
        self, material: Material, subkeys: Sequence[tuple[OpenPgpKey, Component]], find_keys: FindKeys
    ) -> None:
        self._material = material
        self._primary = material.primary
        self._subkeys = subkeys
        self._find_keys = find_keys
        self._fault = bad_certificate("its certificate has no self-signature")
        self._count = 0

    def assess(self) -> Assessment:
        assessment = self._assess()
        if self._count <= _MAX_SIGNATURES:
            return assessment
        fault = bad_certificate(f"its certificate has more than {_MAX_SIGNATURES} signatures to verify")
        return Assessment({name: KeyStatus(status.key, fault=fault) for name, status in assessment.keys.items()}, None)

    def _assess(self) -> Assessment:
        identity = self._identity()
        revoked = self._is_revoked(identity)
        if identity is None:
            fault = self._primary.weakness or (KEY_REVOKED if revoked else self._fault)
            keys = (self._primary, *(key for key, _ in self._subkeys))
            return Assessment({key.fingerprint: KeyStatus(key, fault=fault) for key in keys}, None)
        base = self._base(identity)
        if identity.signature.critical_notation is not None:
            base = base._replace(fault=_CRITICAL_NOTATION)
        subkeys = [self._subkey_status(base, key, component) for key, component in self._subkeys]
        may_sign = bool((identity.signature.flags or 0) & _SIGN)
        primary = base._replace(attributable=True) if may_sign else base._replace(fault=NOT_A_SIGNING_KEY)
        statuses = [primary, *subkeys]
        if revoked:
            statuses = [status._replace(fault=KEY_REVOKED) for status in statuses]
        # Reversed, so that the primary key stays itself when something lists it as a subkey too.
        return Assessment({status.key.fingerprint: status for status in reversed(statuses)}, identity.user_id)

    def _base(self, identity: _Identity) -> KeyStatus:
        """Return the status of the primary key; a subkey's can only be narrower."""
        signature, created = identity.signature, self._primary.created
        lifetime = signature.key_lifetime
        if lifetime is None and (direct := self._direct_key_signature()) is not None:
            lifetime = direct.key_lifetime
        return KeyStatus(
            self._primary,
            created=created,
            valid_from=created,
            valid_until=created + lifetime if lifetime else None,
            vouched_from=signature.created or 0,
            vouched_until=signature.expires,
        )

    def _direct_key_signature(self) -> Signature | None:
        return next(self._valid(self._material.direct, {SignatureType.DIRECT_KEY}, b""), None)

    # Self-signatures

    def _valid(self, bodies: Iterable[bytes], types: Iterable[int], content: bytes) -> Iterator[Signature]:
        """Yield the primary key's own signatures of some types over itself and `content` that count, newest first."""
        key, wanted = self._primary, frozenset(types)
        claimed = (body for body in bodies if len(body) > 1 and body[1] in wanted and key.key_id in body)
        for signature in sorted(_parse_signatures(claimed), key=_age, reverse=True):
            if not signature.names(key.fingerprint):
                continue
            problem = _problem(signature)
            if problem is None and not self._verifies(key, signature, content):
                problem = "a self-signature does not verify"
            if problem is None:
                yield signature
            else:
                self._fault = bad_certificate(problem)

    def _verifies(self, key: OpenPgpKey, signature: Signature, content: bytes) -> bool | None:
        self._count += 1
        if self._count > _MAX_SIGNATURES:
            return None
        return key.verifies(signature, self._primary.prefix, content)

    def _identity(self) -> _Identity | None:
        if self._primary.version == 6:  # noqa: PLR2004 - section 10.1.1: V6 is vouched for by a direct-key signature
            direct = self._direct_key_signature()
            named = next(self._bound_user_ids(), None)
            return None if direct is None else _Identity(direct, None if named is None else named.user_id)
        # As the reference chooses: those marked primary first, of those the newest.
        return max(
            self._bound_user_ids(),
            key=lambda found: (found.signature.primary, found.signature.created or 0, found.user_id or b""),
            default=None,
        )

    def _bound_user_ids(self) -> Iterator[_Identity]:
        """Yield the user IDs that a self-signature binds and nothing revokes, each with the newest that does."""
        for user_id, component in self._material.user_ids.items():
            content = user_id_prefix(user_id)
            signature = next(self._valid(component.signatures, SignatureType.CERTIFICATIONS, content), None)
            if signature is None:
                continue
            if self._revokes(component.signatures, SignatureType.CERTIFICATION_REVOCATION, content):
                self._fault = KEY_REVOKED
                continue
            yield _Identity(signature, user_id)

    # Revocations

    def _revokes(self, bodies: Iterable[bytes], kind: int, content: bytes) -> bool:
        """Return whether the primary key revoked something; a revocation that cannot be verified here counts."""
        return any(self._is_by_primary(body, content) for body in bodies if len(body) > 1 and body[1] == kind)

    def _is_by_primary(self, body: bytes, content: bytes) -> bool:
        try:
            signature = Signature.parse(body)
        except UnknownHashError:
            return True
        except PacketError:
            return False
        return self._verifies(self._primary, signature, content) is not False

    def _is_revoked(self, identity: _Identity | None) -> bool:
        if self._revokes(self._material.direct, SignatureType.KEY_REVOCATION, b""):
            return True
        revokers = set() if identity is None else {*identity.signature.revokers, *self._direct_revokers()}
        return bool(revokers) and any(
            self._revoked_by(signature, revokers)
            for signature in _parse_signatures(self._material.direct)
            if signature.type == SignatureType.KEY_REVOCATION
        )

    def _direct_revokers(self) -> Iterator[str]:
        """Yield who may revoke this key, also by direct-key signatures that may not be relied on for anything else."""
        for signature in _parse_signatures(self._material.direct):
            names_some = signature.type == SignatureType.DIRECT_KEY and signature.revokers
            if names_some and self._verifies(self._primary, signature, b"") is not False:
                yield from signature.revokers

    def _revoked_by(self, signature: Signature, revokers: set[str]) -> bool:
        """Return whether a designated revoker (section 5.2.3.23) made this revocation; an absent one is trusted."""
        for fingerprint in revokers:
            if not signature.names(fingerprint):
                continue
            known = [key for key in self._find_keys(key_id_of(fingerprint)) if key.fingerprint == fingerprint]
            if not known or self._verifies(known[0], signature, b"") is not False:
                return True
        return False

    # Subkeys

    def _subkey_status(self, base: KeyStatus, key: OpenPgpKey, component: Component) -> KeyStatus:
        """Return what a subkey is worth (sections 5.2.1.8 and 5.2.3.34)."""
        status = base._replace(key=key)
        if key.weakness is not None:
            return status._replace(fault=key.weakness)
        binding = next(self._valid(component.signatures, {SignatureType.SUBKEY_BINDING}, key.prefix), None)
        if binding is None:
            return status._replace(fault=bad_certificate("its certificate has no valid binding for the subkey"))
        if not (binding.flags or 0) & _SIGN:
            return status._replace(fault=NOT_A_SIGNING_KEY)
        back = self._back_signature(key, binding)
        if back is None:
            return status._replace(fault=bad_certificate("signing subkey is missing cross-signature"))
        if binding.critical_notation is not None or back.critical_notation is not None:
            return status._replace(fault=_CRITICAL_NOTATION)
        revoked = self._revokes(component.signatures, SignatureType.SUBKEY_REVOCATION, key.prefix)
        # Valid while its primary key, its binding and its back-signature are.
        lifetime = binding.key_lifetime
        return status._replace(
            attributable=True,
            fault=KEY_REVOKED if revoked else status.fault,
            created=key.created,
            valid_until=_earliest(status.valid_until, key.created + lifetime if lifetime else None),
            vouched_from=max(status.vouched_from, binding.created or 0, back.created or 0),
            vouched_until=_earliest(status.vouched_until, binding.expires, back.expires),
        )

    def _back_signature(self, key: OpenPgpKey, binding: Signature) -> Signature | None:
        """Return the subkey's signature over its primary key, which the binding must embed exactly once."""
        if len(binding.embedded) != 1:
            return None
        for back in _parse_signatures(binding.embedded):
            named = back.names(key.fingerprint) or not (back.fingerprints or back.key_ids)
            if back.type == SignatureType.PRIMARY_BINDING and named and _problem(back) is None:
                return back if self._verifies(key, back, key.prefix) else None
        return None
