"""What a rule says of an image: a pure function of facts and of what was judged out.

The order is fixed. What is withdrawn comes before all rules (`withdrawn`, which the engine asks first). Of a rule
then: a flat deny; a forbidden signer; a signature over other content; an unknown or a discounted signature;
requirements; objects that nothing covers. Only the outcome of the requirements can be softened by `mode: permissive`.

A forbidden or withdrawn signer is recognised by any signature that their key verified, also one that is expired,
revoked, legacy, partial, over other content or by cosign with other annotations than are asked for: it still shows
that they had a hand in the image.

A key's and a signature's own times are the same for every rule and are judged before one is chosen. How old a signature
may be is the rule's to say: `too_old` finds it for each decision, and nothing that is kept outlives it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from eclctl.dataclass import replace
from eclctl.model import Claim, Code, Outcome, Verification
from eclctl.policy import report
from eclctl.policy.language import Policy, Rule
from eclctl.policy.n_of_m import settle
from eclctl.policy.outcome import by_decision, by_mode, by_requirements, denied
from eclctl.terms import Finding, SignatureFormat, Verdict

_LEGACY = SignatureFormat.LEGACY
_NO_TIME = Finding("no-time", "it does not say when it was made, and the rule limits how old it may be")


def withdrawn(policy: Policy, image: Verification) -> Outcome | None:
    """Return a deny when something in the image is withdrawn, else None. Asked before a rule is chosen.

    A signature that no longer counts still shows who signed, so it does not matter what is judged out.

    Args:
        policy: the policy.
        image: facts; with the digest of every data object when `policy.withdraws_objects`.
    """
    named = _claim_of(policy, image, policy.withdrawn.keys)
    if named is not None:
        return denied(Code.WITHDRAWN, f"everything signed by {report.signer_of(policy, named)} is withdrawn")
    if not policy.withdrawn.digests:
        return None
    for item in image.objects:
        digest = image.digests.get(item.id)
        if digest is None:
            return denied(Code.INTERNAL_ERROR, f"object {item.id} was not compared with what is withdrawn")
        if digest in policy.withdrawn.digests:
            return denied(Code.WITHDRAWN, f"object {item.id} of the image is withdrawn ({digest})")
    return None


def evaluate(
    policy: Policy, rule: Rule, image: Verification, rejected: Mapping[int, Finding], *, explain: bool = False
) -> Outcome:
    """Return what `rule` says of an image.

    Args:
        policy: the policy of the rule.
        rule: what `select_rule` chose.
        image: facts; empty for a kind that carries no signatures.
        rejected: for those of `image.claims` that do not count now, by index, why: what trust and time judged out, and
            what is too old for this rule (`too_old`).
        explain: report on each requirement also when the answer is allow.
    """
    if rule.decision is Verdict.DENY:
        return denied(Code.RULE_DENY, f"rule {rule.name!r} denies", rule)
    decided = _stopped(policy, rule, image, rejected) or by_decision(rule)
    if decided is not None:
        return decided
    settlement = settle(policy, rule, image, _counting(rule, image.claims, rejected))
    allowed = by_requirements(rule, settlement, report.counted_people(rule.require, settlement.serving))
    if allowed is not None and not explain:
        return allowed
    reporter = report.Reporter(policy, rule, image, rejected, settlement)
    return (
        by_mode(rule, reporter.denial()) if allowed is None else replace(allowed, requirements=reporter.requirements())
    )


def _stopped(policy: Policy, rule: Rule, image: Verification, rejected: Mapping[int, Finding]) -> Outcome | None:
    """Return a deny for what no requirement can make up for."""
    if rule.forbidden_keys and (claim := _claim_of(policy, image, rule.forbidden_keys)) is not None:
        reason = f"the image is signed by {report.signer_of(policy, claim)}, who is forbidden"
        return denied(Code.FORBIDDEN, reason, rule)
    for number, claim in enumerate(image.claims):
        if (
            claim.mismatch is not None
            and number not in rejected
            and (rule.accept_legacy or claim.format is not _LEGACY)
        ):
            return denied(Code.TAMPERED, report.tampered(policy, claim), rule)
    if rule.deny_unknown and image.failures:
        failure = image.failures[0]
        reason = (
            f"signature {failure.signature} is by no known signer, and this rule denies that: {failure.finding.message}"
        )
        return denied(Code.UNKNOWN_SIGNATURE, reason, rule)
    return _discounted(policy, rule, image, rejected) if rule.deny_discounted else None


def _discounted(policy: Policy, rule: Rule, image: Verification, rejected: Mapping[int, Finding]) -> Outcome | None:
    """Return a deny for a signature that a key verified and that can count for nothing, or for only a part."""
    for number, claim in enumerate(image.claims):
        if claim.format is _LEGACY:
            continue
        why = rejected[number].message if number in rejected else None
        if why is None and claim.group is not None and not claim.whole_group:
            why = f"it is not over the whole of group {claim.group}"
        if why is not None:
            who = report.signer_of(policy, claim)
            reason = f"signature {claim.signature} by {who} does not count, and this rule denies that: {why}"
            return denied(Code.DISCOUNTED_SIGNATURE, reason, rule)
    return None


def _claim_of(policy: Policy, image: Verification, keys: Collection[int]) -> Claim | None:
    """Return the first claim by one of these keys, also one that does not count."""
    for claim in image.claims:
        holder = policy.holders.get(claim.signer.id)
        if holder is not None and holder.key in keys:
            return claim
    return None


def _counting(rule: Rule, claims: Sequence[Claim], rejected: Mapping[int, Finding]) -> list[Claim]:
    """Return the claims that count, mismatches having been dealt with."""
    return [
        claim
        for number, claim in enumerate(claims)
        if number not in rejected and claim.mismatch is None and (rule.accept_legacy or claim.format is not _LEGACY)
    ]


def too_old(
    rule: Rule | None, claims: Sequence[Claim], rejected: Mapping[int, Finding], now: datetime
) -> Mapping[int, Finding]:
    """Return `rejected`, and for those claims that are too old for `rule` at `now`, by index, why.

    A signature counts until the age is reached, and from that instant on no more. One over other content stays what it
    is at any age: it denies. With an age limit, no image is allowed that would be denied without.
    """
    if rule is None or rule.max_age is None:
        return rejected
    newest_too_old = now.timestamp() - rule.max_age
    found = dict(rejected)
    for number, claim in enumerate(claims):
        if number in rejected or claim.mismatch is not None:
            continue
        if claim.created is None:
            found[number] = _NO_TIME
        elif claim.created.timestamp() <= newest_too_old:
            found[number] = rule.too_old
    return found
