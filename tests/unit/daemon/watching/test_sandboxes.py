"""Changes inside sandboxes, as the kernel reports them."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eclctl.daemon.watching.sandboxes import SandboxWatch
from eclctl.files import sandbox_walk
from eclctl.files.mounts import Mounts, parse_mountinfo
from eclctl.files.sandboxes import Sandboxes, SandboxKey
from tests.helpers.watching import WAIT


@pytest.fixture
def watch() -> Iterator[SandboxWatch]:
    made = SandboxWatch(100)
    yield made
    made.stop()


@pytest.fixture
def top(tmp_path: Path) -> Path:
    made = tmp_path / "box"
    (made / "usr/lib").mkdir(parents=True)
    (made / "usr/lib/library.so").write_bytes(b"content")
    (made / ".singularity.d").mkdir()
    return made


def walk(watch: SandboxWatch, top: Path) -> threading.Event:
    """Watch all directories of a sandbox. Returns what a change sets."""
    changed = threading.Event()
    watched = watch.begin(changed.set)
    fd = os.open(top, os.O_PATH)
    sandbox_walk.look(fd, frozenset({os.geteuid()}), clock=time.monotonic, entered=watched.add)
    os.close(fd)
    return changed


CHANGES: dict[str, Callable[[Path], object]] = {
    "a mode": lambda top: (top / "usr/lib/library.so").chmod(0o666),
    "a directory's mode": lambda top: (top / "usr/lib").chmod(0o777),
    "the top's mode": lambda top: top.chmod(0o777),
    "an owner": lambda top: os.chown(top / "usr/lib/library.so", os.geteuid(), os.getegid()),
    "a new file": lambda top: os.mknod(top / "usr/lib/new"),
    "a new directory": lambda top: (top / "new").mkdir(),
    "a new link": lambda top: (top / "usr/link").symlink_to("lib"),
    "a hard link": lambda top: os.link(top / "usr/lib/library.so", top / "usr/hard"),
    "a file that is gone": lambda top: (top / "usr/lib/library.so").unlink(),
    "a directory that is gone": lambda top: (top / ".singularity.d").rmdir(),
    "a move within": lambda top: (top / "usr/lib").rename(top / "lib"),
    "a move out": lambda top: (top / "usr/lib").rename(top.parent / "lib"),
    "a move in": lambda top: (top.parent / "in").rename(top / "usr/in"),
    "a write": lambda top: (top / "usr/lib/library.so").write_bytes(b"other"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_below_is_reported(watch: SandboxWatch, top: Path, change: str) -> None:
    (top.parent / "in").mkdir()
    changed = walk(watch, top)
    assert len(watch._of) == 4
    assert not changed.is_set()
    CHANGES[change](top)
    assert changed.wait(WAIT)


def test_reading_and_walking_again_is_no_change(watch: SandboxWatch, top: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    changed, other = walk(watch, top), walk(watch, tmp_path / "other")
    (top / "usr/lib/library.so").read_bytes()
    walk(watch, top)
    (tmp_path / "other/new").mkdir()
    assert other.wait(WAIT)  # events come in order: none came for the reading
    assert not changed.is_set()


def test_watches_are_given_back_unless_another_sandbox_needs_them(watch: SandboxWatch, top: Path) -> None:
    first, second, heard = watch.begin(lambda: None), threading.Event(), os.open(top / "usr", os.O_PATH)
    other = watch.begin(second.set)
    for watched in (first, other):
        watched.add(heard)
    first.close()
    first.close()
    assert len(watch._of) == 1
    (top / "usr/new").mkdir()
    assert second.wait(WAIT)
    other.close()
    assert len(watch._of) == 0
    first.add(heard)  # closed: a walk that goes on adds nothing
    assert len(watch._of) == 0
    os.close(heard)


def test_a_sandbox_that_has_more_directories_than_there_are_watches_is_not_watched_at_all(top: Path) -> None:
    watch = SandboxWatch(3)
    try:
        walk(watch, top)
        assert len(watch._of) == 0
        walk(watch, top / "usr")
        assert len(watch._of) == 2
    finally:
        watch.stop()


def test_lost_events_are_a_change_in_every_sandbox(watch: SandboxWatch, top: Path, tmp_path: Path) -> None:
    """The kernel's queue overflows while the thread that reads it is held up."""
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as file:
        limit = int(file.read())
    if limit > 100_000:
        pytest.skip(f"the event queue takes {limit} events here")
    for name in ("quiet", "busy", "first"):
        (tmp_path / name).mkdir()
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(WAIT)

    first, busy = watch.begin(hold), watch.begin(lambda: None)
    for watched, name in ((first, "first"), (busy, "busy")):
        fd = os.open(tmp_path / name, os.O_PATH)
        watched.add(fd)
        os.close(fd)
    quiet = walk(watch, tmp_path / "quiet")
    (tmp_path / "first/new").mkdir()
    assert held.wait(WAIT)
    (tmp_path / "busy/0").mkdir()
    for number in range(limit // 2 + 100):  # two events each
        os.rename(tmp_path / f"busy/{number}", tmp_path / f"busy/{number + 1}")
    go.set()
    assert quiet.wait(WAIT)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files are trusted")
def test_what_is_kept_of_a_sandbox_ends_with_a_change_and_gives_its_watches_back(
    watch: SandboxWatch, top: Path
) -> None:
    sandboxes = Sandboxes(lambda: 0.0, watch)
    mounts = parse_mountinfo("22 1 8:1 / / rw - ext4 /dev/sda1 rw")
    table = Mounts(mounts, mounts[0], settled=True)
    fd = os.open(top, os.O_PATH)
    question = SandboxKey("state", (str(top),)), frozenset({0}), table
    assert sandboxes.look(fd, *question).weak is None
    assert sandboxes.kept(*question) is not None
    assert len(watch._of) == 4
    (top / "usr/lib/library.so").chmod(0o666)
    end = time.monotonic() + WAIT
    while sandboxes.kept(*question) is not None or len(watch._of):
        assert time.monotonic() < end
        time.sleep(0.01)
    weak = sandboxes.look(fd, *question).weak
    assert weak is not None
    assert weak.path == "usr/lib/library.so"
    os.close(fd)
