"""Which rule answers: the first that matches, found without asking every rule.

Rules are indexed by what their paths begin and end with, and by the users and groups that they name, so that of ten
thousand rules a few are asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, TypeVar

from eclctl.policy.globs import Glob, ends
from eclctl.policy.language import Askers, Entry, Match, Policy, Rule, RuleIndex
from eclctl.terms import Kind, Verdict

if TYPE_CHECKING:
    from eclctl.model import Alias, Caller

Value = TypeVar("Value")

_FEW = 8  # below this, asking each rule is quicker than the index


def build_index(rules: Iterable[Rule]) -> RuleIndex:
    """Index those of the rules that can match on this host."""
    here = tuple(rule for rule in rules if rule.match.here)
    anywhere = [(rule, None) for rule in here if rule.match.paths is None]
    by_head: dict[str, dict[str, list[tuple[Rule, Glob | None]]]] = {}
    for rule in here:
        for glob in rule.match.paths or ():
            head, tail = ends(glob)
            by_head.setdefault(head, {}).setdefault(tail, []).append((rule, glob))
    by_ends = {
        head: _by_length({tail: _askers(entries) for tail, entries in by_tail.items()})
        for head, by_tail in by_head.items()
    }
    return RuleIndex(_by_length(by_ends), _askers(anywhere), here)


def _by_length(by_text: Mapping[str, Value]) -> tuple[tuple[int, Mapping[str, Value]], ...]:
    """Return what is known of texts by their lengths, the shortest first."""
    found: dict[int, dict[str, Value]] = {}
    for text, value in by_text.items():
        found.setdefault(len(text), {})[text] = value
    return tuple(sorted(found.items(), key=itemgetter(0)))


def _askers(entries: Sequence[tuple[Rule, Glob | None]]) -> Askers:
    everybody: list[Entry] = []
    users: dict[int, list[Entry]] = {}
    groups: dict[int, list[Entry]] = {}
    for rule, glob in entries:
        entry, match = (rule.order, glob), rule.match
        if match.users is None and match.groups is None:
            everybody.append(entry)
        for user in match.users or ():
            users.setdefault(user, []).append(entry)
        for group in match.groups or () if match.users is None else ():
            groups.setdefault(group, []).append(entry)
    return Askers(tuple(everybody), *({key: tuple(found) for key, found in each.items()} for each in (users, groups)))


def select_rule(
    policy: Policy,
    *,
    path: str | None,
    kind: Kind,
    caller: Caller,
    now: datetime,
    aliases: Sequence[Alias] = (),
) -> Rule | None:
    """Return the rule that decides, or None: the first, in order, that matches, unless an alias leads to a deny.

    Args:
        policy: the policy.
        path: the image's one name (surrogateescape), or None when no name leads to the file: a rule with paths does
            not match then.
        kind: what the image is.
        caller: who asks.
        now: when (aware), for rules that match at some times only.
        aliases: the file's other names. A rule that names a mount point, or something below it, matches the alias that
            goes through it. Where an alias by itself would lead to a rule that denies, that rule decides.
    """
    found = _first(policy, path, kind, caller, now, aliases)
    if not aliases:
        return found
    others = (_first(policy, alias.path, kind, caller, now, ()) for alias in aliases)
    denying = [rule for rule in (found, *others) if rule is not None and rule.decision is Verdict.DENY]
    return min(denying, key=attrgetter("order"), default=found)


def _first(  # noqa: PLR0917 - as select_rule's, which every decision calls
    policy: Policy, path: str | None, kind: Kind, caller: Caller, now: datetime, aliases: Sequence[Alias]
) -> Rule | None:
    here = policy.index.here
    if len(here) <= _FEW:
        for rule in here:
            if _applies(rule, kind, caller, now) and (_on_path(rule.match, path) or _named_by(rule.match, aliases)):
                return rule
        return None
    matching = (policy.rules[order] for order in _candidates(policy, path, caller, aliases))
    return next((rule for rule in matching if _applies(rule, kind, caller, now)), None)


def rules_on(policy: Policy, *, path: str | None, kind: Kind, aliases: Sequence[Alias] = ()) -> Iterator[Rule]:
    """Yield, in order, every rule that is the first that matches for some caller, up to one that matches for all.

    Args:
        policy: the policy.
        path: as for `select_rule`.
        kind: what the image is.
        aliases: as for `select_rule`; rules that deny by an alias are among those that are yielded.
    """
    orders = set(_candidates(policy, path, None, aliases))
    for alias in aliases:
        denying = (order for order in _candidates(policy, alias.path, None, ()))
        orders.update(order for order in denying if policy.rules[order].decision is Verdict.DENY)
    for order in sorted(orders):
        rule = policy.rules[order]
        if kind in rule.match.kinds:
            yield rule
            if for_everybody(rule):
                return


def nearly(
    policy: Policy,
    *,
    path: str | None,
    kind: Kind | None,
    caller: Caller,
    now: datetime,
    aliases: Sequence[Alias] = (),
) -> Iterator[tuple[Rule, str]]:
    """Yield, in order, the rules on a path that do not match, each with the first reason, in a few words.

    Args:
        policy: the policy.
        path: as for `select_rule`.
        kind: what the image is, None when the file was not read.
        caller: who asks.
        now: as for `select_rule`.
        aliases: as for `select_rule`; a rule that matches an alias alone, and does not name its mount point, is told.
    """
    for rule in policy.rules:
        match = rule.match
        by_alias = next((alias.path for alias in aliases if _on_path(match, alias.path)), None)
        if not _on_path(match, path) and by_alias is None:
            continue
        if not match.here:
            yield rule, "it is for other hosts"
        elif not _at(match, now):
            yield rule, "it is for other times"
        elif not _for_caller(rule, caller):
            yield rule, "it is for other users or groups"
        elif kind not in match.kinds:
            yield rule, f"it is for images of kind {', '.join(sorted(match.kinds))}"
        elif not _on_path(match, path) and not _named_by(match, aliases):
            yield rule, f"it matches {by_alias}, and the file's name is {path}: add that path"


def for_everybody(rule: Rule) -> bool:
    """Return whether it depends on the image alone, and on nothing about who asks or when, if a rule matches."""
    return not rule.match.narrow


def _applies(rule: Rule, kind: Kind, caller: Caller, now: datetime) -> bool:
    match = rule.match
    if kind not in match.kinds:
        return False
    return not match.narrow or (_for_caller(rule, caller) and _at(match, now))


def _for_caller(rule: Rule, caller: Caller) -> bool:
    return caller.matches(rule.match.users, rule.match.groups, denies=rule.decision is Verdict.DENY)


def _at(match: Match, now: datetime) -> bool:
    return match.times is None or any(window.holds(now) for window in match.times)


def _on_path(match: Match, path: str | None) -> bool:
    if match.paths is None:
        return True
    if path is None:
        return False
    for glob in match.paths:  # noqa: SIM110 - every decision passes here, and any() costs twice as much
        if glob.matches(path):
            return True
    return False


def _named_by(match: Match, aliases: Sequence[Alias]) -> bool:
    return bool(aliases) and named_by(match.paths or (), aliases)


def named_by(globs: Iterable[Glob], aliases: Sequence[Alias]) -> bool:
    """Tell whether a glob names a mount point, or something below it, and matches the alias that goes through it."""
    return any(_names(glob, alias) and glob.matches(alias.path) for glob in globs for alias in aliases)


def _names(glob: Glob, alias: Alias) -> bool:
    point = alias.point
    if point is None:
        return False
    return point in {"/", glob.prefix} or glob.prefix.startswith(point + "/") or glob.pattern == point


def _candidates(policy: Policy, path: str | None, caller: Caller | None, aliases: Sequence[Alias] = ()) -> list[int]:
    """Return the rules that match the path, or an alias, and may be for the caller (None: any caller), in order."""
    index = policy.index
    found = {order for order, _ in _asking(index.anywhere, caller)}
    if path is not None:
        for askers in _near(index, path):
            found.update(order for order, glob in _asking(askers, caller) if glob is not None and glob.matches(path))
    for alias in aliases:
        for askers in _near(index, alias.path):
            entries = _asking(askers, caller)
            found.update(
                order
                for order, glob in entries
                if glob is not None and _names(glob, alias) and glob.matches(alias.path)
            )
    return sorted(found)


def _near(index: RuleIndex, path: str) -> Iterator[Askers]:
    """Yield the rules with paths that begin and end as `path` does."""
    size = len(path)
    for length, by_head in index.paths:
        if length > size:
            return
        for ending, by_tail in by_head.get(path[:length], ()):
            if ending <= size and (found := by_tail.get(path[size - ending :])) is not None:
                yield found


def _asking(askers: Askers, caller: Caller | None) -> Iterable[Entry]:
    """Return what may be for a caller, or for None all; `_for_caller` has the last word."""
    if not askers.users and not askers.groups:
        return askers.everybody
    if caller is None or (caller.identity is not None and caller.identity.unknown):
        return itertools.chain(askers.everybody, *askers.users.values(), *askers.groups.values())
    users, groups = {caller.uid}, {caller.gid, *caller.groups}
    if (known := caller.identity) is not None:
        users = {*known.denied_uids, caller.uid if known.uid is None else known.uid}
        groups = {*known.groups, *known.denied_groups}
    by_user = [askers.users.get(user, ()) for user in users] if askers.users else []
    by_group = [askers.groups.get(group, ()) for group in groups] if askers.groups else []
    return itertools.chain(askers.everybody, *by_user, *by_group)
