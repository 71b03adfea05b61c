"""Warns of values that no writer of SIF images writes. No decision relies on these warnings.

An image with unusual_values is sound: what is refused is a fault (`eclctl.sif.inspect`). They are worth a look all
the same: a file was edited by hand, cut, or has bytes in it that belong to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eclctl.sif import labels
from eclctl.sif.inspect import Inspection, Remark, Slot
from eclctl.sif.layout import DESCRIPTOR_SIZE, GROUP_MASK, HEADER_FIELDS, NO_ARCHITECTURE
from eclctl.sif.reader import DataType, Header


def unusual_values(inspection: Inspection) -> tuple[Remark, ...]:
    """Return what is odd about an image, in the order of header, descriptors and data."""
    header, slots = inspection.header, inspection.slots
    if header is None:
        return ()
    found = [*_header(header, slots), *_data_section(inspection, header)]
    groups = {slot.descriptor.group for slot in slots if slot.descriptor.group}
    ids = {slot.descriptor.id for slot in slots}
    for slot in slots:
        found += _plain_fields(slot)
        found += _links(slot, groups, ids)
        found += _extra(slot)
    return tuple(found)


def _header(header: Header, slots: Sequence[Slot]) -> Iterator[Remark]:
    free = header.total - len(slots)
    if header.free != free and header.table_size == header.total * DESCRIPTOR_SIZE:
        yield Remark("descriptors free", HEADER_FIELDS["free"], str(header.free), f"{free}: {len(slots)} are used")
    known = labels.architecture(header.architecture)
    primary = [slot for slot in slots if slot.descriptor.is_primary_partition]
    stated = sorted({labels.meanings(slot.descriptor)[-1].text for slot in primary})
    if primary and known not in stated:
        right = f"{' or '.join(stated)}, as in the primary partition"
        yield Remark("architecture", HEADER_FIELDS["architecture"], known, right)
    elif not primary and known == "unknown" and header.architecture != NO_ARCHITECTURE:
        wrong = f"{header.architecture!r}, which is none"
        yield Remark("architecture", HEADER_FIELDS["architecture"], wrong, repr(NO_ARCHITECTURE))
    for slot in primary[1:]:
        wrong = f"a primary partition, as descriptor {primary[0].number}"
        yield slot.remark("extra", wrong, "one primary partition in a file", "partition type")


def _data_section(inspection: Inspection, header: Header) -> Iterator[Remark]:
    """Compare what the header says of the data section with the objects, and both with the file's end."""
    faulty = {remark.descriptor for remark in inspection.faults}
    sound = [slot.descriptor for slot in inspection.slots if slot.number not in faulty]
    record = inspection.record_at
    held = [each for each in sound if each.size and (record is None or each.offset < record)]
    stated_end = header.data_offset + header.data_size
    if stated_end > inspection.size:
        missing = stated_end - inspection.size
        wrong = f"ends after {inspection.size} bytes"
        yield Remark("file", inspection.size, wrong, f"{stated_end} bytes: {missing} are missing, it was cut perhaps")
    if not held:
        return
    first = min(descriptor.offset for descriptor in held)
    end = max(descriptor.offset + descriptor.size for descriptor in held)
    if header.data_offset > first:
        yield Remark("data offset", HEADER_FIELDS["data_offset"], str(header.data_offset), f"at most {first}")
    if stated_end < end:
        yield Remark("data size", HEADER_FIELDS["data_size"], str(header.data_size), str(end - header.data_offset))
    if end < inspection.size and not inspection.damaged:
        yield _behind(inspection.size, end, cut=record is not None)


def _behind(file_size: int, end: int, *, cut: bool) -> Remark:
    """Say what it is that lies behind the last object; `cut` for an interrupted edit."""
    size = file_size - end
    if cut:
        wrong = f"{size} bytes that an interrupted edit left; the image is whole"
        return Remark("file", end, wrong, "the last object ends the file; the next `eclctl sign` removes them")
    wrong = f"{size} bytes after the last object, which no signature covers"
    return Remark("file", end, wrong, "the last object ends the file")


def _plain_fields(slot: Slot) -> Iterator[Remark]:
    descriptor = slot.descriptor
    if descriptor.type not in labels.DATA_TYPES:
        yield slot.remark("type", f"{descriptor.type:#x}", "0x4001 to 0x400b", "data type")
    if slot.used != 1:
        yield slot.remark("used", str(slot.used), "1, as which it is signed")
    if slot.whole and slot.padded < descriptor.size:
        yield slot.remark("padded", str(slot.padded), f"{descriptor.size} or more", "size with padding")
    if slot.raw_group and slot.raw_group & GROUP_MASK != GROUP_MASK:
        right = f"{slot.raw_group | GROUP_MASK:#010x}, or 0 for no group"
        yield slot.remark("group", f"{slot.raw_group:#010x}, without the bits of a group", right)


def _links(slot: Slot, groups: set[int], ids: set[int]) -> Iterator[Remark]:
    descriptor = slot.descriptor
    if descriptor.raw_link & GROUP_MASK not in {0, GROUP_MASK}:
        right = f"{descriptor.link:#010x} or {descriptor.link | GROUP_MASK:#010x}"
        yield slot.remark("link", f"{descriptor.raw_link:#010x}, neither object nor group", right)
    elif descriptor.raw_link and descriptor.link not in (groups if descriptor.links_group else ids):
        what, there = ("group", groups) if descriptor.links_group else ("object", ids)
        yield slot.remark("link", f"{what} {descriptor.link}, which is not there", f"one of {_some(there)}, or 0")
    elif descriptor.is_signature and not descriptor.link:
        yield slot.remark("link", "0: a signature of nothing", "what the signature is for")


def _some(numbers: set[int], limit: int = 8) -> str:
    shown = ", ".join(map(str, sorted(numbers)[:limit]))
    return f"{shown}, …" if len(numbers) > limit else shown or "none"


def _extra(slot: Slot) -> Iterator[Remark]:
    for meaning in labels.meanings(slot.descriptor):
        if not meaning.known:
            wrong = f"{meaning.raw}, which is not known"
            yield Remark(
                meaning.name.lower(),
                slot.at + meaning.at,
                wrong,
                "a number that is in use",
                slot.number,
                slot.descriptor.id,
            )
    if slot.descriptor.type in {DataType.OCI_ROOT_INDEX, DataType.OCI_BLOB}:
        yield from _digest(slot)


def _digest(slot: Slot) -> Iterator[Remark]:
    from eclctl.sif.oci_sif import stated_digest  # noqa: PLC0415 - only an OCI-SIF states digests

    if stated_digest(slot.descriptor) is None:
        yield slot.remark("extra", "no SHA-256 digest", "sha256: and 64 lower-case hex digits", "digest")
