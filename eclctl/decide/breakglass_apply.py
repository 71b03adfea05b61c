"""What an active exception makes of a deny.

It stands for requirements that are not met, and for nothing else: not for what is withdrawn, forbidden, tampered with,
malformed, unreadable or of too little assurance, and not for a rule that denies or for no rule at all.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from eclctl.decide.breakglass import Standing, State, standing
from eclctl.decide.snapshot import Snapshot
from eclctl.files.locating import Located
from eclctl.model import Assurance, Caller, Code, Outcome
from eclctl.policy.breakglass import PolicyException
from eclctl.policy.select import named_by

__all__ = ["SOFTENED", "soften"]

SOFTENED = frozenset({Code.REQUIREMENTS_NOT_MET, Code.OBJECT_NOT_APPROVED, Code.UNSUPPORTED_SIGNATURE_FORMAT})
"""What an exception turns into allow."""


def soften(  # noqa: PLR0917 - all that it depends on, in the order of a decision
    outcome: Outcome, snapshot: Snapshot, located: Located, whole: str | None, caller: Caller, now: datetime
) -> Outcome:
    """Return what the first active exception for this image and caller makes of a deny, else the deny.

    Args:
        outcome: what the policy says, after everything that no exception stands for.
        snapshot: has the exceptions.
        located: the image.
        whole: `sha256:<hex>` over all of its bytes, or None when no exception names a file of its size.
        caller: who asks.
        now: aware; it must never run backwards.
    """
    policy, because = snapshot.policy, ""
    if policy is None or outcome.code not in SOFTENED:
        return outcome
    for candidate in snapshot.exceptions.candidates:
        found = candidate.exception
        if found is None or not found.is_for(caller) or not _names(found, located, whole):
            continue
        stands = standing(candidate, policy, snapshot.store, now)
        if stands.state is State.ACTIVE:
            return _allowed(outcome, found, stands)
        because = because or f"; the exception {found.name!r} does not help: {stands.why}"
    return replace(outcome, reason=outcome.reason + because) if because else outcome


def _names(found: PolicyException, located: Located, whole: str | None) -> bool:
    """Tell whether an exception names this image.

    A path says nothing about content: it counts only where nobody but the trusted owners can change what lies there.
    """
    size = located.attributes.size
    if whole is not None and any(file.size == size and file.digest == whole for file in found.files):
        return True
    path = located.path
    if path is None or located.assurance.rank < Assurance.TRUSTED_PATH.rank:
        return False
    return any(glob.matches(path) for glob in found.paths) or named_by(found.paths, located.aliases)


def _allowed(outcome: Outcome, found: PolicyException, stands: Standing) -> Outcome:
    return Outcome(
        Code.EXCEPTION,
        f"exception {found.name!r} allows what rule {outcome.rule!r} does not ({stands.why}): {outcome.reason}",
        outcome.rule,
        outcome.rule_where,
        outcome.mode,
        stands.approvers,
        outcome.missing,
        outcome.requirements,
        exception=found.name,
    )
