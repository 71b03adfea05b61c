"""Metrics: bounded labels, series that exist from the start, and what each event changes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from eclctl import __version__
from eclctl.daemon.lifecycle.stats import Stats
from eclctl.daemon.observing.internal_errors import InternalErrorStats
from eclctl.daemon.observing.metrics import (
    METHODS,
    OTHER,
    PREFETCH,
    PROTOCOL_ERRORS,
    RESCANS,
    RULES,
    Metrics,
)
from eclctl.daemon.revocation.key_refresh import RefreshStats
from eclctl.daemon.watching.watch import WatchStats
from eclctl.decide.cache import CacheStats
from eclctl.model import ALLOWING, Code, Outcome
from eclctl.remote.keyservers.hkp import Result
from eclctl.remote.ocsp.cache import OcspStats
from eclctl.trust.revocation import Status
from tests.helpers.metrics import metric_names, whole_metrics
from tests.helpers.support import ROOT

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def decision(code: Code = Code.REQUIREMENTS_MET, **changes: object) -> SimpleNamespace:
    cached = changes.pop("cached", True)
    said: dict[str, Any] = {"rule": "production", "would": None} | changes
    return SimpleNamespace(outcome=Outcome(code, "a reason", **said), cached=cached, policy=None)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def series(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_counted_under_the_verdict_that_it_means(code: Code) -> None:
    metrics = Metrics()
    metrics.decision(decision(code), 0.001)
    verdict = "allow" if code in ALLOWING else "deny"
    assert value(metrics, "eclctl_decisions_total", decision=verdict, code=code.value) == 1
    assert value(metrics, "eclctl_rule_decisions_total", rule="production", decision=verdict) == 1


def test_every_series_of_a_closed_list_exists_before_its_first_event() -> None:
    metrics = whole_metrics()
    assert set(series(metrics, "eclctl_decisions_total").values()) == {0}
    assert len(series(metrics, "eclctl_decisions_total")) == len(Code)
    assert set(series(metrics, "eclctl_requests_total")) == {(name,) for name in (*METHODS, OTHER)}
    assert set(series(metrics, "eclctl_protocol_errors_total")) == {(name,) for name in (*PROTOCOL_ERRORS, OTHER)}
    assert set(series(metrics, "eclctl_watch_prefetched_total")) == {(name,) for name in (*PREFETCH, OTHER)}
    assert set(series(metrics, "eclctl_watch_rescans_total")) == {(name,) for name in (*RESCANS, OTHER)}
    assert set(series(metrics, "eclctl_ocsp_requests_total")) == {(name,) for name in Status}
    assert set(series(metrics, "eclctl_keyserver_requests_total")) == {(name,) for name in Result}
    assert set(series(metrics, "eclctl_ocsp_statuses")) == {(name,) for name in (*Status, "none")}


def test_warm_and_cold_decisions_are_timed_apart() -> None:
    metrics = Metrics()
    metrics.decision(decision(cached=True), 0.00004)
    metrics.decision(decision(cached=False), 2.0)
    assert value(metrics, "eclctl_decision_seconds_sum", cache="warm") == 0.00004
    assert value(metrics, "eclctl_decision_seconds_bucket", cache="cold", le="1.0") == 0
    assert value(metrics, "eclctl_decision_seconds_bucket", cache="cold", le="5.0") == 1


def test_what_a_permissive_rule_let_pass_is_counted_by_what_it_would_have_been() -> None:
    metrics = Metrics()
    metrics.decision(decision(Code.PERMISSIVE, would=Code.REQUIREMENTS_NOT_MET), 0.001)
    assert value(metrics, "eclctl_would_deny_total", code="requirements-not-met") == 1
    assert value(metrics, "eclctl_rule_would_deny_total", rule="production") == 1


def test_a_decision_without_a_rule_is_counted_as_such() -> None:
    metrics = Metrics()
    metrics.decision(decision(Code.NO_RULE, rule=None), 0.001)
    assert value(metrics, "eclctl_rule_decisions_total", rule="(none)", decision="deny") == 1


def test_rules_beyond_the_bound_share_one_series() -> None:
    metrics = Metrics()
    for number in range(RULES + 50):
        for _ in range(2):
            metrics.decision(decision(rule=f"rule-{number}"), 0.001)
    assert len(series(metrics, "eclctl_rule_decisions_total")) == RULES + 1
    assert value(metrics, "eclctl_rule_decisions_total", rule="(other)", decision="allow") == 100


def test_a_rule_name_with_control_characters_cannot_break_the_exposition() -> None:
    metrics = Metrics()
    metrics.decision(decision(rule='a"\n\\\x1b\udcff' + "x" * 500), 0.001)
    text = generate_latest(metrics.registry).decode("utf-8")
    families = list(text_string_to_metric_families(text))
    (sample,) = [s for family in families for s in family.samples if s.name == "eclctl_rule_decisions_total"]
    assert sample.value == 1
    assert len(sample.labels["rule"]) == 100


@pytest.mark.parametrize("name", ["/etc/passwd", "check\n", "x" * 10_000])
def test_what_clients_send_never_becomes_a_label(name: str) -> None:
    metrics = Metrics()
    before = len(list(generate_latest(metrics.registry).splitlines()))
    metrics.request(name)
    metrics.error(name)
    metrics.prefetched(name)
    metrics.rescanned(name, 1.0, NOW)
    assert len(list(generate_latest(metrics.registry).splitlines())) == before
    assert value(metrics, "eclctl_requests_total", method=OTHER) == 1
    assert value(metrics, "eclctl_protocol_errors_total", kind=OTHER) == 1


def test_known_requests_and_errors_are_counted_by_name() -> None:
    metrics = Metrics()
    metrics.request("check")
    metrics.error("descriptors")
    assert value(metrics, "eclctl_requests_total", method="check") == 1
    assert value(metrics, "eclctl_protocol_errors_total", kind="descriptors") == 1


def test_a_failed_reload_shows_and_the_generation_in_force_stays() -> None:
    metrics = Metrics()
    metrics.reload(ok=True, now=NOW)
    metrics.policy(3, loaded=True, now=NOW)
    metrics.reload(ok=False, now=NOW)
    assert value(metrics, "eclctl_last_reload_success") == 0
    assert value(metrics, "eclctl_reloads_total", result="failed") == 1
    assert value(metrics, "eclctl_last_reload_timestamp_seconds") == NOW.timestamp()
    assert value(metrics, "eclctl_policy_generation") == 3
    assert value(metrics, "eclctl_policy_loaded") == 1
    assert value(metrics, "eclctl_policy_loaded_timestamp_seconds") == NOW.timestamp()


def test_before_anything_is_loaded_no_policy_is_in_force() -> None:
    assert value(Metrics(), "eclctl_policy_loaded") == 0


def test_examinations_are_counted_with_bytes_and_time() -> None:
    metrics = Metrics()
    metrics.verification(1000, 0.2, ok=True)
    metrics.verification(24, 0.001, ok=False)
    assert value(metrics, "eclctl_verified_bytes_total") == 1024
    assert value(metrics, "eclctl_verifications_total", result="failed") == 1
    assert value(metrics, "eclctl_verification_seconds_count") == 2


def test_audit_batches_count_records_or_an_error() -> None:
    metrics = Metrics()
    metrics.audit(64, ok=True)
    metrics.audit(64, ok=False)
    assert value(metrics, "eclctl_audit_records_total") == 64
    assert value(metrics, "eclctl_audit_errors_total") == 1


def test_a_rescan_leaves_its_time_and_length() -> None:
    metrics = Metrics()
    metrics.rescanned("overflow", 1.5, NOW)
    metrics.overflow()
    metrics.prefetched("kept")
    assert value(metrics, "eclctl_watch_rescans_total", reason="overflow") == 1
    assert value(metrics, "eclctl_watch_last_rescan_seconds") == 1.5
    assert value(metrics, "eclctl_watch_last_rescan_timestamp_seconds") == NOW.timestamp()
    assert value(metrics, "eclctl_watch_overflows_total") == 1
    assert value(metrics, "eclctl_watch_prefetched_total", status="kept") == 1


def test_what_others_own_is_asked_for_at_the_scrape() -> None:
    metrics = Metrics()
    stats = Stats(
        connections=lambda: 7,
        cache=lambda: CacheStats(entries=1, hits=2, misses=3, evictions=4),
        watcher=lambda: WatchStats(queued=5, overdue=6.5, limited=True, modes={"events": 2}),
        ocsp=lambda: OcspStats({"good": 8, "invalid": 9}, 10, {"revoked": 11, "none": 12}, 13.5, 14.5),
        keyservers=lambda: RefreshStats({"found": 16}, 17, 18, 19, 20, 21.5),
        internal_errors=lambda: InternalErrorStats(count=15),
    )
    metrics.registry.register(stats)
    assert value(metrics, "eclctl_connections") == 7
    assert value(metrics, "eclctl_internal_errors_total") == 15
    names = ("eclctl_cache_entries", "eclctl_cache_hits_total", "eclctl_cache_misses_total")
    assert [value(metrics, name) for name in names] == [1, 2, 3]
    assert value(metrics, "eclctl_watch_queue_length") == 5
    assert value(metrics, "eclctl_watch_overdue_seconds") == 6.5
    assert value(metrics, "eclctl_watch_limit_reached") == 1
    assert value(metrics, "eclctl_ocsp_requests_total", result="invalid") == 9
    assert value(metrics, "eclctl_ocsp_failures_total") == 10
    assert value(metrics, "eclctl_ocsp_statuses", status="none") == 12
    assert value(metrics, "eclctl_ocsp_oldest_answer_seconds") == 13.5
    assert value(metrics, "eclctl_ocsp_soonest_expiry_seconds") == 14.5
    assert value(metrics, "eclctl_keyserver_requests_total", result="found") == 16
    names = ("failures_total", "updates_total", "keys", "unanswered_keys", "oldest_answer_seconds")
    assert [value(metrics, f"eclctl_keyserver_{name}") for name in names] == [17, 18, 19, 20, 21.5]
    assert series(metrics, "eclctl_watch_roots") == {("events",): 2, ("interval",): 0, ("missing",): 0}


def test_the_build_and_the_process_are_described() -> None:
    (labels,) = series(Metrics(), "eclctl_build_info")
    assert labels[0] == __version__ or labels[1] == __version__
    assert (value(Metrics(), "process_open_fds") or 0) > 0


def test_two_registries_do_not_meet() -> None:
    first, second = Metrics(), Metrics()
    first.request("check")
    assert value(second, "eclctl_requests_total", method="check") == 0


def test_the_documentation_names_every_metric_and_no_other() -> None:
    metrics = whole_metrics()
    metrics.decision(decision(Code.PERMISSIVE, would=Code.REQUIREMENTS_NOT_MET), 0.001)
    exposed = {re.sub("_(bucket|sum|count)$", "", name) for name in metric_names(metrics.registry)}
    text = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(\w+)` ", text, re.MULTILINE))
    assert documented == {name for name in exposed if name.startswith("eclctl_")}
