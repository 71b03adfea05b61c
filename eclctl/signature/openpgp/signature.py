"""Signature packets, versions 4 and 6: RFC 9580 section 5.2.

Only the hashed area is trusted. Of the unhashed area, the issuer (a hint) and an embedded signature (which proves
itself) are read; everything else there is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from eclctl.dataclass import dataclass, field
from eclctl.terms import NO_PURPOSE_KNOWN, Finding, purpose

from .algorithms import HASHES, HashAlgorithm
from .errors import FindingCode, PacketError, UnknownHashError
from .packets import read_subpacket

PURPOSE_NOTATION: Final = "purpose@eclctl.org"
"""The notation by which a signature says what it approves. The domain keeps the name apart from those of others (RFC
9580 section 5.2.3.24); no one is asked there."""

_MAX_SUBPACKETS: Final = 256


class SignatureType:
    """Signature type IDs, RFC 9580 section 5.2.1."""

    BINARY: Final = 0x00
    TEXT: Final = 0x01
    CERTIFICATIONS: Final = frozenset({0x10, 0x11, 0x12, 0x13})
    SUBKEY_BINDING: Final = 0x18
    PRIMARY_BINDING: Final = 0x19
    DIRECT_KEY: Final = 0x1F
    KEY_REVOCATION: Final = 0x20
    SUBKEY_REVOCATION: Final = 0x28
    CERTIFICATION_REVOCATION: Final = 0x30


@dataclass(slots=True)
class Signature:
    """A signature packet. It is not changed once it has been read.

    `trailer` is what is hashed after the signed content, `salt` what is hashed before it. `fields` are the
    algorithm-specific fields. Times are seconds since 1970, lifetimes in seconds, where 0 is for ever. `key_lifetime`
    and `flags` are None when the signature says nothing of them. `fingerprints` (upper-case hex) and `key_ids` are
    every hint at the issuer. `embedded` are the bodies of embedded signatures, `revokers` the fingerprints of
    designated revokers, `purposes` what the signature says that it approves. `problem` is set when the signature may
    not be relied on even where its mathematics hold.
    """

    version: int
    type: int
    algorithm: int
    hash: HashAlgorithm
    hash_id: int
    salt: bytes
    trailer: bytes
    left16: bytes
    fields: bytes
    created: int | None = None
    lifetime: int = 0
    key_lifetime: int | None = None
    flags: int | None = None
    primary: bool = False
    fingerprints: list[str] = field(default_factory=list)
    key_ids: list[bytes] = field(default_factory=list)
    embedded: list[bytes] = field(default_factory=list)
    revokers: list[str] = field(default_factory=list)
    critical_notation: str | None = None
    purposes: list[str] = field(default_factory=list)
    problem: Finding | None = None

    @classmethod
    def parse(cls, body: bytes) -> Signature:
        """Read the body of a signature packet.

        Subpackets that are malformed, or critical and not known, give a signature with a `problem`: one that revokes
        still revokes.

        Raises:
            PacketError: The body is malformed, of another version than 4 and 6, or under an unknown hash.
        """
        version = body[0] if body else 0
        if version not in _AREA_OCTETS:
            raise PacketError(f"a signature packet of version {version}")
        wide = _AREA_OCTETS[version]
        hashed, position = _read_area(body, 4, wide)
        hashed_end = position
        unhashed, position = _read_area(body, position, wide)
        left16, position = body[position : position + 2], position + 2
        algorithm = HASHES.get(body[3])
        if algorithm is None:
            raise UnknownHashError(f"hash function {body[3]}")
        salt = b""
        if version == 6:  # noqa: PLR2004 - the packet version
            salt, position = _read_salt(body, position, algorithm)
        trailer = body[:hashed_end] + bytes((version, 0xFF)) + hashed_end.to_bytes(4)
        signature = cls(version, body[1], body[2], algorithm, body[3], salt, trailer, left16, body[position:])
        try:
            _read_subpackets(hashed, signature, _HASHED, hashed=True)
            _read_subpackets(unhashed, signature, _UNHASHED, hashed=False)
        except PacketError as error:
            signature.problem = Finding(FindingCode.UNSUPPORTED, f"openpgp: invalid data: {error}")
        return signature

    @property
    def expires(self) -> int | None:
        """When the signature expires, or None for never."""
        return self.created + self.lifetime if self.created is not None and self.lifetime else None

    def names(self, fingerprint: str) -> bool:
        """Return whether there are hints at the issuer and every one of them is this key."""
        if any(hint != fingerprint for hint in self.fingerprints):
            return False
        if not self.key_ids:
            return bool(self.fingerprints)
        key_id = key_id_of(fingerprint)
        return all(hint == key_id for hint in self.key_ids)


def key_id_of(fingerprint: str) -> bytes:
    """Return the key ID: the end of a V4 fingerprint, the beginning of a V6 one (RFC 9580 section 5.5.4)."""
    return bytes.fromhex(fingerprint[-16:] if len(fingerprint) == 40 else fingerprint[:16])  # noqa: PLR2004


def user_id_prefix(user_id: bytes) -> bytes:
    """Return what stands for a user ID in signed content (RFC 9580 section 5.2.4)."""
    return b"\xb4" + len(user_id).to_bytes(4) + user_id


_AREA_OCTETS: Final = {4: 2, 6: 4}
"""How many octets the length of a subpacket area takes, by packet version."""


def _read_area(body: bytes, position: int, wide: int) -> tuple[bytes, int]:
    start = position + wide
    end = start + int.from_bytes(body[position:start])
    if start > len(body) or end > len(body):
        raise PacketError("a signature packet is truncated")
    return body[start:end], end


def _read_salt(body: bytes, position: int, algorithm: HashAlgorithm) -> tuple[bytes, int]:
    """Version 6 only: a salt whose size the hash prescribes (section 5.2.3 and table 23)."""
    end = position + 1 + algorithm.salt
    if not algorithm.salt or body[position : position + 1] != bytes((algorithm.salt,)) or end > len(body):
        raise PacketError("unexpected salt size for the given hash algorithm")
    return body[position + 1 : end], end


def _read_subpackets(area: bytes, said: Signature, readers: dict[int, _Reader], *, hashed: bool) -> None:
    seen: set[int] = set()
    position = count = 0
    while position < len(area):
        octet, body, position = read_subpacket(area, position)
        count += 1
        if count > _MAX_SUBPACKETS:
            raise PacketError("too many signature subpackets")
        kind, critical = octet & 0x7F, octet >= 0x80  # noqa: PLR2004 - the critical bit
        reader = readers.get(kind)
        if reader is not None:
            if kind in _SINGLE and kind in seen:
                raise PacketError(f"signature subpacket {kind} twice")
            seen.add(kind)
            reader(said, body, critical)
        elif hashed and not _has_shape(kind, body):
            raise PacketError(f"signature subpacket {kind} with bad length")
        if hashed and critical and kind not in _KNOWN:
            said.problem = Finding(
                FindingCode.UNSUPPORTED,
                f"openpgp: unsupported feature: unknown critical signature subpacket type {kind}",
            )
        if kind == _ISSUER_KEY_ID and said.version == 6 and hashed:  # noqa: PLR2004 - section 5.2.3.12
            raise PacketError("issuer subpacket found in v6 key")


_Reader = Callable[[Signature, bytes, bool], None]


def _number(body: bytes, what: str) -> int:
    if len(body) != 4:  # noqa: PLR2004 - a four-octet field
        raise PacketError(f"{what} not four bytes")
    return int.from_bytes(body)


def _read_created(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001 - the readers' signature
    said.created = _number(body, "signature creation time")


def _read_lifetime(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    said.lifetime = _number(body, "signature expiration time")


def _read_exportable(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    if body != b"\x01":
        said.problem = Finding(
            FindingCode.UNSUPPORTED, "openpgp: unsupported feature: signature with non-exportable certification"
        )


def _read_key_lifetime(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    said.key_lifetime = _number(body, "key expiration time")


def _read_flags(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    said.flags = body[0] if body else 0


def _read_primary(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    if len(body) != 1:
        raise PacketError("primary user id subpacket with bad length")
    said.primary = body != b"\0"


def _read_issuer_key_id(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    if len(body) != 8:  # noqa: PLR2004 - octets of a key ID
        raise PacketError("issuer subpacket with bad length")
    said.key_ids.append(body)


def _read_issuer_fingerprint(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    if not body or len(body) != {4: 21, 6: 33}.get(body[0]):
        raise PacketError("bad fingerprint length")
    said.fingerprints.append(body[1:].hex().upper())


def _read_notation(said: Signature, body: bytes, critical: bool) -> None:  # noqa: FBT001
    name_end = 8 + int.from_bytes(body[4:6])
    if len(body) < 8 or len(body) != name_end + int.from_bytes(body[6:8]):  # noqa: PLR2004 - the fixed part
        raise PacketError("notation data subpacket with bad length")
    name = body[8:name_end].decode("utf-8", "replace")
    if critical:
        said.critical_notation = name
    elif name == PURPOSE_NOTATION:
        # In any case, the signature is no approval without bounds: what cannot be read is for nothing.
        readable = bool(body[0] & _HUMAN_READABLE)
        said.purposes.append(purpose(body[name_end:].decode("utf-8", "replace")) if readable else NO_PURPOSE_KNOWN)


def _read_revoker(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    if len(body) in (22, 34) and body[0] & 0x80:
        said.revokers.append(body[2:].hex().upper())


def _read_embedded(said: Signature, body: bytes, _critical: bool) -> None:  # noqa: FBT001
    """Section 5.2.3.34: one back-signature. Its type is looked at before anything in it, so that none nests."""
    if said.embedded:
        raise PacketError("cannot have multiple embedded signatures")
    if said.type == SignatureType.PRIMARY_BINDING:
        raise PacketError("embedded signature within a primary key binding signature")
    if len(body) < 2 or body[1] != SignatureType.PRIMARY_BINDING:  # noqa: PLR2004 - version and type
        raise PacketError("cross-signature has unexpected type")
    back = Signature.parse(body)
    if back.problem is not None:
        said.problem = back.problem
    elif back.created is None:
        raise PacketError("no creation time in signature")
    said.embedded.append(body)


def _has_shape(kind: int, body: bytes) -> bool:
    """Return whether a subpacket that changes nothing here has the form that RFC 9580 section 5.2.3 gives it."""
    match kind:
        case 5:  # trust signature
            return len(body) == 2  # noqa: PLR2004 - level and amount
        case 6:  # regular expression
            return body.endswith(b"\0")
        case 29:  # reason for revocation
            return bool(body)
        case 35:  # intended recipient fingerprint
            return bool(body) and len(body) == (21 if body[0] < 5 else 33)  # noqa: PLR2004 - the key's version
        case 39:  # preferred AEAD ciphersuites
            return len(body) % 2 == 0
    return True


_HUMAN_READABLE: Final = 0x80  # of the first of the four octets of flags
_ISSUER_KEY_ID: Final = 16
_UNHASHED: Final[dict[int, _Reader]] = {
    _ISSUER_KEY_ID: _read_issuer_key_id,
    32: _read_embedded,
    33: _read_issuer_fingerprint,
}
_HASHED: Final[dict[int, _Reader]] = {
    2: _read_created,
    3: _read_lifetime,
    4: _read_exportable,
    9: _read_key_lifetime,
    12: _read_revoker,
    20: _read_notation,
    25: _read_primary,
    27: _read_flags,
    **_UNHASHED,
}
_SINGLE: Final = frozenset({2, 3, 4, 9, 25, 27})
"""Said twice, these leave open which one counts."""

_REVOKER: Final = 12
_HARMLESS: Final = frozenset({5, 6, 11, 21, 22, 23, 24, 26, 28, 29, 30, 35, 39})
"""Subpackets that change nothing here: preferences, features, trust in third parties, texts."""

_KNOWN: Final = _HARMLESS | _HASHED.keys() - {_REVOKER}
"""What may be critical, as in the reference, which does not know revokers. They count here, critical or not."""
