"""The audit records: what each says, and the one place that encodes them, records of decisions included.

Each record is one line of ASCII JSON without control characters, also where a path or a name has some. Field by field:
docs/audit-log.md.

Most decisions of a site say the same few things about different images. `DecisionRecords` encodes what is the same
once, and puts before it what differs: the decision's ID, the caller, the image, the times.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from json import JSONEncoder
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING

from eclctl import __version__
from eclctl.daemon.observing.decision_texts import DecisionTexts
from eclctl.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eclctl.decide.breakglass import Candidate, Standing
    from eclctl.decide.questions import Decision
    from eclctl.model import Caller

_encoder = JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def ascii_json(fields: Mapping[str, object]) -> str:
    """Return an object as one line of ASCII JSON without control characters.

    Raises:
        TypeError: a value is none that JSON has.
        ValueError: a number is not finite.
    """
    return _line(_encoder.encode(fields))


def _line(encoded: str) -> str:
    """Escape DEL, the one control character that JSON does not escape; it can only stand inside a string."""
    return encoded.replace("\x7f", "\\u007f")


def encode(record: Mapping[str, object]) -> str:
    """Return a record as a line, without its newline.

    Raises:
        AuditError: it cannot be encoded.
    """
    try:
        return ascii_json(record)
    except (TypeError, ValueError) as error:
        raise AuditError(f"cannot encode an audit record: {error}") from error


def timestamp(now: datetime) -> str:
    """Write an aware time as RFC 3339 in UTC with microseconds, for instance `2026-11-22T12:00:00.000000Z`."""
    return now.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class DecisionRecords:
    """Encodes the records of decisions. Not for several threads at once."""

    def __init__(self) -> None:
        self._repeated = DecisionTexts(lambda decision: encode(_repeated_fields(decision))[1:-1])

    def encode(self, decision: Decision, *, pid: int, method: str, seconds: float, time: str) -> str:
        """Return the audit record of a decision, one line without its newline.

        Args:
            decision: the decision, with the question that it answers.
            pid: the caller's process, as the kernel said.
            method: the method of the request.
            seconds: how long the decision took.
            time: when it was made (`timestamp`).

        Raises:
            AuditError: it cannot be encoded.
        """
        question, path = decision.question, decision.path
        caller: Caller = question.caller
        image = quoted(question.image)
        found = "null" if path is None else image if path == question.image else quoted(path)
        return _line(
            f'{{"time":"{time}","event":"decision","id":"{decision.id}","image":{image},"path":{found},'
            f'"uid":{caller.uid},"gid":{caller.gid},"person":{_person(caller)},"pid":{pid},'
            f'"role":{quoted(question.role)},"method":"{method}","ms":{seconds * 1000:.3f},'
            f"{self._repeated.of(decision)}}}"
        )


def _person(caller: Caller) -> str:
    """Return the user that a uid counts as, as JSON; null where it counts as itself, or as no single user."""
    identity = caller.identity
    return "null" if identity is None or identity.uid in {None, caller.uid} else str(identity.uid)


def _repeated_fields(decision: Decision) -> dict[str, object]:
    """Return the fields that records of many decisions have in common."""
    would, kind, assurance = decision.would, decision.kind, decision.assurance
    return {
        "decision": decision.verdict.value,
        "code": decision.code.value,
        "rule": decision.rule,
        "mode": decision.mode,
        "would": would and would.value,
        "exception": decision.outcome.exception,
        "kind": kind and kind.value,
        "signers": decision.signers,
        "assurance": assurance and assurance.value,
        "cached": decision.cached,
        "generation": decision.generation,
        "policy": decision.policy,
    }


def reload_record(*, ok: bool, generation: int, policy: str | None, errors: Sequence[str], now: datetime) -> str:
    """Make the record of one reload. `generation` and `policy` name what is in force after it, also when it failed."""
    return encode(
        {
            "time": timestamp(now),
            "event": "reload",
            "ok": ok,
            "generation": generation,
            "policy": policy,
            "errors": list(errors),
        }
    )


def start_record(*, generation: int, policy: str | None, now: datetime) -> str:
    """Make the record of the daemon's start; `policy` is None when it starts without one and denies everything."""
    return encode(
        {
            "time": timestamp(now),
            "event": "start",
            "version": __version__,
            "generation": generation,
            "policy": policy,
            "pid": os.getpid(),
        }
    )


def exception_record(candidate: Candidate, stands: Standing, *, generation: int, now: datetime) -> str:
    """Make the record of how an exception has come to stand: loaded, refused, approved, started, ended or removed."""
    found = candidate.exception
    return encode(
        {
            "time": timestamp(now),
            "event": "exception",
            "name": candidate.name,
            "state": stands.state.value,
            "why": stands.why,
            "reason": None if found is None else found.reason,
            "starts": None if found is None else timestamp(found.starts),
            "ends": None if found is None else timestamp(found.ends),
            "approvers": list(stands.approvers),
            "file": candidate.file,
            "digest": candidate.digest or None,
            "generation": generation,
        }
    )


def stop_record(*, reason: str, now: datetime) -> str:
    """Make the record of an orderly stop. A log whose last start has no stop after it tells of a crash."""
    return encode({"time": timestamp(now), "event": "stop", "reason": reason, "pid": os.getpid()})
