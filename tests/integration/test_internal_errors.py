"""A real daemon with a bug in it: every deny for it is counted, and the log and `status` say what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from eclctl.cli.entry import main
from tests.helpers.site import APPROVED, Site

BUG = """
import sys
from eclctl.decide import engine
def judge_with_a_bug(*_, **__):
    raise ZeroDivisionError("a bug\\n\\x1b[31m\\u2028")
engine.judge_image = judge_with_a_bug
from eclctl.cli.entry import main
sys.exit(main())
"""
ASKED = 25


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr("tests.helpers.site.ECLCTL", [sys.executable, "-c", BUG])
    made = Site()
    try:
        yield made.start()
    finally:
        made.close()


def test_status_and_log_tell_of_a_bug_that_denies(broken: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert broken.order("status")["internal_errors"] == {"count": 0, "last": None}
    for _ in range(ASKED):
        answer = broken.check(APPROVED)
        assert (answer["decision"], answer["code"]) == ("deny", "internal-error")
        assert "ZeroDivisionError" in answer["reason"]
    status = broken.order("status")
    found = status["internal_errors"]
    assert found["count"] == ASKED
    assert found["last"]["error"] == r"ZeroDivisionError: a bug\x0a\x1b[31m\u2028"
    (attention,) = [each for each in status["attention"] if each["code"] == "internal-errors"]
    assert f"{ASKED} internal errors since the start" in attention["message"]
    sys_argv = ["eclctl", "status", "--socket", broken.admin_socket]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", sys_argv)
        main()
    page = capsys.readouterr().out
    assert "25 internal errors since the start" in page
    assert "errors      25 internal errors, the last at " in page
    assert broken.stop() == 0
    lines = [line for line in broken.log.splitlines() if "Traceback (most recent call last)" in line]
    assert len(lines) == 10
    assert all("judge_with_a_bug" in line and line.isascii() and line.isprintable() for line in lines)
    assert "15 more internal errors" in broken.log


def test_the_traceback_is_in_a_log_of_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tests.helpers.site.ECLCTL", [sys.executable, "-c", "import sys; sys.argv.append('--log-json')" + BUG]
    )
    site = Site()
    try:
        site.start()
        assert site.check(APPROVED)["code"] == "internal-error"
        site.stop()
        (record,) = [each for each in map(json.loads, site.log.splitlines()) if "exception" in each]
        assert "judge_with_a_bug" in record["exception"]
        assert record["level"] == "error"
    finally:
        site.close()
