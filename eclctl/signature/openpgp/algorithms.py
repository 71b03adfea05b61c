"""Hash and public-key algorithms: RFC 9580 sections 9.1 and 9.5, on top of `cryptography`.

Keys that are too weak and algorithms that are deprecated have no verifier here, so nothing can verify with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from eclctl.terms import Finding

from .errors import FindingCode, PacketError
from .packets import read_mpis

_MIN_RSA_BITS: Final = 2048
_MAX_RSA_BITS: Final = 16384
_MAX_RSA_EXPONENT: Final = 1 << 24
"""The reference knows no larger exponent, and a huge one makes a verification cost a thousand times as much."""

KEY_ALGORITHMS: Final = {
    1: "RSA",
    2: "RSA",
    3: "RSA",
    16: "Elgamal",
    17: "DSA",
    18: "ECDH",
    19: "ECDSA",
    22: "EdDSA",
    25: "X25519",
    26: "X448",
    27: "Ed25519",
    28: "Ed448",
}
"""What key algorithms are called, by their ID (RFC 9580 section 9.1), also those that nothing here verifies with."""


class HashAlgorithm(NamedTuple):
    """A hash: its name in armor headers and in hashlib, its digest and V6 salt sizes in octets."""

    name: str
    library: str
    size: int
    salt: int
    prehashed: Prehashed
    ecdsa: ec.ECDSA


def _hash(name: str, library: str, algorithm: hashes.HashAlgorithm, salt: int = 0) -> HashAlgorithm:
    prehashed = Prehashed(algorithm)
    return HashAlgorithm(name, library, algorithm.digest_size, salt, prehashed, ec.ECDSA(prehashed))


HASHES: Final = {
    1: _hash("MD5", "md5", hashes.MD5()),  # noqa: S303 - revocations made with it still revoke
    2: _hash("SHA1", "sha1", hashes.SHA1()),  # noqa: S303 - likewise
    8: _hash("SHA256", "sha256", hashes.SHA256(), 16),
    9: _hash("SHA384", "sha384", hashes.SHA384(), 24),
    10: _hash("SHA512", "sha512", hashes.SHA512(), 32),
    11: _hash("SHA224", "sha224", hashes.SHA224(), 16),
    12: _hash("SHA3-256", "sha3_256", hashes.SHA3_256(), 16),
    14: _hash("SHA3-512", "sha3_512", hashes.SHA3_512(), 32),
}
"""By hash algorithm ID. The weak ones are here for revocations only."""

STRONG_HASHES: Final = frozenset({8, 9, 10, 11})
"""What may be under a signature over data or a self-signature, as in the reference."""


class WeakKeyError(Exception):
    """A key that verifies nothing: too weak, deprecated or unknown. Never leaves this package."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


_Key: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class Verifier:
    """A public key that can verify.

    `name` is the algorithm in the reference's words; `min_digest` the shortest digest in octets that RFC 9580 allows
    it (sections 5.2.3.2 to 5.2.3.5).
    """

    name: str
    min_digest: int
    _key: _Key

    def verify(self, fields: bytes, digest: bytes, algorithm: HashAlgorithm) -> None:
        """Return when the algorithm-specific fields of a signature sign `digest`.

        Raises:
            InvalidSignature: They do not.
            PacketError: The fields are malformed.
            cryptography.exceptions.UnsupportedAlgorithm: This build of OpenSSL refuses the hash.
        """
        raise NotImplementedError

    def spki(self) -> bytes:
        """Return the DER SubjectPublicKeyInfo."""
        return self._key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _two_numbers(fields: bytes, size: int) -> tuple[bytes, bytes]:
    (first, second), rest = read_mpis(fields, 2)
    if rest or max(len(first), len(second)) > size:
        raise PacketError("octets after the signature, or numbers that are too large")
    return first, second


_PKCS1: Final = padding.PKCS1v15()


class _Rsa(Verifier):
    name = "RSA"
    min_digest = 28
    _key: rsa.RSAPublicKey

    def __init__(self, modulus: int, exponent: int) -> None:
        self._key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        self._size = (modulus.bit_length() + 7) // 8

    def verify(self, fields: bytes, digest: bytes, algorithm: HashAlgorithm) -> None:
        (value,), rest = read_mpis(fields, 1)
        if rest or len(value) > self._size:
            raise InvalidSignature
        self._key.verify(value.rjust(self._size, b"\0"), digest, _PKCS1, algorithm.prehashed)


class _Ecdsa(Verifier):
    name = "ECDSA"
    _key: ec.EllipticCurvePublicKey

    def __init__(self, curve: ec.EllipticCurve, point: bytes) -> None:
        self._key = ec.EllipticCurvePublicKey.from_encoded_point(curve, point)
        self._size = (curve.key_size + 7) // 8
        self.min_digest = min(self._size, 64)

    def verify(self, fields: bytes, digest: bytes, algorithm: HashAlgorithm) -> None:
        r, s = _two_numbers(fields, self._size)
        self._key.verify(encode_dss_signature(int.from_bytes(r), int.from_bytes(s)), digest, algorithm.ecdsa)


_ED25519_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
"""What stands before the octets of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410 section 4)."""


class _Ed25519Legacy(Verifier):
    """Keeps the octets alone: a large keyring has many keys, of which few ever verify anything."""

    name = "EdDSA"
    min_digest = 32

    def __init__(self, point: bytes) -> None:
        if len(point) != 32:  # noqa: PLR2004 - octets of a point
            raise PacketError("not a public key: a point of another length")
        self._point = point

    def verify(self, fields: bytes, digest: bytes, algorithm: HashAlgorithm) -> None:  # noqa: ARG002 - the interface's
        r, s = _two_numbers(fields, 32)
        key = ed25519.Ed25519PublicKey.from_public_bytes(self._point)
        key.verify(r.rjust(32, b"\0") + s.rjust(32, b"\0"), digest)

    def spki(self) -> bytes:
        return _ED25519_SPKI + self._point


class _Edwards(Verifier):
    """Ed25519 and Ed448 as RFC 9580 writes them: the signature's octets as they are."""

    _key: ed25519.Ed25519PublicKey | ed448.Ed448PublicKey

    def __init__(self, name: str, min_digest: int, key: ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) -> None:
        self.name = name
        self.min_digest = min_digest
        self._key = key

    def verify(self, fields: bytes, digest: bytes, algorithm: HashAlgorithm) -> None:  # noqa: ARG002 - the interface's
        self._key.verify(fields, digest)


_CURVES: Final[dict[bytes, ec.EllipticCurve]] = {
    bytes.fromhex("2A8648CE3D030107"): ec.SECP256R1(),
    bytes.fromhex("2B81040022"): ec.SECP384R1(),
    bytes.fromhex("2B81040023"): ec.SECP521R1(),
}
_ED25519_LEGACY: Final = bytes.fromhex("2B06010401DA470F01")
_EDDSA_PREFIX: Final = b"\x40"
_UNCOMPRESSED: Final = b"\x04"


def load_verifier(algorithm: int, material: bytes) -> Verifier:
    """Return the verifier for a public key's algorithm-specific fields (RFC 9580 section 5.5.5).

    Args:
        algorithm: The public-key algorithm ID.
        material: The fields, nothing after them.

    Raises:
        WeakKeyError: The key is too weak, or of an algorithm that is deprecated or not known.
        PacketError: The fields are malformed, or the numbers are no key.
    """
    loader = _LOADERS.get(algorithm)
    if loader is None:
        code, what = _DEPRECATED.get(algorithm, (FindingCode.UNSUPPORTED, f"public key algorithm {algorithm}"))
        raise WeakKeyError(Finding(code, f"openpgp: unsupported feature: {what}"))
    try:
        return loader(material)
    except ValueError as error:
        raise PacketError(f"not a public key: {error}") from error


def _load_rsa(material: bytes) -> Verifier:
    (n, e), rest = read_mpis(material, 2)
    modulus, exponent = int.from_bytes(n), int.from_bytes(e)
    bits = modulus.bit_length()
    if bits < _MIN_RSA_BITS:
        raise WeakKeyError(Finding(FindingCode.WEAK_KEY, f"openpgp: RSA key of {bits} bits: at least 2048 are needed"))
    if rest or bits > _MAX_RSA_BITS or exponent >= _MAX_RSA_EXPONENT:
        raise PacketError("an RSA key with octets after it, or with numbers that are too large")
    return _Rsa(modulus, exponent)


def _split_curve(material: bytes) -> tuple[bytes, bytes]:
    """Return the curve's OID and the point of an ECDSA or EdDSALegacy key."""
    end = 1 + int.from_bytes(material[:1])
    (point,), rest = read_mpis(material[end:], 1)
    if rest:
        raise PacketError("octets after the public key")
    return material[1:end], point


def _load_ecdsa(material: bytes) -> Verifier:
    oid, point = _split_curve(material)
    curve = _CURVES.get(oid)
    if curve is None:
        raise WeakKeyError(Finding(FindingCode.UNSUPPORTED, "openpgp: unsupported feature: elliptic curve"))
    if point[:1] != _UNCOMPRESSED:
        raise PacketError("a point that is not in uncompressed form")
    return _Ecdsa(curve, point)


def _load_ed25519_legacy(material: bytes) -> Verifier:
    oid, point = _split_curve(material)
    if oid != _ED25519_LEGACY:
        raise WeakKeyError(Finding(FindingCode.UNSUPPORTED, "openpgp: unsupported feature: elliptic curve"))
    if point[:1] != _EDDSA_PREFIX:
        raise PacketError("a point without its prefix")
    return _Ed25519Legacy(point[1:])


_DEPRECATED: Final = {17: (FindingCode.WEAK_KEY, "DSA keys are deprecated")}
_LOADERS: Final[dict[int, Callable[[bytes], Verifier]]] = {
    1: _load_rsa,
    3: _load_rsa,
    19: _load_ecdsa,
    22: _load_ed25519_legacy,
    27: lambda material: _Edwards("Ed25519", 32, ed25519.Ed25519PublicKey.from_public_bytes(material)),
    28: lambda material: _Edwards("ed448", 64, ed448.Ed448PublicKey.from_public_bytes(material)),
}


def digest(algorithm: HashAlgorithm, *parts: bytes) -> bytes:
    """Hash the concatenation of `parts`."""
    hasher = hashlib.new(algorithm.library, usedforsecurity=False)
    for part in parts:
        hasher.update(part)
    return hasher.digest()
