"""Private keys in PEM files, for DSSE envelopes: PKCS #8 (RFC 5958, RFC 7468), also encrypted, and the older forms.

What a private key may be is decided by its public half: exactly what `eclctl.signature.keys` verifies with can sign.

What trying a passphrase costs is bounded before one is asked for. The parameters of the key derivation stand in the
file (RFC 5958 section 3, RFC 8018 appendix A, RFC 7914 section 7), and OpenSSL does what they say: two hundred bytes
can ask for gigabytes of memory, or for minutes that nothing interrupts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from eclctl.dataclass import dataclass, field
from eclctl.errors import KeyMaterialError
from eclctl.signature.keys import MAX_KEY_FILE, PublicKey, parse_public_key

COSIGN_KINDS = frozenset({"ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY"})
"""What cosign's key files say that they hold. `cosign_keys` reads them."""

_BEGIN = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----\s*$", re.MULTILINE)
_KINDS = frozenset({"PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"})
_OLD_ENCRYPTION = re.compile(rb"^Proc-Type: 4,ENCRYPTED\s*$", re.MULTILINE)
_SHA256 = SHA256()

_ENCRYPTED_BLOCK: Final = re.compile(
    rb"^-----BEGIN ENCRYPTED PRIVATE KEY-----\s*$([A-Za-z0-9+/=\s]*)^-----END ENCRYPTED PRIVATE KEY-----\s*$",
    re.MULTILINE,
)
_SCRYPT: Final = bytes.fromhex("2b06010401da47040b")
_MOST_ROUNDS: Final = 10_000_000  # OpenSSL writes 2,048, and guides ask for up to a million
_MOST_BLOCKS: Final = 1 << 20  # N times r, each of 128 bytes: what cosign's costliest keys ask for
_MOST_PARALLEL: Final = 16
_SEQUENCE, _INTEGER, _OBJECT = 0x30, 0x02, 0x06
_DEEPEST: Final = 8
_LONG: Final = 0x80

_Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key that signs DSSE envelopes. Two are equal when their public halves are."""

    public: PublicKey
    _key: _Key = field(compare=False, repr=False)

    def sign(self, message: bytes) -> bytes:
        """Return a signature over `message`: PKCS #1 v1.5 or ECDSA over SHA-256 for every curve, or Ed25519."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(message, padding.PKCS1v15(), _SHA256)
        if isinstance(self._key, ec.EllipticCurvePrivateKey):
            return self._key.sign(message, ec.ECDSA(_SHA256))
        return self._key.sign(message)


def read_private_key(text: bytes, passphrase: Callable[[], bytes], *, source: str = "key") -> PrivateKey:
    """Return the one private key of a PEM file.

    Args:
        text: The file: one block, `PRIVATE KEY`, `ENCRYPTED PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`, and
            at most public keys beside it.
        passphrase: Called when the key is encrypted, and only then.
        source: Where it comes from, for messages.

    Raises:
        KeyMaterialError: There is no such key, the passphrase does not open it, or it is of a kind or size that
            verifiers refuse.
    """
    kind = pem_kind(text, source)
    if kind in COSIGN_KINDS:
        raise KeyMaterialError(f"{source}: a key of cosign's, which is encrypted in cosign's own way")
    der = _encrypted_der(text, source) if kind == "ENCRYPTED PRIVATE KEY" else None
    encrypted = der is not None or _OLD_ENCRYPTION.search(text) is not None
    try:
        given = passphrase() if encrypted else None
        # What was looked at is what is opened: another reader might find another block in the same text.
        key = load_pem_private_key(text, given) if der is None else load_der_private_key(der, given)
    except (ValueError, TypeError) as error:
        if encrypted:
            raise KeyMaterialError(f"{source}: wrong passphrase, or the key is damaged") from error
        raise KeyMaterialError(f"{source}: no readable private key: {error}") from error
    except UnsupportedAlgorithm as error:
        raise KeyMaterialError(f"{source}: a private key of a kind that is not supported: {error}") from error
    return private_key(key, source)


def private_key(key: object, source: str) -> PrivateKey:
    """Return a key of `cryptography`'s as one that signs, if its public half is one that verifies.

    Raises:
        KeyMaterialError: It is of a kind or size that verifiers refuse.
    """
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        kinds = "RSA, ECDSA (P-256, P-384, P-521) and Ed25519 keys sign"
        raise KeyMaterialError(f"{source}: a key of another kind ({type(key).__name__.lstrip('_')}); {kinds}")
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return PrivateKey(parse_public_key(public, source=source), key)


def pem_kind(text: bytes, source: str) -> str:
    """Return what the one private key of a PEM file says that it is.

    Raises:
        KeyMaterialError: There is not exactly one; the message says what there is instead, and what to give.
    """
    if len(text) > MAX_KEY_FILE:
        raise KeyMaterialError(f"{source}: larger than {MAX_KEY_FILE} bytes, which no private key is")
    kinds = [match[1].decode("ascii") for match in _BEGIN.finditer(text)]
    private = [kind for kind in kinds if kind in _KINDS or kind in COSIGN_KINDS]
    if len(private) == 1:
        return private[0]
    if len(private) > 1:
        raise KeyMaterialError(f"{source}: holds {len(private)} private keys; give each in a file of its own")
    raise KeyMaterialError(f"{source}: {_hint_for(kinds)}")


def _hint_for(kinds: list[str]) -> str:
    if "PGP PRIVATE KEY BLOCK" in kinds:
        return "holds an OpenPGP key; import it with `eclctl keys import`, or give it with --secret-keyring"
    if "OPENSSH PRIVATE KEY" in kinds:
        return "holds an OpenSSH key; convert a copy: ssh-keygen -p -m PKCS8 -f COPY"
    if any("PUBLIC" in kind for kind in kinds):
        return "holds a public key, which cannot sign; give the private key that belongs to it"
    if "CERTIFICATE" in kinds:
        return "holds a certificate; give the private key that belongs to it"
    return "a file with a PEM block PRIVATE KEY is needed"


def _encrypted_der(text: bytes, source: str) -> bytes:
    """Return what is in the PEM block ENCRYPTED PRIVATE KEY of a file, once its costs are known to be bearable.

    Raises:
        KeyMaterialError: They are not, or the block is damaged.
    """
    found = _ENCRYPTED_BLOCK.search(text)
    try:
        data = base64.b64decode(b"".join(found[1].split()), validate=True) if found is not None else b""
        (_, body), *_ = _elements(data)
        (_, algorithm), *_ = _elements(body)
        numbers = tuple(_leaves(algorithm, _DEEPEST))
    except (binascii.Error, ValueError):
        raise KeyMaterialError(f"{source}: the encrypted key is damaged") from None
    if not _is_affordable(numbers):
        raise KeyMaterialError(
            f"{source}: opening it would take more time or memory than any key should; encrypt a copy again:"
            " openssl pkcs8 -topk8"
        )
    return data


def _is_affordable(leaves: tuple[tuple[int, bytes], ...]) -> bool:
    numbers = [int.from_bytes(content, signed=True) for tag, content in leaves if tag == _INTEGER]
    if (_OBJECT, _SCRYPT) not in leaves:
        return all(0 <= number <= _MOST_ROUNDS for number in numbers)
    if len(numbers) < 3 or min(numbers) <= 0:  # noqa: PLR2004 - N, r and p; perhaps a length
        return False
    n, r, p = numbers[:3]
    return n * r <= _MOST_BLOCKS and p <= _MOST_PARALLEL


def _leaves(data: bytes, depth: int) -> Iterator[tuple[int, bytes]]:
    """Yield what is in the sequences of a sequence."""
    if not depth:
        raise ValueError("nested too deeply")
    for tag, content in _elements(data):
        if tag == _SEQUENCE:
            yield from _leaves(content, depth - 1)
        else:
            yield tag, content


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the elements of DER (X.690), by tag; raise ValueError where it is none."""
    at = 0
    while at < len(data):
        tag, size = data[at], data[at + 1] if at + 1 < len(data) else _LONG
        at += 2
        if size & _LONG:
            count = size & ~_LONG
            size, at = int.from_bytes(data[at : at + count]), at + count
            if not count:
                raise ValueError("no definite length")
        if at + size > len(data):
            raise ValueError("cut short")
        yield tag, data[at : at + size]
        at += size
