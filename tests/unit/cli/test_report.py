"""`eclctl report`: what it refuses, how it writes, and what it reads of an audit log."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from eclctl.cli import report
from eclctl.client import NoAnswerError
from eclctl.local.report import last_decisions


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--html", "x", "--config", "a", "--socket", "b"],
        ["--json", "--images", "-1"],
        ["--json", "--decisions", "501"],
        ["--json", "--decisions", "-1"],
    ],
)
def test_a_wrong_command_line_is_two_and_points_to_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        report.run(arguments)
    assert end.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_the_newest_decisions_are_read_from_the_end_and_other_lines_passed_over(tmp_path: Path) -> None:
    said: list[str] = []
    log = tmp_path / "audit.jsonl"
    records = [{"event": "decision", "id": str(number)} for number in range(10)]
    lines = [json.dumps(record).encode() for record in records]
    lines[8:8] = [b'{"event":"reload"}', b'{"event":"deci', b"\xff\xfe", b"[1]", b"[" * 100_000]
    log.write_bytes(b"\n".join(lines) + b"\n")
    assert [record["id"] for record in last_decisions(str(log), 3, said.append)] == ["9", "8", "7"]
    assert len(last_decisions(str(log), 500, said.append)) == 10
    assert last_decisions(str(log), 0, said.append) == []
    assert said == []


def test_a_log_that_cannot_be_read_is_said_and_is_no_error(tmp_path: Path) -> None:
    said: list[str] = []
    assert last_decisions(str(tmp_path / "missing"), 3, said.append) == []
    assert ["missing" in sentence for sentence in said] == [True]


def test_without_a_daemon_there_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.run(["--json", "--socket", str(tmp_path / "none")]) == 3
    assert report.run(["--json", "--config", str(tmp_path / "none")]) == 3
    assert capsys.readouterr().err.count("eclctl report: ") == 2


@contextlib.contextmanager
def daemon(path: Path, answer: Callable[[int, dict[str, Any]], dict[str, Any]]) -> Iterator[str]:
    """Something that answers each request on a socket, given its number, by `answer`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as lines:
                for number, line in enumerate(lines):
                    request = json.loads(line)
                    result = answer(number, request)
                    lines.write(json.dumps({"v": 1, "id": request["id"], "result": result}).encode() + b"\n")
                    lines.flush()

        thread = threading.Thread(target=serve)
        thread.start()
        yield str(path)
        thread.join(20)


def answered(request: dict[str, Any], generation: int) -> dict[str, Any]:
    """What a daemon under one generation answers; each part is one item that names the generation."""
    if request["method"] == "recent":
        return {"decisions": []}
    if request["parameters"]["part"] == "summary":
        return {"at": "", "host": "", "audit": None, "images": None, "generation": generation}
    return {"generation": generation, "items": [generation], "next": None}


def test_a_report_that_another_policy_comes_into_is_begun_again(tmp_path: Path) -> None:
    with daemon(tmp_path / "s", lambda number, request: answered(request, 1 if number < 3 else 2)) as path:
        made = report.ask_daemon(path, 20.0, 10, 10)
    assert made["summary"]["generation"] == 2
    assert [made[part] for part in ("images", "rules", "keys", "files")] == [[2]] * 4


def test_a_policy_that_never_stays_makes_no_report(tmp_path: Path) -> None:
    with daemon(tmp_path / "s", answered_anew) as path, pytest.raises(NoAnswerError, match="again and again"):
        report.ask_daemon(path, 20.0, 10, 10)


def answered_anew(number: int, request: dict[str, Any]) -> dict[str, Any]:
    return answered(request, number)


def test_of_pages_of_images_no_more_are_asked_for_than_are_wanted(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(_: int, request: dict[str, Any]) -> dict[str, Any]:
        result = answered(request, 1)
        if request["parameters"].get("part") == "images":
            asked.append(request["parameters"]["after"])
            result |= {"items": [len(asked)] * 3, "next": str(len(asked))}
        return result

    with daemon(tmp_path / "s", answer) as path:
        assert report.ask_daemon(path, 20.0, 5, 0)["images"] == [1, 1, 1, 2, 2]
    assert asked == ["", "1"]
