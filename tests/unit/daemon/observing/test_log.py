"""The operational log: one escaped line for each record, of any module."""

from __future__ import annotations

import io
import json
import logging
import os
from typing import TYPE_CHECKING

import pytest

from eclctl.daemon.observing import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVIL = "a\n\x1b[31m\udcff é\x7f\u2028"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_text_line_escapes_what_comes_from_outside() -> None:
    stream = io.StringIO()
    log.setup("info", stream=stream)
    logging.getLogger("x").warning(EVIL, extra={"path": EVIL})
    logging.getLogger("library").warning("%s", EVIL)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(" " <= character <= "~" for line in lines for character in line)
    assert "\\x1b[31m" in lines[0]


def test_a_json_line_escapes_what_comes_from_outside() -> None:
    stream = io.StringIO()
    log.setup("info", json=True, stream=stream)
    logging.getLogger("x").warning("seen", extra={"path": EVIL, "count": 3})
    (line,) = stream.getvalue().splitlines()
    assert all(" " <= character <= "~" for character in line)
    found = json.loads(line)
    assert (found["event"], found["path"], found["count"], found["level"]) == ("seen", EVIL, 3, "warning")


def test_what_is_below_the_level_is_left_out() -> None:
    stream = io.StringIO()
    log.setup("WARNING", stream=stream)
    logging.getLogger("library").info("quiet")
    assert stream.getvalue() == ""


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        log.setup("loud", stream=io.StringIO())


def test_an_exception_stays_on_its_line() -> None:
    stream = io.StringIO()
    log.setup(stream=stream)
    try:
        int(EVIL)
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert "ValueError" in line


def test_only_the_journal_gets_priorities(tmp_path: Path) -> None:
    """A child of a service inherits JOURNAL_STREAM without writing to the journal."""
    with (tmp_path / "journal").open("w+") as journal, (tmp_path / "other").open("w+") as other:
        status = os.fstat(journal.fileno())
        for stream in (journal, other):
            log.setup(stream=stream, environment={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
            logging.getLogger("x").error("bad")
            stream.seek(0)
        assert journal.read().startswith("<3>")
        assert not other.read().startswith("<")


def test_values_can_be_told_apart() -> None:
    assert log.render_line(None, "", {"event": "e", "a": 'x y="1"', "b": ""}) == 'e a="x y=\\"1\\"" b=""'
