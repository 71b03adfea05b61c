"""One watched tree: changed files, due files, rescans, and the next image to examine.

All work happens in `Tree.step`, which does one piece of it and says how long there is nothing more to do: the tree's
thread calls it in a loop, tests call it with a clock of their own.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from eclctl.daemon.watching.inotify import is_full
from eclctl.daemon.watching.settling import SettleQueue
from eclctl.dataclass import dataclass
from eclctl.files.resumable import is_partial
from eclctl.files.walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eclctl.config.settings import Watch
    from eclctl.daemon.observing.metrics import Metrics
    from eclctl.daemon.watching.inotify import Notifier
    from eclctl.decide.questions import Prefetched

RETRY_SECONDS = 3600.0
QUEUE_LIMIT = 16_384
BACKLOG_LIMIT = 4_096
KNOWN_FAILURES_LIMIT = 200_000

_State = tuple[int, ...]
_SIZE = 2  # its place in a `_State`
_Files = list[tuple[str, os.stat_result]]
_log = logging.getLogger(__name__)


class Prefetcher(Protocol):
    """What the watcher may ask of the engine."""

    def prefetch(self, path: str) -> Prefetched:
        """Examine an image and keep the facts. Never raises."""

    def known(self, status: os.stat_result) -> bool:
        """Return whether the facts of exactly this state of the file are in memory. Opens nothing."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things take, in seconds, and the clocks: a monotonic one, and the aware time of day."""

    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    settle: float = 2.0
    quick: float = 0.5
    check: float = 30.0


@dataclass(frozen=True, slots=True)
class _Place:
    """Which directory the configured path leads to at the moment."""

    path: str
    device: int
    inode: int


@dataclass(slots=True)
class _Scan:
    """A rescan under way. `reason` None: of a part of the tree only."""

    reason: str | None
    started: float
    files: Iterator[_Files]


class _KnownFailures:
    """Files of which the engine could keep no facts, in the state that they had: not to be read at every rescan.

    Entries expire, because what kept the engine from it (a directory's owner, a lease) need not show in the file.
    """

    def __init__(self) -> None:
        self._states: dict[str, tuple[_State, float]] = {}

    def add(self, path: str, state: _State, now: float) -> None:
        self._states.pop(path, None)
        while len(self._states) >= KNOWN_FAILURES_LIMIT:
            del self._states[next(iter(self._states))]
        self._states[path] = state, now + RETRY_SECONDS

    def holds(self, path: str, status: os.stat_result, now: float) -> bool:
        found = self._states.get(path)
        return found is not None and found[0] == _state(status) and now < found[1]

    def expire(self, now: float) -> None:
        """Forget what has expired: the oldest entries come first."""
        expired = [path for path, (_, expiry) in self._states.items() if expiry <= now]
        for path in expired:
            del self._states[path]

    def clear(self) -> None:
        self._states.clear()


def _state(status: os.stat_result) -> _State:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(eq=False)
class Tree:
    """One watched tree.

    `changed` and `directory` are called in the notifier's threads, `request_rescan` and the properties in any.
    Everything else happens in `step`, which one thread calls.

    Args:
        watch: the configured directory.
        engine: examines images.
        metrics: counts what is done.
        notifier: reports changes; None without inotify.
        local: whether a path is on a local file system.
        gates: bound how many images are examined at a time, on local and on other file systems.
        timing: intervals and clocks.
        why_not: why images at a path can have no `trusted-path`, None when they can.
    """

    watch: Watch
    engine: Prefetcher
    metrics: Metrics
    notifier: Notifier | None
    local: Callable[[str], bool]
    gates: tuple[threading.Semaphore, threading.Semaphore]
    timing: Timing
    why_not: Callable[[str], str | None] = lambda _: None

    def __post_init__(self) -> None:
        self._clock = self.timing.clock

        self._wake = threading.Condition()  # guards the queues and the requests
        self._files = SettleQueue(QUEUE_LIMIT, settle=self.timing.settle, quick=self.timing.quick)
        self._directories = SettleQueue(QUEUE_LIMIT, settle=self.timing.settle, quick=self.timing.quick)
        self._rescan_requests: dict[str, None] = {}
        self._forget = False
        self._stopping = False
        self._woken = False  # since the last step: so that nothing that comes between a step and the wait is missed

        self._place: _Place | None = None
        self._located_once = False
        self._armed = False
        self.is_limited = False  # the kernel gave out too few watches
        self._local = False
        self._check_at = self._clock()
        self._scan_at: float | None = None
        self._scan: _Scan | None = None
        self._backlog: dict[str, tuple[float, _State]] = {}
        self._since: float | None = None  # when the examination under way began
        self._known_failures = _KnownFailures()
        self._last_scan: tuple[datetime, float] | None = None
        self._work: deque[Callable[[float], bool]] = deque((self._serve_file, self._serve_scan, self._serve_backlog))

    # What others tell it.

    def changed(self, path: str, *, closed: bool) -> None:
        """A file was created or changed (`inotify.ChangeListener`)."""
        if not is_partial(os.path.basename(path)):
            self._note(self._files, path, closed=closed)

    def directory(self, path: str) -> None:
        """A directory appeared, perhaps with content that came before it was watched (`inotify.ChangeListener`)."""
        self._note(self._directories, path, closed=True)

    def request_rescan(self, reason: str, *, forget: bool = False) -> None:
        """Ask for a rescan. With `forget`, also of files from which nothing could be kept the last time."""
        with self._wake:
            self._rescan_requests[reason] = None
            self._forget = self._forget or forget
            self._wake_up()

    def limited(self) -> None:
        """A directory could not be watched: until it can, rescans stand in."""
        if not self.is_limited:
            _log.warning("inotify watches are used up: only rescans find changes", extra={"path": self.watch.path})
        self.is_limited = True

    def stop(self) -> None:
        """Let `run` return after the piece of work that it is at."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()

    # What it tells.

    @property
    def mode(self) -> str:
        """How changes are noticed: `events` (and rescans), `interval` (rescans alone), or the tree is `missing`."""
        if self._place is None:
            return "missing"
        return "events" if self._armed and not self.is_limited else "interval"

    @property
    def queued(self) -> int:
        """How many images wait, with the one that is being examined."""
        with self._wake:
            return len(self._files) + len(self._backlog) + (self._since is not None)

    @property
    def overdue(self) -> float:
        """How many seconds the image that waits longest has waited beyond its turn, or is being examined."""
        now = self._clock()
        with self._wake:
            due = self._files.next_due()
        found = next(iter(self._backlog.copy().values()), None)
        times = (due, self._since, None if found is None else found[0])
        return max(0.0, *(now - since for since in times if since is not None), 0.0)

    def covers(self, path: str) -> bool:
        """Return whether a path without links is in the tree."""
        place = self._place
        return place is not None and (path == place.path or path.startswith(place.path.rstrip("/") + "/"))

    def status(self) -> dict[str, object]:
        """Describe the tree for `eclctl status`, as JSON types."""
        when, seconds = self._last_scan or (None, None)
        place = self._place
        why_not = None if place is None else self.why_not(place.path)
        return {
            "path": self.watch.path,
            "mode": self.mode,
            "recursive": self.watch.recursive,
            "queued": self.queued,
            "overdue_seconds": round(self.overdue, 3),
            "watch_limit_reached": self.is_limited,
            "rescanning": self._scan is not None,
            "trusted_path": None if place is None else why_not is None,
            "why_not": why_not,
            "last_rescan": when and when.isoformat(),
            "last_rescan_seconds": seconds and round(seconds, 3),
        }

    # Its work.

    def run(self) -> None:
        """Work until `stop`; the body of the tree's thread."""
        while not self._stopping:
            try:
                wait = self.step()
            except Exception:  # noqa: BLE001 - a bug must not end the watching of a tree for good, nor pass unseen
                _log.exception("watching failed; trying again", extra={"path": self.watch.path})
                self._scan, wait = None, self.timing.check
            with self._wake:
                if wait > 0 and not self._stopping and not self._woken:
                    self._wake.wait(wait)
                self._woken = False

    def step(self) -> float:
        """Do one piece of work. Returns 0 when there may be more, else for how many seconds there is none."""
        now = self._clock()
        if now >= self._check_at:
            self._check(now)
            return 0.0
        for _ in range(len(self._work)):  # take turns: a flood of events starves no rescan, and no backlog an event
            work = self._work[0]
            self._work.rotate(-1)
            if work(now):
                return 0.0
        with self._wake:
            dues = [self._check_at, self._scan_at, self._files.next_due(), self._directories.next_due()]
        return max(0.0, min(due for due in dues if due is not None) - now)

    def _note(self, queue: SettleQueue, path: str, *, closed: bool) -> None:
        with self._wake:
            if not queue.touch(path, self._clock(), closed=closed):
                self.metrics.overflow()
                queue.clear()
                self._rescan_requests["overflow"] = None
            self._wake_up()

    def _wake_up(self) -> None:
        self._woken = True
        self._wake.notify_all()

    def _serve_file(self, now: float) -> bool:
        """Look at the file that has been due longest."""
        with self._wake:
            waiting = self._files.take(now)
        if waiting is None:
            return False
        try:
            status = os.lstat(waiting.path)
        except OSError:
            return True
        if not stat.S_ISREG(status.st_mode) or not status.st_size or self.engine.known(status):
            return True
        state = _state(status)
        if waiting.closed or waiting.seen == state or not self._is_young(status, self._wall()):
            self._examine(waiting.path, state)
            return True
        with self._wake:
            self._files.again(waiting, now, state)
        return True

    def _serve_scan(self, now: float) -> bool:
        """Go on with the rescan, one directory further, or begin one that is wanted."""
        if self._scan is not None:
            return len(self._backlog) < BACKLOG_LIMIT and self._advance(self._scan, now)
        return self._begin_wanted(now) or self._begin_directory(now)

    def _begin_wanted(self, now: float) -> bool:
        with self._wake:
            reason = next(iter(self._rescan_requests), None)
            if reason is not None:
                del self._rescan_requests[reason]
            elif self._scan_at is not None and now >= self._scan_at:
                reason = "interval"
            forget, self._forget = self._forget, False
        if forget:
            self._known_failures.clear()
        if reason is None or self._place is None:
            return False
        if reason in ("interval", "request") and (self.is_limited or not self._armed):
            self._arm(self._place)  # perhaps there are watches now
        self._known_failures.expire(now)
        self._scan_at = now + self.watch.rescan if self.watch.rescan > 0 else None
        self._scan = _Scan(reason, now, walk(self._place.path, recursive=self.watch.recursive))
        return True

    def _begin_directory(self, now: float) -> bool:
        with self._wake:
            waiting = self._directories.take(now)
        if waiting is None or not self.watch.recursive:
            return waiting is not None
        self._scan = _Scan(None, now, walk(waiting.path, recursive=True))
        return True

    def _advance(self, scan: _Scan, now: float) -> bool:
        files = next(scan.files, None)
        if files is None:
            self._finish(scan, now)
            return True
        known, wall = self.engine.known, self._wall()
        for path, status in files:
            if not known(status) and not self._known_failures.holds(path, status, now):
                self._found(path, status, now, wall)
        return True

    def _found(self, path: str, status: os.stat_result, now: float, wall: float) -> None:
        """Take in a file that a rescan found: one that may still be being written settles first.

        A file that eclctl writes under a temporary name is not examined ahead. A question about it is answered as ever.
        """
        if is_partial(os.path.basename(path)):
            return
        if self._is_young(status, wall):
            with self._wake:
                if self._files.touch(path, now, closed=False):
                    return
        self._backlog.setdefault(path, (now, _state(status)))

    def _finish(self, scan: _Scan, now: float) -> None:
        self._scan = None
        if scan.reason is None:
            return
        seconds, when = now - scan.started, self.timing.now()
        self._last_scan = when, seconds
        self.metrics.rescanned(scan.reason, seconds, when)
        _log.info("rescanned", extra={"path": self.watch.path, "reason": scan.reason, "seconds": round(seconds, 3)})

    def _serve_backlog(self, _now: float) -> bool:
        """Have the next file that a rescan found examined."""
        found = next(iter(self._backlog.items()), None)
        if found is None:
            return False
        path, (_, state) = found
        del self._backlog[path]
        self._examine(path, state)
        return True

    def _examine(self, path: str, state: _State) -> None:
        size = state[_SIZE]
        self._since = self._clock()
        try:
            with self.gates[0 if self._local else 1]:
                begun = self._clock()
                status = self.engine.prefetch(path).status
                seconds = self._clock() - begun
        finally:
            self._since = None
        self.metrics.prefetched(status)
        if status in ("kept", "failed"):  # of the others, hardly any is read
            self.metrics.verification(size, seconds, ok=status == "kept")
        if status not in ("kept", "known"):
            self._known_failures.add(path, state, self._clock())

    def _is_young(self, status: os.stat_result, wall: float) -> bool:
        """Return whether a file changed so recently that its writer may not be done, or facts not be kept yet."""
        return any(0 <= wall - changed < self.timing.settle for changed in (status.st_mtime, status.st_ctime))

    def _wall(self) -> float:
        return self.timing.now().timestamp()

    # Where it is, and how it is watched.

    def _check(self, now: float) -> None:
        """See whether the configured path still leads to the directory that is watched."""
        self._check_at = now + self.timing.check
        place, before, self._located_once = self._locate(), self._place if self._located_once else ..., True
        if place == before and (place is None or not self._armed or self._events_flow(place)):
            return
        self._disarm()
        self._place = place
        if place is None:
            self._scan = self._scan_at = None
            _log.warning("a watched directory is missing", extra={"path": self.watch.path})
            return
        self._arm(place)
        self.request_rescan("start" if self._last_scan is None else "retry")

    def _locate(self) -> _Place | None:
        path = os.path.realpath(self.watch.path)
        try:
            status = os.stat(path)
        except OSError:
            return None
        return _Place(path, status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None

    def _events_flow(self, place: _Place) -> bool:
        return self.notifier is not None and self.notifier.alive(place.path)

    def _disarm(self) -> None:
        if self._place is not None and self.notifier is not None and self._armed:
            self.notifier.disarm(self._place.path)
        self._armed = False

    def _arm(self, place: _Place) -> None:
        """Watch the tree for events, if they can be had."""
        self._disarm()
        self.is_limited = False
        self._local = self.local(place.path)
        if not self._local:
            return
        if self.notifier is None:
            self.is_limited = True
            return
        try:
            self.notifier.arm(place.path, self, recursive=self.watch.recursive)
            self._armed = True
        except OSError as error:
            self.is_limited = is_full(error)
            _log.warning(
                "cannot watch for events: only rescans find changes",
                extra={"path": self.watch.path, "error": error.strerror},
            )
