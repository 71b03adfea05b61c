"""What `eclctl status` and `eclctl reload` print, and what they say when they cannot."""

from __future__ import annotations

import pytest

from eclctl.cli import admin, daemon, explain, policy
from eclctl.cli.admin import status_lines

TREE = {
    "path": "/srv/containers",
    "mode": "events",
    "recursive": True,
    "queued": 3,
    "overdue_seconds": 1.2,
    "watch_limit_reached": False,
    "rescanning": False,
    "last_rescan": "2026-11-22T19:01:02.337926+00:00",
    "last_rescan_seconds": 0.25,
}
STATUS = {
    "version": "1.2.3",
    "pid": 7,
    "started": "2026-11-22T18:00:00.500000Z",
    "policy_loaded": True,
    "generation": 2,
    "policy": "sha256:00",
    "loaded_at": "2026-11-22T18:00:01.000000Z",
    "last_reload": {"ok": True, "at": "2026-11-22T18:00:01.000000Z", "errors": [], "warnings": []},
    "connections": 1,
    "in_flight": 1,
    "waiting": {"opening": 0, "verifying": 4},
    "cache": {"entries": 6, "hits": 5, "misses": 1},
    "audit": None,
    "watch": {"trees": []},
}


def test_status_is_a_page_that_can_be_read() -> None:
    never = {**TREE, "path": "/data\x1b", "mode": "missing", "recursive": False, "last_rescan": None}
    never |= {"last_rescan_seconds": None, "overdue_seconds": 0.0, "queued": 0}
    assert list(status_lines({**STATUS, "watch": {"trees": [TREE, never]}})) == [
        "eclctl 1.2.3, process 7, since 2026-11-22T18:00:00Z",
        "policy      generation 2, loaded 2026-11-22T18:00:01Z",
        "            sha256:00",
        "clients     1 connection, 1 request in flight, with this one",
        "waiting     0 images to be opened, 4 to be verified",
        "cache       6 images, 5 hits, 1 misses",
        "audit log   none: decisions are not recorded",
        "watching    2 directories",
        "  QUEUED  OVERDUE  BY        LAST RESCAN           TOOK      DIRECTORY",
        "  3       1 s      events    2026-11-22T19:01:02Z  0.250 s   /srv/containers",
        r"  0       0 s      missing   never                 -         /data\x1b (not below)",
    ]


def test_status_says_plainly_what_is_wrong() -> None:
    last = {"ok": False, "at": "2026-11-22T18:00:01Z", "errors": ["a.yaml:1:1: no\x1b"], "warnings": ["b.yaml:2:1: hm"]}
    limited = {**TREE, "watch_limit_reached": True, "rescanning": True}
    broken = {**STATUS, "policy_loaded": False, "last_reload": last, "watch": {"trees": [limited]}}
    lines = list(status_lines(broken))
    assert "policy      NONE: every image is denied" in lines
    assert "last load   FAILED at 2026-11-22T18:00:01Z" in lines
    assert r"  error: a.yaml:1:1: no\x1b" in lines
    assert "  warning: b.yaml:2:1: hm" in lines
    assert any("under way" in line for line in lines)
    assert any("fs.inotify.max_user_watches" in line for line in lines)


COMMANDS = {
    "status": admin.status,
    "reload": admin.reload,
    "explain": explain.run,
    "policy": policy.run,
    "policy check": policy.run,
    "daemon": daemon.run,
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_in_examples_and_fits_eighty_columns(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name]([*name.split()[1:], "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    head, _, examples = text.partition("\nexamples:\n")
    assert examples.strip()
    assert all(line.startswith("  ") for line in examples.splitlines())
    assert [line for line in text.splitlines() if len(line) > 82] == []
    assert head.startswith(f"usage: eclctl {name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_option_is_one_line_without_escapes_that_points_to_help(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        COMMANDS[name]([*name.split()[1:], *(["x"] if name == "explain" else []), "--no\x1b[31m\n\udcff"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert line.endswith("--help` shows how")


@pytest.mark.parametrize("command", [admin.status, admin.reload, explain.run])
@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_out_is_a_number_of_seconds(command: object, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command([*(["x"] if command is explain.run else []), f"--timeout={value}"])
    assert "needs a number of seconds" in capsys.readouterr().err
