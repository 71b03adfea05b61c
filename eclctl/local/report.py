"""A report without a daemon: the watched directories are verified here, and the audit log is read."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eclctl import __version__
from eclctl.client import NoAnswerError
from eclctl.errors import ConfigError
from eclctl.files.walk import walk
from eclctl.local.engine import Responders, load_site, opened_engine
from eclctl.report.answers import seconds
from eclctl.report.attention import attention
from eclctl.report.keys import listed_keys, turning
from eclctl.report.rule_counts import NO_COUNTS
from eclctl.report.shapes import (
    exception_fields,
    file_fields,
    image_fields,
    key_fields,
    rule_fields,
    survey_fields,
    turning_fields,
)
from eclctl.report.survey import Survey, Tally, image_report
from eclctl.text import printable
from eclctl.trust.keyring import needed
from eclctl.trust.revocation import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eclctl.config.settings import Settings, Watch
    from eclctl.decide.engine import Engine
    from eclctl.decide.snapshot import Snapshot
    from eclctl.policy.language import Rule

_TAIL: Final = 8 * 1024 * 1024  # bytes of the audit log that are read
_MOST_UNREAD: Final = 1000


def report_here(config: str, images: int, decisions: int, warn: Callable[[str], None]) -> dict[str, Any]:
    """Make a report of what a configuration names, in the shape of `cli.report.ask`.

    At most `images` files are verified. `warn` is called with a sentence when the audit log cannot be read.

    Raises:
        NoAnswerError: the configuration or its policy does not load.
    """
    try:
        settings, snapshot = load_site(config)
    except ConfigError as error:
        raise NoAnswerError("config", str(error)) from error
    with opened_engine(settings, snapshot, max(1, images)) as engine:
        responders = engine.statuses
        assert isinstance(responders, Responders)
        responders.ask(needed(snapshot.store, datetime.now(UTC)))
        now = datetime.now(UTC)
        unread, left_out = _verify(engine, settings.watch, images)
        report = _Report(settings, snapshot, engine, responders, now).made()
    log = settings.audit_path
    return report | {
        "from": f"{os.path.abspath(config)}, without a daemon",
        "images_left_out": left_out,
        "unread": unread,
        "decisions": last_decisions(log, decisions, warn) if log is not None else [],
        "decisions_from": log,
    }


def _verify(engine: Engine, watches: Sequence[Watch], most: int) -> tuple[list[dict[str, str]], int]:
    """Have the watched files verified; return what could not be judged, and how many were left out."""
    unread: list[dict[str, str]] = []
    count = 0
    for path in _files(watches):
        count += 1
        if count <= most:
            found = engine.prefetch(path)
            if found.status in {"failed", "not-kept"} and len(unread) < _MOST_UNREAD:
                unread.append({"path": path, "reason": found.reason})
    return unread, max(0, count - most)


class _Report(NamedTuple):
    """What is judged at `now`, when all files were verified and responders were asked."""

    settings: Settings
    snapshot: Snapshot
    engine: Engine
    responders: Responders
    now: datetime

    def made(self) -> dict[str, Any]:
        kept = sorted(self.engine.cache.kept(), key=lambda each: each.path or "")
        keys = tuple(listed_keys(self.snapshot, self.engine.statuses, self.now))
        survey = Survey(self.snapshot, self.engine.statuses, turning(keys, self.now), self.now)
        survey.add(kept)
        reports = (image_report(self.snapshot, each, self.engine.statuses, self.now) for each in kept)
        return {
            "v": 1,
            "at": seconds(self.now),
            "host": socket.gethostname(),
            "summary": self._summary(survey, len(kept)),
            "rules": [rule_fields(rule, NO_COUNTS, survey.by_rule.get(rule.name, Tally())) for rule in self._rules()],
            "keys": [key_fields(key, self.now) for key in keys],
            "files": [file_fields(source) for source in self.snapshot.sources],
            "images": [image_fields(report) for report in reports if report is not None],
        }

    def _rules(self) -> Sequence[Rule]:
        return () if self.snapshot.policy is None else self.snapshot.policy.rules

    def _summary(self, survey: Survey, kept: int) -> dict[str, Any]:
        """What `status` would say, as far as there is anything without a daemon."""
        counted = survey_fields(survey, kept=kept, counted=kept)
        found = self.snapshot.exceptions.candidates
        summary: dict[str, Any] = {
            "version": __version__,
            "policy_loaded": True,
            "generation": None,
            "policy": self.snapshot.digest,
            "loaded_at": None,
            "last_reload": None,
            "unrecorded": 0,
            "watch": {"trees": []},
            "audit": self.settings.audit_path,
            "images": counted | {"gone": 0, "complete": True},
            "expiring": turning_fields(survey),
            "ocsp": {"statuses": self._statuses()},
            "rules": {"since": None, "total": len(self._rules()), "listed": [], "no_rule": dict(NO_COUNTS)},
            "exceptions": [exception_fields(each, self.snapshot, self.now) for each in found],
        }
        return summary | {"attention": attention(summary)}

    def _statuses(self) -> dict[str, int]:
        known = [self.responders.known(link, self.now) for link in needed(self.snapshot.store, self.now)]
        found = [None if each is None else each.status for each in known]
        return {status.value: found.count(status) for status in Status} | {"none": found.count(None)}


def _files(watches: Sequence[Watch]) -> Iterator[str]:
    for watch in watches:
        root = os.path.realpath(watch.path)
        for found in walk(root, recursive=watch.recursive):
            yield from (path for path, _ in found)


def last_decisions(path: str, limit: int, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return the newest decisions of an audit log, newest first; `warn` is told what cannot be read.

    Only the end of the file is read. A line that is no record, as a crash can leave one, is passed over.
    """
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            lines = file.read(_TAIL).split(b"\n")
    except OSError as error:
        warn(f"{printable(path)}: {error.strerror}; there are no decisions in it")
        return []
    records = (record for line in reversed(lines) if (record := _record(line)) is not None)
    return [record for record, _ in zip(records, range(limit), strict=False)]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and record.get("event") == "decision" else None
