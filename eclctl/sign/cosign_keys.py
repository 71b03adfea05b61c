"""cosign's private keys: PKCS #8 (RFC 5958) in a NaCl secretbox whose key scrypt (RFC 7914) makes of a password.

The file is a PEM block around JSON, as secure-systems-lab's `encrypted` package writes it for cosign and SingularityCE:
`kdf` (name, params N, r and p, salt), `cipher` (name, nonce) and `ciphertext`, all bytes in base64. What a file may ask
of scrypt is what that package takes, and nothing else: so that a key file cannot fill the memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from eclctl import strictjson
from eclctl.dataclass import dataclass, field
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.guarded import replacing_file, write_new
from eclctl.sign.pem import COSIGN_KINDS, PrivateKey, pem_kind, private_key
from eclctl.signature.keys import MAX_KEY_FILE

_WRITTEN = "ENCRYPTED SIGSTORE PRIVATE KEY"
_BLOCK = re.compile(
    rb"^-----BEGIN (ENCRYPTED (?:COSIGN|SIGSTORE) PRIVATE KEY)-----[ \t\r]*\n"
    rb"([A-Za-z0-9+/=\s]+)\n"
    rb"-----END \1-----[ \t\r]*$",
    re.MULTILINE,
)
_KDF, _CIPHER = "scrypt", "nacl/secretbox"
_STANDARD = (1 << 16, 8, 1)
_COSTS = frozenset({(1 << 15, 8, 1), _STANDARD, (1 << 17, 8, 1)})  # N, r, p: "legacy", "standard" and "OWASP"
_MEMORY = 192 << 20  # what OpenSSL may take in bytes: 128 * N * r, and a little
_KEY_SIZE = 32
_NONCE_SIZE = 24
_SALT_SIZE = 32
_MAX_SALT = 1024
_LINE = 64  # RFC 7468 section 2

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The two files of a new key: the secret one, encrypted, and the public one, both PEM."""

    private: bytes = field(repr=False)
    public: bytes


class _InvalidError(Exception):
    """The text is no encrypted key."""


def generate_pair(password: bytes) -> KeyPair:
    """Return a new ECDSA key on P-256, as cosign and SingularityCE make them.

    Args:
        password: Encrypts the secret half. Empty is what cosign takes, too, and protects nothing.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return KeyPair(_sealed(secret, password), public)


def write_pair(prefix: str, pair: KeyPair, *, overwrite: bool = False) -> None:
    """Write `prefix`.key, which its owner alone can read from its first moment on, and `prefix`.pub: both or neither.

    Args:
        prefix: A path and the beginning of a name.
        pair: What to write.
        overwrite: Whether files that are there may be replaced.

    Raises:
        KeyMaterialError: One of them cannot be written, or is there already; both are as they were.
    """
    private, public = f"{prefix}.key", f"{prefix}.pub"
    if overwrite:
        _require_key_size(private)
        # The private key is the one that cannot be made again. So it goes last, once there was room for both files.
        with replacing_file(private, pair.private, 0o600):
            write_new(public, pair.public, 0o644, overwrite=True)
        return
    write_new(private, pair.private, 0o600)
    try:
        write_new(public, pair.public, 0o644)
    except BaseException:
        os.unlink(private)
        raise


def read_cosign_key(text: bytes, password: Callable[[], bytes], *, source: str = "key") -> PrivateKey:
    """Return the private key in one of cosign's key files.

    Args:
        text: The file: one PEM block `ENCRYPTED SIGSTORE PRIVATE KEY` or `ENCRYPTED COSIGN PRIVATE KEY`.
        password: Asked once the file is known to be well-formed, and once only.
        source: Where it comes from, for messages.

    Raises:
        KeyMaterialError: There is no such key, the password does not open it, or it is of a kind or size that
            verifiers refuse. An unencrypted key is refused, as cosign and SingularityCE refuse it.
    """
    try:
        cost, salt, nonce, ciphertext = _box(_block(text, source))
    except _InvalidError as error:
        raise KeyMaterialError(f"{source}: the encrypted key is not valid: {error}") from None
    secret = _opened(_derived(password(), salt, cost), nonce, ciphertext)
    if secret is None:
        raise KeyMaterialError(f"{source}: wrong password, or the file has been changed")
    try:
        return private_key(load_der_private_key(secret, None), source)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyMaterialError(f"{source}: what is encrypted in it is no PKCS #8 private key: {error}") from None


def _require_key_size(path: str) -> None:
    """Refuse to replace a file that cannot be a key: its name is probably a mistake."""
    with suppress(OSError):  # that there is none, or that it cannot be replaced, is said where it is written
        if os.lstat(path).st_size > MAX_KEY_FILE:
            raise KeyMaterialError(f"{path}: larger than {MAX_KEY_FILE} bytes, which no key is; it is not replaced")


def _block(text: bytes, source: str) -> bytes:
    """Return what is in the one PEM block of a key file."""
    kind = pem_kind(text, source)
    if kind == "ENCRYPTED PRIVATE KEY":
        raise KeyMaterialError(f"{source}: encrypted, but not in cosign's way; {_IMPORT}")
    if kind not in COSIGN_KINDS:
        raise KeyMaterialError(f"{source}: an unencrypted private key, and cosign signs with encrypted ones; {_IMPORT}")
    found = _BLOCK.search(text)
    if found is None:
        raise _InvalidError("the PEM block has no end, or more than base64 in it")
    return _bytes("".join(found[2].decode("ascii").split()), "the PEM block")


_IMPORT = "`cosign import-key-pair --key FILE` makes one of its own of it"


def _box(data: bytes) -> tuple[tuple[int, int, int], bytes, bytes, bytes]:
    """Return the parts of an encrypted key: what scrypt may spend, salt, nonce and ciphertext."""
    try:
        members = _members(strictjson.loads(data), ("kdf", "cipher", "ciphertext"))
    except strictjson.JsonError as error:
        raise _InvalidError(f"no JSON: {error}") from None
    kdf = _members(members["kdf"], ("name", "params", "salt"))
    cipher = _members(members["cipher"], ("name", "nonce"))
    if kdf["name"] != _KDF:
        raise _InvalidError(f"the key derivation {str(kdf['name'])[:32]!r}, where {_KDF} is known")
    if cipher["name"] != _CIPHER:
        raise _InvalidError(f"the cipher {str(cipher['name'])[:32]!r}, where {_CIPHER} is known")
    salt, nonce = _bytes(kdf["salt"], "salt"), _bytes(cipher["nonce"], "nonce")
    if not 0 < len(salt) <= _MAX_SALT or len(nonce) != _NONCE_SIZE:
        raise _InvalidError(f"a salt of {len(salt)} bytes and a nonce of {len(nonce)}")
    return _cost(kdf["params"]), salt, nonce, _bytes(members["ciphertext"], "ciphertext")


def _cost(params: Any) -> tuple[int, int, int]:
    """Return what scrypt is asked to spend: one of the costs that cosign knows."""
    numbers = _members(params, ("N", "r", "p"))
    if any(type(number) is not int for number in numbers.values()):
        raise _InvalidError("params of scrypt that are no numbers")
    cost = (numbers["N"], numbers["r"], numbers["p"])
    if cost not in _COSTS:
        raise _InvalidError("params of scrypt that cosign does not use: N is 32768, 65536 or 131072, r is 8 and p is 1")
    return cost


def _members(value: Any, names: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise _InvalidError(f"an object with {', '.join(names)} and nothing else is needed")
    return value


def _bytes(text: Any, what: str) -> bytes:
    """Return the bytes of padded standard base64 (RFC 4648 section 4)."""
    if not isinstance(text, str) or not _BASE64.fullmatch(text):
        raise _InvalidError(f"{what} is no base64")
    try:
        return base64.b64decode(text)
    except binascii.Error:
        raise _InvalidError(f"{what} is no base64") from None


def _opened(key: bytes, nonce: bytes, ciphertext: bytes) -> bytes | None:
    """Return what a box holds, None when the key is not the one, or the box is not as it was closed."""
    from nacl.exceptions import CryptoError  # noqa: PLC0415 - most commands have no use for libsodium
    from nacl.secret import SecretBox  # noqa: PLC0415 - as above

    try:
        return bytes(SecretBox(key).decrypt(ciphertext, nonce))
    except (CryptoError, ValueError):  # libsodium refuses some lengths, such as none at all, by ValueError
        return None


def _sealed(secret: bytes, password: bytes) -> bytes:
    """Return a key file: members in the order in which cosign writes them."""
    from nacl.secret import SecretBox  # noqa: PLC0415 - as above

    salt, nonce = os.urandom(_SALT_SIZE), os.urandom(_NONCE_SIZE)
    ciphertext = SecretBox(_derived(password, salt, _STANDARD)).encrypt(secret, nonce).ciphertext
    params = dict(zip(("N", "r", "p"), _STANDARD, strict=True))
    document = {
        "kdf": {"name": _KDF, "params": params, "salt": _text(salt)},
        "cipher": {"name": _CIPHER, "nonce": _text(nonce)},
        "ciphertext": _text(ciphertext),
    }
    body = _text(json.dumps(document, separators=(",", ":")).encode("ascii"))
    lines = [body[start : start + _LINE] for start in range(0, len(body), _LINE)]
    return "\n".join((f"-----BEGIN {_WRITTEN}-----", *lines, f"-----END {_WRITTEN}-----", "")).encode("ascii")


def _derived(password: bytes, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=_KEY_SIZE)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
