"""Which rule answers."""

from __future__ import annotations

from datetime import datetime

import pytest

from eclctl.model import Alias, Caller, Identity
from eclctl.policy.language import Policy
from eclctl.policy.select import for_everybody, nearly, rules_on, select_rule
from eclctl.terms import Kind
from tests.helpers.facts import load_text
from tests.helpers.support import NOW

NOBODY = Caller(65534, 65534)


def rules(*matches: str, padding: int = 0) -> Policy:
    """A policy of rules named 0, 1, ...; `padding` more that match nothing, so that the index is used."""
    texts = [f"  - {{name: '{n}', decision: deny, match: {match}}}\n" for n, match in enumerate(matches)]
    texts += [f"  - {{name: pad{n}, decision: deny, match: {{paths: [/pad/{n}]}}}}\n" for n in range(padding)]
    made = load_text("version: 1\nrules:\n" + "".join(texts)).policy
    assert made is not None
    return made


def chosen(
    made: Policy, path: str | None, kind: Kind = Kind.SIF, caller: Caller = NOBODY, now: datetime = NOW
) -> str | None:
    found = select_rule(made, path=path, kind=kind, caller=caller, now=now)
    return None if found is None else found.name


@pytest.fixture(params=[0, 50], ids=["few rules", "many rules"])
def padding(request: pytest.FixtureRequest) -> int:
    return request.param


def test_the_first_rule_that_matches_answers(padding: int) -> None:
    made = rules("{paths: [/srv/a/**]}", "{paths: [/srv/**]}", "{}", "{paths: [/srv/b/**]}", padding=padding)
    assert chosen(made, "/srv/a/x") == "0"
    assert chosen(made, "/srv/b/x") == "1"
    assert chosen(made, "/home/x") == "2"


def test_no_rule_is_none(padding: int) -> None:
    assert chosen(rules("{paths: [/srv/**]}", padding=padding), "/home/x") is None


def test_a_name_that_does_not_lead_to_the_file_matches_no_path(padding: int) -> None:
    assert chosen(rules("{paths: [/**]}", padding=padding), None) is None
    assert chosen(rules("{paths: [/**]}", "{}", padding=padding), None) == "1"


def test_other_kinds_must_be_named(padding: int) -> None:
    made = rules("{}", "{kinds: [sandbox]}", padding=padding)
    assert chosen(made, "/x", Kind.OCI_SIF) == "0"
    assert chosen(made, "/x", Kind.SANDBOX) == "1"
    assert chosen(made, "/x", Kind.EXT3) is None


def test_all_that_a_rule_says_of_the_caller_must_hold(padding: int) -> None:
    made = rules("{users: [alice], groups: [hpc-users]}", "{groups: [staff]}", padding=padding)
    assert chosen(made, "/x", caller=Caller(1001, 500)) == "0"
    assert chosen(made, "/x", caller=Caller(1001, 1, frozenset({500}))) == "0"
    assert chosen(made, "/x", caller=Caller(1002, 500)) is None
    assert chosen(made, "/x", caller=Caller(1001, 501)) == "1"


def deciding(*rules: str, padding: int = 0) -> Policy:
    """A policy of sandbox rules named 0, 1, ..., each `MATCH allow` or `MATCH deny`."""
    split = [rule.rsplit(" ", 1) for rule in rules]
    texts = [
        f"  - {{name: '{n}', decision: {decision}, match: {{kinds: [sandbox], {match}}}}}\n"
        for n, (match, decision) in enumerate(split)
    ]
    texts += [f"  - {{name: pad{n}, decision: deny, match: {{paths: [/pad/{n}]}}}}\n" for n in range(padding)]
    made = load_text("version: 1\nrules:\n" + "".join(texts)).policy
    assert made is not None
    return made


BEHIND = Caller(100001, 100001, frozenset(), Identity(1000, frozenset({50}), frozenset({100001}), frozenset({200001})))
SEVERAL = Caller(100001, 77, frozenset(), Identity(None, frozenset({77}), frozenset({1000, 1001}), frozenset({50})))
UNKNOWN = Caller(100001, 77, frozenset(), Identity(None, frozenset({77}), unknown=True))


@pytest.mark.parametrize(
    ("caller", "match", "allows", "denies"),
    [
        (BEHIND, "users: ['1000']", True, True),
        (BEHIND, "groups: ['50']", True, True),
        (BEHIND, "users: ['100001']", False, True),
        (BEHIND, "groups: ['200001']", False, True),
        (BEHIND, "groups: ['100001']", False, False),
        (BEHIND, "users: ['1000'], groups: ['50']", True, True),
        (BEHIND, "users: ['100001'], groups: ['50']", False, True),
        (BEHIND, "users: ['1001']", False, False),
        (SEVERAL, "users: ['1000']", False, True),
        (SEVERAL, "users: ['1001']", False, True),
        (SEVERAL, "users: ['1002']", False, False),
        (SEVERAL, "groups: ['50']", False, True),
        (SEVERAL, "groups: ['77']", True, True),
        (SEVERAL, "users: ['1000'], groups: ['77']", False, True),
        (SEVERAL, "users: ['1000'], groups: ['78']", False, False),
        (UNKNOWN, "users: ['4242']", False, True),
        (UNKNOWN, "groups: ['4242']", False, True),
        (UNKNOWN, "groups: ['77']", True, True),
        (UNKNOWN, "users: ['1'], groups: ['4242']", False, True),
    ],
)
def test_a_rule_that_denies_is_also_for_those_who_may_stand_behind_a_caller(
    caller: Caller, match: str, allows: bool, denies: bool, padding: int
) -> None:
    for decision, matches in (("allow", allows), ("deny", denies)):
        made = deciding(f"{match} {decision}", "paths: [/**] deny", padding=padding)
        assert chosen(made, "/x", Kind.SANDBOX, caller) == ("0" if matches else "1")


@pytest.mark.parametrize("caller", [BEHIND, SEVERAL, UNKNOWN])
def test_rules_that_name_no_caller_are_for_every_caller(caller: Caller, padding: int) -> None:
    made = deciding("users: ['4243'] allow", "paths: [/**] allow", padding=padding)
    assert chosen(made, "/x", Kind.SANDBOX, caller) == "1"


def test_a_rule_with_requirements_is_for_a_user_alone_as_one_that_allows() -> None:
    text = (
        "version: 1\nrules:\n  - {name: it, match: {users: ['1000']}, require: [{approvals: {count: 1, of: anyone}}]}\n"
    )
    made = load_text(text).policy
    assert made is not None
    assert [chosen(made, "/x", caller=caller) for caller in (BEHIND, SEVERAL, UNKNOWN)] == ["it", None, None]


def test_any_of_several_paths_matches(padding: int) -> None:
    made = rules("{paths: [/a/*, /b/*]}", padding=padding)
    assert chosen(made, "/b/x") == "0"


def test_ten_thousand_rules_answer_as_a_walk_over_them_would() -> None:
    matches = [f"{{paths: [/srv/p{n % 700}/{'**' if n % 3 else '*.sif'}]}}" for n in range(2000)]
    made = rules(*matches)
    for n in (0, 1, 2, 350, 699):
        for path in (f"/srv/p{n}/a.sif", f"/srv/p{n}/b/a.sif", f"/srv/p{n}"):
            walked = next(
                (rule.name for rule in made.rules if any(g.matches(path) for g in rule.match.paths or ())), None
            )
            assert chosen(made, path) == walked


def test_for_any_caller_the_rule_that_answers_is_among_those_that_answer_for_some(padding: int) -> None:
    made = rules(
        "{paths: [/a/**], users: ['7']}", "{paths: [/a/**], kinds: [sandbox]}", "{paths: [/a/*]}", "{}", padding=padding
    )
    for path in ("/a/b", "/a/b/c", "/x", None):
        for_some = [rule.name for rule in rules_on(made, path=path, kind=Kind.SIF)]
        answering = {chosen(made, path, caller=caller) for caller in (NOBODY, Caller(7, 7))}
        assert set(for_some) == answering
    assert [for_everybody(rule) for rule in made.rules[:4]] == [False, True, True, True]


def test_rules_on_the_path_that_do_not_match_say_why() -> None:
    made = rules(
        "{paths: [/a/**], hosts: [no-such-host]}",
        "{paths: [/a/**], times: [sun 00:00-00:01 UTC]}",
        "{paths: [/a/**], users: ['7']}",
        "{paths: [/a/**], kinds: [sandbox, ext3]}",
        "{paths: [/b/**], kinds: [sandbox]}",
        "{paths: [/a/**]}",
    )
    found = nearly(made, path="/a/b", kind=Kind.SIF, caller=NOBODY, now=NOW)
    assert [(rule.name, why) for rule, why in found] == [
        ("0", "it is for other hosts"),
        ("1", "it is for other times"),
        ("2", "it is for other users or groups"),
        ("3", "it is for images of kind ext3, sandbox"),
    ]


def decided(texts: str, path: str | None, *aliases: Alias, padding: int = 0) -> str | None:
    """The deciding rule's name, of rules in order written as `allow /a/**` and `deny` (any path)."""
    lines = []
    for number, text in enumerate(texts.split(", ")):
        decision, _, glob = text.partition(" ")
        match = f"{{paths: [{glob}]}}" if glob else "{}"
        lines.append(f"  - {{name: '{number}', decision: {decision}, match: {match}}}\n")
    lines += [f"  - {{name: pad{n}, decision: deny, match: {{paths: [/pad/{n}]}}}}\n" for n in range(padding)]
    made = load_text("version: 1\nrules:\n" + "".join(lines)).policy
    assert made is not None
    found = select_rule(made, path=path, kind=Kind.SIF, caller=NOBODY, now=NOW, aliases=aliases)
    return None if found is None else found.name


BOUND = Alias("/bound/x", "/bound")
LINK = Alias("/other/x", None)


def test_a_rule_that_names_a_mount_point_means_what_lies_behind_it(padding: int) -> None:
    for glob in ("/bound/**", "/bound/x", "/bound/*"):
        assert decided(f"allow {glob}", "/srv/x", BOUND, padding=padding) == "0"
    assert decided("allow /opt/one.sif", "/srv/x", Alias("/opt/one.sif", "/opt/one.sif"), padding=padding) == "0"
    assert decided("allow /srv/**", "/srv/x", BOUND, padding=padding) == "0"


def test_a_rule_that_is_wider_than_the_mount_point_does_not_allow_by_its_name(padding: int) -> None:
    """Where a file system is mounted once more, the rules of that place are not asked for."""
    assert decided("allow /**, allow", "/srv/x", BOUND, padding=padding) == "0"
    assert decided("allow /*/x, allow", "/srv/deep/x", BOUND, padding=padding) == "1"


def test_a_rule_that_denies_an_alias_decides(padding: int) -> None:
    assert decided("allow /srv/**, deny /bound/**", "/srv/x", BOUND, padding=padding) == "1"
    assert decided("allow /srv/**, deny /*/x", "/srv/deep/x", BOUND, padding=padding) == "1"
    assert decided("allow /srv/**, deny /other/**", "/srv/x", LINK, padding=padding) == "1"
    assert decided("deny /srv/**, deny /other/**", "/srv/x", LINK, padding=padding) == "0"


def test_a_rule_that_would_not_decide_on_a_file_of_that_name_does_not(padding: int) -> None:
    assert decided("allow, deny /other/**", "/srv/x", LINK, padding=padding) == "0"


def test_another_hard_link_makes_no_rule_match_that_allows(padding: int) -> None:
    assert decided("allow /other/**", "/srv/x", LINK, padding=padding) is None


def test_a_rule_that_misses_a_file_by_its_other_name_is_told() -> None:
    made = load_text("version: 1\nrules:\n  - {name: wide, decision: allow, match: {paths: [/bo*/**]}}\n").policy
    assert made is not None
    found = nearly(made, path="/srv/x", kind=Kind.SIF, caller=NOBODY, now=NOW, aliases=(BOUND,))
    assert [why for _, why in found] == ["it matches /bound/x, and the file's name is /srv/x: add that path"]


def test_rules_for_some_caller_are_those_that_deny_an_alias_too(padding: int) -> None:
    made = rules("{paths: [/bound/**]}", "{}", padding=padding)
    assert [rule.name for rule in rules_on(made, path="/srv/x", kind=Kind.SIF, aliases=(BOUND,))] == ["0"]
