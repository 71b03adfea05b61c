"""Facts by content: what the bytes of an image show. What is known of a file's state is in `decide.cache`.

Facts are what an examination found out, never a verdict: trust and policy are judged afresh at each decision. What is
judged and evaluated from them is remembered beside them, for as long as doing it again could only say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from eclctl.dataclass import dataclass, field
from eclctl.model import Claim, Outcome, Verification
from eclctl.policy.language import Policy, Rule
from eclctl.terms import Finding
from eclctl.trust.keyring import KeyStore, judge_claim, next_turning_point
from eclctl.trust.revocation import NO_STATUS, StatusSource


class Outcomes:
    """What one policy says of one set of facts, by everything else that it depends on.

    Evaluating is a pure function of the policy, the rule, the facts and what was judged out; with equal arguments it
    need not be done again. Trust is not kept here: what is judged out is found anew for each decision and is part of
    the question.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: tuple[Policy | None, dict[_Arguments, Outcome]] = (None, {})  # swapped whole: threads share this

    def find(
        self, policy: Policy, rule: Rule | None, rejected: Mapping[int, Finding], *, explain: bool
    ) -> Outcome | None:
        """Return what `keep` was given for the same arguments."""
        kept = self._kept
        return kept[1].get(_arguments(rule, rejected, explain=explain)) if kept[0] is policy else None

    def keep(
        self, policy: Policy, rule: Rule | None, rejected: Mapping[int, Finding], outcome: Outcome, *, explain: bool
    ) -> None:
        """Keep what evaluating returned."""
        kept = self._kept
        if kept[0] is not policy or len(kept[1]) >= _MAX_OUTCOMES:
            kept = self._kept = (policy, {})
        kept[1][_arguments(rule, rejected, explain=explain)] = outcome


class Judgements:
    """What was judged out of one set of facts, kept for as long as judging again could only say the same.

    A judgement depends on keys, time and what is known of certificates. It holds for one key store and one version of
    what is known, from the time it was made until the next turning point: the instant at which some key, signature
    or answer begins or ceases to be valid.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: tuple[KeyStore | None, int, float, float, Mapping[int, Finding]] = (None, 0, 0.0, 0.0, {})

    def kept(self, store: KeyStore, now: datetime, statuses: StatusSource = NO_STATUS) -> Mapping[int, Finding] | None:
        """Return what `rejected` found, if it still holds at `now`."""
        kept = self._kept  # swapped whole: threads share this
        holds = kept[0] is store and kept[1] == statuses.version and kept[2] <= now.timestamp() < kept[3]
        return kept[4] if holds else None

    def rejected(
        self, store: KeyStore, claims: Sequence[Claim], now: datetime, statuses: StatusSource = NO_STATUS
    ) -> Mapping[int, Finding]:
        """Return, for those claims that do not count at `now`, by index, why."""
        if (kept := self.kept(store, now, statuses)) is not None:
            return kept
        seconds = now.timestamp()
        version = statuses.version  # before anything is looked up: what changes meanwhile makes this out of date
        judged = ((number, judge_claim(store, claim, now, statuses)) for number, claim in enumerate(claims))
        found = {number: finding for number, finding in judged if finding is not None}
        self._kept = (store, version, seconds, next_turning_point(store, claims, now, statuses), found)
        return found


_Arguments: TypeAlias = tuple[int | bool | tuple[int, Finding], ...]


def _arguments(rule: Rule | None, rejected: Mapping[int, Finding], *, explain: bool) -> _Arguments:
    return (-1 if rule is None else rule.order, explain, *rejected.items())


_MAX_OUTCOMES = 16


@dataclass(frozen=True, slots=True)
class Facts:
    """What the bytes of an image show under one set of keys: its verification, or the error that stopped it.

    Nothing here is of a file: neither a path nor an inode, an owner or a time. The same bytes and the same keys have
    the same facts on every host.

    store: digest of the key store that they were found with.
    verification: who signed what; None where `error` says why it is not known.
    digested: whether every data object's SHA-256 is there, which a policy that withdraws objects needs.
    whole: `sha256:<hex>` over all bytes, where an exception named a file of this size.
    outcomes, judgements: what this process found out from them.
    """

    store: str
    verification: Verification | None
    error: Finding | None = None
    digested: bool = False
    whole: str | None = None
    outcomes: Outcomes = field(default_factory=Outcomes, compare=False, repr=False)
    judgements: Judgements = field(default_factory=Judgements, compare=False, repr=False)

    def serve(self, store: str, *, digested: bool, whole: bool = False) -> bool:
        """Tell whether they say all that is asked for.

        Args:
            store: digest of the key store that is in force.
            digested: the digests of all objects are asked for.
            whole: the digest over all bytes is asked for.
        """
        return self.store == store and (self.digested or not digested) and (self.whole is not None or not whole)
