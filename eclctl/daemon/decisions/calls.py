"""Calls of check, check_all and explain: from a request to questions, from decisions to its answer.

Only root's call may name another user (`sockets.permissions`). That user and their groups are looked up first, in a
thread; without knowing them nothing is decided.
"""

from __future__ import annotations

import asyncio
from functools import partial
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, Final

from eclctl.daemon.background.timers import Timer
from eclctl.daemon.decisions.checks import FAILED
from eclctl.daemon.observing.decision_texts import DecisionTexts
from eclctl.daemon.sockets.permissions import asker_of
from eclctl.daemon.sockets.protocol import VERSION, ErrorCode, Method, encode_members
from eclctl.decide.questions import Question
from eclctl.model import Caller
from eclctl.report.answers import all_fields, decision_fields, explanation_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eclctl.daemon.decisions.checks import Checks
    from eclctl.daemon.sockets.call import Call
    from eclctl.daemon.sockets.closing import Closer
    from eclctl.decide.questions import Decision

_SUBJECT_SECONDS: Final = 60.0
_SUBJECTS: Final = 4096
_CHECK: Final = Method.CHECK
_EXPLAIN: Final = Method.EXPLAIN


class CheckCalls:
    """Answers calls with decisions. For the event loop's thread alone.

    Args:
        checks: decides.
        closer: closes callers' descriptors.
        resolve: finds a user and their groups by uid, None when there is no such user; it may block.
        patience: seconds that a call waits for `resolve`.
    """

    def __init__(
        self, checks: Checks, closer: Closer, resolve: Callable[[int], Caller | None], patience: float
    ) -> None:
        self._checks = checks
        self._closer = closer
        self._resolve = resolve
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._subjects: dict[int, tuple[float, Caller]] = {}
        self._answer_texts = DecisionTexts(_repeated_members)

    def handle(self, call: Call) -> None:
        """Begin to decide a call."""
        uid = call.request.subject_uid
        if uid is None:
            self._submit(call, call.peer.caller, in_turn=True)
            return
        known = self._subjects.get(uid)
        if known is not None and known[0] > self._loop.time():
            self._submit(call, known[1], in_turn=True)
        else:
            self._find_subject(call, uid)

    def _submit(self, call: Call, caller: Caller, *, in_turn: bool) -> None:
        request, descriptors = call.request, iter(call.descriptors)
        explain = request.method is _EXPLAIN
        asker = asker_of(call.peer.caller, caller)
        questions = [
            Question(image.image, caller, next(descriptors) if image.fd else None, image.role, explain, asker)
            for image in request.images
        ]
        self._checks.submit(
            questions,
            call.peer,
            partial(self._answer, call),
            method=request.method._value_,  # the property costs a Python call
            started=call.started,
            in_turn=in_turn,
        )

    def _answer(self, call: Call, decisions: Sequence[Decision] | None) -> None:
        method = call.request.method
        if decisions is None:
            call.fail(ErrorCode.INTERNAL_ERROR, FAILED)
        elif method is _CHECK:
            decision = decisions[0]
            head = f'{{"v":{VERSION},"id":{quoted(call.request.id)},"result":{{"decision_id":"{decision.id}",'
            # DEL is the one control character that JSON does not escape; it can only stand inside a string.
            line = f"{head}{self._answer_texts.of(decision)}}}}}\n".replace("\x7f", "\\u007f")
            call.answer_line(line.encode("ascii"))
        elif method is _EXPLAIN:
            call.answer(explanation_fields(decisions[0], admin=call.admin))
        else:
            call.answer(all_fields(decisions))

    # -- users on whose behalf root asks -----------------------------------------------------------------------------

    def _find_subject(self, call: Call, uid: int) -> None:
        deadline = Timer(lambda: self._refuse(call, "is not known yet"))

        def found(subject: Caller | Exception | None) -> None:
            if deadline.due is None:
                return  # it is too late
            deadline.stop()
            if isinstance(subject, Caller):
                self._keep(subject)
                self._submit(call, subject, in_turn=False)
            else:
                self._refuse(call, "does not exist")

        deadline.set(self._patience)
        # One gate for all: a name service that hangs leaves the other threads to the opening of images.
        self._checks.opening.run("subjects", lambda: self._resolve(uid), found, gates=("subjects",))

    def _keep(self, subject: Caller) -> None:
        if len(self._subjects) >= _SUBJECTS:
            self._subjects.clear()
        self._subjects[subject.uid] = (self._loop.time() + _SUBJECT_SECONDS, subject)

    def _refuse(self, call: Call, why: str) -> None:
        """Decide nothing: without the user and their groups no rule can be selected."""
        for descriptor in call.descriptors:
            self._closer.close(call.peer.person, descriptor)
        call.fail(ErrorCode.UNKNOWN_USER, f"user {call.request.subject_uid} {why} on this host")


def _repeated_members(decision: Decision) -> str:
    """Return what the answers to many a `check` have in common, encoded once (`observing.decision_texts`)."""
    fields = decision_fields(decision)
    del fields["decision_id"]
    return encode_members(fields)
