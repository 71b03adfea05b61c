"""One pure function: facts, policy, place, caller, time and what is known of certificates make an outcome.

Every command that says whether an image may run judges here: `check` and policy tests through the engine, `simulate`
through the engine under two policies, `status` and `report` for each rule, `sign --policy` for an image that is yet to
be signed. So none of them can differ from `check`. The order is fixed:

1. Facts that are an error deny with its code. Without a policy, nothing may run.
2. Claims are judged at the time: expired, revoked, too old for the rule.
3. What is withdrawn denies, under every rule.
4. Where no rule matches, or the place has a lower assurance level than the rule needs, the answer is deny.
5. The rule is evaluated (`policy.evaluate`).
6. Of a deny for lack of approvals, an active exception makes allow (`decide.breakglass_apply`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from eclctl.decide.breakglass_apply import apply_exceptions
from eclctl.decide.facts import Facts
from eclctl.decide.place import Place
from eclctl.decide.snapshot import Snapshot
from eclctl.files.canonical_name import NoName
from eclctl.model import Caller, Code, Outcome, Verification
from eclctl.policy.evaluate import evaluate, too_old, withdrawn
from eclctl.policy.language import Policy, Rule
from eclctl.policy.outcome import EXCUSED, denied
from eclctl.policy.select import select_rule
from eclctl.terms import Finding, Kind
from eclctl.trust.revocation import NO_STATUS, StatusSource

_FIRST = frozenset({Code.WITHDRAWN, Code.INTERNAL_ERROR})  # said of the content, under every rule and at every place


class Judgement(NamedTuple):
    """An outcome, the rule that was chosen, and by index why claims do not count under that rule now."""

    outcome: Outcome
    rule: Rule | None = None
    rejected: Mapping[int, Finding] = {}


def judge_image(
    snapshot: Snapshot,
    facts: Facts,
    place: Place,
    caller: Caller,
    now: datetime,
    *,
    statuses: StatusSource = NO_STATUS,
    explain: bool = False,
) -> Judgement:
    """Return what a policy says of an image at a place, for a caller and at a time.

    Args:
        snapshot: the policy with its keys and exceptions.
        facts: what reading the image showed, with the snapshot's keys.
        place: where the image lies.
        caller: who asks.
        now: aware, UTC; it must never run backwards.
        statuses: what is known of certificates; what is not known of one that must be good is not good.
        explain: report on each requirement also when the answer is allow.
    """
    policy, found = snapshot.policy, facts.verification
    if facts.error is not None:
        return Judgement(refused(facts.error))
    if policy is None or found is None:
        return Judgement(NO_POLICY if policy is None else NOT_KNOWN)
    rejected = facts.judgements.rejected(snapshot.store, found.claims, now, statuses)
    rule = rule_at(policy, place, found.kind, caller, now)
    rejected = too_old(rule, found.claims, rejected, now)
    outcome = _under_rule(policy, facts, found, rule, place, rejected=rejected, explain=explain, keep=True)
    if outcome.code in EXCUSED and snapshot.exceptions.candidates:
        outcome = apply_exceptions(outcome, snapshot, place, facts.whole, caller, now)
    return Judgement(outcome, rule, rejected)


def under_rule(
    policy: Policy, facts: Facts, rule: Rule | None, place: Place, rejected: Mapping[int, Finding], *, now: datetime
) -> Outcome:
    """Return what `judge_image` says, before exceptions, where this is the rule that is chosen.

    For a caller who is not known: of several, the rule is another. Nothing that is found out here is kept.

    Args:
        policy: the rule's.
        facts: of an image that was read without an error.
        rule: one that matches the place, None for what is said where none does.
        place: where the image lies.
        rejected: for those claims that do not count at `now`, by index, why.
        now: aware, UTC.
    """
    found = facts.verification
    if found is None:
        return NOT_KNOWN if facts.error is None else refused(facts.error)
    rejected = too_old(rule, found.claims, rejected, now)
    return _under_rule(policy, facts, found, rule, place, rejected=rejected, explain=False, keep=False)


def rule_at(policy: Policy, place: Place, kind: Kind, caller: Caller, now: datetime) -> Rule | None:
    """Return the rule that decides on an image of a kind at a place, for a caller and at a time."""
    return select_rule(policy, path=place.path, kind=kind, caller=caller, now=now, aliases=place.aliases)


def _under_rule(
    policy: Policy,
    facts: Facts,
    found: Verification,
    rule: Rule | None,
    place: Place,
    *,
    rejected: Mapping[int, Finding],
    explain: bool,
    keep: bool,
) -> Outcome:
    outcome = facts.outcomes.find(policy, rule, rejected, explain=explain)
    if outcome is None:
        outcome = _of_content(policy, rule, found, rejected, explain=explain)
        if keep:
            facts.outcomes.keep(policy, rule, rejected, outcome, explain=explain)
    if outcome.code in _FIRST:
        return outcome
    if rule is None:
        return _no_rule(place, found.kind)
    return _too_low(rule, place) if place.assurance.rank < rule.assurance.rank else outcome


def _of_content(
    policy: Policy, rule: Rule | None, found: Verification, rejected: Mapping[int, Finding], *, explain: bool
) -> Outcome:
    """Return what the policy says of the image's content, for every caller and every place."""
    outcome = withdrawn(policy, found) if policy.withdraws else None
    if outcome is not None:
        return outcome
    return _NO_RULE if rule is None else evaluate(policy, rule, found, rejected, explain=explain)


def before_reading(rules: Sequence[Rule | None], place: Place) -> Outcome | None:
    """Return the deny that is certain before the file is read, so that reading it is of no use."""
    matching = [rule for rule in rules if rule is not None]
    if not matching:
        return _no_rule(place)
    if all(place.assurance.rank < rule.assurance.rank for rule in matching):
        return _too_low(matching[0], place)
    return None


def refused(finding: Finding) -> Outcome:
    """Return the deny for an error, with its code where that is one of a decision."""
    return denied(Code(finding.code) if finding.code in _CODES else Code.INTERNAL_ERROR, finding.message)


def _no_rule(place: Place, kind: Kind | None = None) -> Outcome:
    """Return the deny for an image that no rule matches; `kind` as far as it is known."""
    if place.unnamed is not None:
        return _NO_RULE_FOR_NAMELESS[place.unnamed]
    return _NO_RULE if kind is None else _NO_RULE_FOR_KIND.get(kind, _NO_RULE)


_NO_RULE_FOR_KIND = {
    kind: denied(
        Code.NO_RULE,
        f"this is no SIF image but of kind {kind}, and no rule matches that for this caller: "
        "a rule must name kinds other than sif and oci-sif",
    )
    for kind in (Kind.SANDBOX, Kind.SQUASHFS, Kind.EXT3, Kind.OTHER)
}
_CODES = frozenset(Code)
NO_POLICY = denied(Code.NO_POLICY, "no policy is loaded, so nothing may run")
NOT_KNOWN = denied(Code.INTERNAL_ERROR, "nothing is known of the image")
_NO_RULE = denied(Code.NO_RULE, "no rule matches this image and caller, and nothing else is accepted")
_NO_RULE_FOR_NAMELESS = {
    why: denied(Code.NO_RULE, f"{why.value}, so no rule for paths applies, and no other matches") for why in NoName
}
_NOT_SHOWN = "others than the trusted owners can change it or a directory above it; `eclctl explain` as root names it"


def _too_low(rule: Rule, place: Place) -> Outcome:
    """Return the deny for an image whose assurance level is below what its rule wants, with the reason."""
    weak = place.weak
    why = weak.text if weak is not None and weak.shown else _NOT_SHOWN
    reason = (
        f"rule {rule.name} wants assurance {rule.assurance.value}, and this file has {place.assurance.value}: {why}"
    )
    return denied(Code.ASSURANCE_TOO_LOW, reason, rule)
