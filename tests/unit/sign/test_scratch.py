"""The file that is to be the successor: what it is named, and what becomes of those that dead writers left."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.errors import SigningError
from eclctl.image.temporary import is_abandonable, is_temporary, temporary_name
from eclctl.sign.scratch import Scratch, remove_leftovers
from tests.signing import no_nameless_files

ME = frozenset({os.geteuid()})
DAY = 24 * 3600
OURS = f".eclctl-{'0' * 32}.part"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def left_behind(directory: int) -> str:
    """Leave what a writer leaves that dies just before it trades names."""
    scratch = Scratch(directory)
    name = scratch.give_name()
    os.close(scratch.fd)
    return name


def test_names_are_not_to_be_guessed_and_are_known_as_ours() -> None:
    names = {temporary_name() for _ in range(100)}
    assert len(names) == 100
    assert all(is_temporary(name) and is_abandonable(name) and name.startswith(".") for name in names)


@pytest.mark.parametrize("name", ["image.sif", ".eclctl-1.part", f"x{OURS}", f"{OURS}\n"])
def test_other_names_are_not_ours(name: str) -> None:
    assert not is_temporary(name)
    assert not is_abandonable(name)


def test_a_new_file_has_no_name_until_it_is_given_one(directory: int) -> None:
    scratch = Scratch(directory)
    assert os.listdir(directory) == []
    name = scratch.give_name()
    assert os.listdir(directory) == [name]
    assert scratch.give_name() == name
    scratch.close()
    assert os.listdir(directory) == []


def test_a_new_file_is_nobody_else_s_to_read(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    for _ in range(2):
        scratch = Scratch(directory)
        modes.append(stat.S_IMODE(os.fstat(scratch.fd).st_mode))
        scratch.close()
        monkeypatch.setattr(os, "open", no_nameless_files)
    assert modes == [0o600, 0o600]


def test_what_a_dead_writer_left_is_removed(directory: int) -> None:
    left_behind(directory)
    assert remove_leftovers(directory, ME, 0) == 1
    assert os.listdir(directory) == []


def test_what_a_living_writer_has_is_not(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    named = Scratch(directory)
    named.give_name()
    monkeypatch.setattr(os, "open", no_nameless_files)
    other = Scratch(directory)
    assert remove_leftovers(directory, ME, 0) == 0
    assert len(os.listdir(directory)) == 2
    named.close()
    other.close()


def test_files_with_other_names_are_let_alone(directory: int, tmp_path: Path) -> None:
    names = ["image.sif", f".eclctl-pull-{'0' * 32}.part", ".eclctl-x.part"]
    for name in names:
        (tmp_path / name).touch()
    assert remove_leftovers(directory, ME, 0) == 0
    assert sorted(os.listdir(directory)) == sorted(names)


def test_other_users_files_are_let_alone(directory: int) -> None:
    left_behind(directory)
    assert remove_leftovers(directory, frozenset({os.geteuid() + 1}), 0) == 0


def test_a_link_or_a_pipe_under_such_a_name_is_not_followed_nor_opened(directory: int, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"x")
    (tmp_path / temporary_name()).symlink_to("precious")
    os.mkfifo(tmp_path / temporary_name())
    (tmp_path / temporary_name()).mkdir()
    assert remove_leftovers(directory, ME, 0) == 0
    assert len(os.listdir(directory)) == 4


def test_where_no_lock_tells_only_what_is_old_is_removed(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    name = left_behind(directory)
    changed = os.stat(name, dir_fd=directory).st_ctime

    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert remove_leftovers(directory, ME, changed + DAY - 10) == 0
    assert remove_leftovers(directory, ME, changed + DAY + 10) == 1


def test_somebody_who_keeps_removing_the_file_is_told_of(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def hostile(path: object, flags: int, *arguments: object, **named: object) -> int:
        fd = no_nameless_files(path, flags, *arguments, **named)
        os.unlink(path, dir_fd=directory)  # type: ignore[arg-type]
        return fd

    monkeypatch.setattr(os, "open", hostile)
    with pytest.raises(SigningError, match="keeps removing the temporary file"):
        Scratch(directory)
