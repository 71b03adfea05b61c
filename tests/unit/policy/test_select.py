"""Which rule answers."""

from __future__ import annotations

from datetime import datetime

import pytest

from eclctl.model import Caller, Kind
from eclctl.policy.language import Policy
from eclctl.policy.select import select_rule
from tests.support import NOW
from tests.unit.policy.facts import load_text

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
