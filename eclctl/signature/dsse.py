"""DSSE envelopes (DSSE v1): a payload, its type, and signatures over both together.

What is signed is the pre-authentication encoding, never the payload alone, so that a payload cannot change its type.
The `keyid` is a hint. But a signature whose `keyid` names another key than the one that would verify it does not count,
as in the reference.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eclctl import strictjson
from eclctl.signature.keys import PublicKey
from eclctl.strictjson import MembersError
from eclctl.terms import Finding

PAYLOAD_TYPE = "application/vnd.sylabs.sif-metadata+json"
"""The payload type of SIF metadata, the only one that counts."""

MAX_SIGNATURES = 16
"""The most signatures that are looked at in one envelope."""

_MAX_COMMAS = 4096
"""Envelopes have a handful. A megabyte of small values would cost more to parse than a thousand signatures."""

_FAILED = "dsse: verify envelope failed"
_NOT_ACCEPTED = f"{_FAILED}: accepted signatures do not match threshold, Found: 0, Expected 1"
_MEMBERS = ("payloadType", "payload", "signatures")
_LENIENT = json.JSONDecoder()
_STANDARD = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_URL_SAFE = re.compile(r"[A-Za-z0-9_-]*={0,2}")


class EnvelopeSignature(NamedTuple):
    """One signature of an envelope: the raw bytes, and the SSH fingerprint of a key, or "" for any."""

    keyid: str
    signature: bytes


class Envelope(NamedTuple):
    """A DSSE envelope of SIF metadata whose signatures have not been looked at. `payload` is decoded."""

    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]


class Effort:
    """How many more signatures may be tried with a key: junk without a keyid must not cost keys times signatures."""

    def __init__(self, left: int = 4096) -> None:
        self.left = left

    def spend(self) -> bool:
        """Take one try; False when there is none left."""
        self.left -= 1
        return self.left >= 0


def is_envelope(data: bytes) -> bool:
    """Return whether `data` begins with JSON that says it is an envelope of SIF metadata.

    This is lenient, as the reference is: what `parse_envelope` then refuses was an envelope, if a broken one.
    """
    start = data.lstrip(b" \t\r\n")
    if not start.startswith(b"{") or start.count(b",") > _MAX_COMMAS:
        return False
    try:
        document, _ = _LENIENT.raw_decode(start.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and document.get("payloadType") == PAYLOAD_TYPE


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding (DSSE v1, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def parse_envelope(data: bytes) -> Envelope | Finding:
    """Return the envelope in `data`, or a finding `bad-envelope`."""
    try:
        return _envelope(strictjson.loads(data))
    except strictjson.JsonError as error:
        return Finding("bad-envelope", f"{_FAILED}: not valid JSON: {error}")
    except MembersError as error:
        return Finding("bad-envelope", f"{_FAILED}: {error}")


def verify_envelope(
    envelope: Envelope, keys: Sequence[PublicKey], effort: Effort | None = None
) -> tuple[PublicKey, ...] | Finding:
    """Return the keys among `keys` that signed the payload, at least one; or why there is none.

    A key that signed twice is there once. Every other signature is passed over: one is enough.

    Args:
        envelope: From `parse_envelope`.
        keys: The keys to try.
        effort: What may be spent, when several envelopes share one budget.
    """
    effort = effort or Effort()
    message = pae(PAYLOAD_TYPE, envelope.payload)
    accepted: dict[str, PublicKey] = {}
    named = False
    for signature in envelope.signatures:
        for key in keys:
            if signature.keyid in ("", key.keyid) and key.id not in accepted:
                if not effort.spend():
                    return Finding("too-many", f"{_FAILED}: more signatures than are looked at")
                named = named or signature.keyid != ""
                if key.verify(signature.signature, message):
                    accepted[key.id] = key
                    break
    if not accepted:
        return Finding("bad-signature" if named else "unknown-key", _NOT_ACCEPTED)
    return tuple(accepted.values())


def _envelope(document: Any) -> Envelope:
    # Members that are not ours are allowed: DSSE wants them ignored. Ours in other letters are not: some readers
    # would take them.
    if not isinstance(document, dict) or document.get("payloadType") != PAYLOAD_TYPE:
        raise MembersError("unexpected payload type")
    _refuse_variants(document, _MEMBERS)
    signatures = document.get("signatures")
    if signatures is None or signatures == []:
        raise MembersError("no signature found")
    if not isinstance(signatures, list) or len(signatures) > MAX_SIGNATURES:
        raise MembersError(f"signatures is no list of at most {MAX_SIGNATURES}")
    return Envelope(_decoded(document.get("payload")), tuple(_signature(item) for item in signatures))


def _signature(item: Any) -> EnvelopeSignature:
    if not isinstance(item, dict):
        raise MembersError("a signature is no object")
    _refuse_variants(item, ("keyid", "sig"))
    keyid = item.get("keyid", "")
    if keyid is None:
        keyid = ""
    if not isinstance(keyid, str):
        raise MembersError("a keyid is no string")
    return EnvelopeSignature(keyid, _decoded(item.get("sig")))


def _refuse_variants(members: Mapping[str, Any], names: Sequence[str]) -> None:
    name = strictjson.variant(members, names)
    if name is not None:
        raise MembersError(f"{name[:64]!r} is written in other letters")


def _decoded(text: Any) -> bytes:
    """Return the bytes of base64 text, standard or URL-safe, padded (DSSE v1, "envelope")."""
    why = "unable to base64 decode payload"
    if isinstance(text, str) and len(text) % 4 == 0:
        for characters, alphabet in ((_STANDARD, None), (_URL_SAFE, b"-_")):
            if characters.fullmatch(text):
                try:
                    return base64.b64decode(text, altchars=alphabet)
                except binascii.Error as error:
                    raise MembersError(f"{why}: {error}") from None
    raise MembersError(f"{why} (is payload in the right format?)")
