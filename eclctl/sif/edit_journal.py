"""The record at the end of an image that is being edited in place: it undoes or finishes an interrupted edit.

While an edit lasts (`sign.edit.inplace`), the header points to a whole table of whole objects, so that every reader
finds either the old image or the new one. An interrupted edit leaves this record besides, as unused bytes at the end of
the file. Little-endian, in this order:

1. At `start`: the table that the header points to meanwhile. It is the one from before, but for the offsets of objects
   whose place the edit overwrites: they are in part 3.
2. Offset and size of each region that the edit overwrites.
3. What was in these regions.
4. The trailer, 512 bytes at a multiple of 512, so that no disk and no kernel writes half of one: where all that is, how
   large the file was and will be, and the headers before, between and after. It ends the file.

The record is written before anything else changes, trailer first. The trailer is checked by its own digest, the rest by
the digest in the trailer. That grants nothing: a process that can write a record can write the image. The author of an
object's data cannot make a record: no object reaches into a trailer, nor behind where the file is cut.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from eclctl.errors import MalformedImageError
from eclctl.sif.layout import HEADER
from eclctl.sif.reader import MAX_SLOTS, pread, read

MAX_RECORD = 64 << 20
"""The largest record that is read or written, in bytes. A usual one has 28 KiB."""

_MAX_REGIONS = 2 * MAX_SLOTS + 1  # for each slot what is removed and what comes, and the table

_MAGIC = b"ECLCTL-UNDO-01\0\0"
_DIGEST = 32
_TRAILER = struct.Struct("<16sIqqqqq128s128s128s32s")
_TRAILER_SIZE = 512
_REGION = struct.Struct("<qq")

Region = tuple[int, bytes]
"""An offset in a file, and the bytes there."""


class Stage(Enum):
    """How far an edit came, by the header that the file has."""

    BEFORE = "before"
    BETWEEN = "between"
    AFTER = "after"


class Trailer(NamedTuple):
    """The last part of a record: it describes the record and the edit. Its fields are in the order of the file.

    Sizes and offsets are in bytes; `before`, `between` and `after` are the header, 128 bytes. `table_size` is how much
    of the record is the table, `digest` the SHA-256 of everything in it but the trailer.
    """

    regions: int
    start: int
    table_size: int
    body_size: int
    size_before: int
    size_after: int
    before: bytes
    between: bytes
    after: bytes
    digest: bytes

    @property
    def at(self) -> int:
        """Where the trailer itself is."""
        end = self.start + self.body_size
        return end + -end % _TRAILER_SIZE

    @property
    def end(self) -> int:
        """Where the file ends."""
        return self.at + _TRAILER_SIZE

    def stage(self, header: bytes) -> Stage | None:
        """Return how far the edit came in a file with this header; None when another program has changed it since."""
        return {self.before: Stage.BEFORE, self.after: Stage.AFTER, self.between: Stage.BETWEEN}.get(header)

    def size(self, stage: Stage) -> int:
        """Return how large the file is once the edit is undone or finished.

        An edit can leave the header as it was. Then the stage is not known, and the larger size does no harm.
        """
        if self.before == self.after and stage is not Stage.BETWEEN:
            return max(self.size_before, self.size_after)
        return self.size_after if stage is Stage.AFTER else self.size_before

    def pack(self) -> bytes:
        """Return the 512 bytes."""
        text = _TRAILER.pack(_MAGIC, *self).ljust(_TRAILER_SIZE - _DIGEST, b"\0")
        return text + _sha256(text)


def _sha256(data: bytes) -> bytes:
    import hashlib  # noqa: PLC0415 - it brings OpenSSL, which an image without a record does not need

    return hashlib.sha256(data).digest()


def body_of(table: bytes, regions: Sequence[Region]) -> bytes:
    """Return everything in a record but the trailer; each region's bytes begin where `regions_at` says."""
    index = b"".join(_REGION.pack(offset, len(data)) for offset, data in regions)
    return b"".join((table, index, *(data for _, data in regions)))


def regions_at(table_size: int, count: int) -> int:
    """Return where the first region's bytes begin, from the start of the record."""
    return table_size + count * _REGION.size


def _find(fd: int, size: int) -> Trailer | None:
    """Return the trailer at the end of a file of `size` bytes; None when there is none that is possible.

    Raises:
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    if size < _TRAILER_SIZE or size % _TRAILER_SIZE:
        return None
    data = pread(fd, _TRAILER_SIZE, size - _TRAILER_SIZE)
    text = data[:-_DIGEST]
    if not text.startswith(_MAGIC) or _sha256(text) != data[-_DIGEST:]:
        return None
    _, *fields = _TRAILER.unpack_from(text)
    trailer = Trailer(*fields)
    return trailer if trailer.end == size and _is_possible(trailer) else None


def _is_possible(trailer: Trailer) -> bool:
    """Whether the record lies behind both images, and its parts inside it."""
    sizes = (trailer.size_before, trailer.size_after)
    inside = 0 <= regions_at(trailer.table_size, trailer.regions) <= trailer.body_size <= MAX_RECORD
    few = trailer.regions <= _MAX_REGIONS
    return inside and few and trailer.table_size >= 0 and min(sizes) >= HEADER.size and max(sizes) <= trailer.start


def regions_of(fd: int, trailer: Trailer) -> tuple[Region, ...] | None:
    """Return what an edit overwrites, as it was; None when the record is not whole.

    Raises:
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    body = pread(fd, trailer.body_size, trailer.start)
    if _sha256(body) != trailer.digest:
        return None
    index = [_REGION.unpack_from(body, trailer.table_size + _REGION.size * number) for number in range(trailer.regions)]
    if any(offset < 0 or size < 0 or offset + size > trailer.size_before for offset, size in index):
        return None
    return tuple(_cut(body[regions_at(trailer.table_size, trailer.regions) :], index))


def _cut(data: bytes, index: Iterable[tuple[int, int]]) -> Iterable[Region]:
    at = 0
    for offset, size in index:
        yield offset, data[at : at + size]
        at += size


def find_interrupted(fd: int, size: int) -> tuple[Trailer, Stage] | None:
    """Return the interrupted edit of a file of `size` bytes, and how far it came; None when there is none.

    Raises:
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    trailer = _find(fd, size)
    stage = None if trailer is None else trailer.stage(pread(fd, HEADER.size, 0))
    if trailer is None or stage is None:
        return None
    return (trailer, stage) if _is_behind(fd, trailer.at if stage is Stage.BETWEEN else trailer.size(stage)) else None


def _is_behind(fd: int, offset: int) -> bool:
    """Whether the image that a file is now lies before an offset, table and objects."""
    try:
        image = read(fd)
    except MalformedImageError:
        return False  # an edit never makes it malformed
    ends = (each.offset + each.size for each in image.descriptors)
    return max([image.header.table_offset + image.header.table_size, *ends]) <= offset
