"""What the daemon counts and measures, in a Prometheus registry of its own.

Every label value comes from a closed list or, for rules, from the policy, cut off at `RULES` different ones: no
path, digest, user or job ever becomes a label. A value that is not on its list counts as `other`. Series of closed
lists exist from the start at 0, so that `rate()` sees the first event.

The counts that every decision touches are plain integers that only the event loop's thread adds to (`LabelCounter`); a
locked counter for each would cost more than the rest of the record keeping. Numbers that other parts own (cache,
connections, watcher) are asked for at each scrape by a collector of its own (`lifecycle.stats`): this module imports
none of those parts.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from eclctl import __version__
from eclctl.decide.breakglass import State
from eclctl.model import ALLOWING, Code
from eclctl.report.rule_counts import RuleTallies
from eclctl.terms import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from prometheus_client.metrics_core import Metric

    from eclctl.decide.questions import Decision

_Name = TypeVar("_Name", bound=str)

OTHER = "other"
METHODS = ("check", "check_all", "explain", "ping", "status", "reload", "flush", "rescan", "recent", "report")
PROTOCOL_ERRORS = (
    "bad-request",
    "unknown-method",
    "forbidden",
    "too-long",
    "descriptors",
    "too-many",
    "timeout",
    "slow-reader",
    "accept",
    "credentials",
    "unknown-user",
    "internal-error",
)
PREFETCH = ("kept", "known", "not-kept", "failed")
RESCANS = ("start", "interval", "overflow", "request", "reload", "retry")
EXCEPTION_STATES = tuple(state.value for state in State if state is not State.REMOVED)
RULES = 200

_DECISION_BUCKETS = (25e-6, 50e-6, 1e-4, 25e-5, 5e-4, 1e-3, 25e-4, 1e-2, 5e-2, 0.25, 1.0, 5.0, 30.0)
_VERIFY_BUCKETS = (1e-3, 5e-3, 25e-3, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class LabelCounter(Collector):
    """A counter with labels that one thread adds to without a lock. A scrape reads each count at some moment."""

    def __init__(self, name: str, text: str, labels: Sequence[str], start: Iterable[tuple[str, ...]] = ()) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self.counts: dict[tuple[str, ...], int] = dict.fromkeys(start, 0)

    def collect(self) -> Iterable[Metric]:
        """Return the one metric family; the copy keeps a growing dict from being walked."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self.counts.copy().items():
            family.add_metric(labels, count)
        return [family]


class Durations(Collector):
    """A histogram of seconds with one label that one thread adds to without a lock, as to a `LabelCounter`."""

    def __init__(self, name: str, text: str, label: str, values: Iterable[str], buckets: Sequence[float]) -> None:
        self._name, self._text, self._label, self._buckets = name, text, label, tuple(buckets)
        self._counts = {value: [0] * (len(self._buckets) + 1) for value in values}
        self._sums = dict.fromkeys(self._counts, 0.0)

    def observe(self, value: str, seconds: float) -> None:
        """Add one duration. A bucket holds what is at most its bound."""
        self._counts[value][bisect_left(self._buckets, seconds)] += 1
        self._sums[value] += seconds

    def collect(self) -> Iterable[Metric]:
        """Return the one metric family, with cumulative buckets."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        bounds = [*map(str, self._buckets), "+Inf"]
        for value, counts in self._counts.items():
            buckets = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            family.add_metric([value], buckets, self._sums[value])
        return [family]


class Metrics:
    """The daemon's metrics. `decision` and `request` are for the event loop's thread alone, the rest for any.

    * `rules`: counts of decisions for `status`.
    * `unrecorded`: batches in a row that the audit log has not taken.
    """

    def __init__(self) -> None:
        # It would add a second series to each counter, of which nothing here makes use.
        disable_created_metrics()  # type: ignore[no-untyped-call] # upstream left it unannotated
        self.registry = CollectorRegistry()
        self.rules = RuleTallies()
        self.unrecorded = 0
        self._decisions()
        self._service()
        self._policy()
        self._watch()
        ProcessCollector(registry=self.registry)

    def decision(self, decision: Decision, seconds: float) -> None:
        """Count one decision that took `seconds`."""
        outcome = decision.outcome
        labels = self._labels.get((outcome.rule, outcome.code._value_))  # the hash of a member itself is slow
        by_code, by_rule = labels if labels is not None else self._new_labels(outcome.rule, outcome.code)
        self._by_code[by_code] += 1
        self._by_rule[by_rule] += 1
        self._seconds.observe("warm" if decision.cached else "cold", seconds)
        self.rules.add(decision)
        if outcome.exception is not None:
            self._exception_allows.inc()
        if outcome.would is not None:
            self._would[outcome.would].inc()
            self._would_by_rule[by_rule[:1]] = self._would_by_rule.get(by_rule[:1], 0) + 1

    def request(self, method: str) -> None:
        """Count one request; a method that does not exist counts as `other`."""
        labels = (method,)
        if labels not in self._by_method:
            labels = (OTHER,)
        self._by_method[labels] += 1

    def error(self, kind: str) -> None:
        """Count one breach of the protocol, of a kind in `PROTOCOL_ERRORS`."""
        self._errors.get(kind, self._errors[OTHER]).inc()

    def verification(self, size: int, seconds: float, *, ok: bool) -> None:
        """Count one image of `size` bytes examined in `seconds`; not `ok` when it could not be read or parsed."""
        self._verified["ok" if ok else "failed"].inc()
        self._verified_bytes.inc(size)
        self._verified_seconds.observe(seconds)

    def reload(self, *, ok: bool, now: datetime) -> None:
        """Count one attempt to load policy and keys."""
        self._reloads["ok" if ok else "failed"].inc()
        self._reload_ok.set(float(ok))
        self._reload_time.set(now.timestamp())

    def policy(self, generation: int, *, loaded: bool, now: datetime) -> None:
        """Say which generation came into force at `now`, and whether it has a policy at all."""
        self._generation.set(generation)
        self._loaded.set(float(loaded))
        self._loaded_time.set(now.timestamp())

    def exceptions(self, counts: Mapping[str, int]) -> None:
        """Say how many exceptions there are, by state."""
        for state, gauge in self._exceptions.items():
            gauge.set(counts.get(state, 0))

    def audit(self, records: int, *, ok: bool) -> None:
        """Count one batch of records that was written, or (not `ok`) could not be."""
        if ok:
            self._audited.inc(records)
            self.unrecorded = 0
        else:
            self._audit_errors.inc()
            self.unrecorded += 1

    def prefetched(self, status: str) -> None:
        """Count one image that the watcher had verified ahead of time, by the status that the engine gave."""
        self._prefetched.get(status, self._prefetched[OTHER]).inc()

    def overflow(self) -> None:
        """Count one overflow: events were lost, and a rescan is on its way."""
        self._overflows.inc()

    def rescanned(self, reason: str, seconds: float, now: datetime) -> None:
        """Record one rescan of one tree, finished at `now` after `seconds`."""
        self._rescans.get(reason, self._rescans[OTHER]).inc()
        self._rescan_seconds.set(seconds)
        self._rescan_time.set(now.timestamp())

    def _decisions(self) -> None:
        start = [(_verdict(code), code.value) for code in Code]
        decisions = LabelCounter("eclctl_decisions", "Decisions, by verdict and code.", ["decision", "code"], start)
        rules = LabelCounter("eclctl_rule_decisions", "Decisions, by deciding rule.", ["rule", "decision"])
        text = "Allowed only because the rule is permissive, by that rule."
        would = LabelCounter("eclctl_rule_would_deny", text, ["rule"])
        for tally in (decisions, rules, would):
            self.registry.register(tally)
        self._would_by_rule = would.counts
        self._by_code, self._by_rule = decisions.counts, rules.counts
        self._labels: dict[tuple[str | None, str], tuple[tuple[str, str], tuple[str, str]]] = {}
        self._rule_names: set[str] = set()
        self._seconds = Durations(
            "eclctl_decision_seconds", "Time to a decision.", "cache", ("warm", "cold"), _DECISION_BUCKETS
        )
        self.registry.register(self._seconds)
        text = "Allowed only because a rule is permissive, by what it would have been."
        self._would = self._family("eclctl_would_deny", text, "code", Code)

    def _service(self) -> None:
        start = [(name,) for name in (*METHODS, OTHER)]
        requests = LabelCounter("eclctl_requests", "Requests, by method.", ["method"], start)
        self.registry.register(requests)
        self._by_method = requests.counts
        text = "Breaches of the protocol and of limits, by kind."
        self._errors = self._family("eclctl_protocol_errors", text, "kind", (*PROTOCOL_ERRORS, OTHER))
        self._audited = self._counter("eclctl_audit_records", "Records in the audit log.")
        self._audit_errors = self._counter("eclctl_audit_errors", "Batches of records that could not be written.")
        text = "Images examined, by whether they could be read and parsed."
        self._verified = self._family("eclctl_verifications", text, "result", ("ok", "failed"))
        self._verified_bytes = self._counter("eclctl_verified_bytes", "Bytes of the images examined.")
        text = "Time to examine an image: read, hash, verify."
        self._verified_seconds = Histogram(
            "eclctl_verification_seconds", text, buckets=_VERIFY_BUCKETS, registry=self.registry
        )
        build = self._gauge("eclctl_build_info", "Always 1; the labels say what runs.", ["version", "python"])
        build.labels(__version__, platform.python_version()).set(1)

    def _policy(self) -> None:
        text = "Attempts to load policy and keys, by result."
        self._reloads = self._family("eclctl_reloads", text, "result", ("ok", "failed"))
        self._reload_ok = self._gauge("eclctl_last_reload_success", "1 when the last attempt to load succeeded.")
        self._reload_time = self._gauge("eclctl_last_reload_timestamp_seconds", "When the last attempt to load ended.")
        self._generation = self._gauge("eclctl_policy_generation", "Generation of policy and keys in force.")
        self._loaded = self._gauge("eclctl_policy_loaded", "1 when a policy is in force; at 0 everything is denied.")
        self._loaded_time = self._gauge("eclctl_policy_loaded_timestamp_seconds", "When that generation was loaded.")

        states = self._gauge("eclctl_exceptions", "Exceptions to the policy, by how they stand.", ["state"])
        self._exceptions = {state: states.labels(state) for state in EXCEPTION_STATES}
        self._exception_allows = self._counter("eclctl_exception_allows", "Allowed only because of an exception.")

    def _watch(self) -> None:
        text = "Images that the watcher handed in ahead of time, by what came of it."
        self._prefetched = self._family("eclctl_watch_prefetched", text, "status", (*PREFETCH, OTHER))
        self._overflows = self._counter("eclctl_watch_overflows", "Times that change events were lost.")
        text = "Finished rescans of a tree, by what asked for them."
        self._rescans = self._family("eclctl_watch_rescans", text, "reason", (*RESCANS, OTHER))
        self._rescan_seconds = self._gauge("eclctl_watch_last_rescan_seconds", "How long the last rescan took.")
        self._rescan_time = self._gauge("eclctl_watch_last_rescan_timestamp_seconds", "When the last rescan ended.")

    def _new_labels(self, rule: str | None, code: Code) -> tuple[tuple[str, str], tuple[str, str]]:
        """Return the labels of a code and of a rule, and make sure that the rule's count exists."""
        verdict = _verdict(code)
        name = "(none)" if rule is None else rule.encode("ascii", "backslashreplace").decode("ascii")[:100]
        by_code = (verdict, code.value)
        if name not in self._rule_names and len(self._rule_names) >= RULES:
            labels = by_code, ("(other)", verdict)
        else:
            self._rule_names.add(name)
            labels = self._labels[rule, code.value] = by_code, (name, verdict)
        self._by_rule.setdefault(labels[1], 0)
        return labels

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _family(self, name: str, text: str, label: str, values: Iterable[_Name]) -> dict[_Name, Counter]:
        """Make a counter with one label and all its series; return them by value."""
        counter = Counter(name, text, [label], registry=self.registry)
        return {value: counter.labels(str(value)) for value in values}


def _verdict(code: Code) -> str:
    return (Verdict.ALLOW if code in ALLOWING else Verdict.DENY).value
