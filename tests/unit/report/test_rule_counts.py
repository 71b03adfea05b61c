"""What each rule has decided, since its policy came into force."""

from __future__ import annotations

from datetime import UTC, datetime

from eclctl.daemon.observing.metrics import Metrics
from eclctl.decide.questions import Decision, Question
from eclctl.model import Caller, Code, Outcome

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def decision(
    code: Code, rule: str | None = "production", policy: str = "sha256:1", would: Code | None = None
) -> Decision:
    outcome = Outcome(code, "", rule, would=would)
    return Decision(
        "1", Question("/a", Caller(1, 1)), outcome, None, None, None, cached=False, generation=1, policy=policy
    )


def counting(policy: str = "sha256:1") -> Metrics:
    metrics = Metrics()
    metrics.rules.begin(policy, NOW)
    return metrics


def test_allow_deny_and_what_would_have_been_denied_are_counted_by_rule() -> None:
    metrics = counting()
    metrics.decision(decision(Code.REQUIREMENTS_MET), 0.1)
    metrics.decision(decision(Code.FORBIDDEN), 0.1)
    metrics.decision(decision(Code.PERMISSIVE, "trial", would=Code.REQUIREMENTS_NOT_MET), 0.1)
    metrics.decision(decision(Code.NO_RULE, None), 0.1)
    assert metrics.rules.of("production") == {"allow": 1, "deny": 1, "would_deny": 0}
    assert metrics.rules.of("trial") == {"allow": 1, "deny": 0, "would_deny": 1}
    assert metrics.rules.of(None) == {"allow": 0, "deny": 1, "would_deny": 0}
    assert metrics.rules.of("unheard-of") == {"allow": 0, "deny": 0, "would_deny": 0}


def test_a_reload_that_changes_nothing_goes_on_counting() -> None:
    metrics = counting()
    metrics.decision(decision(Code.REQUIREMENTS_MET), 0.1)
    metrics.rules.begin("sha256:1", NOW.replace(hour=5))
    assert metrics.rules.of("production")["allow"] == 1
    assert metrics.rules.since == NOW


def test_another_policy_begins_at_nothing_and_what_the_old_one_still_decides_is_not_its() -> None:
    metrics = counting()
    metrics.decision(decision(Code.REQUIREMENTS_MET), 0.1)
    metrics.rules.begin("sha256:2", NOW.replace(hour=5))
    metrics.decision(decision(Code.REQUIREMENTS_MET, policy="sha256:1"), 0.1)
    assert metrics.rules.of("production")["allow"] == 0
    metrics.decision(decision(Code.REQUIREMENTS_MET, policy="sha256:2"), 0.1)
    assert metrics.rules.of("production")["allow"] == 1
    assert metrics.rules.since == NOW.replace(hour=5)


def test_how_many_batches_were_not_recorded_is_forgotten_with_the_next_that_is() -> None:
    metrics = Metrics()
    for _ in range(3):
        metrics.audit(0, ok=False)
    assert metrics.unrecorded == 3
    metrics.audit(1, ok=True)
    assert metrics.unrecorded == 0
