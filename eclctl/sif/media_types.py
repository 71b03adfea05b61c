"""What the OCI indexes and manifests in an image say of its blobs, for people who look at one.

Nothing is compared with a digest, and an index that is refused as ambiguous is read all the same: what is said here is
what the file says. What runs of an OCI-SIF is for `eclctl.sif.oci_sif`.
"""

from __future__ import annotations

from collections.abc import Iterator

from eclctl.sif.inspect import Inspection, Slot
from eclctl.sif.oci import INDEX_TYPES, MANIFEST_TYPES, Content, Index, Manifest, parse_index, parse_manifest
from eclctl.sif.oci_sif import MAX_DOCUMENT, MAX_DOCUMENTS, stated_digest
from eclctl.sif.reader import DataType, pread

_INDEX = "application/vnd.oci.image.index.v1+json"
_MOST_DOCUMENTS = 256


def media_types(inspection: Inspection) -> dict[str, tuple[str, ...]]:
    """Return the media types that are said of each digest, each once and in the order of the file.

    At most 256 indexes and manifests are read, and MAX_DOCUMENTS bytes; what is beyond is left out.

    Raises:
        BusyImageError, UnreadableImageError: As `eclctl.sif.reader.pread`.
    """
    waiting = [(slot, _INDEX) for slot in inspection.slots if slot.descriptor.type == DataType.OCI_ROOT_INDEX]
    blobs: dict[str, Slot] = {}
    for slot in inspection.slots:
        if slot.descriptor.type == DataType.OCI_BLOB:
            blobs.setdefault(stated_digest(slot.descriptor) or "", slot)
    found: dict[str, dict[str, None]] = {}
    seen: set[int] = set()
    left = MAX_DOCUMENTS
    for slot, media_type in waiting:
        size = slot.descriptor.size
        if slot.number in seen or len(seen) >= _MOST_DOCUMENTS:
            continue
        seen.add(slot.number)
        if not slot.whole or size > MAX_DOCUMENT or size > left:
            continue
        left -= size
        for content in _contents(pread(inspection.fd, size, slot.descriptor.offset), media_type):
            found.setdefault(content.digest, {}).setdefault(content.media_type)
            blob = blobs.get(content.digest)
            if blob is not None and content.media_type in INDEX_TYPES | MANIFEST_TYPES:
                waiting.append((blob, content.media_type))
    return {digest: tuple(types) for digest, types in found.items()}


def _contents(data: bytes, media_type: str) -> Iterator[Content]:
    """Yield what an index or a manifest lists with a media type; nothing when the data is neither."""
    document = parse_index(data) if media_type in INDEX_TYPES else parse_manifest(data)
    listed: tuple[Content, ...] = ()
    if isinstance(document, Index):
        listed = document.manifests
    elif isinstance(document, Manifest):
        listed = (document.config, *document.layers)
    yield from (content for content in listed if content.media_type)
