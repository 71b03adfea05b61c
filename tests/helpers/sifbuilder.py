"""SIF images made in memory: any objects, any signatures, with any errors in them.

The bytes are laid out here by hand, without the code under test, so that the two can disagree.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from eclctl.signature import openpgp
from eclctl.signature.keys import PublicKey, parse_public_key
from eclctl.trust.keyring import KeyStore
from tests.helpers import pgp
from tests.helpers.support import CORPUS

DEFFILE, ENVVAR, LABELS, PARTITION, SIGNATURE, JSON, GENERIC = range(0x4001, 0x4008)
ROOT_INDEX, OCI_BLOB = 0x400A, 0x400B
GROUP_BITS = 0xF0000000
UUID = bytes(range(16))
LAUNCH = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0")
PAYLOAD_TYPE = "application/vnd.sylabs.sif-metadata+json"
DESCRIPTOR = struct.Struct("<iBIIIqqqqqqq128s384s")
SIGNED = struct.Struct("<iBIIqqqq128s384s")
HASH_TYPES = {"sha256": 1, "sha384": 2, "sha512": 3}
SYSTEM, PRIMARY, DATA, OVERLAY = 1, 2, 3, 4
SQUASHFS, EXT3 = 1, 2


@dataclass
class Entry:
    """One data object: its descriptor's fields, raw, and its data."""

    kind: int
    data: bytes
    id: int
    group: int = 1
    link: int = 0
    name: bytes = b""
    extra: bytes = b""
    created: int = 1_700_000_000
    uid: int = 0
    gid: int = 0
    used: int = 1
    offset: int | None = None
    size: int | None = None

    @property
    def raw_group(self) -> int:
        return self.group | GROUP_BITS

    @property
    def length(self) -> int:
        return len(self.data) if self.size is None else self.size


@dataclass
class SifBuilder:
    """An image under construction. Objects and signatures are added in order; `build` gives the file."""

    uuid: bytes = UUID
    launch: bytes = LAUNCH
    slots: int = 48
    entries: list[Entry] = field(default_factory=list)

    def add(self, data: bytes, kind: int = GENERIC, **fields: object) -> Entry:
        """Add a data object, with the next ID unless one is given."""
        identity = fields.pop("id", max((entry.id for entry in self.entries), default=0) + 1)
        entry = Entry(kind, data, identity, **fields)  # type: ignore[arg-type]
        self.entries.append(entry)
        return entry

    def partition(self, data: bytes, part: int = PRIMARY, system: int = SQUASHFS, **fields: object) -> Entry:
        """Add a partition of a type, with a file system."""
        return self.add(data, PARTITION, extra=struct.pack("<iii", system, part, 0x3230), **fields)

    def header_bytes(self) -> bytes:
        """Return what is signed of the header."""
        return self.launch + b"SIF_MAGIC\0" + b"01\0" + self.uuid

    def signed_bytes(self, entry: Entry) -> bytes:
        """Return what is signed of a descriptor."""
        lowest = min(other.id for other in self.entries if other.raw_group == entry.raw_group)
        return SIGNED.pack(
            entry.kind,
            1,
            entry.id - lowest,
            entry.link,
            entry.length,
            entry.created,
            entry.uid,
            entry.gid,
            entry.name,
            entry.extra,
        )

    def metadata(self, group: int = 1, only: tuple[int, ...] | None = None, algorithm: str = "sha256") -> bytes:
        """Return what a signature over a group, or over some of its objects, says."""
        members = [entry for entry in self.entries if entry.group == group]
        lowest = min(entry.id for entry in members)

        def digest(data: bytes) -> str:
            return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"

        objects = [
            {
                "relativeId": entry.id - lowest,
                "descriptorDigest": digest(self.signed_bytes(entry)),
                "objectDigest": digest(entry.data),
            }
            for entry in members
            if only is None or entry.id in only
        ]
        document = {"version": 1, "header": {"digest": digest(self.header_bytes())}, "objects": objects}
        return json.dumps(document, separators=(",", ":")).encode()

    def attach(
        self, data: bytes, *, link: int = 1 | GROUP_BITS, fingerprint: bytes = b"", hash_type: int = 1, **fields: object
    ) -> Entry:
        """Add a signature object."""
        extra = struct.pack("<i", hash_type) + fingerprint
        return self.add(data, SIGNATURE, group=0, link=link, extra=extra, **fields)

    def sign_pgp(
        self,
        key: pgp.Key,
        group: int = 1,
        only: tuple[int, ...] | None = None,
        *,
        algorithm: str = "sha256",
        text: bytes | None = None,
        fingerprint: bytes | None = None,
        created: int = pgp.SIGNED,
    ) -> Entry:
        """Sign a group, or some of its objects, with an OpenPGP key."""
        text = self.metadata(group, only, algorithm) if text is None else text
        claimed = key.raw if fingerprint is None else fingerprint
        return self.attach(pgp.clearsign(key, text=text, created=created), link=group | GROUP_BITS, fingerprint=claimed)

    def sign_dsse(
        self,
        *keys: PemKey,
        group: int = 1,
        only: tuple[int, ...] | None = None,
        text: bytes | None = None,
        **fields: object,
    ) -> Entry:
        """Sign a group, or some of its objects, with PEM keys, all in one envelope."""
        text = self.metadata(group, only) if text is None else text
        return self.attach(envelope(text, *keys), link=group | GROUP_BITS, **fields)

    def sign_legacy(
        self, key: pgp.Key, group: int | None = None, identity: int | None = None, algorithm: str = "sha256"
    ) -> Entry:
        """Sign the data of a group or of one object, as it was done before 2020."""
        covered = [entry for entry in self.entries if entry.group == group or entry.id == identity]
        digest = hashlib.new(algorithm, b"".join(entry.data for entry in covered)).hexdigest()
        message = pgp.clearsign(key, text=b"SIFHASH:\n" + digest.encode())
        link = group | GROUP_BITS if group is not None else identity
        return self.attach(message, link=link, fingerprint=key.raw, hash_type=HASH_TYPES[algorithm])

    def build(self) -> bytes:
        """Return the image."""
        start = 4096 + self.slots * DESCRIPTOR.size
        table, data = b"", b""
        for entry in self.entries:
            if entry.kind == PARTITION:
                data += b"\0" * (-(start + len(data)) % 4096)
            offset = start + len(data) if entry.offset is None else entry.offset
            table += self._descriptor(entry, offset)
            data += entry.data
        times = struct.pack("<qq", 1_700_000_000, 1_700_000_000)
        counts = (self.slots - len(self.entries), self.slots, 4096, self.slots * DESCRIPTOR.size, start, len(data))
        head = self.launch + b"SIF_MAGIC\0" + b"01\0" + b"02\0" + self.uuid + times + struct.pack("<6q", *counts)
        return head.ljust(4096, b"\0") + table.ljust(self.slots * DESCRIPTOR.size, b"\0") + data

    def _descriptor(self, entry: Entry, offset: int) -> bytes:
        return DESCRIPTOR.pack(
            entry.kind,
            entry.used,
            entry.id,
            entry.raw_group,
            entry.link,
            offset,
            entry.length,
            entry.length,
            entry.created,
            entry.created,
            entry.uid,
            entry.gid,
            entry.name,
            entry.extra,
        )


def sample(**fields: object) -> SifBuilder:
    """Return an image of a definition file, labels and a primary partition, unsigned."""
    builder = SifBuilder(**fields)  # type: ignore[arg-type]
    builder.add(b"bootstrap: docker\n", DEFFILE, name=b"Singularity")
    builder.add(b'{"labels":{}}', JSON, name=b"labels.json")
    builder.partition(b"hsqs" + bytes(4092), name=b"squash")
    return builder


@contextmanager
def opened(image: bytes | SifBuilder | Path) -> Iterator[int]:
    """Give a descriptor of an image, open for reading."""
    if isinstance(image, Path):
        fd = os.open(image, os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    with tempfile.TemporaryFile() as file:
        file.write(image.build() if isinstance(image, SifBuilder) else image)
        file.flush()
        yield file.fileno()


@dataclass(frozen=True)
class PemKey:
    """A private key that signs DSSE envelopes, and its public half."""

    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

    @property
    def pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public(self) -> PublicKey:
        return parse_public_key(self.pem)

    def sign(self, message: bytes) -> bytes:
        match self.private:
            case rsa.RSAPrivateKey():
                return self.private.sign(message, padding.PKCS1v15(), SHA256())
            case ec.EllipticCurvePrivateKey():
                return self.private.sign(message, ec.ECDSA(SHA256()))
        return self.private.sign(message)

    @property
    def keyid(self) -> str:
        blob = self.private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
        return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")


@cache
def pem_key(name: str) -> PemKey:
    """Return a PEM key of the corpus: p256, p384, p521, ed25519, rsa2048, rsa4096, stranger."""
    text = (CORPUS / "keys" / "pem" / f"{name}-private.pem").read_bytes()
    return PemKey(load_pem_private_key(text, None))  # type: ignore[arg-type]


def envelope(payload: bytes, *keys: PemKey, payload_type: str = PAYLOAD_TYPE, keyids: bool = True) -> bytes:
    """Return a DSSE envelope signed by each key, in compact JSON as the reference writes it."""
    message = b"DSSEv1 %d %b %d %b" % (len(payload_type), payload_type.encode(), len(payload), payload)
    document = {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [
            {"keyid": key.keyid if keyids else "", "sig": base64.b64encode(key.sign(message)).decode()} for key in keys
        ],
    }
    return json.dumps(document, separators=(",", ":")).encode()


@cache
def corpus_pgp_key(name: str) -> pgp.Key:
    """Return the primary key of a corpus certificate whose primary is RSA, ECDSA or old Ed25519, ready to sign."""
    lines = (CORPUS / "keys" / "pgp" / f"{name}-secret.asc").read_text().splitlines()
    body = [line for line in lines[lines.index("") + 1 :] if not line.startswith(("=", "-"))]
    return _secret_key(_first_packet(base64.b64decode("".join(body))))


def _first_packet(data: bytes) -> bytes:
    if data[0] & 0x40:
        first = data[1]
        if first < 192:
            return data[2 : 2 + first]
        return data[3 : 3 + ((first - 192) << 8) + data[2] + 192]
    length = int.from_bytes(data[1:3]) if data[0] & 3 == 1 else data[1]
    start = 3 if data[0] & 3 == 1 else 2
    return data[start : start + length]


def _mpis(data: bytes) -> Iterator[int]:
    while len(data) > 2:
        size = (int.from_bytes(data[:2]) + 7) // 8
        yield int.from_bytes(data[2 : 2 + size])
        data = data[2 + size :]


def _secret_key(body: bytes) -> pgp.Key:
    created, algorithm = int.from_bytes(body[1:5]), body[5]
    if algorithm == 1:
        n_bits = int.from_bytes(body[6:8])
        at = 8 + (n_bits + 7) // 8
        at += 2 + (int.from_bytes(body[at : at + 2]) + 7) // 8
        n, e = _mpis(body[6:at])
        d, p, q, _ = list(_mpis(body[at + 1 : -2]))
        numbers = rsa.RSAPrivateNumbers(
            p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), rsa.RSAPublicNumbers(e, n)
        )
        return pgp.Key(numbers.private_key(), created=created)
    oid_end = 7 + body[6]
    point_end = oid_end + 2 + (int.from_bytes(body[oid_end : oid_end + 2]) + 7) // 8
    (scalar,) = _mpis(body[point_end + 1 : -2])
    if algorithm == 22:
        return pgp.Key(ed25519.Ed25519PrivateKey.from_private_bytes(scalar.to_bytes(32)), created=created)
    curves: dict[int, ec.EllipticCurve] = {8: ec.SECP256R1(), 5: ec.SECP384R1()}
    curve = ec.SECP521R1() if body[7:oid_end].endswith(b"\x23") else curves[body[6]]
    if body[7:oid_end].endswith(b"\x22"):
        curve = ec.SECP384R1()
    return pgp.Key(ec.derive_private_key(scalar, curve), created=created)


def corpus_store(*rings: str, pem: tuple[str, ...] = ()) -> KeyStore:
    """Return a store of corpus keyrings (`site-ring`, `approval-ring`, …) and PEM keys by name."""
    blobs = [(CORPUS / "keys" / "pgp" / f"{ring}.asc").read_bytes() for ring in rings]
    return KeyStore.of(openpgp.Keyring.parse(*blobs), tuple(pem_key(name).public for name in pem))


def private_pem(key: PemKey) -> bytes:
    """Return a private key as PEM."""
    return key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def same_in_every_process(value: object) -> str | None:
    """Name a test's parameter: bytes with a fresh signature in them would be another name in each xdist worker."""
    return "bytes" if isinstance(value, bytes) else None
