"""What keeps a sandbox from being trusted, each alone in a tree that is otherwise clean."""

from __future__ import annotations

import itertools
import mmap
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eclctl.files import sandbox_walk
from eclctl.files.sandbox_walk import HELD, Bounds, SandboxWeakness, WalkResult
from tests.helpers.support import ROOT

OWNERS = frozenset({0})
USER = 12345
ALL = Bounds()

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to others")


@pytest.fixture(autouse=True)
def _leases() -> Iterator[None]:
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, before)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory that is removed after the test: Python cannot remove trees as deep as some of these."""
    yield tmp_path
    subprocess.run(["rm", "-rf", *tmp_path.iterdir()], check=True)


@pytest.fixture
def top(place: Path) -> Path:
    """A small sandbox that only root can write."""
    made = place / "box"
    for directory in ("bin", "etc/opt", "usr/lib/deep"):
        (made / directory).mkdir(parents=True)
    for file in ("bin/sh", "etc/passwd", "usr/lib/deep/library.so"):
        (made / file).write_bytes(b"content")
    (made / "lib").symlink_to("usr/lib")
    return made


def look(top: Path, bounds: Bounds = ALL, owners: frozenset[int] = OWNERS) -> WalkResult:
    fd = os.open(top, os.O_PATH)
    try:
        return sandbox_walk.look(fd, owners, clock=time.monotonic, bounds=bounds)
    finally:
        os.close(fd)


def weak(top: Path, bounds: Bounds = ALL) -> SandboxWeakness:
    found = look(top, bounds).weak
    assert found is not None, "nothing was found"
    return found


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def deep(top: Path, levels: int) -> int:
    """Make directories in one another, longer than a path can be. Returns a descriptor of the innermost."""
    fd = os.open(top, os.O_PATH)
    for _ in range(levels):
        os.mkdir("d", 0o755, dir_fd=fd)
        inner = os.open("d", os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = inner
    return fd


def test_a_tree_that_only_root_can_write_is_clean(top: Path) -> None:
    found = look(top)
    assert found.weak is None
    assert found.entries == 10


def test_a_device_may_be_open_to_every_user_since_its_mode_guards_no_content(top: Path) -> None:
    os.mknod(top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.chmod(top / "null", 0o666)
    assert look(top).weak is None


def test_further_owners_may_be_trusted(top: Path) -> None:
    os.chown(top / "bin/sh", USER, USER)
    assert look(top, owners=frozenset({0, USER})).weak is None


@pytest.mark.parametrize("name", ["etc/passwd", "etc/opt", "usr", "lib", "."])
def test_an_entry_of_another_owner_is_found(top: Path, name: str) -> None:
    os.chown(top / name, USER, 0, follow_symlinks=False)
    found = weak(top)
    assert found.path == name
    assert found.why == f"it belongs to user ID {USER}"


def test_a_pipe_of_another_owner_is_found(top: Path) -> None:
    os.mkfifo(top / "etc/pipe")
    os.chown(top / "etc/pipe", USER, 0)
    assert weak(top).path == "etc/pipe"


def test_a_hard_link_to_a_file_of_another_owner_is_found(top: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"")
    os.chown(tmp_path / "theirs", USER, 0)
    os.link(tmp_path / "theirs", top / "bin/tool")
    assert weak(top).path == "bin/tool"


@pytest.mark.parametrize(
    ("name", "mode", "why"),
    [
        ("bin/sh", 0o666, "every user can write this file (mode 0666)"),
        ("bin/sh", 0o602, "every user can write this file (mode 0602)"),
        ("bin/sh", 0o4775, "its group or a user in its ACL can write this file (mode 4775)"),
        ("usr/lib/deep", 0o777, "every user can add files to this directory (mode 0777)"),
        ("etc/opt", 0o1777, "every user can add files to this directory, also where the sticky bit is set (mode 1777)"),
        ("etc/opt", 0o2775, "its group or a user in its ACL can add files to this directory (mode 2775)"),
        (".", 0o775, "its group or a user in its ACL can add files to this directory (mode 0775)"),
    ],
)
def test_what_others_can_write_is_found(top: Path, name: str, mode: int, why: str) -> None:
    os.chmod(top / name, mode)
    assert weak(top) == SandboxWeakness(name, why, "chmod go-w")


def test_a_pipe_that_others_can_fill_is_found(top: Path) -> None:
    os.mkfifo(top / "pipe")
    os.chmod(top / "pipe", 0o622)
    assert weak(top).path == "pipe"


def test_an_acl_that_lets_one_user_write_is_found(top: Path) -> None:
    entries = [(0x01, 6, -1), (0x02, 6, USER), (0x04, 4, -1), (0x10, 6, -1), (0x20, 4, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(top / "etc/passwd", "system.posix_acl_access", acl)
    assert weak(top).path == "etc/passwd"


def test_a_file_that_a_process_has_open_for_writing_is_found(top: Path) -> None:
    with open(top / "bin/sh", "ab"):
        assert weak(top) == SandboxWeakness(
            "bin/sh", "a process has it open for writing", "end that process (fuser -v)"
        )
    assert look(top).weak is None


def test_a_writable_mapping_whose_descriptor_is_closed_is_found(top: Path) -> None:
    fd = os.open(top / "bin/sh", os.O_RDWR)
    mapping = mmap.mmap(fd, 7)
    os.close(fd)
    with mapping:
        assert weak(top).why == "a process has it open for writing"


def test_the_probe_leaves_no_lease_behind(top: Path) -> None:
    assert look(top).weak is None
    os.close(os.open(top / "bin/sh", os.O_WRONLY | os.O_NONBLOCK))


def test_names_keep_their_bytes(top: Path) -> None:
    name = b"\xff\n\xe2\x80\xa8"
    Path(os.fsdecode(os.fsencode(top / "etc") + b"/" + name)).write_bytes(b"")
    os.chmod(os.fsencode(top / "etc") + b"/" + name, 0o666)
    assert os.fsencode(weak(top).path) == b"etc/" + name


def test_what_lies_2000_levels_deep_is_found_and_few_directories_are_open(top: Path) -> None:
    inner = deep(top, 2000)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=inner))
    before, most = open_descriptors(), [0]
    fd = os.open(top, os.O_PATH)

    def count(_fd: int) -> None:
        most[0] = max(most[0], open_descriptors())

    assert sandbox_walk.look(fd, OWNERS, clock=time.monotonic, entered=count).weak is None
    assert most[0] <= before + HELD + 4
    os.chmod("file", 0o666, dir_fd=inner)
    assert weak(top).path == "d/" * 2000 + "file"
    os.close(fd)
    os.close(inner)


def test_what_comes_after_a_deep_branch_is_found(top: Path) -> None:
    for name in ("0", "a", "z"):  # whichever is entered first
        (top / name).mkdir()
        os.close(deep(top / name, 3 * HELD))
    for name in ("0", "a", "z"):
        (top / name / "file").write_bytes(b"")
        os.chmod(top / name / "file", 0o666)
        assert weak(top).path == f"{name}/file"
        (top / name / "file").unlink()


def test_no_descriptor_is_left_open(top: Path) -> None:
    before = open_descriptors()
    look(top)
    os.chmod(top / "usr/lib/deep/library.so", 0o666)
    look(top)
    look(top, Bounds(entries=3))
    look(top, Bounds(depth=1))
    os.chown(top / "usr/lib", USER, 0)
    look(top)
    assert open_descriptors() == before


def test_too_many_entries_are_not_looked_at(top: Path) -> None:
    found = look(top, Bounds(entries=9))
    assert found.weak is not None
    assert found.weak.path == "."
    assert found.weak.why == "the sandbox is too large to be looked at: it has more than 9 entries"
    assert look(top, Bounds(entries=10)).weak is None


def test_directories_that_lie_too_deep_are_not_looked_at(top: Path) -> None:
    why = "the sandbox is too large to be looked at: more than 2 directories lie in one another"
    assert weak(top, Bounds(depth=2)).why == why
    assert look(top, Bounds(depth=3)).weak is None


def test_a_walk_ends_when_its_time_is_over(top: Path) -> None:
    fd, ticks = os.open(top, os.O_PATH), itertools.count()
    found = sandbox_walk.look(fd, OWNERS, clock=lambda: float(next(ticks)), bounds=Bounds(seconds=5))
    os.close(fd)
    assert found.weak is not None
    assert found.weak.why == "the sandbox is too large to be looked at: 5 seconds were not enough"
    assert found.entries == 5


def test_a_directory_that_is_moved_out_while_the_walk_is_in_it_ends_it(place: Path) -> None:
    """The walk has let go of the directories above, and its way back would lead out of the tree."""
    top, outside = place / "box", place / "outside"
    top.mkdir()
    outside.mkdir()
    os.close(deep(top, HELD + 5))

    def move(entered: int) -> None:
        if entered == HELD + 6:
            os.rename(top / "d/d", outside / "d")

    assert watched(top, move) == SandboxWeakness("d/d", MOVED, "ask again")


@pytest.mark.parametrize("by", ["nothing", "a link"])
def test_a_directory_that_is_exchanged_before_it_is_entered_ends_the_walk(tmp_path: Path, by: str) -> None:
    top, names = two_directories(tmp_path)

    def exchange(entered: int) -> None:
        if entered == 2:
            for name in names:  # one of the two is entered already
                os.rename(top / name, tmp_path / name)
                if by == "a link":
                    (top / name).symlink_to(tmp_path / name)

    found = watched(top, exchange)
    assert found is not None
    assert (found.path in names, found.why) == (True, MOVED)


def test_a_directory_that_takes_the_place_of_another_is_looked_at_itself(tmp_path: Path) -> None:
    top, names = two_directories(tmp_path)

    def exchange(entered: int) -> None:
        if entered == 2:
            for name in names:
                os.rename(top / name, tmp_path / name)
                (top / name).mkdir()
                os.chown(top / name, USER, 0)

    found = watched(top, exchange)
    assert found is not None
    assert found.why == f"it belongs to user ID {USER}"


def test_a_file_that_takes_the_place_of_another_while_it_is_looked_at_ends_the_walk(tmp_path: Path) -> None:
    top = tmp_path / "box"
    top.mkdir()
    (top / "file").write_bytes(b"")

    asked = itertools.count()  # first for the top directory

    class Exchanging(frozenset[int]):
        """Asked for an owner between the look at a file and its opening."""

        def __contains__(self, uid: object) -> bool:
            if next(asked) == 1:
                os.rename(top / "file", tmp_path / "file")
                (top / "file").write_bytes(b"")
            return uid == 0

    assert look(top, owners=Exchanging()).weak == SandboxWeakness("file", MOVED, "ask again")


def test_a_directory_that_cannot_be_listed_is_found(top: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        found = watched(top, lambda _: resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1])))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found is not None
    assert (found.path, found.why.partition(":")[0]) == (".", "it cannot be looked at")


def test_what_root_alone_may_read_is_not_passed_over(top: Path) -> None:
    """As another user, who is bound by root's modes."""
    os.chmod(top / "usr/lib/deep", 0o700)
    allow_all(top)
    assert as_user(top) == "usr/lib/deep: it cannot be looked at: Permission denied"


def test_a_file_that_may_not_be_opened_is_no_sign_of_a_writer(top: Path) -> None:
    os.chmod(top / "etc/passwd", 0o600)
    allow_all(top)
    assert as_user(top) == "None"


def test_a_file_system_that_is_mounted_below_is_found(top: Path) -> None:
    assert with_mounts(top, "mount -t tmpfs none etc/opt") == f"etc/opt: {MOUNTED}"


def test_a_directory_that_is_mounted_below_is_found(top: Path) -> None:
    assert with_mounts(top, "mount --bind bin etc/opt") == f"etc/opt: {MOUNTED}"


def test_a_file_that_is_mounted_over_another_is_found(top: Path) -> None:
    assert with_mounts(top, "mount --bind bin/sh etc/passwd") == f"etc/passwd: {MOUNTED}"


def test_mounts_are_told_apart_by_kernels_that_do_not_tell_them_by_statx(top: Path) -> None:
    assert with_mounts(top, "true", WITHOUT_MOUNTS) == "None"
    assert with_mounts(top, "mount --bind bin/sh etc/passwd", WITHOUT_MOUNTS) == f"etc/passwd: {MOUNTED}"


def test_a_sandbox_may_lie_on_a_mount_of_its_own(top: Path) -> None:
    assert with_mounts(top, "mount --bind . . && mount -t tmpfs -o mode=755 none /mnt") == "None"


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs /dev/fuse")
def test_a_fuse_server_that_never_answers_is_not_asked(top: Path) -> None:
    mount = "exec 9<>/dev/fuse && mount -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other none etc/opt"
    assert with_mounts(top, mount) == f"etc/opt: {MOUNTED}"


MOVED = "it was moved or exchanged while the sandbox was looked at"
MOUNTED = "another file system or a bind mount is mounted on it"
WITHOUT_MOUNTS = """
from eclctl.files import syscalls
def before_5_8(real):
    def statx(directory, name, flags, wanted, buffer):
        result = real(directory, name, flags, wanted, buffer)
        buffer[0:4] = (int.from_bytes(buffer[0:4], "little") & ~syscalls.STATX_MNT_ID).to_bytes(4, "little")
        buffer[144:152] = bytes(8)
        return result
    return statx
syscalls._statx = before_5_8(syscalls._statx)
"""
LOOK = """
import os, sys, time
from eclctl.files.sandbox_walk import look
fd = os.open(sys.argv[1], os.O_PATH)
if len(sys.argv) > 2:
    os.setgroups([]); os.setresgid(12345, 12345, 12345); os.setresuid(12345, 12345, 12345)
weak = look(fd, frozenset({0}), clock=time.monotonic).weak
print(weak and f"{weak.path}: {weak.why}")
"""


def watched(top: Path, act: Callable[[int], None]) -> SandboxWeakness | None:
    """Walk, and act each time that a directory was opened, told how many that are."""
    count = itertools.count(1)
    fd = os.open(top, os.O_PATH)
    try:
        return sandbox_walk.look(fd, OWNERS, clock=time.monotonic, entered=lambda _: act(next(count))).weak
    finally:
        os.close(fd)


def two_directories(folder: Path) -> tuple[Path, tuple[str, str]]:
    top = folder / "box"
    for name in ("one", "two"):
        (top / name).mkdir(parents=True)
    return top, ("one", "two")


def allow_all(top: Path) -> None:
    """Let every user reach a directory below pytest's own."""
    for directory in top.parents:
        if directory.stat().st_uid == os.geteuid() and not directory.stat().st_mode & stat.S_IXOTH:
            os.chmod(directory, 0o711)


def as_user(top: Path) -> str:
    return script([sys.executable, "-c", LOOK, top, "user"])


def with_mounts(top: Path, shell: str, before: str = "") -> str:
    """Walk in a mount namespace where a shell command has mounted something, in the top directory."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    command = 'cd "$1" && eval "$2" && exec "$3" -c "$4" "$1"'
    inner = ["sh", "-c", command, "sh", top, shell, sys.executable, before + LOOK]
    return script(["unshare", "-m", "--propagation", "private", *inner])


def script(command: list[str | Path]) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n")


def test_where_leases_tell_nothing_writers_are_not_looked_for(top: Path) -> None:
    fd = os.open(top, os.O_PATH)
    with (top / "etc/passwd").open("ab"):
        assert sandbox_walk.look(fd, OWNERS, clock=time.monotonic).weak is not None
        assert sandbox_walk.look(fd, OWNERS, clock=time.monotonic, probe=False).weak is None
    os.close(fd)
