"""Edits a file in place so that at every moment, and after any crash, it is the old image or the new one.

The header is what decides: 128 bytes in one sector, which the kernel and the disk write whole or not at all. It says
where the descriptor table is, and no signature covers that.

1. A record (`sif.edit_journal`) is written behind both images: a copy of the table, and of what the edit overwrites.
   The copied table knows the copies.
2. The header is pointed to the copied table. The image is still the one from before, and nothing that the edit
   overwrites is part of it any more.
3. Data and table are written where they belong.
4. The header of the new image is written. From this moment on the file is the new image.
5. The record is cut off.

Each step is on the disk before the next begins. A failure before 4 is undone. After a crash, `recover` undoes or
finishes the edit before the next one begins; until then the record is unused bytes at the end of a whole image.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable

from eclctl.dataclass import dataclass
from eclctl.errors import BusyImageError, SigningError
from eclctl.files.atomic import write_at
from eclctl.sif import edit_journal
from eclctl.sif.edit_journal import MAX_RECORD, Region, Stage, Trailer
from eclctl.sif.layout import DESCRIPTOR_FIELDS, DESCRIPTOR_SIZE, HEADER, HEADER_FIELDS
from eclctl.sif.reader import Descriptor, Sif, pread, used_slots
from eclctl.sign.edit.assembly import EditPlan

_GAP = 1 << 20
"""How far behind the images the record begins, in bytes, which no block is spent on.

The reference's library also signs an image with such a record. It appends behind the last object and does not check
where the table is. With this gap it does no damage.
"""

_PAGE = 4096
_ZEROS = bytes(_PAGE * 16)
_NUMBER = 8  # bytes of an offset in header and descriptor

Extent = tuple[int, int]
"""Where something begins in a file, and behind where it ends."""


@dataclass(frozen=True, slots=True)
class PreparedEdit:
    """An edit of one file, ready to be carried out.

    `body` is the record without its trailer, `saved` what it keeps. `zero` and `writes` are what changes, but for the
    header.
    """

    trailer: Trailer
    body: bytes
    saved: tuple[Region, ...]
    zero: tuple[tuple[int, int], ...]
    writes: tuple[Region, ...]


def change(image: Sif, table: bytes, steps: EditPlan) -> PreparedEdit:
    """Return how to carry out a plan.

    Args:
        image: As it is; its descriptor is read from.
        table: Its raw descriptor table.
        steps: From `assembly.plan_edit`.

    Raises:
        SigningError: It would overwrite more than a record can hold.
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    before = pread(image.fd, HEADER.size, 0)
    start = max(image.size, steps.size) + _GAP
    start += -start % _PAGE
    regions = _saved(image, steps)
    at = start + edit_journal.regions_at(len(table), len(regions))
    places = {}  # where in the file the record holds which extent
    for offset, data in regions:
        places[offset, offset + len(data)] = at
        at += len(data)
    body = edit_journal.body_of(_table_with_copies(table, image.descriptors, places), regions)
    trailer = Trailer(
        regions=len(regions),
        start=start,
        table_size=len(table),
        body_size=len(body),
        size_before=image.size,
        size_after=steps.size,
        before=before,
        between=_header_with_table_at(before, start),
        after=steps.header,
        digest=hashlib.sha256(body).digest(),
    )
    return PreparedEdit(trailer, body, regions, steps.zero, (*steps.data, steps.table))


def _saved(image: Sif, steps: EditPlan) -> tuple[Region, ...]:
    """Return what the plan overwrites of the file; an object of which it overwrites a part is there as a whole."""
    written = [(offset, offset + size) for offset, size in steps.zero]
    written += [(offset, offset + len(data)) for offset, data in (*steps.data, steps.table)]
    written = [(start, min(end, image.size)) for start, end in written if start < min(end, image.size)]
    objects = [(each.offset, each.offset + each.size) for each in image.descriptors if each.size]
    hit = [each for each in objects if any(each[0] < end and start < each[1] for start, end in written)]
    extents = _merged([*written, *hit])
    size = sum(end - start for start, end in extents)
    if size > MAX_RECORD // 2:
        raise SigningError(f"the edit overwrites {size} bytes of the image; at most {MAX_RECORD // 2} can be kept")
    return tuple((start, pread(image.fd, end - start, start)) for start, end in extents)


def _merged(extents: Iterable[Extent]) -> list[Extent]:
    """Return the same bytes as extents that are apart from each other, in order."""
    united: list[Extent] = []
    for start, end in sorted(extents):
        if united and start <= united[-1][1]:
            united[-1] = united[-1][0], max(end, united[-1][1])
        else:
            united.append((start, end))
    return united


def _table_with_copies(table: bytes, descriptors: Iterable[Descriptor], places: dict[Extent, int]) -> bytes:
    """Return the table with the offsets of the objects that the record holds a copy of."""
    moved = bytearray(table)
    for slot, descriptor in zip(used_slots(table), descriptors, strict=True):
        for (start, end), at in places.items():
            if descriptor.size and start <= descriptor.offset < end:
                field = slot * DESCRIPTOR_SIZE + DESCRIPTOR_FIELDS["offset"]
                moved[field : field + _NUMBER] = _number(descriptor.offset - start + at)
    return bytes(moved)


def _header_with_table_at(header: bytes, table_offset: int) -> bytes:
    """Return a header that has its table elsewhere."""
    field = HEADER_FIELDS["table_offset"]
    return header[:field] + _number(table_offset) + header[field + _NUMBER :]


def _number(value: int) -> bytes:
    return value.to_bytes(_NUMBER, "little", signed=True)


def carry_out(fd: int, what: PreparedEdit) -> None:
    """Edit the file on a descriptor that is open for reading and writing.

    Raises:
        SigningError: It could not be written, and is as it was.
        BusyImageError: Another program wrote into it meanwhile; it is edited, and may be damaged by that.
    """
    trailer, recorded = what.trailer, False
    try:
        _record(fd, what)
        recorded = True
        _write_header(fd, trailer.between)
        _write_all(fd, what)
        _write_header(fd, trailer.after)
    except OSError as error:
        raise _undo(fd, what, error, recorded=recorded) from error
    if os.fstat(fd).st_size != trailer.end:
        raise BusyImageError(
            "another program wrote into the image while it was being edited; verify it, and build it again if need be"
        )
    _truncate(fd, trailer.size_after)


def is_done(fd: int, what: PreparedEdit) -> bool:
    """Return whether the file holds what an edit writes. The header is not enough: some edits leave it as it was.

    Raises:
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    writes = ((0, what.trailer.after), *what.writes)
    fits = os.fstat(fd).st_size >= what.trailer.size_after
    return fits and all(pread(fd, len(data), offset) == data for offset, data in writes)


def _record(fd: int, what: PreparedEdit) -> None:
    write_at(fd, what.trailer.pack(), what.trailer.at)  # first, so that an incomplete record can be recognised
    write_at(fd, what.body, what.trailer.start)
    os.fsync(fd)


def _write_all(fd: int, what: PreparedEdit) -> None:
    for offset, size in what.zero:
        for at in range(offset, offset + size, len(_ZEROS)):
            write_at(fd, _ZEROS[: offset + size - at], at)
    for offset, data in what.writes:
        write_at(fd, data, offset)
    os.fsync(fd)


def _truncate(fd: int, size: int) -> None:
    """Cut the record off. A failure is ignored: the next edit does it."""
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    except OSError:
        return


def _undo(fd: int, what: PreparedEdit, error: OSError, *, recorded: bool) -> SigningError:
    """Undo what was done until an error; return what to raise.

    Until the record is on the disk, nothing else has changed and the header must not point to it.
    """
    why = f"cannot write the image: {error.strerror}"
    try:
        if recorded:
            _restore(fd, what.trailer, what.saved)
    except OSError:
        return SigningError(f"{why}. {_state_after_failure(fd, what)}")
    _truncate(fd, what.trailer.size_before)
    whole = os.fstat(fd).st_size == what.trailer.size_before
    return SigningError(f"{why}; it is as it was" if whole else f"{why}. {_state_after_failure(fd, what)}")


def _state_after_failure(fd: int, what: PreparedEdit) -> str:
    """Return a sentence about a file in which nothing can be undone any more."""
    if is_done(fd, what):
        return "It is changed all the same, but a crash of the machine can take that back: verify it"
    extra = os.fstat(fd).st_size - what.trailer.size_before
    return f"It is the old image, with {extra} bytes more; the next `eclctl sign` that can write removes them"


def _restore(fd: int, trailer: Trailer, regions: Iterable[Region]) -> None:
    """Write back the old data, then the old header.

    Until then the header points to the record, and that is flushed first: of a header whose flush failed, either the
    old or the new one may be on the disk.
    """
    _write_header(fd, trailer.between)
    for offset, data in regions:
        write_at(fd, data, offset)
    os.fsync(fd)
    _write_header(fd, trailer.before)


def _write_header(fd: int, header: bytes) -> None:
    """Write the header and flush it, even if it is there already: an earlier flush of it may have failed."""
    write_at(fd, header, 0)
    os.fsync(fd)


def recover(fd: int) -> Stage | None:
    """Undo or finish an edit that a crash interrupted; return how far it had come.

    Returns None when there was none, or when another program has changed the image since: then it is left as it is.

    Args:
        fd: Open for reading and writing.

    Raises:
        SigningError: The file cannot be written.
        BusyImageError, UnreadableImageError: As `sif.pread`.
    """
    found = edit_journal.find_interrupted(fd, os.fstat(fd).st_size)
    if found is None:
        return None
    trailer, stage = found
    try:
        if stage is Stage.BETWEEN:
            regions = edit_journal.regions_of(fd, trailer)
            if regions is None:
                return None  # our record was whole before the header pointed to it: this is another program's
            _restore(fd, trailer, regions)
        else:
            # The writer may have been killed before the flush. The record must stay until the header is on disk.
            _write_header(fd, trailer.before if stage is Stage.BEFORE else trailer.after)
        _truncate(fd, trailer.size(stage))
    except OSError as error:
        raise SigningError(
            f"an earlier edit of the image was interrupted, and what it left cannot be removed: {error.strerror}"
        ) from error
    return stage
