"""Watches image directories and has new and changed images verified ahead of time.

The watcher only prefetches. All it can do is ask the engine to examine a file; it gets back a word for the metrics,
holds no verdict and has no way to write one. Events that are lost, late or forged cost time at the first `check` of
an image, and nothing else.

How a change is found:

1. Trees on local file systems are watched by inotify (`inotify`). A changed file settles first (`settling`).
2. Every tree is rescanned when it is first seen, at its interval, when events were lost, and on request. A rescan
   reads attributes and opens no file that the engine knows, so that an unchanged library costs little more than a
   walk.
3. Trees on network and FUSE file systems are only rescanned: inotify does not see what other machines write. So are
   trees for which the kernel gives out no watches.

Each tree (`tree`) has one thread, so that a hung file system stalls no other tree.
"""

from __future__ import annotations

import logging
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from eclctl.daemon.watching.inotify import Notifier
from eclctl.daemon.watching.tree import Prefetcher, Timing, Tree
from eclctl.dataclass import dataclass, field
from eclctl.files.mounts import MountTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eclctl.config.settings import Watch
    from eclctl.daemon.observing.metrics import Metrics

EXAMINERS = 2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WatchStats:
    """What the watcher is doing.

    * `queued`: images that wait to be examined ahead of time.
    * `overdue`: seconds that the oldest of them has waited beyond its turn.
    * `limited`: whether inotify watches are used up.
    * `modes`: how many trees are watched in each mode (`Tree.mode`).
    """

    queued: int
    overdue: float
    limited: bool
    modes: Mapping[str, int]


@dataclass(eq=False)
class Watcher:
    """Watches directories. `start` it once; `rescan`, `status` and `stats` are for any thread.

    `engine` examines, `metrics` counts, `local` says whether a path is on a local file system; by default the table of
    mounts says it. `why_not` says why images at a path can have no `trusted-path`, if they cannot.
    """

    watches: Sequence[Watch]
    engine: Prefetcher
    metrics: Metrics
    local: Callable[[str], bool] | None = None
    timing: Timing = field(default_factory=Timing)
    why_not: Callable[[str], str | None] = lambda _: None

    def __post_init__(self) -> None:
        self._trees: list[Tree] = []
        self._threads: list[threading.Thread] = []
        self._shared = ExitStack()  # what all trees use

    def start(self) -> None:
        """Start watching and the first rescans. Returns at once: nothing here waits for a file system."""
        mounts = MountTable()
        self._shared.callback(mounts.close)
        notifier = self._start_notifier() if self.watches else None
        gates = (threading.Semaphore(EXAMINERS), threading.Semaphore(EXAMINERS))
        self._trees = [
            Tree(
                watch,
                self.engine,
                self.metrics,
                notifier=notifier,
                local=self.local or mounts.local,
                gates=gates,
                timing=self.timing,
                why_not=self.why_not,
            )
            for watch in self.watches
        ]
        for number, tree in enumerate(self._trees, 1):
            thread = threading.Thread(target=tree.run, name=f"watch-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Stop watching. An examination that takes longer than `timeout` seconds is left to end with the process."""
        trees, self._trees = self._trees, []
        for tree in trees:
            tree.stop()
        deadline = self.timing.clock() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - self.timing.clock()))
        if not any(thread.is_alive() for thread in self._threads):
            self._shared.close()

    def rescan(self, reason: str = "request") -> None:
        """Ask for a rescan of every tree, also of files that came to nothing before: `request`, or after a `reload`."""
        for tree in self._trees:
            tree.request_rescan(reason, forget=True)

    def status(self) -> dict[str, object]:
        """Describe every tree, as JSON types."""
        return {"trees": [tree.status() for tree in self._trees]}

    def stats(self) -> WatchStats:
        """Sum up for the metrics."""
        trees = self._trees
        modes = [tree.mode for tree in trees]
        return WatchStats(
            queued=sum(tree.queued for tree in trees),
            overdue=max((tree.overdue for tree in trees), default=0.0),
            limited=any(tree.is_limited for tree in trees),
            modes={mode: modes.count(mode) for mode in modes},
        )

    def _start_notifier(self) -> Notifier | None:
        try:
            notifier = Notifier(self._overflowed, self._limit_reached)
        except OSError as error:
            _log.warning("no inotify instance is available: only rescans find changes", extra={"error": error.strerror})
            return None
        notifier.start()
        self._shared.callback(notifier.stop)
        return notifier

    def _overflowed(self) -> None:
        """Events were lost, and the kernel does not say of which tree."""
        self.metrics.overflow()
        _log.warning("change events were lost: rescanning")
        for tree in self._trees:
            tree.request_rescan("overflow")

    def _limit_reached(self, path: str) -> None:
        for tree in self._trees:
            if tree.covers(path):
                tree.limited()
