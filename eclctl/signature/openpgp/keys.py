"""Public-key packets, versions 4 and 6: RFC 9580 sections 5.5.2 to 5.5.4, and verifying with them."""

from __future__ import annotations

import hashlib
from functools import cached_property

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from eclctl.dataclass import dataclass
from eclctl.terms import Finding

from .algorithms import Verifier, WeakKeyError, digest, load_verifier
from .errors import FindingCode, PacketError
from .packets import read_mpis
from .signature import Signature

_NUMBERS = {1: 2, 2: 2, 3: 2, 16: 3, 17: 4}
"""How many numbers the public fields of RSA, Elgamal and DSA keys have."""

_CURVE_KEYS = {18: True, 19: False, 22: False}
"""ECDH, ECDSA and EdDSALegacy: a curve, a point, and for ECDH the parameters of its KDF."""

_OCTETS = {25: 32, 26: 56, 27: 32, 28: 57}
"""X25519, X448, Ed25519, Ed448: octets as they are."""


@dataclass(frozen=True)
class OpenPgpKey:
    """A public key or subkey. Times are seconds since 1970. Without slots, for what is computed on first use.

    `fingerprint` is upper-case hex (40 digits for V4, 64 for V6); `prefix` what stands for this key in signed content.
    """

    version: int
    created: int
    algorithm: int
    fingerprint: str
    key_id: bytes
    prefix: bytes
    material: bytes

    @classmethod
    def parse(cls, body: bytes) -> OpenPgpKey:
        """Read the body of a public-key or public-subkey packet.

        Raises:
            PacketError: The packet is malformed, or of another version than 4 and 6.
        """
        version = body[0] if body else 0
        if version == 4 and len(body) > 6:  # noqa: PLR2004 - the packet version and its fixed part
            prefix = b"\x99" + len(body).to_bytes(2) + body if len(body) < 1 << 16 else b""
            raw, material = hashlib.sha1(prefix, usedforsecurity=False).digest(), body[6:]
            key_id = raw[-8:]
        elif version == 6 and int.from_bytes(body[6:10]) == len(body) - 10:  # noqa: PLR2004
            prefix = b"\x9b" + len(body).to_bytes(4) + body
            raw, material = hashlib.sha256(prefix).digest(), body[10:]
            key_id = raw[:8]
        else:
            raise PacketError("a public key packet is malformed or of an unknown version")
        if not prefix:
            raise PacketError("a public key packet is too long")
        return cls(version, int.from_bytes(body[1:5]), body[5], raw.hex().upper(), key_id, prefix, material)

    @property
    def body(self) -> bytes:
        """The body of the packet that it was read from."""
        return self.prefix[3 if self.version == 4 else 5 :]  # noqa: PLR2004 - what `parse` put before it

    @cached_property
    def _loaded(self) -> Verifier | Finding:
        return self._load()

    def _load(self) -> Verifier | Finding:
        if self.version == 6 and self.algorithm == 22:  # noqa: PLR2004 - RFC 9580 section 5.5.5.5: V4 only
            return Finding(FindingCode.UNSUPPORTED, "openpgp: unsupported feature: EdDSALegacy in a version 6 key")
        try:
            return load_verifier(self.algorithm, self.material)
        except WeakKeyError as error:
            return error.finding
        except PacketError as error:
            return Finding(FindingCode.UNSUPPORTED, f"openpgp: invalid data: {error}")

    @property
    def weakness(self) -> Finding | None:
        """Why this key verifies nothing, or None: too weak, deprecated, unknown, malformed."""
        return self._loaded if isinstance(self._loaded, Finding) else None

    @property
    def algorithm_name(self) -> str:
        """The algorithm in the reference's words."""
        return str(self.algorithm) if isinstance(self._loaded, Finding) else self._loaded.name

    def is_long_enough(self, signature: Signature) -> bool:
        """Return whether the digest has the length that RFC 9580 section 5.2.3 requires for this kind of key."""
        return not isinstance(self._loaded, Finding) and signature.hash.size >= self._loaded.min_digest

    def verifies(self, signature: Signature, *content: bytes) -> bool | None:
        """Return whether this key made `signature` over `content`; None when that cannot be told here.

        None is for a key or a hash that this build does not verify with. Callers decide what it means: no more than
        False for what grants, but for what revokes no less than True.
        """
        loaded = self._loaded
        if isinstance(loaded, Finding):
            return None
        if signature.algorithm != self.algorithm or signature.version != self.version:
            return False
        hashed = digest(signature.hash, signature.salt, *content, signature.trailer)
        if signature.version == 6 and hashed[:2] != signature.left16:  # noqa: PLR2004 - as in the reference
            return False
        try:
            loaded.verify(signature.fields, hashed, signature.hash)
        except UnsupportedAlgorithm:
            return None
        except (InvalidSignature, PacketError, ValueError):
            return False
        return True

    @property
    def spki_digest(self) -> str | None:
        """`sha256:<hex>` over the DER SubjectPublicKeyInfo, or None when there is none for this key."""
        loaded = self._load()  # and not kept: every key of a large keyring is asked for this, and few ever verify
        return None if isinstance(loaded, Finding) else "sha256:" + hashlib.sha256(loaded.spki()).hexdigest()


def public_part(body: bytes) -> bytes:
    """Return the public-key packet that a secret-key packet begins with (RFC 9580 section 5.5.3).

    Raises:
        PacketError: The packet is truncated, or of a version or algorithm whose public fields have no known end.
    """
    if body[:1] == b"\x06":
        end = 10 + int.from_bytes(body[6:10])
    elif body[:1] == b"\x04" and len(body) > 6:  # noqa: PLR2004 - the packet version and its fixed part
        end = len(body) - len(_after_public_fields(body[5], body[6:]))
    else:
        raise PacketError("a secret key packet is malformed or of an unknown version")
    if end > len(body):
        raise PacketError("a secret key packet is truncated")
    return body[:end]


def _after_public_fields(algorithm: int, material: bytes) -> bytes:
    """Return what follows the public fields (section 5.5.5)."""
    if algorithm in _NUMBERS:
        return read_mpis(material, _NUMBERS[algorithm])[1]
    if algorithm in _OCTETS and len(material) >= _OCTETS[algorithm]:
        return material[_OCTETS[algorithm] :]
    if algorithm not in _CURVE_KEYS:
        raise PacketError("a secret key of an unknown algorithm, or truncated")
    rest = read_mpis(material[1 + material[0] :], 1)[1]
    if not _CURVE_KEYS[algorithm]:
        return rest
    if not rest or len(rest) <= rest[0]:
        raise PacketError("a secret key packet is truncated")
    return rest[1 + rest[0] :]
