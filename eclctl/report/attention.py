"""What an admin should look at: what is stale, failing, or about to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from eclctl.text import counted
from eclctl.trust.signer_types import SIGNER_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

OVERDUE: Final = 60.0
"""Seconds that a watched image may wait beyond its turn."""

LATE: Final = 3600.0
"""Seconds that the answer about a key may be older than it should be."""

SET_BACK: Final = 10.0
"""Seconds that the clock may be behind the time of decisions: corrections of less are usual."""

BUG: Final = 86_400.0
"""Seconds for which the last internal error is to be looked at."""

_OWNERS: Final = 3  # named in a sentence
_NOT_KNOWN: Final = ("none", "unavailable", "invalid", "unknown")


def attention(status: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what is wrong in an answer to `status`, worst first: codes from a closed list, each with a sentence."""
    found = [
        *_decisions(status),
        *_internal_errors(status.get("internal_errors")),
        *_clock(status),
        *_watch(status),
        *_places(status),
        *_ocsp(status.get("ocsp")),
        *_subordinate_ids(status.get("subordinate_ids")),
        *_keyservers(status.get("keyservers")),
        *_keys(status),
    ]
    return [{"code": code, "message": message} for code, message in found]


def _decisions(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    last = status["last_reload"]
    if not status["policy_loaded"]:
        yield "no-policy", "no policy is in force: every image is denied"
    if last is not None and not last["ok"]:
        stays = f"; generation {status['generation']} stays in force" if status["policy_loaded"] else ""
        yield "reload-failed", f"the policy did not load at {last['at'][:19]}Z{stays}"
    if status["unrecorded"]:
        yield "audit-failed", "decisions cannot be recorded in the audit log, so all of them are denied"


def _internal_errors(found: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    last = None if found is None else found["last"]
    if found is None or last is None or last["seconds"] >= BUG:
        return
    errors = f"{counted(found['count'], 'internal error')} since the start"
    yield "internal-errors", f"{errors}, the last at {last['at'][:19]}Z: {last['error']}; the log has the tracebacks"


def _clock(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    seconds = status.get("clock_behind", 0.0)
    if seconds >= SET_BACK:
        behind = timedelta(seconds=round(seconds))
        yield "clock-set-back", f"the clock was set back: decisions are made at a time {behind} ahead, until a restart"


def _watch(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    trees = status["watch"].get("trees", ())
    for tree in trees:
        if tree["mode"] == "missing":
            yield "watch-missing", f"{tree['path']} is not there, or cannot be opened"
        elif tree["overdue_seconds"] > OVERDUE:
            waited = f"{tree['overdue_seconds']:.0f} s"
            yield "watch-overdue", f"images in {tree['path']} have waited {waited} to be verified"
    if any(tree["watch_limit_reached"] for tree in trees):
        yield "watch-limit", "no more inotify watches (fs.inotify.max_user_watches): rescans find changes later"


def _places(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where images can have no `trusted-path`: watched trees, and rules, those of one reason together."""
    for tree in status["watch"].get("trees", ()):
        if tree.get("why_not") is not None:
            yield "not-believed", f"images in the watched {tree['path']} have no trusted-path: {tree['why_not']}"
    rules: dict[str, list[str]] = {}
    for rule in status.get("rules", {}).get("listed", ()):
        for why in rule.get("why_not", ()):
            rules.setdefault(why, []).append(rule["name"])
    for why, names in rules.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield "not-believed", f"rule {names[0]}{more}: images have no trusted-path, since {why}"


def _ocsp(ocsp: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    statuses = {} if ocsp is None else ocsp["statuses"]
    if count := sum(statuses.get(name, 0) for name in _NOT_KNOWN):
        certificates = counted(count, "certificate")
        yield "ocsp-not-known", f"nothing valid is known of {certificates}, which count for nothing meanwhile"
    if count := statuses.get("revoked", 0):
        yield "ocsp-revoked", f"{counted(count, 'certificate')} revoked"


def _subordinate_ids(ids: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if ids is None:
        return
    if ids["not_read"] is not None:
        source = f"nsswitch.conf has subordinate IDs from {ids['not_read']}"
        yield "subid-not-read", f"{source}; only /etc/subuid and /etc/subgid are read"
    for sort, what in (("uids", "accounts"), ("gids", "groups")):
        found = ids[sort]
        if found["problem"] is not None:
            yield "subid-file", f"{found['file']} {found['problem']}"
        if found["malformed"]:
            yield "subid-malformed", f"{found['file']}: {found['malformed']} lines grant nothing, as they are malformed"
        if found["overlaps"]:
            yield "subid-overlap", f"{found['file']}: {_overlap(found)}: no rule that allows matches these IDs"
        if found["accounts"]:
            first = found["holding"][0]
            told = f"{found['accounts']} {what} lie in ranges of others"
            told += f", first {first['first']} in one of {_owners(first)}"
            yield "subid-accounts", f"{found['file']}: {told}: deny rules for the owners apply to them as well"
    if seen := ids["seen"]["count"]:
        where = f"uid {ids['seen']['uids'][0]}" + (f" and {seen - 1} others" if seen > 1 else "")
        yield "subid-accounts", f"accounts of the name service lie in ranges of {ids['uids']['file']}: {where}"


def _overlap(found: Mapping[str, Any]) -> str:
    first = found["overlapping"][0]
    more = f", and {found['overlaps'] - 1} more overlaps" if found["overlaps"] > 1 else ""
    return f"{first['first']} to {first['last']} are in ranges of {_owners(first)}{more}"


def _owners(overlap: Mapping[str, Any]) -> str:
    owners = overlap["owners"]
    if owners is None:
        return "very many owners"
    return ", ".join(owners[:_OWNERS]) + (" and others" if len(owners) > _OWNERS else "")


def _keyservers(keyservers: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    interval = None if keyservers is None else keyservers["refresh_seconds"]
    if keyservers is None or interval is None:
        return
    late = keyservers["oldest_answer_seconds"] > interval + LATE
    if late or (keyservers["unanswered"] and keyservers["failures"]):
        yield "keyservers", "no keyserver answers about some keys in use, so a revocation may not be known here"


def _keys(status: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in status.get("expiring") or ():
        who = ", ".join(key["signers"]) or key["title"]
        ended = key["days"] < 0
        when = f"expired on {key['ends'][:10]}" if ended else f"expires on {key['ends'][:10]}"
        yield (
            "key-expired" if ended else "key-expiring",
            f"the {SIGNER_TYPES[key['kind']].noun} {key['short']} of {who} {when}",
        )
