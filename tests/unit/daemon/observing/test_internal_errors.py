"""Internal errors: counted, the last one kept, tracebacks in the log, and not too many of these."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from eclctl.daemon.observing import log
from eclctl.daemon.observing.internal_errors import PERIOD, TRACEBACKS, InternalErrors, InternalErrorStats

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
EVIL = "/srv/a\n<0>forged\x1b[31m\u2028\udcff.sif"


def raised(error: Exception) -> Exception:
    """Return the error with a traceback."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


class Reports:
    """Internal errors with a clock that the test moves, and what they log."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.stream = io.StringIO()
        self.errors = InternalErrors(lambda: NOW, lambda: self.now)

    def setup(self, *, as_json: bool = False) -> Reports:
        """Log to the stream alone: pytest's own handler cannot pass on every character."""
        log.setup("info", json=as_json, stream=self.stream)
        return self

    def fail(self, message: str = "a bug", times: int = 1) -> None:
        for _ in range(times):
            self.errors.report(raised(KeyError(message)))

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def tracebacks(self) -> int:
        return sum("Traceback (most recent call last)" in line for line in self.lines)


@pytest.fixture
def reports() -> Iterator[Reports]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Reports()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_before_the_first_there_is_nothing_to_show(reports: Reports) -> None:
    assert reports.errors.stats() == InternalErrorStats(0, None, "", 0.0)


def test_each_is_counted_and_the_last_is_kept(reports: Reports) -> None:
    reports.fail("first")
    reports.fail("second")
    reports.now += 5.0
    assert reports.errors.stats() == InternalErrorStats(2, NOW, "KeyError: 'second'", 5.0)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_traceback_is_one_escaped_line_of_the_log(reports: Reports, *, as_json: bool) -> None:
    reports.setup(as_json=as_json).errors.report(raised(ValueError(EVIL)))
    (line,) = reports.lines
    assert all(" " <= character <= "~" for character in line)
    assert "Traceback (most recent call last)" in line
    assert "in raised" in line
    if as_json:
        found = json.loads(line)
        assert (found["level"], found["event"]) == ("error", f"internal error: ValueError: {EVIL}")
        assert found["exception"].endswith(f"ValueError: {EVIL}")


def test_what_status_shows_is_one_short_line_of_printable_ascii(reports: Reports) -> None:
    reports.setup().errors.report(ValueError(EVIL))
    text = reports.errors.stats().text
    assert text == r"ValueError: /srv/a\x0a<0>forged\x1b[31m\u2028\xff.sif"
    reports.errors.report(ValueError("x" * 100_000))
    assert len(reports.errors.stats().text) == 300


def test_an_error_that_has_no_text_is_reported_by_its_type(reports: Reports) -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    reports.setup().errors.report(BrokenError())
    assert reports.errors.stats().text == "BrokenError"
    assert len(reports.lines) == 1


def test_there_are_no_more_tracebacks_in_any_minute_than_allowed(reports: Reports) -> None:
    reports.setup()
    for _ in range(100):
        reports.fail(times=3)
        reports.now += 1.0
    assert reports.tracebacks == 2 * TRACEBACKS  # within 100 s, however the minutes are laid
    assert reports.errors.stats().count == 300


def test_after_a_minute_there_are_tracebacks_again(reports: Reports) -> None:
    reports.setup().fail(times=TRACEBACKS + 5)
    reports.now += PERIOD - 0.001
    reports.fail()
    assert reports.tracebacks == TRACEBACKS
    reports.now += 0.001
    reports.fail()
    assert reports.tracebacks == TRACEBACKS + 1


def test_one_line_counts_what_was_left_out(reports: Reports) -> None:
    reports.setup().fail(times=TRACEBACKS + 190)
    assert len(reports.lines) == TRACEBACKS
    reports.errors.tell_left_out()
    assert "190 more internal errors" in reports.lines[-1]
    reports.errors.tell_left_out()
    assert len(reports.lines) == TRACEBACKS + 1


def test_threads_lose_no_count(reports: Reports) -> None:
    reports.setup()
    threads = [threading.Thread(target=reports.fail, kwargs={"times": 500}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reports.errors.stats().count == 2000
    assert reports.tracebacks == TRACEBACKS
    reports.errors.tell_left_out()
    assert f"{2000 - TRACEBACKS} more" in reports.lines[-1]
