"""OCI image indexes and manifests (OCI image-spec 1.1: image-index, manifest, descriptor): bytes in, types out.

What a launcher would read in another way is refused: a key twice or in other letters, an index that is also a manifest,
a digest that is none. Unknown members are allowed, as the specification wants it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from eclctl import strictjson
from eclctl.dataclass import dataclass
from eclctl.terms import Finding

MAX_ENTRIES = 128
"""The most manifests that an index may list."""

MAX_LAYERS = 1024
"""The most layers that a manifest may list; images have some tens, and a layer is a signature in a cosign manifest."""

_MAX_CONTAINERS = 8192
"""The most JSON objects and arrays in one text: what many small ones cost is bounded, and so is the depth."""

_MAX_COMMAS = 16384

INDEX_TYPES = frozenset(
    {"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"}
)
"""Media types of what lists manifests."""

MANIFEST_TYPES = frozenset(
    {"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}
)
"""Media types of manifests that a launcher takes for an image's."""

_SCHEMA = 2
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_SIZE = (1 << 63) - 1
_CONTENT_MEMBERS = ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")
_INDEX_MEMBERS = ("schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations")
_MANIFEST_MEMBERS = ("schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations")
_EITHER = tuple({*_INDEX_MEMBERS, *_MANIFEST_MEMBERS})


@dataclass(frozen=True, slots=True)
class Content:
    """What a content descriptor says of a blob. `digest` is `sha256:<hex>`, `size` bytes; "" where a text is absent."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str]
    artifact_type: str


@dataclass(frozen=True, slots=True)
class Index:
    """An image index: what it lists, in order."""

    manifests: tuple[Content, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest. `media_type` is "" when it does not say."""

    media_type: str
    artifact_type: str
    config: Content
    layers: tuple[Content, ...]


class _InvalidError(Exception):
    """The text is no index or manifest."""


def is_digest(text: object) -> bool:
    """Return whether this is a digest as launchers take it: `sha256:` and 64 lower-case hex digits."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def parse_index(data: bytes) -> Index | Finding:
    """Return the image index in `data`, or a finding `bad-index`."""
    try:
        members = _document(data, INDEX_TYPES, foreign=("config", "layers"))
        return Index(_contents(members.get("manifests"), "manifests", MAX_ENTRIES))
    except (strictjson.JsonError, _InvalidError) as error:
        return Finding("bad-index", f"the OCI index is not valid: {error}")


def parse_manifest(data: bytes) -> Manifest | Finding:
    """Return the image manifest in `data`, or a finding `bad-manifest`."""
    try:
        members = _document(data, MANIFEST_TYPES, foreign=("manifests",))
        layers = _contents(members.get("layers"), "layers", MAX_LAYERS)
        config = _content(members.get("config"))
        return Manifest(_text(members, "mediaType"), _text(members, "artifactType"), config, layers)
    except (strictjson.JsonError, _InvalidError) as error:
        return Finding("bad-manifest", f"the OCI manifest is not valid: {error}")


def _document(data: bytes, types: frozenset[str], foreign: Sequence[str]) -> dict[str, Any]:
    """Return the members of an index or a manifest: one of `types`, with none of `foreign`, which the other has."""
    containers = data.count(b"{") + data.count(b"[")
    if containers > _MAX_CONTAINERS or data.count(b",") > _MAX_COMMAS:
        raise _InvalidError("more in it than is looked at")
    members = _object(strictjson.loads(data, any_number=True), _EITHER)
    if members.get("schemaVersion") != _SCHEMA or isinstance(members["schemaVersion"], float):
        raise _InvalidError("schemaVersion is not 2")
    both = next((name for name in foreign if name in members), None)
    if both is not None:
        raise _InvalidError(f"it has {both}, which is for {'a manifest' if 'layers' in foreign else 'an index'}")
    media_type = _text(members, "mediaType")
    if media_type and media_type not in types:
        raise _InvalidError(f"its mediaType is {media_type[:128]!r}")
    return members


def _contents(value: Any, name: str, limit: int) -> tuple[Content, ...]:
    if not isinstance(value, list):
        raise _InvalidError(f"{name} is no list")
    if len(value) > limit:
        raise _InvalidError(f"{len(value)} {name}; at most {limit} are read")
    return tuple(_content(item) for item in value)


def _content(value: Any) -> Content:
    members = _object(value, _CONTENT_MEMBERS)
    digest, size = members.get("digest"), members.get("size")
    if not isinstance(digest, str) or not is_digest(digest):
        raise _InvalidError(f"{str(digest)[:128]!r} is no SHA-256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE:
        raise _InvalidError("a size is no number of bytes")
    media_type = _text(members, "mediaType")
    return Content(media_type, digest, size, _annotations(members), _text(members, "artifactType"))


def _annotations(members: Mapping[str, Any]) -> Mapping[str, str]:
    value = members.get("annotations")
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _InvalidError("annotations are not texts by name")
    return value


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _InvalidError(f"{name} is no text")
    return value


def _object(value: Any, names: Sequence[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _InvalidError("an object is needed")
    odd = strictjson.variant(value, names)
    if odd is not None:
        raise _InvalidError(f"{odd[:64]!r} is written in other letters")
    return value
