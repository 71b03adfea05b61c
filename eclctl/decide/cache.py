"""Facts that are kept in memory, by the identity of the file that they were found in.

What is kept is what an examination found out, never a verdict: trust and policy are judged afresh at each decision.
Only files whose identity vouches for their content (`trusted-path`) are kept, which the engine sees to.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeAlias

from eclctl.files.locating import FileKey
from eclctl.model import Alias, Claim, Finding, Outcome, Verification
from eclctl.policy.language import Policy, Rule
from eclctl.trust.keyring import KeyStore, judge, next_turning_point
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
        judged = ((number, judge(store, claim, now, statuses)) for number, claim in enumerate(claims))
        found = {number: finding for number, finding in judged if finding is not None}
        self._kept = (store, version, seconds, next_turning_point(store, claims, now, statuses), found)
        return found


_Arguments: TypeAlias = tuple[int | bool | tuple[int, Finding], ...]


def _arguments(rule: Rule | None, rejected: Mapping[int, Finding], *, explain: bool) -> _Arguments:
    return (-1 if rule is None else rule.order, explain, *rejected.items())


_MAX_OUTCOMES = 16


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading one state of a file showed: its verification, or the error that stopped it.

    They hold for the key store with digest `store`. `digested` tells whether every data object's SHA-256 is there,
    which a policy that withdraws objects needs. `whole` is `sha256:<hex>` over all bytes of the file, where an
    exception named a file of its size.
    """

    store: str
    verification: Verification | None
    error: Finding | None = None
    digested: bool = False
    whole: str | None = None
    outcomes: Outcomes = field(default_factory=Outcomes, compare=False, repr=False)
    judgements: Judgements = field(default_factory=Judgements, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start, but `entries`, which is now."""

    entries: int
    hits: int
    misses: int
    evictions: int


class Kept(NamedTuple):
    """Facts of one state of one file. `path` is where it was when it was read, None where no name led to it."""

    key: FileKey
    facts: Facts
    path: str | None
    aliases: tuple[Alias, ...] = ()


class FactCache:
    """At most `capacity` files, least recently used first out. Safe for use from several threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[int, int], Kept] = OrderedDict()
        self._hits = 0
        self._misses = 0
        self._evictions = 0
        self._revision = 0

    def get(self, key: FileKey, *, store: str, digested: bool, whole: bool = False) -> Facts | None:
        """Return the facts kept for exactly this state of this file, if they were found with this key store.

        With `digested`, or `whole`, only those that have the digests of all objects, or of the whole file.
        """
        name = (key.device, key.inode)
        with self._lock:
            entry = self._entries.get(name)
            if (
                entry is None
                or entry.key != key
                or entry.facts.store != store
                or (digested and not entry.facts.digested)
                or (whole and entry.facts.whole is None)
            ):
                self._misses += 1
                return None
            self._entries.move_to_end(name)
            self._hits += 1
            return entry.facts

    def put(self, key: FileKey, facts: Facts, path: str | None = None, aliases: tuple[Alias, ...] = ()) -> None:
        """Keep facts; those of an earlier state of the same file go."""
        name = (key.device, key.inode)
        with self._lock:
            self._revision += 1
            self._entries[name] = Kept(key, facts, path, aliases)
            self._entries.move_to_end(name)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
                self._evictions += 1

    def holds(self, *, device: int, inode: int, size: int, ctime_ns: int, store: str) -> bool:
        """Whether facts are kept for a file that looks like this, without opening it. Not a basis for a decision."""
        entry = self._entries.get((device, inode))
        return entry is not None and (entry.key.size, entry.key.ctime_ns, entry.facts.store) == (size, ctime_ns, store)

    def flush(self) -> int:
        """Forget everything; return how many files were known."""
        with self._lock:
            count = len(self._entries)
            self._revision += 1
            self._entries.clear()
            return count

    def kept(self) -> list[Kept]:
        """Return what is kept, most recently used first."""
        with self._lock:
            return list(reversed(self._entries.values()))

    @property
    def revision(self) -> int:
        """A number that changes whenever other facts are kept."""
        return self._revision

    def stats(self) -> CacheStats:
        """Return the counters."""
        with self._lock:
            return CacheStats(len(self._entries), self._hits, self._misses, self._evictions)
