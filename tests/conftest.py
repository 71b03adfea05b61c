"""Runs for every test: nothing is skipped unseen where everything was asked for."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

settings.register_profile("eclctl", deadline=None)  # what is timed is timed by benchmarks
settings.load_profile("eclctl")


def pytest_configure() -> None:
    """What tests make is writable by its owner alone, as a trusted path must be, whatever the user's own umask is."""
    os.umask(0o022)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ECLCTL_TEST_EVERYTHING set, a test that is skipped because something is missing has failed."""
    report = yield
    if report.skipped and os.environ.get("ECLCTL_TEST_EVERYTHING") and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        if "needs " in reason:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: nothing may be skipped here: {reason}"
    return report
