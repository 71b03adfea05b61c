"""How images stand under a policy: approved, pending or denied by which rule, for all callers.

An image stands under every rule that is the first to match for some caller. What is looked at are facts that are kept,
so nothing is read and nothing is asked; whether a rule matches, and what counts, is judged as in a decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from itertools import islice

from eclctl.dataclass import dataclass, field
from eclctl.decide.cache import Kept
from eclctl.decide.facts import Facts
from eclctl.decide.judgement import NOT_KNOWN, refused, under_rule
from eclctl.decide.place import TrustedPlace
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Claim, Code, Outcome, SignatureReport, Verification
from eclctl.policy.evaluate import too_old
from eclctl.policy.language import Policy, Rule
from eclctl.policy.report import signatures
from eclctl.policy.select import for_everybody, rules_on
from eclctl.report.keys import ListedKey
from eclctl.terms import Finding, Kind, Verdict
from eclctl.trust.revocation import StatusSource
from eclctl.trust.signer_types import SIGNER_TYPES

MOST_RULES = 16
"""Rules that one image is looked at under."""

_NOT_MET = frozenset({Code.REQUIREMENTS_NOT_MET, Code.UNSUPPORTED_SIGNATURE_FORMAT})
_EXPIRED = Finding("expired", "its key has expired")


class Stand(StrEnum):
    """How an image stands under a rule, as if the rule were enforced.

    Pending is what lacks approvals that a rule asks for, and has at least one of them.
    """

    APPROVED = "approved"
    PENDING = "pending"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class RuleStanding:
    """One rule's word on an image; `rule` is None where no rule decided."""

    rule: Rule | None
    outcome: Outcome

    @property
    def name(self) -> str | None:
        """The rule's name."""
        return None if self.rule is None else self.rule.name

    @property
    def everybody(self) -> bool:
        """Whether it does not depend on who asks."""
        return self.rule is None or for_everybody(self.rule)

    @property
    def stand(self) -> Stand:
        """Approved, pending or denied."""
        code = self.outcome.would or self.outcome.code
        if self.outcome.verdict is Verdict.ALLOW and self.outcome.would is None:
            return Stand.APPROVED
        return Stand.PENDING if code in _NOT_MET and self.outcome.signers else Stand.DENIED


@dataclass(frozen=True, slots=True)
class ImageReport:
    """An image, how it stands, and what became of its signatures. `digests` are of its data objects, if known."""

    path: str
    kind: Kind | None
    size: int
    standings: tuple[RuleStanding, ...]
    signatures: tuple[SignatureReport, ...] = ()
    digests: Mapping[int, str] = field(default_factory=dict)
    manifest: str | None = None

    @property
    def stand(self) -> Stand:
        """The best that any caller gets."""
        return best(self.standings)


def best(standings: Iterable[RuleStanding]) -> Stand:
    """Return how an image stands altogether: what one caller may run is approved."""
    found = {standing.stand for standing in standings}
    return next((stand for stand in Stand if stand in found), Stand.DENIED)


def _approved(standings: Iterable[RuleStanding]) -> set[str | None]:
    return {standing.name for standing in standings if standing.stand is Stand.APPROVED}


@dataclass(slots=True)
class Tally:
    """How many images stand how."""

    approved: int = 0
    pending: int = 0
    denied: int = 0

    def add(self, stand: Stand) -> None:
        """Count one more."""
        setattr(self, stand.value, getattr(self, stand.value) + 1)  # each field has the name of a stand


def usable(snapshot: Snapshot, facts: Facts) -> bool:
    """Return whether facts say all that the policy asks about, and with its keys."""
    policy = snapshot.policy
    return policy is not None and facts.serve(snapshot.store.digest, digested=policy.withdraws_objects)


def image_report(snapshot: Snapshot, kept: Kept, statuses: StatusSource, now: datetime) -> ImageReport | None:
    """Return how an image stands; None for a file that is no image, and that no rule is about."""
    policy, facts, path = snapshot.policy, kept.facts, kept.path or ""
    if policy is None:
        return None
    found = facts.verification
    if found is None:
        return ImageReport(path, None, kept.key.size, _refused(facts))
    rejected = facts.judgements.rejected(snapshot.store, found.claims, now, statuses)
    standings = _standings(policy, kept, found, rejected, now)
    if _is_no_image(found, standings):
        return None
    first = standings[0].rule
    said = signatures(policy, first, found, too_old(first, found.claims, rejected, now))
    manifest = None if found.oci is None else found.oci.manifest
    return ImageReport(path, found.kind, kept.key.size, standings, said, found.digests, manifest)


def _is_no_image(found: Verification, standings: Sequence[RuleStanding]) -> bool:
    return found.kind is Kind.OTHER and not any(standing.rule for standing in standings)


def _refused(facts: Facts) -> tuple[RuleStanding, ...]:
    """Return the word on an image that could not be read or parsed."""
    return (RuleStanding(None, NOT_KNOWN if facts.error is None else refused(facts.error)),)


def _standings(
    policy: Policy, kept: Kept, found: Verification, rejected: Mapping[int, Finding], now: datetime
) -> tuple[RuleStanding, ...]:
    place = TrustedPlace(kept.path, kept.aliases)  # else nothing would be kept of it
    without = RuleStanding(None, under_rule(policy, kept.facts, None, place, rejected, now=now))
    if without.outcome.code is not Code.NO_RULE:  # it is withdrawn
        return (without,)
    rules = islice(rules_on(policy, path=kept.path, kind=found.kind, aliases=kept.aliases), MOST_RULES)
    found_out = (RuleStanding(rule, under_rule(policy, kept.facts, rule, place, rejected, now=now)) for rule in rules)
    return tuple(found_out) or (without,)


class Survey:
    """Adds up how images stand, a few at a time.

    Args:
        snapshot: under which policy and keys.
        statuses: what is known of certificates.
        turning: keys that end soon or ended lately, for which the images are counted that this concerns.
        now: when.
    """

    def __init__(self, snapshot: Snapshot, statuses: StatusSource, turning: Sequence[ListedKey], now: datetime) -> None:
        self.snapshot, self.now, self.turning = snapshot, now, tuple(turning)
        self.images = Tally()
        self.by_rule: dict[str, Tally] = {}
        self.concerned: Counter[tuple[str, str]] = Counter()
        self.outdated = 0
        self.files = 0
        self._statuses = statuses
        self._turning = {(key.name, key.about.key): key for key in turning}

    def add(self, kept: Iterable[Kept]) -> None:
        """Count these."""
        for each in kept:
            self._add(each)

    def _add(self, kept: Kept) -> None:
        policy, facts = self.snapshot.policy, kept.facts
        if policy is None or not usable(self.snapshot, facts):
            self.outdated += 1
            return
        found = facts.verification
        if found is None:
            self._count(_refused(facts))
            return
        rejected = facts.judgements.rejected(self.snapshot.store, found.claims, self.now, self._statuses)
        standings = _standings(policy, kept, found, rejected, self.now)
        if _is_no_image(found, standings):
            self.files += 1
            return
        self._count(standings)
        for name, changed in self._without(found.claims, rejected) if self._turning else ():
            if _approved(standings) != _approved(_standings(policy, kept, found, changed, self.now)):
                self.concerned[name] += 1

    def _count(self, standings: Sequence[RuleStanding]) -> None:
        self.images.add(best(standings))
        for standing in standings:
            if standing.name is not None:
                self.by_rule.setdefault(standing.name, Tally()).add(standing.stand)

    def _without(
        self, claims: Sequence[Claim], rejected: Mapping[int, Finding]
    ) -> Iterator[tuple[tuple[str, str], Mapping[int, Finding]]]:
        """Yield, for each turning key that signed, what is judged out when it has ended; if it has, before it had."""
        signed = {_key(claim) for claim in claims} & self._turning.keys()
        for name in sorted(signed):
            mine = [number for number, claim in enumerate(claims) if _key(claim) == name]
            ends = self._turning[name].about.life.ends
            if ends is not None and ends <= self.now:
                yield name, {number: why for number, why in rejected.items() if number not in mine}
            else:
                yield name, {**rejected, **dict.fromkeys(mine, _EXPIRED)}


def _key(claim: Claim) -> tuple[str, str]:
    """Return what `ListedKey.name` and `about.key` are for the key that made a signature."""
    return claim.signer.id, claim.key if SIGNER_TYPES[claim.signer.kind].in_keyrings else claim.signer.id
