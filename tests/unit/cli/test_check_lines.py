"""What `eclctl check` prints of a deny, for people."""

from __future__ import annotations

from eclctl.cli.check import _lines, parse_arguments

MISSING = {"requirement": "1 approval from scanner", "needed": 1, "have": 0, "signed": [], "could_sign": ["scanner"]}
DENIED = {"decision": "deny", "code": "requirements-not-met", "reason": "why"}


def test_the_stage_that_is_missing_is_named() -> None:
    assert list(_lines("a.sif", {**DENIED, "missing": [{**MISSING, "stage": "scan"}]})) == [
        "deny   a.sif: why (requirements-not-met)",
        "       needs stage scan: 1 approval from scanner: 0 of 1; scanner could sign",
    ]


def test_what_is_missing_outside_of_a_chain_has_no_stage() -> None:
    for missing in (MISSING, {**MISSING, "stage": None}):
        assert list(_lines("a.sif", {**DENIED, "missing": [missing]}))[1] == (
            "       needs 1 approval from scanner: 0 of 1; scanner could sign"
        )


def test_options_have_the_short_names_that_other_commands_have() -> None:
    assert parse_arguments(["-j", "a.sif"]).json
    assert parse_arguments(["-q", "a.sif"]).quiet
