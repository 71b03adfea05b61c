"""Which rule answers: the first that matches, found without asking every rule.

Rules are indexed by the literal directory of their paths, so that ten thousand rules cost as much as the path has
components.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from datetime import datetime

from eclctl.model import Caller, Kind
from eclctl.policy.globs import Glob
from eclctl.policy.language import Match, Policy, Rule, RuleIndex

_FEW = 8  # below this, asking each rule is quicker than the index


def build_index(rules: Iterable[Rule]) -> RuleIndex:
    """Index rules by the literal prefixes of their paths."""
    by_prefix: dict[str, list[tuple[int, Glob]]] = {}
    anywhere: list[int] = []
    here = tuple(rule for rule in rules if rule.match.here)
    for rule in here:
        if rule.match.paths is None:
            anywhere.append(rule.order)
        for glob in rule.match.paths or ():
            by_prefix.setdefault(glob.prefix, []).append((rule.order, glob))
    return RuleIndex({prefix: tuple(found) for prefix, found in by_prefix.items()}, tuple(anywhere), here)


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
            if _applies(rule.match, kind, caller, now) and _on_path(rule.match, path):
                return rule
        return None
    matching = (policy.rules[order] for order in _candidates(policy, path))
    return next((rule for rule in matching if _applies(rule.match, kind, caller, now)), None)


def rules_on(policy: Policy, *, path: str | None, kind: Kind) -> Iterator[Rule]:
    """Yield, in order, every rule that is the first that matches for some caller, up to one that matches for all.

    Args:
        policy: the policy.
        path: as for `select_rule`.
        kind: what the image is.
    """
    for order in _candidates(policy, path):
        rule = policy.rules[order]
        if kind in rule.match.kinds:
            yield rule
            if for_everybody(rule):
                return


def for_everybody(rule: Rule) -> bool:
    """Return whether it depends on the image alone, and on nothing about who asks or when, if a rule matches."""
    return not rule.match.narrow


def _applies(match: Match, kind: Kind, caller: Caller, now: datetime) -> bool:
    if kind not in match.kinds:
        return False
    return not match.narrow or (_for_caller(match, caller) and _at(match, now))


def _for_caller(match: Match, caller: Caller) -> bool:
    if match.users is not None and caller.uid not in match.users:
        return False
    wanted = match.groups
    return wanted is None or caller.gid in wanted or not wanted.isdisjoint(caller.groups)


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


def _candidates(policy: Policy, path: str | None) -> Iterator[int]:
    """Yield the rules that match the path, in order."""
    index = policy.index
    found: set[int] = set()
    if path is not None:
        for prefix in _prefixes(path):
            found.update(order for order, glob in index.by_prefix.get(prefix, ()) if glob.matches(path))
    return heapq.merge(sorted(found), index.anywhere)


def _prefixes(path: str) -> Iterator[str]:
    """Yield every directory above `path`, the root as ""."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)
