"""Editing an image: what is in it then, and what must not happen to it."""

from __future__ import annotations

import hashlib
import os
import signal
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from eclctl.errors import BusyImageError, MalformedImageError, SigningError
from eclctl.sif import reader
from eclctl.sif.reader import Sif
from eclctl.sign.edit.assembly import Edit, NewObject
from eclctl.sign.edit.editing import editing
from eclctl.verify.hashing import INLINE, Want, hash_objects
from tests.helpers.edits import CASES
from tests.helpers.sifbuilder import GENERIC, sample
from tests.helpers.sifbuilder import opened as opened_file
from tests.helpers.signing import WHEN, data_of, edit, note, second_signature, signed_once, signers


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.sif"
    path.write_bytes(signed_once().build())
    return path


def alone(path: Path) -> bool:
    """Whether nothing else is left in a file's directory."""
    return os.listdir(path.parent) == [path.name]


def test_a_second_signer_adds_a_signature_and_both_are_good(image: Path) -> None:
    assert signers(image) == 1
    edit(image, second_signature(signed_once()))
    assert signers(image) == 2
    assert alone(image)


def test_digests_are_of_the_data_of_objects(image: Path) -> None:
    with editing(str(image)) as opened:
        found = opened.digests([3, 1], ["sha256", "sha512"])
    builder = signed_once()
    assert found == {
        (number, name): hashlib.new(name, builder.entries[number - 1].data).digest()
        for number in (1, 3)
        for name in ("sha256", "sha512")
    }


def test_an_object_without_data_has_a_digest_too(tmp_path: Path) -> None:
    path, builder = tmp_path / "image.sif", sample()
    builder.add(b"")
    path.write_bytes(builder.build())
    with editing(str(path)) as opened:
        assert opened.digests([4], ["sha256"]) == {(4, "sha256"): hashlib.sha256().digest()}


def test_progress_adds_up_to_what_is_hashed(image: Path) -> None:
    steps: list[int] = []
    with editing(str(image)) as opened:
        opened.digests([1, 3], ["sha256", "sha512"], steps.append)
        assert sum(steps) == opened.size_of([1, 3])
    assert min(steps) > 0


def test_without_commit_the_image_is_as_it_was(image: Path) -> None:
    before, status = image.read_bytes(), image.stat()
    with editing(str(image)) as opened:
        opened.digests([1], ["sha256"])
    assert image.read_bytes() == before
    assert (image.stat().st_ino, image.stat().st_ctime_ns) == (status.st_ino, status.st_ctime_ns)
    assert alone(image)


def test_an_object_that_is_not_there_is_named(image: Path) -> None:
    with editing(str(image)) as opened, pytest.raises(SigningError, match="no data object 9"):
        opened.digests([9], ["sha256"])


def test_an_edit_that_is_impossible_leaves_the_image_as_it_was(image: Path) -> None:
    before = image.read_bytes()
    with pytest.raises(SigningError):
        edit(image, Edit(remove=frozenset({9})))
    assert image.read_bytes() == before
    assert alone(image)


def test_what_is_no_sif_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.sif"
    path.write_bytes(b"#!/bin/sh\n")
    with pytest.raises(MalformedImageError), editing(str(path)):
        pass
    assert alone(path)


def test_who_looks_at_the_image_as_it_will_be_can_refuse_it(image: Path) -> None:
    before = image.read_bytes()

    def refuse(after: Sif) -> None:
        assert bytes(after.data(after.descriptors[-1])) == b"a note"
        raise SigningError("no")

    with pytest.raises(SigningError, match="no"), editing(str(image)) as opened:
        opened.commit(note(), WHEN, refuse)
    assert image.read_bytes() == before
    assert alone(image)


def test_the_image_as_it_will_be_is_what_it_is_then(image: Path) -> None:
    """Also of data that is replaced, and of objects that are large enough to be hashed by a thread."""
    large = os.urandom(INLINE + 1)
    change = Edit(
        (NewObject(GENERIC, large, group=1), NewObject(GENERIC, b"")), frozenset({2, 4}), zero=True, compact=True
    )
    seen: list[tuple[object, object, list[bytes], object]] = []

    def shown(found: Sif) -> None:
        wants = [Want("sha256", (each.id,)) for each in found.descriptors]
        data = [bytes(found.data(each)) for each in found.descriptors]
        seen.append((found.header, found.descriptors, data, hash_objects(found, wants)))

    with editing(str(image)) as opened:
        opened.commit(change, WHEN, shown)
    with opened_file(image) as fd:
        shown(reader.read(fd))
    assert seen[0] == seen[1]
    assert large in seen[0][2]


def test_removed_data_is_gone_when_zeroed(tmp_path: Path) -> None:
    path, builder = tmp_path / "image.sif", sample()
    secret = os.urandom(3 << 20)
    builder.add(secret)
    builder.add(b"behind it")
    path.write_bytes(builder.build())
    edit(path, Edit(remove=frozenset({4})))
    assert secret in path.read_bytes()
    path.write_bytes(builder.build())
    edit(path, Edit(remove=frozenset({4}), zero=True))
    assert secret[:512] not in path.read_bytes()
    assert data_of(path, 5) == b"behind it"


def test_compacting_makes_the_file_smaller(tmp_path: Path) -> None:
    path, builder = tmp_path / "image.sif", sample()
    size = len(builder.build())
    builder.add(bytes(10_000))
    path.write_bytes(builder.build())
    edit(path, Edit(remove=frozenset({4}), zero=True, compact=True))
    assert path.stat().st_size == size


def test_an_empty_object_behind_padding_makes_a_file_that_can_be_read(image: Path) -> None:
    edit(image, Edit(add=(NewObject(GENERIC, b"", alignment=65536),)))
    with editing(str(image)) as opened:
        assert opened.image.size % 65536 == 0
    assert data_of(image, 5) == b""


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Write into a file and give it back the times it had, as far as anyone can."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


CHANGES = {
    "grown": append,
    "shrunk": lambda path: os.truncate(path, path.stat().st_size - 1),
    "shrunk to nothing": lambda path: os.truncate(path, 0),
    "rewritten, its times reset": lambda path: overwrite(path, 32768, b"evil"),
    "its table rewritten": lambda path: overwrite(path, 4096 + 4, b"\2"),
    "touched": lambda path: path.touch(),
    "given another mode": lambda path: path.chmod(0o600),
    "replaced by the same content": replaced,
    "renamed": moved,
    "removed": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("when", ["opened", "hashed"])
def test_a_file_that_changes_under_the_edit_is_left_as_it_is(
    image: Path, change: Callable[[Path], object], when: str
) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {path.name: (path.stat().st_ino, path.read_bytes()) for path in image.parent.iterdir()}

    with editing(str(image)) as opened:
        if when == "hashed":
            opened.digests([1, 3], ["sha256"])
        change(image)
        after = state()
        with pytest.raises((BusyImageError, MalformedImageError)):
            opened.commit(note(), WHEN)
    assert state() == after


def test_what_was_read_is_compared_with_what_is_there_before_it_is_written(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where times do not tell: as if the clock had been set back between two writes."""
    monkeypatch.setattr("eclctl.files.locating.unchanged", lambda _fd, _before: True)
    with editing(str(image)) as opened:
        overwrite(image, 4096 + 73, b"X")
        state = image.read_bytes()
        with pytest.raises(BusyImageError, match="changed while it was read"):
            opened.commit(note(), WHEN)
    assert image.read_bytes() == state


def test_a_large_image_takes_no_more_memory_than_a_small_one(tmp_path: Path) -> None:
    peaks = []
    for size in (1 << 20, 64 << 20):
        path, builder = tmp_path / f"{size}.sif", signed_once()
        path.write_bytes(builder.build())
        os.truncate(path, 32768 + size)  # a hole is read like anything else
        with path.open("r+b") as file:
            file.seek(4096 + 2 * 585 + 25)
            file.write(size.to_bytes(8, "little"))
            file.seek(4096 + 3 * 585 + 4)
            file.write(b"\0")
        tracemalloc.start()
        with editing(str(path)) as opened:
            opened.digests([1, 2, 3], ["sha256"])
            opened.commit(note(), WHEN)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (1 << 20)


def test_a_writer_that_is_killed_before_it_writes_has_done_nothing_even_where_the_header_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["the header stays"]
    path = tmp_path / "image.sif"
    path.write_bytes(case.image)
    monkeypatch.setattr("eclctl.sign.edit.editing.carry_out", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with editing(str(path)) as opened, pytest.raises(SigningError, match="was killed; the image is as it was"):
        opened.commit(case.edit, WHEN)
    assert path.read_bytes() == case.image
