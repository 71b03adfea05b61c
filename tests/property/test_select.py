"""The index of rules finds what a walk over all rules finds."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from eclctl.model import Caller, Identity
from eclctl.policy.language import Policy, Rule
from eclctl.policy.select import build_index, rules_on, select_rule
from eclctl.terms import Verdict
from tests.helpers.support import NOW
from tests.property.test_shadows import KINDS, below, of, random_glob, random_match, some


def walked(made: Policy, path: str | None, kind: str, caller: Caller) -> Rule | None:
    """The first rule that matches, by asking each."""
    for rule in made.rules:
        match = rule.match
        users, groups, denied = {caller.uid}, {caller.gid, *caller.groups}, rule.decision is Verdict.DENY
        if (known := caller.identity) is not None:
            users = ({known.uid} - {None}) | (known.denied_uids if denied else set())
            groups = known.groups | (known.denied_groups if denied else set())
            if denied and known.unknown:
                users, groups = match.users or users, match.groups or groups
        on_path = match.paths is None or (path is not None and any(glob.regex.fullmatch(path) for glob in match.paths))
        mine = (match.users is None or users & match.users) and (match.groups is None or groups & match.groups)
        if on_path and mine and kind in match.kinds:
            return rule
    return None


def decided(random: Random, made: Policy) -> Policy:
    """The same rules, some of which deny."""
    rules = tuple(replace(rule, require=(), decision=random.choice(list(Verdict))) for rule in made.rules)
    return replace(made, rules=rules, index=build_index(rules))


def some_caller(random: Random) -> Caller:
    """A caller; half of them have an identity behind their numbers."""

    def some_ids() -> frozenset[int]:
        return some(random, (1, 2, 3, 4), 0)

    uid, gid = random.randint(1, 4), random.randint(1, 4)
    if random.random() < 0.5:
        return Caller(uid, gid, some_ids())
    user = random.choice([None, 1, 2, 3, 4])
    return Caller(uid, gid, some_ids(), Identity(user, some_ids(), some_ids(), some_ids(), random.random() < 0.1))


@pytest.mark.parametrize("seed", range(4))
def test_the_index_finds_the_rule_that_a_walk_over_all_finds(seed: int) -> None:
    random = Random(seed)
    chosen: set[int] = set()
    for _ in range(150):
        made = decided(random, of([random_match(random) for _ in range(random.choice([3, 9, 20, 40]))]))
        globs = [glob for rule in made.rules for glob in rule.match.paths or ()]
        for _ in range(20):
            path = None if random.random() < 0.1 else below(random, random.choice(globs or [random_glob(random)]))
            caller = some_caller(random)
            kind = random.choice(KINDS)
            want = walked(made, path, kind, caller)
            found = select_rule(made, path=path, kind=kind, caller=caller, now=NOW)
            assert found == want, (path, kind, caller, made.rules)
            chosen.add(-1 if found is None else found.order)
            if found is not None:
                assert found in list(rules_on(made, path=path, kind=kind))
    assert len(chosen) > 10
