"""Inspection finds fault with exactly the files that deciding refuses, for any bytes."""

from __future__ import annotations

import struct

from hypothesis import example, given, settings
from hypothesis import strategies as st

from eclctl.errors import MalformedImageError
from eclctl.sif import reader
from eclctl.sif.inspect import inspect
from eclctl.sif.layout import DESCRIPTOR_FIELDS, DESCRIPTOR_SIZE, HEADER_FIELDS
from eclctl.sif.media_types import media_types
from eclctl.sif.warnings import unusual_values
from tests.helpers.sifbuilder import SifBuilder, opened, sample

SMALL = SifBuilder(slots=4)
SMALL.add(b"one", name=b"one")
SMALL.partition(b"hsqs" + bytes(60))
SMALL.add(b"three")
IMAGE, SMALL_IMAGE = sample().build(), SMALL.build()
NUMBERS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-2, 8),
    st.integers(0, 40_000),
    st.sampled_from((585, 28_080, 4096, 32_176, len(IMAGE), len(IMAGE) + 1, 1 << 62, 4097 * 585)),
)
HEADER_NUMBERS = [name for name in HEADER_FIELDS if HEADER_FIELDS[name] >= HEADER_FIELDS["created"]]
HEADER_PATCHES = st.tuples(st.sampled_from([HEADER_FIELDS[name] for name in HEADER_NUMBERS]), NUMBERS).map(
    lambda pair: (pair[0], struct.pack("<q", pair[1]))
)


def _slot_patch(slot: int, field: str, number: int) -> tuple[int, bytes]:
    size = 8 if field in {"offset", "size", "padded"} else 4
    at = 4096 + slot * DESCRIPTOR_SIZE + DESCRIPTOR_FIELDS[field]
    return at, struct.pack("<Q", number % (1 << 64))[:size]


SLOT_PATCHES = st.builds(
    _slot_patch,
    st.integers(0, 5),
    st.sampled_from(("used", "id", "group", "link", "offset", "size", "padded", "type", "extra")),
    NUMBERS,
)
ANYWHERE = st.tuples(st.integers(0, 7000), st.binary(min_size=1, max_size=8))


def agree(image: bytes) -> None:
    with opened(image) as fd:
        try:
            found = reader.read(fd)
        except MalformedImageError:
            found = None
        inspection = inspect(fd)
        notes = unusual_values(inspection)
        media_types(inspection)
    assert inspection.damaged == (found is None)
    if found is not None:
        assert inspection.header == found.header
        assert tuple(slot.descriptor for slot in inspection.slots) == found.descriptors
    for remark in (*inspection.faults, *notes):
        assert remark.at is None or 0 <= remark.at <= max(len(image), 128)
        assert (remark.wrong + remark.right).isprintable()


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from((IMAGE, SMALL_IMAGE)),
    st.lists(st.one_of(HEADER_PATCHES, SLOT_PATCHES, ANYWHERE), max_size=5),
    st.none() | st.integers(0, len(IMAGE)),
)
@example(IMAGE, [_slot_patch(0, "size", 0), _slot_patch(0, "offset", len(IMAGE))], None)
@example(IMAGE, [(HEADER_FIELDS["total"], bytes(16))], None)
@example(IMAGE, [(HEADER_FIELDS["total"], struct.pack("<qqq", 0, 128, 0))], None)
def test_faults_are_found_in_exactly_the_damaged_images_that_deciding_refuses(base, patches, length):
    image = bytearray(base)
    for at, data in patches:
        image[at : at + len(data)] = data
    agree(bytes(image[:length]))


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=2500))
def test_whatever_is_no_image_is_answered_and_named(data):
    agree(data)
    with opened(data) as fd:
        inspection = inspect(fd)
    assert inspection.damaged
    assert inspection.look is not None or b"SIF" in data[32:42] or len(data) in range(33, 128)
