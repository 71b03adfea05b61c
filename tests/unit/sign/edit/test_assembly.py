"""What becomes of header, table and data when objects leave and join an image."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from eclctl.errors import MalformedImageError, SigningError
from eclctl.sif import reader
from eclctl.sif.reader import Sif
from eclctl.sign.edit.assembly import YEAR_ONE, Edit, EditPlan, NewObject, plan_edit
from tests.helpers.sifbuilder import GENERIC, PARTITION, PRIMARY, SIGNATURE, SifBuilder, opened, sample

NOW = 1_800_000_000


def planned(image: SifBuilder, edit: Edit) -> EditPlan:
    with opened(image) as fd:
        found = reader.read(fd)
        return plan_edit(found, table(found), edit, NOW)


def table(image: Sif) -> bytes:
    return reader.pread(image.fd, image.header.table_size, image.header.table_offset)


def edited(image: SifBuilder, edit: Edit, tmp_path: Path) -> Sif:
    """Return what our own reader makes of an image after an edit; its descriptor is closed."""
    path = tmp_path / "edited.sif"
    data = bytearray(image.build())
    steps = planned(image, edit)
    del data[steps.size :]
    for offset, part in (*steps.data, steps.table, (0, steps.header)):
        data.extend(bytes(max(0, offset - len(data))))
        data[offset : offset + len(part)] = part
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        return reader.read(fd)
    finally:
        os.close(fd)


def test_a_signature_takes_the_next_slot_and_lies_behind_the_last_data(tmp_path: Path) -> None:
    before = edited(sample(), Edit(), tmp_path)
    added = NewObject(SIGNATURE, b"signed", link=1, links_group=True, extra=b"\1\0\0\0" + b"f" * 20)
    after = edited(sample(), Edit(add=(added,)), tmp_path)
    new = after.descriptors[-1]
    last = before.descriptors[-1]
    assert (new.id, new.group, new.link, new.links_group) == (4, 0, 1, True)
    assert (new.offset, new.size) == (last.offset + last.size, 6)
    assert (new.created, new.modified, new.uid, new.gid) == (NOW, NOW, 0, 0)
    assert new.extra == (b"\1\0\0\0" + b"f" * 20).ljust(384, b"\0")
    assert after.descriptors[:-1] == before.descriptors


def test_the_header_tells_of_the_edit_and_keeps_what_is_signed(tmp_path: Path) -> None:
    before, after = (edited(sample(), edit, tmp_path) for edit in (Edit(), Edit(add=(NewObject(GENERIC, b"x"),))))
    assert after.header.signed_bytes == before.header.signed_bytes
    assert (after.header.created, after.header.modified) == (before.header.created, NOW)
    assert (after.header.free, after.header.total) == (44, 48)
    assert after.header.data_offset + after.header.data_size == after.size


def test_alignment_counts_as_padding_of_the_new_object() -> None:
    steps = planned(sample(), Edit(add=(NewObject(GENERIC, b"x"), NewObject(PARTITION, b"y", alignment=4096))))
    (first, _), (second, _) = steps.data
    slots = steps.table[1]
    assert second == (first // 4096 + 1) * 4096
    stored = struct.unpack_from("<q", slots, 4 * 585 + 33)[0]
    assert stored == second - (first + 1) + 1


def test_a_removed_object_leaves_a_free_slot_that_is_the_next_to_be_taken(tmp_path: Path) -> None:
    after = edited(sample(), Edit(remove=frozenset({2}), add=(NewObject(GENERIC, b"x", group=1),)), tmp_path)
    assert [one.id for one in after.descriptors] == [1, 2, 3]
    assert after.descriptors[1].offset == after.descriptors[2].offset + after.descriptors[2].size


def test_an_id_that_another_slot_has_is_not_given_out_twice(tmp_path: Path) -> None:
    image = SifBuilder()
    image.add(b"one", id=2)
    after = edited(image, Edit(add=(NewObject(GENERIC, b"x"),)), tmp_path)
    assert [one.id for one in after.descriptors] == [2, 3]


def test_where_the_numbers_of_all_free_slots_are_taken_the_lowest_that_is_not_is_given_out(tmp_path: Path) -> None:
    image = SifBuilder(slots=3)
    for identity in (2, 3):
        image.add(b"x", id=identity)
    after = edited(image, Edit(add=(NewObject(GENERIC, b"x"),)), tmp_path)
    assert [one.id for one in after.descriptors] == [2, 3, 1]


def test_zeroing_names_the_removed_data_and_compacting_cuts_behind_what_is_left() -> None:
    image = sample()
    steps = planned(image, Edit(remove=frozenset({3}), zero=True, compact=True))
    with opened(image) as fd:
        _, labels, partition = reader.read(fd).descriptors
    assert steps.zero == ((partition.offset, partition.size),)
    assert steps.size == labels.offset + labels.size


def test_without_being_asked_nothing_is_zeroed_or_cut() -> None:
    steps = planned(sample(), Edit(remove=frozenset({3})))
    assert (steps.zero, steps.size) == ((), len(sample().build()))


def test_removing_the_primary_partition_leaves_no_architecture_and_adding_one_sets_it(tmp_path: Path) -> None:
    assert edited(sample(), Edit(remove=frozenset({3})), tmp_path).header.architecture == b"00\0"
    new = NewObject(PARTITION, b"x", extra=struct.pack("<ii3s", 1, PRIMARY, b"04\0"), alignment=4096)
    assert edited(sample(), Edit(remove=frozenset({3}), add=(new,)), tmp_path).header.architecture == b"04\0"


def test_a_second_primary_partition_is_refused() -> None:
    new = NewObject(PARTITION, b"x", extra=struct.pack("<ii3s", 1, PRIMARY, b"04\0"))
    with pytest.raises(SigningError, match="has a primary partition already"):
        planned(sample(), Edit(add=(new,)))


def test_a_deterministic_image_keeps_its_times_at_year_one() -> None:
    image = sample(uuid=bytes(16))
    with opened(image) as fd:
        found = reader.read(fd)
        header = found.header._replace(created=YEAR_ONE, modified=YEAR_ONE)
        steps = plan_edit(found._replace(header=header), table(found), Edit(add=(NewObject(GENERIC, b"x"),)), NOW)
    slots, head = steps.table[1], steps.header
    assert struct.unpack_from("<qq", slots, 3 * 585 + 41) == (YEAR_ONE, YEAR_ONE)
    assert struct.unpack_from("<qq", head, 64) == (YEAR_ONE, YEAR_ONE)


def test_a_full_table_says_so() -> None:
    with pytest.raises(SigningError, match="all 3 descriptor slots"):
        planned(sample(slots=3), Edit(add=(NewObject(GENERIC, b"x"),)))


def test_a_full_table_has_room_once_something_is_removed(tmp_path: Path) -> None:
    after = edited(sample(slots=3), Edit(remove=frozenset({1}), add=(NewObject(GENERIC, b"x"),)), tmp_path)
    assert after.header.free == 0


def test_what_is_not_there_cannot_be_removed() -> None:
    with pytest.raises(SigningError, match="no data object 9"):
        planned(sample(), Edit(remove=frozenset({9})))


@pytest.mark.parametrize("new", [NewObject(GENERIC, b"", name="ü" * 65), NewObject(GENERIC, b"", extra=bytes(385))])
def test_what_does_not_fit_a_descriptor_is_refused(new: NewObject) -> None:
    with pytest.raises(SigningError, match="too long"):
        planned(sample(), Edit(add=(new,)))


@pytest.mark.parametrize("data_offset", [-1, 1 << 40])
def test_a_data_section_outside_the_file_is_refused(data_offset: int) -> None:
    with opened(sample()) as fd:
        found = reader.read(fd)
        lying = found._replace(header=found.header._replace(data_offset=data_offset))
        with pytest.raises(MalformedImageError, match="outside the file"):
            plan_edit(lying, table(found), Edit(add=(NewObject(GENERIC, b"x"),)), NOW)


def test_a_data_section_that_claims_to_begin_in_the_table_is_not_written_there() -> None:
    with opened(SifBuilder()) as fd:
        found = reader.read(fd)
        lying = found._replace(header=found.header._replace(data_offset=0))
        steps = plan_edit(lying, table(found), Edit(add=(NewObject(GENERIC, b"x"),)), NOW)
    assert steps.data[0][0] == found.header.table_offset + found.header.table_size
