"""Keyrings: their certificates, merged from every copy, and finding keys by key ID."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from eclctl.terms import Finding

from .certificate import Component, Material, read_certificates
from .errors import PacketError
from .keys import OpenPgpKey
from .revoked_and_expired_keys import Assessment, FindKeys, KeyStatus, assess


class Certificate:
    """A primary key, its user IDs and subkeys. Assessed on first use; the result is kept.

    material: the packets that it was read from. To change them is to change the certificate.
    primary: the primary key.
    fingerprint: the primary key's fingerprint in upper-case hex.
    """

    def __init__(self, material: Material, find_keys: FindKeys) -> None:
        self.material = material
        self.primary = material.primary
        self.fingerprint = material.primary.fingerprint
        self._find_keys = find_keys
        self._subkeys = tuple(_parse_subkeys(material)) if material.subkeys else ()

    @property
    def keys(self) -> tuple[OpenPgpKey, ...]:
        """The primary key and every subkey that can be read, whether anything binds it or not."""
        return (self.primary, *[key for key, _ in self._subkeys])

    @property
    def name(self) -> str:
        """The user ID that the certificate vouches for, else the first one there is. Unescaped; callers escape."""
        user_id = self._assessed.user_id or next(iter(self.material.user_ids), b"")
        return user_id.decode("utf-8", "replace")

    @property
    def materials(self) -> frozenset[str]:
        """`sha256:<hex>` over the DER SubjectPublicKeyInfo of the primary key and each subkey that has one."""
        return frozenset(filter(None, [key.spki_digest for key in self.keys]))

    def status(self, fingerprint: str) -> KeyStatus | None:
        """Return what one of this certificate's keys is worth, or None when it has no such key."""
        return self._assessed.keys.get(fingerprint)

    @cached_property
    def _assessed(self) -> Assessment:
        return assess(self.material, self._subkeys, self._find_keys)


def _parse_subkeys(material: Material) -> Iterator[tuple[OpenPgpKey, Component]]:
    for component in material.subkeys.values():
        try:
            key = OpenPgpKey.parse(component.body)
        except PacketError:
            continue
        if key.version == material.primary.version:
            yield key, component


class Keyring:
    """Certificates, indexed by fingerprint and key ID.

    certificates: sorted, so that nothing depends on the order of the files.
    digest: lower-case hex over everything that was read. It does not depend on order, on armor or on how often a
        certificate occurs: two keyrings with one digest verify and judge alike.
    facts: two keyrings with one of these verify alike, and what one of them found out (`check`) can be judged with the
        other.
    secret: the primary fingerprints of those whose private keys were in a file too. Only their public parts are kept,
        but such a file is a mistake: its readers can sign in their names.
    """

    def __init__(self, materials: dict[str, Material], secret: tuple[str, ...] = ()) -> None:
        # Holders by name: certificates that held each other would outlive their ring until the next great collection.
        by_key_id: dict[bytes, list[tuple[str, OpenPgpKey]]] = {}

        def find_keys(key_id: bytes) -> Iterable[OpenPgpKey]:
            return (key for _, key in by_key_id.get(key_id, ()))

        self.certificates = tuple(Certificate(materials[fingerprint], find_keys) for fingerprint in sorted(materials))
        for certificate in self.certificates:
            for key in certificate.keys:
                by_key_id.setdefault(key.key_id, []).append((certificate.fingerprint, key))
        self.digest = hashlib.sha256(b"".join(sorted(each.digest for each in materials.values()))).hexdigest()
        self.facts = self.digest
        self.secret = secret
        self._by_fingerprint = {certificate.fingerprint: certificate for certificate in self.certificates}
        self._by_key_id = by_key_id

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
            read_certificates(blob, materials, secret)
        return cls(materials, tuple(sorted(secret)))

    def extended(self, more: Mapping[str, Material]) -> Keyring:
        """Return this keyring with more about certificates that it has, by their primary fingerprints.

        What others know (`signature.openpgp.proven`) changes what a key is worth at a time, and seldom who a signature
        is by: when it does not, `facts` stays.
        """
        more = {fingerprint: material for fingerprint, material in more.items() if fingerprint in self._by_fingerprint}
        if not more:
            return self
        materials = {certificate.fingerprint: certificate.material for certificate in self.certificates}
        ring = Keyring(materials | {name: materials[name].merged(new) for name, new in more.items()}, self.secret)
        if all(_owned(self.get(name)) == _owned(ring.get(name)) for name in more):
            ring.facts = self.facts
        return ring

    def get(self, fingerprint: str) -> Certificate | None:
        """Return the certificate with a primary fingerprint (upper-case hex), or None."""
        return self._by_fingerprint.get(fingerprint)

    def find(self, key_id: bytes) -> tuple[tuple[Certificate, OpenPgpKey], ...]:
        """Return every primary key and subkey with a key ID (8 octets), with the certificate that holds it."""
        return tuple((self._by_fingerprint[name], key) for name, key in self._by_key_id.get(key_id, ()))

    def status(self, certificate: str, key: str) -> KeyStatus | None:
        """Return what a key of a certificate is worth, both given by fingerprint, or None when there is no such."""
        found = self._by_fingerprint.get(certificate)
        return None if found is None else found.status(key)


def _owned(certificate: Certificate | None) -> list[tuple[str, bool, Finding | None]]:
    """Return who a signature would be by: which keys the certificate provably speaks for, and why not for others."""
    if certificate is None:
        return []
    statuses = [(key.fingerprint, certificate.status(key.fingerprint)) for key in certificate.keys]
    return [
        (name, status is not None and status.attributable, status.fault if status and not status.attributable else None)
        for name, status in statuses
    ]
