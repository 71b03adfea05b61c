"""PEM public keys: the keys that sign DSSE envelopes.

A key is named by its content: `sha256:` and the lower-case hex digest of its DER SubjectPublicKeyInfo (RFC 5280
section 4.1.2.7), so that the same key in two files, or in a file and in an OpenPGP certificate, is one key.
RSA signatures are PKCS #1 v1.5 (RFC 8017 section 8.2) and ECDSA signatures are DER (RFC 3279 section 2.2.3), both over
SHA-256 on every curve, as SIF signing makes them; Ed25519 signs the message itself (RFC 8032).
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from eclctl.dataclass import dataclass, field
from eclctl.errors import KeyMaterialError

MAX_CERTIFICATE_FILE = 4 * 1024 * 1024
"""The longest file of certificates that is read, in bytes. A file for a key is read as far, to say what it holds."""

MAX_KEY_FILE = 64 * 1024
"""The longest key file that is read, in bytes."""

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384  # beyond this a verification costs an attacker nothing and us a lot

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_BEGIN = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----\s*$", re.MULTILINE)
_SHA256 = SHA256()
_ECDSA_SHA256 = ec.ECDSA(_SHA256)
_PKCS1V15 = padding.PKCS1v15()

_Key: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key from a PEM file. Two keys are equal when their `id` is, wherever they were read.

    `id` is `sha256:<hex of the DER SubjectPublicKeyInfo>`, `algorithm` a name for people ("RSA-4096", "P-256",
    "Ed25519") and `source` where the key was read, for messages. `keyid` is what DSSE signers call the key: its SSH
    fingerprint, `SHA256:<base64>`.
    """

    id: str
    algorithm: str = field(compare=False)
    source: str = field(compare=False)
    keyid: str = field(compare=False)
    _key: _Key = field(compare=False, repr=False)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether `signature` is this key's over `message`."""
        try:
            if isinstance(self._key, rsa.RSAPublicKey):
                self._key.verify(signature, message, _PKCS1V15, _SHA256)
            elif isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, message, _ECDSA_SHA256)
            else:
                self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def parse_public_key(text: bytes, *, source: str = "key") -> PublicKey:
    """Return the one public key of a PEM file.

    Args:
        text: The file: one block, `PUBLIC KEY` (RFC 7468 section 13) or `RSA PUBLIC KEY` (RFC 8017 appendix A.1.1).
        source: Where it comes from, for messages.

    Raises:
        KeyMaterialError: There is not exactly one such block, or the key is of a kind or size that is not trusted.
    """
    _require_one_public_block(text, source)
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyMaterialError(f"{source}: the public key cannot be parsed: {error}") from error
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise KeyMaterialError(f"{source}: only RSA, ECDSA and Ed25519 public keys can verify a signature")
    algorithm = _algorithm(key, source)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey("sha256:" + hashlib.sha256(spki).hexdigest(), algorithm, source, _ssh_fingerprint(key), key)


def _ssh_fingerprint(key: _Key) -> str:
    """Return `SHA256:` and the unpadded base64 SHA-256 of the SSH public key (RFC 4253 section 6.6)."""
    blob = base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii").rstrip("=")


def _require_one_public_block(text: bytes, source: str) -> None:
    if len(text) > MAX_KEY_FILE:
        raise KeyMaterialError(f"{source}: larger than {MAX_KEY_FILE} bytes, which no public key is")
    kinds = [match[1].decode("ascii") for match in _BEGIN.finditer(text)]
    if any("PRIVATE" in kind for kind in kinds):
        raise KeyMaterialError(f"{source}: holds a private key; give the public key that belongs to it")
    if "CERTIFICATE" in kinds:
        raise KeyMaterialError(f"{source}: holds a certificate; give a PEM public key")
    if "PGP PUBLIC KEY BLOCK" in kinds:
        raise KeyMaterialError(f"{source}: holds an OpenPGP certificate; give it as a keyring")
    if len(kinds) != 1 or kinds[0] not in {"PUBLIC KEY", "RSA PUBLIC KEY"}:
        raise KeyMaterialError(f"{source}: a file with exactly one PEM block PUBLIC KEY is needed")


def _algorithm(key: _Key, source: str) -> str:
    """Name the key's algorithm, or raise when it is one that does not count."""
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            bounds = f"{MIN_RSA_BITS} to {MAX_RSA_BITS}"
            raise KeyMaterialError(f"{source}: an RSA key of {key.key_size} bits; {bounds} bits are accepted")
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in _CURVES:
            raise KeyMaterialError(f"{source}: the curve {key.curve.name}; P-256, P-384 and P-521 are accepted")
        return _CURVES[key.curve.name]
    return "Ed25519"
