"""What the daemon says of exceptions: one record for each change, counts by state, at the instant of a start or end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from eclctl.daemon.observing.audit_log import AuditLog
from eclctl.daemon.observing.breakglass import INTERVAL, ExceptionWatch, _delay
from eclctl.daemon.observing.metrics import Metrics
from eclctl.decide.breakglass import NO_EXCEPTIONS
from tests.helpers.breaking import ENDS, HALF, STARTS, BreakGlass
from tests.helpers.support import NOW


class Told:
    """A watch over a site, what it wrote and what it counted."""

    def __init__(self, root: Path) -> None:
        (root / "site").mkdir(mode=0o755)
        self.site = BreakGlass(root / "site")
        self.path = root / "audit.jsonl"
        self.metrics = Metrics()
        self.log = AuditLog(str(self.path))
        self.now = NOW

    def look(self, *times: datetime) -> list[tuple[str, str]]:
        """Look at each of these times; return what was recorded meanwhile, as names and states."""
        before = len(self.records())

        async def run() -> None:
            self.watch = getattr(self, "watch", None) or ExceptionWatch(
                self.site.engine, self.log, self.metrics, lambda: self.now
            )
            for time in times or (self.now,):
                self.now = time
                self.watch.refresh()
            self.watch.stop()

        asyncio.run(run())
        return [(record["name"], record["state"]) for record in self.records()[before:]]

    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def counted(self, name: str) -> list[str]:
        text = generate_latest(self.metrics.registry).decode()
        return [line for line in text.splitlines() if line.startswith(name) and not line.endswith(" 0.0")]


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    made = Told(tmp_path)
    yield made
    made.log.close()
    made.site.close()


def test_a_change_is_recorded_once(told: Told) -> None:
    path = told.site.grant("drain", told.site.image("a.sif", HALF), by=["scanner"])
    assert told.look(NOW, NOW) == [("drain", "unapproved")]
    told.site.sign(path, "approver")
    told.site.reload()
    assert told.look(NOW, NOW) == [("drain", "active")]
    assert told.look(ENDS - timedelta(seconds=1), ENDS, ENDS) == [("drain", "ended")]


def test_a_record_says_who_approved_what_and_why(told: Told) -> None:
    path = told.site.grant("drain", told.site.image("a.sif", HALF))
    told.look()
    (record,) = told.records()
    assert record["approvers"] == ["scanner", "approver"]
    assert record["reason"] == "the scanner is down and node 12 must be drained"
    assert (record["event"], record["file"], record["generation"]) == ("exception", str(path), 2)
    assert (record["starts"], record["ends"]) == ("2026-11-23T11:00:00.000000Z", "2026-11-24T12:00:00.000000Z")
    assert record["digest"].startswith("sha256:")


def test_one_that_starts_later_is_recorded_when_it_starts(told: Told) -> None:
    told.site.now = STARTS
    told.site.grant("drain", told.site.image("a.sif", HALF), signed=STARTS - timedelta(hours=2))
    assert told.look(STARTS - timedelta(seconds=1), STARTS) == [("drain", "waiting"), ("drain", "active")]


def test_one_that_is_refused_is_recorded_with_what_is_wrong(told: Told) -> None:
    (told.site.folder / "oops.yaml").write_text("version: 1\nexceptoin: oops\n")
    told.site.reload()
    assert told.look() == [("oops", "refused")]
    assert "unknown key 'exceptoin'" in told.records()[0]["why"]


def test_one_that_is_removed_or_changed_is_recorded(told: Told) -> None:
    path = told.site.grant("drain", told.site.image("a.sif", HALF))
    told.look()
    path.write_text(path.read_text() + "# changed\n")
    told.site.reload()
    assert told.look() == [("drain", "unapproved"), ("drain", "removed")]
    path.unlink()
    told.site.reload()
    assert told.look() == [("drain", "removed")]


def test_a_clock_that_is_set_back_ends_nothing_twice(told: Told) -> None:
    told.site.grant("drain", told.site.image("a.sif", HALF))
    assert told.look(NOW, ENDS, NOW) == [("drain", "active"), ("drain", "ended")]


def test_exceptions_are_counted_by_state(told: Told) -> None:
    told.site.grant("one", told.site.image("a.sif", HALF))
    told.site.grant("two", f"{told.site.library}/*", by=[])
    told.look()
    assert told.counted("eclctl_exceptions") == [
        'eclctl_exceptions{state="active"} 1.0',
        'eclctl_exceptions{state="unapproved"} 1.0',
    ]


def test_each_use_is_counted(told: Told) -> None:
    image = told.site.image("a.sif", HALF)
    told.site.grant("drain", image)
    for _ in range(2):
        told.metrics.decision(told.site.ask(image), 0.001)
    told.site.now = ENDS
    told.metrics.decision(told.site.ask(image), 0.001)
    assert told.counted("eclctl_exception_allows") == ["eclctl_exception_allows_total 2.0"]


def test_what_the_log_did_not_take_is_recorded_later(told: Told) -> None:
    told.site.grant("drain", told.site.image("a.sif", HALF))
    told.log.close()
    told.path.rename(told.path.with_name("elsewhere"))
    told.path.mkdir()
    asyncio.run(_refresh(told))
    told.path.rmdir()
    told.path.with_name("elsewhere").rename(told.path)
    assert told.look() == [("drain", "active")]


async def _refresh(told: Told) -> None:
    told.watch = ExceptionWatch(told.site.engine, told.log, told.metrics, lambda: told.now)
    told.watch.refresh()
    told.watch.stop()


def test_it_looks_again_at_the_next_start_or_end(told: Told) -> None:
    assert _delay(NO_EXCEPTIONS, NOW) == INTERVAL
    told.site.grant("drain", told.site.image("a.sif", HALF))
    exceptions = told.site.engine.snapshot.exceptions
    assert _delay(exceptions, NOW) == INTERVAL
    assert _delay(exceptions, ENDS - timedelta(seconds=7)) == pytest.approx(7)
    assert _delay(exceptions, ENDS) == INTERVAL
