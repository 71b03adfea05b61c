"""What people read: why a rule said no, what is missing, and who could still sign.

Only made for a deny, or when asked: allowing an image does not pay for sentences.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence

from eclctl.dataclass import dataclass
from eclctl.model import Claim, Code, Missing, Outcome, RequirementReport, SignatureReport, SignerReport, Verification
from eclctl.policy.claim_signers import cosign_mismatch, purpose_mismatch, signers_of, stated
from eclctl.policy.language import Policy, Requirement, Rule, Scope, Signer
from eclctl.policy.n_of_m import Settlement, holds, is_ambiguous, scope_groups
from eclctl.policy.outcome import denied
from eclctl.policy.requirements import scope_text
from eclctl.terms import Finding, Kind, SignatureFormat
from eclctl.trust.signer_types import SIGNER_TYPES, signer_type

_MOST_NAMED = 20
_UNSUPPORTED = Code.UNSUPPORTED_SIGNATURE_FORMAT


def signer_of(policy: Policy, claim: Claim) -> str:
    """Return the signers that a claim counts for, else those who list its key, or the key when none does."""
    holder = policy.holders.get(claim.signer.id)
    return " or ".join(signers_of(policy, claim) or holder.people) if holder is not None else claim.signer.id


def tampered(policy: Policy, claim: Claim) -> str:
    """Return the sentence for a signature that verifies over other content."""
    why = f": {claim.mismatch.message}" if claim.mismatch is not None else ""
    return f"signature {claim.signature} by {signer_of(policy, claim)} is over other content than the image holds{why}"


def signatures(
    policy: Policy, rule: Rule | None, image: Verification, rejected: Mapping[int, Finding]
) -> tuple[SignatureReport, ...]:
    """Return what became of every signature of an image, in the order of their objects.

    Args:
        policy: the policy.
        rule: the rule that decides, None when no rule does.
        image: facts.
        rejected: for those of `image.claims` that do not count now, by index, why.
    """
    legacy = rule is not None and rule.accept_legacy
    found = [
        _of_claim(policy, claim, rejected.get(number), accept_legacy=legacy)
        for number, claim in enumerate(image.claims)
    ]
    found += [
        SignatureReport(failure.signature, failure.format, None, counts=False, why=failure.finding.message)
        for failure in image.failures
    ]
    return tuple(sorted(found, key=lambda each: each.id))


def _of_claim(policy: Policy, claim: Claim, fault: Finding | None, *, accept_legacy: bool) -> SignatureReport:
    why = fault.message if fault is not None else None
    if why is None and claim.mismatch is not None:
        why = f"it is over other content than the image holds: {claim.mismatch.message}"
    if why is None and claim.format is SignatureFormat.LEGACY and not accept_legacy:
        why = "it is a legacy signature, which the rule does not accept"
    if why is None and claim.signer.id not in policy.holders:
        why = "no signer of the policy has its key"
    if why is None and not signers_of(policy, claim):
        why = _cosign_mismatches(policy, claim)
    name = signer_of(policy, claim)
    return SignatureReport(claim.signature, claim.format, name, why is None, why or _coverage(claim))


def _cosign_mismatches(policy: Policy, claim: Claim) -> str:
    """Return why a cosign claim is not what any of its people's entries asks for."""
    people = policy.holders[claim.signer.id].people
    whys = {name: cosign_mismatch(policy.signers[name], claim) for name in people if name in policy.signers}
    return "; ".join(f"{why} for {name}" if len(whys) > 1 else str(why) for name, why in whys.items())


def _coverage(claim: Claim) -> str:
    if claim.format is SignatureFormat.COSIGN:
        return f"it covers the image's manifest, config and layers ({_objects(claim.objects)}){stated(claim)}"
    covered = f"group {claim.group}" if claim.whole_group else f"{_objects(claim.objects)} only"
    return f"it covers {covered}{stated(claim)}"


def _objects(numbers: Collection[int]) -> str:
    return f"object{'s' if len(numbers) > 1 else ''} {_numbers(numbers)}"


def counted_people(needs: Sequence[Requirement], serving: Sequence[Collection[str]]) -> tuple[str, ...]:
    """Return the people who were counted, in the order in which the rule names them."""
    names: list[str] = []
    for need, people in zip(needs, serving, strict=True):
        names += [name for name in _ordered(need, people) if name not in names]
    return tuple(names)


def _ordered(need: Requirement, people: Collection[str]) -> Iterable[str]:
    return sorted(people) if need.anyone else [name for name in need.people if name in people]


def _numbers(numbers: Iterable[int]) -> str:
    found = sorted(numbers)
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(map(str, found[:_MOST_NAMED])) + more


@dataclass(frozen=True, slots=True)
class Reporter:
    """Puts a settlement into words."""

    policy: Policy
    rule: Rule
    image: Verification
    rejected: Mapping[int, Finding]
    settlement: Settlement

    def denial(self) -> Outcome:
        """Return the deny for requirements that are not met or leave objects uncovered, with a report on each."""
        code, reason = self._code_and_reason()
        missing: list[Missing] = []
        for number in self._unmet():
            need, serving = self.rule.require[number], self.settlement.serving[number]
            signed = tuple(_ordered(need, serving))
            could = ("anyone whose key is in the keyrings",) if need.anyone else self._could_sign(number)
            missing.append(Missing(need.text, need.count, len(signed), signed, could, need.stage))
        return denied(
            code,
            reason,
            self.rule,
            signers=counted_people(self.rule.require, self.settlement.serving),
            missing=missing,
            requirements=self.requirements(),
        )

    def requirements(self) -> tuple[RequirementReport, ...]:
        """Return the report on each requirement."""
        return tuple(self._report(number) for number in range(len(self.rule.require)))

    def _code_and_reason(self) -> tuple[Code, str]:
        unmet = self._unmet()
        if not unmet:
            return Code.OBJECT_NOT_APPROVED, self._not_covered()
        stages = dict.fromkeys(stage for number in unmet if (stage := self.rule.require[number].stage) is not None)
        reason = f"missing stage{'s' if len(stages) > 1 else ''}: {', '.join(stages)}; " if stages else ""
        reason += self._needed(unmet[0])
        more = sum(self.rule.require[number].stage is None for number in unmet[1:])
        if more:
            reason += f"; {more} more of the rule's requirements {'is' if more == 1 else 'are'} not met"
        unread = self._unsupported(unmet)
        return (Code.REQUIREMENTS_NOT_MET, reason) if unread is None else (_UNSUPPORTED, f"{reason}; {unread}")

    def _unsupported(self, unmet: Sequence[int]) -> str | None:
        """Return that an approval may be there in a format that is not read, by a signer with cosign keys."""
        failure = next((each for each in self.image.failures if each.finding.code == _UNSUPPORTED), None)
        needs = [number for number in unmet if self.rule.require[number].scope is None]
        could_sign = {self.policy.signers[name] for number in needs for name in self._could_sign(number)}
        if failure is None or all(signer_type(key).approves_parts for signer in could_sign for key in signer.keys):
            return None
        return f"signature {failure.signature} may be that, and is not read: {failure.finding.message}"

    def _unmet(self) -> list[int]:
        needs = enumerate(zip(self.rule.require, self.settlement.serving, strict=True))
        return [number for number, (need, people) in needs if len(people) < need.count]

    def _needed(self, number: int) -> str:
        need = self.rule.require[number]
        have = list(_ordered(need, self.settlement.serving[number]))
        names = f" ({', '.join(have)})" if have else ""
        reason = f"{len(have)} of {need.text}{names}" if need.role is not None else self._not_signed(need, have)
        part = self._absent_part(need.scope)
        return f"{reason}: {part}" if part else reason + self._first_discounted(number)

    def _not_signed(self, need: Requirement, have: Sequence[str]) -> str:
        """Return which of the people that a requirement lists have not approved, and how many have."""
        lacking = [name for name in need.people if name not in have]
        who = ("any of " if len(lacking) > need.count else "") + ", ".join(lacking)
        what = "" if need.scope is None else scope_text(need.scope)
        what += "" if need.purpose is None else f" with the purpose {need.purpose}"
        names = f": {', '.join(have)}" if have else ""
        signed = any(name in self._people(claim) for claim in self.image.claims for name in lacking)
        text = f"no signature by {who}{what} counts yet" if signed else f"not signed by {who}{what} yet"
        return f"{text} ({len(have)} of {need.count}{names})"

    def _first_discounted(self, number: int) -> str:
        """Return why a signature by a signer who is asked does not count: users can do something about that."""
        need = self.rule.require[number]
        for index, claim in enumerate(self.image.claims):
            if need.anyone and not SIGNER_TYPES[claim.signer.kind].in_keyrings:
                continue
            for name in self._people(claim):
                why = self._discounted(index, name, need)
                if why and name not in self.settlement.serving[number] and (need.anyone or name in need.names):
                    return f"; signature {claim.signature} by {name} does not count: {why}"
        return ""

    def _discounted(self, index: int, name: str, need: Requirement) -> str | None:
        """Return why a claim does not count for a person and a requirement though it is good, or None when it does."""
        if (finding := self.rejected.get(index)) is not None:
            return finding.message
        claim, signer = self.image.claims[index], self.policy.signers.get(name)
        why = None if signer is None else cosign_mismatch(signer, claim)
        return why or purpose_mismatch(self.policy, claim, name, need.purpose)

    def _absent_part(self, scope: Scope | None) -> str | None:
        """Return what is missing from the image itself, so that no signature could help."""
        if not self.image.objects or not (self.image.groups or self.image.oci):
            return "the image has no object group that a signature could cover"
        if is_ambiguous(self.image):
            return self._ambiguity()
        if scope is None:
            return None
        absent = scope.ids - {item.id for item in self.image.objects}
        if absent:
            return f"the image has no {_objects(absent)}"
        if scope.ids:
            return None if holds(self.image, scope.ids, scope.holds) else "the objects do not hold that"
        return None if scope_groups(self.image, scope) else "the image has no such group"

    def _not_covered(self) -> str:
        if is_ambiguous(self.image):
            return self._ambiguity()
        ids = self.settlement.uncovered
        if len(self.image.groups) > 1 and not self.image.tied and len(ids) == len(self.image.objects):
            return "the image has several object groups and a nil UUID, so that nothing ties their signatures together"
        oci = self.image.oci
        coverable = frozenset().union(
            *self.image.groups.values(), *(() if oci is None else (oci.subject, oci.carriers))
        )
        loose = [number for number in ids if number not in coverable]
        if loose:
            verb = "is" if len(loose) == 1 else "are"
            return f"no signature can cover {_objects(loose)}, which {verb} in no object group"
        verb = "is" if len(ids) == 1 else "are"
        text = f"{_objects(ids)} {verb} not covered by any approval that rule {self.rule.name!r} asks for"
        if oci is not None and oci.subject.isdisjoint(ids):
            return f"{text}: a cosign signature covers the image's manifest, config and layers alone"
        return text

    def _ambiguity(self) -> str:
        """Return why what would run is not known, with what reading the file's index found first."""
        found = (failure.finding.message for failure in self.image.failures if failure.format is SignatureFormat.COSIGN)
        why = "".join(f" ({message})" for message in itertools.islice(found, 1))
        return f"this OCI-SIF must hold exactly one image, else it is not certain what would run{why}"

    def _people(self, claim: Claim) -> tuple[str, ...]:
        holder = self.policy.holders.get(claim.signer.id)
        return holder.people if holder is not None else ()

    def _could_sign(self, number: int) -> tuple[str, ...]:
        """Return the named people of a requirement whose approval there is not, and who have a key to give it with."""
        need = self.rule.require[number]
        done = self.settlement.serving[number] | self.settlement.approvers[number]
        could = [name for name in need.people if name not in done]
        cosign = need.scope is None and self.image.kind is Kind.OCI_SIF
        return tuple(name for name in could if self._can_sign(self.policy.signers[name], need, cosign=cosign))

    def _can_sign(self, signer: Signer, need: Requirement, *, cosign: bool) -> bool:
        """Tell whether a person has a key for what a requirement asks, natively or, with `cosign`, in any way."""
        timed = self.rule.max_age is not None
        return any(
            signer.can_sign_for(key, need.purpose)
            for key in signer.keys
            if (cosign or signer_type(key).approves_parts) and (not timed or signer_type(key).carries_time)
        )

    def _report(self, number: int) -> RequirementReport:
        need, serving = self.rule.require[number], self.settlement.serving[number]
        people = need.people or sorted({name for claim in self.image.claims for name in self._people(claim)})
        return RequirementReport(
            text=need.text,
            where=need.where,
            met=len(serving) >= need.count,
            needed=need.count,
            have=len(serving),
            signers=tuple(SignerReport(name, name in serving, self._why(name, number)) for name in people),
            stage=need.stage,
        )

    def _why(self, name: str, number: int) -> str:
        """Return in a few words why a person counts for a requirement, or why not."""
        mine = [(index, claim) for index, claim in enumerate(self.image.claims) if name in self._people(claim)]
        need = self.rule.require[number]
        valid = [claim for index, claim in mine if self._discounted(index, name, need) is None]
        signatures = _numbers({claim.signature for claim in valid})
        if name in self.settlement.serving[number]:
            return f"signed (signature {signatures})"
        if name in self.settlement.approvers[number]:
            return f"signed (signature {signatures}), and serves another requirement"
        for index, claim in mine:
            if (why := self._objection(index, claim, name, need)) is not None:
                return why
        return self._partly(number, valid) if valid else "has not signed"

    def _objection(self, index: int, claim: Claim, name: str, need: Requirement) -> str | None:
        if (why := self._discounted(index, name, need)) is not None:
            return f"signature {claim.signature} does not count: {why}"
        if claim.format is SignatureFormat.LEGACY and not self.rule.accept_legacy:
            return f"signature {claim.signature} is a legacy signature, which this rule does not accept"
        if claim.mismatch is not None:
            return f"signature {claim.signature} is over other content"
        return None

    def _partly(self, number: int, valid: Sequence[Claim]) -> str:
        """Return what a person signed whose signatures are good, and are not what the requirement asks for."""
        scope, groups = self.rule.require[number].scope, self.image.groups
        if (absent := self._absent_part(scope)) is not None:
            return f"signed, but {absent}"
        if all(claim.format is SignatureFormat.COSIGN for claim in valid):
            return _ELSEWHERE if scope is None else "signed the image with cosign, which approves no part of one"
        whole = {claim.group for claim in valid if claim.whole_group and claim.header and claim.group is not None}
        if scope is None and whole and whole == set(groups):
            return "signed every group, and nothing ties the groups together" if not self.image.tied else _ELSEWHERE
        if whole:
            return f"signed only group{'s' if len(whole) > 1 else ''} {_numbers(whole)} of {len(groups)}"
        covered = {number for claim in valid for number in claim.objects}
        return f"signed only parts: {_objects(covered)}"


_ELSEWHERE = "signed with a key that counts for another signer"
