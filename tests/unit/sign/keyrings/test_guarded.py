"""Directories of files that no other user may read: modes, owners, links, and what a crash leaves."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eclctl.errors import KeyMaterialError
from eclctl.files.atomic import temporary_name
from eclctl.sign.keyrings.guarded import GuardedDirectory, write_new

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to others")


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@contextmanager
def opened(path, *, private=True, create=True):
    with GuardedDirectory.open(str(path), private=private, create=create) as directory:
        assert directory is not None
        yield directory


@contextmanager
def umask(value: int) -> Iterator[None]:
    old = os.umask(value)
    try:
        yield
    finally:
        os.umask(old)


@contextmanager
def watched(folder) -> Iterator[set[tuple[str, int]]]:
    """Note the mode of every file below a folder at each call and each return that Python sees, C functions too."""
    seen: set[tuple[str, int]] = set()
    busy = threading.local()

    def look(*_: object) -> None:
        if getattr(busy, "now", False):
            return
        busy.now = True
        for root, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = os.path.join(root, name)
                if os.path.lexists(path):
                    seen.add((os.path.relpath(path, folder), stat.S_IMODE(os.lstat(path).st_mode)))
        busy.now = False

    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(None)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077, 0o777])
def test_a_private_file_is_never_open_to_others_under_any_umask(tmp_path, mask):
    ring = tmp_path / "home" / "keys"
    with umask(mask), watched(tmp_path) as seen, opened(ring) as directory, directory.lock():
        directory.replace_all({"secret": b"1"})
        directory.replace_all({"secret": b"2"})
    assert len(seen) > 4
    assert [(name, oct(found)) for name, found in seen if found & 0o077] == []
    assert (mode(ring), mode(ring / "secret")) == (0o700, 0o600)


@pytest.mark.parametrize("mask", [0, 0o077])
def test_files_of_a_shared_directory_can_be_read_by_all_and_written_by_none(tmp_path, mask):
    with umask(mask), opened(tmp_path / "keys.d", private=False) as directory, directory.lock():
        directory.replace_all({"a.asc": b"1"})
    assert (mode(tmp_path / "keys.d"), mode(tmp_path / "keys.d" / "a.asc")) == (0o755, 0o644)


def test_the_lock_can_be_held_by_no_other_user(tmp_path):
    with opened(tmp_path / "keys.d", private=False) as directory, directory.lock():
        assert mode(tmp_path / "keys.d" / ".lock") == 0o600


def test_a_directory_that_is_not_there_is_told_and_not_made(tmp_path):
    with GuardedDirectory.open(str(tmp_path / "none"), private=True) as directory:
        assert directory is None
    assert not (tmp_path / "none").exists()


def test_wrong_modes_are_mended_and_told(tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_bytes(b"key")
    (tmp_path / "secret").chmod(0o644)
    with GuardedDirectory.open(str(tmp_path), private=True, marks=("secret",)) as directory:
        assert directory is not None
        assert directory.read("secret", 10) == b"key"
        assert ["0755" in directory.warnings[0], "0644" in directory.warnings[1]] == [True, True]
    assert (mode(tmp_path), mode(tmp_path / "secret")) == (0o700, 0o600)


@pytest.mark.parametrize("create", [False, True])
def test_a_directory_that_is_something_else_is_not_closed_to_those_who_need_it(tmp_path, create):
    tmp_path.chmod(0o755)
    (tmp_path / ".lock").touch()
    (tmp_path / "passwd").touch()
    with (
        pytest.raises(KeyMaterialError, match=r"open to others \(mode 0755\) and holds 'passwd'"),
        GuardedDirectory.open(str(tmp_path), private=True, create=create, marks=("secret",)),
    ):
        pass
    assert mode(tmp_path) == 0o755


def test_what_cannot_be_closed_to_others_can_be_read_and_is_told(tmp_path, monkeypatch):
    """As on a file system that is mounted read-only."""
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_bytes(b"key")
    (tmp_path / "secret").chmod(0o644)

    def refuse(fd: int, mode: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fchmod", refuse)
    with GuardedDirectory.open(str(tmp_path), private=True, marks=("secret",)) as directory:
        assert directory is not None
        assert directory.read("secret", 10) == b"key"
        assert ["stays so: Read-only" in warning for warning in directory.warnings] == [True, True]


@needs_root
def test_a_private_directory_of_another_user_is_refused(tmp_path):
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(KeyMaterialError, match="12345, not to you"), opened(tmp_path):
        pass


@needs_root
def test_a_link_to_a_directory_of_another_user_is_refused(tmp_path):
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    (tmp_path / "keys").symlink_to("theirs")
    with pytest.raises(KeyMaterialError, match="12345, not to you"), opened(tmp_path / "keys"):
        pass


def test_a_link_to_a_directory_of_our_own_is_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "keys").symlink_to("elsewhere")
    with opened(tmp_path / "keys") as directory, directory.lock():
        directory.replace_all({"a": b"1"})
    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"1"


@needs_root
def test_a_private_file_of_another_user_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"theirs")
    os.chown(tmp_path / "secret", 12345, 12345)
    with opened(tmp_path) as directory, pytest.raises(KeyMaterialError, match="12345, not to you"):
        directory.read("secret", 10)


def test_a_link_in_place_of_a_private_file_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    ring = tmp_path / "keys"
    ring.mkdir(mode=0o700)
    (ring / "secret").symlink_to(tmp_path / "other")
    with opened(ring) as directory, pytest.raises(KeyMaterialError):
        directory.read("secret", 10)


def test_writing_over_a_link_replaces_the_link(tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    with opened(tmp_path / "keys") as directory, directory.lock():
        (tmp_path / "keys" / "secret").symlink_to(tmp_path / "other")
        directory.replace_all({"secret": b"mine"})
    assert (tmp_path / "other").read_bytes() == b"other"
    assert (tmp_path / "keys" / "secret").read_bytes() == b"mine"


@pytest.mark.parametrize("private", [True, False])
def test_a_pipe_does_not_stall_the_reader(tmp_path, private):
    with opened(tmp_path / "keys", private=private) as directory:
        os.mkfifo(tmp_path / "keys" / "secret", 0o600)
        with pytest.raises(KeyMaterialError, match="not a regular file"):
            directory.read("secret", 10)


def test_a_file_that_is_too_long_is_refused_and_not_read_whole(tmp_path):
    with opened(tmp_path) as directory:
        with (tmp_path / "huge").open("wb") as file:
            file.truncate(1 << 40)
        (tmp_path / "huge").chmod(0o600)
        with pytest.raises(KeyMaterialError, match="larger than 1000 bytes"):
            directory.read("huge", 1000)


def test_a_shared_directory_that_all_users_write_is_refused_and_one_of_a_group_told(tmp_path):
    (tmp_path / "keys.d").mkdir()
    (tmp_path / "keys.d").chmod(0o777)
    with pytest.raises(KeyMaterialError, match="by all users"), opened(tmp_path / "keys.d", private=False):
        pass
    (tmp_path / "keys.d").chmod(0o775)
    with opened(tmp_path / "keys.d", private=False) as directory:
        assert "by its group" in directory.warnings[0]
    assert mode(tmp_path / "keys.d") == 0o775


def test_what_a_dead_writer_left_is_removed_by_the_next_one(tmp_path):
    with opened(tmp_path) as directory:
        (tmp_path / temporary_name("secret")).write_bytes(b"half a key")
        with directory.lock():
            assert os.listdir(tmp_path) == [".lock"]


def test_a_second_writer_is_kept_out(tmp_path):
    with opened(tmp_path) as directory, directory.lock():
        fd = os.open(tmp_path / ".lock", os.O_RDWR)
        try:
            with pytest.raises(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(fd)


def test_a_full_disk_leaves_the_old_file(tmp_path):
    import resource

    with opened(tmp_path) as directory, directory.lock():
        directory.replace_all({"secret": b"old"})
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        try:
            with pytest.raises(KeyMaterialError, match="too large"):
                directory.replace_all({"secret": bytes(2000)})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert sorted(os.listdir(tmp_path)) == [".lock", "secret"]
    assert (tmp_path / "secret").read_bytes() == b"old"


@needs_root
def test_without_rights_the_error_says_whose_they_are(tmp_path):
    os.seteuid(12345)
    try:
        with pytest.raises(KeyMaterialError, match="rights of its owner"), opened(tmp_path / "keys"):
            pass
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("mask", [0, 0o777])
def test_an_exported_secret_is_never_open_to_others(tmp_path, mask):
    path = tmp_path / "secret.asc"
    with umask(mask), watched(tmp_path) as seen:
        write_new(str(path), b"key", 0o600)
        write_new(str(path), b"key 2", 0o600, overwrite=True)
    assert path.read_bytes() == b"key 2"
    assert {found for _, found in seen if found & 0o077} == set()
    assert mode(path) == 0o600


def test_an_export_replaces_nothing_unless_it_is_told_to_and_follows_no_link(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"victim")
    (tmp_path / "out").symlink_to(victim)
    with pytest.raises(KeyMaterialError, match="is there already"):
        write_new(str(tmp_path / "out"), b"key", 0o600)
    with pytest.raises(KeyMaterialError, match="not a regular file"):
        write_new(str(tmp_path / "out"), b"key", 0o600, overwrite=True)
    assert victim.read_bytes() == b"victim"
    with pytest.raises(KeyMaterialError):
        write_new(str(tmp_path / "none" / "out"), b"key", 0o600)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("nowhere", path)])
def test_an_export_by_force_replaces_files_alone_and_leaves_no_secret_beside(tmp_path, make):
    make(tmp_path / "out")
    before = os.lstat(tmp_path / "out")
    with pytest.raises(KeyMaterialError, match="not a regular file, so it is not replaced"):
        write_new(str(tmp_path / "out"), b"key", 0o600, overwrite=True)
    assert os.path.samestat(os.lstat(tmp_path / "out"), before)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_export_that_is_interrupted_leaves_nothing(tmp_path, overwrite, monkeypatch):
    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_new(str(tmp_path / "out"), b"key", 0o600, overwrite=overwrite)
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_swept_is_left(tmp_path):
    left = temporary_name("secret")
    with opened(tmp_path / "keys") as directory, directory.lock():
        (tmp_path / "keys" / left).mkdir()
    with opened(tmp_path / "keys") as directory, directory.lock():
        directory.replace_all({"secret": b"1"})
    assert (tmp_path / "keys" / left).is_dir()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_is_told_and_nothing_of_another_writer_is_removed(tmp_path, number, monkeypatch):
    """As on Lustre, without `-o flock`, where many a cluster has its homes."""

    def refuse(fd: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    other = temporary_name("secret")
    with opened(tmp_path / "keys") as directory, directory.lock():
        (tmp_path / "keys" / other).write_bytes(b"another writer's")
        directory.replace_all({"secret": b"1"})
        assert "has no locks" in directory.warnings[0]
    with opened(tmp_path / "keys") as directory, directory.lock():
        directory.replace_all({"secret": b"2"})
    assert {name for name in os.listdir(tmp_path / "keys") if name != ".lock"} == {other, "secret"}
