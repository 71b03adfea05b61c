"""Which file an image is, and what that is worth."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.errors import BusyImageError, UnreadableImageError, UnsupportedFileError
from eclctl.files import locating
from eclctl.files.canonical_name import NoName
from eclctl.files.locating import Locator, Recheck
from eclctl.files.lookup_rights import LookupRights
from eclctl.files.mounts import FilesystemTrust, Mounts, MountTable
from eclctl.files.syscalls import Credentials
from eclctl.files.writers import Writers
from eclctl.model import Alias
from eclctl.terms import Assurance

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


STRANGER = LookupRights(Credentials(12345, 12345)) if os.getuid() == 0 else LookupRights()
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def located(locator: Locator, path: Path | str, asker: LookupRights = STRANGER) -> locating.Located:
    found = locator.by_name(str(path), anywhere=True, asker=asker)
    found.close()
    return found


def opened(locator: Locator, name: Path | str, fd: int, asker: LookupRights = STRANGER) -> locating.Located:
    return locator.by_descriptor(str(name), fd, anywhere=True, asker=asker)


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


@needs_root
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


@needs_root
def test_a_file_that_the_asker_may_not_read_answers_like_a_missing_one(locator: Locator, library: Path) -> None:
    missing = text_of(locator, library / "missing.sif")
    (library / "image.sif").chmod(0o640)
    assert text_of(locator, library / "image.sif") == missing


@needs_root
def test_so_does_a_file_below_a_private_directory(locator: Locator, library: Path) -> None:
    missing = text_of(locator, library / "missing.sif")
    private = library / "private"
    private.mkdir()
    (private / "image.sif").write_bytes(b"secret")
    private.chmod(0o700)
    assert text_of(locator, private / "image.sif") == missing


@needs_root
def test_so_does_a_link_inside_a_private_directory_to_a_public_file(locator: Locator, library: Path) -> None:
    missing = text_of(locator, library / "missing.sif")
    private = library / "private"
    private.mkdir()
    (private / "link.sif").symlink_to(library / "image.sif")
    private.chmod(0o700)
    assert text_of(locator, private / "link.sif") == missing


def test_so_does_a_file_that_an_acl_takes_from_a_user(locator: Locator, library: Path) -> None:
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
    assert opened(locator, library / "image.sif", fd).path == str(library / "other.sif")
    os.close(fd)


def test_a_descriptor_for_writing_alone_is_refused(locator: Locator, library: Path) -> None:
    fd = os.open(library / "image.sif", os.O_WRONLY)
    with pytest.raises(UnsupportedFileError):
        opened(locator, library / "image.sif", fd)
    os.close(fd)


def test_an_o_path_descriptor_is_opened_for_reading(locator: Locator, library: Path) -> None:
    fd = os.open(library / "image.sif", os.O_PATH)
    found = opened(locator, library / "image.sif", fd)
    assert (found.path, found.assurance) == (str(library / "image.sif"), Assurance.TRUSTED_PATH)
    assert os.read(found.fd, 7) == b"content"
    found.close()
    os.close(fd)


@needs_root
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o000])
def test_an_o_path_descriptor_of_a_file_that_its_sender_may_not_read_is_refused(
    locator: Locator, library: Path, mode: int
) -> None:
    (library / "image.sif").chmod(mode)
    fd = os.open(library / "image.sif", os.O_PATH)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnreadableImageError, match="you may not read it"):
        opened(locator, library / "image.sif", fd)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(fd)


@needs_root
def test_an_acl_that_lets_its_sender_read_opens_an_o_path_descriptor(locator: Locator, library: Path) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("needs setfacl")
    (library / "image.sif").chmod(0o600)
    subprocess.run(["setfacl", "-m", "u:12345:r", library / "image.sif"], check=True)
    fd = os.open(library / "image.sif", os.O_PATH)
    found = opened(locator, library / "image.sif", fd)
    assert os.read(found.fd, 7) == b"content"
    found.close()
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


def test_a_file_that_no_process_writes_has_no_writers(locator: Locator, library: Path) -> None:
    assert located(locator, library / "image.sif").writers is Writers.NONE


def test_where_there_are_no_leases_writers_are_not_known(locator: Locator, library: Path) -> None:
    """The kernel answers EINVAL, as for all that is no regular file."""
    fd = os.open(library, os.O_RDONLY)
    assert locator.look_for_writers(fd) is Writers.NOT_KNOWN
    os.close(fd)


@needs_root
def test_where_a_lease_is_not_for_this_process_writers_are_not_known(library: Path) -> None:
    """The kernel answers EACCES to who neither owns the file nor is root."""
    code = (
        "import os, sys; from eclctl.files.writers import look_for_writers; fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "os.setgroups([]); os.setgid(12345); os.setuid(12345); print(look_for_writers(fd).value)"
    )
    argv = [sys.executable, "-c", code, str(library / "image.sif")]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "not known\n"


def test_a_file_that_a_process_has_open_for_writing_is_not_on_a_trusted_path(locator: Locator, library: Path) -> None:
    with (library / "image.sif").open("r+b"):
        found = located(locator, library / "image.sif")
    assert (found.writers, found.assurance) == (Writers.SOME, Assurance.NONE)
    assert found.weak is not None
    assert "open for writing" in found.weak.text


def test_nor_is_one_that_a_process_has_mapped_for_writing(locator: Locator, library: Path) -> None:
    """A store into a dirty page of a shared mapping changes neither mtime nor ctime."""
    with (library / "image.sif").open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), 0)
    mapping[0] = 1
    assert located(locator, library / "image.sif").assurance is Assurance.NONE
    mapping.close()


def test_a_file_that_was_written_before_the_look_for_writers_and_after_all_else_is_busy(
    locator: Locator, library: Path
) -> None:
    """The writer has gone when they are looked for, but has left a change time."""

    class Late(Locator):
        def look_for_writers(self, fd: int) -> Writers:
            (library / "image.sif").write_bytes(b"other")
            return Locator.look_for_writers(self, fd)

    late = Late(locator.mounts, locator.owners)
    with pytest.raises(BusyImageError, match="changed while it was looked at"):
        late.by_name(str(library / "image.sif"), anywhere=True)


def test_a_change_within_the_clock_tick_leaves_a_file_unsettled(library: Path) -> None:
    fd = os.open(library / "image.sif", os.O_RDONLY)
    found = locating.syscalls.attributes(fd)
    assert not locating.settled(found, now_ns=found.ctime_ns + 1_000_000)
    assert locating.settled(found, now_ns=found.ctime_ns + 1_000_000_000)
    os.close(fd)


def test_a_write_lease_makes_the_image_busy_at_once(locator: Locator, library: Path) -> None:
    writer = os.open(library / "image.sif", os.O_RDWR)
    fcntl.fcntl(writer, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    with pytest.raises(BusyImageError):
        located(locator, library / "image.sif")
    os.close(writer)


@pytest.fixture(autouse=True)
def _lease_breaks_do_not_kill() -> Iterator[None]:
    """The kernel tells a lease holder by SIGIO, whose default is to end the process."""
    import signal

    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


def test_a_file_that_was_renamed_over_is_not_found_again(locator: Locator, library: Path) -> None:
    found = locator.by_name(str(library / "image.sif"), anywhere=True)
    assert locator.again(found, Recheck(str(library / "image.sif"))).assurance is Assurance.TRUSTED_PATH
    (library / "new").write_bytes(b"content")
    (library / "new").rename(library / "image.sif")
    with pytest.raises(BusyImageError):
        locator.again(found, Recheck(str(library / "image.sif")))
    found.close()


def test_a_file_that_was_written_meanwhile_is_not_found_again(locator: Locator, library: Path) -> None:
    found = locator.by_name(str(library / "image.sif"), anywhere=True)
    (library / "image.sif").write_bytes(b"CONTENT")
    with pytest.raises(BusyImageError):
        locator.again(found, Recheck(str(library / "image.sif")))
    found.close()


def test_what_is_weak_is_named(locator: Locator, library: Path) -> None:
    library.chmod(0o777)
    found = located(locator, library / "image.sif")
    assert found.weak is not None
    assert found.weak.text == f"others can write the directory {library} (mode 0777)"


@needs_root
def test_a_directory_is_named_only_to_those_who_may_see_it(locator: Locator, library: Path) -> None:
    """The file's name goes through a private directory, which its caller cannot look into."""
    private = library / "private"
    private.mkdir()
    os.chown(private, 54321, 54321)
    (private / "image.sif").write_bytes(b"content")
    private.chmod(0o700)
    fd = os.open(private / "image.sif", os.O_RDONLY)
    found = opened(locator, private / "image.sif", fd)
    assert (found.path, found.unnamed) == (None, NoName.MAY_NOT_LOOK)
    owner = opened(locator, private / "image.sif", fd, LookupRights(Credentials(54321, 54321)))
    assert owner.path == str(private / "image.sif")
    assert owner.weak is not None
    assert owner.weak.text == f"the directory {private} belongs to user 54321"
    os.close(fd)


def test_the_names_of_both_hard_links_are_known(locator: Locator, library: Path) -> None:
    os.link(library / "image.sif", library / "link.sif")
    fd = os.open(library / "link.sif", os.O_RDONLY)
    found = opened(locator, library / "image.sif", fd)
    assert found.path == str(library / "image.sif")
    assert found.aliases == (Alias(str(library / "link.sif")),)
    os.close(fd)


@pytest.mark.parametrize(
    "spelling", ["/{}", "//{}", "///{}", "/./{}", "/{}/.", "/{}/", "/proc/self/root/{}", "/nowhere"]
)
def test_every_spelling_gives_one_name(locator: Locator, library: Path, spelling: str) -> None:
    image = str(library / "image.sif")
    fd = os.open(image, os.O_RDONLY)
    found = opened(locator, spelling.format(image.removeprefix("/")), fd)
    assert (found.path, found.assurance) == (image, Assurance.TRUSTED_PATH)
    os.close(fd)


@needs_root
def test_what_another_users_directory_holds_does_not_show(locator: Locator, library: Path) -> None:
    """Neither in the answer nor in the descriptors that are opened: an existing name is not looked at."""
    private = library / "private"
    private.mkdir(mode=0o700)
    (private / "there").write_bytes(b"x")
    fd = os.open(library / "image.sif", os.O_RDONLY)
    found = [opened(locator, private / name, fd) for name in ("there", "missing")]
    assert found[0] == found[1]
    assert found[0].path == str(library / "image.sif")
    os.close(fd)


class Restless(MountTable):
    """A table that changes while it is read, as often as `restless` says; only the root file system is trusted then."""

    restless = 0

    def _read(self) -> tuple[Mounts, FilesystemTrust]:
        mounts, trust = super()._read()
        if not self.restless:
            return mounts, trust
        self.restless -= 1
        return Mounts(mounts.all, mounts.root, settled=False), FilesystemTrust(frozenset())


@pytest.mark.parametrize(("times", "trusted"), [(0, True), (3, True), (100, False)])
def test_a_table_that_changes_while_it_is_read_is_read_again_before_nothing_is_trusted(
    library: Path, times: int, trusted: bool
) -> None:
    mounts = Restless()
    locator = Locator(mounts, OWNERS)
    with (library / "image.sif").open("rb") as file:
        mounts.restless = times
        mounts.forget()
        found = opened(locator, library / "image.sif", file.fileno())
    assert (found.assurance is Assurance.TRUSTED_PATH) == trusted
    mounts.close()
