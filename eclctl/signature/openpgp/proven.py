"""What of a certificate its own primary key vouches for: what may be taken from an untrusted sender.

A certificate that comes from a keyserver, or out of a file that others can add to, may hold anything: user IDs that
were never bound, signatures of strangers by the ten thousand, forged revocations. `proven` keeps what a
signature by the primary key itself, verified here, binds: user IDs, subkeys, and those signatures. Revocations too
count only when they verify, by the primary key or by a designated revoker whose key is at hand: otherwise a
keyserver could deny all containers. (In a site's own keyring one that cannot be verified counts: who can write there
decides anyway.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from .algorithms import STRONG_HASHES
from .certificate import Component, Material
from .errors import PacketError
from .keyring import Keyring
from .keys import OpenPgpKey
from .packets import Tag
from .signature import Signature, SignatureType, key_id_of, user_id_prefix

_MAX_KEPT: Final = 32
"""Signatures of one sort about one component, newest first. Of revocations one would do."""

_MAX_COMPONENTS: Final = 256
_MAX_VERIFIED: Final = 4096
"""Signatures of one certificate that are verified at all; the others count for nothing."""

_DIRECT: Final = frozenset({SignatureType.DIRECT_KEY, SignatureType.KEY_REVOCATION})
_USER_ID: Final = SignatureType.CERTIFICATIONS | {SignatureType.CERTIFICATION_REVOCATION}
_SUBKEY: Final = frozenset({SignatureType.SUBKEY_BINDING, SignatureType.SUBKEY_REVOCATION})
_REVOCATIONS: Final = frozenset(
    {SignatureType.KEY_REVOCATION, SignatureType.SUBKEY_REVOCATION, SignatureType.CERTIFICATION_REVOCATION}
)


class Proven(NamedTuple):
    """The part of a certificate that its primary key vouches for.

    `user_ids` counts the bound ones: others are there with what revokes them. `revoked` tells whether the key itself is
    revoked.
    """

    material: Material
    user_ids: int
    revoked: bool

    @property
    def fingerprint(self) -> str:
        """The primary fingerprint, upper-case hex."""
        return self.material.primary.fingerprint

    @property
    def packets(self) -> bytes:
        """The certificate, binary."""
        return serialize(self.material)


def proven(ring: Keyring, fingerprint: str, revokers: Keyring | None = None) -> Proven | None:
    """Return what a certificate's own primary key vouches for, None when the ring has no such certificate.

    Args:
        ring: Where the certificate is.
        fingerprint: Its primary fingerprint, upper-case hex.
        revokers: Where designated revokers are looked for; left out, no revocation by others is taken.
    """
    certificate = ring.get(fingerprint)
    return None if certificate is None else _Prover(certificate.material, revokers).prove()


def additions(ring: Keyring, answer: Keyring, fingerprint: str) -> Material | None:
    """Return what a certificate from elsewhere adds to the ring's own, None when there is nothing.

    Only a certificate that the ring has is added to, never a key: subkeys that the ring does not have are left out.
    User IDs may be new, for an owner who changes their name revokes the old one.

    Args:
        ring: The site's own, where designated revokers are looked for too.
        answer: What was sent.
        fingerprint: The certificate that is asked about.
    """
    own, copy = ring.get(fingerprint), answer.get(fingerprint)
    if own is None or copy is None:
        return None
    known = own.material
    new = Material(known.primary, _without(copy.material.direct, known.direct))
    new.user_ids = _news(copy.material.user_ids, known.user_ids)
    subkeys = {body: each for body, each in copy.material.subkeys.items() if body in known.subkeys}
    new.subkeys = _news(subkeys, known.subkeys)
    found = new if _is_empty(new) else _Prover(new, ring, known).prove().material
    return None if _is_empty(found) else found


def _is_empty(material: Material) -> bool:
    return not (material.direct or material.user_ids or material.subkeys)


def _news(components: dict[bytes, Component], known: dict[bytes, Component]) -> dict[bytes, Component]:
    """Return the components that have signatures which are not known, with these alone."""
    new = {}
    for body, component in components.items():
        if fresh := _without(component.signatures, known[body].signatures if body in known else {}):
            new[body] = Component(body, fresh)
    return new


def _without(signatures: dict[bytes, None], known: dict[bytes, None]) -> dict[bytes, None]:
    return {body: None for body in signatures if body not in known}


def updated(ring: Keyring, answer: Keyring) -> Keyring:
    """Return the ring with all that other copies of its certificates add; the ring itself when that is nothing."""
    found = ((each.fingerprint, additions(ring, answer, each.fingerprint)) for each in answer.certificates)
    return ring.extended({fingerprint: new for fingerprint, new in found if new is not None})


def serialize(material: Material) -> bytes:
    """Return a certificate as binary packets, public ones alone, in the order of RFC 9580 section 10.1."""
    packets = [(Tag.PUBLIC_KEY, material.primary.body), *((Tag.SIGNATURE, body) for body in material.direct)]
    for tag, components in ((Tag.USER_ID, material.user_ids), (Tag.PUBLIC_SUBKEY, material.subkeys)):
        for component in components.values():
            packets += [(tag, component.body), *((Tag.SIGNATURE, body) for body in component.signatures)]
    # In the OpenPGP format, with a length of five octets (sections 4.2 and 4.2.1.3).
    return b"".join(bytes((0xC0 | tag, 0xFF)) + len(body).to_bytes(4) + body for tag, body in packets)


class _Prover:
    """Verifies the signatures of one certificate. `own`, where given, is the copy that names who may revoke it."""

    def __init__(self, material: Material, revokers: Keyring | None, own: Material | None = None) -> None:
        self._material = material
        self._own = material if own is None else own
        self._primary = material.primary
        self._revokers = revokers
        self._verified = 0

    def prove(self) -> Proven:
        material, prefix = self._material, self._primary.prefix
        found = Material(self._primary)
        found.direct = self._kept(material.direct, _DIRECT, prefix)
        found.user_ids = dict(self._components(material.user_ids, _USER_ID, lambda body: prefix + user_id_prefix(body)))
        found.subkeys = dict(self._components(material.subkeys, _SUBKEY, self._subkey_content))
        found.direct |= self._by_revokers(found)
        revoked = any(body[1] == SignatureType.KEY_REVOCATION for body in found.direct)
        signed = [{body[1] for body in each.signatures} for each in found.user_ids.values()]
        return Proven(found, sum(not types.isdisjoint(SignatureType.CERTIFICATIONS) for types in signed), revoked)

    def _components(
        self, components: Mapping[bytes, Component], types: frozenset[int], content: Callable[[bytes], bytes | None]
    ) -> Iterator[tuple[bytes, Component]]:
        """Yield the components that signatures of the primary key are about, with these signatures alone."""
        left = _MAX_COMPONENTS
        for body, component in components.items():
            signed = content(body) if left else None
            kept = {} if signed is None else self._kept(component.signatures, types, signed)
            if kept:
                left -= 1
                yield body, Component(body, kept)

    def _subkey_content(self, body: bytes) -> bytes | None:
        try:
            key = OpenPgpKey.parse(body)
        except PacketError:
            return None
        return self._primary.prefix + key.prefix if key.version == self._primary.version else None

    def _kept(self, bodies: Iterable[bytes], types: frozenset[int], content: bytes) -> dict[bytes, None]:
        """Return the primary key's own signatures of some types over `content`, newest first, of each sort a few."""
        found: list[tuple[int, bytes]] = []
        for body in bodies:
            signature = self._own_signature(body, types, content)
            if signature is not None:
                found.append((signature.created or 0, body))
        bodies = [body for _, body in sorted(found, reverse=True)]
        revocations = [body for body in bodies if body[1] in _REVOCATIONS]
        others = [body for body in bodies if body[1] not in _REVOCATIONS]
        return dict.fromkeys((*revocations[:_MAX_KEPT], *others[:_MAX_KEPT]))

    def _own_signature(self, body: bytes, types: frozenset[int], content: bytes) -> Signature | None:
        """Return a signature if the primary key made it; one that cannot be relied on only when it revokes."""
        if len(body) < 2 or body[1] not in types or self._primary.key_id not in body:  # noqa: PLR2004 - version, type
            return None
        try:
            signature = Signature.parse(body)
        except PacketError:
            return None
        # A `problem` is also that the owner wants it to stay at home (section 5.2.3.19).
        poor = signature.hash_id not in STRONG_HASHES or signature.problem is not None
        if (poor and signature.type not in _REVOCATIONS) or not signature.names(self._primary.fingerprint):
            return None
        return signature if self._verifies(self._primary, signature, content) else None

    def _verifies(self, key: OpenPgpKey, signature: Signature, content: bytes) -> bool:
        self._verified += 1
        return self._verified <= _MAX_VERIFIED and key.verifies(signature, content) is True

    def _by_revokers(self, found: Material) -> dict[bytes, None]:
        """Return the revocations of the key by designated revokers whose keys are at hand (section 5.2.3.23)."""
        foreign = [
            body
            for body in self._material.direct
            if len(body) > 1 and body[1] == SignatureType.KEY_REVOCATION and body not in found.direct
        ]
        ring = self._revokers
        named = self._named() if foreign and ring is not None else set()
        kept: dict[bytes, None] = {}
        for body in foreign if named else ():
            try:
                signature = Signature.parse(body)
            except PacketError:
                continue
            if ring is not None and len(kept) < _MAX_KEPT and self._made_by(signature, named, ring):
                kept[body] = None
        return kept

    def _named(self) -> set[str]:
        """Return who may revoke the key, as its own signatures say."""
        own, prefix = self._own, self._primary.prefix
        signatures = [self._own_signature(body, _DIRECT, prefix) for body in own.direct]
        for body, component in own.user_ids.items():
            content = prefix + user_id_prefix(body)
            signatures += [self._own_signature(each, _USER_ID, content) for each in component.signatures]
        return {revoker for each in signatures if each is not None for revoker in each.revokers}

    def _made_by(self, signature: Signature, named: set[str], ring: Keyring) -> bool:
        for fingerprint in named:
            found = ring.find(key_id_of(fingerprint))
            known = next((key for _, key in found if key.fingerprint == fingerprint), None)
            if known is not None and signature.names(fingerprint):
                return self._verifies(known, signature, self._primary.prefix)
        return False
