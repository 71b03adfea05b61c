"""Every way in which a decision allows. No other module makes an outcome, so none of them can allow.

A decision allows in these four ways and in no other:

1. `by_decision`: the rule has `decision: allow`. Code `rule-allow`.
2. `by_requirements`: every requirement of the rule is met, and each object of the image is covered by an approval that
   met one of them. Code `requirements-met`.
3. `by_mode`: a requirement is not met, and the rule has `mode: permissive`. Code `permissive`; `would` is the code of
   the deny.
4. `by_exception`: a requirement is not met, or an object is not covered, and an active exception names the image and
   the caller. Code `exception`.

`policy.evaluate` asks first: a withdrawn or forbidden signer, a withdrawn object, a signature over other content, and
signatures that the rule denies. `decide.judgement` asks for the assurance level, which no exception excuses.
Everything else is a deny: `denied` makes it, and makes no other outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from eclctl.dataclass import replace
from eclctl.model import ALLOWING, Code, Missing, Outcome, RequirementReport
from eclctl.policy.breakglass import PolicyException, Standing, State
from eclctl.policy.language import Rule
from eclctl.policy.n_of_m import Settlement
from eclctl.terms import Verdict

EXCUSED = frozenset({Code.REQUIREMENTS_NOT_MET, Code.OBJECT_NOT_APPROVED, Code.UNSUPPORTED_SIGNATURE_FORMAT})
"""The denies that an exception turns into allow."""

# The second is the first with a likely reason: an approval may be there in a format that is not read.
_PERMITTED = frozenset({Code.REQUIREMENTS_NOT_MET, Code.UNSUPPORTED_SIGNATURE_FORMAT})


def by_decision(rule: Rule) -> Outcome | None:
    """Return allow for a rule that says `decision: allow`, else None."""
    if rule.decision is not Verdict.ALLOW:
        return None
    return Outcome(Code.RULE_ALLOW, f"rule {rule.name!r} allows", rule.name, rule.where, rule.mode)


def by_requirements(rule: Rule, settlement: Settlement, signers: tuple[str, ...]) -> Outcome | None:
    """Return allow when all requirements of a rule are met and nothing is uncovered, else None.

    Args:
        rule: a rule with requirements.
        settlement: how they came out.
        signers: the people who were counted.
    """
    if rule.decision is not None or not settlement.met or settlement.uncovered:
        return None
    return _requirements_met(rule.name, rule.where, rule.mode, signers)


@lru_cache(maxsize=4096)
def _requirements_met(name: str, where: str, mode: str, signers: tuple[str, ...]) -> Outcome:
    """Return the outcome for an image that meets everything; kept, since it is the same for thousands of images."""
    return Outcome(Code.REQUIREMENTS_MET, f"all requirements of rule {name!r} are met", name, where, mode, signers)


def by_mode(rule: Rule, deny: Outcome) -> Outcome:
    """Return what a rule's mode makes of a deny: a permissive rule allows, and its reason has that of the deny."""
    if not rule.permissive or deny.code not in _PERMITTED:
        return deny
    reason = f"rule {rule.name!r} is permissive; enforced it would deny: {deny.reason}"
    return replace(deny, code=Code.PERMISSIVE, reason=reason, would=deny.code)


def by_exception(deny: Outcome, exception: PolicyException, standing: Standing) -> Outcome:
    """Return what an exception for this image and caller makes of a deny: only an active one allows.

    Args:
        deny: what the rule says.
        exception: names the image and the caller, which `decide.breakglass_apply` finds out.
        standing: how the exception stands now.
    """
    if standing.state is not State.ACTIVE or deny.code not in EXCUSED:
        return deny
    return replace(
        deny,
        code=Code.EXCEPTION,
        reason=f"exception {exception.name!r} allows what rule {deny.rule!r} does not ({standing.why}): {deny.reason}",
        signers=standing.approvers,
        message=None,
        exception=exception.name,
    )


def denied(
    code: Code,
    reason: str,
    rule: Rule | None = None,
    *,
    signers: tuple[str, ...] = (),
    missing: Sequence[Missing] = (),
    requirements: Sequence[RequirementReport] = (),
) -> Outcome:
    """Return a deny.

    Args:
        code: why; a code that would allow is a bug, which denies as `internal-error`.
        reason: one sentence for the user.
        rule: the rule that decided, None when none did.
        signers: the people who were counted.
        missing: the requirements that are not met.
        requirements: the report on each requirement.
    """
    code = Code.INTERNAL_ERROR if code in ALLOWING else code
    if rule is None:
        return Outcome(code, reason)
    lacking, told = tuple(missing), tuple(requirements)
    return Outcome(code, reason, rule.name, rule.where, rule.mode, signers, lacking, told, message=rule.message)
