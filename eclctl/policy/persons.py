"""Whether one person alone can meet a rule, also by posing as another whose key they have."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping

from eclctl.dataclass import dataclass
from eclctl.policy.language import Policy, Requirement, Rule
from eclctl.policy.matching import match
from eclctl.trust.signer_types import signer_type

_MOST_WAYS = 256


@dataclass(frozen=True, slots=True)
class Alone:
    """A person who is enough for a rule.

    `name` is the first of them, `text` all of them in words. `posing` are the people whose keys they also have, when
    they are enough only because of that. `anyone`: every person in the keyrings is.
    """

    name: str
    text: str
    posing: str = ""
    anyone: bool = False


class Persons:
    """The people of a policy, and whose keys each of them has: of those keys that `counts` is true of, by name."""

    def __init__(self, policy: Policy, counts: Callable[[str], bool] = lambda _: True) -> None:
        self._signers = policy.signers
        self._listed = _listed(policy, counts) if policy.shared else {}
        self._sharers = frozenset(person for people in self._listed.values() if len(people) > 1 for person in people)
        self._keys: dict[str, list[int]] = {}
        for key, people in self._listed.items():
            for person in people & self._sharers:
                self._keys.setdefault(person, []).append(key)

    def alone(self, rule: Rule) -> Alone | None:
        """Return who can meet all requirements of a rule alone, or None.

        No one can meet with one approval what asks for two, unless they have keys that are listed for others, too.
        """
        if not rule.require:
            return None
        if all(need.count == 1 for need in rule.require) and not (rule.distinct and len(rule.require) > 1):
            named = [need for need in rule.require if not need.anyone]
            if not named:
                return Alone("anyone", "the certificates in the keyrings", anyone=True)
            found = [name for name in named[0].people if all(self._serves(name, need) for need in rule.require)]
            if found:
                return Alone(found[0], _text(found))
        return self._posing(rule) if self._sharers else None

    def _serves(self, name: str, need: Requirement) -> bool:
        """Return whether a signer is asked for, and has a key whose signatures can be for that purpose."""
        signer = self._signers.get(name)
        return (need.anyone or name in need.names) and any(
            signer is not None and signer.can_sign_for(key, need.purpose)
            for key in (() if signer is None else signer.keys)
            if signer_type(key).in_keyrings or not need.anyone
        )

    def _meets(self, rule: Rule, people: Iterable[str]) -> bool:
        """Return whether the approvals of these people would meet a rule."""
        able = [[name for name in people if self._serves(name, need)] for need in rule.require]
        if rule.distinct:
            slots = [names for names, need in zip(able, rule.require, strict=True) for _ in range(need.count)]
            return None not in match(slots)
        return all(len(names) >= need.count for names, need in zip(able, rule.require, strict=True))

    def _posing(self, rule: Rule) -> Alone | None:
        """Look for a person whose keys, each counted for one of those who list it, meet the rule."""
        asked = frozenset(name for need in rule.require for name in need.people)
        for person in sorted(asked & self._sharers):
            choices = [sorted(self._listed[key]) for key in self._keys[person]]
            ways = itertools.product(*choices) if math.prod(map(len, choices)) <= _MOST_WAYS else ()
            for way in ways:
                if self._meets(rule, set(way)):
                    return Alone(person, "", ", ".join(f"'{name}'" for name in sorted(set(way) - {person})))
        return None


def _text(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown  # noqa: PLR2004 - as many as are shown


def _listed(policy: Policy, counts: Callable[[str], bool]) -> Mapping[int, frozenset[str]]:
    """Return who lists each key, by its number."""
    found: dict[int, set[str]] = {}
    for key, holder in policy.holders.items():
        if counts(key):
            found.setdefault(holder.key, set()).update(name for name in holder.people if name in policy.signers)
    return {key: frozenset(people) for key, people in found.items() if people}
