"""For whom an image is looked at: enough callers that every rule that is about the image gets to answer somebody.

Callers whom the rules cannot tell apart get the same answer, so one of each kind is asked: somebody whom no rule names,
one user of each set that rules name alike, one member of each such set of groups, and where a rule wants a user and a
group, one who is both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller, Kind
from eclctl.policy.select import rules_on

__all__ = ["Callers", "Probe"]

_NOBODY = 65534
_Names = tuple[frozenset[int] | None, frozenset[int] | None]


class Probe(NamedTuple):
    """A caller to ask for, and the numbers that rules know them by: None stands for anybody else.

    `everybody` tells that no rule on the image names anybody, so that this caller stands for all.
    """

    caller: Caller
    user: int | None = None
    group: int | None = None
    everybody: bool = False


@dataclass(slots=True)
class Callers:
    """Chooses callers for the images of two snapshots.

    `resolve` returns a user with the groups that they are in now, or None for a user that the host does not know.
    """

    snapshots: tuple[Snapshot, ...]
    resolve: Callable[[int], Caller | None]
    _known: dict[tuple[_Names, ...], tuple[Probe, ...]] = field(default_factory=dict)

    def of(self, path: str, kind: Kind | None) -> tuple[Probe, ...]:
        """Return whom to ask for about an image at a resolved path; `kind` None when it was not found out."""
        kinds = tuple(Kind) if kind is None else (kind,)
        named = [names for snapshot in self.snapshots for names in _named(snapshot, path, kinds)]
        key = tuple(dict.fromkeys(named))
        if key not in self._known:
            self._known[key] = tuple(self._chosen(key))
        return self._known[key]

    def _chosen(self, named: Sequence[_Names]) -> list[Probe]:
        users, groups = _classes([each for each, _ in named]), _classes([each for _, each in named])
        nobody, no_group = _unnamed(each for each, _ in named), _unnamed(each for _, each in named)
        found = [Probe(Caller(nobody, no_group), everybody=not users and not groups)]
        found += [Probe(self.resolve(user) or Caller(user, no_group), user) for user in users]
        found += [Probe(Caller(nobody, group, frozenset({group})), None, group) for group in groups]
        both = {
            (user, group)
            for wanted, within in named
            if wanted is not None and within is not None
            for user in users
            if user in wanted
            for group in groups
            if group in within
        }
        return found + [Probe(Caller(user, group, frozenset({group})), user, group) for user, group in sorted(both)]


def _named(snapshot: Snapshot, path: str, kinds: Iterable[Kind]) -> list[_Names]:
    """Return the users and groups that rules and exceptions name on an image."""
    policy = snapshot.policy
    if policy is None:
        return []
    rules = [rule for kind in kinds for rule in rules_on(policy, path=path, kind=kind)]
    named: list[_Names] = [(rule.match.users, rule.match.groups) for rule in rules]
    exceptions = (candidate.exception for candidate in snapshot.exceptions.candidates)
    named += [(each.users, each.groups) for each in exceptions if each is not None]
    return [names for names in named if names != (None, None)]


def _classes(sets: Sequence[frozenset[int] | None]) -> list[int]:
    """Return the lowest number of each class that the sets do not tell apart."""
    chosen: dict[tuple[bool, ...], int] = {}
    given = [each for each in sets if each is not None]
    for number in sorted(frozenset().union(*given)):
        chosen.setdefault(tuple(number in each for each in given), number)
    return sorted(chosen.values())


def _unnamed(sets: Iterable[frozenset[int] | None]) -> int:
    """Return a number that none of the sets has."""
    taken = frozenset().union(*(each for each in sets if each is not None))
    return next(number for number in range(_NOBODY, 2 * _NOBODY + len(taken)) if number not in taken)
