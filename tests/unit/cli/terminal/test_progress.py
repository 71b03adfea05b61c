"""The progress bar is shown at a terminal only."""

from __future__ import annotations

import io
import sys

import pytest

from eclctl.cli.terminal.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_bytes_and_their_rate_and_is_clean_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar("signing", 3 << 20) as advance:
        assert advance is not None
        advance(1 << 20)
        advance(2 << 20)
    shown = terminal.getvalue()
    assert "signing" in shown
    assert "3.00M" in shown
    assert "B/s" in shown
    assert shown.endswith("\r")


def test_nothing_is_printed_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("signing", 10) as advance:
        assert advance is None
    assert capsys.readouterr() == ("", "")


def test_a_process_without_standard_error_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar("signing", 10) as advance:
        assert advance is None
