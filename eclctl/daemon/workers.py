"""Threads for what may block: opening a file on a hung mount, hashing gigabytes, asking a name service.

Every job belongs to a *lane* (a user, a mount). Lanes take turns, and one lane never holds more than its share of
the threads, so that neither a user with many large images nor a mount that hangs stops the others. The threads are
daemon threads on purpose: one that hangs in the kernel must not hold up the end of the process.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable


@dataclass(slots=True)
class _Lane:
    jobs: deque[Callable[[], None]] = field(default_factory=deque)
    running: int = 0


class Workers:
    """A fixed number of threads that take jobs from lanes in turn.

    Args:
        name: what the threads are called.
        threads: how many there are; they start when first needed.
        per_lane: how many of them one lane may hold at a time.
    """

    def __init__(self, name: str, threads: int, per_lane: int) -> None:
        self._name = name
        self._size = max(1, threads)
        self._per_lane = max(1, per_lane)
        self._lanes: OrderedDict[Hashable, _Lane] = OrderedDict()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def submit(self, lane: Hashable, job: Callable[[], None]) -> None:
        """Run `job` in a thread when it is the lane's turn. The job must not raise."""
        with self._changed:
            self._lanes.setdefault(lane, _Lane()).jobs.append(job)
            if self._idle == 0 and self._threads < self._size:
                self._start_thread()
            else:
                self._changed.notify()

    def waiting(self) -> int:
        """How many jobs have not begun."""
        with self._changed:
            return sum(len(lane.jobs) for lane in self._lanes.values())

    def running(self) -> int:
        """How many jobs are being worked on."""
        with self._changed:
            return sum(lane.running for lane in self._lanes.values())

    def stop(self) -> None:
        """Begin no further job. Does not wait: a thread may hang in the kernel."""
        with self._changed:
            self._stopped = True
            self._lanes.clear()
            self._changed.notify_all()

    def _start_thread(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            lane, job = taken
            try:
                job()
            finally:
                self._finished(lane)

    def _take(self) -> tuple[Hashable, Callable[[], None]] | None:
        with self._changed:
            while not self._stopped:
                if (taken := self._next()) is not None:
                    return taken
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return None

    def _next(self) -> tuple[Hashable, Callable[[], None]] | None:
        """The first lane that has a job and room, which then goes to the back."""
        for name, lane in self._lanes.items():
            if lane.jobs and lane.running < self._per_lane:
                lane.running += 1
                self._lanes.move_to_end(name)
                return name, lane.jobs.popleft()
        return None

    def _finished(self, name: Hashable) -> None:
        with self._changed:
            lane = self._lanes.get(name)
            if lane is None:
                return
            lane.running -= 1
            if not lane.jobs and lane.running == 0:
                del self._lanes[name]
            elif lane.jobs:
                self._changed.notify()
