"""A file that comes in pieces and appears under its name when it is whole."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path

import pytest

from eclctl.files.atomic import NewFileError
from eclctl.files.resumable import _is_partial_of, is_partial, open_partial, partial_name


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def pull(path: Path, data: bytes = b"new", *, replace: bool = False) -> None:
    with open_partial(str(path), "content", replace=replace) as file:
        os.pwrite(file.fd, data, 0)
        file.publish(replace=replace)


def test_until_it_is_published_the_watcher_passes_over_its_name_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        (name,) = names(tmp_path)
        assert is_partial(name)
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
        os.pwrite(file.fd, b"new", 0)
        file.publish(replace=False)
    assert names(tmp_path) == ["a.sif"]
    assert (tmp_path / "a.sif").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "a.sif").stat().st_mode) == 0o755


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002, 0])
def test_only_its_owner_may_write_it_under_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        pull(tmp_path / "a.sif")
        assert stat.S_IMODE((tmp_path / "a.sif").stat().st_mode) == 0o755 & ~umask
        assert os.umask(umask) == umask
    finally:
        os.umask(before)


def test_what_is_there_is_replaced_only_when_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "a.sif").write_bytes(b"old")
    with pytest.raises(NewFileError, match="will not overwrite; --force does"):
        pull(tmp_path / "a.sif")
    assert names(tmp_path) == ["a.sif"]
    pull(tmp_path / "a.sif", replace=True)
    assert (tmp_path / "a.sif").read_bytes() == b"new"


def test_what_another_process_put_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        (tmp_path / "a.sif").write_bytes(b"theirs")
        with pytest.raises(NewFileError, match="already exists"):
            file.publish(replace=False)
    assert (tmp_path / "a.sif").read_bytes() == b"theirs"


def test_a_run_that_ends_early_is_continued_by_one_that_wants_the_same(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        os.pwrite(file.fd, b"half", 0)
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        assert os.pread(file.fd, 10, 0) == b"half"


def test_a_run_that_wants_something_else_begins_anew_and_clears_up(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        os.pwrite(file.fd, b"half", 0)
    with open_partial(str(tmp_path / "b.sif"), "content", replace=False) as file:
        os.pwrite(file.fd, b"half", 0)
    with open_partial(str(tmp_path / "a.sif"), "other", replace=False) as file:
        assert os.pread(file.fd, 10, 0) == b""
        assert names(tmp_path) == sorted([partial_name("a.sif", "other"), partial_name("b.sif", "content")])


def test_two_runs_do_not_write_one_file(tmp_path: Path) -> None:
    with (
        open_partial(str(tmp_path / "a.sif"), "content", replace=False),
        pytest.raises(NewFileError, match="another run is writing it"),
        open_partial(str(tmp_path / "a.sif"), "content", replace=False),
    ):
        pass


def test_what_another_run_is_writing_is_not_cleared_up(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        with open_partial(str(tmp_path / "a.sif"), "other", replace=False):
            pass
        file.publish(replace=False)
    assert (tmp_path / "a.sif").exists()


def test_a_file_that_others_can_write_is_not_continued(tmp_path: Path) -> None:
    planted = tmp_path / partial_name("a.sif", "content")
    planted.write_bytes(b"planted")
    planted.chmod(0o666)
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        assert os.pread(file.fd, 10, 0) == b""


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / partial_name("a.sif", "content")).symlink_to("victim")
    with pytest.raises(NewFileError, match="symbolic links"):
        pull(tmp_path / "a.sif")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_run_that_was_killed_between_giving_the_name_and_removing_the_other_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "a.sif").write_bytes(b"published")
    (tmp_path / "a.sif").chmod(0o600)
    os.link(tmp_path / "a.sif", tmp_path / partial_name("a.sif", "content"))
    pull(tmp_path / "a.sif", replace=True)
    assert names(tmp_path) == ["a.sif"]
    assert (tmp_path / "a.sif").read_bytes() == b"new"


def test_what_was_put_in_its_place_does_not_get_the_name(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=True) as file:
        (tmp_path / "evil").write_bytes(b"evil")
        os.rename(tmp_path / "evil", file.path)
        with pytest.raises(NewFileError, match="another user has replaced it"):
            file.publish(replace=True)
    assert not (tmp_path / "a.sif").exists()


@pytest.mark.parametrize("path", ["", "folder/", "folder", "none/a.sif"])
def test_a_name_must_be_one_of_a_file(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises((NewFileError, OSError)):
        pull(Path(path) if path != "folder/" else Path("folder/."), replace=True)


def test_more_than_there_is_room_for_is_refused(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        file.require_space(1)
        with pytest.raises(NewFileError, match="bytes are needed, and the file system has"):
            file.require_space(1 << 60)


def test_a_file_system_that_does_not_say_how_much_room_it_has_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All zeros come from a tmpfs without a limit, and from file systems in user space that do not answer."""
    silent = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        monkeypatch.setattr(os, "fstatvfs", lambda _: silent)
        file.require_space(1 << 20)


def test_nothing_is_left_of_a_run_that_got_nothing(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False):
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_regular_file_is_never_replaced(tmp_path: Path, kind: int) -> None:
    os.mknod(tmp_path / "a.sif", kind | 0o600)
    with pytest.raises(NewFileError, match="not a regular file, so it is not replaced"):
        pull(tmp_path / "a.sif", replace=True)
    assert stat.S_IFMT((tmp_path / "a.sif").stat().st_mode) == kind


def test_a_file_that_does_not_get_its_name_stays_its_owners_alone_and_is_continued(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        os.pwrite(file.fd, b"new", 0)
        (tmp_path / "a.sif").write_bytes(b"theirs")
        with pytest.raises(NewFileError, match="already exists"):
            file.publish(replace=False)
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600
    with open_partial(str(tmp_path / "a.sif"), "content", replace=True) as file:
        assert os.pread(file.fd, 9, 0) == b"new"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_fd: int, _operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(NewFileError, match="the file system has no locks"):
        pull(tmp_path / "a.sif")
    assert names(tmp_path) == []


def test_what_stands_in_the_way_is_named_with_the_file_that_was_wanted(tmp_path: Path) -> None:
    (tmp_path / partial_name("a.sif", "content")).mkdir()
    with pytest.raises(NewFileError, match=rf"{tmp_path}/a\.sif: {tmp_path}/\.eclctl-pull-.*: Is a directory"):
        pull(tmp_path / "a.sif")


def test_a_name_that_cannot_be_given_leaves_the_file_its_owners_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a sticky directory, for instance, no user can replace another's file."""

    def refuse(*_: object, **_dirs: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), ".eclctl-pull-x.part")

    with open_partial(str(tmp_path / "a.sif"), "content", replace=True) as file:
        os.pwrite(file.fd, b"new", 0)
        monkeypatch.setattr(os, "rename", refuse)
        with pytest.raises(NewFileError, match=rf"{tmp_path}/a\.sif: .*Operation not permitted"):
            file.publish(replace=True)
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o600


def test_the_lock_goes_with_the_run(tmp_path: Path) -> None:
    with open_partial(str(tmp_path / "a.sif"), "content", replace=False) as file:
        os.pwrite(file.fd, b"new", 0)
        path = file.path
    with open(path, "rb") as left:
        fcntl.flock(left, fcntl.LOCK_EX | fcntl.LOCK_NB)


OURS = partial_name("image.sif", "sha256:0")


def test_the_name_of_a_partial_file_is_found_again_and_is_no_others() -> None:
    assert partial_name("image.sif", "sha256:0") == OURS
    assert is_partial(OURS)
    assert _is_partial_of(OURS, "image.sif")
    assert not _is_partial_of(OURS, "other.sif")
    assert partial_name("image.sif", "sha256:1") != OURS


@pytest.mark.parametrize("name", ["image.sif", ".eclctl-pull-1.part", f"x{OURS}", f"{OURS}\n"])
def test_other_names_are_not_those_of_partial_files(name: str) -> None:
    assert not is_partial(name)
