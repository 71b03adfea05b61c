"""Decisions for callers: check, check_all and explain.

What can be decided at once is decided in the turn of its request. What may block goes through up to two stages in
threads: *open* (the image is not on a local file system) and *examine* (its content must be read). Callers whose
pending answers have the same key wait for one examination. When a responder must be asked about a certificate first,
which is seldom, since that is done ahead of time, the question is begun again once it has been (*status*).

Rules:

1. A call is answered from one snapshot, taken when it was begun.
2. Every decision is in the audit log before its answer is sent; when it cannot be, the answer is deny.
3. A caller waits at most `limits.request_timeout`, then the answer is deny with code `timeout`. The examination goes
   on as long as anybody waits for it, and what it finds serves later callers.
4. A descriptor is closed when its image is decided and no thread works on it, never before.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from eclctl.daemon.background.workers import Workers
from eclctl.daemon.decisions.cases import Ask, Case, Examination
from eclctl.daemon.decisions.rendering import Renderer
from eclctl.daemon.observing.audit import timestamp
from eclctl.daemon.sockets.permissions import asker_of
from eclctl.daemon.sockets.protocol import RECENT_LIMIT, ErrorCode, Method
from eclctl.decide.questions import Decision, Pending, Question, Turn
from eclctl.errors import AuditError
from eclctl.files.canonical_name import normalised
from eclctl.files.syscalls import attributes
from eclctl.model import Caller, Code
from eclctl.report.answers import all_fields, explanation_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from datetime import datetime

    from eclctl.config.settings import Limits
    from eclctl.daemon.observing.audit import AuditLog
    from eclctl.daemon.observing.metrics import Metrics
    from eclctl.daemon.sockets.call import Call
    from eclctl.daemon.sockets.closing import Closer
    from eclctl.decide.cache import Facts
    from eclctl.decide.engine import Engine
    from eclctl.decide.snapshot import Snapshot
    from eclctl.files.mounts import MountTable
    from eclctl.trust.revocation import Link

CONCLUSIONS: Final = 32  # conclusions between two looks at the other callers
_SUBJECT_SECONDS: Final = 60.0
_SUBJECTS: Final = 4096
_CHECK: Final = Method.CHECK
_EXPLAIN: Final = Method.EXPLAIN

_TIMEOUT = "the image could not be examined in time; ask again, it may be done by then"
_BUG = "the daemon failed to decide; its log says more"
_UNRECORDED = "the decision could not be recorded in the audit log"

_log = logging.getLogger(__name__)


class Checks:
    """Decides calls with an engine, on the event loop and in threads.

    Args:
        engine: decides.
        limits: bounds on threads and time.
        audit: gets a record of every decision.
        metrics: counts them.
        closer: closes callers' descriptors.
        mounts: tells which device a path lies on.
        wake: asks the server for a turn, at whose end `flush` is called.
        ask_status: has responders asked about certificates, and calls back on the loop when they were.
        clock: the time of day, aware, UTC.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        limits: Limits,
        audit: AuditLog,
        metrics: Metrics,
        closer: Closer,
        mounts: MountTable,
        wake: Callable[[], None],
        clock: Callable[[], datetime],
        ask_status: Callable[[Sequence[Link], Callable[[], None]], None],
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._audit = audit
        self._metrics = metrics
        self._closer = closer
        self._mounts = mounts
        self._wake = wake
        self._clock = clock
        self._ask_status = ask_status
        self._loop = asyncio.get_running_loop()
        # At least two threads each: of a single one, whoever waits behind the same gate as it leaves nothing to others.
        share, examiners = max(1, limits.open_threads // 4), max(2, limits.verify_threads)
        self._opening = Workers("open", max(2, limits.open_threads), share)
        self._local = Workers("verify", examiners, examiners - 1)
        self._remote = Workers("verify-remote", max(limits.open_threads, limits.verify_threads), share)
        self._examinations: dict[Hashable, Examination] = {}
        self._to_conclude: deque[tuple[Ask, Facts]] = deque()
        self._finished: list[Case] = []
        self._turn = Turn()
        self._subjects: dict[int, tuple[float, Caller]] = {}
        self._recent: deque[str] = deque(maxlen=RECENT_LIMIT)
        self._unwritten = 0  # batches in a row that could not be recorded
        self._renderer = Renderer()

    # -- the server's side -----------------------------------------------------------------------------------------

    def handle(self, call: Call, resolve: Callable[[int], Caller | None]) -> None:
        """Begin to decide a call of check, check_all or explain.

        Args:
            call: the call; only root's may name another user.
            resolve: finds that user and their groups; it may block.
        """
        uid = call.request.subject_uid
        if uid is None:
            if len(call.request.images) == 1:
                self._start_one(call)
            else:
                self._start(call, call.peer.caller)
            return
        known = self._subjects.get(uid)
        if known is not None and known[0] > self._loop.time():
            self._start(call, known[1])
            return
        self._find_subject(call, uid, resolve)

    def recent(self, limit: int) -> list[dict[str, object]]:
        """The last decisions as the audit log has them, newest first."""
        return [json.loads(line) for line in list(self._recent)[-limit:][::-1]]

    def backlog(self) -> dict[str, int]:
        """What waits for a thread."""
        return {
            "opening": self._opening.waiting(),
            "verifying": self._local.waiting() + self._remote.waiting(),
            "examinations": len(self._examinations),
        }

    def stop(self) -> None:
        """Begin no further work in threads."""
        for workers in (self._opening, self._local, self._remote):
            workers.stop()

    # -- subjects --------------------------------------------------------------------------------------------------

    def _find_subject(self, call: Call, uid: int, resolve: Callable[[int], Caller | None]) -> None:
        deadline = self._loop.call_later(self._limits.request_timeout, self._no_subject, call, None, "is not known yet")
        self._opening.submit(
            "subjects",
            lambda: self._report(self._found_subject, call, deadline, _try(lambda: resolve(uid))),
            gates=("subjects",),  # a name service that hangs
        )

    def _found_subject(self, call: Call, deadline: asyncio.TimerHandle, caller: Caller | Exception | None) -> None:
        expired = deadline.when() <= self._loop.time()
        deadline.cancel()
        if expired or not isinstance(caller, Caller):
            self._no_subject(call, call.descriptors, "does not exist")
            return
        if len(self._subjects) >= _SUBJECTS:
            self._subjects.clear()
        self._subjects[caller.uid] = (self._loop.time() + _SUBJECT_SECONDS, caller)
        self._turn = Turn()  # this is no part of the server's turn: what is seen now holds for nothing else
        self._start(call, caller)
        self._turn = Turn()

    def _no_subject(self, call: Call, descriptors: Sequence[int] | None, what: str) -> None:
        """Nothing is decided without knowing for whom."""
        for descriptor in descriptors or ():
            self._closer.close(call.peer.person, descriptor)
        call.fail(ErrorCode.UNKNOWN_USER, f"user {call.request.subject_uid} {what} on this host")

    # -- stages ----------------------------------------------------------------------------------------------------

    def _start_one(self, call: Call) -> None:
        """What `_start` does, for one image and the caller themselves: hardly any call is of another kind."""
        snapshot = self._engine.snapshot
        image = call.request.images[0]
        descriptor = call.descriptors[0] if image.fd else None
        explain = call.request.method is _EXPLAIN
        caller = call.peer.caller
        question = Question(image.image, caller, descriptor, image.role, explain, asker_of(caller, caller))
        result = self._begin(question, snapshot)
        if isinstance(result, Decision):
            if descriptor is not None:
                self._release_descriptor(call, question)
            self._finished.append(Case(call, snapshot, [], [result], 0))
            self._wake()
        else:
            self._wait_for(Case(call, snapshot, [], [None], 1), [(0, question, result)])

    def _start(self, call: Call, caller: Caller) -> None:
        snapshot = self._engine.snapshot
        descriptors = iter(call.descriptors)
        explain = call.request.method is Method.EXPLAIN
        asker = asker_of(call.peer.caller, caller)
        questions = [
            Question(image.image, caller, next(descriptors) if image.fd else None, image.role, explain, asker)
            for image in call.request.images
        ]
        results = [self._begin(question, snapshot) for question in questions]
        case = Case(call, snapshot, [], [None] * len(questions), len(questions))
        waiting = []
        for index, (question, result) in enumerate(zip(questions, results, strict=True)):
            if isinstance(result, Decision):
                self._release_descriptor(call, question)
                self._settle_case(case, index, result)
            else:
                waiting.append((index, question, result))
        if waiting:
            self._wait_for(case, waiting)

    def _wait_for(self, case: Case, waiting: Sequence[tuple[int, Question, object]]) -> None:
        """Have what cannot be decided at once decided, in time."""
        for index, question, result in waiting:
            ask = Ask(case, index, question)
            case.asks.append(ask)
            self._proceed(ask, result)
        if case.left:
            case.deadline = self._loop.call_later(self._limits.request_timeout, self._expire, case)

    def _begin(self, question: Question, snapshot: Snapshot, *, waited: bool = False) -> object:
        try:
            return self._engine.begin(question, snapshot, self._clock(), waited=waited, turn=self._turn)
        except Exception as error:  # noqa: BLE001 - a bug in the engine is a deny
            return error

    def _proceed(self, ask: Ask, result: object) -> None:
        """Take an image to its next stage, or settle it."""
        if isinstance(result, Decision):
            self._settle(ask, result)
        elif not isinstance(result, Pending):
            self._settle_bug(ask, result)
        elif result.stage == "open":
            result.close()
            self._open(ask)
        elif result.stage == "status":
            self._ask_status(result.links, partial(self._asked, ask))
        else:
            ask.pending = result
            self._examine(ask)

    def _open(self, ask: Ask) -> None:
        ask.held = ask.remote = True
        peer, device = ask.case.call.peer, self._device(ask.question)
        gates = (("device", device), ("user", peer.person)) if peer.caller.uid else (("device", device),)
        self._opening.submit((peer.person, device), lambda: self._work_open(ask), gates)

    def _device(self, question: Question) -> int:
        """The device whose mount may hang, found without touching it."""
        if question.descriptor is not None:
            try:
                return attributes(question.descriptor).device
            except OSError:
                return 0
        return self._mounts.current()[0].above(normalised(question.image))[-1].device

    def _work_open(self, ask: Ask) -> None:
        """In a thread."""
        result: object = None
        if not ask.settled:
            snapshot = ask.case.snapshot
            now, waited = self._clock(), ask.waited
            result = _try(lambda: self._engine.begin(ask.question, snapshot, now, anywhere=True, waited=waited))
        self._report(self._opened, ask, result)

    def _opened(self, ask: Ask, result: object) -> None:
        ask.held = False
        if not ask.settled:
            self._proceed(ask, result)
            return
        if isinstance(result, Pending):
            result.close()
        self._release(ask)

    def _asked(self, ask: Ask) -> None:
        """Begin again with what is known now: meanwhile the image may have become another."""
        ask.waited = True
        if not ask.settled:
            self._turn = Turn()  # this is no part of the server's turn
            self._proceed(ask, self._begin(ask.question, ask.case.snapshot, waited=True))
            self._turn = Turn()

    def _examine(self, ask: Ask) -> None:
        assert ask.pending is not None
        key = ask.pending.key
        examination = None if key is None else self._examinations.get(key)
        if examination is not None:
            examination.asks.append(ask)
            return
        examination = Examination(key, [ask])
        if key is not None:
            self._examinations[key] = examination
        self._submit(examination)

    def _submit(self, examination: Examination) -> None:
        first = examination.asks[0]
        first.held = True
        peer = first.case.call.peer
        workers = self._remote if first.remote else self._local
        gates = (peer.person,) if peer.caller.uid or first.remote else ()
        workers.submit(peer.person, lambda: self._work_examine(examination), gates)

    def _work_examine(self, examination: Examination) -> None:
        """In a thread."""
        pending = examination.asks[0].pending
        result: object = None
        begun = perf_counter()
        if pending is not None and examination.wanted():
            result = _try(lambda: self._engine.examine(pending))
        self._report(self._examined, examination, result, perf_counter() - begun)

    def _examined(self, examination: Examination, facts: Any, seconds: float) -> None:
        waiting = [ask for ask in examination.asks if not ask.settled]
        if facts is None and waiting:
            self._submit(examination)  # somebody came just after everybody had left
            return
        if examination.key is not None:
            del self._examinations[examination.key]
        first = examination.asks[0]
        if facts is not None:
            self._count_examination(first, facts, seconds)
        first.held = False
        if first.settled:
            self._release(first)
        self._to_conclude.extend((ask, facts) for ask in waiting)
        self._conclude()

    def _count_examination(self, ask: Ask, facts: Any, seconds: float) -> None:
        located = None if ask.pending is None else ask.pending.located
        size = 0 if located is None else located.attributes.size
        self._metrics.verification(size, seconds, ok=not isinstance(facts, Exception) and facts.error is None)

    def _conclude(self) -> None:
        for _ in range(min(CONCLUSIONS, len(self._to_conclude))):
            ask, facts = self._to_conclude.popleft()
            if not ask.settled:
                self._conclude_one(ask, facts)
        if self._to_conclude:
            self._loop.call_soon(self._conclude)

    def _conclude_one(self, ask: Ask, facts: Any) -> None:
        pending = ask.pending
        if pending is None or isinstance(facts, Exception):
            self._settle_bug(ask, facts)
            return
        result = _try(lambda: self._engine.conclude(pending, facts, self._clock()))
        ask.pending = None
        self._proceed(ask, result)

    def _report(self, callback: Callable[..., None], *arguments: object) -> None:
        """From a thread: have the loop take over. A loop that has ended needs nothing any more."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback, *arguments)

    # -- ends ------------------------------------------------------------------------------------------------------

    def _settle(self, ask: Ask, decision: Decision) -> None:
        ask.settled = True
        if not ask.held:
            self._release(ask)
        self._settle_case(ask.case, ask.index, decision)

    def _settle_case(self, case: Case, index: int, decision: Decision) -> None:
        case.decisions[index] = decision
        case.left -= 1
        if case.left == 0:
            if case.deadline is not None:
                case.deadline.cancel()
            self._finished.append(case)
            self._wake()

    def _settle_bug(self, ask: Ask, result: object) -> None:
        """The engine does not raise; if it does all the same, that is deny."""
        bug = result if isinstance(result, Exception) else RuntimeError(f"no decision, but {type(result).__name__}")
        self._engine.on_bug(bug)
        self._settle(ask, self._engine.deny(ask.question, ask.case.snapshot, Code.INTERNAL_ERROR, _BUG))

    def _expire(self, case: Case) -> None:
        for ask in case.asks:
            if not ask.settled:
                self._settle(ask, self._engine.deny(ask.question, case.snapshot, Code.TIMEOUT, _TIMEOUT))

    def _release(self, ask: Ask) -> None:
        if ask.pending is not None:
            ask.pending.close()
            ask.pending = None
        self._release_descriptor(ask.case.call, ask.question)

    def _release_descriptor(self, call: Call, question: Question) -> None:
        if question.descriptor is not None:
            self._closer.close(call.peer.person, question.descriptor)

    def flush(self) -> None:
        """Record what has been decided since the last time, and only then answer it."""
        self._turn = Turn()
        if not self._finished:
            return
        cases, self._finished = self._finished, []
        records: list[str] = []
        try:
            records = self._records(cases)
            self._audit.write(records)
            self._metrics.audit(len(records), ok=True)
            if self._unwritten:
                _log.warning("decisions are recorded again; %d batches before could not be", self._unwritten)
                self._unwritten = 0
        except Exception as error:  # noqa: BLE001 - whatever keeps a decision from the log keeps its answer from allowing
            records = self._unrecorded(cases, error)
        self._recent.extend(records)
        now = perf_counter()
        for case in cases:
            try:
                self._answer(case, now)
            except Exception as error:  # noqa: BLE001 - a bug in one answer must not keep the others from theirs
                self._engine.on_bug(error)
                case.call.fail(ErrorCode.INTERNAL_ERROR, _BUG)

    def _records(self, cases: Sequence[Case]) -> list[str]:
        time, clock, record = timestamp(self._clock()), perf_counter(), self._renderer.record
        return [
            record(
                decision,
                pid=case.call.peer.pid,
                method=case.call.request.method._value_,
                seconds=clock - case.call.started,
                time=time,
            )
            for case in cases
            for decision in case.decided()
        ]

    def _unrecorded(self, cases: Sequence[Case], error: Exception) -> list[str]:
        """Turn all decisions into denies; how they would have been recorded, for `recent`, unless that is the bug."""
        self._metrics.audit(0, ok=False)
        if not isinstance(error, AuditError):
            self._engine.on_bug(error)
        elif not self._unwritten:  # the first of a row tells: a full disk must not flood the log of another
            _log.error("%s", error)
        self._unwritten += 1
        for case in cases:
            if isinstance(bug := _try(partial(self._refuse, case)), Exception):
                self._engine.on_bug(bug)
                case.call.fail(ErrorCode.INTERNAL_ERROR, _BUG)  # what is answered later does nothing
        try:
            return self._records(cases)
        except Exception:  # noqa: BLE001 - the log has it already, and everybody must be answered
            return []

    def _refuse(self, case: Case) -> None:
        case.decisions = [
            self._engine.deny(decision.question, case.snapshot, Code.INTERNAL_ERROR, _UNRECORDED)
            for decision in case.decided()
        ]

    def _answer(self, case: Case, now: float) -> None:
        call, decisions = case.call, case.decided()
        for decision in decisions:
            self._metrics.decision(decision, now - call.started)
        method = call.request.method
        if method is _CHECK:
            call.answer_line(self._renderer.answer(call.request, decisions[0]))
        elif method is _EXPLAIN:
            call.answer(explanation_fields(decisions[0], admin=call.admin))
        else:
            call.answer(all_fields(decisions))


def _try(work: Callable[[], object]) -> object:
    """What `work` returns, or the exception that it raised: a bug must cost one answer, not a thread or the loop."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - see above
        return error
