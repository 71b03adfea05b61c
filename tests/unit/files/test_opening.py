"""Opening names exactly and through links, by openat2 and by the walk that stands in for it on old kernels."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.files import opening, syscalls
from eclctl.files.opening import open_exactly, open_following
from tests.helpers.support import ROOT

# Refuses openat2 (437 everywhere) as a filter does that is older than the call: BPF that loads the number, compares it,
# and returns an error or lets the call pass (seccomp(2)).
FILTERED = """
import ctypes, errno, os, struct, sys
load, compare = (0x20, 0, 0, 0), (0x15, 0, 1, 437)
refuse, allow = (6, 0, 0, 0x50000 | errno.EPERM), (6, 0, 0, 0x7FFF0000)
code = struct.pack("=" + "HBBI" * 4, *load, *compare, *refuse, *allow)
lines = ctypes.create_string_buffer(code)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, struct.pack("@HP", 4, ctypes.addressof(lines))) == 0, os.strerror(ctypes.get_errno())
from eclctl.files.opening import open_exactly, open_following
for call in (lambda path: open_exactly(path, os.O_PATH), open_following):
    print(os.readlink(f"/proc/self/fd/{call(sys.argv[1])}"))
"""


def no_such_call(*_: object) -> int:
    raise OSError(errno.ENOSYS, "no such call")


@pytest.fixture(params=["openat2", "walk"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel with openat2, and one that answers ENOSYS."""
    if request.param == "walk":
        monkeypatch.setattr(syscalls, "openat2", no_such_call)
    return str(request.param)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("content")
    (tmp_path / "link").symlink_to("a/b")
    (tmp_path / "absolute").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "up").symlink_to("a/b/../b/file")
    before = os.listdir("/proc/self/fd")
    yield tmp_path
    assert len(os.listdir("/proc/self/fd")) == len(before)


def name_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def error_of(call, *arguments) -> int | None:
    with pytest.raises(OSError) as caught:
        call(*arguments)
    return caught.value.errno


@pytest.mark.usefixtures("kernel")
class TestEither:
    def test_a_path_without_links_is_opened(self, tree: Path) -> None:
        assert name_of(open_exactly(f"{tree}/a/b/file", os.O_PATH)) == f"{tree}/a/b/file"

    def test_a_relative_path_begins_at_a_descriptor(self, tree: Path) -> None:
        top = os.open(tree, os.O_PATH)
        assert name_of(open_exactly("a/b", os.O_RDONLY | os.O_DIRECTORY, top)) == f"{tree}/a/b"
        os.close(top)

    def test_the_root_is_opened(self, tree: Path) -> None:
        assert name_of(open_exactly("/", os.O_PATH)) == "/"
        assert name_of(open_following("/")) == "/"

    @pytest.mark.parametrize("path", ["link", "link/file", "absolute/b/file", "up"])
    def test_a_link_in_any_component_is_refused(self, tree: Path, path: str) -> None:
        for flags in (os.O_PATH, os.O_RDONLY):
            assert error_of(open_exactly, f"{tree}/{path}", flags) == errno.ELOOP

    @pytest.mark.parametrize("path", ["link/file", "absolute/b/file", "up", "a/../link/./file", "/a//b/file"])
    def test_links_are_followed_to_where_they_lead(self, tree: Path, path: str) -> None:
        assert name_of(open_following(f"{tree}/{path}")) == f"{tree}/a/b/file"

    def test_a_loop_ends(self, tree: Path) -> None:
        assert error_of(open_following, f"{tree}/loop/x") == errno.ELOOP

    @pytest.mark.parametrize("path", ["/proc/self/root/etc", "/proc/self/cwd", "/proc/self/exe", "/proc/self/fd/0"])
    def test_what_proc_makes_up_leads_nowhere(self, tree: Path, path: str) -> None:
        assert error_of(open_following, path) == errno.ELOOP

    def test_an_ordinary_link_on_proc_is_followed(self, tree: Path) -> None:
        assert name_of(open_following("/proc/mounts")).endswith("/mounts")

    @pytest.mark.parametrize(("path", "code"), [("none", errno.ENOENT), ("a/b/file/x", errno.ENOTDIR)])
    def test_errors_are_those_of_open(self, tree: Path, path: str, code: int) -> None:
        assert error_of(open_exactly, f"{tree}/{path}", os.O_PATH) == code
        assert error_of(open_following, f"{tree}/{path}") == code


def test_a_chain_of_links_has_the_kernels_limit(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "0").symlink_to("a")
    for number in range(1, 45):
        (tree / f"{number}").symlink_to(f"{number - 1}")
    for call in (syscalls.openat2, no_such_call):
        monkeypatch.setattr(syscalls, "openat2", call)
        assert name_of(open_following(f"{tree}/39")) == f"{tree}/a"
        assert error_of(open_following, f"{tree}/40") == errno.ELOOP


def test_a_maze_of_links_is_bounded_where_the_path_is_walked(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = "a/b/../../" * 100
    (tree / "m0").symlink_to(deep + "a")
    for number in range(1, 41):
        (tree / f"m{number}").symlink_to(f"{deep}m{number - 1}/../m{number - 1}")
    monkeypatch.setattr(syscalls, "openat2", no_such_call)
    assert error_of(open_following, f"{tree}/m40") == errno.ELOOP


def test_without_openat2_nothing_is_looked_at_without_waiting(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.close(open_following(f"{tree}/link/file"))  # what was followed just now is in the kernel's memory
    assert name_of(open_following(f"{tree}/link/file", cached=True)) == f"{tree}/a/b/file"
    monkeypatch.setattr(syscalls, "openat2", no_such_call)
    with pytest.raises(BlockingIOError):
        open_following(f"{tree}/link/file", cached=True)


def test_where_statx_tells_no_mount_fdinfo_does(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels before 5.8 leave STATX_MNT_ID out of what they answer."""
    fd = os.open(tree / "a", os.O_PATH)
    expected = syscalls.attributes(fd)
    statx = syscalls._statx

    def older(fd: int, name: bytes, flags: int, wanted: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
        result = statx(fd, name, flags, wanted, buffer)
        mask = int.from_bytes(buffer[:4], sys.byteorder) & ~syscalls.STATX_MNT_ID
        buffer[:4], buffer[144:152] = mask.to_bytes(4, sys.byteorder), bytes(8)
        return int(result)

    monkeypatch.setattr(syscalls, "_statx", older)
    assert syscalls.attributes(fd) == expected
    os.close(fd)


def test_the_walk_is_what_old_kernels_get(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[str] = []
    walk = opening._walk_exactly
    monkeypatch.setattr(opening, "_walk_exactly", lambda path, *rest: walked.append(path) or walk(path, *rest))
    os.close(open_exactly(f"{tree}/a", os.O_PATH))
    assert not walked
    monkeypatch.setattr(syscalls, "openat2", no_such_call)
    os.close(open_exactly(f"{tree}/a", os.O_PATH))
    assert walked == [f"{tree}/a"]


def test_a_file_system_that_does_not_say_what_a_file_is_leaves_no_descriptor_open(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FUSE file system of one user refuses others even that; `tree` counts the descriptors."""

    def refuses(*_: object) -> int:
        ctypes.set_errno(errno.EACCES)
        return -1

    monkeypatch.setattr(syscalls, "openat2", no_such_call)
    monkeypatch.setattr(syscalls, "_statx", refuses)
    assert error_of(open_following, f"{tree}/a/b/file") == errno.EACCES
    assert error_of(open_exactly, f"{tree}/a/b/file", os.O_PATH) == errno.EACCES


def test_links_are_followed_without_fdinfo(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old kernels, which need fdinfo to tell the mount, let a thread with another user's rights not read it."""
    no_mount = syscalls.STATX_MNT_ID
    monkeypatch.setattr(syscalls, "openat2", no_such_call)
    monkeypatch.setattr(syscalls, "STATX_MNT_ID", no_mount << 18)
    monkeypatch.setattr(syscalls, "_mount_by_fdinfo", no_such_call)
    assert name_of(open_following(f"{tree}/link/file")) == f"{tree}/a/b/file"


def test_a_filter_that_does_not_know_openat2_counts_as_a_kernel_without_it(tree: Path) -> None:
    command = [sys.executable, "-c", FILTERED, str(tree / "a" / "b")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{tree}/a/b\n" * 2, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user who may not look")
def test_what_the_kernel_itself_forbids_is_not_taken_for_a_filter(tree: Path) -> None:
    for directory in (tree, *tree.parents[:-1]):
        directory.chmod(directory.stat().st_mode | 0o011)
    with syscalls.assumed(syscalls.Credentials(12345, 12345)):
        # Only the owner of a file may ask that reading leaves no trace: EPERM.
        assert error_of(open_exactly, f"{tree}/a/b/file", os.O_RDONLY | os.O_NOATIME) == errno.EPERM
