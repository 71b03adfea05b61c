"""The SIF reader uses no number of the file before it agrees with the file."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile

import pytest

from eclctl.errors import BusyImageError, MalformedImageError, UnreadableImageError, UnsupportedFileError
from eclctl.sif import reader as sif
from eclctl.terms import Kind
from tests.helpers import sifbuilder
from tests.helpers.sifbuilder import DESCRIPTOR, opened, sample
from tests.helpers.support import CORPUS, ROOT

TABLE = 4096


def patched(builder, offset, data):
    image = bytearray(builder.build())
    image[offset : offset + len(data)] = data
    return bytes(image)


def read(image):
    with opened(image) as fd:
        return sif.read(fd)


def refusal(image):
    with pytest.raises(MalformedImageError) as caught:
        read(image)
    return str(caught.value)


def test_reads_header_and_descriptors_of_a_real_image():
    with opened(CORPUS / "images" / "two-builder.sif") as fd:
        image = sif.read(fd)
        assert image.header.tied
        assert [(item.id, item.group, item.relative) for item in image.descriptors[:5]] == [
            (1, 1, 0),
            (2, 1, 1),
            (3, 1, 2),
            (4, 2, 0),
            (5, 2, 1),
        ]
        assert image.descriptors[5].is_signature
        assert (image.descriptors[5].link, image.descriptors[5].links_group) == (1, True)
        assert image.data(image.descriptors[2])[:4] == b"hsqs"


def test_an_image_longer_than_the_first_read_gives_its_last_object():
    builder = sample()
    builder.add(b"x" * 200_000)
    builder.add(b"tail")
    with opened(builder) as fd:
        image = sif.read(fd)
        assert bytes(image.data(image.descriptors[-1])) == b"tail"


def test_a_table_behind_the_first_read_is_read():
    image = sample().build()
    table = image[TABLE : TABLE + 48 * DESCRIPTOR.size]
    moved = bytearray(image + bytes(100_000) + table)
    moved[96:104] = struct.pack("<q", len(image) + 100_000)
    assert [item.id for item in read(bytes(moved)).descriptors] == [1, 2, 3]


@pytest.mark.parametrize(
    ("part", "system", "words"),
    [
        (1, 1, {"partition", "system", "squashfs"}),
        (2, 1, {"partition", "system", "primary", "squashfs"}),
        (3, 4, {"partition", "data", "raw"}),
        (4, 2, {"partition", "overlay", "ext3"}),
        (2, 5, {"partition", "system", "primary", "encrypted-squashfs"}),
        (1, 3, {"partition", "system", "archive"}),
        (77, 99, {"partition"}),
    ],
)
def test_a_partition_says_what_it_holds(part, system, words):
    builder = sifbuilder.SifBuilder()
    builder.partition(b"x", part, system)
    assert read(builder).descriptors[0].holds == words


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (0x4001, "deffile"),
        (0x4002, "envvar"),
        (0x4003, "labels"),
        (0x4005, "signature"),
        (0x4006, "generic-json"),
        (0x4007, "generic"),
        (0x4008, "crypt-message"),
        (0x4009, "sbom"),
        (0x400A, "oci-root-index"),
        (0x400B, "oci-blob"),
    ],
)
def test_other_data_types_say_what_they_hold(kind, word):
    builder = sifbuilder.SifBuilder()
    builder.add(b"x", kind)
    assert read(builder).descriptors[0].holds == {word}


def test_an_unknown_data_type_holds_nothing():
    builder = sifbuilder.SifBuilder()
    builder.add(b"x", 0x7777)
    assert read(builder).descriptors[0].holds == frozenset()


def test_a_root_index_makes_an_oci_sif():
    builder = sample()
    assert read(builder).kind is Kind.SIF
    builder.add(b"{}", sifbuilder.ROOT_INDEX)
    assert read(builder).kind is Kind.OCI_SIF


def test_a_nil_uuid_ties_nothing():
    assert read(sample()).header.tied
    assert not read(sample(uuid=bytes(16))).header.tied


def test_the_used_flag_is_always_signed_as_one():
    builder = sample()
    plain = read(builder).descriptors[0].signed_bytes
    builder.entries[0].used = 0x41
    assert read(builder).descriptors[0].signed_bytes == plain


def test_unused_slots_are_no_objects():
    builder = sample()
    builder.entries[1].used = 0
    assert [item.id for item in read(builder).descriptors] == [1, 3]


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (88, -1, "slots"),
        (88, 1 << 40, "slots"),
        (88, sif.MAX_SLOTS + 1, "slots"),
        (88, 47, "bytes for 47 slots"),
        (96, 100, "outside the file"),
        (96, -4096, "outside the file"),
        (96, (1 << 63) - 1, "outside the file"),
        (104, 48 * 585 + 1, "bytes for 48 slots"),
        (104, -1, "bytes for 48 slots"),
    ],
)
def test_a_table_that_contradicts_header_or_file_is_refused(at, value, words):
    assert words in refusal(patched(sample(), at, struct.pack("<q", value)))


@pytest.mark.parametrize("offset", [-1, 0, 127, TABLE, TABLE + 28_000, 1 << 40, (1 << 63) - 1, -(1 << 63)])
def test_an_object_outside_the_file_or_over_its_structure_is_refused(offset):
    builder = sample()
    builder.entries[2].offset = offset
    assert refusal(builder)


@pytest.mark.parametrize("size", [-1, 1 << 62, (1 << 63) - 1, -(1 << 63), 100_000])
def test_an_object_with_an_impossible_size_is_refused(size):
    builder = sample()
    builder.entries[2].size = size
    assert "outside the file" in refusal(builder)


def test_overlapping_objects_are_refused():
    builder = sample()
    builder.entries[1].size = builder.entries[1].length + 1_000
    assert "overlap" in refusal(builder)


def test_an_empty_object_may_lie_anywhere_in_the_file():
    builder = sample()
    builder.add(b"")
    builder.entries[-1].offset = TABLE
    assert read(builder).descriptors[-1].size == 0


def test_duplicate_and_zero_ids_are_refused():
    builder = sample()
    builder.entries[1].id = 1
    assert "ID 1" in refusal(builder)
    builder.entries[1].id = 0
    assert "ID 0" in refusal(builder)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 4095, 4096, 10_000, TABLE + 48 * 585 - 1])
def test_a_truncated_file_is_refused(length):
    assert refusal(sample().build()[:length])


def test_magic_and_version_are_refused_in_the_references_words():
    assert refusal(patched(sample(), 32, b"FIS")) == "invalid SIF magic"
    assert refusal(patched(sample(), 42, b"99\0")) == "incompatible SIF version"


def test_a_huge_file_of_holes_is_refused_at_once():
    with tempfile.TemporaryFile() as file:
        file.write(sample().build())
        try:
            os.ftruncate(file.fileno(), (1 << 40))
        except OSError:
            pytest.skip("needs a file system with sparse files of 1 TiB")
        with pytest.raises(MalformedImageError, match="holes"):
            sif.read(file.fileno())


def test_what_is_no_regular_file_is_refused():
    reader, writer = os.pipe()
    try:
        with pytest.raises(UnsupportedFileError):
            sif.read(reader)
    finally:
        os.close(reader)
        os.close(writer)


def test_a_descriptor_that_cannot_be_read_is_unreadable(tmp_path):
    path = tmp_path / "a.sif"
    path.write_bytes(sample().build())
    for flags in (os.O_WRONLY, os.O_PATH):
        fd = os.open(path, flags)
        try:
            with pytest.raises(UnreadableImageError):
                sif.read(fd)
        finally:
            os.close(fd)


def test_a_file_that_became_shorter_is_busy():
    builder = sample()
    builder.add(b"x" * 200_000)
    with opened(builder) as fd:
        image = sif.read(fd)
        os.ftruncate(fd, 100_000)
        with pytest.raises(BusyImageError):
            image.data(image.descriptors[-1])


def test_reading_does_not_move_the_position():
    with opened(sample()) as fd:
        os.lseek(fd, 7, os.SEEK_SET)
        sif.read(fd)
        assert os.lseek(fd, 0, os.SEEK_CUR) == 7


def test_the_largest_table_costs_less_than_the_memory_bound():
    program = (
        "import os,sys\nfrom eclctl.sif import reader\nfrom eclctl.errors import MalformedImageError\n"
        "from tests.helpers.support import peak\nfd=os.open(sys.argv[1],os.O_RDONLY)\nbefore=peak()\n"
        "try: reader.read(fd)\nexcept MalformedImageError: pass\nelse: raise SystemExit('accepted')\n"
        "print(peak()-before)"
    )
    builder = sifbuilder.SifBuilder(slots=sif.MAX_SLOTS)
    for _ in range(3):
        builder.add(b"")
    image = bytearray(builder.build())
    image[TABLE : TABLE + sif.MAX_SLOTS * 585] = image[TABLE : TABLE + 585] * sif.MAX_SLOTS
    with tempfile.NamedTemporaryFile() as file:
        file.write(image)
        file.flush()
        command = [sys.executable, "-c", program, file.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 64 << 20
