"""What it is that changes: two answers to one question, compared and described."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from eclctl.dataclass import dataclass, field
from eclctl.decide.questions import Decision
from eclctl.model import Code
from eclctl.preview.callers import Probe
from eclctl.preview.records import Launches
from eclctl.terms import Kind, Verdict


class AnswerChange(StrEnum):
    """What becomes of an answer, the weightiest first.

    The first two are flips. `WOULD` is an image that stays allowed, of which a permissive rule newly says, or says no
    more, that it would be denied; `CODE` any other answer with the same verdict and another code.
    """

    STOPPED = "allow-to-deny"
    FREED = "deny-to-allow"
    WOULD = "would-deny"
    CODE = "other-code"
    SAME = "unchanged"

    @property
    def weight(self) -> int:
        """Lower weighs more."""
        return list(AnswerChange).index(self)


FLIPS = frozenset({AnswerChange.STOPPED, AnswerChange.FREED})


def compare(old: Decision, new: Decision) -> AnswerChange:
    """Return how the new answer differs from the old one; by which rule it was given makes no difference."""
    if old.verdict is not new.verdict:
        return AnswerChange.STOPPED if new.verdict is Verdict.DENY else AnswerChange.FREED
    if (old.would is None) != (new.would is None):
        return AnswerChange.WOULD
    return AnswerChange.SAME if (old.code, old.would) == (new.code, new.would) else AnswerChange.CODE


@dataclass(frozen=True, slots=True)
class UnmetRequirement:
    """A requirement that an answer found not to be met. `where` is `file:line`."""

    text: str
    where: str


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """What one policy answers, and by what. `where` is the rule's `file:line`, `reason` one sentence."""

    verdict: Verdict
    code: Code
    would: Code | None
    rule: str | None
    where: str | None
    reason: str
    unmet: tuple[UnmetRequirement, ...] = ()


def describe_answer(decision: Decision) -> PolicyAnswer:
    """Describe a decision that was made with `explain`."""
    unmet = tuple(UnmetRequirement(each.text, each.where) for each in decision.outcome.requirements if not each.met)
    return PolicyAnswer(
        decision.verdict,
        decision.code,
        decision.would,
        decision.rule,
        decision.outcome.rule_where,
        decision.reason,
        unmet,
    )


@dataclass(slots=True)
class ChangedImage:
    """One image for which something changes in one way.

    probes: the callers without a record that it changes for.
    users: those of recorded decisions that it changes for.
    decisions: how many these decisions are.
    last: the time of the newest (RFC 3339, UTC).
    """

    path: str
    kind: Kind | None
    change: AnswerChange
    old: PolicyAnswer
    new: PolicyAnswer
    probes: list[Probe] = field(default_factory=list)
    users: set[int] = field(default_factory=set)
    decisions: int = 0
    last: str | None = None

    def add(self, user: int, launches: Launches) -> None:
        """Count recorded decisions."""
        self.users.add(user)
        self.decisions += launches.count
        self.last = launches.last if self.last is None else max(self.last, launches.last)

    @property
    def order(self) -> tuple[int, int, str]:
        """What sorts entries: weight of the change, decisions concerned, path."""
        return self.change.weight, -self.decisions, self.path


class FirstChanges:
    """The first `limit` of many entries in their order, and how many there were of each change. None keeps all."""

    def __init__(self, limit: int | None) -> None:
        self.counts: Counter[AnswerChange] = Counter()
        self._limit = limit
        self._kept: list[ChangedImage] = []

    def add(self, entry: ChangedImage) -> None:
        """Take one more."""
        self.counts[entry.change] += 1
        self._kept.append(entry)
        if self._limit is not None and len(self._kept) >= 2 * self._limit + 64:
            self._kept = self.first()

    def first(self) -> list[ChangedImage]:
        """Return the first ones."""
        return sorted(self._kept, key=lambda entry: entry.order)[: self._limit]
