"""Messages with placeholders: how they are read; how they are filled is in tests of the engine."""

from __future__ import annotations

import pytest

from eclctl.config.document import WrongTextError
from eclctl.model import Caller, Code, Missing, Outcome
from eclctl.policy.messages import PLACEHOLDERS, Said, parse_message
from tests.helpers.facts import policy

MISSING = tuple(
    Missing(f"1 approval from {name}", 1, 0, (), (name,), stage) for name, stage in (("a", "scan"), ("b", None))
)
SAID = Said(Outcome(Code.REQUIREMENTS_NOT_MET, "why", "it", missing=MISSING), "/srv/a.sif", Caller(7, 8), "node1")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("ask us", "ask us"),
        ("{image}", "/srv/a.sif"),
        ("{rule}: {code}", "it: requirements-not-met"),
        ("{missing}", "1 approval from a; 1 approval from b"),
        ("{stage} {could_sign}", "scan a, b"),
        ("{user}:{group}@{host}", "7:8@node1"),
        ("{{image}} {{{image}}}", "{image} {/srv/a.sif}"),
    ],
)
def test_placeholders_are_filled_and_doubled_braces_are_braces(text: str, filled: str) -> None:
    assert parse_message(text).fill(SAID) == filled


def test_what_is_filled_in_is_not_read_again() -> None:
    said = Said(SAID.outcome, "/srv/{user}.sif", SAID.caller, SAID.host)
    assert parse_message("{image}").fill(said) == "/srv/{user}.sif"


def test_a_name_of_odd_bytes_is_escaped() -> None:
    said = Said(SAID.outcome, "/srv/\x1b\n\udcff\u202e.sif", SAID.caller, SAID.host)
    assert parse_message("{image}").fill(said) == r"/srv/\x1b\x0a\xff\u202e.sif"


@pytest.mark.parametrize(
    "text", ["{}", "{ image}", "{image!r}", "{image.x}", "{0}", "{image", "image}", "{{image}", "{{{"]
)
def test_anything_else_in_braces_is_an_error(text: str) -> None:
    with pytest.raises(WrongTextError):
        parse_message(text)


def test_where_nothing_is_missing_no_signer_could_sign() -> None:
    said = Said(Outcome(Code.TAMPERED, "why", "it"), "/srv/a.sif", Caller(7, 8), "node1")
    assert parse_message("{missing}, {stage}, {could_sign}").fill(said) == "nothing, nothing, no signer"


def test_every_placeholder_can_be_filled() -> None:
    assert "" not in [parse_message(f"{{{name}}}").fill(SAID) for name in PLACEHOLDERS]


def test_a_message_without_placeholders_is_as_it_was() -> None:
    rule = policy("  - {name: x, decision: deny, message: 'ask 100% of us {{now}}'}\n").rules[0]
    assert (rule.message, rule.template) == ("ask 100% of us {now}", None)
