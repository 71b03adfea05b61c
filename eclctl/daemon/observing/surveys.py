"""Surveys images and keys for admins: in a thread, a batch at a time, and for a bounded time.

Evaluating is Python code, which keeps the event loop from running; between two handfuls the thread sleeps, so that
decisions are answered in between. A survey is used again as long as nothing that it depends on has changed, for a
minute at most.
"""

from __future__ import annotations

import os
from heapq import nsmallest
from itertools import islice
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from eclctl.daemon.background.timers import Timer
from eclctl.daemon.background.workers import Workers
from eclctl.dataclass import dataclass
from eclctl.report.keys import listed_keys, turning
from eclctl.report.shapes import image_fields
from eclctl.report.survey import Survey, image_report, usable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from eclctl.decide.cache import Kept
    from eclctl.decide.engine import Engine
    from eclctl.decide.snapshot import Snapshot
    from eclctl.report.keys import ListedKey

PATIENCE: Final = 10.0
"""Seconds after which an answer goes without a survey."""

_SECONDS: Final = 3.0  # for keys, and again for images
_BATCH: Final = 10
_PAUSE: Final = 0.001
_FRESH: Final = 60.0


@dataclass(slots=True)
class Surveyed:
    """A survey and its progress.

    * `keys`: all keys when `knows_keys`, else those that there was time for.
    * `kept`: how many files the cache had; `counted` of them were looked at, of which `gone` no longer exist.
    * `rest`: the files that are still to be looked at.
    * `begun`: when it began, by `time.monotonic`.
    * `mark`: generation, version of statuses and revision of the cache, under which the survey is valid.
    """

    survey: Survey
    keys: tuple[ListedKey, ...]
    knows_keys: bool
    kept: int
    rest: Iterator[Kept]
    begun: float
    mark: tuple[int, int, int]
    counted: int = 0
    gone: int = 0

    @property
    def complete(self) -> bool:
        """Whether there was time for all keys and images."""
        return self.knows_keys and self.counted == self.kept

    def is_old(self, now: float) -> bool:
        """Return whether it should be begun again. One that is not complete is continued for longer."""
        return not self.knows_keys or now - self.begun > (_FRESH if self.complete else 10 * _FRESH)

    def continue_until(self, still_there: Callable[[Kept], bool], deadline: float) -> None:
        """Look at further files until the deadline."""
        for each in _until_deadline(self.rest, deadline):
            self.counted += 1
            if still_there(each):
                self.survey.add([each])
            else:
                self.gone += 1


class Surveyor:
    """Surveys what an engine keeps.

    Args:
        engine: has the facts, the snapshot, and what is known of certificates.
        clock: the time of day, aware, UTC.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock
        self._last: Surveyed | None = None
        self._workers = Workers("survey", 1)

    def stop(self) -> None:
        """Begin nothing further."""
        self._workers.stop()

    def request(self, work: Callable[[], object], done: Callable[[Any], None]) -> None:
        """Call `work` in the thread, and `done` on the loop with what it returned: None when it failed, or is late."""
        deadline = Timer(lambda: done(None))

        def finish(result: object) -> None:
            if isinstance(result, Exception):  # an admin's answer must come all the same
                self._engine.on_bug(result)
                result = None
            if deadline.due is not None:
                deadline.stop()
                done(result)

        deadline.set(PATIENCE)
        self._workers.run(None, work, finish)

    # -- in the thread ---------------------------------------------------------------------------------------------

    def survey(self) -> Surveyed:
        """Look at all keys and images, as far as there is time; the next time goes on where this one stopped."""
        engine, found = self._engine, self._last
        mark = (engine.snapshot.generation, engine.statuses.version, engine.cache.revision)
        if found is None or found.mark != mark or found.is_old(monotonic()):
            found = self._last = self._begin(mark)
        found.continue_until(self._still_there, monotonic() + _SECONDS)
        return found

    def _begin(self, mark: tuple[int, int, int]) -> Surveyed:
        begun, now = monotonic(), self._engine.not_before(self._clock())
        snapshot, statuses = self._engine.snapshot, self._engine.statuses
        listed = listed_keys(snapshot, statuses, now)
        keys = tuple(_until_deadline(listed, begun + _SECONDS))
        knows_keys = next(listed, None) is None
        kept = self._engine.cache.kept()
        survey = Survey(snapshot, statuses, turning(keys, now), now)
        return Surveyed(survey, keys, knows_keys, len(kept), iter(kept), begun, mark)

    def images(self, after: str, limit: int) -> tuple[Snapshot, list[dict[str, Any]], str | None]:
        """Look at the next images whose path comes after one, at most `limit` of them.

        Returns:
            The snapshot that they were judged under, their fields in the order of their paths, and the path to go on
            after, None at last.
        """
        engine = self._engine
        now = engine.not_before(self._clock())
        snapshot = engine.snapshot
        candidates = ((each.path, each) for each in engine.cache.kept() if each.path is not None and each.path > after)
        chosen = nsmallest(limit, candidates, key=lambda each: each[0])
        items: list[dict[str, Any]] = []
        looked_at = 0
        for _, each in _until_deadline(iter(chosen), monotonic() + _SECONDS):
            looked_at += 1
            if usable(snapshot, each.facts) and self._still_there(each):
                report = image_report(snapshot, each, engine.statuses, now)
                items += [] if report is None else [image_fields(report)]
        ended = looked_at == len(chosen) < limit
        return snapshot, items, None if ended else chosen[looked_at - 1][0]

    def _still_there(self, kept: Kept) -> bool:
        """Return whether the file is still where it was. Only local file systems are asked; others may hang."""
        if kept.path is None or not self._engine.locator.mounts.current()[0].local_device(kept.key.device):
            return True
        try:
            status = os.lstat(kept.path)
        except OSError:
            return False
        key = kept.key
        found = (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
        return found == (key.device, key.inode, key.size, key.ctime_ns)


def _until_deadline(items: Iterator[Any], deadline: float) -> Iterator[Any]:
    """Yield items, with pauses for others, until the deadline."""
    while True:
        batch = list(islice(items, _BATCH))
        yield from batch
        if len(batch) < _BATCH or monotonic() > deadline:
            return
        sleep(_PAUSE)


def page(items: Sequence[Any], after: str, limit: int) -> tuple[list[Any], str | None]:
    """Return some of a list, from the position that `after` says, and where to go on."""
    start = int(after) if after.isascii() and after.isdigit() else 0
    following = start + limit
    return list(items[start:following]), str(following) if following < len(items) else None
