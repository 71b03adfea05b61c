"""Which sort of signature a signature object holds, before anything of it is verified.

This decides what is tried, never what counts. It looks where the reference looks, and as leniently: at the first
clear-signed message that is whole, whose text begins with `SIFHASH:` in legacy signatures alone, and for a DSSE
envelope of the SIF payload type. A damaged message must not pass for a legacy one: those are not looked at.
"""

from __future__ import annotations

import re

from eclctl.signature import dsse
from eclctl.terms import SignatureFormat

_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_HASHES = rb"(?i:MD5|SHA1|RIPEMD160|SHA224|SHA256|SHA384|SHA512|SHA3-256|SHA3-512)"
_HEADER = rb" *+Hash *+: *+" + _HASHES + rb" *+(?:, *+" + _HASHES + rb" *+)*+\r?\n"
_BLANK = rb"[ \t\r\f\v]*+\n"
_HEAD = re.compile(rb"\r?\n(?:" + _HEADER + rb")*+" + _BLANK)
_SIGNATURE = re.compile(rb"\n-----BEGIN PGP SIGNATURE-----\r?\n(?:[^\n:]*+:[^\n]*+\n)*+" + _BLANK)
# Possessive: nothing here can match in two ways, so a hostile header cannot make it remember places to go back to.
_SIGNATURE_LINE = re.compile(rb"\n-----BEGIN PGP SIGNATURE-----\r?\n")
_END = b"\n-----END PGP SIGNATURE-----"
_LEGACY = re.compile(rb"(?:- )?SIFHASH:[ \t]*\r?\n")


def recognize(data: bytes) -> SignatureFormat:
    """Return the format of a signature object's data; UNKNOWN when it is none of ours."""
    text = _find_text(data)
    if text is not None and _LEGACY.match(data, *text):
        return SignatureFormat.LEGACY
    if dsse.is_envelope(data):
        return SignatureFormat.DSSE
    return SignatureFormat.UNKNOWN if text is None else SignatureFormat.PGP


def _find_text(data: bytes) -> tuple[int, int] | None:
    """Return where the text of the first clear-signed message starts and ends, if that message is whole."""
    start = 0 if data.startswith(_BEGIN) else data.find(b"\n" + _BEGIN) + 1
    if start == 0 and not data.startswith(_BEGIN):
        return None
    head = _HEAD.match(data, start + len(_BEGIN))
    line = head and _SIGNATURE_LINE.search(data, head.end() - 1)
    if head is None or line is None or line.start() < head.end():
        return None
    end = data.find(_END, line.start() + 1)
    return (head.end(), line.start()) if end >= 0 and _SIGNATURE.match(data, line.start(), end) else None
