"""What no writer writes is remarked on, with its place; what writers do is not."""

from __future__ import annotations

import struct

import pytest

from eclctl.sif.inspect import inspect
from eclctl.sif.warnings import unusual_values
from tests.helpers.edits import CASES, SIGNED, begun
from tests.helpers.sifbuilder import GROUP_BITS, OCI_BLOB, PARTITION, SifBuilder, opened, sample
from tests.helpers.signing import note

TABLE = 4096
NO_BITS = "0x00000001, without the bits of a group"
HALF_BITS = "0x70000001, neither object nor group"


def notes(image):
    with opened(image) as fd:
        return [(note.descriptor, note.field, note.wrong, note.right) for note in unusual_values(inspect(fd))]


def patched(at, data):
    image = bytearray(sample().build())
    image[at : at + len(data)] = data
    return bytes(image)


def test_nothing_is_odd_about_an_image_as_writers_make_them():
    assert notes(sample()) == []


@pytest.mark.parametrize(
    ("at", "data", "note"),
    [
        (80, struct.pack("<q", 7), (None, "descriptors free", "7", "45: 3 are used")),
        (45, b"04\0", (None, "architecture", "arm64", "amd64, as in the primary partition")),
        (112, struct.pack("<qq", 32_177, 4687), (None, "data offset", "32177", "at most 32176")),
        (120, struct.pack("<q", 10), (None, "data size", "10", "4688")),
        (TABLE, struct.pack("<i", 0x4010), (1, "data type", "0x4010", "0x4001 to 0x400b")),
        (TABLE + 4, b"\x02", (1, "used", "2", "1, as which it is signed")),
        (TABLE + 9, struct.pack("<I", 1), (1, "group", NO_BITS, "0xf0000001, or 0 for no group")),
        (TABLE + 13, struct.pack("<I", 9), (1, "link", "object 9, which is not there", "one of 1, 2, 3, or 0")),
        (TABLE + 13, struct.pack("<I", 9 | GROUP_BITS), (1, "link", "group 9, which is not there", "one of 1, or 0")),
        (TABLE + 13, struct.pack("<I", 0x70000001), (1, "link", HALF_BITS, "0x00000001 or 0xf0000001")),
        (TABLE + 33, struct.pack("<q", 1), (1, "size with padding", "1", "18 or more")),
    ],
)  # fmt: skip
def test_a_number_that_no_writer_writes_is_remarked_on(at, data, note):
    assert notes(patched(at, data)) == [note]


@pytest.mark.parametrize(
    ("kind", "extra", "fields"),
    [
        (0x4004, struct.pack("<ii3s", 9, 9, b"99\0"), ["filesystem type", "partition type", "architecture"]),
        (0x4004, struct.pack("<ii3s", 1, 3, b"01\0"), []),
        (0x4008, struct.pack("<ii", 3, 0x300), ["format type", "message type"]),
        (0x4009, struct.pack("<i", 9), ["format"]),
        (OCI_BLOB, b"sha256:abc", ["digest"]),
        (OCI_BLOB, b"sha256:" + b"0" * 64, []),
    ],
)
def test_an_extra_field_of_unknown_meaning_is_remarked_on(kind, extra, fields):
    builder = sample()
    builder.add(b"x", kind, extra=extra)
    assert [note[1] for note in notes(builder)] == fields


def test_a_signature_s_unknown_hash_and_missing_link_are_remarked_on():
    builder = sample()
    builder.attach(b"x", link=0, hash_type=77)
    assert notes(builder) == [
        (4, "link", "0: a signature of nothing", "what the signature is for"),
        (4, "hash type", "77, which is not known", "a number that is in use"),
    ]


def test_a_second_primary_partition_is_remarked_on():
    builder = sample()
    builder.partition(b"hsqs")
    assert notes(builder) == [
        (4, "partition type", "a primary partition, as descriptor 3", "one primary partition in a file")
    ]


def test_an_architecture_without_a_primary_partition_must_be_one():
    builder = SifBuilder()
    builder.add(b"x")
    image = bytearray(builder.build())
    assert notes(bytes(image)) == []
    image[45:48] = b"99\0"
    assert [note[1] for note in notes(bytes(image))] == ["architecture"]


def test_bytes_behind_the_last_object_are_remarked_on():
    image = sample().build()
    assert notes(image + b"payload") == [
        (None, "file", "7 bytes after the last object, which no signature covers", "the last object ends the file")
    ]


def test_a_cut_file_says_how_much_is_missing():
    image = sample().build()
    assert notes(image[:-5]) == [
        (None, "file", f"ends after {len(image) - 5} bytes", f"{len(image)} bytes: 5 are missing, it was cut perhaps")
    ]


def test_what_is_no_sif_is_not_odd():
    assert notes(b"hsqs" + bytes(2000)) == []


def test_a_partition_s_place_in_the_file_is_said():
    builder = sample()
    builder.add(b"x", PARTITION, extra=struct.pack("<ii3s", 1, 9, b"02\0"))
    with opened(builder) as fd:
        (note,) = unusual_values(inspect(fd))
    assert (note.at, note.object) == (TABLE + 3 * 585 + 201 + 4, 4)


@pytest.mark.parametrize("edit", [note(), CASES["data is replaced"].edit], ids=["added", "replaced"])
def test_what_an_edit_left_that_was_cut_short_is_told_from_other_bytes(edit, tmp_path):
    path = tmp_path / "image.sif"
    path.write_bytes(SIGNED)
    with path.open("r+b") as file:
        begun(file.fileno(), edit)
    (found,) = notes(path)
    assert found[2].endswith("bytes that an interrupted edit left; the image is whole")
    assert found[3] == "the last object ends the file; the next `eclctl sign` removes them"
