"""A small OpenPGP writer for tests: certificates and clear-signed messages, with any errors in them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from eclctl.signature import openpgp
from tests.helpers.support import NOW

CREATED = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp())
SIGNED = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
TEXT = b'{"version":1}'
SIGN, CERTIFY = 0x02, 0x01
_HASH_NAMES = {
    1: "md5",
    2: "sha1",
    3: "ripemd160",
    8: "sha256",
    9: "sha384",
    10: "sha512",
    11: "sha224",
    12: "sha3-256",
}
_HASHES = {2: hashes.SHA1(), 8: hashes.SHA256(), 9: hashes.SHA384(), 10: hashes.SHA512(), 11: hashes.SHA224()}
_SALTS = {8: 16, 9: 24, 10: 32, 11: 16}
_OIDS = {"secp256r1": "2A8648CE3D030107", "secp384r1": "2B81040022", "secp521r1": "2B81040023"}


def packet(tag: int, body: bytes) -> bytes:
    return bytes((0xC0 | tag, 0xFF)) + len(body).to_bytes(4) + body


def sub(kind: int, body: bytes, *, critical: bool = False) -> bytes:
    return bytes((0xFF,)) + (len(body) + 1).to_bytes(4) + bytes((kind | (0x80 if critical else 0),)) + body


def time(seconds: int) -> bytes:
    return seconds.to_bytes(4)


def mpi(value: int) -> bytes:
    return value.bit_length().to_bytes(2) + value.to_bytes((value.bit_length() + 7) // 8)


@dataclass
class Key:
    """A private key with its packet: `private` decides the algorithm."""

    private: object = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    version: int = 4
    created: int = CREATED
    legacy: bool | None = None

    def __post_init__(self) -> None:
        self.algorithm, material = self._material()
        head = bytes((self.version,)) + time(self.created) + bytes((self.algorithm,))
        self.body = head + (len(material).to_bytes(4) if self.version == 6 else b"") + material
        if self.version == 6:
            self.prefix = b"\x9b" + len(self.body).to_bytes(4) + self.body
            self.raw = hashlib.sha256(self.prefix).digest()
            self.key_id = self.raw[:8]
        else:
            self.prefix = b"\x99" + len(self.body).to_bytes(2) + self.body
            self.raw = hashlib.sha1(self.prefix).digest()
            self.key_id = self.raw[-8:]
        self.fingerprint = self.raw.hex().upper()

    def _material(self) -> tuple[int, bytes]:
        match self.private:
            case rsa.RSAPrivateKey():
                numbers = self.private.public_key().public_numbers()
                return 1, mpi(numbers.n) + mpi(numbers.e)
            case dsa.DSAPrivateKey():
                numbers = self.private.public_key().public_numbers()
                group = numbers.parameter_numbers
                return 17, b"".join(mpi(n) for n in (group.p, group.q, group.g, numbers.y))
            case ec.EllipticCurvePrivateKey():
                numbers = self.private.public_key().public_numbers()
                size = (self.private.curve.key_size + 7) // 8
                point = b"\x04" + numbers.x.to_bytes(size) + numbers.y.to_bytes(size)
                oid = bytes.fromhex(_OIDS[self.private.curve.name])
                return 19, bytes((len(oid),)) + oid + mpi(int.from_bytes(point))
            case ed448.Ed448PrivateKey():
                return 28, self.private.public_key().public_bytes_raw()
        raw = self.private.public_key().public_bytes_raw()
        if self.version == 4 if self.legacy is None else self.legacy:
            oid = bytes.fromhex("2B06010401DA470F01")
            return 22, bytes((len(oid),)) + oid + mpi(int.from_bytes(b"\x40" + raw))
        return 27, raw

    def issuer(self) -> bytes:
        return sub(33, bytes((self.version,)) + self.raw)

    def _fields(self, digest: bytes, hash_id: int) -> bytes:
        match self.private:
            case rsa.RSAPrivateKey():
                raw = self.private.sign(digest, padding.PKCS1v15(), Prehashed(_HASHES[hash_id]))
                return mpi(int.from_bytes(raw))
            case ec.EllipticCurvePrivateKey():
                pair = decode_dss_signature(self.private.sign(digest, ec.ECDSA(Prehashed(_HASHES[hash_id]))))
                return b"".join(mpi(n) for n in pair)
            case dsa.DSAPrivateKey():
                pair = decode_dss_signature(self.private.sign(digest, Prehashed(_HASHES[hash_id])))
                return b"".join(mpi(n) for n in pair)
        raw = self.private.sign(digest)
        if self.algorithm == 22:
            return mpi(int.from_bytes(raw[:32])) + mpi(int.from_bytes(raw[32:]))
        return raw

    def sign(
        self,
        kind: int,
        content: bytes,
        *subpackets: bytes,
        created: int | None = CREATED,
        issuer: bytes | None = None,
        unhashed: bytes = b"",
        hash_id: int = 8,
    ) -> bytes:
        """Return the body of a signature packet over `content`."""
        hashed = b"" if created is None else sub(2, time(created))
        hashed += (self.issuer() if issuer is None else issuer) + b"".join(subpackets)
        wide = 4 if self.version == 6 else 2
        head = bytes((self.version, kind, self.algorithm, hash_id)) + len(hashed).to_bytes(wide) + hashed
        salt = b"s" * _SALTS[hash_id] if self.version == 6 else b""
        hasher = hashlib.new(_HASH_NAMES[hash_id], usedforsecurity=False)
        for part in (salt, content, head, bytes((self.version, 0xFF)), len(head).to_bytes(4)):
            hasher.update(part)
        digest = hasher.digest()
        tail = len(unhashed).to_bytes(wide) + unhashed + digest[:2]
        if self.version == 6:
            tail += bytes((len(salt),)) + salt
        return head + tail + self._fields(digest, hash_id)


def flags(value: int) -> bytes:
    return sub(27, bytes((value,)))


def user_id_content(primary: Key, user_id: bytes) -> bytes:
    return primary.prefix + b"\xb4" + len(user_id).to_bytes(4) + user_id


def user_id(primary: Key, name: bytes = b"Alice <alice@example.org>", *subpackets: bytes, **options: object) -> bytes:
    """Return a user ID packet and the self-signature over it."""
    subpackets = subpackets or (flags(SIGN | CERTIFY),)
    signature = primary.sign(0x13, user_id_content(primary, name), *subpackets, **options)
    return packet(13, name) + packet(2, signature)


def certificate(primary: Key, *rest: bytes) -> bytes:
    """Return a binary certificate: the primary key, and what `rest` says or a plain user ID."""
    if primary.version == 6 and not rest:
        rest = (packet(2, primary.sign(0x1F, primary.prefix, flags(SIGN | CERTIFY))),)
    return packet(6, primary.body) + b"".join(rest or (user_id(primary),))


def subkey(primary: Key, key: Key, *subpackets: bytes, back: bytes | None = None, **options: object) -> bytes:
    """Return a subkey packet and its binding, with a back-signature."""
    content = primary.prefix + key.prefix
    if back is None:
        back = sub(32, key.sign(0x19, content))
    subpackets = subpackets or (flags(SIGN),)
    return packet(14, key.body) + packet(2, primary.sign(0x18, content, *subpackets, back, **options))


def armor(kind: str, data: bytes) -> bytes:
    text = base64.b64encode(data)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join([f"-----BEGIN PGP {kind}-----".encode(), b"", *lines, f"-----END PGP {kind}-----".encode(), b""])


def clearsign(
    signatures: Key | bytes, *, text: bytes = TEXT, header: bytes = b"Hash: SHA256\n", created: int = SIGNED
) -> bytes:
    """Return a clear-signed message. `signatures` are packets, or a key that signs `text` (with LF, as it stands)."""
    if isinstance(signatures, Key):
        signatures = packet(2, signatures.sign(1, text.replace(b"\n", b"\r\n"), created=created))
    begin = b"-----BEGIN PGP SIGNED MESSAGE-----\n"
    return begin + header + b"\n" + text + b"\n" + armor("SIGNATURE", signatures)


def verify(message, *certificates, now=NOW):
    """Verify a message with certificates."""
    return openpgp.verify(message, b"".join(certificates), now=now)


def refusal(message, *certificates, now=NOW):
    """Return the code of the finding for which a message does not verify."""
    with pytest.raises(openpgp.VerificationError) as caught:
        verify(message, *certificates, now=now)
    return caught.value.finding.code
