"""Plans a new OCI-SIF with the layout that SingularityCE gives it, before any of it is written.

Where each blob goes follows from their sizes alone, so that a file can be filled in any order, and half a file can be
completed. In SingularityCE (`oci-tools`, `pkg/sif/write.go`) such a file is deterministic: nil UUID, no launch script,
no architecture, the times of Go's zero time, owner 0, everything in object group 1, one behind the other, no padding:
layers, config and manifest of the image, then those of its cosign signatures, the root index last. There are eight more
descriptor slots than the image needs, of which signatures that were there from the beginning take theirs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from eclctl.dataclass import dataclass
from eclctl.errors import MalformedImageError
from eclctl.sif.layout import DESCRIPTOR_SIZE, GROUP_MASK, HEADER, MAGIC, NO_ARCHITECTURE, SLOT, USUAL_TABLE, VERSION
from eclctl.sif.oci import Content, Manifest
from eclctl.sif.reader import MAX_SLOTS, DataType

_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_REF_NAME: Final = "org.opencontainers.image.ref.name"
_SPARE: Final = 8
_GROUP: Final = 1 | GROUP_MASK
_ZERO_TIME: Final = -62_135_596_800
"""Go's zero time, the first of January of the year 1, in seconds since 1970."""

_LARGEST: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Member:
    """An image of the file: the image itself, or its signatures, which are called `name` in the root index.

    `raw` is the manifest as it came, `media_type` what the root index says of it.
    """

    raw: bytes
    manifest: Manifest
    media_type: str
    name: str = ""

    @property
    def contents(self) -> tuple[Content, ...]:
        """Layers and config, in the order of the file."""
        return (*self.manifest.layers, self.manifest.config)


@dataclass(frozen=True, slots=True)
class PlacedBlob:
    """A blob and where it goes in the file. `data` is None for one that is still to be fetched."""

    digest: str
    size: int
    offset: int
    data: bytes | None


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """A file before it is there: what stands at its beginning, and the blobs behind, by offset. `size` is in bytes."""

    head: bytes
    placed: tuple[PlacedBlob, ...]
    size: int


def oci_digest(data: bytes) -> str:
    """Return `sha256:` and the lower-case hex digest of a blob."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def compact(document: Mapping[str, Any]) -> bytes:
    """Return JSON as Go writes it.

    Raises:
        MalformedImageError: A text in it, which came out of an image, is half of a surrogate pair and no Unicode.
    """
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MalformedImageError(
            "a JSON document holds text that is no Unicode, and cannot be written again"
        ) from None


def _entry(member: Member) -> dict[str, Any]:
    annotations = {"annotations": {_REF_NAME: member.name}} if member.name else {}
    artifact = member.manifest.artifact_type or member.manifest.config.media_type
    return {
        "mediaType": member.media_type,
        "size": len(member.raw),
        "digest": oci_digest(member.raw),
        **annotations,
        **({"artifactType": artifact} if artifact else {}),
    }


def plan_oci_sif(members: Sequence[Member]) -> PlannedImage:
    """Lay out an OCI-SIF that holds an image and, behind it, at most one with its signatures.

    A blob that is listed twice is in the file once, as a reader wants it (`sif.oci_sif`).

    Raises:
        MalformedImageError: there are more blobs than a SIF may hold, or what is said of their sizes cannot be.
    """
    entries = [_entry(member) for member in members]
    root = compact({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries})
    blobs: dict[str, tuple[int, bytes | None]] = {}
    for member in members:
        for content in member.contents:
            _add(blobs, content.digest, content.size, None)
        _add(blobs, oci_digest(member.raw), len(member.raw), member.raw)
    used = len(blobs) + 1
    slots = max(len(members[0].contents) + 2 + _SPARE, used)
    if slots > MAX_SLOTS:
        raise MalformedImageError(f"{used} blobs; a SIF of at most {MAX_SLOTS} is read")
    start = offset = USUAL_TABLE + slots * DESCRIPTOR_SIZE
    placed = []
    for digest, (size, data) in (*blobs.items(), (oci_digest(root), (len(root), root))):
        placed.append(PlacedBlob(digest, size, offset, data))
        offset += size
        if size > _LARGEST or offset > _LARGEST:
            raise MalformedImageError("the sizes in the manifest are no sizes of blobs")
    return PlannedImage(_head(slots, start, offset, placed), tuple(placed), offset)


def _add(blobs: dict[str, tuple[int, bytes | None]], digest: str, size: int, data: bytes | None) -> None:
    known = blobs.get(digest)
    if known is not None and known[0] != size:
        raise MalformedImageError(f"of {digest} two sizes are said, {known[0]} and {size} bytes")
    blobs[digest] = (size, data if known is None or known[1] is None else known[1])


def _head(slots: int, start: int, end: int, placed: Sequence[PlacedBlob]) -> bytes:
    free = slots - len(placed)
    sizes = (free, slots, USUAL_TABLE, slots * DESCRIPTOR_SIZE, start, end - start)
    header = HEADER.pack(bytes(32), MAGIC, VERSION, NO_ARCHITECTURE, bytes(16), _ZERO_TIME, _ZERO_TIME, *sizes)
    table = bytearray()
    for number, blob in enumerate(placed, start=1):
        kind = DataType.OCI_ROOT_INDEX if number == len(placed) else DataType.OCI_BLOB
        place = (blob.offset, blob.size, blob.size)
        times, digest = (_ZERO_TIME, _ZERO_TIME), blob.digest.encode("ascii")
        table += SLOT.pack(kind, 1, number, _GROUP, 0, *place, *times, 0, 0, b"", digest)
    return header.ljust(USUAL_TABLE, b"\0") + table.ljust(slots * DESCRIPTOR_SIZE, b"\0")
