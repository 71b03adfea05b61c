"""Which hosts a rule is for."""

from __future__ import annotations

import pytest

from eclctl.model import Caller
from eclctl.policy.conditions import matches_host
from eclctl.policy.declare import LoadEnvironment
from eclctl.policy.load import Loaded, PolicyFile, load_policies
from eclctl.policy.select import select_rule
from eclctl.terms import Kind
from tests.helpers.facts import ring
from tests.helpers.support import NOW


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("login1", "login1", True),
        ("login*", "login1", True),
        ("login*", "login1.cluster.example", True),
        ("LOGIN*", "login1", True),
        ("login*", "Login1", True),
        ("login*", "xlogin1", False),
        ("login?", "login12", False),
        ("login??", "login12", True),
        ("*", "node.cluster.example", True),
        ("*gpu*01", "node-gpu-a01", True),
        ("*gpu*01", "node-gpu-a02", False),
        ("*.cluster.example", "node.cluster.example", True),
        ("*.cluster.example", "node.other.example", False),
        ("*.cluster.example", "a.node.cluster.example", False),
        ("*.cluster.example", "node", False),
        ("node.cluster.example", "node.cluster.example.", True),
        ("node", "cluster", False),
        ("no.de", "noxde", False),
    ],
)
def test_a_pattern_is_for_the_first_label_or_label_by_label(pattern: str, host: str, expected: bool) -> None:
    assert matches_host(pattern, host) is expected


def test_a_pattern_of_stars_is_matched_in_no_time() -> None:
    assert not matches_host("*a" * 31 + "b", "a" * 63)


RULES = "version: 1\nrules:\n  - {name: x, decision: allow, match: {kinds: [sandbox], hosts: [login*]}}\n"


def loaded(host: str, more: str = "") -> Loaded:
    environment = LoadEnvironment(ring(), lambda _: b"", {}.get, {}.get, NOW, host=host)
    return load_policies([PolicyFile("0.yaml", (RULES + more).encode())], environment)


@pytest.mark.parametrize("padding", [0, 50])
@pytest.mark.parametrize(("host", "found"), [("login1", "x"), ("node1", "other")])
def test_a_rule_answers_on_its_hosts_alone(host: str, found: str, padding: int) -> None:
    more = "  - {name: other, decision: deny, match: {kinds: [sandbox]}}\n"
    more += "".join(f"  - {{name: pad{n}, decision: deny, match: {{paths: [/pad/{n}]}}}}\n" for n in range(padding))
    made = loaded(host, more).policy
    assert made is not None
    rule = select_rule(made, path="/x", kind=Kind.SANDBOX, caller=Caller(1, 1), now=NOW)
    assert rule is not None
    assert rule.name == found
    assert made.rules[0].match.hosts == ("login*",)


def test_the_digest_of_a_policy_is_the_same_on_all_hosts() -> None:
    policies = [loaded(host).policy for host in ("login1", "node1")]
    assert len({made.digest for made in policies if made is not None}) == 1


def test_hosts_where_the_hosts_own_name_is_not_known_are_an_error() -> None:
    assert "the name of this host is not known" in str(loaded("").errors[0])
