"""Handlers of the admin socket: status, report, recent decisions, reload, flush and rescan."""

from __future__ import annotations

import os
import socket
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from eclctl import __version__
from eclctl.daemon.observing.audit_records import timestamp
from eclctl.daemon.observing.surveys import page
from eclctl.daemon.sockets.protocol import VERSION, ErrorCode, Method, ReportPart
from eclctl.dataclass import asdict, dataclass
from eclctl.decide.host_mounts import why_rule_cannot
from eclctl.report.attention import attention
from eclctl.report.shapes import exception_fields, file_fields, key_fields, rule_fields, survey_fields, turning_fields
from eclctl.report.survey import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from eclctl.config.settings import Settings
    from eclctl.daemon.decisions.checks import Checks
    from eclctl.daemon.lifecycle.reload import Reloader, ReloadReport
    from eclctl.daemon.lifecycle.stats import Stats
    from eclctl.daemon.observing.metrics import Metrics
    from eclctl.daemon.observing.surveys import Surveyed, Surveyor
    from eclctl.daemon.revocation.key_refresh import RefreshStats
    from eclctl.daemon.sockets.call import Call
    from eclctl.daemon.sockets.callers import CallerLookup
    from eclctl.daemon.sockets.server import Server
    from eclctl.daemon.watching.watch import Watcher
    from eclctl.decide.engine import Engine
    from eclctl.decide.snapshot import Snapshot
    from eclctl.policy.language import Rule
    from eclctl.remote.ocsp.cache import OcspStats

RULES: Final = 200
"""Rules that `status` shows; `report` has them all."""

KEYS: Final = 100
"""Keys that end soon or ended lately, of which `status` shows so many."""

EXCEPTIONS: Final = 200
"""Exceptions that `status` shows."""


@dataclass(frozen=True, slots=True)
class Control:
    """Handlers for the methods that decide nothing.

    `clock` is the time of day, `reload` begins a reload. `why_not` says why images at a path can have no
    `trusted-path`, if they cannot.
    """

    engine: Engine
    checks: Checks
    reloader: Reloader
    watcher: Watcher
    metrics: Metrics
    stats: Stats
    surveyor: Surveyor
    callers: CallerLookup
    server: Callable[[], Server]
    settings: Settings
    started: datetime
    clock: Callable[[], datetime]
    reload: Callable[[Callable[[ReloadReport], None]], None]
    why_not: Callable[[str], str | None] = lambda _: None

    def handlers(self) -> dict[Method, Callable[[Call], None]]:
        """Return the handler of each method."""
        return {
            Method.PING: lambda call: call.answer({"protocol": VERSION, "version": __version__}),
            Method.STATUS: lambda call: self._survey(lambda found: call.answer(self._state(found))),
            Method.RELOAD: lambda call: self.reload(lambda report: call.answer(report.fields())),
            Method.FLUSH: lambda call: call.answer({"dropped": self.engine.flush()}),
            Method.RESCAN: self._rescan,
            Method.RECENT: lambda call: call.answer({"decisions": self.checks.recent(call.request.limit)}),
            Method.REPORT: self._report,
        }

    def _survey(self, done: Callable[[Surveyed | None], None]) -> None:
        self.surveyor.request(self.surveyor.survey, done)

    def _rescan(self, call: Call) -> None:
        if not self.settings.watch:
            call.fail(ErrorCode.BAD_REQUEST, "no directory is watched; name some under `watch` in the configuration")
            return
        self.watcher.rescan()
        call.answer({"trees": len(self.settings.watch)})

    # -- status ----------------------------------------------------------------------------------------------------

    def _state(self, surveyed: Surveyed | None) -> dict[str, Any]:
        """Everything about the daemon; how images stand is None when there was no time to look."""
        if surveyed is not None and surveyed.survey.snapshot is not self.engine.snapshot:
            surveyed = None  # of a policy that has just been replaced
        state = self._service() | {"watch": self.watcher.status(), "ocsp": _ocsp(self.stats.ocsp())}
        state["keyservers"] = _keyservers(self.stats.keyservers(), self.settings)
        state["subordinate_ids"] = self.callers.status()
        state["unrecorded"] = self.metrics.unrecorded
        bugs, last = self.stats.internal_errors(), None
        if bugs.at is not None:
            last = {"at": timestamp(bugs.at), "seconds": round(bugs.seconds, 3), "error": bugs.text}
        state["internal_errors"] = {"count": bugs.count, "last": last}
        state["images"] = None
        if surveyed is not None:
            shape = survey_fields(surveyed.survey, kept=surveyed.kept, counted=surveyed.counted)
            state["images"] = shape | {"gone": surveyed.gone, "complete": surveyed.complete}
        state["expiring"] = None if surveyed is None else turning_fields(surveyed.survey)[:KEYS]
        state["rules"] = self._rules(surveyed)
        # As they stand for decisions, also where the clock was set back.
        snapshot, now = self.engine.snapshot, self.engine.not_before(self.clock())
        shown = snapshot.exceptions.candidates[:EXCEPTIONS]
        state["exceptions"] = [exception_fields(each, snapshot, now) for each in shown]
        state["attention"] = attention(state)
        return state

    def _service(self) -> dict[str, Any]:
        snapshot, server, last = self.engine.snapshot, self.server(), self.reloader.last
        now = self.clock()
        return {
            "version": __version__,
            "protocol": VERSION,
            "pid": os.getpid(),
            "started": timestamp(self.started),
            "uptime": round((now - self.started).total_seconds(), 3),
            "clock_behind": round(max(0.0, (self.engine.not_before(now) - now).total_seconds()), 3),
            "policy_loaded": snapshot.policy is not None,
            "generation": snapshot.generation,
            "policy": snapshot.digest,
            "loaded_at": None if snapshot.loaded_at is None else timestamp(snapshot.loaded_at),
            "last_reload": None if last is None else last.fields(),
            "connections": server.connections(),
            "in_flight": server.in_flight(),
            "waiting": self.checks.backlog(),
            "cache": asdict(self.engine.cache.stats()),
            "audit": self.settings.audit_path,
        }

    def _rules(self, surveyed: Surveyed | None) -> dict[str, Any]:
        """The rules, with what each decided since the policy came into force, and how images stand under each."""
        policy, tallies = self.engine.snapshot.policy, self.metrics.rules
        rules = () if policy is None else policy.rules
        listed = rules if len(rules) <= RULES else self._busiest(rules, surveyed)
        return {
            "since": None if tallies.since is None else timestamp(tallies.since),
            "total": len(rules),
            "listed": [self._rule_line(rule, surveyed) for rule in listed],
            "no_rule": tallies.of(None),
        }

    def _busiest(self, rules: Iterable[Rule], surveyed: Surveyed | None) -> list[Rule]:
        """Of very many rules, those under which anything is, then the others, in the order of the policy."""

        def idle(rule: Rule) -> bool:
            standing = surveyed is not None and rule.name in surveyed.survey.by_rule
            return not standing and not any(self.metrics.rules.of(rule.name).values())

        return sorted(sorted(rules, key=idle)[:RULES], key=lambda rule: rule.order)

    def _rule_line(self, rule: Rule, surveyed: Surveyed | None) -> dict[str, Any]:
        fields = rule_fields(rule, self.metrics.rules.of(rule.name), _tally(rule, surveyed))
        shown = ("name", "where", "mode", "decision", "allow", "deny", "would_deny", "images")
        return {name: fields[name] for name in shown} | {"why_not": why_rule_cannot(rule, self.why_not)}

    # -- report ----------------------------------------------------------------------------------------------------

    def _report(self, call: Call) -> None:
        request = call.request
        if request.part is ReportPart.IMAGES:
            images = partial(self.surveyor.images, request.after, request.limit)
            self.surveyor.request(images, lambda found: self._answer_images(call, found))
        else:
            self._survey(lambda found: self._answer_part(call, found))

    def _answer_images(self, call: Call, found: Any) -> None:
        if found is None:
            call.fail(ErrorCode.INTERNAL_ERROR, "the images could not be looked at in time; ask again")
        else:
            self._answer_page(call, *found)

    def _answer_part(self, call: Call, surveyed: Surveyed | None) -> None:
        request = call.request
        if request.part is ReportPart.SUMMARY:
            call.answer(self._state(surveyed) | {"host": socket.gethostname(), "at": timestamp(self.clock())})
            return
        if surveyed is None:
            call.fail(ErrorCode.INTERNAL_ERROR, "the keys and images could not be looked at in time; ask again")
            return
        snapshot = surveyed.survey.snapshot
        if request.part is ReportPart.RULES:
            rules = () if snapshot.policy is None else snapshot.policy.rules
            items, following = page(rules, request.after, request.limit)
            shapes = [rule_fields(rule, self.metrics.rules.of(rule.name), _tally(rule, surveyed)) for rule in items]
            self._answer_page(call, snapshot, shapes, following, len(rules))
        elif request.part is ReportPart.KEYS:
            items, following = page(surveyed.keys, request.after, request.limit)
            shapes = [key_fields(key, surveyed.survey.now) for key in items]
            self._answer_page(call, snapshot, shapes, following, len(surveyed.keys))
        else:
            items, following = page(snapshot.sources, request.after, 1)  # one of them may be megabytes
            self._answer_page(call, snapshot, [file_fields(each) for each in items], following, len(snapshot.sources))

    def _answer_page(
        self, call: Call, snapshot: Snapshot, items: list[Any], following: str | None, total: int | None = None
    ) -> None:
        call.answer(
            {
                "part": call.request.part,
                "generation": snapshot.generation,
                "policy": snapshot.digest,
                "items": items,
                "next": following,
                "total": total,
            }
        )


def _tally(rule: Rule, surveyed: Surveyed | None) -> Tally:
    return Tally() if surveyed is None else surveyed.survey.by_rule.get(rule.name, Tally())


def _ocsp(stats: OcspStats) -> dict[str, Any]:
    return {
        "statuses": dict(stats.statuses),
        "requests": dict(stats.requests),
        "failures": stats.failures,
        "oldest_answer_seconds": round(stats.oldest, 3),
        "soonest_expiry_seconds": round(stats.soonest, 3) if isfinite(stats.soonest) else None,
    }


def _keyservers(stats: RefreshStats, settings: Settings) -> dict[str, Any]:
    return {
        "servers": [server.url for server in settings.keyservers.servers] if stats.enabled else [],
        "refresh_seconds": settings.keyservers.refresh if stats.enabled else None,
        "keys": stats.keys,
        "unanswered": stats.unasked,
        "oldest_answer_seconds": round(stats.oldest, 3),
        "requests": dict(stats.requests),
        "failures": stats.failures,
        "updates": stats.updates,
    }
