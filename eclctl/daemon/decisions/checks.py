"""Decides questions: at once, or in threads, and always in time and on the record.

What can be decided at once is decided in the turn of its request. What may block goes through up to two stages in
threads: *open* (the image is not on a local file system) and *examine* (its content must be read). Questions whose
pending answers have the same key wait for one examination. When a responder must be asked about a certificate first,
which is seldom, since that is done ahead of time, the question is begun again once it has been (*status*).

Rules:

1. A call is answered from one snapshot, taken when it was begun.
2. Every decision is in the audit log before its answer is given; when it cannot be, the answer is deny.
3. A caller waits at most `limits.request_timeout`, then the answer is deny (`request_timeout`). The examination goes
   on as long as a call waits for it, and what it finds serves later callers.
4. A descriptor is closed when its image is decided and no thread works on it, never before.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from eclctl.daemon.background.workers import Workers, attempt
from eclctl.daemon.decisions.call_state import CheckCall, Examination, ImageCheck
from eclctl.daemon.decisions.request_timeout import start_timeout
from eclctl.daemon.observing.audit_records import DecisionRecords, timestamp
from eclctl.daemon.sockets.protocol import RECENT_LIMIT
from eclctl.decide.questions import Decision, Lookup, Opening, Pending, Question, StatusNeeded, Turn
from eclctl.errors import AuditError
from eclctl.files.canonical_name import normalised
from eclctl.files.syscalls import attributes
from eclctl.model import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from datetime import datetime

    from eclctl.config.settings import Limits
    from eclctl.daemon.observing.audit_log import AuditLog
    from eclctl.daemon.observing.metrics import Metrics
    from eclctl.daemon.sockets.closing import Closer
    from eclctl.daemon.sockets.peers import Peer
    from eclctl.decide.engine import Engine
    from eclctl.decide.facts import Facts
    from eclctl.decide.snapshot import Snapshot
    from eclctl.files.mounts import MountTable
    from eclctl.trust.revocation import Link

CONCLUSIONS: Final = 32  # conclusions between two looks at the other callers

FAILED: Final = "the daemon failed to decide; its log says more"
_UNRECORDED: Final = "the decision could not be recorded in the audit log"

_log = logging.getLogger(__name__)


class Checks:
    """Decides questions with an engine, on the event loop and in threads.

    Args:
        engine: decides.
        limits: bounds on threads and time.
        audit: gets a record of every decision.
        metrics: counts them.
        closer: closes callers' descriptors.
        mounts: tells which device a path lies on.
        wake: asks the server for a turn, at whose end `flush` is called.
        clock: the time of day, aware, UTC.
        ask_status: has responders asked about certificates, and calls back on the loop when they were.
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
        # At least two threads each: of a single one, the jobs behind the same gate would leave nothing to others.
        share, examiners = max(1, limits.open_threads // 4), max(2, limits.verify_threads)
        self.opening = Workers("open", max(2, limits.open_threads), share)
        self._local = Workers("verify", examiners, examiners - 1)
        self._remote = Workers("verify-remote", max(limits.open_threads, limits.verify_threads), share)
        self._examinations: dict[Hashable, Examination] = {}
        self._to_conclude: deque[tuple[ImageCheck, Facts]] = deque()
        self._finished: list[CheckCall] = []
        self._turn = Turn()
        self._recent: deque[str] = deque(maxlen=RECENT_LIMIT)
        self._unwritten = 0  # batches in a row that could not be recorded
        self._decision_records = DecisionRecords()

    # -- the callers' side -----------------------------------------------------------------------------------------

    def submit(
        self,
        questions: Sequence[Question],
        caller: Peer,
        done: Callable[[Sequence[Decision] | None], None],
        *,
        method: str,
        started: float,
        in_turn: bool = False,
    ) -> None:
        """Begin to decide questions; to be called on the event loop.

        Args:
            questions: what is asked. Their descriptors are closed here, once the images are decided.
            caller: the process that asks, as the kernel said.
            done: called on the loop, in a later turn, with a decision for each question in their order. The decisions
                are in the audit log by then. None instead: the daemon failed to decide, which is deny.
            method: how it was asked, for the audit record.
            started: when it was asked, as `time.perf_counter` has it.
            in_turn: whether it is asked in the server's turn: then one look at an image serves all who ask in it.
        """
        snapshot = self._engine.snapshot
        turn = self._turn if in_turn else Turn()
        results = [self._begin(question, snapshot, turn) for question in questions]
        if len(results) == 1 and isinstance(results[0], Decision):  # hardly any call is of another kind
            self._release_descriptor(caller, questions[0])
            self._finished.append(CheckCall(caller, method, started, done, snapshot, [results[0]], 0))
            self._wake()
            return
        call = CheckCall(caller, method, started, done, snapshot, [None] * len(questions), len(questions))
        waiting = []
        for index, (question, result) in enumerate(zip(questions, results, strict=True)):
            if isinstance(result, Decision):
                self._release_descriptor(caller, question)
                self._decided(call, index, result)
            else:
                waiting.append((ImageCheck(call, index, question), result))
        if waiting:
            call.checks += [check for check, _ in waiting]
            for check, result in waiting:
                self._proceed(check, result)
            if call.left:
                start_timeout(call, self._limits.request_timeout, self._deny)

    def recent(self, limit: int) -> list[dict[str, object]]:
        """Return the last decisions as the audit log has them, newest first."""
        return [json.loads(line) for line in list(self._recent)[-limit:][::-1]]

    def backlog(self) -> dict[str, int]:
        """Return how much waits for a thread."""
        return {
            "opening": self.opening.waiting(),
            "verifying": self._local.waiting() + self._remote.waiting(),
            "examinations": len(self._examinations),
        }

    def stop(self) -> None:
        """Begin no further work in threads."""
        for workers in (self.opening, self._local, self._remote):
            workers.stop()

    # -- stages ----------------------------------------------------------------------------------------------------

    def _begin(self, question: Question, snapshot: Snapshot, turn: Turn, *, status_asked: bool = False) -> object:
        try:
            return self._engine.begin(question, snapshot, self._clock(), status_asked=status_asked, turn=turn)
        except Exception as error:  # noqa: BLE001 - a bug in the engine is a deny
            return error

    def _proceed(self, check: ImageCheck, result: object) -> None:
        """Take an image to its next stage, or decide it."""
        if isinstance(result, Decision):
            self._finish(check, result)
        elif isinstance(result, Lookup):
            check.pending = result
            self._examine(check)
        elif isinstance(result, Opening):
            self._open(check)
        elif isinstance(result, StatusNeeded):
            self._ask_status(result.links, partial(self._status_asked, check))
        else:
            self._deny_for_bug(check, result)

    def _open(self, check: ImageCheck) -> None:
        check.in_thread = check.remote = True
        caller, device = check.call.caller, self._device(check.question)
        gates = (("device", device), ("user", caller.person)) if caller.caller.uid else (("device", device),)
        self.opening.run(
            (caller.person, device), lambda: self._open_in_thread(check), partial(self._opened, check), gates
        )

    def _device(self, question: Question) -> int:
        """Return the device whose mount may hang, found without touching it."""
        if question.descriptor is not None:
            try:
                return attributes(question.descriptor).device
            except OSError:
                return 0
        return self._mounts.current()[0].above(normalised(question.image))[-1].device

    def _open_in_thread(self, check: ImageCheck) -> object:
        if check.done:
            return None
        now, status_asked = self._clock(), check.status_asked
        return self._engine.begin(check.question, check.call.snapshot, now, anywhere=True, status_asked=status_asked)

    def _opened(self, check: ImageCheck, result: object) -> None:
        check.in_thread = False
        if not check.done:
            self._proceed(check, result)
            return
        if isinstance(result, Pending):
            result.close()
        self._release(check)

    def _status_asked(self, check: ImageCheck) -> None:
        """Begin again with what is known now: meanwhile the image may have become another."""
        check.status_asked = True
        if not check.done:
            self._proceed(check, self._begin(check.question, check.call.snapshot, Turn(), status_asked=True))

    def _examine(self, check: ImageCheck) -> None:
        assert check.pending is not None
        key = check.pending.key
        examination = None if key is None else self._examinations.get(key)
        if examination is not None:
            examination.checks.append(check)
            return
        examination = Examination(key, [check])
        if key is not None:
            self._examinations[key] = examination
        self._start_examination(examination)

    def _start_examination(self, examination: Examination) -> None:
        first = examination.checks[0]
        first.in_thread = True
        caller = first.call.caller
        workers = self._remote if first.remote else self._local
        gates = (caller.person,) if caller.caller.uid or first.remote else ()
        workers.run(
            caller.person,
            lambda: self._examine_in_thread(examination),
            partial(self._examined, examination),
            gates,
        )

    def _examine_in_thread(self, examination: Examination) -> Facts | None:
        """Return the facts, None when no check waits any more."""
        pending = examination.checks[0].pending
        if pending is None or all(check.done for check in examination.checks):
            return None
        begun = perf_counter()
        try:
            return self._engine.look_up(pending)
        finally:
            examination.seconds = perf_counter() - begun

    def _examined(self, examination: Examination, facts: Any) -> None:
        waiting = [check for check in examination.checks if not check.done]
        if facts is None and waiting:
            self._start_examination(examination)  # a check came just after all others were done
            return
        if examination.key is not None:
            del self._examinations[examination.key]
        first = examination.checks[0]
        if facts is not None:
            located = None if first.pending is None else first.pending.located
            size = 0 if located is None else located.attributes.size
            ok = not isinstance(facts, Exception) and facts.error is None
            self._metrics.verification(size, examination.seconds, ok=ok)
        first.in_thread = False
        if first.done:
            self._release(first)
        self._to_conclude.extend((check, facts) for check in waiting)
        self._conclude()

    def _conclude(self) -> None:
        for _ in range(min(CONCLUSIONS, len(self._to_conclude))):
            check, facts = self._to_conclude.popleft()
            if not check.done:
                self._conclude_one(check, facts)
        if self._to_conclude:
            asyncio.get_running_loop().call_soon(self._conclude)

    def _conclude_one(self, check: ImageCheck, facts: Any) -> None:
        pending = check.pending
        if pending is None or isinstance(facts, Exception):
            self._deny_for_bug(check, facts)
            return
        result = attempt(lambda: self._engine.conclude(pending, facts, self._clock()))
        check.pending = None
        self._proceed(check, result)

    # -- ends ------------------------------------------------------------------------------------------------------

    def _finish(self, check: ImageCheck, decision: Decision) -> None:
        check.done = True
        if not check.in_thread:
            self._release(check)
        self._decided(check.call, check.index, decision)

    def _decided(self, call: CheckCall, index: int, decision: Decision) -> None:
        call.decisions[index] = decision
        call.left -= 1
        if call.left == 0:
            if call.deadline is not None:
                call.deadline.stop()
            self._finished.append(call)
            self._wake()

    def _deny(self, check: ImageCheck, code: Code, reason: str) -> None:
        self._finish(check, self._engine.deny(check.question, check.call.snapshot, code, reason))

    def _deny_for_bug(self, check: ImageCheck, result: object) -> None:
        """The engine does not raise; if it does all the same, that is deny."""
        bug = result if isinstance(result, Exception) else RuntimeError(f"no decision, but {type(result).__name__}")
        self._engine.on_bug(bug)
        self._deny(check, Code.INTERNAL_ERROR, FAILED)

    def _release(self, check: ImageCheck) -> None:
        if check.pending is not None:
            check.pending.close()
            check.pending = None
        self._release_descriptor(check.call.caller, check.question)

    def _release_descriptor(self, caller: Peer, question: Question) -> None:
        if question.descriptor is not None:
            self._closer.close(caller.person, question.descriptor)

    # -- the record, then the answer -------------------------------------------------------------------------------

    def flush(self) -> None:
        """Record what has been decided since the last time, and only then answer it."""
        self._turn = Turn()
        if not self._finished:
            return
        calls, self._finished = self._finished, []
        records: list[str] = []
        try:
            records = self._records(calls)
            self._audit.write(records)
            self._metrics.audit(len(records), ok=True)
            if self._unwritten:
                _log.warning("decisions are recorded again; %d batches before were not", self._unwritten)
                self._unwritten = 0
        except Exception as error:  # noqa: BLE001 - what keeps a decision from the log keeps its answer from allowing
            records = self._unrecorded(calls, error)
        self._recent.extend(records)
        now = perf_counter()
        for call in calls:
            decisions = call.decided()
            try:
                for decision in decisions:
                    self._metrics.decision(decision, now - call.started)
                call.answer(decisions)
            except Exception as error:  # noqa: BLE001 - a bug in one answer must not keep the others from theirs
                self._engine.on_bug(error)
                self._fail(call)

    def _records(self, calls: Sequence[CheckCall]) -> list[str]:
        time, clock, encode = timestamp(self._clock()), perf_counter(), self._decision_records.encode
        return [
            encode(decision, pid=call.caller.pid, method=call.method, seconds=clock - call.started, time=time)
            for call in calls
            for decision in call.decided()
        ]

    def _unrecorded(self, calls: Sequence[CheckCall], error: Exception) -> list[str]:
        """Turn all decisions into denies. Return their records for `recent`, none when encoding them is what failed."""
        self._metrics.audit(0, ok=False)
        if not isinstance(error, AuditError):
            self._engine.on_bug(error)
        elif not self._unwritten:  # the first of a row tells: a full disk must not flood the log of another
            _log.error("%s", error)
        self._unwritten += 1
        for call in calls:
            if isinstance(bug := attempt(partial(self._refuse, call)), Exception):
                self._engine.on_bug(bug)
                self._fail(call)
        try:
            return self._records(calls)
        except Exception:  # noqa: BLE001 - the log has it already, and every call must be answered
            return []

    def _refuse(self, call: CheckCall) -> None:
        call.decisions = [
            self._engine.deny(decision.question, call.snapshot, Code.INTERNAL_ERROR, _UNRECORDED)
            for decision in call.decided()
        ]

    def _fail(self, call: CheckCall) -> None:
        """Answer that nothing was decided; a later answer of the same call does nothing."""
        answer, call.answer = call.answer, _no_answer
        if isinstance(bug := attempt(lambda: answer(None)), Exception):
            self._engine.on_bug(bug)


def _no_answer(_decisions: Sequence[Decision] | None) -> None:
    """Stands for the answer of a call that has been given."""
