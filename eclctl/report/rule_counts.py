"""What each rule of the policy in force has decided: for `status`, which wants it by rule and of this policy.

The counts begin when a policy with another hash comes into force, for a rule's name says nothing about what another
policy meant by it; a reload that changes nothing goes on counting. The metrics count since the start of the daemon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eclctl.terms import Verdict

if TYPE_CHECKING:
    from datetime import datetime

    from eclctl.decide.questions import Decision

NO_COUNTS = {"allow": 0, "deny": 0, "would_deny": 0}


class RuleTallies:
    """Decisions by rule, of one policy. For the event loop's thread alone."""

    def __init__(self) -> None:
        self.since: datetime | None = None
        self._policy: str | None = None
        self._counts: dict[str | None, list[int]] = {}

    def begin(self, policy: str | None, now: datetime) -> None:
        """A policy with this hash came into force at `now`; unless it is the same as before, all counts start again."""
        if policy != self._policy or self.since is None:
            self._policy, self.since, self._counts = policy, now, {}

    def add(self, decision: Decision) -> None:
        """Count a decision, unless it was begun under a policy that is no longer in force."""
        if decision.policy != self._policy:
            return
        outcome = decision.outcome
        counts = self._counts.get(outcome.rule)
        if counts is None:
            counts = self._counts[outcome.rule] = [0, 0, 0]
        if outcome.verdict is not Verdict.ALLOW:
            counts[1] += 1
        else:
            counts[0] += 1
            counts[2] += outcome.would is not None

    def of(self, rule: str | None) -> dict[str, int]:
        """Return what a rule decided, None for what no rule did. What it would have denied, it has allowed."""
        counts = self._counts.get(rule)
        return dict(NO_COUNTS) if counts is None else dict(zip(NO_COUNTS, counts, strict=True))
