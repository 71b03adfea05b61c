"""Shared by the watcher's tests: a clock that moves when told, an examiner that remembers what it was given."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from eclctl.config.settings import Watch
from eclctl.daemon.observing.metrics import Metrics
from eclctl.daemon.watching.inotify import Notifier
from eclctl.daemon.watching.tree import Timing, Tree
from eclctl.decide.questions import Prefetched

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
WAIT = 30.0  # how long a test waits for a thread before it fails


class Clock:
    """A monotonic clock and a time of day that move together, when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds - 1000.0)

    def timing(self) -> Timing:
        return Timing(clock=self, now=self.now, settle=2.0, quick=0.5, check=30.0)


class Examiner:
    """Stands where the engine does: keeps the state of what it was given, unless told to answer otherwise."""

    def __init__(self, status: str = "kept") -> None:
        self.status = status
        self.given: list[str] = []
        self.asked = 0
        self._kept: set[tuple[int, ...]] = set()
        self._news = threading.Condition()

    def prefetch(self, path: str) -> Prefetched:
        with self._news:
            self.given.append(path)
            if self.status == "kept":
                self._kept.add(_state(os.stat(path)))
            self._news.notify_all()
        return Prefetched(self.status)  # type: ignore[arg-type]

    def known(self, status: os.stat_result) -> bool:
        self.asked += 1
        return _state(status) in self._kept

    def flush(self) -> None:
        self._kept.clear()

    def wait_for(self, path: Path) -> bool:
        with self._news:
            return self._news.wait_for(lambda: str(path) in self.given, WAIT)


def _state(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns


def image(path: Path, content: str = "image", *, age: float = 3600.0, clock: Clock | None = None) -> Path:
    """Write a file whose last change is `age` seconds ago by the clock."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    then = (clock.now() if clock else NOW).timestamp() - age
    os.utime(path, (then, then))
    return path


def tree(
    root: Path,
    engine: Examiner,
    clock: Clock,
    *,
    metrics: Metrics | None = None,
    notifier: Notifier | None = None,
    local: bool = True,
    recursive: bool = True,
    rescan: float = 900.0,
    why_not: Callable[[str], str | None] = lambda _: None,
) -> Tree:
    return Tree(
        Watch(str(root), recursive=recursive, rescan=rescan),
        engine,
        metrics or Metrics(),
        notifier=notifier,
        local=lambda _path: local,
        gates=(threading.Semaphore(1), threading.Semaphore(1)),
        timing=clock.timing(),
        why_not=why_not,
    )


def drain(each: Tree) -> float:
    """Let a tree do all that is due; return for how long it has nothing more to do."""
    for _ in range(100_000):
        wait = each.step()
        if wait > 0:
            return wait
    raise AssertionError("a tree that never comes to rest")
