"""Which rule answers: the first that matches, found without asking every rule.

Rules are indexed by what their paths begin and end with, and by the users and groups that they name, so that of ten
thousand rules a few are asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TypeVar

from eclctl.model import Caller, Kind, Verdict
from eclctl.policy.globs import Glob
from eclctl.policy.inclusion import ends
from eclctl.policy.language import Askers, Entry, Match, Policy, Rule, RuleIndex

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


def select_rule(policy: Policy, *, path: str | None, kind: Kind, caller: Caller, now: datetime) -> Rule | None:
    """Return the first rule, in order, that matches, or None.

    Args:
        policy: the policy.
        path: the image's resolved absolute path (surrogateescape), or None when the name that was asked about does
            not lead to the file: a rule with paths does not match then.
        kind: what the image is.
        caller: who asks.
        now: when (aware), for rules that match at some times only.
    """
    here = policy.index.here
    if len(here) <= _FEW:
        for rule in here:
            if _applies(rule, kind, caller, now) and _on_path(rule.match, path):
                return rule
        return None
    matching = (policy.rules[order] for order in _candidates(policy, path, caller))
    return next((rule for rule in matching if _applies(rule, kind, caller, now)), None)


def rules_on(policy: Policy, *, path: str | None, kind: Kind) -> Iterator[Rule]:
    """Yield, in order, every rule that is the first that matches for some caller, up to one that matches for all.

    Args:
        policy: the policy.
        path: as for `select_rule`.
        kind: what the image is.
    """
    for order in _candidates(policy, path, None):
        rule = policy.rules[order]
        if kind in rule.match.kinds:
            yield rule
            if for_everybody(rule):
                return


def nearly(
    policy: Policy, *, path: str | None, kind: Kind | None, caller: Caller, now: datetime
) -> Iterator[tuple[Rule, str]]:
    """Yield, in order, the rules on a path that do not match, each with the first reason, in a few words.

    Args:
        policy: the policy.
        path: as for `select_rule`.
        kind: what the image is, None when nobody has looked.
        caller: who asks.
        now: as for `select_rule`.
    """
    for rule in policy.rules:
        match = rule.match
        if not _on_path(match, path):
            continue
        if not match.here:
            yield rule, "it is for other hosts"
        elif not _at(match, now):
            yield rule, "it is for other times"
        elif not _for_caller(rule, caller):
            yield rule, "it is for other users or groups"
        elif kind not in match.kinds:
            yield rule, f"it is for images of kind {', '.join(sorted(match.kinds))}"


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


def _candidates(policy: Policy, path: str | None, caller: Caller | None) -> list[int]:
    """Return the rules that match the path and may be for the caller, or for None for anybody, in order."""
    index = policy.index
    found = {order for order, _ in _asking(index.anywhere, caller)}
    if path is not None:
        for askers in _near(index, path):
            found.update(order for order, glob in _asking(askers, caller) if glob is not None and glob.matches(path))
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
