"""What `status` says should be looked at."""

from __future__ import annotations

from typing import Any

import pytest

from eclctl.report.attention import attention

TREE = {"path": "/srv", "mode": "events", "overdue_seconds": 0.0, "watch_limit_reached": False}
KEY = {
    "signers": ["alice"],
    "title": "Alice",
    "kind": "pgp",
    "short": "22BC",
    "ends": "2026-12-01T00:00:00Z",
    "days": 8,
}
KEYSERVERS = {"refresh_seconds": 21_600.0, "oldest_answer_seconds": 25_000.0, "unanswered": 0, "failures": 0}
LAST = {"at": "2026-11-22T18:00:01.123456Z", "seconds": 86_399.0, "error": "KeyError: 'x'"}
BUGS = {"count": 3, "last": LAST}
WELL: dict[str, Any] = {
    "policy_loaded": True,
    "generation": 4,
    "last_reload": {"ok": True, "at": "2026-11-22T18:00:01.123456Z"},
    "unrecorded": 0,
    "internal_errors": {"count": 0, "last": None},
    "clock_behind": 0.1,
    "watch": {"trees": [TREE]},
    "ocsp": {"statuses": {"good": 3, "none": 0, "revoked": 0}},
    "keyservers": KEYSERVERS,
    "expiring": [],
}


def test_a_daemon_that_is_well_has_nothing_to_look_at() -> None:
    assert attention(WELL) == []
    assert attention({**WELL, "ocsp": None, "expiring": None, "last_reload": None, "watch": {}}) == []


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"policy_loaded": False}, "no-policy", "no policy is in force: every image is denied"),
        (
            {"last_reload": {"ok": False, "at": "2026-11-22T18:00:01.123456Z"}},
            "reload-failed",
            "the policy did not load at 2026-11-22T18:00:01Z; generation 4 stays in force",
        ),
        (
            {"unrecorded": 1},
            "audit-failed",
            "decisions cannot be recorded in the audit log, so all of them are denied",
        ),
        (
            {"internal_errors": BUGS},
            "internal-errors",
            (
                "3 internal errors since the start, the last at 2026-11-22T18:00:01Z: "
                "KeyError: 'x'; the log has the tracebacks"
            ),
        ),
        (
            {"clock_behind": 7203.5},
            "clock-set-back",
            "the clock was set back: decisions are made at a time 2:00:04 ahead, until a restart",
        ),
        (
            {"watch": {"trees": [TREE | {"why_not": "its file system (nfs4 at /srv) is not listed"}]}},
            "not-believed",
            "images in the watched /srv have no trusted-path: its file system (nfs4 at /srv) is not listed",
        ),
        (
            {"rules": {"listed": [{"name": name, "why_not": ["x"]} for name in ("one", "two", "three")]}},
            "not-believed",
            "rule one and 2 more: images have no trusted-path, since x",
        ),
        ({"watch": {"trees": [TREE | {"mode": "missing"}]}}, "watch-missing", "/srv is not there, or cannot be opened"),
        (
            {"watch": {"trees": [TREE | {"overdue_seconds": 61.2}]}},
            "watch-overdue",
            "images in /srv have waited 61 s to be verified",
        ),
        (
            {"watch": {"trees": [TREE | {"watch_limit_reached": True}] * 3}},
            "watch-limit",
            "no more inotify watches (fs.inotify.max_user_watches): rescans find changes later",
        ),
        (
            {"ocsp": {"statuses": {"none": 1, "unavailable": 1}}},
            "ocsp-not-known",
            "nothing valid is known of 2 certificates, which count for nothing meanwhile",
        ),
        ({"ocsp": {"statuses": {"revoked": 1}}}, "ocsp-revoked", "1 certificate revoked"),
        (
            {"keyservers": KEYSERVERS | {"oldest_answer_seconds": 26_000.0}},
            "keyservers",
            "no keyserver answers about some keys in use, so a revocation may not be known here",
        ),
        (
            {"keyservers": KEYSERVERS | {"unanswered": 1, "failures": 1}},
            "keyservers",
            "no keyserver answers about some keys in use, so a revocation may not be known here",
        ),
        ({"expiring": [KEY]}, "key-expiring", "the key 22BC of alice expires on 2026-12-01"),
        (
            {"expiring": [KEY | {"days": -1, "kind": "certificate", "signers": []}]},
            "key-expired",
            "the certificate 22BC of Alice expired on 2026-12-01",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_said_once(change: dict[str, Any], code: str, message: str) -> None:
    assert attention(WELL | change) == [{"code": code, "message": message}]


def test_a_minute_is_no_delay() -> None:
    assert attention(WELL | {"watch": {"trees": [TREE | {"overdue_seconds": 59.0}]}}) == []


def test_keys_that_nobody_has_answered_about_yet_are_no_matter_while_nothing_has_failed() -> None:
    assert attention(WELL | {"keyservers": KEYSERVERS | {"unanswered": 5}}) == []
    off = KEYSERVERS | {"refresh_seconds": None, "unanswered": 5, "failures": 1}
    assert attention(WELL | {"keyservers": off}) == []


def test_an_internal_error_is_to_be_looked_at_for_a_day() -> None:
    assert attention(WELL | {"internal_errors": BUGS | {"last": LAST | {"seconds": 86_400.0}}}) == []
    (found,) = attention(WELL | {"internal_errors": {"count": 1, "last": LAST}})
    assert found["message"].startswith("1 internal error since")


QUIET: dict[str, Any] = {
    "file": "/etc/subuid",
    "ranges": 2,
    "problem": None,
    "malformed": 0,
    "overlaps": 0,
    "overlapping": [],
    "accounts": 0,
    "holding": [],
}
IDS: dict[str, Any] = {
    "uids": QUIET,
    "gids": QUIET | {"file": "/etc/subgid"},
    "not_read": None,
    "seen": {"count": 0, "uids": []},
}
SHARED = {"first": 100, "last": 199, "owners": ["alice", "bob"]}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (
            {"not_read": "sss"},
            "subid-not-read",
            "nsswitch.conf has subordinate IDs from sss; only /etc/subuid and /etc/subgid are read",
        ),
        (
            {"uids": QUIET | {"problem": "is not owned by root; chown root it; the ranges read before stay in force"}},
            "subid-file",
            "/etc/subuid is not owned by root; chown root it; the ranges read before stay in force",
        ),
        (
            {"uids": QUIET | {"malformed": 3}},
            "subid-malformed",
            "/etc/subuid: 3 lines grant nothing, as they are malformed",
        ),
        (
            {"gids": QUIET | {"file": "/etc/subgid", "overlaps": 1, "overlapping": [SHARED]}},
            "subid-overlap",
            "/etc/subgid: 100 to 199 are in ranges of alice, bob: no rule that allows matches these IDs",
        ),
        (
            {"uids": QUIET | {"overlaps": 7, "overlapping": [SHARED | {"owners": None}]}},
            "subid-overlap",
            (
                "/etc/subuid: 100 to 199 are in ranges of very many owners, and 6 more overlaps: "
                "no rule that allows matches these IDs"
            ),
        ),
        (
            {"uids": QUIET | {"accounts": 2, "holding": [SHARED | {"owners": list("abcd")}]}},
            "subid-accounts",
            (
                "/etc/subuid: 2 accounts lie in ranges of others, first 100 in one of a, b, c and others: "
                "deny rules for the owners apply to them as well"
            ),
        ),
        (
            {"seen": {"count": 3, "uids": [120000, 120001, 120002]}},
            "subid-accounts",
            "accounts of the name service lie in ranges of /etc/subuid: uid 120000 and 2 others",
        ),
    ],
)
def test_what_is_wrong_with_ranges_of_subordinate_ids_is_named(change: dict[str, Any], code: str, message: str) -> None:
    assert attention({**WELL, "subordinate_ids": IDS}) == []
    assert attention({**WELL, "subordinate_ids": IDS | change}) == [{"code": code, "message": message}]
