"""The walk: regular files only, never through a link, never into a sandbox."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eclctl.files.walk import walk


def found(root: Path, *, recursive: bool = True) -> set[str]:
    return {os.path.relpath(path, root) for files in walk(str(root), recursive=recursive) for path, _ in files}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    (root / "sub" / "deep").mkdir(parents=True)
    for name in ("a.sif", "sub/b.sif", "sub/deep/c"):
        (root / name).write_text("image")
    return root


def test_every_regular_file_is_found_by_any_name(root: Path) -> None:
    assert found(root) == {"a.sif", "sub/b.sif", "sub/deep/c"}


def test_without_recursion_only_the_directory_itself_is_read(root: Path) -> None:
    assert found(root, recursive=False) == {"a.sif"}


def test_the_attributes_are_those_of_the_file(root: Path) -> None:
    ((path, status),) = next(iter(walk(str(root), recursive=False)))
    assert status == os.stat(path)


def test_links_special_files_and_empty_files_are_left_out(root: Path) -> None:
    (root / "link.sif").symlink_to(root / "a.sif")
    (root / "empty.sif").touch()
    os.mkfifo(root / "fifo.sif")
    assert found(root) == {"a.sif", "sub/b.sif", "sub/deep/c"}


def test_a_linked_directory_is_not_entered(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.sif").write_text("image")
    (root / "linked").symlink_to(tmp_path / "outside")
    assert found(root) == {"a.sif", "sub/b.sif", "sub/deep/c"}


def test_a_directory_swapped_for_a_link_during_the_walk_is_not_entered(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("image")
    steps = walk(str(root), recursive=True)
    next(steps)  # the root has been read, `sub` is next
    (root / "sub").rename(tmp_path / "moved")
    (root / "sub").symlink_to(tmp_path / "outside")
    assert list(steps) == []


def test_a_root_below_a_link_is_not_walked(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert list(walk(str(tmp_path / "alias" / "sub"), recursive=True)) == []


def test_a_sandbox_and_all_below_it_is_left_out(root: Path) -> None:
    (root / "sub" / ".singularity.d").mkdir()
    assert found(root) == {"a.sif"}


def test_a_missing_root_has_no_files(tmp_path: Path) -> None:
    assert list(walk(str(tmp_path / "missing"), recursive=True)) == []


def test_names_that_are_not_utf_8_come_back_as_they_are(root: Path) -> None:
    name = os.fsencode(root) + b"/\xff\n.sif"
    Path(os.fsdecode(name)).write_text("image")
    assert name in {os.fsencode(path) for files in walk(str(root), recursive=False) for path, _ in files}


def test_a_tree_deeper_than_any_path_ends_the_walk_there_and_raises_nothing(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(25):
            os.mkdir("d" * 200, dir_fd=descriptor)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        os.close(os.open("x.sif", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    finally:
        os.close(descriptor)
    assert list(walk(str(tmp_path), recursive=True)) == []


def test_the_walk_leaves_no_descriptor_open(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert found(root)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_root_of_a_sandbox_is_yielded_when_asked_for_and_nothing_in_it(tmp_path: Path) -> None:
    box = tmp_path / "box"
    (box / ".singularity.d").mkdir(parents=True)
    (box / "bin").mkdir()
    (box / "bin" / "sh").write_text("program")
    (tmp_path / "a.sif").write_text("image")
    found = {path for files in walk(str(tmp_path), recursive=True, sandboxes=True) for path, _ in files}
    assert found == {str(box), str(tmp_path / "a.sif")}


def test_what_cannot_be_listed_is_told_to_a_caller_who_asks(tmp_path: Path) -> None:
    told: list[str] = []
    missing = str(tmp_path / "missing")
    assert list(walk(missing, recursive=True, refused=lambda directory, _: told.append(directory))) == []
    assert told == [missing]
