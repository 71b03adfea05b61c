"""The Cleartext Signature Framework, RFC 9580 section 7, read strictly.

A reader of a clear-signed message must see exactly what was signed. So the message is all there is:
nothing before or after it, one block, `Hash` headers and no others, a separator line that is empty, no control
characters and no carriage return but in line endings, and every line that begins with a dash escaped. The framing is
checked before any cryptography.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, NoReturn

from eclctl.terms import Finding

from .armor import decode_body
from .errors import FindingCode, PacketError, VerificationError
from .packets import Tag, read_packets

MAX_MESSAGE: Final = 1 << 20
"""The longest message that is looked at, in octets."""

MAX_SIGNATURES: Final = 16

_BEGIN: Final = b"-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE: Final = b"-----BEGIN PGP SIGNATURE-----"
_END: Final = b"-----END PGP SIGNATURE-----"
_CONTROL: Final = bytes({*range(0x20), 0x7F} - {0x09, 0x0A, 0x0D})
_HASH_HEADER: Final = re.compile(rb"Hash: ([A-Z0-9-]+(?:, ?[A-Z0-9-]+)*)")
_MAX_HEADERS: Final = 16


class Cleartext(NamedTuple):
    """A message whose framing is right, before any cryptography.

    `text` is what is hashed: lines without trailing white space, separated by CR LF, none after the last. `hashes`
    are the names in the Hash headers. `signatures` are the bodies of the signature packets.
    """

    text: bytes
    hashes: frozenset[str]
    signatures: tuple[bytes, ...]


def parse_cleartext(message: bytes) -> Cleartext:
    """Read a clear-signed message that is nothing but itself.

    Args:
        message: The message; its lines end in LF or CR LF, the last one in either or nothing.

    Raises:
        VerificationError: Code `bad-framing`: the message is framed in any other way, or too large.
    """
    lines = _split(message)
    if lines[0] != _BEGIN:
        _refuse("something else stands before it")
    blank = next((i for i, line in enumerate(lines[: _MAX_HEADERS + 2]) if not line), 0)
    if not blank:
        _refuse("no empty line after its headers")
    try:
        signature = lines.index(_SIGNATURE, blank + 1)
        end = lines.index(_END, signature)
    except ValueError:
        _refuse("its signature is missing or has no end")
    if end != len(lines) - 1:
        _refuse("something else stands after it")
    hashes = _read_hashes(lines[1:blank])
    text = _read_text(lines[blank + 1 : signature])
    try:
        return Cleartext(text, hashes, read_signature_packets(lines[signature + 1 : end]))
    except PacketError as error:
        _refuse(str(error))


def _refuse(why: str) -> NoReturn:
    raise VerificationError(Finding(FindingCode.BAD_FRAMING, f"clearsigned message not found: {why}"))


def _split(message: bytes) -> list[bytes]:
    """Return the lines, without their endings and without the empty one after a final line ending."""
    if len(message) > MAX_MESSAGE:
        _refuse(f"larger than {MAX_MESSAGE} octets")
    if len(message.translate(None, _CONTROL)) != len(message):
        _refuse("it holds control characters")
    if b"\r" in message:
        message = message.replace(b"\r\n", b"\n")
        if b"\r" in message:
            _refuse("it holds a carriage return within a line")
    return message.removesuffix(b"\n").split(b"\n")


def _read_hashes(headers: list[bytes]) -> frozenset[str]:
    names: set[str] = set()
    for header in headers:
        match = _HASH_HEADER.fullmatch(header)
        if match is None:
            _refuse("it has a header that is not Hash")
        names.update(name.strip() for name in match[1].decode("ascii").split(","))
    return frozenset(names)


def _read_text(lines: list[bytes]) -> bytes:
    """Undo the dash escaping (section 7.2) and return the canonical text."""
    if not lines:
        _refuse("it has no text")
    if any(line.startswith(b"-") for line in lines):
        lines = [_unescape(line) for line in lines]
    return b"\r\n".join([line.rstrip(b" \t") for line in lines])


def _unescape(line: bytes) -> bytes:
    if line.startswith(b"-") and not line.startswith(b"- "):
        _refuse("a line of its text begins with a dash that is not escaped")
    return line.removeprefix(b"- ")


def read_signature_packets(lines: list[bytes]) -> tuple[bytes, ...]:
    """Return the bodies of the signature packets that armor holds.

    Raises:
        PacketError: The armor is malformed, or holds anything but 1 to `MAX_SIGNATURES` signatures.
    """
    packets = list(read_packets(decode_body(lines)))
    if not packets or len(packets) > MAX_SIGNATURES:
        raise PacketError(f"not 1 to {MAX_SIGNATURES} signatures")
    if any(tag != Tag.SIGNATURE for tag, _ in packets):
        raise PacketError("its armor holds other packets than signatures")
    return tuple(body for _, body in packets)
