"""For whom an image is looked at."""

from __future__ import annotations

from eclctl.model import Caller, Kind
from eclctl.preview.callers import Callers
from tests.unit.decide.support import Site
from tests.unit.preview.support import LENIENT, nobody_knows


def chosen(site: Site, *matches: str, kind: Kind | None = Kind.SIF, path: str = "a.sif") -> list[tuple[object, object]]:
    text = "rules:\n" + "".join(
        f"  - {{name: r{number}, match: {{{match}}}, decision: deny}}\n" for number, match in enumerate(matches)
    )
    callers = Callers((site.use_policy(text),), nobody_knows)
    return [(probe.user, probe.group) for probe in callers.of(str(site.library / path), kind)]


def test_where_no_rule_names_anybody_one_caller_stands_for_everybody(site: Site) -> None:
    (probe,) = Callers((site.use_policy(LENIENT),), nobody_knows).of(str(site.library / "a.sif"), Kind.SIF)
    assert (probe.everybody, probe.caller) == (True, Caller(65534, 65534))


def test_users_and_groups_that_rules_do_not_tell_apart_are_asked_for_once(site: Site) -> None:
    found = chosen(site, "users: ['1', '2', '3']", "users: ['3', '4']", "groups: ['7', '8']")
    assert found == [(None, None), (1, None), (3, None), (4, None), (None, 7)]


def test_a_rule_that_wants_a_user_in_a_group_is_asked_for_somebody_who_is_both(site: Site) -> None:
    assert chosen(site, "users: ['1'], groups: ['7']") == [(None, None), (1, None), (None, 7), (1, 7)]


def test_rules_on_other_paths_and_kinds_and_behind_one_for_everybody_name_nobody(site: Site) -> None:
    others = ("paths: [/elsewhere/**], users: ['1']", "kinds: [sandbox], users: ['2']", "kinds: [sif]", "users: ['3']")
    assert chosen(site, *others) == [(None, None)]
    assert chosen(site, *others, kind=None) == [(None, None), (2, None), (3, None)]


def test_nobody_in_particular_is_in_none_of_the_sets(site: Site) -> None:
    text = "rules: [{name: r, match: {users: ['65534'], groups: ['65534', '65535']}, decision: deny}]\n"
    callers = Callers((site.use_policy(text),), nobody_knows)
    assert callers.of("/a", Kind.SIF)[0].caller == Caller(65535, 65536)


def test_a_user_is_asked_for_with_the_groups_they_are_in(site: Site) -> None:
    text = "rules: [{name: r, match: {users: ['5']}, decision: deny}]\n"
    callers = Callers((site.use_policy(text),), {5: Caller(5, 50, frozenset({50, 51}))}.get)
    assert callers.of("/a", Kind.SIF)[1].caller == Caller(5, 50, frozenset({50, 51}))
