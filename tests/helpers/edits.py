"""Edits of every kind that is carried out in place, and what an image is but for where its data lies."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path

from eclctl.sif import reader
from eclctl.sign.edit import inplace
from eclctl.sign.edit.assembly import YEAR_ONE, Edit, NewObject, plan_edit
from eclctl.sign.edit.inplace import PreparedEdit
from tests.helpers.sifbuilder import GENERIC, SIGNATURE, sample
from tests.helpers.signing import note, second_signature, signed_once

NOW = 1_800_000_000


@dataclass(frozen=True)
class Case:
    """An image and what is to change in it."""

    image: bytes
    edit: Edit


def _deterministic() -> bytes:
    """An image whose header says nothing of the edit: no time, and no size, for another object goes as one comes."""
    builder = sample()
    builder.uuid = bytes(16)
    builder.add(b"last" * 300, GENERIC)
    data = builder.build()
    return data[:64] + struct.pack("<qq", YEAR_ONE, YEAR_ONE) + data[80:]


SIGNED = signed_once().build()
REPLACED = Edit((NewObject(GENERIC, b"more" * 300, group=1),), frozenset({2, 4}), zero=True, compact=True)
CASES = {
    "a signature": Case(SIGNED, second_signature(signed_once())),
    "three signatures": Case(SIGNED, Edit(add=(*note(b"one").add, *note(b"two" * 2000).add, *note(b"three").add))),
    "aligned": Case(SIGNED, Edit(add=(NewObject(GENERIC, b"x" * 5000, alignment=4096), NewObject(GENERIC, b"")))),
    "behind foreign bytes": Case(SIGNED + b"junk" * 5000, note(b"over the junk" * 100)),
    "data is replaced": Case(SIGNED, REPLACED),
    "data is replaced by less": Case(SIGNED, replace(REPLACED, add=(NewObject(SIGNATURE, b"s", link=1),))),
    "what is not last is zeroed": Case(SIGNED, Edit(remove=frozenset({3}), zero=True)),
    "the header stays": Case(
        _deterministic(), Edit((NewObject(GENERIC, b"x" * 1200, group=1),), frozenset({4}), compact=True)
    ),
}


def content(path: Path) -> tuple[object, ...]:
    """Return what an image is: what signatures cover of its header, and each descriptor with its data."""
    fd = os.open(path, os.O_RDONLY)
    try:
        found = reader.read(fd)
        objects = tuple((each._replace(offset=0), bytes(found.data(each))) for each in found.descriptors)
        return found.header.signed_bytes, found.header.modified, objects
    finally:
        os.close(fd)


def changed(fd: int, edit: Edit) -> PreparedEdit:
    """Return how an edit of the file on a descriptor is carried out."""
    image = reader.read(fd)
    table = reader.pread(fd, image.header.table_size, image.header.table_offset)
    return inplace.change(image, table, plan_edit(image, table, edit, NOW))


def begun(fd: int, edit: Edit) -> None:
    """Leave an image as an edit does that is killed once the header points to the record."""
    change = changed(fd, edit)
    inplace._record(fd, change)
    inplace._write_header(fd, change.trailer.between)
