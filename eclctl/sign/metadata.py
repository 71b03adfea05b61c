"""Writes the metadata of a SIF signature, the text that `eclctl.signature.metadata` reads, byte for byte as SIF does.

    {"version":1,"header":{"digest":"sha256:…"},"objects":[{"relativeId":0,"descriptorDigest":…,"objectDigest":…}]}

The members are in this order, without white space and without a newline at the end; objects are in the order of their
IDs, which are counted from the lowest ID of the group (SIF, image metadata version 1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from eclctl.errors import SigningError
from eclctl.sif.reader import Descriptor, Header
from eclctl.signature.metadata import ALGORITHMS

HASHES: tuple[str, ...] = tuple(ALGORITHMS)
"""The digests that metadata can be written with, by their names in it and in hashlib."""


def write(header: Header, objects: Sequence[Descriptor], digests: Mapping[int, bytes], algorithm: str) -> bytes:
    """Return the metadata of some data objects of one group.

    Args:
        header: The image's.
        objects: What is signed: at least one data object, all of one group; an object given twice is listed once.
        digests: The digest of each object's data, by object ID.
        algorithm: One of `HASHES`, for all digests.

    Raises:
        SigningError: There is nothing to sign, or the objects are of several groups, which cannot be verified.
    """
    if not objects or any(each.group != objects[0].group for each in objects):
        raise SigningError("a signature covers at least one data object, and those of one group alone")
    if algorithm not in ALGORITHMS:
        raise SigningError(f"{algorithm} is no digest of image metadata; there are: {', '.join(HASHES)}")
    listed = sorted({each.id: each for each in objects}.values(), key=lambda each: each.id)
    document = {
        "version": 1,
        "header": {"digest": _digest(algorithm, header.signed_bytes)},
        "objects": [_object(each, digests[each.id], algorithm) for each in listed],
    }
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _object(descriptor: Descriptor, digest: bytes, algorithm: str) -> dict[str, Any]:
    return {
        "relativeId": descriptor.relative,
        "descriptorDigest": _digest(algorithm, descriptor.signed_bytes),
        "objectDigest": f"{algorithm}:{digest.hex()}",
    }


def _digest(algorithm: str, data: bytes) -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
