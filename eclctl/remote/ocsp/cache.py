"""What OCSP responders said, kept and refreshed in the background, so that a launch need not wait for them.

Rules:

1. An answer is kept until its nextUpdate, at most for a configured age. It runs out by the clock and by the time that
   has gone by, whichever comes first: setting the clock back extends nothing.
2. It is asked for again at half of its life, but not more often than every five seconds (or twice in the configured
   age, should that be shorter). A refresh that fails leaves the answer until it runs out, and is tried again.
3. `revoked` and `unknown` replace what was known at once. `good` replaces only what is not newer, and never another
   status of the same moment: an old response, sent again, undoes no revocation.
   A revocation is final, except `certificateHold`: a good answer that comes later does not count.
4. Where nothing valid is kept, a failure is what is known, until the next try. Nothing is known of a certificate that
   was never asked about, or whose answer has run out since: then `wait` has it asked about.
5. There is one question under way for each certificate, however many wait for it, and few altogether. Those with
   waiters go first.

All but `known`, `version` and `stats` is for the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from eclctl.dataclass import dataclass, field, replace
from eclctl.remote.ocsp.client import MAX_AGE, TIMEOUT, ResponderReply, ask
from eclctl.trust.revocation import Known, Link, Status, StatusSubject

AT_ONCE: Final = 32
"""Certificates that are asked about at the same time."""

_AHEAD: Final = 16  # of these, at most so many without a waiter
_SOONEST: Final = 5.0  # seconds between two refreshes, however short-lived the answers
_FIRST_RETRY: Final = 2.0  # seconds, when nothing is known meanwhile; doubled each time
_LAST_RETRY: Final = 60.0
_FIRST_REFRESH_RETRY: Final = 60.0  # sooner when the answer would run out before
_LAST_REFRESH_RETRY: Final = 900.0
_FORGET: Final = 3600.0  # seconds after a certificate was last wanted
_SETTLED: Final = frozenset({Status.GOOD, Status.REVOKED, Status.UNKNOWN})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OcspStats:
    """What a scrape shows.

    Attributes:
        requests: Questions to responders, by status of the answer.
        failures: Certificates for which no responder gave a valid answer.
        statuses: Watched certificates by what is known of them now, `none` for nothing.
        oldest: How many seconds ago the oldest answer in use came; 0 when none is in use.
        soonest: In how many seconds the first of them runs out; infinity when none is in use.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    failures: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)
    oldest: float = 0.0
    soonest: float = float("inf")


@dataclass(slots=True)
class _Kept:
    """What `known` returns until `deadline`, by the loop's time; once `over`, never again."""

    known: Known
    since: float
    deadline: float
    over: bool = False


@dataclass(slots=True, eq=False)
class _Entry:
    link: Link
    kept: _Kept | None = None
    newest: datetime | None = None  # of all thisUpdates
    said: Status | None = None  # by the last answer that counted
    revoked: str | None = None  # once, and for good: what was said then
    failures: int = 0  # in a row
    watched: bool = False
    wanted: float = 0.0  # when it last was, by the loop's time
    asking: bool = False
    queued: bool = False
    timer: asyncio.TimerHandle | None = None
    running_out: asyncio.TimerHandle | None = None
    answered: asyncio.Future[None] | None = None  # set for those who wait

    def rest(self) -> None:
        """Let no timer ask about it."""
        _cancel(self.timer)
        self.timer = None

    def tell(self) -> None:
        """Tell those who wait that it has been asked about."""
        if self.answered is not None:
            self.answered.set_result(None)
            self.answered = None

    def answer(self) -> _Kept | None:
        """What is kept, if it is an answer that has not run out."""
        kept = self.kept
        return kept if kept is not None and kept.known.status in _SETTLED and not kept.over else None


class OcspCache:
    """A `trust.revocation.StatusSource` that asks responders itself, on the event loop that it is made on.

    Args:
        clock: the time of day, aware, UTC.
        timeout: seconds for each responder.
        max_age: how long an answer is kept at most.
        question: asks about one certificate; left out, the client does.
        jitter: a number from 0 to 1, so that not all nodes ask in the same second.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        timeout: float = TIMEOUT,
        max_age: timedelta = MAX_AGE,
        question: Callable[[Link], Awaitable[ResponderReply]] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._patience = timeout + 1.0  # for a question that has to queue
        self._max_age = max_age.total_seconds()
        self._ask = question or partial(ask, now=clock, timeout=timeout, max_age=max_age)
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time  # monotonic; for any thread
        self._entries: dict[str, _Entry] = {}
        self._urgent: deque[_Entry] = deque()
        self._calm: deque[_Entry] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits: set[asyncio.Task[object]] = set()
        self._requests = dict.fromkeys(Status, 0)
        self._failures = 0
        self._version = 0
        self._stopped = False

    # -- for any thread --------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """A number that changes with everything that is known."""
        return self._version

    def known(self, subject: StatusSubject, now: datetime) -> Known | None:
        """Return what is known of a certificate at `now`; None when it was not asked about, or that has run out."""
        entry = self._entries.get(subject.id)
        kept = None if entry is None else entry.kept
        if kept is None or kept.over:
            return None
        if now >= kept.known.until or self._time() >= kept.deadline:
            kept.over = True
            return None
        return kept.known

    def stats(self) -> OcspStats:
        """Return what a scrape shows."""
        now, clock = self._time(), self._clock()
        statuses = dict.fromkeys([*map(str, Status), "none"], 0)
        oldest, soonest = 0.0, float("inf")
        for entry in self._entries.copy().values():
            if not entry.watched:
                continue
            known = self.known(entry.link, clock)
            statuses["none" if known is None else known.status.value] += 1
            answer = entry.answer()
            if answer is not None:
                oldest = max(oldest, now - answer.since)
                soonest = min(soonest, answer.deadline - now)
        requests = {status.value: count for status, count in self._requests.items()}
        return OcspStats(requests, self._failures, statuses, oldest, soonest)

    # -- for the loop's thread -------------------------------------------------------------------------------------

    def watch(self, links: Iterable[Link]) -> None:
        """Set the certificates whose status is kept fresh; the others' is left to run out."""
        wanted = {link.id: link for link in links}
        for entry in self._entries.values():
            if entry.watched and entry.link.id not in wanted:
                entry.watched, entry.wanted = False, self._time()
                entry.rest()
        for link in wanted.values():
            entry = self._entry(link)
            entry.watched = True
            if self.known(link, self._clock()) is None:
                self._want(entry, urgent=False)
            elif entry.timer is None and not entry.asking and not entry.queued:
                self._again_in(entry, self._refresh_in(entry))
        self._forget()
        self._start()

    def wait(self, links: Sequence[Link], told: Callable[[], None]) -> None:
        """Have those certificates asked about of which nothing is known.

        `told` is called once, on the loop, when they have been, or when that takes too long.
        """
        now = self._clock()
        cold = [link for link in {link.id: link for link in links}.values() if self.known(link, now) is None]
        if not cold or self._stopped:
            self._loop.call_soon(told)
            return
        answers = []
        for link in cold:
            entry = self._entry(link)
            entry.answered = entry.answered or self._loop.create_future()
            answers.append(entry.answered)
            self._want(entry, urgent=True)
        self._start()
        task: asyncio.Task[object] = self._loop.create_task(asyncio.wait(answers, timeout=self._patience))
        self._waits.add(task)  # the loop itself does not keep it
        task.add_done_callback(partial(self._waited, told))

    def _waited(self, told: Callable[[], None], task: asyncio.Task[object]) -> None:
        self._waits.discard(task)
        if not task.cancelled():  # as it is when the loop ends
            told()

    def stop(self) -> None:
        """Ask no responder any more, and end every wait. What is known stays known until it runs out."""
        self._stopped = True
        for entry in self._entries.values():
            entry.rest()
            entry.tell()
            _cancel(entry.running_out)
        for task in self._tasks:
            task.cancel()

    # -- asking ----------------------------------------------------------------------------------------------------

    def _entry(self, link: Link) -> _Entry:
        entry = self._entries.get(link.id)
        if entry is None:
            entry = self._entries[link.id] = _Entry(link)
        entry.wanted = self._time()
        return entry

    def _want(self, entry: _Entry, *, urgent: bool) -> None:
        """Queue a question, unless it is under way; one that waits already may become urgent."""
        if entry.asking or (entry.queued and not urgent):
            return
        entry.rest()
        entry.queued = True
        (self._urgent if urgent else self._calm).append(entry)

    def _start(self) -> None:
        """Ask what is queued, as far as that many may be asked at once."""
        while not self._stopped and len(self._tasks) < AT_ONCE:
            if self._urgent:
                entry = self._urgent.popleft()
            elif self._calm and len(self._tasks) < _AHEAD:
                entry = self._calm.popleft()
            else:
                return
            if entry.queued:  # else it was in both queues, and its turn has been
                entry.queued, entry.asking = False, True
                task = self._loop.create_task(self._question(entry))
                self._tasks.add(task)
                task.add_done_callback(self._asked)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()

    async def _question(self, entry: _Entry) -> None:
        try:
            reply = await self._ask(entry.link)
        except Exception:  # noqa: BLE001 - a bug must not keep callers waiting
            _log.exception("asking OCSP responders failed")
            reply = ResponderReply(Status.UNAVAILABLE, "asking failed; the daemon's log says more", self._clock())
        entry.asking = False
        for asked in reply.answers:
            self._requests[asked.answer.status] += 1
        self._failures += reply.status not in _SETTLED
        self._take(entry, reply)
        entry.tell()

    # -- what was said ---------------------------------------------------------------------------------------------

    def _take(self, entry: _Entry, reply: ResponderReply) -> None:
        if reply.status is Status.REVOKED and any(asked.answer.final for asked in reply.answers):
            entry.revoked = reply.reason
        if reply.status not in _SETTLED:
            self._failed(entry, reply.status, reply.reason)
        elif entry.revoked is not None:
            self._answered(entry, replace(reply, status=Status.REVOKED, reason=entry.revoked))
        elif reply.status is Status.GOOD and self._replayed(entry, reply):
            self._failed(entry, Status.INVALID, f"older than what is known already: {reply.reason}")
        else:
            self._answered(entry, reply)

    @staticmethod
    def _replayed(entry: _Entry, reply: ResponderReply) -> bool:
        if entry.newest is None or reply.this_update is None:
            return False
        return reply.this_update < entry.newest or (
            reply.this_update == entry.newest and entry.said is not None and entry.said is not Status.GOOD
        )

    def _answered(self, entry: _Entry, reply: ResponderReply) -> None:
        if entry.said is not reply.status or entry.failures:
            level = logging.INFO if reply.status is Status.GOOD else logging.WARNING
            _log.log(level, "OCSP: %s is %s (%s)", _name(entry), reply.status, reply.reason)
        if reply.this_update is not None:
            entry.newest = max(reply.this_update, entry.newest or reply.this_update)
        entry.said, entry.failures = reply.status, 0
        life = min((reply.until - self._clock()).total_seconds(), self._max_age)
        self._keep(entry, Known(reply.status, reply.until, reply.reason), life)
        self._again_in(entry, self._refresh_in(entry))

    def _failed(self, entry: _Entry, status: Status, reason: str) -> None:
        entry.failures += 1
        answer = entry.answer() if self.known(entry.link, self._clock()) is not None else None
        delay = self._retry_in(entry, answer)
        if entry.failures == 1:
            kept = "nothing is known of it" if answer is None else f"it is taken for {answer.known.status} meanwhile"
            _log.warning("OCSP: %s: %s (%s); %s", _name(entry), status, reason, kept)
        if answer is None:
            # While it is asked about again in the background, no caller has to wait for that.
            lasts = delay + self._patience if entry.watched else delay
            self._keep(entry, Known(status, self._clock() + timedelta(seconds=lasts), reason), lasts)
        self._again_in(entry, delay)

    def _keep(self, entry: _Entry, known: Known, life: float) -> None:
        now = self._time()
        kept = entry.kept = _Kept(known, now, now + life)
        self._version += 1
        _cancel(entry.running_out)
        entry.running_out = self._loop.call_later(max(0.0, life), self._run_out, kept)

    def _run_out(self, kept: _Kept) -> None:
        """It runs out by the time that has gone by: a judgement that was kept by the clock must be made again."""
        kept.over = True
        self._version += 1

    # -- when ------------------------------------------------------------------------------------------------------

    def _refresh_in(self, entry: _Entry) -> float:
        kept = entry.kept
        left = 0.0 if kept is None else kept.deadline - self._time()
        return max(min(_SOONEST, self._max_age / 2), self._spread(left / 2))

    def _retry_in(self, entry: _Entry, answer: _Kept | None) -> float:
        again = entry.failures - 1
        if answer is None:
            return self._spread(min(_LAST_RETRY, _FIRST_RETRY * 2.0 ** min(again, 16)))
        soonest, left = min(_SOONEST, self._max_age / 2), answer.deadline - self._time()
        delay = max(soonest, min(_LAST_REFRESH_RETRY, _FIRST_REFRESH_RETRY * 2.0 ** min(again, 16), left / 2))
        return self._spread(max(1.0, min(delay, left)))  # when it runs out, at the latest

    def _spread(self, seconds: float) -> float:
        return seconds * (0.9 + 0.1 * self._jitter())

    def _again_in(self, entry: _Entry, seconds: float) -> None:
        entry.rest()
        if entry.watched and not self._stopped:
            entry.timer = self._loop.call_later(seconds, self._due, entry)

    def _due(self, entry: _Entry) -> None:
        entry.timer = None
        if entry.watched:
            self._want(entry, urgent=False)
            self._start()

    def _forget(self) -> None:
        """Drop what has not been wanted for a while."""
        past = self._time() - _FORGET
        for entry in list(self._entries.values()):
            if not entry.watched and entry.wanted < past and not entry.asking and not entry.queued:
                _cancel(entry.running_out)
                del self._entries[entry.link.id]


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()


def _name(entry: _Entry) -> str:
    return f"the certificate {entry.link.certificate.subject.rfc4514_string()}"
