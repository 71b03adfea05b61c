"""The watcher on a real kernel: inotify, its overflow and its limits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from eclctl.config.settings import Watch
from eclctl.daemon.observing.metrics import Metrics
from eclctl.daemon.watching.inotify import Notifier
from eclctl.daemon.watching.tree import Timing
from eclctl.daemon.watching.watch import Watcher
from tests.helpers.support import ROOT
from tests.helpers.watching import WAIT, Examiner, image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


FAST = Timing(settle=0.1, quick=0.02, check=0.1)


@contextmanager
def watching(
    roots: Sequence[Path], engine: Examiner, *, local: bool = True, rescan: float = 0.0, metrics: Metrics | None = None
) -> Iterator[Watcher]:
    """Watch `roots`; inside, every tree has been armed and rescanned once, unless it is missing."""
    ready = _Ready() if metrics is None else metrics
    watches = [Watch(str(root), rescan=rescan) for root in roots]
    watcher = Watcher(watches, engine, ready, local=lambda _path: local, timing=FAST)
    watcher.start()
    try:
        if isinstance(ready, _Ready):
            assert all(ready.scanned.acquire(timeout=WAIT) for root in roots if root.exists())
        yield watcher
    finally:
        watcher.stop(WAIT)


class _Ready(Metrics):
    """Metrics that let a test wait for a rescan."""

    def __init__(self) -> None:
        super().__init__()
        self.scanned = threading.Semaphore(0)

    def rescanned(self, reason: str, seconds: float, now: object) -> None:
        super().rescanned(reason, seconds, now)  # type: ignore[arg-type]
        self.scanned.release()


def modes(watcher: Watcher) -> list[object]:
    trees = watcher.status()["trees"]
    assert isinstance(trees, list)
    return [tree["mode"] for tree in trees]


def test_what_is_there_at_the_start_is_examined(tmp_path: Path) -> None:
    path, engine = image(tmp_path / "sub" / "a.sif"), Examiner()
    with watching([tmp_path], engine) as watcher:
        assert engine.wait_for(path)
        assert modes(watcher) == ["events"]
        assert watcher.stats().modes == {"events": 1}


def test_a_copied_image_is_examined(tmp_path: Path) -> None:
    engine = Examiner()
    with watching([tmp_path], engine):
        path = tmp_path / "a.sif"
        path.write_text("image")
        assert engine.wait_for(path)


def test_an_image_moved_into_place_is_examined(tmp_path: Path) -> None:
    engine, root = Examiner(), tmp_path / "root"
    root.mkdir()
    with watching([root], engine):
        image(tmp_path / "outside.sif").rename(root / "from-outside.sif")
        assert engine.wait_for(root / "from-outside.sif")
        (root / "from-outside.sif").rename(root / "renamed.sif")
        assert engine.wait_for(root / "renamed.sif")


def test_a_linked_image_is_examined(tmp_path: Path) -> None:
    engine, root = Examiner(), tmp_path / "root"
    root.mkdir()
    with watching([root], engine):
        os.link(image(tmp_path / "outside.sif"), root / "hard.sif")
        assert engine.wait_for(root / "hard.sif")


def test_an_image_whose_owner_or_mode_changes_is_examined_again(tmp_path: Path) -> None:
    """Its change time changes, and with it what facts are kept by."""
    engine, path = Examiner(), image(tmp_path / "a.sif")
    with watching([tmp_path], engine):
        assert engine.wait_for(path)
        engine.given.clear()
        path.chmod(0o600)
        assert engine.wait_for(path)


def test_an_image_in_a_directory_moved_into_place_is_examined(tmp_path: Path) -> None:
    engine, root = Examiner(), tmp_path / "root"
    root.mkdir()
    image(tmp_path / "outside" / "deep" / "a.sif")
    with watching([root], engine):
        (tmp_path / "outside").rename(root / "inside")
        assert engine.wait_for(root / "inside" / "deep" / "a.sif")
        (root / "inside" / "deep" / "b.sif").write_text("image")
        assert engine.wait_for(root / "inside" / "deep" / "b.sif")


def test_a_tree_that_was_removed_and_made_again_is_watched_again(tmp_path: Path) -> None:
    engine, root = Examiner(), tmp_path / "root"
    image(root / "a.sif")
    with watching([root], engine):
        assert engine.wait_for(root / "a.sif")
        shutil.rmtree(root)
        image(root / "b.sif")
        assert engine.wait_for(root / "b.sif")
        (root / "c.sif").write_text("image")
        assert engine.wait_for(root / "c.sif")


def test_a_sandbox_is_neither_watched_nor_read(tmp_path: Path) -> None:
    engine, asked = Examiner(), []
    image(tmp_path / "box" / "bin" / "sh")
    (tmp_path / "box" / ".singularity.d").mkdir()
    with watching([tmp_path], engine) as watcher:
        notifier = watcher._trees[0].notifier
        assert notifier is not None
        asked = [os.fsdecode(watch._initial_creation_path) for watch in notifier._inotify._watch_for_wd.values()]
        (tmp_path / "box" / "bin" / "ls").write_text("changed")
        (tmp_path / "after.sif").write_text("image")
        assert engine.wait_for(tmp_path / "after.sif")
    assert asked == [str(tmp_path)]
    assert engine.given == [str(tmp_path / "after.sif")]


def test_reading_images_causes_no_events(tmp_path: Path) -> None:
    """Else each examination would ask for the next one."""
    engine, path = Examiner("not-kept"), image(tmp_path / "a.sif")
    with watching([tmp_path], engine):
        assert engine.wait_for(path)
        path.read_text()
        (tmp_path / "after.sif").write_text("image")
        assert engine.wait_for(tmp_path / "after.sif")
    assert engine.given.count(str(path)) == 1


def test_two_trees_that_are_one_are_both_served(tmp_path: Path) -> None:
    engine = Examiner()
    with watching([tmp_path, tmp_path], engine) as watcher:
        (tmp_path / "a.sif").write_text("image")
        assert engine.wait_for(tmp_path / "a.sif")
        assert sorted(map(str, modes(watcher))) == ["events", "interval"]


def test_a_request_has_every_tree_rescanned(tmp_path: Path) -> None:
    engine = Examiner()
    roots = [tmp_path / "one", tmp_path / "two"]
    paths = [image(root / "a.sif") for root in roots]
    with watching(roots, engine, local=False) as watcher:
        assert all(engine.wait_for(path) for path in paths)
        engine.flush()
        engine.given.clear()
        watcher.rescan()
        assert all(engine.wait_for(path) for path in paths)


def test_a_tree_that_hangs_stalls_no_other_tree(tmp_path: Path) -> None:
    stalled, reached = threading.Event(), threading.Event()

    class Hanging(Examiner):
        def prefetch(self, path: str) -> object:  # type: ignore[override]
            if "hung" in path:
                reached.set()
                stalled.wait(WAIT)
            return super().prefetch(path)

    engine = Hanging()
    image(tmp_path / "hung" / "a.sif")
    (tmp_path / "fine").mkdir()
    with watching([tmp_path / "hung", tmp_path / "fine"], engine, metrics=Metrics()) as watcher:
        try:
            assert reached.wait(WAIT)
            (tmp_path / "fine" / "b.sif").write_text("image")
            assert engine.wait_for(tmp_path / "fine" / "b.sif")
            assert watcher.stats().queued >= 1
        finally:
            stalled.set()


def test_a_bug_in_the_engine_does_not_end_the_watching(tmp_path: Path) -> None:
    class Buggy(Examiner):
        def prefetch(self, path: str) -> object:  # type: ignore[override]
            if path.endswith("poison.sif"):
                raise RuntimeError("a bug")
            return super().prefetch(path)

    engine = Buggy()
    with watching([tmp_path], engine):
        (tmp_path / "poison.sif").write_text("image")
        (tmp_path / "fine.sif").write_text("image")
        assert engine.wait_for(tmp_path / "fine.sif")


def test_stopping_ends_every_thread_and_gives_back_every_descriptor(tmp_path: Path) -> None:
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    watcher = Watcher([Watch(str(tmp_path))], Examiner(), Metrics(), local=lambda _path: True, timing=FAST)
    watcher.start()
    watcher.stop(WAIT)
    watcher.stop(WAIT)
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert watcher.status() == {"trees": []}


def test_a_watcher_with_nothing_to_watch_takes_nothing(tmp_path: Path) -> None:
    threads = threading.active_count()
    watcher = Watcher([], Examiner(), Metrics(), local=lambda _path: True)
    watcher.start()
    assert threading.active_count() == threads
    watcher.stop()


class Heard:
    """A listener that notes what it hears."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.news = threading.Condition()

    def changed(self, path: str, *, closed: bool) -> None:
        with self.news:
            self.paths.add(path)
            self.news.notify_all()

    def directory(self, path: str) -> None:
        self.changed(path, closed=False)


def test_a_lost_event_is_reported_after_the_watches_have_been_renewed(tmp_path: Path) -> None:
    """The kernel's queue really overflows: it is read only after more happened than it holds."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("needs fs.inotify.max_queued_events of at most 100000")
    lost, heard = threading.Event(), Heard()
    notifier = Notifier(lost.set, lambda _path: None)
    notifier._observer.start()
    try:
        notifier.arm(str(tmp_path), heard, recursive=True)
        for number in range(limit // 2 + 10):  # two events for each
            (tmp_path / f"{number}.sif").touch()
        (tmp_path / "unseen").mkdir()
        notifier._inotify.start()
        assert lost.wait(WAIT)
        (tmp_path / "unseen" / "a.sif").touch()
        with heard.news:
            assert heard.news.wait_for(lambda: str(tmp_path / "unseen" / "a.sif") in heard.paths, WAIT)
    finally:
        notifier.stop()


def test_a_directory_found_twice_is_no_reason_to_stop_reading(tmp_path: Path) -> None:
    """Made, removed and made again before anyone reads of it; warnings are errors in these tests."""
    heard, path = Heard(), tmp_path / "again"
    notifier = Notifier(lambda: None, lambda _path: None)
    notifier._observer.start()
    try:
        notifier.arm(str(tmp_path), heard, recursive=True)
        path.mkdir()
        (tmp_path / "between").mkdir()  # else the kernel makes one event of two
        path.rmdir()
        path.mkdir()
        notifier._inotify.start()
        with heard.news:
            assert heard.news.wait_for(lambda: str(path) in heard.paths, WAIT)
        (path / "x.sif").touch()
        with heard.news:
            assert heard.news.wait_for(lambda: str(path / "x.sif") in heard.paths, WAIT)
        assert notifier.alive(str(tmp_path))
    finally:
        notifier.stop()


_UNPRIVILEGED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from eclctl.daemon.watching.inotify import Notifier
os.setuid(65534)
class Deaf:
    changed = directory = lambda *_, **__: None
notifier = Notifier(lambda: None, lambda path: sys.exit(path))
notifier.start()
notifier.arm(sys.argv[1], Deaf(), recursive=True)
print(len(notifier._inotify._watch_for_wd), notifier.alive(sys.argv[1]))
notifier.stop()
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to become another user")
def test_directories_that_may_not_be_read_are_left_out_one_by_one() -> None:
    with TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for number in range(3):
            (root / str(number)).mkdir(mode=0o700)
        program = [sys.executable, "-W", "error", "-c", _UNPRIVILEGED, name, str(ROOT)]
        done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("1 True\n", "")


_LIMITED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.integration.test_watch import WAIT, Examiner, watching
root, engine = Path(sys.argv[1]), Examiner()
with watching([root], engine, rescan=0.2) as watcher:
    stats = watcher.stats()
    assert stats.limited, stats
    assert stats.modes == {"interval": 1}, stats
    (root / "8" / "late.sif").write_text("image")
    assert engine.wait_for(root / "8" / "late.sif")
print("found")
"""


@pytest.mark.parametrize("limits", ["max_inotify_watches", "max_inotify_instances"])
def test_when_the_kernel_gives_out_no_more_rescans_find_what_events_do_not(tmp_path: Path, limits: str) -> None:
    """In a user namespace of its own, whose limits are lowered: nothing else on the machine notices."""
    for number in range(9):
        (tmp_path / str(number)).mkdir()
    allowed = 3 if limits == "max_inotify_watches" else 0
    script = f'echo {allowed} > /proc/sys/user/{limits} || exit 77; exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    done = subprocess.run(
        [*command, sys.executable, "-c", _LIMITED, str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("needs user namespaces")
    assert done.returncode == 0, done.stderr
    assert "found" in done.stdout
