"""Which exception is for an image and a caller; what an active one makes of a deny is in `policy.outcome`.

An exception excuses requirements that are not met, and nothing else: not what is withdrawn, forbidden, tampered with,
malformed, unreadable or of too little assurance, and not for a rule that denies or for no rule at all.
"""

from __future__ import annotations

from datetime import datetime

from eclctl.dataclass import replace
from eclctl.decide.breakglass import standing
from eclctl.decide.place import Place
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller, Outcome
from eclctl.policy.breakglass import PolicyException, State
from eclctl.policy.outcome import EXCUSED, by_exception
from eclctl.policy.select import named_by
from eclctl.terms import Assurance


def apply_exceptions(  # noqa: PLR0917 - all that it depends on, in the order of a decision
    outcome: Outcome, snapshot: Snapshot, place: Place, whole: str | None, caller: Caller, now: datetime
) -> Outcome:
    """Return what the first active exception for this image and caller makes of a deny, else the deny.

    Args:
        outcome: what the policy says, after everything that no exception excuses.
        snapshot: has the exceptions.
        place: where the image lies.
        whole: `sha256:<hex>` over all of its bytes, or None when no exception names a file of its size.
        caller: who asks.
        now: aware; it must never run backwards.
    """
    policy, because = snapshot.policy, ""
    if policy is None or outcome.code not in EXCUSED:
        return outcome
    for candidate in snapshot.exceptions.candidates:
        found = candidate.exception
        if found is None or not found.is_for(caller) or not _names(found, place, whole):
            continue
        stands = standing(candidate, policy, snapshot.store, now)
        if stands.state is State.ACTIVE:
            return by_exception(outcome, found, stands)
        because = because or f"; the exception {found.name!r} does not help: {stands.why}"
    return replace(outcome, reason=outcome.reason + because) if because else outcome


def _names(found: PolicyException, place: Place, whole: str | None) -> bool:
    """Tell whether an exception names this image.

    A path says nothing about content: it counts only where the trusted owners alone can change what lies there.
    """
    if whole is not None and any(file.size == place.size and file.digest == whole for file in found.files):
        return True
    path = place.path
    if path is None or place.assurance.rank < Assurance.TRUSTED_PATH.rank:
        return False
    return any(glob.matches(path) for glob in found.paths) or named_by(found.paths, place.aliases)
