"""Which sort of signature a signature object holds, before anything of it is believed.

This decides what is tried, never what counts. It looks where the reference looks: first for a DSSE envelope of the SIF
payload type, then for the first clear-signed message, whose text begins with `SIFHASH:` in legacy signatures alone.
"""

from __future__ import annotations

import re

from eclctl.model import SignatureFormat
from eclctl.signature import dsse

__all__ = ["recognize"]

_BEGIN = b"-----BEGIN PGP SIGNED MESSAGE-----"
_HEAD = re.compile(rb"\r?\n((?:Hash ?:[ -~]*\r?\n)*)\r?\n")
_LEGACY = re.compile(rb"(?:- )?SIFHASH:[ \t]*\r?\n")
_SIGNATURE = b"\n-----BEGIN PGP SIGNATURE-----"


def recognize(data: bytes) -> SignatureFormat:
    """Return the format of a signature object's data; UNKNOWN when it is none of ours."""
    if dsse.is_envelope(data):
        return SignatureFormat.DSSE
    start = 0 if data.startswith(_BEGIN) else data.find(b"\n" + _BEGIN) + 1
    if start == 0 and not data.startswith(_BEGIN):
        return SignatureFormat.UNKNOWN
    head = _HEAD.match(data, start + len(_BEGIN))
    if head is None or data.find(_SIGNATURE, head.end() - 1) < 0:
        return SignatureFormat.UNKNOWN
    return SignatureFormat.LEGACY if _LEGACY.match(data, head.end()) else SignatureFormat.PGP
