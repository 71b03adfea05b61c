"""Every error that becomes `internal-error` is told to `on_bug`, and no other is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from typing import Any, NoReturn

import pytest

from eclctl.decide import judgement, lookup
from eclctl.decide.questions import Lookup, Pending, Question
from eclctl.errors import EclctlError, MalformedImageError
from eclctl.model import Code, Outcome
from tests.helpers.engines import CALLER, Site


@pytest.fixture
def bugs(site: Site) -> list[BaseException]:
    told: list[BaseException] = []
    site.engine.on_bug = told.append
    return told


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_arguments: object, **_more: object) -> NoReturn:
        raise error

    return fail


# What is called in each step: while the file is found, from kept facts, while it is read, and while it is judged.
STEPS = [
    (judgement, "select_rule"),
    (lookup, "sniff"),
    (lookup, "examine"),
    (judgement, "evaluate"),
    (judgement, "too_old"),
]


@pytest.mark.parametrize(("module", "name"), STEPS)
def test_a_bug_in_any_step_is_a_deny_and_is_told_once(
    site: Site, bugs: list[BaseException], monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    image, bug = site.image("a.sif"), ZeroDivisionError("a bug")
    monkeypatch.setattr(module, name, raising(bug))
    decision = site.ask(image)
    assert (decision.code, decision.verdict.value) == (Code.INTERNAL_ERROR, "deny")
    assert "ZeroDivisionError" in decision.reason
    assert bugs == [bug]
    assert bug.__traceback__ is not None


def test_a_bug_while_the_file_is_found_is_told(site: Site, bugs: list[BaseException]) -> None:
    bug = RuntimeError("concurrent poll() invocation")
    image = site.image("a.sif")
    locator = site.engine.locator
    site.engine.locator = type("Broken", (), {"by_name": staticmethod(raising(bug))})()
    try:
        assert site.ask(image).code is Code.INTERNAL_ERROR
    finally:
        site.engine.locator = locator
    assert bugs == [bug]


def test_an_error_of_ours_without_a_code_for_decisions_is_told(
    site: Site, bugs: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug = EclctlError("no code of its own")
    monkeypatch.setattr(lookup, "examine", raising(bug))
    assert site.ask(site.image("a.sif")).code is Code.INTERNAL_ERROR
    assert bugs == [bug]


@pytest.mark.parametrize("error", [MalformedImageError("broken"), OSError(5, "Input/output error")])
def test_what_has_another_code_is_no_bug(
    site: Site, bugs: list[BaseException], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(lookup, "examine", raising(error))
    assert site.ask(site.image("a.sif")).code in {Code.MALFORMED, Code.UNREADABLE}
    assert site.ask(site.root / "missing.sif").code is Code.UNREADABLE
    assert bugs == []


def test_an_outcome_that_says_internal_error_is_told(
    site: Site, bugs: list[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judgement, "evaluate", lambda *_, **__: Outcome(Code.INTERNAL_ERROR, "not compared"))
    assert site.ask(site.image("a.sif")).code is Code.INTERNAL_ERROR
    assert [str(bug) for bug in bugs] == ["not compared"]


def test_a_question_that_was_closed_too_early_is_told(site: Site, bugs: list[BaseException]) -> None:
    pending = site.engine.begin(Question(str(site.image("a.sif")), CALLER), site.engine.snapshot, site.now)
    assert isinstance(pending, Lookup)
    pending.close()
    facts = site.engine.look_up(pending)
    assert facts.error is not None
    assert facts.error.code == "internal-error"
    decision = site.engine.conclude(pending, facts, site.now.astimezone(UTC))
    assert not isinstance(decision, Pending)
    assert decision.code is Code.INTERNAL_ERROR
    assert [type(bug) for bug in bugs] == [RuntimeError, RuntimeError]


def test_without_anybody_who_listens_a_bug_is_still_a_deny(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "evaluate", raising(ZeroDivisionError()))
    assert site.ask(site.image("a.sif")).code is Code.INTERNAL_ERROR
