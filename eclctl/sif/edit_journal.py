"""The record at the end of an image that is being edited in place: it undoes or finishes an edit that was cut short.

While an edit lasts (`sign.edit.inplace`), the header points to a whole table of whole objects, so that every reader
finds either the image before or the one after. What is left besides by an edit that nobody finished is dead bytes at
the end of the file: this record. Little-endian, in this order:

1. At `start`: the table that the header points to meanwhile. It is the one from before, but for the offsets of objects
   whose place the edit overwrites: they are in part 3.
2. Offset and size of each region that the edit overwrites.
3. What was in these regions.
4. The seal, 512 bytes at a multiple of 512, so that no disk and no kernel writes half of one: where all that is, how
   large the file was and will be, and the headers before, between and after. It ends the file.

The record is written before anything else changes, seal first. A seal is believed by its own digest, the rest by the
digest in the seal. Nobody is trusted by that: whoever can write a record can write the image. But who merely made the
data of an object cannot: no object reaches into a seal, nor behind where the file is cut.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from eclctl.errors import MalformedImageError
from eclctl.sif.layout import HEADER
from eclctl.sif.reader import MAX_SLOTS, pread, read

__all__ = ["MAX_RECORD", "Region", "Seal", "Stage", "body_of", "cut_short", "regions_at", "regions_of"]

MAX_RECORD = 64 << 20
"""The largest record that is read or written, in bytes. A usual one has 28 KiB."""

_MAX_REGIONS = 2 * MAX_SLOTS + 1  # for each slot what is removed and what comes, and the table

_MAGIC = b"ECLCTL-UNDO-01\0\0"
_DIGEST = 32
_SEAL = struct.Struct("<16sIqqqqq128s128s128s32s")
_SEAL_SIZE = 512
_REGION = struct.Struct("<qq")

Region = tuple[int, bytes]
"""Where something is in a file, and what."""


class Stage(Enum):
    """How far an edit came, by the header that the file has."""

    BEFORE = "before"
    BETWEEN = "between"
    AFTER = "after"


class Seal(NamedTuple):
    """What a record says of itself, and of the edit.

    Sizes and offsets are in bytes; `before`, `between` and `after` are the header, 128 bytes. `table_size` is how much
    of the record is the table, `digest` the SHA-256 of everything in it but the seal.
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
        """Where the seal itself is."""
        end = self.start + self.body_size
        return end + -end % _SEAL_SIZE

    @property
    def end(self) -> int:
        """Where the file ends."""
        return self.at + _SEAL_SIZE

    def stage(self, header: bytes) -> Stage | None:
        """Return how far the edit came in a file with this header; None when somebody else has changed it since."""
        return {self.before: Stage.BEFORE, self.after: Stage.AFTER, self.between: Stage.BETWEEN}.get(header)

    def size(self, stage: Stage) -> int:
        """Return how large the file is once the edit is undone or finished.

        An edit can leave the header as it was, and then which it is cannot be told; what is too much does no harm.
        """
        if self.before == self.after and stage is not Stage.BETWEEN:
            return max(self.size_before, self.size_after)
        return self.size_after if stage is Stage.AFTER else self.size_before

    def pack(self) -> bytes:
        """Return the 512 bytes."""
        text = _SEAL.pack(
            _MAGIC,
            self.regions,
            self.start,
            self.table_size,
            self.body_size,
            self.size_before,
            self.size_after,
            self.before,
            self.between,
            self.after,
            self.digest,
        )
        text = text.ljust(_SEAL_SIZE - _DIGEST, b"\0")
        return text + _sha256(text)


def _sha256(data: bytes) -> bytes:
    import hashlib  # noqa: PLC0415 - it brings OpenSSL, which an image without a record does not need

    return hashlib.sha256(data).digest()


def body_of(table: bytes, regions: Sequence[Region]) -> bytes:
    """Return everything in a record but the seal; each region's bytes begin where `regions_at` says."""
    index = b"".join(_REGION.pack(offset, len(data)) for offset, data in regions)
    return b"".join((table, index, *(data for _, data in regions)))


def regions_at(table_size: int, count: int) -> int:
    """Return where the first region's bytes begin, from the start of the record."""
    return table_size + count * _REGION.size


def _find(fd: int, size: int) -> Seal | None:
    """Return the seal at the end of a file of `size` bytes; None when there is none that could be true.

    Raises:
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    if size < _SEAL_SIZE or size % _SEAL_SIZE:
        return None
    data = pread(fd, _SEAL_SIZE, size - _SEAL_SIZE)
    text = data[:-_DIGEST]
    if not text.startswith(_MAGIC) or _sha256(text) != data[-_DIGEST:]:
        return None
    _, *fields = _SEAL.unpack_from(text)
    seal = Seal(*fields)
    return seal if seal.end == size and _is_possible(seal) else None


def _is_possible(seal: Seal) -> bool:
    """Whether the record lies behind both images, and its parts inside it."""
    sizes = (seal.size_before, seal.size_after)
    inside = 0 <= regions_at(seal.table_size, seal.regions) <= seal.body_size <= MAX_RECORD
    few = seal.regions <= _MAX_REGIONS
    return inside and few and seal.table_size >= 0 and min(sizes) >= HEADER.size and max(sizes) <= seal.start


def regions_of(fd: int, seal: Seal) -> tuple[Region, ...] | None:
    """Return what an edit overwrites, as it was; None when the record is not whole.

    Raises:
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    body = pread(fd, seal.body_size, seal.start)
    if _sha256(body) != seal.digest:
        return None
    index = [_REGION.unpack_from(body, seal.table_size + _REGION.size * number) for number in range(seal.regions)]
    if any(offset < 0 or size < 0 or offset + size > seal.size_before for offset, size in index):
        return None
    return tuple(_cut(body[regions_at(seal.table_size, seal.regions) :], index))


def _cut(data: bytes, index: Iterable[tuple[int, int]]) -> Iterable[Region]:
    at = 0
    for offset, size in index:
        yield offset, data[at : at + size]
        at += size


def cut_short(fd: int, size: int) -> tuple[Seal, Stage] | None:
    """Return the edit that was cut short in a file of `size` bytes, and how far it came; None when there is none.

    Raises:
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    seal = _find(fd, size)
    stage = None if seal is None else seal.stage(pread(fd, HEADER.size, 0))
    if seal is None or stage is None:
        return None
    return (seal, stage) if _is_behind(fd, seal.at if stage is Stage.BETWEEN else seal.size(stage)) else None


def _is_behind(fd: int, offset: int) -> bool:
    """Whether the image that a file is now lies before an offset, table and objects."""
    try:
        image = read(fd)
    except MalformedImageError:
        return False  # at no moment of an edit is it that
    ends = (each.offset + each.size for each in image.descriptors)
    return max([image.header.table_offset + image.header.table_size, *ends]) <= offset
