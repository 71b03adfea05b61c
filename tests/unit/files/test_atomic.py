"""A file appears under its name when it is whole, and takes the place of nothing that was not given up."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from eclctl.files import atomic as module
from eclctl.files.atomic import NewFileError, new_file


def write(path, data=b"new", *, replace=False, **options):
    with new_file(str(path), replace=replace, **options) as fd:
        os.write(fd, data)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_file_has_its_name_only_at_the_end(tmp_path):
    target = tmp_path / "out"
    with new_file(str(target), replace=False) as fd:
        os.write(fd, b"half")
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert names(tmp_path) == ["out"]


def test_the_umask_is_obeyed(tmp_path):
    write(tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o644
    write(tmp_path / "secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_a_name_without_a_directory_is_of_the_current_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("out")
    assert names(tmp_path) == ["out"]


def test_a_file_that_is_there_stays(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(NewFileError, match="is there already; --force replaces it"):
        write(target)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory"])
def test_what_is_no_regular_file_is_not_replaced_even_when_asked(tmp_path, kind):
    target = tmp_path / "out"
    other = tmp_path / "other"
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "directory":
        target.mkdir()
    else:
        target.symlink_to(other)
        if kind == "link":
            other.write_bytes(b"old")
    before = names(tmp_path)
    for replace in (False, True):
        with pytest.raises(NewFileError, match="no regular file"):
            write(target, replace=replace)
    assert names(tmp_path) == before
    assert kind != "link" or other.read_bytes() == b"old"


def test_what_would_be_refused_at_the_end_is_refused_before_anything_is_written(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    begun = []
    with pytest.raises(NewFileError), new_file(str(target), replace=False):
        begun.append(names(tmp_path))
    assert begun == []


def test_a_file_that_appears_meanwhile_stays(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(NewFileError, match="is there already"), new_file(str(target), replace=False):
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("appears", [False, True])
def test_without_hard_links_the_name_is_taken_all_the_same(tmp_path, monkeypatch, appears):
    """Such file systems (exFAT, some over FUSE) answer EPERM; the kernel's answer is put in its place here."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(module.os, "link", refuse)
    target = tmp_path / "out"
    if not appears:
        write(target)
        assert target.read_bytes() == b"new"
    else:
        with pytest.raises(NewFileError, match="is there already"), new_file(str(target), replace=False):
            target.write_bytes(b"theirs")
        assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def test_a_file_is_replaced_when_asked(tmp_path):
    target = tmp_path / "out"
    target.write_bytes(b"old")
    write(target, replace=True)
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("replace", [False, True])
def test_a_failure_leaves_everything_as_it_was(tmp_path, replace):
    target = tmp_path / "out"
    if replace:
        target.write_bytes(b"old")
    before = names(tmp_path)
    interrupted = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt), new_file(str(target), replace=replace):
        raise interrupted
    assert names(tmp_path) == before
    assert not replace or target.read_bytes() == b"old"


def test_a_full_disk_is_said(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(NewFileError, match="No space left on device"), new_file(str(tmp_path / "out"), replace=False):
        raise full
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [("no/such/out", "No such file"), ("out/", "names no file"), ("", "names no file"), ("a\0b", "null")],
)
def test_a_name_that_cannot_be_is_said(tmp_path, name, words):
    with pytest.raises(NewFileError, match=words):
        write(f"{tmp_path}/{name}" if name else "")
    assert names(tmp_path) == []


def test_the_longest_name_can_be_written(tmp_path):
    write(tmp_path / ("x" * 255))
    assert names(tmp_path) == ["x" * 255]
