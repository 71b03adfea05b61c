"""Transferable keys (RFC 9580 section 10): taken apart into packets, merged, and written again.

Nothing is verified here: `signature.openpgp` judges what a key is worth. Packets are kept as they came, octet by octet,
so that nothing which a newer writer put there is lost. Merging only ever adds signatures: a revocation that was seen
once stays.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cache
from typing import Final

from eclctl.dataclass import dataclass, field, replace
from eclctl.errors import KeyMaterialError
from eclctl.signature.openpgp.armor import split_blocks
from eclctl.signature.openpgp.errors import PacketError
from eclctl.signature.openpgp.keys import OpenPgpKey, public_part
from eclctl.signature.openpgp.packets import Tag, read_packets
from eclctl.signature.openpgp.signature import Signature, SignatureType

_SECRET: Final = {Tag.SECRET_KEY: Tag.PUBLIC_KEY, Tag.SECRET_SUBKEY: Tag.PUBLIC_SUBKEY}
_PUBLIC: Final = {public: secret for secret, public in _SECRET.items()}
_ORDER: Final = {Tag.PUBLIC_KEY: 0, Tag.USER_ID: 1, Tag.USER_ATTRIBUTE: 2, Tag.PUBLIC_SUBKEY: 3}
_BLOCKS: Final = frozenset({"PUBLIC KEY BLOCK", "PRIVATE KEY BLOCK"})
_ARMOR: Final = re.compile(rb"^-----BEGIN PGP ", re.MULTILINE)
_COLUMNS: Final = 64
_MOST_LOOSE: Final = 1000
"""Revocations in one file. Each is tried on each key of a ring."""


class Protection(Enum):
    """What stands where the secret part of a key should be."""

    NONE = "none"
    PASSPHRASE = "passphrase"  # noqa: S105 - a word, and none that opens anything
    ABSENT = "absent"
    """GnuPG's stub: the key is elsewhere, as a primary key that is kept offline."""
    CARD = "card"
    """GnuPG's stub for a key on a smart card."""


@dataclass(slots=True)
class _Component:
    """A primary key, user ID, attribute or subkey. `body` is its public packet, `secret` the secret one's body."""

    tag: int
    body: bytes
    secret: bytes | None = None
    signatures: dict[bytes, None] = field(default_factory=dict)

    def merge(self, other: _Component) -> _Component:
        return replace(
            self, secret=_preferred_secret(self.secret, other.secret), signatures=self.signatures | other.signatures
        )

    def packets(self, *, secret: bool) -> Iterator[bytes]:
        if secret and self.secret is not None:
            yield _packet(_PUBLIC[self.tag], self.secret)
        else:
            yield _packet(self.tag, self.body)
        yield from (_packet(Tag.SIGNATURE, body) for body in self.signatures)


def _preferred_secret(mine: bytes | None, other: bytes | None) -> bytes | None:
    """Return the secret part to keep: what is there, unless it is a stub and the other one is not.

    A key that can be used is never replaced by what another user sends under its name.
    """
    if mine is None or other is None:
        return other if mine is None else mine
    stubs = {Protection.ABSENT, Protection.CARD}
    return other if protection(mine) in stubs and protection(other) not in stubs else mine


@dataclass(frozen=True, slots=True)
class TransferableKey:
    """One certificate, perhaps with its secret keys. `primary` is its primary key; frozen, so `merge` makes another."""

    primary: OpenPgpKey
    _components: dict[tuple[int, bytes], _Component]

    @property
    def fingerprint(self) -> str:
        """The primary fingerprint, in upper-case hex."""
        return self.primary.fingerprint

    @property
    def key_id(self) -> str:
        """The 16 digits by which keys are often called, in upper-case hex."""
        return self.primary.key_id.hex().upper()

    @property
    def user_ids(self) -> tuple[str, ...]:
        """Every user ID, whether anything binds it or not. Unescaped."""
        return tuple(
            part.body.decode("utf-8", "replace") for part in self._components.values() if part.tag == Tag.USER_ID
        )

    @property
    def protections(self) -> dict[str, Protection]:
        """By fingerprint, how the secret parts that are here are protected."""
        return {
            OpenPgpKey.parse(part.body).fingerprint: protection(part.secret)
            for part in self._components.values()
            if part.secret is not None
        }

    @property
    def has_secret(self) -> bool:
        """Whether there is a secret packet, be it a stub."""
        return any(part.secret is not None for part in self._components.values())

    def merge(self, other: TransferableKey) -> TransferableKey:
        """Return everything that either of two copies of one certificate holds."""
        merged = dict(self._components)
        for name, part in other._components.items():
            merged[name] = merged[name].merge(part) if name in merged else part
        return replace(self, _components=merged)

    def revoked_by(self, signature: bytes) -> TransferableKey | None:
        """Return this certificate with a revocation that stood alone; None when it is not this key's."""
        if not _revokes(self.primary, signature):
            return None
        merged = dict(self._components)
        name, part = next(item for item in merged.items() if item[1].tag == Tag.PUBLIC_KEY)
        merged[name] = replace(part, signatures=part.signatures | {signature: None})
        return replace(self, _components=merged)

    def without_foreign_signatures(self) -> TransferableKey:
        """Return this certificate without what strangers certified: anyone can put any number of these on a key.

        All revocations stay: a designated revoker may have signed them.
        """
        components = {
            name: replace(part, signatures={body: None for body in part.signatures if _counts(body, self.primary)})
            for name, part in self._components.items()
        }
        return replace(self, _components=components)

    def public(self) -> bytes:
        """Return the certificate, binary."""
        return self._write(secret=False)

    def whole(self) -> bytes:
        """Return the certificate with every secret part that is here, binary."""
        return self._write(secret=True)

    def _write(self, *, secret: bool) -> bytes:
        parts = sorted(self._components.values(), key=lambda part: _ORDER[part.tag])
        return b"".join(packet for part in parts for packet in part.packets(secret=secret))


def _counts(body: bytes, primary: OpenPgpKey) -> bool:
    """Return whether a signature can say anything to our verifier: it names the key itself, or revokes it."""
    revocations = {SignatureType.KEY_REVOCATION, SignatureType.SUBKEY_REVOCATION}
    return len(body) > 1 and (body[1] in revocations or primary.key_id in body)


def _revokes(primary: OpenPgpKey, body: bytes) -> bool:
    try:
        signature = Signature.parse(body)
    except PacketError:
        return False
    if signature.type != SignatureType.KEY_REVOCATION or not signature.names(primary.fingerprint):
        return False
    return primary.verifies(signature, primary.prefix) is not False


@dataclass(frozen=True, slots=True)
class KeyFile:
    """What a file of keys holds.

    `keys` are by primary fingerprint, copies merged; `revocations` the bodies of key revocations that stand alone, as
    `gpg --generate-revocation` writes them; `unreadable` the keys of versions or algorithms not known here, as packets.
    """

    keys: dict[str, TransferableKey]
    revocations: tuple[bytes, ...] = ()
    unreadable: tuple[bytes, ...] = ()


def parse_keys(blob: bytes) -> KeyFile:
    """Read a file of keys, public and secret.

    Args:
        blob: Armored (any number of blocks) or binary.

    Raises:
        KeyMaterialError: It is damaged, or there is no key and no revocation in it.
    """
    reader = _Reader()
    try:
        binary = blob[:1] >= b"\x80"
        for data in [blob] if binary else [data for kind, data in split_blocks(blob) if kind in _BLOCKS]:
            reader.read(data)
    except PacketError as error:
        raise KeyMaterialError(f"the keys are damaged: {error}") from error
    found = KeyFile(reader.keys, tuple(dict.fromkeys(reader.loose)), tuple(map(bytes, reader.unreadable)))
    if not found.keys and not found.revocations and not found.unreadable:
        raise KeyMaterialError("no OpenPGP key found")
    return found


@dataclass(slots=True)
class _Reader:
    """Sorts packets into keys."""

    keys: dict[str, TransferableKey] = field(default_factory=dict)
    loose: list[bytes] = field(default_factory=list)
    unreadable: list[bytearray] = field(default_factory=list)
    _key: TransferableKey | None = None
    _raw: bytearray | None = None
    _signatures: dict[bytes, None] | None = None

    def read(self, data: bytes) -> None:
        self._raw = None
        for tag, body in read_packets(data):
            self._packet(tag, body)
        self._key = None

    def _packet(self, tag: int, body: bytes) -> None:
        public = _SECRET.get(tag, tag)
        if public == Tag.PUBLIC_KEY:
            self._begin(tag, body)
        elif self._raw is not None:
            self._raw += _packet(tag, body)
        elif self._key is None:
            if tag == Tag.SIGNATURE:
                if len(self.loose) == _MOST_LOOSE:
                    raise PacketError(f"more than {_MOST_LOOSE} signatures without a key")
                self.loose.append(body)
        elif tag == Tag.SIGNATURE:
            if self._signatures is not None:
                self._signatures[body] = None
        elif public in _ORDER:
            self._signatures = _add(self._key, tag, body)

    def _begin(self, tag: int, body: bytes) -> None:
        self._key = self._raw = None
        try:
            part = _component(tag, body)
            primary = OpenPgpKey.parse(part.body)
        except PacketError:
            self._raw = bytearray(_packet(tag, body))
            self.unreadable.append(self._raw)
            return
        # A copy joins the one before in place: merging would copy that once for each copy, of which a file has many.
        self._key = self.keys.setdefault(primary.fingerprint, TransferableKey(primary, {}))
        self._signatures = _join(self._key, part)


def _add(key: TransferableKey, tag: int, body: bytes) -> dict[bytes, None] | None:
    """Add a component to a key; return where its signatures go, None where it cannot be read."""
    try:
        part = _component(tag, body)
        if part.tag == Tag.PUBLIC_SUBKEY:
            OpenPgpKey.parse(part.body)
    except PacketError:
        return None
    return _join(key, part)


def _join(key: TransferableKey, part: _Component) -> dict[bytes, None]:
    """Add a component without signatures to a key that is being read; return where its signatures go."""
    there = key._components.setdefault((part.tag, part.body), part)  # noqa: SLF001 - of this module's own class
    there.secret = _preferred_secret(there.secret, part.secret)
    return there.signatures


def _component(tag: int, body: bytes) -> _Component:
    if tag in _SECRET:
        part = public_part(body)
        protection(body)
        return _Component(_SECRET[tag], part, body)
    return _Component(tag, body)


def protection(secret: bytes) -> Protection:
    """Return how the secret part of a secret-key packet's body is protected (RFC 9580 section 5.5.3).

    Raises:
        PacketError: There is no secret part, not even a stub.
    """
    rest = secret[len(public_part(secret)) :]
    if not rest:
        raise PacketError("a secret key packet without its secret part")
    if rest[0] == 0:
        return Protection.NONE
    # GnuPG's own S2K: usage, cipher, specifier 101, hash, "GNU", then 1 for no key at all and 2 for one on a card.
    if rest[2:3] == b"\x65" and rest[4:7] == b"GNU":
        return Protection.CARD if rest[7:8] == b"\x02" else Protection.ABSENT
    return Protection.PASSPHRASE


def _packet(tag: int, body: bytes) -> bytes:
    """Write a packet as older readers want it too: a legacy header where there is one (section 4.2.2)."""
    if tag > 15:  # noqa: PLR2004 - what fits into a legacy header
        return bytes((0xC0 | tag, 0xFF)) + len(body).to_bytes(4) + body
    if len(body) < 1 << 16:
        return bytes((0x80 | tag << 2 | 1,)) + len(body).to_bytes(2) + body
    return bytes((0x80 | tag << 2 | 2,)) + len(body).to_bytes(4) + body


def holds_armor(blob: bytes) -> bool:
    """Return whether a file of keys is armored."""
    return blob[:1] < b"\x80" and _ARMOR.search(blob) is not None


def armored(keys: Iterable[bytes], *, secret: bool) -> bytes:
    """Return binary keys as one armored block (section 6.2), with the CRC24 that older readers want."""
    data = b"".join(keys)
    kind = b"PRIVATE KEY BLOCK" if secret else b"PUBLIC KEY BLOCK"
    text = base64.b64encode(data)
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    checksum = base64.b64encode(_crc24(data).to_bytes(3))
    begin, end = b"-----BEGIN PGP " + kind + b"-----", b"-----END PGP " + kind + b"-----"
    return b"\n".join([begin, b"", *lines, b"=" + checksum, end, b""])


def _crc24(data: bytes) -> int:
    """Section 6.1.1, an octet at a time."""
    crc, table = 0xB704CE, _crc24_table()
    for octet in data:
        crc = (crc << 8 & 0xFFFFFF) ^ table[crc >> 16 ^ octet]
    return crc


@cache
def _crc24_table() -> tuple[int, ...]:
    table = []
    for octet in range(256):
        crc = octet << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
        table.append(crc)
    return tuple(table)
