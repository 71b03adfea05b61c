"""After objects were added and removed, the result is an image, and what was not touched is what it was."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.sif import reader
from eclctl.sif.reader import Descriptor
from eclctl.sign.edit.assembly import Edit, NewObject
from tests.helpers.sifbuilder import GENERIC, JSON, SIGNATURE, SifBuilder, opened
from tests.helpers.signing import edit

new_objects = st.builds(
    NewObject,
    data_type=st.sampled_from([GENERIC, JSON, SIGNATURE]),
    data=st.binary(max_size=300),
    group=st.integers(0, 3),
    link=st.integers(0, 3),
    links_group=st.booleans(),
    name=st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=128),
    extra=st.binary(max_size=384),
    alignment=st.sampled_from([0, 1, 7, 4096]),
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[SifBuilder, Edit]:
    builder = SifBuilder(slots=12)
    identities = draw(st.lists(st.integers(1, 20), unique=True, max_size=6))
    for identity in identities:
        builder.add(draw(st.binary(max_size=300)), id=identity, group=draw(st.integers(0, 3)))
    removed = draw(st.sets(st.sampled_from(identities))) if identities else set()
    added = tuple(draw(st.lists(new_objects, max_size=6)))
    return builder, Edit(added, frozenset(removed), draw(st.booleans()), draw(st.booleans()))


def contents(image: bytes | Path) -> tuple[bytes, dict[int, tuple[Descriptor, bytes]]]:
    with opened(image) as fd:
        found = reader.read(fd)
        return found.header.signed_bytes, {one.id: (one, bytes(found.data(one))) for one in found.descriptors}


@settings(max_examples=25, deadline=None)
@given(cases())
def test_an_edit_changes_what_it_says_and_nothing_else(case: tuple[SifBuilder, Edit]) -> None:
    builder, change = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.sif"
        path.write_bytes(builder.build())
        edit(path, change)
        header, before = contents(builder.build())
        changed_header, after = contents(path)
        assert os.listdir(folder) == ["image.sif"]
    kept = before.keys() - change.remove
    assert header == changed_header
    for identity in kept:
        was, now = before[identity], after[identity]
        assert (was[0].offset, was[0].tail, was[0].created, was[1]) == (
            now[0].offset,
            now[0].tail,
            now[0].created,
            now[1],
        )
    new = [after[identity] for identity in after.keys() - kept]
    assert sorted(data for _, data in new) == sorted(one.data for one in change.add)
    assert sorted((one.group, one.name) for one, _ in new) == sorted((one.group, one.name) for one in change.add)
