"""Detached signatures, RFC 9580 section 10.4: one armored block of signature packets, read strictly.

The block is all there is: a reader of the file must not find unsigned words in it.
"""

from __future__ import annotations

from typing import Final, NoReturn

from eclctl.terms import Finding

from .cleartext import read_signature_packets
from .errors import FindingCode, PacketError, VerificationError

MAX_DETACHED: Final = 64 * 1024
"""The longest file of signatures that is looked at, in octets."""

_BEGIN: Final = b"-----BEGIN PGP SIGNATURE-----"
_END: Final = b"-----END PGP SIGNATURE-----"


def parse_detached(armored: bytes) -> tuple[bytes, ...]:
    """Return the bodies of the signature packets in an armored block.

    Args:
        armored: The block; its lines end in LF or CR LF, the last one in either or nothing.

    Raises:
        VerificationError: Code `bad-framing`: anything else stands there, or it is too large.
    """
    if len(armored) > MAX_DETACHED:
        _refuse(f"larger than {MAX_DETACHED} octets")
    lines = armored.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    if lines[0] != _BEGIN or lines[-1] != _END:
        _refuse("something else than one armored signature stands there; make it with gpg --armor --detach-sign")
    try:
        return read_signature_packets(lines[1:-1])
    except PacketError as error:
        _refuse(str(error))


def _refuse(why: str) -> NoReturn:
    raise VerificationError(Finding(FindingCode.BAD_FRAMING, f"detached signature not found: {why}"))
