"""What a SIF signature says: image metadata, version 1, or a legacy digest.

    {"version":1,"header":{"digest":"sha256:…"},
     "objects":[{"relativeId":0,"descriptorDigest":"sha256:…","objectDigest":"sha256:…"}]}

Exactly these members, each once. Only text that a signature has verified is parsed here.

Legacy signatures, as they were made before 2020, sign a digest of data alone: `SIFHASH:`, a line feed, the hex digest
by the algorithm that the (unsigned) descriptor names, and perhaps a line feed. Nothing else of the image is covered,
which is why such signatures count only where a site asks for them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from eclctl import strictjson
from eclctl.strictjson import MembersError, members
from eclctl.terms import Finding

if TYPE_CHECKING:
    from _hashlib import HASH

ALGORITHMS: dict[str, Callable[[], HASH]] = {
    "sha224": hashlib.sha224,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "sha512_224": partial(hashlib.new, "sha512_224"),
    "sha512_256": partial(hashlib.new, "sha512_256"),
}
"""Digest names that count, and how to make such a hash."""

_SIZES = {"sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64, "sha512_224": 28, "sha512_256": 32}
_LEGACY_ALGORITHMS = {1: "sha256", 2: "sha384", 3: "sha512"}  # by the hash number of a signature's descriptor
_LEGACY_TEXT = re.compile(rb"SIFHASH:\r?\n((?:[0-9a-fA-F]{2})+)(?:\r?\n)?")
UNSUPPORTED_HASH = Finding("unsupported-hash", "hash algorithm unsupported")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_MAX_RELATIVE = 0xFFFFFFFF


class Digest(NamedTuple):
    """A digest and the name of its algorithm, one of `ALGORITHMS`."""

    algorithm: str
    value: bytes

    def matches(self, data: bytes) -> bool:
        """Return whether this is the digest of `data`."""
        made = ALGORITHMS[self.algorithm]()
        made.update(data)
        return made.digest() == self.value


class ObjectMetadata(NamedTuple):
    """What is signed of one data object. `relative` counts from the lowest object ID of the group."""

    relative: int
    descriptor: Digest
    data: Digest


class Metadata(NamedTuple):
    """What is signed of an image: its header and some data objects of one group."""

    header: Digest
    objects: tuple[ObjectMetadata, ...]


def parse_metadata(text: bytes) -> Metadata | Finding:
    """Return the metadata in a signed text, or a finding `bad-metadata` that says why it is none."""
    try:
        metadata = _metadata(strictjson.loads(text))
    except strictjson.JsonError as error:
        return Finding("bad-metadata", f"metadata is not valid JSON: {error}")
    except MembersError as error:
        return Finding("bad-metadata", str(error))
    return metadata


def parse_legacy_digest(text: bytes, hash_type: int) -> Digest | Finding:
    """Return the digest of a legacy signature's verified text.

    Args:
        text: The text that the signature covers.
        hash_type: The descriptor's hash number.
    """
    algorithm = _LEGACY_ALGORITHMS.get(hash_type)
    if algorithm is None:
        return UNSUPPORTED_HASH
    match = _LEGACY_TEXT.fullmatch(text)
    if match is None:
        return Finding("bad-metadata", "the signed text is not a legacy digest")
    value = bytes.fromhex(match[1].decode("ascii"))
    return Digest(algorithm, value) if len(value) == _SIZES[algorithm] else Finding("bad-metadata", "digest malformed")


def _metadata(document: Any) -> Metadata:
    metadata = members(document, ("version", "header", "objects"))
    if metadata["version"] != 1 or isinstance(metadata["version"], bool):
        raise MembersError(f"metadata version {metadata['version']!r:.32} is not known")
    header = _digest(members(metadata["header"], ("digest",))["digest"])
    if not isinstance(metadata["objects"], list):
        raise MembersError("objects is not a list")
    objects = tuple(_object(item) for item in metadata["objects"])
    if len({item.relative for item in objects}) != len(objects):
        raise MembersError("an object is listed twice")
    return Metadata(header, objects)


def _digest(text: Any) -> Digest:
    name, separator, value = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not separator or not _HEX.fullmatch(value):
        raise MembersError("digest malformed")
    if name not in ALGORITHMS:
        raise MembersError("hash algorithm unsupported")
    if len(value) != 2 * _SIZES[name]:
        raise MembersError("digest malformed")
    return Digest(name, bytes.fromhex(value))


def _object(item: Any) -> ObjectMetadata:
    signed = members(item, ("relativeId", "descriptorDigest", "objectDigest"))
    relative = signed["relativeId"]
    if not isinstance(relative, int) or isinstance(relative, bool) or relative > _MAX_RELATIVE:
        raise MembersError("relativeId is not a 32-bit number")
    return ObjectMetadata(relative, _digest(signed["descriptorDigest"]), _digest(signed["objectDigest"]))
