"""Legacy signatures, as they were made before 2020: a clear-signed digest of data alone.

The signed text is `SIFHASH:`, a line feed, the hex digest by the algorithm that the (unsigned) descriptor names, and
perhaps a line feed. Nothing else of the image is covered, which is why such signatures count only where a site asks
for them.
"""

from __future__ import annotations

import re

from eclctl.signature.metadata import Digest
from eclctl.terms import Finding

__all__ = ["DESCRIPTOR_ALGORITHMS", "UNSUPPORTED_HASH", "parse"]

DESCRIPTOR_ALGORITHMS = {1: "sha256", 2: "sha384", 3: "sha512"}
"""The hash numbers of a signature's descriptor that legacy signatures can use."""

UNSUPPORTED_HASH = Finding("unsupported-hash", "hash algorithm unsupported")

_SIZES = {"sha256": 32, "sha384": 48, "sha512": 64}
_TEXT = re.compile(rb"SIFHASH:\r?\n((?:[0-9a-fA-F]{2})+)(?:\r?\n)?")


def parse(text: bytes, hash_type: int) -> Digest | Finding:
    """Return the digest of a legacy signature's verified text.

    Args:
        text: The text that the signature covers.
        hash_type: The descriptor's hash number.
    """
    algorithm = DESCRIPTOR_ALGORITHMS.get(hash_type)
    if algorithm is None:
        return UNSUPPORTED_HASH
    match = _TEXT.fullmatch(text)
    if match is None:
        return Finding("bad-metadata", "the signed text is not a legacy digest")
    value = bytes.fromhex(match[1].decode("ascii"))
    if len(value) != _SIZES[algorithm]:
        return Finding("bad-metadata", "digest malformed")
    return Digest(algorithm, value)
