"""Texts about decisions, made once for all decisions that say the same: in answers and in audit records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from eclctl.decide.questions import Decision
    from eclctl.model import Outcome

_MAX_KEPT: Final = 1024


class DecisionTexts:
    """Keeps the texts of decisions. Not for several threads at once.

    Args:
        make: makes the text from a decision's outcome, `cached`, generation, kind and assurance, and nothing else.
    """

    def __init__(self, make: Callable[[Decision], str]) -> None:
        self._make = make
        self._kept: dict[tuple[int, bool, int, int, int], tuple[Outcome, str]] = {}

    def of(self, decision: Decision) -> str:
        """Return the text of a decision."""
        outcome = decision.outcome
        # An outcome is known by identity while it is kept; equal ones of other images are mostly one object.
        key = (id(outcome), decision.cached, decision.generation, id(decision.kind), id(decision.assurance))
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            kept = self._kept[key] = (outcome, self._make(decision))
        return kept[1]
