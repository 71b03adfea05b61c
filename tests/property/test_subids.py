"""Ranges of subordinate IDs and the identities that come of them, against implementations that are slow and plain."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eclctl.config.subordinate_ids import (
    MANY,
    MOST_OWNERS,
    Granted,
    Overlap,
    Range,
    Ranges,
    SubordinateIds,
    parse_ranges,
    table,
)
from eclctl.decide.caller_identity import Owner, identify
from eclctl.model import Caller

NAMES = ("alice", "bob", "carol", "7", "ghost")
PEOPLE = {
    "alice": Owner(5, frozenset({50, 51})),
    "bob": Owner(6, frozenset({51})),
    "carol": Owner(7, frozenset()),
    "7": Owner(7, frozenset()),
}
IDS = st.integers(0, 40)
RANGES = st.lists(
    st.builds(
        lambda owner, first, count: Range(owner, first, first + count), st.sampled_from(NAMES), IDS, st.integers(0, 9)
    ),
    max_size=8,
)


class Host:
    """Users 5 to 9 and groups 10 to 14 exist."""

    def is_user(self, uid: int) -> bool:
        return 5 <= uid <= 9

    def is_group(self, gid: int) -> bool:
        return 10 <= gid <= 14

    def owner(self, word: str) -> Owner | None:
        return PEOPLE.get(word)


def naive(ranges: list[Range], number: int) -> tuple[str, ...]:
    return tuple(sorted({each.owner for each in ranges if each.first <= number <= each.last}))


@given(RANGES)
def test_the_table_answers_as_a_look_at_every_range(ranges: list[Range]) -> None:
    made = table(ranges)
    assert [made.owners_of(number) for number in range(60)] == [naive(ranges, number) for number in range(60)]
    assert list(made.starts) == sorted(set(made.starts))


@given(RANGES)
def test_the_text_of_ranges_is_read_as_the_ranges(ranges: list[Range]) -> None:
    text = "".join(f"{owner}:{first}:{last - first + 1}\n" for owner, first, last in ranges)
    assert parse_ranges(text.encode()).ranges == table(ranges)


@given(RANGES)
def test_overlaps_are_all_ids_with_several_owners_and_no_others(ranges: list[Range]) -> None:
    found = {number for each in table(ranges).overlaps({"carol": 7}) for number in range(each.first, each.last + 1)}
    several = {n for n in range(60) if len({"7" if owner == "carol" else owner for owner in naive(ranges, n)}) > 1}
    assert found == several


@given(st.lists(st.tuples(st.integers(0, 30), IDS, st.integers(0, 20)), max_size=60))
def test_more_owners_than_are_told_apart_are_many(several: list[tuple[int, int, int]]) -> None:
    ranges = [Range(f"u{owner}", first, first + count) for owner, first, count in several]
    made = table(ranges)
    for number in range(61):
        want = naive(ranges, number)
        assert made.owners_of(number) == (MANY if len(want) > MOST_OWNERS else want)
    assert all(isinstance(each, Overlap) for each in made.overlaps({}))


@given(st.binary(max_size=200))
def test_no_text_breaks_the_reader(data: bytes) -> None:
    assert isinstance(parse_ranges(data).ranges, Ranges)


def people(words: tuple[str, ...]) -> set[Owner]:
    return {PEOPLE[word] for word in words if word in PEOPLE}


def allowed(caller: Caller, uids: list[Range], gids: list[Range]) -> tuple[int | None, set[int]]:
    """The user and the groups whose rules that allow are for a caller: the sentences of the documentation, in turn."""
    words = naive(uids, caller.uid)
    account = Host().is_user(caller.uid)
    user: int | None = caller.uid
    groups: set[int] = set()
    if words and not account:
        one = people(words)
        user = None
        if len(one) == 1 and "ghost" not in words:
            user = next(iter(one)).uid
            groups |= next(iter(one)).groups
    for gid in {caller.gid, *caller.groups}:
        owners = naive(gids, gid)
        if not owners or Host().is_group(gid):
            groups.add(gid)
        elif len(people(owners)) == 1 and "ghost" not in owners and next(iter(people(owners))).uid == user:
            groups |= next(iter(people(owners))).groups
    return user, groups


@given(RANGES, RANGES, IDS, IDS, st.frozensets(IDS, max_size=4))
def test_an_identity_allows_and_denies_what_the_documentation_says(
    uids: list[Range], gids: list[Range], uid: int, gid: int, more: frozenset[int]
) -> None:
    known = SubordinateIds(Granted("/etc/subuid", table(uids)), Granted("/etc/subgid", table(gids)))
    asked = Caller(uid, gid, more)
    caller = identify(asked, known, Host())
    user, groups = allowed(asked, uids, gids)
    words = {*naive(uids, uid), *(word for each in {gid, *more} for word in naive(gids, each))}
    behind = people(tuple(words))
    denied_users = {uid, *(owner.uid for owner in behind)} | ({user} - {None})
    denied_groups = {gid, *more}.union(groups, *(owner.groups for owner in behind))
    for number in range(60):
        assert caller.matches(frozenset({number}), None) == (number == user)
        assert caller.matches(None, frozenset({number})) == (number in groups)
        denied = "ghost" in words
        assert caller.matches(frozenset({number}), None, denies=True) == (denied or number in denied_users)
        assert caller.matches(None, frozenset({number}), denies=True) == (denied or number in denied_groups)
    assert caller.matches(None, None)
    assert (caller.uid, caller.gid, caller.groups) == (uid, gid, more)
