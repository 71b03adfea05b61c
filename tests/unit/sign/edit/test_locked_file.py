"""Editing a file in place: who may, what stays, and what happens when others are at it too."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from eclctl.errors import BusyImageError, SigningError, UnreadableImageError, UnsupportedFileError
from eclctl.files.writers import ignore_broken_leases, look_for_writers
from eclctl.sif import reader
from eclctl.sign.edit import locked_file
from eclctl.sign.edit.editing import editing
from tests.helpers.edits import begun
from tests.helpers.signing import WHEN, as_user, data_of, edit, note, signed_once

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")
PATIENCE = 60.0
ACL = "system.posix_acl_access"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.sif"
    path.write_bytes(signed_once().build())
    return path


@pytest.fixture
def shared() -> Iterator[Path]:
    """Give a directory that every user can reach."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def of(path: Path, user: int, group: int) -> Path:
    """Put an image at a path, and give it away."""
    path.write_bytes(signed_once().build())
    os.chown(path, user, group)
    return path


def objects(path: Path) -> int:
    with editing(str(path)) as opened:
        return len(opened.image.descriptors)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an access control list as the kernel has it: tag, permissions, ID."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NO_ID = 0xFFFFFFFF
USER_1234_READS = acl((1, 6, NO_ID), (2, 4, 1234), (4, 0, NO_ID), (0x10, 4, NO_ID), (0x20, 0, NO_ID))


# -- what is kept


@pytest.mark.parametrize("mode", [0o644, 0o400, 0o755, 0o2770, 0o6755])
def test_the_mode_is_kept(image: Path, mode: int) -> None:
    image.chmod(mode)
    edit(image, note())
    assert stat.S_IMODE(image.stat().st_mode) == mode


@needs_root
def test_owner_and_group_are_kept(image: Path) -> None:
    os.chown(image, 1234, 5678)
    image.chmod(0o6755)
    edit(image, note())
    status = image.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (1234, 5678, 0o6755)


def test_an_access_control_list_is_kept(image: Path) -> None:
    os.setxattr(image, ACL, USER_1234_READS)
    edit(image, note())
    assert os.getxattr(image, ACL) == USER_1234_READS


def test_a_directory_s_default_does_not_open_the_new_file_to_others(image: Path) -> None:
    image.chmod(0o640)
    os.setxattr(image.parent, "system.posix_acl_default", USER_1234_READS)
    edit(image, note())
    assert ACL not in os.listxattr(image)
    assert stat.S_IMODE(image.stat().st_mode) == 0o640


def test_extended_attributes_of_users_are_kept(image: Path) -> None:
    os.setxattr(image, "user.site.ticket", b"4711\0")
    os.setxattr(image, "user.empty", b"")
    edit(image, note())
    assert (os.getxattr(image, "user.site.ticket"), os.getxattr(image, "user.empty")) == (b"4711\0", b"")


def test_nothing_is_said_of_an_ordinary_file(image: Path) -> None:
    assert edit(image, note()) == ()


# -- names


def test_a_symbolic_link_stays_and_what_it_leads_to_is_edited(image: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    link = tmp_path / "sub" / "link.sif"
    link.symlink_to("../image.sif")
    edit(link, note())
    assert link.is_symlink()
    assert objects(image) == 5
    assert os.listdir(tmp_path / "sub") == ["link.sif"]


def test_every_name_of_the_file_leads_to_the_edited_image(image: Path, tmp_path: Path) -> None:
    os.link(image, tmp_path / "other.sif")
    before = image.stat()
    assert edit(image, note()) == ()
    assert (objects(image), objects(tmp_path / "other.sif")) == (5, 5)
    assert (image.stat().st_ino, image.stat().st_nlink) == (before.st_ino, 2)


def test_who_has_the_image_open_reads_the_same_data_as_before(image: Path) -> None:
    """A container that runs from it: neither the file nor anything of the old objects goes away under it."""
    fd = os.open(image, os.O_RDONLY)
    before = reader.read(fd)
    edit(image, note())
    assert [bytes(before.data(each)) for each in before.descriptors] == [
        bytes(reader.read(fd).data(each)) for each in before.descriptors
    ]
    assert len(reader.read(fd).descriptors) == 5
    os.close(fd)


def test_a_link_that_is_led_elsewhere_meanwhile_stops_the_edit(image: Path, tmp_path: Path) -> None:
    other, link = tmp_path / "other.sif", tmp_path / "link.sif"
    other.write_bytes(image.read_bytes())
    link.symlink_to(image)
    with editing(str(link)) as opened:
        opened.digests([1, 3], ["sha256"])
        link.unlink()
        link.symlink_to(other)
        with pytest.raises(BusyImageError, match="was replaced by another file"):
            opened.commit(note(), WHEN)
    assert (objects(image), objects(other)) == (4, 4)


def test_a_directory_that_is_renamed_meanwhile_does_not_lead_elsewhere(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    (here / "image.sif").write_bytes(signed_once().build())
    with editing(str(here / "image.sif")) as opened:
        opened.digests([1, 3], ["sha256"])
        here.rename(there)
        here.mkdir()
        (here / "image.sif").write_bytes(b"another user's")
        with pytest.raises(BusyImageError):
            opened.commit(note(), WHEN)
    assert (here / "image.sif").read_bytes() == b"another user's"
    assert os.listdir(here) == os.listdir(there) == ["image.sif"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UnreadableImageError, match=r"nothing\.sif cannot be opened: No such file"),
        editing(str(tmp_path / "nothing.sif")),
    ):
        pass


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_regular_file_is_refused_without_being_opened(make: object, tmp_path: Path) -> None:
    path = tmp_path / "image.sif"
    make(path)  # type: ignore[operator]
    with pytest.raises(UnsupportedFileError, match="not a regular file"), editing(str(path)):
        pass


# -- who may


@needs_root
def test_in_a_directory_that_cannot_be_written_an_image_can_be_signed(shared: Path) -> None:
    path = of(shared / "image.sif", 1234, 1234)
    with as_user(1234, 1234):
        edit(path, note())
    assert (objects(path), path.stat().st_uid) == (5, 1234)


@needs_root
@pytest.mark.parametrize(("user", "mode"), [(4321, 0o644), (1234, 0o444)], ids=["another user's", "read-only"])
def test_a_file_that_may_not_be_written_is_named_before_any_work(shared: Path, user: int, mode: int) -> None:
    shared.chmod(0o777)
    path = of(shared / "image.sif", 1234, 1234)
    path.chmod(mode)
    refused = pytest.raises(SigningError, match=r"image\.sif cannot be opened for writing: Permission denied; let its")
    with as_user(user, user), refused, editing(str(path)):
        pass
    assert objects(path) == 4


@needs_root
def test_whose_group_may_write_the_file_signs_it_and_it_stays_its_owner_s(shared: Path) -> None:
    path = of(shared / "image.sif", 1234, 77)
    path.chmod(0o664)
    with as_user(4321, 4321, 77):
        edit(path, note())
    assert (path.stat().st_uid, path.stat().st_gid, objects(path)) == (1234, 77, 5)


@needs_root
def test_an_immutable_file_is_named_before_any_work(image: Path) -> None:
    if subprocess.run(["chattr", "+i", image], check=False, capture_output=True).returncode:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(SigningError, match=r"Operation not permitted.*lsattr"), editing(str(image)):
            pass
    finally:
        subprocess.run(["chattr", "-i", image], check=True)


# -- others


def test_the_second_editor_waits_and_both_edits_are_in_the_file(image: Path) -> None:
    waits = threading.Event()

    def second() -> None:
        with editing(str(image), timeout=PATIENCE, on_wait=waits.set) as opened:
            opened.commit(note(b"second"), WHEN)

    thread = threading.Thread(target=second)
    with editing(str(image)) as opened:
        thread.start()
        assert waits.wait(PATIENCE)
        opened.commit(note(b"first"), WHEN)
    thread.join(PATIENCE)
    assert (data_of(image, 5), data_of(image, 6)) == (b"first", b"second")


def test_an_editor_that_does_not_want_to_wait_is_told(image: Path) -> None:
    with editing(str(image)), pytest.raises(BusyImageError, match="by another eclctl"), editing(str(image), timeout=0):
        pass


def test_many_processes_at_once_lose_nothing(image: Path) -> None:
    script = (
        "import sys; from tests.helpers.signing import edit, note\n"
        "for number in range(4): edit(sys.argv[1], note(b'%s %d' % (sys.argv[2].encode(), number)))"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, image, str(number)]) for number in range(3)]
    assert [process.wait(PATIENCE) for process in running] == [0, 0, 0]
    found = {data_of(image, number) for number in range(5, 17)}
    assert found == {b"%d %d" % (process, number) for process in range(3) for number in range(4)}
    assert os.listdir(image.parent) == ["image.sif"]


def test_a_file_that_is_open_for_writing_is_refused(image: Path) -> None:
    with image.open("r+b"), pytest.raises(BusyImageError, match="open for writing"), editing(str(image)):
        pass


def test_a_file_that_is_opened_for_writing_meanwhile_is_refused(image: Path) -> None:
    """A store into a page of a shared mapping that is dirty already would leave no trace in the file's times."""
    with editing(str(image)) as opened:
        opened.digests([1, 3], ["sha256"])
        refused = pytest.raises(BusyImageError, match="open for writing")
        with image.open("r+b") as file, mmap.mmap(file.fileno(), 0), refused:
            opened.commit(note(), WHEN)
    assert objects(image) == 4


def test_an_image_that_a_container_writes_into_is_refused(image: Path) -> None:
    """As SingularityCE and Apptainer lock a writable overlay in an image."""
    script = (
        "import fcntl, os, sys, struct\n"
        "fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "fcntl.lockf(fd, fcntl.LOCK_EX, 100, 32768)\n"
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == b"locked\n"
        with pytest.raises(BusyImageError, match="a container runs that writes into the image"), editing(str(image)):
            pass
        container.communicate()
    edit(image, note())


def test_a_file_that_is_executed_is_busy(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/cat", program)
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        with pytest.raises(BusyImageError, match="is being executed"), editing(str(program)):
            pass
        running.communicate()


def test_a_reader_that_locks_the_image_is_no_obstacle(image: Path) -> None:
    fd = os.open(image, os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
    edit(image, note())
    os.close(fd)
    assert objects(image) == 5


# -- file systems that cannot do everything


def test_where_locks_cannot_be_had_the_second_is_told_at_the_end(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with editing(str(image)) as opened:
        edit(image, note(b"first"))
        with pytest.raises(BusyImageError, match="changed while it was read"):
            opened.commit(note(b"second"), WHEN)
    assert objects(image) == 5


@pytest.mark.parametrize("alive", [True, False])
def test_where_locks_cannot_be_had_only_a_dead_edit_is_undone(
    image: Path, alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that still writes, what was undone would be overwritten in part."""
    monkeypatch.setattr(locked_file, "_flock", lambda _: None)
    before = image.read_bytes()
    with image.open("r+b") as file:
        begun(file.fileno(), note())
    state = image.read_bytes()
    monkeypatch.setattr(locked_file.time, "sleep", lambda seconds: alive and seconds > 1 and os.utime(image))
    if alive:
        with pytest.raises(BusyImageError, match="another eclctl"), editing(str(image)):
            pass
    else:
        assert objects(image) == 4
    assert image.read_bytes() == (state if alive else before)


def test_where_a_lock_is_had_only_for_writing_that_is_no_writer(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS, where the kernel makes a record lock of it, which another descriptor's record lock cannot join."""
    lock, control = fcntl.flock, fcntl.fcntl
    locked: list[int] = []

    def as_nfs(fd: int, operation: int) -> None:
        if control(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(fd, operation)
        locked.append(fd)

    def records(fd: int, command: int, *rest: object) -> object:
        if command == fcntl.F_OFD_SETLK and fd not in locked:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return control(fd, command, *rest)

    monkeypatch.setattr(fcntl, "flock", as_nfs)
    monkeypatch.setattr(fcntl, "fcntl", records)
    with editing(str(image)) as opened:
        with pytest.raises(BusyImageError, match="another eclctl"), editing(str(image), timeout=0):
            pass
        opened.commit(note(), WHEN)
    assert objects(image) == 5


def test_the_descriptors_of_an_edit_are_closed_in_any_case(image: Path) -> None:
    before = os.listdir("/proc/self/fd")
    edit(image, note())
    with pytest.raises(SigningError), editing(str(image)) as opened:
        opened.digests([99], ["sha256"])
    with pytest.raises(UnreadableImageError), editing(str(image) + ".none"):
        pass
    assert os.listdir("/proc/self/fd") == before


def test_a_lease_that_the_kernel_took_away_makes_no_failure_of_what_was_done(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    done = False
    with locked_file.no_writers(fd):
        with suppress(OSError):  # where the file system gives none
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        done = True
    os.close(fd)
    assert done


def test_a_lease_that_ends_at_once_does_not_keep_anyone_from_writing(image: Path) -> None:
    """The daemon takes one, for some microseconds, at each question about an image."""
    began, stop = threading.Event(), threading.Event()
    fd = os.open(image, os.O_RDONLY)

    def look_all_the_time() -> None:
        while not stop.is_set():
            look_for_writers(fd)
            began.set()

    before = signal.getsignal(signal.SIGIO)
    ignore_broken_leases()
    thread = threading.Thread(target=look_all_the_time)
    thread.start()
    try:
        assert began.wait(PATIENCE)
        with locked_file.open_locked(str(image), lambda _: None) as file:
            for _ in range(3000):
                os.close(file._place.open_to_write())
    finally:
        stop.set()
        thread.join()
        os.close(fd)
        signal.signal(signal.SIGIO, before)
