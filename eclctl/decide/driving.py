"""The one driver of a question's stages, for callers that may wait.

The daemon's event loop may not wait: `daemon.decisions.checks` takes the same stages with threads and callbacks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from eclctl.decide.engine import Engine
from eclctl.decide.facts import Facts
from eclctl.decide.questions import Decision, Lookup, Pending, Question, StatusNeeded
from eclctl.trust.revocation import Link


def drive(
    engine: Engine,
    question: Question,
    ask_status: Callable[[Sequence[Link]], None] | None,
    clock: Callable[[], datetime],
    *,
    look_up: Callable[[Lookup], Facts] | None = None,
) -> Decision:
    """Take a question through its stages to a decision, under the snapshot that the engine has now. Blocks.

    Args:
        engine: decides.
        question: what is asked.
        ask_status: asks about certificates and returns when what was answered is in `engine.statuses`; None leaves it
            at what is known.
        clock: tells the time, aware and in UTC, before each step.
        look_up: finds out facts in place of `engine.look_up`.
    """
    snapshot, look_up = engine.snapshot, look_up or engine.look_up
    answer: Decision | Pending = engine.begin(
        question, snapshot, clock(), anywhere=True, status_asked=ask_status is None
    )
    while isinstance(answer, Pending):
        if isinstance(answer, Lookup):
            answer = engine.conclude(answer, look_up(answer), clock())
            continue
        status_asked = answer.status_asked
        if isinstance(answer, StatusNeeded):
            if ask_status is not None:
                ask_status(answer.links)
            status_asked = True
        answer = engine.begin(question, snapshot, clock(), anywhere=True, status_asked=status_asked)
    return answer
