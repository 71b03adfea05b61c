"""The callers that an image is tried as."""

from __future__ import annotations

from eclctl.model import Caller
from eclctl.preview.callers import Callers
from eclctl.terms import Kind
from tests.helpers.engines import Site
from tests.helpers.previews import LENIENT, nobody_knows

_Named = tuple[int | None, tuple[int, ...]]


def chosen(
    site: Site, *matches: str, kind: Kind | None = Kind.SIF, path: str = "a.sif"
) -> list[tuple[int | None, tuple[int, ...]]]:
    text = "rules:\n" + "".join(
        f"  - {{name: r{number}, match: {{{match}}}, decision: deny}}\n" for number, match in enumerate(matches)
    )
    callers = Callers((site.use_policy(text),), nobody_knows)
    return [(probe.user, probe.groups) for probe in callers.of(str(site.library / path), kind)]


def test_where_no_rule_names_anybody_one_caller_stands_for_everybody(site: Site) -> None:
    (probe,) = Callers((site.use_policy(LENIENT),), nobody_knows).of(str(site.library / "a.sif"), Kind.SIF)
    assert (probe.everybody, probe.caller) == (True, Caller(65534, 65534))


def test_users_and_groups_that_rules_do_not_tell_apart_are_asked_for_once(site: Site) -> None:
    found = chosen(site, "users: ['1', '2', '3']", "users: ['3', '4']")
    assert found == [(None, ()), (1, ()), (3, ()), (4, ())]
    assert chosen(site, "groups: ['7', '8']", "groups: ['8', '9']") == [
        (None, ()),
        *((None, (group,)) for group in (7, 8, 9)),
        *((None, pair) for pair in ((7, 8), (7, 9), (8, 9))),
    ]


def test_a_user_unknown_to_the_host_may_be_in_any_group_that_rules_name(site: Site) -> None:
    assert chosen(site, "users: ['1'], groups: ['7']") == [(None, ()), (None, (7,)), (1, ()), (1, (7,))]


def test_too_many_groups_are_asked_for_one_at_a_time(site: Site) -> None:
    found = chosen(site, *(f"groups: ['{group}']" for group in range(100, 200)))
    assert found == [(None, ()), *((None, (group,)) for group in range(100, 200))]


def test_it_is_said_when_groups_are_asked_for_one_at_a_time(site: Site) -> None:
    def coarse(number: int) -> bool:
        names = "".join(f"  - {{name: r{n}, match: {{groups: ['{n}']}}, decision: deny}}\n" for n in range(number))
        return Callers((site.use_policy("rules:\n" + names),), nobody_knows).of("/a", Kind.SIF)[0].coarse

    assert [coarse(number) for number in (1, 44, 45)] == [False, False, True]


def test_rules_on_other_paths_and_kinds_and_behind_one_for_everybody_name_nobody(site: Site) -> None:
    others = ("paths: [/elsewhere/**], users: ['1']", "kinds: [sandbox], users: ['2']", "kinds: [sif]", "users: ['3']")
    assert chosen(site, *others) == [(None, ())]
    assert chosen(site, *others, kind=None) == [(None, ()), (2, ()), (3, ())]


def test_the_unnamed_user_is_in_none_of_the_sets(site: Site) -> None:
    text = "rules: [{name: r, match: {users: ['65534'], groups: ['65534', '65535']}, decision: deny}]\n"
    callers = Callers((site.use_policy(text),), nobody_knows)
    assert callers.of("/a", Kind.SIF)[0].caller == Caller(65535, 65536)


def test_users_are_asked_for_with_the_groups_they_are_in_and_one_of_those_who_are_alike(site: Site) -> None:
    text = "rules: [{name: r, match: {users: ['5', '6', '8']}, decision: deny}, {name: s, match: {groups: ['51']}}]\n"
    text = text.replace("['51']}}", "['51']}, decision: deny}")
    users = {5: Caller(5, 50, frozenset({50, 51})), 6: Caller(6, 51), 8: Caller(8, 80, frozenset({80}))}
    found = Callers((site.use_policy(text),), users.get).of("/a", Kind.SIF)
    assert [(probe.caller, probe.user) for probe in found[2:]] == [(users[5], 5), (users[8], 8)]
