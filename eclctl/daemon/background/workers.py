"""Threads for work that may block: opening a file on a hung mount, hashing gigabytes, asking a name service.

Jobs wait in *lanes* (for instance one for each user), and lanes take turns. A job can also have *gates* (a user, a
mount): jobs with the same gate occupy at most its share of the threads. So neither a user with many large images nor a
mount that hangs stops the others. The threads are daemon threads on purpose: one that hangs in the kernel must not hold
up the end of the process.

Work that is asked for on the event loop comes back to it (`Workers.run`, `Workers.result`): the one way of the daemon
to leave the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_T = TypeVar("_T")


class _Job(NamedTuple):
    work: Callable[[], None]
    gates: tuple[Hashable, ...]


class Workers:
    """A fixed number of threads that take jobs from lanes in turn.

    Args:
        name: what the threads are called.
        threads: how many there are; they start when first needed.
        share: how many of them may be behind one gate at a time.
    """

    def __init__(self, name: str, threads: int, share: int = 1) -> None:
        self._name = name
        self._size = max(1, threads)
        self._share = max(1, share)
        self._lanes: OrderedDict[Hashable, deque[_Job]] = OrderedDict()
        self._behind: Counter[Hashable] = Counter()
        self._changed = threading.Condition()
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def submit(self, lane: Hashable, work: Callable[[], None], gates: tuple[Hashable, ...] = ()) -> None:
        """Call `work`, which must not raise, in a thread when it is the lane's turn and its gates let it through."""
        with self._changed:
            self._lanes.setdefault(lane, deque()).append(_Job(work, gates))
            if self._threads < self._size and self._idle < sum(map(len, self._lanes.values())):
                # Those that are idle have been woken for the jobs before this one.
                self._threads += 1
                threading.Thread(target=self._work, name=f"{self._name}-{self._threads}", daemon=True).start()
            else:
                self._changed.notify()

    def run(
        self,
        lane: Hashable,
        work: Callable[[], _T],
        done: Callable[[_T | Exception], None],
        gates: tuple[Hashable, ...] = (),
    ) -> None:
        """Call `work` in a thread, then `done` on the event loop with its result or the exception that it raised.

        To be called on the event loop. `done` is called neither after `stop` nor when the loop has ended.
        """
        loop = asyncio.get_running_loop()

        def report(result: _T | Exception) -> None:
            if not self._stopped:
                done(result)

        def work_and_report() -> None:
            result = attempt(work)
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(report, result)

        self.submit(lane, work_and_report, gates)

    async def result(self, work: Callable[[], _T]) -> _T:
        """Call `work` in a thread and return its result.

        Raises:
            Exception: what `work` raised.
        """
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()

        def settle(result: _T | Exception) -> None:
            if future.done():
                return  # the task that waited was cancelled
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        self.run(None, work, settle)
        return await future

    def waiting(self) -> int:
        """Return how many jobs have not begun."""
        with self._changed:
            return sum(len(jobs) for jobs in self._lanes.values())

    def stop(self) -> None:
        """Begin no further job and report none. Does not wait: a thread may hang in the kernel."""
        with self._changed:
            self._stopped = True
            self._lanes.clear()
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._take()) is not None:
            try:
                job.work()
            finally:
                self._finished(job)

    def _take(self) -> _Job | None:
        with self._changed:
            while not self._stopped:
                if (job := self._next()) is not None:
                    return job
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return None

    def _next(self) -> _Job | None:
        """Return the first lane whose next job passes its gates; the lane then goes to the back."""
        for lane, jobs in self._lanes.items():
            if all(self._behind[gate] < self._share for gate in jobs[0].gates):
                job = jobs.popleft()
                self._behind.update(job.gates)
                if jobs:
                    self._lanes.move_to_end(lane)
                else:
                    del self._lanes[lane]
                return job
        return None

    def _finished(self, job: _Job) -> None:
        if not job.gates:
            return
        with self._changed:
            for gate in job.gates:
                self._behind[gate] -= 1
                if not self._behind[gate]:
                    del self._behind[gate]
            self._changed.notify()


def attempt(work: Callable[[], _T]) -> _T | Exception:
    """Return what `work` returns, or the exception that it raised: a bug must cost one answer, not a thread."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - see above
        return error
