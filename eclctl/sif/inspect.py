"""A tolerant reader for SIF images: it shows what can be read of a damaged file, and all that is wrong with it.

This is for people who look at a file. Nothing is decided by it: `eclctl.sif.reader` refuses a malformed image as a
whole. Rules of this module:

1. It finds at least one fault in exactly the files that `eclctl.sif.reader.read` calls malformed.
2. A number that contradicts others is not followed. Where the descriptor table must be elsewhere or of another length
   than the header says, it is looked for where writers put it.
3. Work and memory are bounded as in that reader: one read of the head, one table of at most MAX_SLOTS slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from eclctl.sif.edit_journal import find_interrupted
from eclctl.sif.file_type import RecognisedFile, recognise
from eclctl.sif.layout import (
    DESCRIPTOR,
    DESCRIPTOR_FIELDS,
    DESCRIPTOR_SIZE,
    HEADER,
    HEADER_FIELDS,
    MAGIC,
    USUAL_SLOTS,
    USUAL_TABLE,
    VERSION,
)
from eclctl.sif.reader import (
    MAX_SLOTS,
    DataType,
    Descriptor,
    Header,
    is_sparse,
    pread,
    regular_status,
    unpack_header,
    unpack_table,
    used_slots,
)

_PREFIX = 64 * 1024
_TABLE = "descriptors offset"
_LIKE_THE_MAGIC = 7  # of its 10 bytes
_KNOWN_TYPES = frozenset(map(int, DataType))


class Remark(NamedTuple):
    """One thing that contradicts another, or what writers do.

    `field` is what is wrong, `at` where it stands, in bytes from the start of the file (None for the file as such).
    `wrong` says what it is, `right` what it would have to be. `descriptor` is the number of the slot, from 1, and
    `object` the ID in it; None for what is in the header. The texts are made of numbers and our own words: nothing of
    the file is in them unescaped.
    """

    field: str
    at: int | None
    wrong: str
    right: str
    descriptor: int | None = None
    object: int | None = None


class Slot(NamedTuple):
    """A used slot of the descriptor table.

    `number` counts all slots, from 1; `at` is where the slot begins in the file. `used` and `raw_group` are as written,
    `padded` is the size with padding that is claimed. `whole` says that the data lies inside the file.
    """

    number: int
    at: int
    used: int
    raw_group: int
    padded: int
    whole: bool
    descriptor: Descriptor

    def remark(self, field: str, wrong: str, right: str, name: str = "") -> Remark:
        """Return a remark on a field, which is called `name` where its own name would not be understood."""
        at = self.at + DESCRIPTOR_FIELDS[field]
        return Remark(name or field, at, wrong, right, self.number, self.descriptor.id)


class Inspection(NamedTuple):
    """What there is in a file.

    `faults` are the contradictions for which the image is refused: none when it is sound. `look` is set when the file
    is no SIF image at all, and `header` is None then and when the file ends inside the header. `slots` are the used
    slots that could be read, in table order. `record_at` is where the record of an interrupted edit begins
    (`sif.edit_journal`), if there is one.
    """

    fd: int
    size: int
    header: Header | None
    slots: tuple[Slot, ...]
    faults: tuple[Remark, ...]
    look: RecognisedFile | None = None
    record_at: int | None = None

    @property
    def damaged(self) -> bool:
        """Whether `eclctl.sif.reader` refuses the image."""
        return bool(self.faults)

    def with_id(self, identity: int) -> tuple[Slot, ...]:
        """Return the slots that bear an ID: several in a damaged image."""
        return tuple(slot for slot in self.slots if slot.descriptor.id == identity)


def inspect(fd: int) -> Inspection:
    """Read what can be read of the SIF image on an open descriptor.

    Raises:
        UnsupportedFileError: The descriptor is no regular file.
        BusyImageError: The file changed while it was read.
        UnreadableImageError: Reading failed.
    """
    status = regular_status(fd)
    size = status.st_size
    prefix = pread(fd, min(size, _PREFIX), 0)
    faults: list[Remark] = []
    if is_sparse(status):
        wrong = f"{size} bytes long, and it holds {status.st_blocks * 512} of them: almost all is holes"
        faults.append(Remark("file", None, wrong, "a whole file"))
    if len(prefix) < HEADER.size:
        whole = f"a header of {HEADER.size} bytes, and what belongs to it"
        faults.append(Remark("file", size, f"ends after {size} bytes", whole))
        return Inspection(
            fd, size, None, (), tuple(faults), None if _begins_as_sif(prefix) else recognise(prefix, size)
        )
    header, magic = unpack_header(prefix)
    if magic != MAGIC and not _might_be_sif(header, magic):
        faults.append(_magic_fault(magic))
        return Inspection(fd, size, None, (), tuple(faults), recognise(prefix, size))
    if magic != MAGIC:
        faults.append(_magic_fault(magic))
    if header.version != VERSION:
        faults.append(Remark("version", HEADER_FIELDS["version"], ascii(header.version), ascii(VERSION)))
    place = _place(fd, header, size)
    faults += _table_faults(header, place, size)
    slots = tuple(_slots(place, size))
    full = max(size, header.data_offset + header.data_size)
    for slot in slots:
        faults += _extent_faults(slot, size, full)
    faults += _identity_faults(slots)
    faults += _overlaps(slots, place)
    left = find_interrupted(fd, size)
    return Inspection(fd, size, header, slots, tuple(faults), record_at=None if left is None else left[0].start)


class _Place(NamedTuple):
    """The table that was read: where it begins, its whole slots, and how many of the used ones look right."""

    offset: int
    table: bytes
    plausible: int


def _begins_as_sif(prefix: bytes) -> bool:
    """Return whether a file that ends inside the header has what it has of the magic."""
    start = HEADER_FIELDS["magic"]
    magic = prefix[start : start + len(MAGIC)]
    return bool(magic) and MAGIC.startswith(magic)


def _might_be_sif(header: Header, magic: bytes) -> bool:
    """Return whether a header without the magic is one all the same, by the rest of it."""
    alike = sum(map(int.__eq__, magic, MAGIC))
    fits = 0 < header.total <= MAX_SLOTS and header.table_size == header.total * DESCRIPTOR_SIZE
    return (fits and header.table_offset >= HEADER.size) or (alike >= _LIKE_THE_MAGIC and header.version == VERSION)


def _magic_fault(magic: bytes) -> Remark:
    return Remark("magic", HEADER_FIELDS["magic"], ascii(magic), ascii(MAGIC))


def _place(fd: int, header: Header, size: int) -> _Place:
    """Read the table where the header has it; where that makes no sense, where it makes most."""
    slots = _slot_count(header, size)
    stated = _read_table(fd, header.table_offset, slots, size)
    if header.table_offset >= HEADER.size and header.table_offset + slots * DESCRIPTOR_SIZE <= size:
        return stated
    usual = _read_table(fd, USUAL_TABLE, slots, size)
    return usual if usual.plausible > stated.plausible else stated


def _slot_count(header: Header, size: int) -> int:
    """Return how many slots to read: by the table's size when that is whole slots, for chance seldom makes it so."""
    slots, rest = divmod(header.table_size, DESCRIPTOR_SIZE)
    if slots == header.total > MAX_SLOTS and not rest and header.table_size <= size:
        return MAX_SLOTS
    if not rest and 0 < slots <= MAX_SLOTS:
        return slots
    if 0 <= header.total <= MAX_SLOTS:
        return header.total
    slots = (header.data_offset - header.table_offset) // DESCRIPTOR_SIZE
    return slots if 0 < slots <= MAX_SLOTS else USUAL_SLOTS


def _read_table(fd: int, offset: int, slots: int, size: int) -> _Place:
    """Read what the file has of a table, in whole slots."""
    if not HEADER.size <= offset <= size:
        return _Place(HEADER.size, b"", 0)
    table = pread(fd, min(slots, (size - offset) // DESCRIPTOR_SIZE) * DESCRIPTOR_SIZE, offset)
    used = [DESCRIPTOR.unpack_from(table, slot * DESCRIPTOR_SIZE) for slot in used_slots(table)]
    return _Place(offset, table, sum(fields[0] in _KNOWN_TYPES for fields in used))


def _table_faults(header: Header, place: _Place, size: int) -> Iterator[Remark]:
    slots = _slot_count(header, size)
    if header.total != slots:
        right = f"at most {MAX_SLOTS}" if slots == MAX_SLOTS else f"{slots}, as many as are read here"
        yield _header_remark("total", "descriptors total", header.total, right)
    if header.table_size not in {slots * DESCRIPTOR_SIZE, header.total * DESCRIPTOR_SIZE}:
        right = f"{slots * DESCRIPTOR_SIZE}, for {slots} slots of {DESCRIPTOR_SIZE}"
        yield _header_remark("table_size", "descriptors size", header.table_size, right)
    if header.table_offset >= HEADER.size and header.table_offset + slots * DESCRIPTOR_SIZE <= size:
        return
    stated_end = header.table_offset + slots * DESCRIPTOR_SIZE
    if place.offset == header.table_offset and place.table:
        wrong = f"ends after {size} bytes, inside the descriptor table ({header.table_offset} to {stated_end})"
        yield Remark("file", size, wrong, f"{stated_end} bytes, and the data objects")
    elif place.plausible:
        yield _header_remark("table_offset", _TABLE, header.table_offset, f"{place.offset}, where descriptors are")
    else:
        right = f"{HEADER.size} or more, and {slots * DESCRIPTOR_SIZE} bytes before the end of the file at {size}"
        yield _header_remark("table_offset", _TABLE, header.table_offset, right)


def _header_remark(field: str, name: str, wrong: int, right: str) -> Remark:
    return Remark(name, HEADER_FIELDS[field], str(wrong), right)


def _slots(place: _Place, size: int) -> Iterator[Slot]:
    for index, descriptor in zip(used_slots(place.table), unpack_table(place.table), strict=True):
        at = index * DESCRIPTOR_SIZE
        _, used, _, group, _, start, length, padded, *_ = DESCRIPTOR.unpack_from(place.table, at)
        whole = start >= 0 and length >= 0 and start + length <= size
        yield Slot(index + 1, place.offset + at, used, group, padded, whole, descriptor)


def _extent_faults(slot: Slot, size: int, full: int) -> Iterator[Remark]:
    """Yield what is wrong with an object's place; `full` is the size that the file should have by its header."""
    start, length = slot.descriptor.offset, slot.descriptor.size
    end = start + length
    if slot.whole:
        return
    if start >= 0 and length >= 0 and end <= full:
        wrong = f"{start} to {end}, and the file ends after {size} bytes"
        yield slot.remark(
            "offset" if start > size else "size", wrong, f"a file of {end} bytes: it was cut perhaps", "place"
        )
        return
    fits = 0 <= length <= size
    if not 0 <= start <= size:
        yield slot.remark("offset", str(start), f"from 0 to {size - length}" if fits else "a place inside the file")
    if not fits or 0 <= start <= size:
        right = f"from 0 to {size - start}" if 0 <= start <= size else f"at most the {size} bytes of the file"
        yield slot.remark("size", str(length), right)


def _identity_faults(slots: Iterable[Slot]) -> Iterator[Remark]:
    slots = tuple(slots)
    taken = {slot.descriptor.id for slot in slots}
    first: dict[int, int] = {}
    free = (number for number in range(1, len(slots) + 2) if number not in taken)
    for slot in slots:
        identity = slot.descriptor.id
        other = first.setdefault(identity, slot.number)
        if identity == 0 or other != slot.number:
            wrong = "0" if identity == 0 else f"{identity}, which descriptor {other} has, too"
            yield slot.remark(
                "id", wrong, f"a number that no other has, {next(free, len(slots) + 1)} for instance", "ID"
            )


class _Extent(NamedTuple):
    start: int
    end: int
    name: str
    slot: Slot | None = None


def _overlaps(slots: Iterable[Slot], place: _Place) -> Iterator[Remark]:
    """Yield each object whose bytes begin inside those of another, of the header or of the table."""
    extents = [_Extent(0, HEADER.size, "the header")]
    if place.table:
        extents.append(_Extent(place.offset, place.offset + len(place.table), "the descriptor table"))
    for slot in slots:
        start, length = slot.descriptor.offset, slot.descriptor.size
        if slot.whole and length:
            name = f"object {slot.descriptor.id} (descriptor {slot.number})"
            extents.append(_Extent(start, start + length, name, slot))
    extents.sort(key=lambda extent: (extent.start, extent.end, extent.name))
    furthest = extents[0]
    for extent in extents[1:]:
        if extent.start < furthest.end:
            yield from _overlap(furthest, extent)
        furthest = max(furthest, extent, key=lambda each: each.end)


def _overlap(one: _Extent, other: _Extent) -> Iterator[Remark]:
    """Yield the overlap of two extents as a remark on an object: on the later one, where both are objects."""
    mine, its = (other, one) if other.slot is not None else (one, other)
    if mine.slot is not None:
        wrong = f"{mine.start}: the bytes up to {mine.end} overlap {its.name}, from {its.start} to {its.end}"
        yield mine.slot.remark("offset", wrong, f"bytes of its own, from {its.end} for instance")
