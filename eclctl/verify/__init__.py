"""Signatures of one image, put together from reader, keys and digests.

`examine` finds facts for the policy engine: every signature of the image, at all times. `verify_scope` mirrors the
reference's `verify` command: every signature in scope must pass, now.
"""

from __future__ import annotations

from eclctl.model import Kind
from eclctl.sif import reader
from eclctl.verify.examine import examine
from eclctl.verify.hashing import DigestCache, HashPool, hash_file
from eclctl.verify.reference import Material, Report, Scope, SignatureReport, verify_scope

__all__ = [
    "DigestCache",
    "HashPool",
    "Material",
    "Report",
    "Scope",
    "SignatureReport",
    "examine",
    "hash_file",
    "kind_of",
    "verify_scope",
]


def kind_of(fd: int) -> Kind:
    """Return whether the SIF image on an open descriptor is an OCI-SIF.

    Raises:
        EclctlError: As `sif.reader.read`.
    """
    return reader.read(fd).kind
