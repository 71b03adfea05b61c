"""Recorded decisions as an audit log has them, added up by who asked for what: a log of any length in bounded memory.

Of a decision, path, user, group and role are asked again later. What else decided it is not in the record (the user's
other groups, the time, the file as it was then), and has to be taken as it is now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from eclctl.dataclass import dataclass, field

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
            try:
                found = json.loads(line)
                if found["event"] != "decision" or found["method"] not in _LAUNCHES:
                    continue
                path, time, asker = _path(found["path"]), _time(found["time"]), _asker(found)
                allowed = found["decision"] == "allow"
            except (ValueError, TypeError, KeyError, RecursionError):
                self.broken += bool(line.strip())
                continue
            if since is not None and time < since:
                continue
            if path is None:
                self.unplaced += 1
            else:
                self._add(path, asker, found["time"], allowed=allowed)

    def askers(self, path: str) -> Iterator[tuple[RecordedCaller, Launches]]:
        """Yield who asked about an image, and how often."""
        yield from self.questions.get(path, {}).items()

    def _add(self, path: str, asker: RecordedCaller, time: str, *, allowed: bool) -> None:
        self.decisions += 1
        self.first = time if self.first is None else min(self.first, time)
        self.last = time if self.last is None else max(self.last, time)
        known = self.questions.get(path, {}).get(asker)
        if known is not None:
            known.count += 1
            if time >= known.last:
                known.last, known.allowed = time, allowed
        elif self._kept >= self.most:
            self.left_out += 1
        else:
            self._kept += 1
            self.questions.setdefault(path, {})[asker] = Launches(1, time, allowed)


def _path(path: object) -> str | None:
    if path is None:
        return None
    if not isinstance(path, str) or not path.startswith("/") or len(path) > _PATH_MAX or "\0" in path:
        raise ValueError("not an absolute path")
    os.fsencode(path)  # no file has half of a surrogate pair in its name
    return path


def _time(written: str) -> datetime:
    time = datetime.fromisoformat(written)
    if time.tzinfo is None:
        raise ValueError("a time without a zone")
    return time


def _asker(found: dict[str, Any]) -> RecordedCaller:
    role = found["role"]
    if not isinstance(role, str) or len(role) > _ROLE_MAX:
        raise ValueError("not a role")
    return RecordedCaller(_id(found["uid"]), _id(found["gid"]), role)


def _id(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _HIGHEST_ID:
        raise ValueError("not the number of a user or group")
    return value
