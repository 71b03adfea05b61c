"""A warning that a rule can never match is never false: no question exists that such a rule answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from eclctl.model import Caller
from eclctl.policy.globs import Glob, compile_glob, includes, objection
from eclctl.policy.language import Match, Policy
from eclctl.policy.select import build_index, select_rule
from eclctl.policy.shadows import find_shadows
from eclctl.terms import Kind
from tests.helpers.facts import policy, rule
from tests.helpers.support import NOW

COMPONENTS = ("a", "b", "ab", "*", "?", "a*", "*a", "*b*", "?*", "*?", "??", "a?b", "**", "**", "**")
KINDS = (Kind.SIF, Kind.OCI_SIF, Kind.SANDBOX)
BASE = policy(rule("[{any_of: [alice]}]"))


def name(random: Random, shortest: int = 1) -> str:
    return "".join(random.choices("ab", k=random.randint(shortest, 3)))


def random_glob(random: Random) -> Glob:
    pattern = "/" + "/".join(random.choices(COMPONENTS, k=random.randint(1, 4)))
    return compile_glob(pattern) if objection(pattern) is None else random_glob(random)


def below(random: Random, glob: Glob) -> str:
    """A path that a pattern matches, most of the time."""
    parts: list[str] = []
    for component in glob.pattern[1:].split("/"):
        if component == "**":
            parts += [name(random) for _ in range(random.randint(0, 2))]
        else:
            filled = (name(random, 0) if c == "*" else random.choice("ab") if c == "?" else c for c in component)
            parts.append("".join(filled) or "a")
    return "/" + "/".join(parts or ["a"])


def some(random: Random, things: Sequence[object], least: int = 1) -> frozenset:
    return frozenset(random.sample(list(things), random.randint(least, len(things))))


def random_match(random: Random) -> Match:
    return Match(
        paths=None if random.random() < 0.15 else tuple({random_glob(random) for _ in range(random.choice([1, 1, 2]))}),
        kinds=some(random, KINDS),
        users=None if random.random() < 0.7 else some(random, (1, 2, 3)),
        groups=None if random.random() < 0.7 else some(random, (1, 2, 3)),
    )


def of(matches: Sequence[Match]) -> Policy:
    """A policy of one rule for each match."""
    rules = tuple(
        replace(BASE.rules[0], name=str(number), order=number, match=each) for number, each in enumerate(matches)
    )
    return replace(BASE, rules=rules, index=build_index(rules))


@pytest.mark.parametrize("seed", range(2))
def test_a_pattern_that_is_included_matches_nothing_else(seed: int) -> None:
    random = Random(seed)
    included = 0
    while included < 1000:
        wide, narrow = random_glob(random), random_glob(random)
        if includes(wide, narrow):
            included += 1
            for path in (below(random, narrow) for _ in range(10)):
                assert not narrow.matches(path) or wide.matches(path), (wide, narrow, path)


@pytest.mark.parametrize("seed", range(2))
def test_a_rule_that_is_warned_about_is_never_selected(seed: int) -> None:
    random = Random(seed)
    warned = asked = 0
    while warned < 300:
        made = of([random_match(random) for _ in range(random.randint(2, 12))])
        shadows = list(find_shadows(made.rules))
        warned += len(shadows)
        never = {shadow.rule.name for shadow in shadows if shadow.path is None}
        by_path = {(shadow.rule.name, shadow.path) for shadow in shadows}
        globs = [
            glob for shadow in shadows for glob in ((shadow.path,) if shadow.path else shadow.rule.match.paths or ())
        ]
        for _ in range(30 if shadows else 0):
            path = below(random, random.choice(globs) if globs else random_glob(random))
            caller = Caller(random.randint(1, 4), random.randint(1, 4), some(random, (1, 2, 3, 4), 0))
            where = None if random.random() < 0.1 else path
            found = select_rule(made, path=where, kind=random.choice(KINDS), caller=caller, now=NOW)
            if found is not None:
                asked += 1
                assert found.name not in never
                left = [glob for glob in found.match.paths or () if (found.name, glob) not in by_path]
                assert found.match.paths is None or any(glob.matches(path) for glob in left)
    assert asked > 1000
