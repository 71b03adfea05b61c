"""Which rules of a policy tests reach: each should be seen to allow and to deny."""

from __future__ import annotations

from collections.abc import Iterable

from eclctl.dataclass import dataclass
from eclctl.decide.questions import Decision
from eclctl.policy.language import Policy, Rule
from eclctl.terms import Verdict


@dataclass(frozen=True, slots=True)
class Reached:
    """How often a rule decided, by what it said. What a permissive rule would have denied counts as denied."""

    rule: Rule
    allowed: int
    denied: int

    @property
    def gap(self) -> str | None:
        """What no test shows of the rule, or None when tests show both sides of it."""
        if not self.allowed and not self.denied:
            return "no test reaches it"
        if not self.allowed and self.rule.decision is not Verdict.DENY:
            return "no test shows that it allows anything"
        if not self.denied and self.rule.decision is None:
            return "no test shows that it denies anything"
        return None


def coverage(policy: Policy, decisions: Iterable[Decision]) -> tuple[Reached, ...]:
    """Return for every rule, in order, what it decided."""
    allowed: dict[str, int] = {}
    denied: dict[str, int] = {}
    for decision in decisions:
        if decision.rule is not None:
            refused = decision.verdict is Verdict.DENY or decision.would is not None
            side = denied if refused else allowed
            side[decision.rule] = side.get(decision.rule, 0) + 1
    return tuple(Reached(rule, allowed.get(rule.name, 0), denied.get(rule.name, 0)) for rule in policy.rules)
