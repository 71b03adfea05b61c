"""The audit log: whole lines, no lost records, nothing unescaped, failures that raise."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eclctl.daemon.lifecycle.service import _make_log_directory
from eclctl.daemon.observing import audit_records
from eclctl.daemon.observing.audit_log import AuditLog
from eclctl.decide.questions import Decision, Question
from eclctl.errors import AuditError
from eclctl.model import Caller, Code, Outcome
from eclctl.terms import Assurance, Kind
from tests.helpers.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 22, 12, 0, 0, 25, tzinfo=UTC)


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def decision(**changes: object) -> Decision:
    values: dict[str, object] = {
        "id": "d-1",
        "image": "/srv/a.sif",
        "role": "rootfs",
        "code": Code.PERMISSIVE,
        "rule": "production",
        "mode": "permissive",
        "would": Code.REQUIREMENTS_NOT_MET,
        "signers": ("ci", "alice"),
        "kind": Kind.SIF,
        "path": "/srv/a.sif",
        "assurance": Assurance.TRUSTED_PATH,
        "cached": True,
        "generation": 4,
        "policy": "sha256:00",
    }
    found = values | changes

    def some(*names: str) -> dict[str, Any]:
        return {name: found[name] for name in names}

    question = Question(caller=Caller(1000, 100, frozenset({100})), **some("image", "role"))
    outcome = Outcome(reason="a reason", **some("code", "rule", "mode", "would", "signers"))
    rest = some("id", "kind", "path", "assurance", "cached", "generation", "policy")
    return Decision(question=question, outcome=outcome, **rest)


def record(**changes: object) -> str:
    time = audit_records.timestamp(NOW)
    return audit_records.DecisionRecords().encode(
        decision(**changes), pid=77, method="check", seconds=0.0000314159, time=time
    )


def encoded(*records: dict[str, object]) -> list[str]:
    return [audit_records.encode(each) for each in records]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("ascii").splitlines()]


def test_a_decision_becomes_one_line_with_every_field(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit.jsonl"))
    log.write([record()])
    assert lines(tmp_path / "audit.jsonl") == [
        {
            "time": "2026-11-22T12:00:00.000025Z",
            "event": "decision",
            "id": "d-1",
            "decision": "allow",
            "code": "permissive",
            "image": "/srv/a.sif",
            "path": "/srv/a.sif",
            "rule": "production",
            "mode": "permissive",
            "would": "requirements-not-met",
            "exception": None,
            "kind": "sif",
            "signers": ["ci", "alice"],
            "assurance": "trusted-path",
            "cached": True,
            "generation": 4,
            "policy": "sha256:00",
            "uid": 1000,
            "gid": 100,
            "person": None,
            "pid": 77,
            "role": "rootfs",
            "method": "check",
            "ms": 0.031,
        }
    ]


def test_what_is_not_known_is_null() -> None:
    made = json.loads(record(would=None, kind=None, assurance=None, rule=None, path=None, policy=None))
    assert [made[key] for key in ("would", "kind", "assurance", "rule", "path", "policy")] == [None] * 6


def test_times_of_any_zone_are_written_in_utc() -> None:
    assert audit_records.timestamp(NOW.astimezone(timezone(timedelta(hours=5)))) == "2026-11-22T12:00:00.000025Z"


def test_reload_start_and_stop_have_records_of_their_own(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit.jsonl"))
    log.write(
        [
            audit_records.start_record(generation=1, policy=None, now=NOW),
            audit_records.reload_record(ok=False, generation=1, policy=None, errors=("p.yaml:1:2: bad",), now=NOW),
            audit_records.stop_record(reason="SIGTERM", now=NOW),
        ]
    )
    assert [line["event"] for line in lines(tmp_path / "audit.jsonl")] == ["start", "reload", "stop"]


@given(st.text(st.characters(codec=None), max_size=60))
def test_no_path_puts_a_control_character_or_a_second_line_into_the_log(name: str) -> None:
    line = audit_records.encode({"image": name})
    assert all(" " <= character <= "~" for character in line)
    assert json.loads(line) == {"image": name}


def test_undecodable_bytes_of_a_path_survive(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit.jsonl"))
    log.write([record(image=os.fsdecode(b"/srv/\xff\n\x1b[31m.sif"))])
    assert os.fsencode(str(lines(tmp_path / "audit.jsonl")[0]["image"])) == b"/srv/\xff\n\x1b[31m.sif"


def test_the_file_is_private_to_owner_and_group_under_any_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        AuditLog(str(tmp_path / "audit.jsonl"))
    finally:
        os.umask(old)
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o7777 == 0o640


def test_an_existing_log_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"old":1}\n')
    AuditLog(str(path)).write(encoded({"new": 2}))
    assert lines(path) == [{"old": 1}, {"new": 2}]


def test_a_torn_end_is_closed_so_that_it_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_text('{"old":1}\n{"torn":')
    AuditLog(str(path)).write(encoded({"new": 2}))
    assert path.read_text() == '{"old":1}\n{"torn":\n{"new":2}\n'


def test_a_log_that_was_emptied_while_its_end_was_torn_begins_without_a_blank_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "audit.jsonl"
    log, write = AuditLog(str(path)), os.write
    taken = iter((3,))

    def on_a_full_disk(descriptor: int, data: memoryview) -> int:
        if (size := next(taken, None)) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:size])

    with monkeypatch.context() as full:
        full.setattr(os, "write", on_a_full_disk)
        with pytest.raises(AuditError):
            log.write(encoded({"torn": 1}))
    assert path.stat().st_size == 3
    os.truncate(path, 0)
    log.write(encoded({"new": 2}))
    assert path.read_text() == '{"new":2}\n'


def test_the_logs_group_can_enter_the_directories_made_for_it(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        _make_log_directory(tmp_path / "log" / "eclctl")
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(old)
    assert [(tmp_path / name).stat().st_mode & 0o7777 for name in ("log", "log/eclctl")] == [0o750, 0o750]


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError, match="cannot open"):
        AuditLog(str(tmp_path / "audit.jsonl"))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_is_refused_without_hanging(tmp_path: Path, make: object) -> None:
    make(tmp_path / "audit.jsonl")  # type: ignore[operator]
    with pytest.raises(AuditError):
        AuditLog(str(tmp_path / "audit.jsonl"))


def test_a_missing_directory_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="No such file"):
        AuditLog(str(tmp_path / "missing" / "audit.jsonl"))


def test_without_a_path_nothing_is_kept_and_nothing_fails() -> None:
    log = AuditLog(None)
    log.write([record()])
    log.reopen()
    log.close()


@pytest.mark.parametrize("bad", [object(), float("nan")])
def test_a_record_that_cannot_be_encoded_fails_the_whole_batch(tmp_path: Path, bad: object) -> None:
    log = AuditLog(str(tmp_path / "audit.jsonl"))
    with pytest.raises(AuditError, match="encode"):
        log.write(encoded({"fine": 1}, {"bad": bad}))
    assert lines(tmp_path / "audit.jsonl") == []


def test_a_renamed_log_is_followed_within_a_second(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "audit.jsonl"
    log = AuditLog(str(path), clock=clock)
    log.write(encoded({"n": 1}))
    path.rename(tmp_path / "audit.jsonl.1")
    log.write(encoded({"n": 2}))
    clock.now += 1.0
    log.write(encoded({"n": 3}))
    assert (lines(tmp_path / "audit.jsonl.1"), lines(path)) == ([{"n": 1}, {"n": 2}], [{"n": 3}])


def test_a_removed_log_is_made_again(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "audit.jsonl"
    log = AuditLog(str(path), clock=clock)
    path.unlink()
    clock.now += 1.0
    log.write(encoded({"n": 1}))
    assert lines(path) == [{"n": 1}]


def test_reopening_on_request_follows_at_once(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    log = AuditLog(str(path), clock=Clock())
    path.rename(tmp_path / "old")
    log.reopen()
    log.write(encoded({"n": 1}))
    assert lines(path) == [{"n": 1}]


def test_when_rotation_leaves_no_file_to_open_writing_fails_until_there_is_one(tmp_path: Path) -> None:
    clock, folder = Clock(), tmp_path / "log"
    folder.mkdir()
    log = AuditLog(str(folder / "audit.jsonl"), clock=clock)
    folder.rename(tmp_path / "gone")
    clock.now += 1.0
    for _ in range(2):
        with pytest.raises(AuditError):
            log.write(encoded({"n": 1}))
    folder.mkdir()
    log.write(encoded({"n": 2}))
    assert lines(folder / "audit.jsonl") == [{"n": 2}]


def test_a_full_disk_raises_and_what_follows_starts_on_a_line_of_its_own(tmp_path: Path) -> None:
    """The limit on file sizes stands for the full disk: write(2) stops in the middle of a record."""
    path = tmp_path / "audit.jsonl"
    log = AuditLog(str(path))
    log.write(encoded({"n": 1}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (12, hard))
        with pytest.raises(AuditError, match=os.strerror(errno.EFBIG)):
            log.write(encoded({"n": 2}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    log.write(encoded({"n": 3}))
    assert path.read_text() == '{"n":1}\n{"n"\n{"n":3}\n'


def test_writers_on_several_threads_never_mix_their_lines(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit.jsonl"))
    batch = encoded({"text": "x" * 300}) * 20
    threads = [threading.Thread(target=lambda: [log.write(batch) for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "audit.jsonl").read_text().splitlines() == batch * 100


def test_a_process_killed_after_an_answer_has_its_record_in_the_file(tmp_path: Path) -> None:
    """Attack: crash. What was written before the kill is there, though nothing was closed or flushed."""
    path = tmp_path / "audit.jsonl"
    program = (
        "import os, signal, sys\nfrom eclctl.daemon.observing.audit_log import AuditLog\n"
        "AuditLog(sys.argv[1]).write(['{\"n\":1}'])\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert lines(path) == [{"n": 1}]


def test_the_documentation_names_every_field_and_no_other() -> None:
    text = (ROOT / "docs" / "audit-log.md").read_text("utf-8")
    table = text.split("## Fields of a decision", 1)[1].split("## ", 1)[0]
    named = [
        name
        for line in table.splitlines()
        for name in re.findall(r"`(\w+)`", line.split("|")[1] if "|" in line else "")
    ]
    assert named == list(json.loads(record()))
