"""What a decision says, as JSON: in the answer to `check`, and in the audit log.

Most decisions of a site say the same few things about different images. What is the same is rendered once, by the
encoders of the protocol and of the audit log; what differs (the decision's ID, the caller, the image, the times) is put
before it, each value escaped on its own. DEL is the one control character that JSON does not escape; it is
replaced in the whole line, where it can only stand inside a string.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, NamedTuple

from eclctl.daemon.observing import audit
from eclctl.daemon.sockets.protocol import VERSION, encode_members
from eclctl.report.answers import decision_fields

if TYPE_CHECKING:
    from eclctl.daemon.sockets.protocol import Request
    from eclctl.decide.questions import Decision
    from eclctl.model import Caller, Outcome

_MAX_REMEMBERED = 1024


class Texts(NamedTuple):
    """The members of two JSON objects, without braces: an answer's result but its ID, and what a record repeats."""

    answer: str
    record: str


class Renderer:
    """Renders decisions. Not for several threads at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bool, int, int, int], tuple[Outcome, Texts]] = {}

    def texts(self, decision: Decision) -> Texts:
        """Return what every decision says that says the same."""
        outcome = decision.outcome
        # An outcome is known by identity while it is remembered; equal ones of other images are mostly one object.
        said = (id(outcome), decision.cached, decision.generation, id(decision.kind), id(decision.assurance))
        known = self._known.get(said)
        if known is None:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            known = self._known[said] = (outcome, _rendered(decision))
        return known[1]

    def answer(self, request: Request, decision: Decision) -> bytes:
        """Return the answer line to a `check`, ASCII, with its newline."""
        members = self.texts(decision).answer
        head = f'{{"v":{VERSION},"id":{quoted(request.id)},"result":{{"decision_id":"{decision.id}",'
        return f"{head}{members}}}}}\n".replace("\x7f", "\\u007f").encode("ascii")

    def record(self, decision: Decision, *, pid: int, method: str, seconds: float, time: str) -> str:
        """Return the audit record of a decision, one line without its newline.

        `pid` is the caller's process as the kernel said, `method` the request's, `seconds` how long the decision took,
        and `time` when it was made (`audit.timestamp`). Field by field: docs/audit-log.md.
        """
        question, path = decision.question, decision.path
        caller: Caller = question.caller
        image = quoted(question.image)
        found = "null" if path is None else image if path == question.image else quoted(path)
        line = (
            f'{{"time":"{time}","event":"decision","id":"{decision.id}","image":{image},"path":{found},'
            f'"uid":{caller.uid},"gid":{caller.gid},"person":{_person(caller)},"pid":{pid},"role":{quoted(question.role)},"method":"{method}",'
            f'"ms":{seconds * 1000:.3f},{self.texts(decision).record}}}'
        )
        return line.replace("\x7f", "\\u007f")


def _person(caller: Caller) -> str:
    """Return the user that a uid counts as, as JSON; null where it counts as itself, or as no one user."""
    identity = caller.identity
    return "null" if identity is None or identity.uid in {None, caller.uid} else str(identity.uid)


def _rendered(decision: Decision) -> Texts:
    fields = decision_fields(decision)
    del fields["decision_id"]
    return Texts(encode_members(fields), audit.encode_members(audit.decision_fields(decision)))
