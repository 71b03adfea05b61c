"""A bounded queue of changed files, each of which waits until it has settled. No threads, no clock.

A file that was closed or moved into place is looked at after `quick` seconds. Any other (created, attributes changed,
found young by a scan) is looked at after `settle` seconds, and again until two looks see the same.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from eclctl.dataclass import dataclass

_SLACK = 1024


@dataclass(slots=True)
class Waiting:
    """A file that waits. `seen` is what the last look saw, None before the first."""

    path: str
    due: float
    closed: bool
    seen: tuple[int, ...] | None = None


class SettleQueue:
    """Paths, each at most once, in the order in which they become due. Times are seconds of one monotonic clock.

    `limit` bounds the paths; a touch beyond it is refused, and the caller falls back to a rescan.
    """

    def __init__(self, limit: int, *, settle: float, quick: float) -> None:
        self._limit = limit
        self._settle = settle
        self._quick = quick
        self._waiting: dict[str, Waiting] = {}
        self._heap: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def touch(self, path: str, now: float, *, closed: bool) -> bool:
        """Note a change: the path becomes due anew, counted from `now`. False when there is no room for it."""
        if path not in self._waiting and len(self._waiting) >= self._limit:
            return False
        self._put(Waiting(path, now + (self._quick if closed else self._settle), closed))
        return True

    def again(self, waiting: Waiting, now: float, seen: tuple[int, ...]) -> None:
        """Put back a path that looked different from last time, unless it was touched meanwhile."""
        if waiting.path not in self._waiting:
            self._put(Waiting(waiting.path, now + self._settle, closed=False, seen=seen))

    def take(self, now: float) -> Waiting | None:
        """Return and forget the path that has been due longest, or None when none is due at `now`."""
        due = self.next_due()
        if due is None or due > now:
            return None
        return self._waiting.pop(heappop(self._heap)[1])

    def next_due(self) -> float | None:
        """Return when the first path becomes due, or None when nothing waits."""
        while self._heap:
            due, path = self._heap[0]
            waiting = self._waiting.get(path)
            if waiting is not None and waiting.due == due:
                return due
            heappop(self._heap)
        return None

    def clear(self) -> None:
        """Forget everything, because a rescan will find it again."""
        self._waiting.clear()
        self._heap.clear()

    def _put(self, waiting: Waiting) -> None:
        self._waiting[waiting.path] = waiting
        heappush(self._heap, (waiting.due, waiting.path))
        if len(self._heap) > 2 * len(self._waiting) + _SLACK:  # a path touched over and over leaves stale entries
            self._heap = [(each.due, each.path) for each in self._waiting.values()]
            heapify(self._heap)
