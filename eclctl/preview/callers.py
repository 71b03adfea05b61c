"""Chooses the callers that an image is tried as: enough of them that no changed answer goes unseen.

Callers that the rules cannot tell apart get the same answer, so one of each kind is tried:

- a user that no rule names;
- a member of each set of groups that rules name alike, and of each two such sets;
- each user that rules name, with the user's groups; of users that are alike in that, one.

Two sets of groups are enough: the rule that answers under one policy and the rule that answers under the other match a
caller for one set each. Where exceptions name groups, a third set is needed: the one that an exception is for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, combinations
from typing import NamedTuple

from eclctl.dataclass import dataclass, field
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller
from eclctl.policy.select import rules_on
from eclctl.terms import Kind

MOST_TEAMS = 1000
"""Callers that are made up for one image; where there would be more, they are in fewer groups at a time."""

_NOBODY = 65534
_Names = tuple[frozenset[int] | None, frozenset[int] | None]


class Probe(NamedTuple):
    """A caller to ask for, and the numbers that rules know them by; `user` None is one that no rule names.

    `everybody` tells that no rule on the image names users or groups, so that this caller stands for all callers.
    `coarse`, said of the first of an image, tells that there are too many groups to try all callers that rules could
    tell apart.
    """

    caller: Caller
    user: int | None = None
    groups: tuple[int, ...] = ()
    everybody: bool = False
    coarse: bool = False


@dataclass(slots=True)
class Callers:
    """Chooses callers for the images of two snapshots.

    `resolve` returns a user with the groups that they are in now, or None for a user that the host does not know.
    """

    snapshots: tuple[Snapshot, ...]
    resolve: Callable[[int], Caller | None]
    _known: dict[tuple[_Names, ...], tuple[Probe, ...]] = field(default_factory=dict)
    _at_once: int = field(init=False)

    def __post_init__(self) -> None:
        exceptions = (each.exception for snapshot in self.snapshots for each in snapshot.exceptions.candidates)
        self._at_once = 3 if any(each is not None and each.groups is not None for each in exceptions) else 2

    def of(self, path: str, kind: Kind | None) -> tuple[Probe, ...]:
        """Return the callers to try for an image at a resolved path; `kind` None when it was not found out."""
        kinds = tuple(Kind) if kind is None else (kind,)
        named = [names for snapshot in self.snapshots for names in _named(snapshot, path, kinds)]
        key = tuple(dict.fromkeys(named))
        if key not in self._known:
            self._known[key] = tuple(self._chosen(key))
        return self._known[key]

    def _chosen(self, named: Sequence[_Names]) -> list[Probe]:
        by_user = [users for users, _ in named if users is not None]
        by_group = [groups for _, groups in named if groups is not None]
        no_user, no_group = _unnamed(by_user), _unnamed(by_group)
        known = {user: self.resolve(user) for user in sorted(frozenset().union(*by_user))}
        unknown = _alike({user: _in(user, by_user) for user, caller in known.items() if caller is None})
        groups = _alike({group: _in(group, by_group) for group in sorted(frozenset().union(*by_group))})
        teams, coarse = self._teams(groups, 1 + len(unknown))
        found = [
            Probe(Caller(no_user if user is None else user, next(iter(team), no_group), frozenset(team)), user, team)
            for user in (None, *unknown)
            for team in teams
        ]
        found[0] = found[0]._replace(everybody=not known and not groups, coarse=coarse)
        return found + _users(known, by_user, by_group)

    def _teams(self, groups: Sequence[int], users: int) -> tuple[list[tuple[int, ...]], bool]:
        """Return the groups to be in, for each of so many users, and whether some that matter are left out."""
        most = self._at_once
        while most > 1 and users * sum(math.comb(len(groups), size) for size in range(most + 1)) > MOST_TEAMS:
            most -= 1
        teams = chain.from_iterable(combinations(groups, size) for size in range(most + 1))
        return list(teams), most < min(self._at_once, len(groups))


def _named(snapshot: Snapshot, path: str, kinds: Iterable[Kind]) -> list[_Names]:
    """Return the users and groups that rules and exceptions name on an image."""
    policy = snapshot.policy
    if policy is None:
        return []
    matches = [rule.match for kind in kinds for rule in rules_on(policy, path=path, kind=kind)]
    named: list[_Names] = [(match.users, match.groups) for match in matches]
    exceptions = (candidate.exception for candidate in snapshot.exceptions.candidates)
    named += [(each.users, each.groups) for each in exceptions if each is not None]
    return [names for names in named if names != (None, None)]


def _users(
    known: Mapping[int, Caller | None], by_user: Sequence[frozenset[int]], by_group: Sequence[frozenset[int]]
) -> list[Probe]:
    """Return one of each kind of users that this host knows, with their own groups."""
    callers = {user: caller for user, caller in known.items() if caller is not None}
    kinds = {
        user: (*_in(user, by_user), *(not each.isdisjoint(caller.groups | {caller.gid}) for each in by_group))
        for user, caller in callers.items()
    }
    return [Probe(callers[user], user) for user in _alike(kinds)]


def _in(number: int, sets: Sequence[frozenset[int]]) -> tuple[bool, ...]:
    return tuple(number in each for each in sets)


def _alike(kinds: Mapping[int, tuple[bool, ...]]) -> list[int]:
    """Return the lowest number of each kind."""
    chosen: dict[tuple[bool, ...], int] = {}
    for number in sorted(kinds):
        chosen.setdefault(kinds[number], number)
    return sorted(chosen.values())


def _unnamed(sets: Sequence[frozenset[int]]) -> int:
    """Return a number that none of the sets has."""
    taken = frozenset().union(*sets)
    return next(number for number in range(_NOBODY, 2 * _NOBODY + len(taken)) if number not in taken)
