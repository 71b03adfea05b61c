"""The packets of certificates: reading them from files, and merging copies of one certificate (RFC 9580 section 10.1).

Nothing is verified here. What the keys of a certificate are worth is found in `revoked_and_expired_keys`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import chain
from struct import pack
from typing import Final

from eclctl.dataclass import dataclass, field

from .armor import split_blocks
from .errors import CertificateError, PacketError
from .keys import OpenPgpKey, public_part
from .packets import Tag, read_packets

_KEY_BLOCKS: Final = frozenset({"PUBLIC KEY BLOCK", "PRIVATE KEY BLOCK"})
_PUBLIC_TAGS: Final = {Tag.SECRET_KEY: Tag.PUBLIC_KEY, Tag.SECRET_SUBKEY: Tag.PUBLIC_SUBKEY}


@dataclass(slots=True)
class Component:
    """A user ID or subkey with the bodies of the signature packets after it, in the order of the keyring."""

    body: bytes
    signatures: dict[bytes, None] = field(default_factory=dict)


@dataclass(slots=True)
class Material:
    """The packets of a certificate, merged from every copy of it that the keyring holds."""

    primary: OpenPgpKey
    direct: dict[bytes, None] = field(default_factory=dict)
    user_ids: dict[bytes, Component] = field(default_factory=dict)
    subkeys: dict[bytes, Component] = field(default_factory=dict)

    @property
    def digest(self) -> bytes:
        """The hash of everything that it consists of, in an order of its own, each part behind its length."""
        parts = list(chain.from_iterable(sorted(self._leaves())))
        return hashlib.sha256(pack(f">{len(parts) + 1}Q", len(parts), *map(len, parts)) + b"".join(parts)).digest()

    def _leaves(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield everything it consists of as (kind, component, signature)."""
        yield b"key", self.primary.prefix, b""
        yield from ((b"direct", b"", signature) for signature in self.direct)
        for kind, components in ((b"uid", self.user_ids), (b"subkey", self.subkeys)):
            for component in components.values():
                yield kind, component.body, b""
                yield from ((kind, component.body, signature) for signature in component.signatures)

    def merged(self, more: Material) -> Material:
        """Return it with the signatures and user IDs of another copy, and no key that it does not have."""
        known = {body: each for body, each in more.subkeys.items() if body in self.subkeys}
        return Material(
            self.primary,
            {**self.direct, **more.direct},
            _merged_components(self.user_ids, more.user_ids),
            _merged_components(self.subkeys, known),
        )


def _merged_components(own: dict[bytes, Component], more: dict[bytes, Component]) -> dict[bytes, Component]:
    merged = {}
    for body in {**own, **more}:
        both = [each[body].signatures for each in (own, more) if body in each]
        merged[body] = Component(body, {signature: None for each in both for signature in each})
    return merged


def read_certificates(blob: bytes, materials: dict[str, Material], secret: set[str]) -> None:
    """Add the certificates of a file to `materials`, by primary fingerprint, to what is there of each.

    Args:
        blob: Armored (any number of blocks) or binary.
        materials: Certificates that are broken or of an unknown version are left out.
        secret: Gets the primary fingerprints of those whose private keys are in the file.

    Raises:
        CertificateError: The file is damaged as a whole, or holds no certificate.
    """
    try:
        count = sum(_read_packets(data, materials, secret) for data in _dearmor(blob))
    except PacketError as error:
        raise CertificateError(f"the keyring is damaged: {error}") from error
    if not count:
        raise CertificateError("no OpenPGP certificate found")


def _dearmor(blob: bytes) -> list[bytes]:
    if blob[:1] >= b"\x80":
        return [blob]
    return [data for kind, data in split_blocks(blob) if kind in _KEY_BLOCKS]


def _public_body(body: bytes) -> bytes:
    try:
        return public_part(body)
    except PacketError:
        # An empty body is a key that cannot be read: what follows belongs to it, and is passed over.
        return b""


def _read_packets(data: bytes, materials: dict[str, Material], secret: set[str]) -> int:
    """Sort the packets of one binary keyring into certificates; return how many there were."""
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
        primary = OpenPgpKey.parse(body)
    except PacketError:
        return None
    return materials.setdefault(primary.fingerprint, Material(primary))
