"""Copying in constant memory, with holes, hashing what the copy holds."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.errors import BusyImageError, SigningError, UnreadableImageError
from eclctl.sign import copying
from eclctl.sign.copying import Extent, copy, digests
from tests.support import ROOT

MIB = 1 << 20


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """Give a file of nine MiB of all kinds of bytes, and an empty one."""
    (tmp_path / "source").write_bytes(b"".join(bytes([number]) * MIB for number in range(9)))
    source = os.open(tmp_path / "source", os.O_RDWR)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield source, target
    os.close(source)
    os.close(target)


def everything(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def refuse(number: int) -> object:
    def call(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("how", ["in the kernel", "not offered", "offered and does nothing"])
def test_a_copy_is_the_same_however_it_is_made(
    files: tuple[int, int], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = files
    if how == "not offered":
        monkeypatch.setattr(os, "copy_file_range", refuse(errno.EXDEV))
    if how == "offered and does nothing":
        monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    copy(source, target, 9 * MIB, [], None)
    assert everything(target) == everything(source)


def test_digests_come_in_the_order_of_the_extents(files: tuple[int, int]) -> None:
    source, target = files
    extents = [
        Extent(5 * MIB + 3, 2 * MIB, ("sha256",)),
        Extent(10, 0, ("sha384",)),
        Extent(7, MIB, ("sha512", "sha256")),
    ]
    data = everything(source)
    wanted = [
        {name: hashlib.new(name, data[one.offset : one.offset + one.size]).digest() for name in one.algorithms}
        for one in extents
    ]
    assert copy(source, target, len(data), extents, None) == wanted
    assert digests(target, extents) == wanted


def test_what_is_hashed_is_what_the_copy_holds(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a file changes while it is copied, or a network file system copies something else than it reads."""
    source, target = files

    def other(_source: int, into: int, size: int, _at: int, at: int) -> int:
        return os.pwrite(into, b"x" * size, at)

    monkeypatch.setattr(os, "copy_file_range", other)
    (found,) = copy(source, target, 9 * MIB, [Extent(0, 9 * MIB, ("sha256",))], None)
    assert found["sha256"] == hashlib.sha256(everything(target)).digest()
    assert everything(target) == b"x" * 9 * MIB


def test_a_file_that_shares_its_blocks_is_hashed_all_the_same(
    files: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Btrfs and XFS, where cloning makes the copy at once."""
    source, target = files

    def clone(one: int, other: int) -> bool:
        return os.pwrite(other, everything(one), 0) > 0

    monkeypatch.setattr(copying.system, "clone", clone)
    monkeypatch.setattr(os, "copy_file_range", refuse(errno.EIO))
    (found,) = copy(source, target, 9 * MIB, [Extent(0, 9 * MIB, ("sha256",))], None)
    assert found["sha256"] == hashlib.sha256(everything(source)).digest()


def test_progress_never_stands_still_nor_goes_too_far(files: tuple[int, int]) -> None:
    source, target = files
    steps: list[int] = []
    copy(source, target, 9 * MIB, [Extent(MIB, 3 * MIB, ("sha256",))], steps.append)
    assert sum(steps) == 9 * MIB
    assert 0 < min(steps) <= max(steps) <= 4 * MIB


def test_a_file_that_has_become_shorter_is_noticed(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = files
    copy_file_range = os.copy_file_range

    def truncating(*arguments: int) -> int:
        count = copy_file_range(*arguments)
        os.ftruncate(source, MIB)
        return count

    monkeypatch.setattr(os, "copy_file_range", truncating)
    monkeypatch.setattr(copying, "_next_data", lambda _fd, at, size: (at, size))
    with pytest.raises(BusyImageError, match="shorter"):
        copy(source, target, 9 * MIB, [], None)


@pytest.mark.parametrize("hashed", [False, True])
def test_a_disk_that_fills_up_in_the_middle_ends_the_copy(
    files: tuple[int, int], hashed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = files
    copy_file_range = os.copy_file_range

    def full(one: int, other: int, size: int, at: int, to: int) -> int:
        if at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return copy_file_range(one, other, size, at, to)

    monkeypatch.setattr(os, "copy_file_range", full)
    extents = [Extent(0, 9 * MIB, ("sha256",))] if hashed else []
    with pytest.raises(SigningError, match="No space left on device"):
        copy(source, target, 9 * MIB, extents, None)


def test_a_file_that_cannot_be_read_says_so(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = files
    monkeypatch.setattr(os, "copy_file_range", refuse(errno.EXDEV))
    monkeypatch.setattr(os, "preadv", refuse(errno.EIO))
    with pytest.raises(UnreadableImageError, match="cannot read the image: Input/output error"):
        copy(source, target, 9 * MIB, [], None)


def test_whoever_is_interrupted_leaves_no_thread_behind(files: tuple[int, int]) -> None:
    source, target = files

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(source, target, 9 * MIB, [], interrupt)
    os.ftruncate(target, 0)
    assert os.fstat(target).st_blocks == 0


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = os.open(tmp_path / "source", os.O_RDWR | os.O_CREAT)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    os.pwrite(source, b"begin" * 1000, 0)
    os.pwrite(source, b"middle" * 1000, 40 * MIB)
    os.ftruncate(source, 100 * MIB)
    copy(source, target, 100 * MIB, [], None)
    assert everything(target) == everything(source)
    assert os.fstat(target).st_blocks <= os.fstat(source).st_blocks + 64
    os.close(source)
    os.close(target)


SPARSE = """
import os, sys
from pathlib import Path
from tests.signing import edit, note, signed_once
from tests.support import peak
path, size = Path(sys.argv[1]), int(sys.argv[2])
data = signed_once(bytes(4096)).build()
path.write_bytes(data)
edit(path, note())
before = peak()
with path.open("r+b") as file:
    file.truncate(size)
    file.seek(120); file.write((size - 32176).to_bytes(8, "little"))
    place = (1 << 20).to_bytes(8, "little") + (size - (2 << 20)).to_bytes(8, "little")
    file.seek(4096 + 2 * 585 + 17); file.write(place)
blocks = path.stat().st_blocks
edit(path, note())
after = peak()
print(path.stat().st_size - size, (after - before) // (1 << 20), path.stat().st_blocks - blocks)
"""


def test_a_sparse_image_of_sixty_gigabytes_costs_neither_memory_nor_disk(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SPARSE, tmp_path / "image.sif", str(60 << 30)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    grown, megabytes, blocks = map(int, done.stdout.split())
    assert 0 <= grown < 4096
    assert megabytes < 24
    assert blocks < 256
