"""Rules, and paths of rules, that are never reached because earlier rules take all that they match.

What is found is certain: no question exists that such a rule answers. Not all such rules are found.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from eclctl.dataclass import dataclass, field, fields
from eclctl.policy.globs import Glob, ends, includes, is_literal
from eclctl.policy.language import Match, Rule

_LOOKED_INTO = frozenset({"paths", "kinds", "users", "groups", "hosts", "times", "here", "narrow"})
_OTHERS = tuple((each.name, getattr(Match(), each.name)) for each in fields(Match) if each.name not in _LOOKED_INTO)


class Shadow(NamedTuple):
    """A rule that is never reached at all, or, with `path`, never by way of this path of several.

    `by` are the earlier rules that together take everything, in order.
    """

    rule: Rule
    by: tuple[Rule, ...]
    path: Glob | None = None


def find_shadows(rules: Sequence[Rule]) -> Iterator[Shadow]:
    """Yield what is never reached, in the order of the rules."""
    earlier = _Earlier()
    for rule in rules:
        yield from _shadows(rule, earlier)
        earlier.add(rule)


def _shadows(rule: Rule, earlier: _Earlier) -> Iterator[Shadow]:
    paths = rule.match.paths
    taken = [(path, _takers(rule, earlier.over(rule.match, path))) for path in ((None,) if paths is None else paths)]
    if all(by for _, by in taken):
        everyone = {taker.order: taker for _, by in taken for taker in by}
        yield Shadow(rule, tuple(everyone[order] for order in sorted(everyone)))
        return
    for path, by in taken:
        if by:
            yield Shadow(rule, by, path)


def _takers(rule: Rule, candidates: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the first of the rules that together take all kinds of a rule; none when they leave one."""
    left = set(rule.match.kinds)
    by: list[Rule] = []
    for candidate in candidates:
        if not left.isdisjoint(candidate.match.kinds):
            left -= candidate.match.kinds
            by.append(candidate)
        if not left:
            return tuple(by)
    return ()


@dataclass(slots=True)
class _Askers:
    """Rules with one path, by the users that they name; None is for those that name none."""

    by_user: dict[int | None, list[tuple[Rule, Glob | None]]] = field(default_factory=dict)

    def add(self, rule: Rule, path: Glob | None) -> None:
        for user in (None,) if rule.match.users is None else rule.match.users:
            self.by_user.setdefault(user, []).append((rule, path))

    def who_include(self, match: Match) -> Iterator[tuple[Rule, Glob | None]]:
        """Yield the rules that apply to every caller that `match` applies to."""
        first = None if match.users is None else min(match.users, default=None)
        for key in {None, first}:
            for rule, path in self.by_user.get(key, ()):
                if _asked_by_all(rule.match, match):
                    yield rule, path


@dataclass(slots=True)
class _Earlier:
    """The rules so far, so that few have to be compared: by path, and by who asks.

    `literal` is by the path itself, `wild` by what a pattern's paths begin with and then end with.
    """

    anywhere: _Askers = field(default_factory=_Askers)
    literal: dict[str, _Askers] = field(default_factory=dict)
    wild: dict[str, dict[str, _Askers]] = field(default_factory=dict)

    def add(self, rule: Rule) -> None:
        if rule.match.paths is None:
            self.anywhere.add(rule, None)
        for path in rule.match.paths or ():
            if is_literal(path):
                self.literal.setdefault(path.pattern, _Askers()).add(rule, path)
            else:
                head, tail = ends(path)
                self.wild.setdefault(head, {}).setdefault(tail, _Askers()).add(rule, path)

    def over(self, match: Match, path: Glob | None) -> Iterator[Rule]:
        """Yield the rules that apply wherever `match` does, as far as `path` goes; those of all its kinds first."""
        found = {
            rule.order: rule
            for askers in self._near(path)
            for rule, wider in askers.who_include(match)
            if wider is None or (path is not None and (wider.pattern == path.pattern or includes(wider, path)))
        }
        yield from sorted(found.values(), key=lambda rule: (not match.kinds <= rule.match.kinds, rule.order))

    def _near(self, path: Glob | None) -> Iterator[_Askers]:
        yield self.anywhere
        if path is None:
            return
        if path.pattern in self.literal:
            yield self.literal[path.pattern]
        head, tail = ends(path)
        for end in range(len(head) + 1):
            endings = self.wild.get(head[:end], {})
            if len(endings) < len(tail):
                yield from (askers for ending, askers in endings.items() if tail.endswith(ending))
            else:
                yield from (endings[tail[at:]] for at in range(len(tail) + 1) if tail[at:] in endings)


def _asked_by_all(wide: Match, narrow: Match) -> bool:
    """Return whether every caller of `narrow` is one of `wide`, at the same times. Path and kind are not compared.

    Hosts are compared as they are written, since other hosts may load the same files. What is not known here must be
    the same for both.
    """
    return (
        _has_all(wide.users, narrow.users)
        and _has_all(wide.groups, narrow.groups)
        and _has_all(wide.hosts, narrow.hosts)
        and _has_all(wide.times, narrow.times)
        and all(getattr(wide, name) in (default, getattr(narrow, name)) for name, default in _OTHERS)
    )


def _has_all(wide: Collection[object] | None, narrow: Collection[object] | None) -> bool:
    return wide is None or (narrow is not None and set(narrow) <= set(wide))
