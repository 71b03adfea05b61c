"""What a SIF signature says: image metadata, version 1.

    {"version":1,"header":{"digest":"sha256:…"},
     "objects":[{"relativeId":0,"descriptorDigest":"sha256:…","objectDigest":"sha256:…"}]}

Exactly these members, each once. Only text that a signature has verified is parsed here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from eclctl import strictjson
from eclctl.terms import Finding

__all__ = ["ALGORITHMS", "Digest", "Hash", "Metadata", "ObjectMetadata", "parse"]


class Hash(Protocol):
    """The part of a hashlib object that is used."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add data."""

    def digest(self) -> bytes:
        """Return the digest of what was added."""


def _truncated(name: str) -> Callable[[], Hash]:
    return lambda: hashlib.new(name)


ALGORITHMS: dict[str, Callable[[], Hash]] = {
    "sha224": hashlib.sha224,
    "sha256": hashlib.sha256,
    "sha384": hashlib.sha384,
    "sha512": hashlib.sha512,
    "sha512_224": _truncated("sha512_224"),
    "sha512_256": _truncated("sha512_256"),
}
"""Digest names that count, and how to make such a hash."""

_SIZES = {"sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64, "sha512_224": 28, "sha512_256": 32}
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


class _InvalidError(Exception):
    """The text is not image metadata."""


def parse(text: bytes) -> Metadata | Finding:
    """Return the metadata in a signed text, or a finding `bad-metadata` that says why it is none."""
    try:
        metadata = _metadata(strictjson.loads(text))
    except strictjson.JsonError as error:
        return Finding("bad-metadata", f"metadata is not valid JSON: {error}")
    except _InvalidError as error:
        return Finding("bad-metadata", str(error))
    return metadata


def _metadata(document: Any) -> Metadata:
    members = _members(document, "version", "header", "objects")
    if members["version"] != 1 or isinstance(members["version"], bool):
        raise _InvalidError(f"metadata version {members['version']!r:.32} is not known")
    header = _digest(_members(members["header"], "digest")["digest"])
    if not isinstance(members["objects"], list):
        raise _InvalidError("objects is not a list")
    objects = tuple(_object(item) for item in members["objects"])
    if len({item.relative for item in objects}) != len(objects):
        raise _InvalidError("an object is listed twice")
    return Metadata(header, objects)


def _digest(text: Any) -> Digest:
    name, separator, value = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not separator or not _HEX.fullmatch(value):
        raise _InvalidError("digest malformed")
    if name not in ALGORITHMS:
        raise _InvalidError("hash algorithm unsupported")
    if len(value) != 2 * _SIZES[name]:
        raise _InvalidError("digest malformed")
    return Digest(name, bytes.fromhex(value))


def _object(item: Any) -> ObjectMetadata:
    members = _members(item, "relativeId", "descriptorDigest", "objectDigest")
    relative = members["relativeId"]
    if not isinstance(relative, int) or isinstance(relative, bool) or relative > _MAX_RELATIVE:
        raise _InvalidError("relativeId is not a 32-bit number")
    return ObjectMetadata(relative, _digest(members["descriptorDigest"]), _digest(members["objectDigest"]))


def _members(value: Any, *names: str) -> dict[str, Any]:
    """Return a JSON object that has exactly these members."""
    if not isinstance(value, dict):
        raise _InvalidError(f"an object with {', '.join(names)} is needed")
    if value.keys() != set(names):
        odd = min(value.keys() ^ set(names))
        raise _InvalidError(f"{odd[:64]!r} is {'unknown' if odd in value else 'missing'}")
    return value
