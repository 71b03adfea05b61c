"""cosign's signatures: a payload in simple-signing form, and a signature over exactly its bytes.

The payload is containers-signature(5): `critical` has exactly its members, each of which must be understood, and
`optional` is the signer's to fill. The signature is base64 in the annotation of the payload's layer. ECDSA and RSA
(PKCS #1 v1.5) sign the SHA-256 of the payload with any key, Ed25519 the payload itself: `keys.PublicKey.verify`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eclctl import strictjson
from eclctl.sif.oci import is_digest
from eclctl.signature.dsse import Effort
from eclctl.signature.keys import PublicKey
from eclctl.strictjson import MembersError, members
from eclctl.terms import Finding, purpose

PAYLOAD_TYPE = "cosign container image signature"
"""What `critical.type` must be."""

ANNOTATION = "dev.cosignproject.cosign/signature"
"""The annotation of a layer that holds the signature over it."""

UNSUPPORTED = Finding(
    "unsupported-signature-format",
    "a signature in cosign's bundle format, which is not supported:"
    " sign with `cosign sign --new-bundle-format=false --use-signing-config=false` or `singularity sign --cosign`",
)
"""What is said of a signature in the format that cosign 3 writes unless told otherwise."""

PURPOSE = "purpose"
"""The member of `optional` by which a signature says what it approves: `cosign sign -a purpose=scan`."""

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_MAX_SIGNATURE = 4096  # base64 of an RSA-16384 signature has 2732 characters
_UNKNOWN_KEY = Finding("unknown-key", "signature made by unknown entity")
_TOO_MANY = Finding("too-many", "more signatures than are looked at")


class Payload(NamedTuple):
    """What a signature says: the digest of a manifest, the repository that it was signed in ("" for none), and more.

    `optional` is what the signer added; None when there is none.
    """

    digest: str
    repository: str
    optional: Mapping[str, Any] | None

    @property
    def annotations(self) -> frozenset[tuple[str, str]]:
        """The texts that the signer added, by name."""
        return frozenset((name, text) for name, text in (self.optional or {}).items() if isinstance(text, str))

    @property
    def purposes(self) -> frozenset[str]:
        """What the signer approves: the one that is stated, or none."""
        said = self.optional or {}
        return frozenset({purpose(said[PURPOSE])}) if PURPOSE in said else frozenset()

    @property
    def document(self) -> dict[str, Any]:
        """The payload as JSON values, in the shape of the reference's output."""
        critical = {
            "identity": {"docker-reference": self.repository},
            "image": {"docker-manifest-digest": self.digest},
            "type": PAYLOAD_TYPE,
        }
        return {"critical": critical, "optional": None if self.optional is None else dict(self.optional)}


def parse_payload(data: bytes) -> Payload | Finding:
    """Return the simple-signing payload in `data`, or a finding `bad-payload`. For what is verified alone."""
    try:
        return _payload(strictjson.loads(data, any_number=True))
    except strictjson.JsonError as error:
        return Finding("bad-payload", f"the cosign payload is not valid JSON: {error}")
    except MembersError as error:
        return Finding("bad-payload", f"the cosign payload is not valid: {error}")


def verify_payload(
    payload: bytes, signature: str | None, keys: Sequence[PublicKey], effort: Effort
) -> PublicKey | Finding:
    """Return the key among `keys` that made a signature.

    Args:
        payload: The bytes of the layer.
        signature: The annotation's base64 text, None when there is none.
        keys: The keys to try.
        effort: What may be spent on one image.
    """
    decoded = _decoded(signature)
    if isinstance(decoded, Finding):
        return decoded
    for key in keys:
        if not effort.spend():
            return _TOO_MANY
        if key.verify(decoded, payload):
            return key
    return _UNKNOWN_KEY


def _decoded(text: str | None) -> bytes | Finding:
    """Return the bytes of padded standard base64 (RFC 4648 section 4)."""
    if text is None:
        return Finding("bad-signature", f"the layer has no annotation {ANNOTATION}")
    if len(text) > _MAX_SIGNATURE or not _BASE64.fullmatch(text):
        return Finding("bad-signature", "the signature is no base64")
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return Finding("bad-signature", "the signature is no base64")


def _payload(document: Any) -> Payload:
    payload = members(document, ("critical",), ("optional",))
    critical = members(payload["critical"], ("type", "image", "identity"))
    if critical["type"] != PAYLOAD_TYPE:
        raise MembersError(f"its type is {str(critical['type'])[:64]!r}")
    digest = members(critical["image"], ("docker-manifest-digest",))["docker-manifest-digest"]
    if not is_digest(digest):
        raise MembersError("docker-manifest-digest is no SHA-256 digest")
    repository = members(critical["identity"], ("docker-reference",))["docker-reference"]
    if not isinstance(repository, str):
        raise MembersError("docker-reference is no text")
    optional = payload.get("optional")
    if optional is not None and not isinstance(optional, dict):
        raise MembersError("optional is no object")
    return Payload(digest, repository, optional)
