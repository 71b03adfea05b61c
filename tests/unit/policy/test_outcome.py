"""Every way to allow is in `policy.outcome`, and each has its condition there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import eclctl
from eclctl.model import ALLOWING, Code, Outcome
from eclctl.policy.breakglass import PolicyException, Standing, State
from eclctl.policy.language import Match, Rule
from eclctl.policy.n_of_m import Settlement
from eclctl.policy.outcome import EXCUSED, by_decision, by_exception, by_mode, by_requirements, denied
from eclctl.terms import Verdict

ROOT = Path(eclctl.__file__).parent
OUTCOME = ROOT / "policy" / "outcome.py"
RULE = Rule("it", "p.yaml:3", 0, Match())
MET = Settlement([{"alice"}], [{"alice"}], 1, met=True)
NEVER_EXCUSED = sorted(set(Code) - EXCUSED - ALLOWING)


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def model_names(tree: ast.Module) -> dict[str, str]:
    """What names of `eclctl.model` are called in a module."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "eclctl.model"]
    return {each.asname or each.name: each.name for node in found for each in node.names}


def makes_outcomes(tree: ast.Module) -> list[int]:
    """The lines on which a module makes an `Outcome`, or gives one another code or verdict."""
    names, lines = model_names(tree), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function, words = node.func, {each.arg for each in node.keywords}
        called = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        made = names.get(called) == "Outcome" or (called == "Outcome" and isinstance(function, ast.Attribute))
        spread = None in words and "Outcome" in names.values()
        changed = called == "replace" and (spread or not words.isdisjoint({"code", "verdict"}))
        forced = called == "__setattr__" and any(
            isinstance(each, ast.Constant) and each.value in {"code", "verdict"} for each in node.args
        )
        if made or changed or forced:
            lines.append(node.lineno)
    return lines


def says_allow(tree: ast.Module) -> list[int]:
    """The lines on which a module names a code that allows other than to compare with it."""
    compared = {id(each) for node in ast.walk(tree) if isinstance(node, ast.Compare) for each in ast.walk(node)}
    allowing = {code.name for code in ALLOWING}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in allowing
        and isinstance(node.value, ast.Name)
        and node.value.id == "Code"
        and id(node) not in compared
    ]


def test_no_other_module_makes_an_outcome() -> None:
    found = {str(path.relative_to(ROOT)): makes_outcomes(tree) for path, tree in modules() if path != OUTCOME}
    found.pop("model.py")  # where the type is, whose verdict follows from its code
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_no_other_module_names_a_code_that_allows_but_to_compare() -> None:
    found = {str(path.relative_to(ROOT)): says_allow(tree) for path, tree in modules() if path != OUTCOME}
    found.pop("model.py")
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_the_check_would_find_one() -> None:
    made = "from eclctl.model import Code, Outcome as O\nx = O(c, '')\ny = replace(x, code=c)\nz = Code.PERMISSIVE\n"
    assert makes_outcomes(ast.parse(made)) == [2, 3]
    assert makes_outcomes(ast.parse("import eclctl.model\neclctl.model.Outcome(c, '')\n")) == [2]
    assert says_allow(ast.parse(made)) == [4]
    assert makes_outcomes(ast.parse(OUTCOME.read_text()))
    assert says_allow(ast.parse(OUTCOME.read_text()))


def test_each_way_of_the_list_at_the_head_is_a_function_and_a_code() -> None:
    head = ast.get_docstring(ast.parse(OUTCOME.read_text())) or ""
    for way, code in (
        (by_decision, Code.RULE_ALLOW),
        (by_requirements, Code.REQUIREMENTS_MET),
        (by_mode, Code.PERMISSIVE),
        (by_exception, Code.EXCEPTION),
    ):
        assert f"`{way.__name__}`" in head
        assert f"`{code.value}`" in head
    assert {Code.RULE_ALLOW, Code.REQUIREMENTS_MET, Code.PERMISSIVE, Code.EXCEPTION} == ALLOWING


@pytest.mark.parametrize("decision", [None, Verdict.DENY])
def test_a_rule_allows_by_its_decision_alone(decision: Verdict | None) -> None:
    assert by_decision(replace(RULE, decision=decision)) is None
    allowed = by_decision(replace(RULE, decision=Verdict.ALLOW))
    assert allowed is not None
    assert (allowed.verdict, allowed.code, allowed.rule) == (Verdict.ALLOW, Code.RULE_ALLOW, "it")


def test_requirements_allow_when_they_are_met_and_nothing_is_uncovered() -> None:
    allowed = by_requirements(RULE, MET, ("alice",))
    assert allowed is not None
    assert (allowed.code, allowed.signers, allowed.message) == (Code.REQUIREMENTS_MET, ("alice",), None)
    assert by_requirements(RULE, Settlement([set()], [set()], 0), ()) is None
    assert by_requirements(RULE, Settlement([{"alice"}], [{"alice"}], 1, met=True, uncovered=(2,)), ("alice",)) is None
    assert by_requirements(replace(RULE, decision=Verdict.DENY), MET, ("alice",)) is None


@pytest.mark.parametrize("code", [Code.REQUIREMENTS_NOT_MET, Code.UNSUPPORTED_SIGNATURE_FORMAT])
def test_a_permissive_rule_allows_what_lacks_approvals(code: Code) -> None:
    deny = denied(code, "one is missing", RULE)
    assert by_mode(RULE, deny) is deny
    allowed = by_mode(replace(RULE, permissive=True), deny)
    assert (allowed.verdict, allowed.code, allowed.would) == (Verdict.ALLOW, Code.PERMISSIVE, code)


@pytest.mark.parametrize("code", [*NEVER_EXCUSED, Code.OBJECT_NOT_APPROVED])
def test_a_permissive_rule_allows_nothing_else(code: Code) -> None:
    deny = denied(code, "because", RULE)
    assert by_mode(replace(RULE, permissive=True), deny) is deny


def exception() -> PolicyException:
    found = object.__new__(PolicyException)
    object.__setattr__(found, "name", "drain")
    return found


@pytest.mark.parametrize("code", sorted(EXCUSED))
@pytest.mark.parametrize("state", State)
def test_only_an_active_exception_allows(state: State, code: Code) -> None:
    deny = denied(code, "because", RULE)
    found = by_exception(deny, exception(), Standing(state, "until then", ("alice",)))
    if state is State.ACTIVE:
        assert (found.code, found.exception, found.signers) == (Code.EXCEPTION, "drain", ("alice",))
    else:
        assert found is deny


@pytest.mark.parametrize("code", NEVER_EXCUSED)
def test_no_exception_excuses_anything_else(code: Code) -> None:
    deny = denied(code, "because", RULE)
    assert by_exception(deny, exception(), Standing(State.ACTIVE, "until then", ("alice",))) is deny


@pytest.mark.parametrize("code", Code)
def test_what_is_denied_is_a_deny_under_any_code(code: Code) -> None:
    for rule in (None, RULE):
        found: Outcome = denied(code, "because", rule)
        assert found.verdict is Verdict.DENY
        assert found.code is (Code.INTERNAL_ERROR if code in ALLOWING else code)
