"""Images that the reference's library made, taken apart and put together again, are what they were, byte for byte."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eclctl.errors import EclctlError
from eclctl.sif import reader
from eclctl.sif.reader import Descriptor, Sif
from eclctl.sign.edit.assembly import Edit, NewObject
from eclctl.sign.edit.editing import editing
from tests.helpers.support import CORPUS

_GROUP_BITS = b"\0\0\0\xf0"  # which the reference's library writes for "no group"; other writers leave them out


def _made_in_order(path: Path) -> bool:
    """Whether an image's last signature was added last, by the reference's library, at a time that the header knows."""
    fd = os.open(path, os.O_RDONLY)
    try:
        image = reader.read(fd)
        slot = image.header.table_offset + 585 * (len(image.descriptors) - 1)
        group = os.pread(fd, 4, slot + 9)
    except EclctlError:
        return False
    finally:
        os.close(fd)
    return bool(image.descriptors) and group == _GROUP_BITS and _as_added(image, path.stat().st_size)


def _as_added(image: Sif, size: int) -> bool:
    last = image.descriptors[-1]
    in_order = [one.id for one in image.descriptors] == list(range(1, len(image.descriptors) + 1))
    others = max((one.offset + one.size for one in image.descriptors[:-1]), default=0)
    return (
        last.is_signature
        and in_order
        and last.offset == others
        and last.offset + last.size == size
        and image.header.modified == last.created == last.modified
        and image.header.free == image.header.total - len(image.descriptors)
    )


IMAGES = sorted(path for path in CORPUS.rglob("*.sif") if _made_in_order(path))


def test_the_corpus_has_images_to_take_apart() -> None:
    assert len(IMAGES) > 20


def _again(last: Descriptor, data: bytes) -> NewObject:
    return NewObject(last.type, data, last.group, last.link, last.links_group, last.name, last.extra.rstrip(b"\0"))


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_a_signature_removed_and_added_again_gives_the_same_file(path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copyfile(path, tmp_path / "image.sif"))
    with editing(str(copy)) as image:
        last = image.image.descriptors[-1]
        data = bytes(image.image.data(last))
        image.commit(Edit(remove=frozenset({last.id}), zero=True, compact=True), datetime.now(UTC))
    assert copy.stat().st_size < path.stat().st_size
    with editing(str(copy)) as image:
        image.commit(Edit(add=(_again(last, data),)), datetime.fromtimestamp(last.created, UTC))
    assert copy.read_bytes() == path.read_bytes()
