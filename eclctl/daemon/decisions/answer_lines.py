"""The answer line to a `check`. What many answers have in common is encoded once (`observing.decision_texts`)."""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING

from eclctl.daemon.observing.decision_texts import DecisionTexts
from eclctl.daemon.sockets.protocol import VERSION, encode_members
from eclctl.report.answers import decision_fields

if TYPE_CHECKING:
    from eclctl.daemon.sockets.protocol import Request
    from eclctl.decide.questions import Decision


class AnswerLines:
    """Encodes answers. Not for several threads at once."""

    def __init__(self) -> None:
        self._repeated = DecisionTexts(_repeated_members)

    def encode(self, request: Request, decision: Decision) -> bytes:
        """Return the answer line to a `check`, ASCII, with its newline."""
        head = f'{{"v":{VERSION},"id":{quoted(request.id)},"result":{{"decision_id":"{decision.id}",'
        # DEL is the one control character that JSON does not escape; it can only stand inside a string.
        return f"{head}{self._repeated.of(decision)}}}}}\n".replace("\x7f", "\\u007f").encode("ascii")


def _repeated_members(decision: Decision) -> str:
    fields = decision_fields(decision)
    del fields["decision_id"]
    return encode_members(fields)
