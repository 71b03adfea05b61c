"""What `eclctl status` and `eclctl reload` print, and what they say when they cannot."""

from __future__ import annotations

import pytest

from eclctl.cli import daemon, report
from eclctl.cli.admin import command as admin
from eclctl.cli.admin.status_page import status_lines
from eclctl.cli.explain import command as explain
from eclctl.cli.policy import command as policy

TREE = {
    "path": "/srv/images",
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
    "uptime": 11520.0,
    "unrecorded": 0,
    "internal_errors": {"count": 0, "last": None},
    "attention": [],
    "rules": {
        "since": "2026-11-22T18:00:01.000000Z",
        "total": 2,
        "no_rule": {"allow": 0, "deny": 4, "would_deny": 0},
        "listed": [
            {
                "name": "production",
                "mode": "enforce",
                "allow": 1204,
                "deny": 12,
                "would_deny": 0,
                "images": {"approved": 310, "pending": 4, "denied": 2},
            },
            {
                "name": "trial\x1b",
                "mode": "permissive",
                "allow": 123456789,
                "deny": 0,
                "would_deny": 7,
                "images": {"approved": 0, "pending": 0, "denied": 1},
            },
        ],
    },
    "images": {
        "approved": 310,
        "pending": 4,
        "denied": 3,
        "outdated": 0,
        "complete": True,
        "kept": 317,
        "counted": 317,
    },
    "expiring": [
        {"ends": "2026-11-20T00:00:00Z", "days": -3, "images": 2, "short": "22BC3A3BC942487F", "signers": ["bob"]},
        {"ends": "2026-12-01T00:00:00Z", "days": 8, "images": 12, "short": "sha256:00", "signers": ["ci", "release"]},
    ],
    "ocsp": {"statuses": {"good": 2, "revoked": 0, "none": 1}, "soonest_expiry_seconds": 2400.0},
}


def test_status_is_a_page_that_can_be_read() -> None:
    never = {**TREE, "path": "/data\x1b", "mode": "missing", "recursive": False, "last_rescan": None}
    never |= {"last_rescan_seconds": None, "overdue_seconds": 0.0, "queued": 0}
    lines = list(status_lines({**STATUS, "watch": {"trees": [TREE, never]}}))
    assert lines == [
        "eclctl 1.2.3, process 7, since 2026-11-22T18:00:00Z (3 h 12 min)",
        "policy      generation 2, loaded 2026-11-22T18:00:01Z",
        "    sha256:00",
        "attention   nothing: all is well",
        "rules       2; decisions since 2026-11-22T18:00:01Z, and images as they stand",
        "   ALLOW   DENY  WOULD DENY | APPROVED PENDING DENIED | RULE",
        "    1204     12           - |      310       4      2 | production",
        r"    123M      -           7 |        -       -      1 | trial\x1b (permissive)",
        "       -      4           - |        -       -      - | (no rule)",
        "images      317 known: 310 approved, 4 pending, 3 denied",
        "keys        2 to expire within 30 days, or expired within the last 30",
        "  ENDS        IN DAYS  IMAGES  KEY                OF",
        "  2026-11-20  EXPIRED       2  22BC3A3BC942487F   bob",
        "  2026-12-01        8      12  00                 ci, release",
        "ocsp        3 certificates: 2 good, 1 not known; the first runs out in 40 min",
        "clients     1 connection, 1 request in flight, with this one",
        "waiting     0 images to be opened, 4 to be verified",
        "cache       6 files, 5 hits, 1 misses",
        "audit log   none: decisions are not recorded",
        "watching    2 directories",
        "  QUEUED  OVERDUE  BY        LAST RESCAN           TOOK",
        "  3       1 s      events    2026-11-22T19:01:02Z  0.250 s",
        "    /srv/images",
        "  0       0 s      missing   never                 -",
        r"    /data\x1b (not below)",
    ]
    assert not [line for line in lines if len(line) > 80]


def test_status_says_why_images_in_a_tree_have_no_trusted_path() -> None:
    tree = {
        **TREE,
        "why_not": "its file system (nfs4 at /srv\x1b) is not listed under filesystems in the configuration",
    }
    *_, path, first, second = status_lines({**STATUS, "watch": {"trees": [tree]}})
    assert path == "    /srv/images"
    assert first == "    ! no trusted-path: its file system (nfs4 at /srv\\x1b) is not listed under"
    assert second == "      filesystems in the configuration"


def test_status_says_plainly_what_is_wrong() -> None:
    errors = [f"a.yaml:{line}:1: no\x1b" for line in range(9)]
    last = {"ok": False, "at": "2026-11-22T18:00:01Z", "errors": errors, "warnings": ["b.yaml:2:1: hm"]}
    broken = {**STATUS, "policy_loaded": False, "last_reload": last, "watch": {"trees": [{**TREE, "rescanning": True}]}}
    broken |= {"unrecorded": 3, "audit": "/var/log/a", "attention": [{"code": "x", "message": "look \x1b" * 20}] * 9}
    broken |= {"internal_errors": {"count": 2, "last": {"at": "2026-11-22T18:00:01.5Z", "seconds": 1.0, "error": "x"}}}
    lines = list(status_lines(broken))
    assert "errors      2 internal errors, the last at 2026-11-22T18:00:01Z" in lines
    assert "policy      NONE: every image is denied" in lines
    assert lines.index("ATTENTION   9 things to look at") == 2
    assert lines[3].startswith(r"  ! look \x1blook")
    assert "  and 4 more: eclctl status --json | jq '.attention'" in lines
    assert "last load   FAILED at 2026-11-22T18:00:01Z" in lines
    assert r"  error: a.yaml:0:1: no\x1b" in lines
    assert "  and 4 more: eclctl policy check" in lines
    assert "  warning: b.yaml:2:1: hm" in lines
    assert "audit log   /var/log/a, which CANNOT BE WRITTEN" in lines
    assert any("under way" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_of_many_rules_status_shows_those_that_deny_in_the_order_of_the_policy() -> None:
    rule = STATUS["rules"]["listed"][0] | {"deny": 0, "images": {"approved": 1, "pending": 0, "denied": 0}}
    listed = [rule | {"name": f"r{number}", "deny": number % 3} for number in range(100)]
    lines = list(status_lines({**STATUS, "rules": {**STATUS["rules"], "total": 10_000, "listed": listed}}))
    shown = [int(line.rpartition("| r")[2]) for line in lines if "| r" in line]
    assert len(shown) == 12
    assert shown == sorted(shown)
    assert all(number % 3 == 2 for number in shown)
    assert "  and 9988 more: eclctl report --html FILE shows them all" in lines


def test_status_admits_what_it_could_not_look_at() -> None:
    partly = STATUS["images"] | {"complete": False, "counted": 100, "kept": 5000, "outdated": 3}
    lines = list(status_lines({**STATUS, "images": partly}))
    assert "            only 100 of 5000 were looked at, for lack of time" in lines
    assert "            3 more are to be verified again, with other keys" in lines
    late = list(status_lines({**STATUS, "images": None, "expiring": None}))
    assert "images      there was no time to look at them; ask again" in late


def test_ranges_of_subordinate_ids_that_overlap_are_named() -> None:
    shared = {"first": 100000, "last": 165535, "owners": ["alice", "b\x1bob"]}
    several = {"ranges": 7, "overlaps": 5, "overlapping": [shared, shared | {"owners": None}, shared, shared]}
    none = {"ranges": 1, "overlaps": 0, "overlapping": []}
    lines = list(status_lines({**STATUS, "subordinate_ids": {"uids": several, "gids": none}}))
    at = lines.index("subids      7 ranges of uids, 1 range of gids")
    assert lines[at + 1 : at + 5] == [
        "  uids 100000-165535: alice, b\\x1bob",
        "  uids 100000-165535: very many owners",
        "  uids 100000-165535: alice, b\\x1bob",
        "  and 2 more overlaps of uids: eclctl status --json",
    ]


def test_exceptions_that_allow_something_now_are_named() -> None:
    ended = {"name": "old", "state": "ended", "ends": "2026-11-01T00:00:00Z", "reason": "x"}
    active = {"name": "urgent\x1b", "state": "active", "ends": "2026-12-01T10:20:00Z", "reason": "the deadline"}
    lines = list(status_lines({**STATUS, "exceptions": [ended, active, ended]}))
    at = lines.index("exceptions  2 ended, 1 active")
    assert lines[at + 1] == r"  until 2026-12-01T10:20Z  urgent\x1b: the deadline"


def test_a_quiet_daemon_fits_half_a_screen() -> None:
    quiet = {**STATUS, "expiring": [], "ocsp": {"statuses": {"good": 0}, "soonest_expiry_seconds": None}}
    lines = list(status_lines(quiet))
    assert "keys        none expires within 30 days" in lines
    assert "ocsp        no certificate has to be asked about" in lines
    assert len(lines) <= 24


COMMANDS = {
    "status": admin.status,
    "reload": admin.reload,
    "explain": explain.run,
    "report": report.run,
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
