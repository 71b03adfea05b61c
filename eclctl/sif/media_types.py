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

__all__ = ["media_types"]

_INDEX = "application/vnd.oci.image.index.v1+json"
_MOST_DOCUMENTS = 256


def media_types(inspection: Inspection) -> dict[str, tuple[str, ...]]:
    """Return the media types that are said of each digest, each once and in the order of the file.

    At most 256 indexes and manifests are read, and MAX_DOCUMENTS bytes; what is beyond is left out.

    Raises:
        BusyImageError, UnreadableImageError: As `eclctl.sif.reader.pread`.
    """
    return {digest: tuple(types) for digest, types in _Walk(inspection).walk().items()}


class _Walk:
    """One walk from the root indexes to all that they reach."""

    __slots__ = ("_blobs", "_fd", "_found", "_left", "_roots", "_seen")

    def __init__(self, inspection: Inspection) -> None:
        self._fd = inspection.fd
        self._left = MAX_DOCUMENTS
        self._seen: set[int] = set()
        self._found: dict[str, dict[str, None]] = {}
        self._blobs: dict[str, Slot] = {}
        self._roots: list[Slot] = []
        for slot in inspection.slots:
            if slot.descriptor.type == DataType.OCI_ROOT_INDEX:
                self._roots.append(slot)
            elif slot.descriptor.type == DataType.OCI_BLOB:
                self._blobs.setdefault(stated_digest(slot.descriptor) or "", slot)

    def walk(self) -> dict[str, dict[str, None]]:
        waiting = [(slot, _INDEX) for slot in self._roots]
        for slot, media_type in waiting:
            document = self._document(slot, media_type)
            for content in _contents(document):
                self._found.setdefault(content.digest, {}).setdefault(content.media_type)
                blob = self._blobs.get(content.digest)
                if blob is not None and content.media_type in INDEX_TYPES | MANIFEST_TYPES:
                    waiting.append((blob, content.media_type))
        return self._found

    def _document(self, slot: Slot, media_type: str) -> Index | Manifest | None:
        """Read a document once, unless a bound is reached; None when it is none."""
        size = slot.descriptor.size
        if slot.number in self._seen or len(self._seen) >= _MOST_DOCUMENTS:
            return None
        self._seen.add(slot.number)
        if not slot.whole or size > MAX_DOCUMENT or size > self._left:
            return None
        self._left -= size
        data = pread(self._fd, size, slot.descriptor.offset)
        document = parse_index(data) if media_type in INDEX_TYPES else parse_manifest(data)
        return document if isinstance(document, Index | Manifest) else None


def _contents(document: Index | Manifest | None) -> Iterator[Content]:
    if isinstance(document, Index):
        yield from (content for content in document.manifests if content.media_type)
    elif document is not None:
        yield from (content for content in (document.config, *document.layers) if content.media_type)
