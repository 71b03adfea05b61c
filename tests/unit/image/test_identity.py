"""Which file an image is, and what that is worth."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.errors import BusyImageError, UnreadableImageError, UnsupportedFileError
from eclctl.image import identity
from eclctl.image.identity import Locator
from eclctl.image.mounts import MountTable
from eclctl.model import Assurance

OWNERS = frozenset({0, os.getuid()})


@pytest.fixture
def locator() -> Iterator[Locator]:
    mounts = MountTable()
    yield Locator(mounts, OWNERS)
    mounts.close()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A directory that every user can reach, with one image."""
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == os.getuid() and str(directory) not in {"/", "/tmp"}:
            directory.chmod(0o755)
    (tmp_path / "image.sif").write_bytes(b"content")
    return tmp_path


def located(locator: Locator, path: Path | str) -> identity.Located:
    found = locator.by_name(str(path), anywhere=True)
    found.close()
    return found


def opened(locator: Locator, name: Path | str, fd: int) -> identity.Located:
    return locator.by_descriptor(str(name), fd, anywhere=True)


def test_a_file_that_only_trusted_owners_can_write_is_on_a_trusted_path(locator: Locator, library: Path) -> None:
    assert located(locator, library / "image.sif").assurance is Assurance.TRUSTED_PATH


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_can_write_is_not(locator: Locator, library: Path, mode: int) -> None:
    (library / "image.sif").chmod(mode)
    assert located(locator, library / "image.sif").assurance is Assurance.NONE


@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_directory_that_others_can_write_spoils_the_path(locator: Locator, library: Path, mode: int) -> None:
    library.chmod(mode)
    assert located(locator, library / "image.sif").assurance is Assurance.NONE


def test_a_sticky_directory_keeps_others_from_replacing_entries(locator: Locator, library: Path) -> None:
    library.chmod(0o1777)
    assert located(locator, library / "image.sif").assurance is Assurance.TRUSTED_PATH


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_a_directory_of_another_owner_spoils_the_path(locator: Locator, library: Path) -> None:
    os.chown(library, 12345, 0)
    assert located(locator, library / "image.sif").assurance is Assurance.NONE


def test_an_acl_that_lets_another_user_write_spoils_the_path(locator: Locator, library: Path) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    subprocess.run(["setfacl", "-m", "u:12345:rw", library / "image.sif"], check=True)
    fd = os.open(library / "image.sif", os.O_RDONLY)
    assert opened(locator, library / "image.sif", fd).assurance is Assurance.NONE
    os.close(fd)


def test_a_name_is_resolved_through_links_and_dots(locator: Locator, library: Path) -> None:
    (library / "link").symlink_to(library)
    assert located(locator, f"{library}/link/../{library.name}/./link/image.sif").path == str(library / "image.sif")


def test_a_link_in_a_loop_is_unreadable(locator: Locator, library: Path) -> None:
    (library / "a").symlink_to("b")
    (library / "b").symlink_to("a")
    with pytest.raises(UnreadableImageError):
        located(locator, library / "a")


@pytest.mark.parametrize("name", ["relative.sif", "", "/with\0nul", "/" + "x" * 5000])
def test_a_name_that_is_no_absolute_path_is_unreadable(locator: Locator, name: str) -> None:
    with pytest.raises(UnreadableImageError):
        located(locator, name)


def text_of(locator: Locator, path: Path) -> str:
    with pytest.raises(UnreadableImageError) as caught:
        located(locator, path)
    return str(caught.value).replace(str(path), "NAME")


def test_a_file_that_not_every_user_may_read_answers_like_a_missing_one(locator: Locator, library: Path) -> None:
    missing = text_of(locator, library / "missing.sif")
    (library / "image.sif").chmod(0o640)
    assert text_of(locator, library / "image.sif") == missing


def test_so_does_a_file_below_a_private_directory(locator: Locator, library: Path) -> None:
    missing = text_of(locator, library / "missing.sif")
    private = library / "private"
    private.mkdir()
    (private / "image.sif").write_bytes(b"secret")
    private.chmod(0o700)
    assert text_of(locator, private / "image.sif") == missing


def test_so_does_a_link_inside_a_private_directory_to_a_public_file(locator: Locator, library: Path) -> None:
    missing = text_of(locator, library / "missing.sif")
    private = library / "private"
    private.mkdir()
    (private / "link.sif").symlink_to(library / "image.sif")
    private.chmod(0o700)
    assert text_of(locator, private / "link.sif") == missing


def test_so_does_a_file_that_an_acl_takes_from_somebody(locator: Locator, library: Path) -> None:
    missing = text_of(locator, library / "missing.sif")
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    subprocess.run(["setfacl", "-m", "u:12345:---", library / "image.sif"], check=True)
    assert text_of(locator, library / "image.sif") == missing


def test_a_descriptor_is_taken_for_a_private_file(locator: Locator, library: Path) -> None:
    (library / "image.sif").chmod(0o600)
    fd = os.open(library / "image.sif", os.O_RDONLY)
    assert opened(locator, library / "image.sif", fd).path == str(library / "image.sif")
    os.close(fd)


def test_a_name_that_leads_to_another_file_does_not_count(locator: Locator, library: Path) -> None:
    (library / "other.sif").write_bytes(b"content")
    fd = os.open(library / "other.sif", os.O_RDONLY)
    found = opened(locator, library / "image.sif", fd)
    assert (found.path, found.assurance) == (None, Assurance.NONE)
    os.close(fd)


@pytest.mark.parametrize("flags", [os.O_PATH, os.O_WRONLY])
def test_a_descriptor_that_cannot_be_read_is_refused(locator: Locator, library: Path, flags: int) -> None:
    fd = os.open(library / "image.sif", flags)
    with pytest.raises(UnsupportedFileError):
        opened(locator, library / "image.sif", fd)
    os.close(fd)


def test_a_deleted_file_is_refused(locator: Locator, library: Path) -> None:
    fd = os.open(library / "image.sif", os.O_RDONLY)
    (library / "image.sif").unlink()
    with pytest.raises(UnsupportedFileError):
        opened(locator, library / "image.sif", fd)
    os.close(fd)


def test_a_memfd_is_refused_until_it_is_sealed(locator: Locator) -> None:
    fd = os.memfd_create("image", os.MFD_ALLOW_SEALING)
    with pytest.raises(UnsupportedFileError):
        opened(locator, "/nowhere", fd)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    assert opened(locator, "/nowhere", fd).assurance is Assurance.NONE
    os.close(fd)


def test_a_fifo_is_refused_without_waiting_for_a_writer(locator: Locator, library: Path) -> None:
    os.mkfifo(library / "fifo", 0o644)
    with pytest.raises(UnsupportedFileError):
        located(locator, library / "fifo")


def test_a_device_is_refused(locator: Locator) -> None:
    with pytest.raises((UnsupportedFileError, UnreadableImageError)):
        located(locator, "/dev/zero")


def test_no_descriptor_is_left_behind_by_a_refusal(locator: Locator, library: Path) -> None:
    os.mkfifo(library / "fifo", 0o644)
    before = len(os.listdir("/proc/self/fd"))
    for name in ("fifo", "missing"):
        with pytest.raises((UnsupportedFileError, UnreadableImageError)):
            located(locator, library / name)
    assert len(os.listdir("/proc/self/fd")) == before


def test_each_state_of_a_file_has_a_key_of_its_own(locator: Locator, library: Path) -> None:
    path = library / "image.sif"
    first = located(locator, path).key
    status = path.stat()
    path.write_bytes(b"CONTENT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert located(locator, path).key != first


def test_a_new_file_with_an_old_inode_number_has_another_key(locator: Locator, library: Path) -> None:
    path = library / "image.sif"
    first = located(locator, path).key
    path.unlink()
    path.write_bytes(b"content")
    second = located(locator, path).key
    assert first is not None
    assert second is not None
    assert first._replace(inode=0, ctime_ns=0) != second._replace(inode=0, ctime_ns=0)


def quiescent(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return identity.quiescent(fd, identity.system.attributes(fd), now_ns=time.time_ns() + 10**9)
    finally:
        os.close(fd)


def test_a_file_that_nobody_can_write_is_quiescent(library: Path) -> None:
    assert quiescent(library / "image.sif")


def test_a_file_that_somebody_has_open_for_writing_is_not(library: Path) -> None:
    with (library / "image.sif").open("r+b"):
        assert not quiescent(library / "image.sif")


def test_a_file_that_somebody_has_mapped_for_writing_is_not(library: Path) -> None:
    """A store into a dirty page of a shared mapping changes neither mtime nor ctime."""
    with (library / "image.sif").open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    mapping[0] = 1
    assert not quiescent(library / "image.sif")
    mapping.close()


def test_a_file_that_changed_within_the_clock_tick_is_not(library: Path) -> None:
    fd = os.open(library / "image.sif", os.O_RDONLY)
    found = identity.system.attributes(fd)
    assert not identity.quiescent(fd, found, now_ns=found.ctime_ns + 1_000_000)
    os.close(fd)


def test_a_write_lease_makes_the_image_busy_at_once(locator: Locator, library: Path) -> None:
    writer = os.open(library / "image.sif", os.O_RDWR)
    fcntl.fcntl(writer, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    found = locator.by_name(str(library / "image.sif"), anywhere=True)
    with pytest.raises(BusyImageError):
        identity.open_for_reading(found)
    found.close()
    os.close(writer)


@pytest.fixture(autouse=True)
def _lease_breaks_do_not_kill() -> Iterator[None]:
    """The kernel tells a lease holder by SIGIO, whose default is to end the process."""
    import signal

    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


def test_a_file_that_was_renamed_over_is_no_longer_there(locator: Locator, library: Path) -> None:
    found = locator.by_name(str(library / "image.sif"), anywhere=True)
    assert locator.still_there(found)
    (library / "new").write_bytes(b"content")
    (library / "new").rename(library / "image.sif")
    assert not locator.still_there(found)
    found.close()
