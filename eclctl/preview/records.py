"""Recorded decisions as an audit log has them, added up by who asked for what: a log of any length in bounded memory.

Of a decision, path, user, group and role are asked again later. What else decided it is not in the record (the user's
other groups, the time, the file as it was then), and has to be taken as it is now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

__all__ = ["MOST_QUESTIONS", "History", "Launches", "RecordedCaller"]

MOST_QUESTIONS = 500_000
"""Distinct questions that are kept. Decisions on further ones are counted, and not asked again."""

_LAUNCHES = frozenset({"check", "check_all"})
_HIGHEST_ID = 2**32 - 1
_PATH_MAX = 4096
_ROLE_MAX = 256


class RecordedCaller(NamedTuple):
    """Who asked, as a record has it, and what the image was to be."""

    uid: int
    gid: int
    role: str


@dataclass(slots=True)
class Launches:
    """Decisions on one question: how many there were, the time of the newest (RFC 3339, UTC), and its verdict."""

    count: int
    last: str
    allowed: bool


class _Record(NamedTuple):
    path: str | None
    asker: RecordedCaller
    time: datetime
    written: str
    allowed: bool


@dataclass(slots=True)
class History:
    """What an audit log holds.

    `questions` is by path and asker. Of what cannot be asked again, there is a count: `unplaced` decisions name no
    path (the name that was asked about did not lead to the file), `left_out` are beyond `MOST_QUESTIONS`, and `broken`
    lines are no records at all, such as the torn end that a crash leaves.
    """

    questions: dict[str, dict[RecordedCaller, Launches]] = field(default_factory=dict)
    decisions: int = 0
    unplaced: int = 0
    left_out: int = 0
    broken: int = 0
    first: str | None = None
    last: str | None = None
    most: int = MOST_QUESTIONS
    _kept: int = 0

    def read(self, lines: Iterable[bytes], since: datetime | None = None) -> None:
        """Add the decisions of a log, one JSON object a line; older ones than `since`, an aware time, are left out."""
        for line in lines:
            record = self._record(line)
            if record is None or (since is not None and record.time < since):
                continue
            if record.path is None:
                self.unplaced += 1
            else:
                self._add(record, record.path)

    def askers(self, path: str) -> Iterator[tuple[RecordedCaller, Launches]]:
        """Yield who asked about an image, and how often."""
        yield from self.questions.get(path, {}).items()

    def _record(self, line: bytes) -> _Record | None:
        """Return the decision in a line; None where there is none that launched something."""
        try:
            found = json.loads(line)
            if found["event"] != "decision" or found["method"] not in _LAUNCHES:
                return None
            time = datetime.fromisoformat(found["time"])
            if time.tzinfo is None:
                raise ValueError("a time without a zone")  # noqa: TRY301 - it is no record
            return self._placed(found, time)
        except (ValueError, TypeError, KeyError, RecursionError):
            self.broken += bool(line.strip())
            return None

    def _placed(self, found: dict[str, Any], time: datetime) -> _Record:
        path, role = found["path"], found["role"]
        asker = RecordedCaller(_id(found["uid"]), _id(found["gid"]), role)
        if path is not None:
            _check_path(path)
        if not isinstance(role, str) or len(role) > _ROLE_MAX:
            raise ValueError("not a role")
        return _Record(path, asker, time, found["time"], found["decision"] == "allow")

    def _add(self, record: _Record, path: str) -> None:
        self.decisions += 1
        self.first = record.written if self.first is None else min(self.first, record.written)
        self.last = record.written if self.last is None else max(self.last, record.written)
        known = self.questions.get(path, {}).get(record.asker)
        if known is not None:
            known.count += 1
            if record.written >= known.last:
                known.last, known.allowed = record.written, record.allowed
        elif self._kept >= self.most:
            self.left_out += 1
        else:
            self._kept += 1
            launches = Launches(1, record.written, record.allowed)
            self.questions.setdefault(path, {})[record.asker] = launches


def _check_path(path: object) -> None:
    if not isinstance(path, str) or not path.startswith("/") or len(path) > _PATH_MAX or "\0" in path:
        raise ValueError("not an absolute path")
    os.fsencode(path)  # no file has half of a surrogate pair in its name


def _id(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _HIGHEST_ID:
        raise ValueError("not the number of a user or group")
    return value
