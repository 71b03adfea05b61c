"""Counts approvals: whether n of m people approve what a rule asks them to.

The rules of counting:

1. A claim that counts is one that was not judged out, is over the present content, and, when it is a legacy one, is
   accepted by the rule. `evaluate` drops the others first.
2. A key that several people list counts for one of them at a time, in the whole rule. Every way to share such keys
   out is tried, within `MAX_ASSIGNMENTS`; beyond that they count for no one.
3. A person approves a group when one claim of theirs covers exactly its objects and the header, and the image when
   they approve every group; several groups only when the header ties them together.
4. A person approves objects by number when one claim of theirs covers all of them and the header. Claims over single
   objects never add up.
5. A legacy claim approves only a whole image of one group, all of which it covers.
6. A cosign claim approves the image of an OCI-SIF for those people whose entry it is as asked for, and never a part of
   one. What it covers is that image; the objects that only carry signatures count as covered with it.
7. With `distinct`, no person serves two requirements: an exact matching of people to places.
8. A claim that says what it is for counts only for requirements that ask for that, and one that does not say so only
   for those that ask for nothing (`claim_signers`).
9. Every object must be covered by a claim that satisfied some requirement. In an OCI-SIF that is not of exactly one
   image nothing is covered: what would run is not known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

from eclctl.dataclass import dataclass
from eclctl.model import Claim, Verification
from eclctl.policy.claim_signers import signers_for_purpose, signers_of
from eclctl.policy.language import Policy, Requirement, Rule, Scope
from eclctl.policy.matching import match
from eclctl.terms import Kind, SignatureFormat
from eclctl.trust.signer_types import SIGNER_TYPES

MAX_ASSIGNMENTS = 4096

_LEGACY = SignatureFormat.LEGACY
_COSIGN = SignatureFormat.COSIGN
_NO_ONE = ""
_NOTHING_SHARED: Mapping[int, str] = {}


@dataclass(slots=True)
class Approvals:
    """What each person approves, under one way to share keys out.

    signed_by: the claims but those of cosign, each with the people that it counts for.
    groups: the object groups that each person approves.
    whole: the people who approve every object of the file.
    cosign: the people who approve the image in the file with cosign.
    """

    signed_by: list[tuple[Claim, tuple[str, ...]]]
    groups: dict[str, set[int]]
    whole: set[str]
    cosign: set[str]


@dataclass(slots=True)
class Settlement:
    """How the requirements of a rule came out.

    For each requirement, in order, `approvers` are the people who approve its part, and `serving` those who were
    counted for it (the same unless the rule is `distinct`). `places` is how many of the approvals that the rule needs
    there are. `uncovered` are the IDs of objects that no satisfied requirement covers; it is only filled when all
    requirements are met.
    """

    approvers: list[set[str]]
    serving: list[set[str]]
    places: int
    met: bool = False
    uncovered: tuple[int, ...] = ()


def settle(policy: Policy, rule: Rule, image: Verification, claims: Sequence[Claim]) -> Settlement:
    """Count `claims` for a rule, and return the best outcome over all ways to share keys out."""
    if not policy.shared:
        return _settle(policy, rule, image, claims, _NOTHING_SHARED)
    best: Settlement | None = None
    for shared_out in _assignments(policy, rule, claims):
        settlement = _settle(policy, rule, image, claims, shared_out)
        if settlement.met and not settlement.uncovered:
            return settlement
        if best is None or (settlement.met, settlement.places) > (best.met, best.places):
            best = settlement
    if best is None:
        raise RuntimeError("there is always at least one way to share keys out")
    return best


def holds(image: Verification, objects: frozenset[int], words: frozenset[str]) -> bool:
    """Tell whether these objects of the image together hold at least `words`."""
    found: set[str] = set()
    for item in image.objects:
        if item.id in objects:
            found |= item.holds
    return words <= found


def scope_groups(image: Verification, scope: Scope) -> frozenset[int]:
    """Return the groups that a scope is about; none when one is missing or does not hold what it must."""
    if not scope.groups:
        return frozenset(number for number, ids in image.groups.items() if holds(image, ids, scope.holds))
    for number in scope.groups:
        if number not in image.groups or not holds(image, image.groups[number], scope.holds):
            return frozenset()
    return scope.groups


def is_ambiguous(image: Verification) -> bool:
    """Tell whether an OCI-SIF does not hold exactly one image, so that what would run is not what was approved."""
    return image.kind is Kind.OCI_SIF and image.oci is None


def _assignments(policy: Policy, rule: Rule, claims: Sequence[Claim]) -> Iterator[Mapping[int, str]]:
    """Yield every way to give each contested key to one of the people who list it."""
    contested = _contested(policy, rule, claims)
    if math.prod(map(len, contested.values())) > MAX_ASSIGNMENTS:
        yield dict.fromkeys(contested, _NO_ONE)
        return
    for people in itertools.product(*contested.values()):
        yield dict(zip(contested, people, strict=True))


def _contested(policy: Policy, rule: Rule, claims: Sequence[Claim]) -> dict[int, list[str]]:
    """Return the keys among `claims` that could count for more than one of the people that the rule asks."""
    asked = frozenset().union(*(need.names for need in rule.require))
    people: dict[int, set[str]] = {}
    for claim in claims:
        holder = policy.holders.get(claim.signer.id)
        if holder is not None and holder.key in policy.shared:
            people.setdefault(holder.key, set()).update(
                name for name in signers_of(policy, claim) if rule.asks_anyone or name in asked
            )
    return {key: sorted(names) for key, names in people.items() if len(names) > 1}


def _settle(
    policy: Policy, rule: Rule, image: Verification, claims: Sequence[Claim], shared_out: Mapping[int, str]
) -> Settlement:
    approvals = _approvals_by_need(policy, rule, image, claims, shared_out)
    approvers = [_approvers(need, image, given) for need, given in zip(rule.require, approvals, strict=True)]
    serving = _distinct(rule.require, approvers) if rule.distinct else approvers
    places = met = 0
    for need, people in zip(rule.require, serving, strict=True):
        have = len(people)
        places += min(have, need.count)
        met += have >= need.count
    if met < len(rule.require):
        return Settlement(approvers, serving, places)
    return Settlement(approvers, serving, places, met=True, uncovered=_uncovered(rule, image, approvals, approvers))


def _approvals_by_need(
    policy: Policy, rule: Rule, image: Verification, claims: Sequence[Claim], shared_out: Mapping[int, str]
) -> list[Approvals]:
    """Return what people approve for each requirement. Requirements that ask for the same share one object."""
    if not rule.asks_anyone and not rule.asks_purpose:
        return [_approvals(policy, image, claims, shared_out, None)] * len(rule.require)
    in_keyrings = [claim for claim in claims if SIGNER_TYPES[claim.signer.kind].in_keyrings]
    known: dict[tuple[str | None, bool], Approvals] = {}
    for need in rule.require:
        asked = (need.purpose, need.anyone)
        if asked not in known:
            known[asked] = _approvals(policy, image, in_keyrings if need.anyone else claims, shared_out, need.purpose)
    return [known[need.purpose, need.anyone] for need in rule.require]


def _approvals(
    policy: Policy, image: Verification, claims: Sequence[Claim], shared_out: Mapping[int, str], purpose: str | None
) -> Approvals:
    signed_by: list[tuple[Claim, tuple[str, ...]]] = []
    groups: dict[str, set[int]] = {}
    whole: set[str] = set()
    cosign: set[str] = set()
    for claim in claims:
        people = signers_of(policy, claim)
        if shared_out:
            people = _those_given(policy, claim, people, shared_out)
        if purpose is not None or claim.purposes or policy.binds:
            people = signers_for_purpose(policy, claim, people, purpose)
        if claim.format is _COSIGN:
            cosign.update(people if _covers_the_image(claim, image) else ())
            continue
        signed_by.append((claim, people))
        if claim.format is _LEGACY:
            whole.update(people if _covers_all_of_one_group(claim, image) else ())
        elif (group := _approved_group(claim, image)) is not None:
            for name in people:
                groups.setdefault(name, set()).add(group)
    return Approvals(signed_by, groups, whole | _whole(image, groups), cosign)


def _those_given(
    policy: Policy, claim: Claim, people: tuple[str, ...], shared_out: Mapping[int, str]
) -> tuple[str, ...]:
    """Return those of `people` who were given the claim's key, when it is one that has to be shared out."""
    holder = policy.holders.get(claim.signer.id)
    if holder is None or holder.key not in shared_out:
        return people
    return tuple(name for name in people if name == shared_out[holder.key])


def _approved_group(claim: Claim, image: Verification) -> int | None:
    """Return the group that a claim approves: it covers the header and exactly the objects of the group."""
    group = claim.group
    if group is None or not claim.whole_group or not claim.header:
        return None
    return group if image.groups.get(group) == claim.objects else None


def _whole(image: Verification, groups: Mapping[str, set[int]]) -> set[str]:
    """Return the people who approve every group, which mean something together only under a header that ties them."""
    everything = len(image.groups)
    if everything == 0 or not _is_tied(image):
        return set()
    return {name for name, approved in groups.items() if len(approved) == everything}


def _is_tied(image: Verification) -> bool:
    """Tell whether signatures over different groups belong together."""
    return image.tied or len(image.groups) <= 1


def _covers_the_image(claim: Claim, image: Verification) -> bool:
    """Tell whether a cosign claim covers manifest, config and layers of the only image of the file."""
    return image.oci is not None and bool(image.oci.subject) and claim.objects >= image.oci.subject


def _covers_all_of_one_group(claim: Claim, image: Verification) -> bool:
    """Tell whether a legacy claim covers the data of an image that is one group."""
    return claim.whole_group and len(image.groups) == 1 and claim.objects >= next(iter(image.groups.values()))


def _approvers(need: Requirement, image: Verification, given: Approvals) -> set[str]:
    scope = need.scope
    if scope is None:
        people = given.whole | given.cosign
    elif scope.ids:
        people = {name for _, names in _over_objects(scope, image, given) for name in names}
    else:
        people = _approve_groups(scope, image, given)
    return people if need.anyone else people & need.names


def _approve_groups(scope: Scope, image: Verification, given: Approvals) -> set[str]:
    wanted = scope_groups(image, scope)
    if not wanted or (len(wanted) > 1 and not image.tied):
        return set()
    return {name for name, approved in given.groups.items() if wanted <= approved}


def _over_objects(scope: Scope, image: Verification, given: Approvals) -> list[tuple[Claim, tuple[str, ...]]]:
    """Return the claims that each cover all objects that the scope names, and the header, with their people."""
    present = frozenset(item.id for item in image.objects)
    if not image.groups or not scope.ids <= present or not holds(image, scope.ids, scope.holds):
        return []
    return [
        (claim, names)
        for claim, names in given.signed_by
        if claim.header and claim.format is not _LEGACY and scope.ids <= claim.objects
    ]


def _distinct(needs: Sequence[Requirement], approvers: Sequence[set[str]]) -> list[set[str]]:
    """Give as many places as possible a person of their own."""
    places = [number for number, need in enumerate(needs) for _ in range(need.count)]
    serving: list[set[str]] = [set() for _ in needs]
    wishes = [sorted(people) for people in approvers]
    for number, person in zip(places, match([wishes[number] for number in places]), strict=True):
        if person is not None:
            serving[number].add(person)
    return serving


def _uncovered(
    rule: Rule, image: Verification, approvals: Sequence[Approvals], approvers: Sequence[set[str]]
) -> tuple[int, ...]:
    """Return the objects that no satisfied requirement covers."""
    covered: set[int] = set()
    if not is_ambiguous(image):
        for need, given, people in zip(rule.require, approvals, approvers, strict=True):
            covered |= _covered(need, image, given, people)
    return tuple([item.id for item in image.objects if item.id not in covered])


def _covered(need: Requirement, image: Verification, given: Approvals, people: set[str]) -> set[int]:
    """Return the objects that the claims behind a met requirement cover."""
    if need.scope is None:
        return _covered_whole(image, given, people)
    if not _is_tied(image):
        return set()
    if need.scope.ids:
        signed_by = _over_objects(need.scope, image, given)
        return {number for claim, names in signed_by if not people.isdisjoint(names) for number in claim.objects}
    return {number for group in scope_groups(image, need.scope) for number in image.groups[group]}


def _covered_whole(image: Verification, given: Approvals, people: set[str]) -> set[int]:
    """Return every object in a group when one of `people` approves them all, and what their cosign claims cover."""
    covered: set[int] = set()
    if not people.isdisjoint(given.whole):
        covered.update(*image.groups.values())
    if image.oci is not None and not people.isdisjoint(given.cosign):
        covered |= image.oci.subject | image.oci.carriers
    return covered
