"""Makes DSSE envelopes (DSSE v1), as `eclctl.signature.dsse` opens them.

Each key signs the pre-authentication encoding of payload and payload type, never the payload alone. The envelope is
written as the reference writes it: compact JSON in this order of members, standard base64, the SSH fingerprint of each
key as its `keyid`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from eclctl.errors import SigningError
from eclctl.sign.pem import PrivateKey
from eclctl.signature.dsse import MAX_SIGNATURES, PAYLOAD_TYPE, pae

__all__ = ["seal"]


def seal(payload: bytes, keys: Sequence[PrivateKey]) -> bytes:
    """Return an envelope of SIF metadata with a signature by each key, in their order; a key given twice signs once.

    Raises:
        SigningError: There is no key, or there are more than any reader looks at.
    """
    signers = list({key.public.id: key for key in keys}.values())
    if not 0 < len(signers) <= MAX_SIGNATURES:
        raise SigningError(f"an envelope has 1 to {MAX_SIGNATURES} signatures; there are {len(signers)} keys")
    message = pae(PAYLOAD_TYPE, payload)
    document = {
        "payloadType": PAYLOAD_TYPE,
        "payload": _base64(payload),
        "signatures": [{"keyid": key.public.keyid, "sig": _base64(key.sign(message))} for key in signers],
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
