"""OpenPGP certificates: which of their keys may sign data, in whose name, and when (RFC 9580 sections 5.2.3.10, 10.1).

Reading splits a keyring into certificates and computes fingerprints, nothing more. On first use a certificate is
assessed once, for all times: its self-signatures, bindings and revocations are verified, and for each of its keys
a `KeyStatus` says from when until when it counts, or why it never does. Judging at a given time is then a few
comparisons.

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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from eclctl.terms import Finding

from .algorithms import STRONG_HASHES
from .errors import KEY_REVOKED, NOT_A_SIGNING_KEY, PacketError, UnknownHashError, bad_certificate
from .keys import PublicKey
from .signature import Signature, SignatureType

__all__ = ["Certificate", "Component", "FindKeys", "KeyStatus", "Material", "user_id_prefix"]

_MAX_SIGNATURES: Final = 1024
"""Signatures of one certificate that may need verifying; a certificate with more is not looked at."""

_SIGN: Final = 0x02
_CRITICAL_NOTATION: Final = bad_certificate("a self-signature has an unknown critical notation")

FindKeys = Callable[[bytes], Iterable[PublicKey]]
"""Finds the keys of the keyring that have a key ID."""


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """What a key of a certificate is worth, at all times. Times are seconds since 1970.

    `attributable` is true when the certificate provably speaks for the key, and lets it sign. `fault` is why the key
    never counts. It counts from `valid_from`, when its primary key was made, until before `valid_until`; the
    self-signatures that say so hold from `vouched_from` until before `vouched_until`. None is for ever. `created` is
    when the key itself was made: what it signed is no older.
    """

    key: PublicKey
    attributable: bool = False
    fault: Finding | None = None
    created: int = 0
    valid_from: int = 0
    valid_until: int | None = None
    vouched_from: int = 0
    vouched_until: int | None = None


@dataclass(slots=True)
class Component:
    """A user ID or subkey with the bodies of the signature packets after it, in the order of the keyring."""

    body: bytes
    signatures: dict[bytes, None] = field(default_factory=dict)


@dataclass(slots=True)
class Material:
    """The packets of a certificate, merged from every copy of it that the keyring holds."""

    primary: PublicKey
    direct: dict[bytes, None] = field(default_factory=dict)
    user_ids: dict[bytes, Component] = field(default_factory=dict)
    subkeys: dict[bytes, Component] = field(default_factory=dict)

    def leaves(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield everything it consists of as (kind, component, signature)."""
        yield b"key", self.primary.prefix, b""
        yield from ((b"direct", b"", signature) for signature in self.direct)
        for kind, components in ((b"uid", self.user_ids), (b"subkey", self.subkeys)):
            for component in components.values():
                yield kind, component.body, b""
                yield from ((kind, component.body, signature) for signature in component.signatures)


@dataclass(frozen=True, slots=True)
class _Identity:
    """The self-signature that speaks for the whole certificate, and the user ID it is about (None for V6)."""

    signature: Signature
    user_id: bytes | None


@dataclass(frozen=True, slots=True)
class _Assessment:
    keys: Mapping[str, KeyStatus]
    user_id: bytes | None


class Certificate:
    """A primary key, its user IDs and subkeys. Assessed on first use; the result is kept."""

    def __init__(self, material: Material, find_keys: FindKeys) -> None:
        self._material = material
        self._find_keys = find_keys
        self._subkeys = tuple(_parse_subkeys(material)) if material.subkeys else ()

    @property
    def fingerprint(self) -> str:
        """The primary key's fingerprint in upper-case hex."""
        return self._material.primary.fingerprint

    @property
    def material(self) -> Material:
        """The packets that it was read from. To change them is to change the certificate."""
        return self._material

    @property
    def primary(self) -> PublicKey:
        """The primary key."""
        return self._material.primary

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """The primary key and every subkey that can be read, whether anything binds it or not."""
        return (self.primary, *[key for key, _ in self._subkeys])

    @property
    def name(self) -> str:
        """The user ID that the certificate vouches for, else the first one there is. Unescaped; callers escape."""
        user_id = self._assessed.user_id or next(iter(self._material.user_ids), b"")
        return user_id.decode("utf-8", "replace")

    @property
    def materials(self) -> frozenset[str]:
        """`sha256:<hex>` over the DER SubjectPublicKeyInfo of the primary key and each subkey that has one."""
        return frozenset(filter(None, [key.spki_digest for key in self.keys]))

    def status(self, fingerprint: str) -> KeyStatus | None:
        """Return what one of this certificate's keys is worth, or None when it has no such key."""
        return self._assessed.keys.get(fingerprint)

    @cached_property
    def _assessed(self) -> _Assessment:
        return _Assessor(self._material, self._subkeys, self._find_keys).assess()


def _parse_subkeys(material: Material) -> Iterator[tuple[PublicKey, Component]]:
    for component in material.subkeys.values():
        try:
            key = PublicKey.parse(component.body)
        except PacketError:
            continue
        if key.version == material.primary.version:
            yield key, component


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


def _newest(signatures: Iterable[Signature]) -> list[Signature]:
    """Sort, newest first; of one second the order of their octets decides, so that a ring's order does not."""

    def age(signature: Signature) -> tuple[int, bytes, bytes]:
        return signature.created or 0, signature.trailer, signature.fields

    return sorted(signatures, key=age, reverse=True)


def _earliest(*times: int | None) -> int | None:
    return min((time for time in times if time is not None), default=None)


def user_id_prefix(user_id: bytes) -> bytes:
    """Return what stands for a user ID in signed content (RFC 9580 section 5.2.4)."""
    return b"\xb4" + len(user_id).to_bytes(4) + user_id


class _Assessor:
    """Assesses one certificate."""

    def __init__(self, material: Material, subkeys: Iterable[tuple[PublicKey, Component]], find_keys: FindKeys) -> None:
        self._material = material
        self._primary = material.primary
        self._subkeys = tuple(subkeys)
        self._find_keys = find_keys
        self._fault = bad_certificate("its certificate has no self-signature")
        self._count = 0

    def assess(self) -> _Assessment:
        assessment = self._assess()
        if self._count <= _MAX_SIGNATURES:
            return assessment
        fault = bad_certificate(f"its certificate has more than {_MAX_SIGNATURES} signatures to verify")
        return _Assessment({name: KeyStatus(status.key, fault=fault) for name, status in assessment.keys.items()}, None)

    def _assess(self) -> _Assessment:
        identity = self._identity()
        revoked = self._is_revoked(identity)
        if identity is None:
            fault = self._primary.weakness or (KEY_REVOKED if revoked else self._fault)
            keys = (self._primary, *(key for key, _ in self._subkeys))
            return _Assessment({key.fingerprint: KeyStatus(key, fault=fault) for key in keys}, None)
        base = self._base(identity)
        if identity.signature.critical_notation is not None:
            base = replace(base, fault=_CRITICAL_NOTATION)
        subkeys = [self._subkey_status(base, key, component) for key, component in self._subkeys]
        statuses = [self._primary_status(base, identity), *subkeys]
        if revoked:
            statuses = [replace(status, fault=KEY_REVOKED) for status in statuses]
        # Reversed, so that the primary key stays itself when something lists it as a subkey too.
        return _Assessment({status.key.fingerprint: status for status in reversed(statuses)}, identity.user_id)

    def _base(self, identity: _Identity) -> KeyStatus:
        """Return the status of the primary key; a subkey's can only be narrower."""
        signature, created = identity.signature, self._primary.created
        lifetime = signature.key_lifetime
        if lifetime is None:
            lifetime = self._direct_lifetime()
        return KeyStatus(
            self._primary,
            created=created,
            valid_from=created,
            valid_until=created + lifetime if lifetime else None,
            vouched_from=signature.created or 0,
            vouched_until=signature.expires,
        )

    def _direct_lifetime(self) -> int | None:
        direct = next(self._valid(self._material.direct, {SignatureType.DIRECT_KEY}, b""), None)
        return None if direct is None else direct.key_lifetime

    def _primary_status(self, base: KeyStatus, identity: _Identity) -> KeyStatus:
        flags = identity.signature.flags
        if flags is None or not flags & _SIGN:
            return replace(base, fault=NOT_A_SIGNING_KEY)
        return replace(base, attributable=True)

    # Self-signatures

    def _valid(self, bodies: Iterable[bytes], types: Iterable[int], content: bytes) -> Iterator[Signature]:
        """Yield the primary key's own signatures of some types over itself and `content` that count, newest first."""
        key, wanted = self._primary, frozenset(types)
        claimed = (body for body in bodies if len(body) > 1 and body[1] in wanted and key.key_id in body)
        for signature in _newest(_parse_signatures(claimed)):
            if not signature.names(key.fingerprint, key.key_id):
                continue
            problem = _problem(signature)
            if problem is None and not self._verifies(key, signature, content):
                problem = "a self-signature does not verify"
            if problem is None:
                yield signature
            else:
                self._fault = bad_certificate(problem)

    def _verifies(self, key: PublicKey, signature: Signature, content: bytes) -> bool | None:
        self._count += 1
        if self._count > _MAX_SIGNATURES:
            return None
        return key.verifies(signature, self._primary.prefix, content)

    def _identity(self) -> _Identity | None:
        if self._primary.version == 6:  # noqa: PLR2004 - section 10.1.1: V6 is vouched for by a direct-key signature
            direct = next(self._valid(self._material.direct, {SignatureType.DIRECT_KEY}, b""), None)
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
        """Return whether a designated revoker (section 5.2.3.23) made this revocation; absent, they are believed."""
        for fingerprint in revokers:
            key_id = bytes.fromhex(fingerprint[-16:] if len(fingerprint) == 40 else fingerprint[:16])  # noqa: PLR2004
            if not signature.names(fingerprint, key_id):
                continue
            known = [key for key in self._find_keys(key_id) if key.fingerprint == fingerprint]
            if not known or self._verifies(known[0], signature, b"") is not False:
                return True
        return False

    # Subkeys

    def _subkey_status(self, base: KeyStatus, key: PublicKey, component: Component) -> KeyStatus:
        """Return what a subkey is worth (sections 5.2.1.8 and 5.2.3.34)."""
        status = replace(base, key=key)
        if key.weakness is not None:
            return replace(status, fault=key.weakness)
        binding = next(self._valid(component.signatures, {SignatureType.SUBKEY_BINDING}, key.prefix), None)
        if binding is None:
            return replace(status, fault=bad_certificate("its certificate has no valid binding for the subkey"))
        if binding.flags is None or not binding.flags & _SIGN:
            return replace(status, fault=NOT_A_SIGNING_KEY)
        back = self._back_signature(key, binding)
        if back is None:
            return replace(status, fault=bad_certificate("signing subkey is missing cross-signature"))
        if binding.critical_notation is not None or back.critical_notation is not None:
            return replace(status, fault=_CRITICAL_NOTATION)
        revoked = self._revokes(component.signatures, SignatureType.SUBKEY_REVOCATION, key.prefix)
        return replace(
            _narrow(status, key, binding, back), attributable=True, fault=KEY_REVOKED if revoked else status.fault
        )

    def _back_signature(self, key: PublicKey, binding: Signature) -> Signature | None:
        """Return the subkey's signature over its primary key, which the binding must embed exactly once."""
        if len(binding.embedded) != 1:
            return None
        for back in _parse_signatures(binding.embedded):
            named = back.names(key.fingerprint, key.key_id) or not (back.fingerprints or back.key_ids)
            if back.type == SignatureType.PRIMARY_BINDING and named and _problem(back) is None:
                return back if self._verifies(key, back, key.prefix) else None
        return None


def _narrow(status: KeyStatus, key: PublicKey, binding: Signature, back: Signature) -> KeyStatus:
    """Return the status of a subkey: valid while its primary key, its binding and its back-signature are."""
    lifetime = binding.key_lifetime
    return replace(
        status,
        created=key.created,
        valid_until=_earliest(status.valid_until, key.created + lifetime if lifetime else None),
        vouched_from=max(status.vouched_from, binding.created or 0, back.created or 0),
        vouched_until=_earliest(status.vouched_until, binding.expires, back.expires),
    )
