"""The tolerant reader shows what it can of a damaged file, and says all that is wrong with it."""

from __future__ import annotations

import os
import struct
import tempfile
import tracemalloc

import pytest

from eclctl.errors import UnreadableImageError, UnsupportedFileError
from eclctl.sif.inspect import inspect
from eclctl.sif.layout import DESCRIPTOR_FIELDS, HEADER_FIELDS
from tests.helpers.sifbuilder import DESCRIPTOR, SifBuilder, opened, sample

TABLE = 4096
IMAGE = sample().build()


def look(image):
    with opened(image) as fd:
        return inspect(fd)


def patched(*patches, image=IMAGE):
    changed = bytearray(image)
    for at, data in patches:
        changed[at : at + len(data)] = data
    return look(bytes(changed))


def header(field, number):
    return HEADER_FIELDS[field], struct.pack("<q", number)


def slot(index, field, data):
    return TABLE + index * DESCRIPTOR.size + DESCRIPTOR_FIELDS[field], data


def said(inspection):
    return [(fault.descriptor, fault.field, fault.at, fault.wrong, fault.right) for fault in inspection.faults]


def ids(inspection):
    return [found.descriptor.id for found in inspection.slots]


def test_a_sound_image_has_no_faults_and_every_object():
    inspection = look(IMAGE)
    assert (inspection.damaged, inspection.look, ids(inspection)) == (False, None, [1, 2, 3])
    assert [(found.number, found.at, found.used, found.whole) for found in inspection.slots] == [
        (1, 4096, 1, True),
        (2, 4681, 1, True),
        (3, 5266, 1, True),
    ]


def test_every_fault_of_an_image_is_said_with_its_place():
    inspection = patched(
        (HEADER_FIELDS["version"], b"02\0"),
        header("total", 50),
        slot(1, "id", struct.pack("<I", 1)),
        slot(2, "size", struct.pack("<q", -5)),
    )
    assert said(inspection) == [
        (None, "version", 42, "b'02\\x00'", "b'01\\x00'"),
        (None, "descriptors total", 88, "50", "48, as many as are read here"),
        (3, "size", 5291, "-5", f"from 0 to {len(IMAGE) - 32768}"),
        (2, "ID", 4686, "1, which descriptor 1 has, too", "a number that no other has, 2 for instance"),
    ]
    assert ids(inspection) == [1, 1, 3]


@pytest.mark.parametrize("number", [-4096, 0, 127, 1 << 50, len(IMAGE)])
def test_a_table_that_is_not_where_the_header_says_is_read_where_writers_put_it(number):
    inspection = patched(header("table_offset", number))
    assert said(inspection) == [(None, "descriptors offset", 96, str(number), "4096, where descriptors are")]
    assert ids(inspection) == [1, 2, 3]


def test_a_table_that_is_nowhere_is_not_made_up():
    inspection = patched(header("table_offset", -1), (TABLE, bytes(48 * DESCRIPTOR.size)))
    right = f"128 or more, and 28080 bytes before the end of the file at {len(IMAGE)}"
    assert said(inspection) == [(None, "descriptors offset", 96, "-1", right)]
    assert inspection.slots == ()


@pytest.mark.parametrize(
    ("total", "size", "field", "right"),
    [
        (-1, 28_080, "descriptors total", "48, as many as are read here"),
        (1 << 40, 28_080, "descriptors total", "48, as many as are read here"),
        (48, -1, "descriptors size", "28080, for 48 slots of 585"),
        (48, 28_081, "descriptors size", "28080, for 48 slots of 585"),
    ],
)
def test_one_wrong_number_of_slots_is_told_by_the_other(total, size, field, right):
    inspection = patched(header("total", total), header("table_size", size))
    assert [(fault.field, fault.right) for fault in inspection.faults] == [(field, right)]
    assert ids(inspection) == [1, 2, 3]


def test_where_both_numbers_of_slots_are_wrong_the_place_of_the_data_tells():
    inspection = patched(header("total", -1), header("table_size", -1))
    assert [fault.field for fault in inspection.faults] == ["descriptors total", "descriptors size"]
    assert ids(inspection) == [1, 2, 3]


def test_where_no_number_of_slots_is_right_the_usual_one_is_tried():
    inspection = patched(header("total", -1), header("table_size", -1), header("data_offset", -1))
    assert ids(inspection) == [1, 2, 3]


def test_of_a_table_that_is_too_long_what_may_be_read_is_read():
    builder = sample(slots=4097)
    inspection = look(builder)
    assert said(inspection) == [(None, "descriptors total", 88, "4097", "at most 4096")]
    assert ids(inspection) == [1, 2, 3]


def test_a_file_that_was_cut_in_the_table_shows_the_whole_slots_that_are_left():
    inspection = look(IMAGE[: TABLE + 2 * DESCRIPTOR.size + 100])
    assert ids(inspection) == [1, 2]
    assert [(fault.descriptor, fault.field) for fault in inspection.faults] == [
        (None, "file"),
        (1, "place"),
        (2, "place"),
    ]


def test_a_file_that_was_cut_in_an_object_says_how_long_it_must_be():
    inspection = look(IMAGE[:-1])
    assert said(inspection) == [
        (
            3,
            "place",
            5291,
            f"32768 to {len(IMAGE)}, and the file ends after {len(IMAGE) - 1} bytes",
            f"a file of {len(IMAGE)} bytes: it was cut perhaps",
        )
    ]
    assert [found.whole for found in inspection.slots] == [True, True, False]


@pytest.mark.parametrize(
    ("start", "length", "fields"),
    [
        (-1, 1, ["offset"]),
        (1 << 62, 1, ["offset"]),
        (1 << 62, 0, ["offset"]),
        (1 << 62, 1 << 62, ["offset", "size"]),
        (-1, -1, ["offset", "size"]),
        (40_000, -1, ["offset", "size"]),
        (36_000, 5000, ["size"]),
        (32_500, 1 << 62, ["size"]),
    ],
)
def test_an_object_outside_the_file_has_its_offset_or_size_named(start, length, fields):
    inspection = patched(slot(2, "offset", struct.pack("<q", start)), slot(2, "size", struct.pack("<q", length)))
    assert [fault.field for fault in inspection.faults] == fields


@pytest.mark.parametrize(
    ("start", "other"),
    [
        (100, "the header, from 0 to 128"),
        (4000, "the descriptor table, from 4096 to 32176"),
        (32_100, "the descriptor table, from 4096 to 32176"),
    ],
)
def test_an_object_over_header_or_table_is_named(start, other):
    inspection = patched(slot(0, "offset", struct.pack("<q", start)), slot(0, "size", struct.pack("<q", 100)))
    assert inspection.faults[0].wrong == f"{start}: the bytes up to {start + 100} overlap {other}"
    assert inspection.faults[0].descriptor == 1


def test_every_object_inside_a_larger_one_is_named():
    builder = SifBuilder()
    builder.add(b"x" * 1000)
    builder.add(b"y" * 10, offset=32_200)
    builder.add(b"z" * 10, offset=32_300)
    inspection = look(builder)
    assert [(fault.descriptor, fault.at) for fault in inspection.faults] == [(2, 4698), (3, 5283)]
    assert "overlap object 1 (descriptor 1), from 32176 to 33176" in inspection.faults[1].wrong


def test_suggested_ids_are_free_and_differ():
    builder = sample()
    for identity in (0, 0, 2):
        builder.add(b"x", id=identity)
    suggestions = [fault.right for fault in look(builder).faults]
    assert suggestions == [f"a number that no other has, {free} for instance" for free in (4, 5, 6)]


def test_a_damaged_magic_does_not_hide_the_rest():
    inspection = patched((35, b"X"))
    assert said(inspection) == [(None, "magic", 32, "b'SIFXMAGIC\\x00'", "b'SIF_MAGIC\\x00'")]
    assert (inspection.look, ids(inspection)) == (None, [1, 2, 3])


def test_a_wiped_magic_is_made_up_for_by_a_table_that_fits():
    inspection = patched((32, bytes(13)))
    assert [fault.field for fault in inspection.faults] == ["magic", "version"]
    assert ids(inspection) == [1, 2, 3]


@pytest.mark.parametrize("length", [33, 42, 127])
def test_a_file_that_ends_in_its_header_is_a_cut_image_and_nothing_else(length):
    inspection = look(IMAGE[:length])
    assert [(fault.field, fault.at) for fault in inspection.faults] == [("file", length)]
    assert inspection.look is None


def test_another_file_is_looked_at_and_still_at_fault():
    inspection = look(b"hsqs" + bytes(5000))
    assert [fault.field for fault in inspection.faults] == ["magic"]
    assert inspection.look is not None
    assert (inspection.look.kind, inspection.header, inspection.slots) == ("squashfs", None, ())


def test_an_image_that_is_almost_all_holes_is_at_fault_and_read():
    with tempfile.TemporaryFile() as file:
        file.write(IMAGE)
        file.truncate(100 << 30)
        inspection = inspect(file.fileno())
    assert [fault.field for fault in inspection.faults] == ["file"]
    assert ids(inspection) == [1, 2, 3]


def test_the_longest_table_costs_bounded_memory_and_every_overlap_is_said():
    builder = SifBuilder(slots=4096)
    for _ in range(4096):
        builder.add(b"", offset=3_000_000, size=1)
    image = builder.build().ljust(3_000_001, b"\0")
    with opened(image) as fd:
        tracemalloc.start()
        inspection = inspect(fd)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(inspection.faults) == 4095
    assert peak < 64 << 20


def test_what_is_no_regular_file_or_cannot_be_read_is_an_error_of_its_own():
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(UnsupportedFileError):
            inspect(read_end)
    finally:
        os.close(read_end)
        os.close(write_end)
    with tempfile.NamedTemporaryFile() as file:
        fd = os.open(file.name, os.O_WRONLY)
        try:
            with pytest.raises(UnreadableImageError):
                inspect(fd)
        finally:
            os.close(fd)
