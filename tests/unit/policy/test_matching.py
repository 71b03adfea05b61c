"""The matching is the largest there is."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from eclctl.policy.matching import match


def test_those_who_could_have_something_else_move() -> None:
    assert match(["ab", "a", "bc"]) == ["b", "a", "c"]


def test_a_long_chain_of_moves_does_not_exhaust_the_stack() -> None:
    wishes = [(n, n + 1) for n in range(5000)] + [(0,)]
    assert None not in match(wishes)


@given(st.lists(st.sets(st.integers(0, 5), max_size=4), max_size=5))
def test_no_arrangement_serves_more(wishes: list[set[int]]) -> None:
    got = match([sorted(wish) for wish in wishes])
    taken = [item for item in got if item is not None]
    assert len(taken) == len(set(taken))
    assert all(item is None or item in wish for item, wish in zip(got, wishes, strict=True))
    options = [[*wish, None] for wish in wishes]
    arrangements = ([item for item in one if item is not None] for one in itertools.product(*options))
    assert len(taken) == max(len(one) for one in arrangements if len(one) == len(set(one)))
