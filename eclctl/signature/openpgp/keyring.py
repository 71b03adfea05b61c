"""Keyrings: reading certificates, merging copies of one, finding keys by key ID."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from struct import pack
from typing import Final

from eclctl.terms import Finding

from .armor import split_blocks
from .certificate import Certificate, Component, KeyStatus, Material
from .errors import CertificateError, PacketError
from .keys import PublicKey, public_part
from .packets import Tag, read_packets

__all__ = ["Keyring"]

_PUBLIC_BLOCK: Final = "PUBLIC KEY BLOCK"
_PRIVATE_BLOCK: Final = "PRIVATE KEY BLOCK"
_PUBLIC_TAGS: Final = {Tag.SECRET_KEY: Tag.PUBLIC_KEY, Tag.SECRET_SUBKEY: Tag.PUBLIC_SUBKEY}


@dataclass(frozen=True, slots=True, eq=False)
class Keyring:
    """Certificates, indexed by fingerprint and key ID.

    `digest` is lower-case hex over everything that was read. It does not depend on order, on armor or on how often a
    certificate occurs: two keyrings with one digest verify and judge alike; two with one `facts` verify alike, and what
    one of them found out (`check`) can be judged with the other. `secret` are the primary fingerprints of
    those whose private keys were in a file too. Only their public parts are kept, but such a file is a mistake: its
    readers can sign in their names.
    """

    certificates: tuple[Certificate, ...]
    digest: str
    facts: str
    _by_fingerprint: dict[str, Certificate] = field(repr=False)
    _by_key_id: dict[bytes, list[tuple[str, PublicKey]]] = field(repr=False)
    secret: tuple[str, ...] = ()

    @classmethod
    def parse(cls, *blobs: bytes) -> Keyring:
        """Read certificates and index them. Nothing is verified yet; that happens once, on first use.

        Copies of a certificate are merged, so that a revocation in any of them counts. Certificates that are broken,
        weak or of an unknown version do not affect the others.

        Args:
            blobs: Files' contents: armored (any number of blocks) or binary.

        Raises:
            CertificateError: A file is damaged as a whole, or holds no certificate.
        """
        materials: dict[str, Material] = {}
        secret: set[str] = set()
        for blob in blobs:
            _read_blob(blob, materials, secret)
        return cls._of(materials, tuple(sorted(secret)))

    @classmethod
    def _of(cls, materials: dict[str, Material], secret: tuple[str, ...]) -> Keyring:
        # Holders by name: certificates that held each other would outlive their ring until the next great collection.
        by_key_id: dict[bytes, list[tuple[str, PublicKey]]] = {}

        def find_keys(key_id: bytes) -> Iterator[PublicKey]:
            return (key for _, key in by_key_id.get(key_id, ()))

        # Sorted, so that nothing depends on the order of the files.
        certificates = tuple(Certificate(materials[fingerprint], find_keys) for fingerprint in sorted(materials))
        for certificate in certificates:
            for key in certificate.keys:
                by_key_id.setdefault(key.key_id, []).append((certificate.fingerprint, key))
        by_fingerprint = {certificate.fingerprint: certificate for certificate in certificates}
        digest = hashlib.sha256(b"".join(sorted(map(_certificate_digest, materials.values())))).hexdigest()
        return cls(certificates, digest, digest, by_fingerprint, by_key_id, secret)

    def extended(self, more: Mapping[str, Material]) -> Keyring:
        """Return this keyring with more about certificates that it has, by their primary fingerprints.

        What others know (`signature.openpgp.proven`) changes what a key is worth at a time, and seldom who a signature
        is by: when it does not, `facts` stays.
        """
        more = {fingerprint: material for fingerprint, material in more.items() if fingerprint in self._by_fingerprint}
        if not more:
            return self
        materials = {certificate.fingerprint: certificate.material for certificate in self.certificates}
        ring = self._of(materials | {name: _merged(materials[name], new) for name, new in more.items()}, self.secret)
        same = all(_owned(self.get(name)) == _owned(ring.get(name)) for name in more)
        return replace(ring, facts=self.facts) if same else ring

    def get(self, fingerprint: str) -> Certificate | None:
        """Return the certificate with a primary fingerprint (upper-case hex), or None."""
        return self._by_fingerprint.get(fingerprint)

    def find(self, key_id: bytes) -> tuple[tuple[Certificate, PublicKey], ...]:
        """Return every primary key and subkey with a key ID (8 octets), with the certificate that holds it."""
        return tuple((self._by_fingerprint[name], key) for name, key in self._by_key_id.get(key_id, ()))

    def status(self, certificate: str, key: str) -> KeyStatus | None:
        """Return what a key of a certificate is worth, both given by fingerprint, or None when there is no such."""
        found = self._by_fingerprint.get(certificate)
        return None if found is None else found.status(key)


def _merged(own: Material, more: Material) -> Material:
    """Return a certificate with the signatures and user IDs of another copy, and no key that it does not have."""
    merged = Material(own.primary, {**own.direct, **more.direct})
    for ours, theirs, found in (
        (own.user_ids, more.user_ids, merged.user_ids),
        (own.subkeys, {body: each for body, each in more.subkeys.items() if body in own.subkeys}, merged.subkeys),
    ):
        for body in (*ours, *(body for body in theirs if body not in ours)):
            both = [each[body].signatures for each in (ours, theirs) if body in each]
            found[body] = Component(body, {signature: None for each in both for signature in each})
    return merged


def _owned(certificate: Certificate | None) -> list[tuple[str, bool, Finding | None]]:
    """Return who a signature would be by: which keys the certificate provably speaks for, and why not for others."""
    if certificate is None:
        return []
    statuses = [(key.fingerprint, certificate.status(key.fingerprint)) for key in certificate.keys]
    return [
        (name, status is not None and status.attributable, status.fault if status and not status.attributable else None)
        for name, status in statuses
    ]


def _certificate_digest(material: Material) -> bytes:
    """Hash everything that a certificate consists of, in an order of its own, each part behind its length."""
    parts = list(chain.from_iterable(sorted(material.leaves())))
    return hashlib.sha256(pack(f">{len(parts) + 1}Q", len(parts), *map(len, parts)) + b"".join(parts)).digest()


def _read_blob(blob: bytes, materials: dict[str, Material], secret: set[str]) -> None:
    try:
        count = sum(_read_certificates(data, materials, secret) for data in _dearmor(blob))
    except PacketError as error:
        raise CertificateError(f"the keyring is damaged: {error}") from error
    if not count:
        raise CertificateError("no OpenPGP certificate found")


def _dearmor(blob: bytes) -> Iterator[bytes]:
    if blob[:1] >= b"\x80":
        yield blob
        return
    for kind, data in split_blocks(blob):
        if kind in {_PUBLIC_BLOCK, _PRIVATE_BLOCK}:
            yield data


def _public_body(body: bytes) -> bytes:
    try:
        return public_part(body)
    except PacketError:
        # An empty body is a key that cannot be read: what follows belongs to it, and is passed over.
        return b""


def _read_certificates(data: bytes, materials: dict[str, Material], secret: set[str]) -> int:
    """Sort the packets of one binary keyring into certificates (section 10.1); return how many there were."""
    count = 0
    material: Material | None = None
    signatures: dict[bytes, None] | None = None
    for packet, content in read_packets(data):
        is_secret = packet in _PUBLIC_TAGS
        tag, body = (_PUBLIC_TAGS[packet], _public_body(content)) if is_secret else (packet, content)
        if tag == Tag.PUBLIC_KEY:
            count += 1
            material = _open(body, materials)
            signatures = None if material is None else material.direct
        elif tag == Tag.SIGNATURE and signatures is not None:
            signatures[body] = None
        elif tag == Tag.USER_ID and material is not None:
            signatures = material.user_ids.setdefault(body, Component(body)).signatures
        elif tag == Tag.PUBLIC_SUBKEY and material is not None:
            signatures = material.subkeys.setdefault(body, Component(body)).signatures
        elif tag == Tag.USER_ATTRIBUTE:
            signatures = None
        if is_secret and material is not None:
            secret.add(material.primary.fingerprint)
    return count


def _open(body: bytes, materials: dict[str, Material]) -> Material | None:
    try:
        primary = PublicKey.parse(body)
    except PacketError:
        return None
    return materials.setdefault(primary.fingerprint, Material(primary))
