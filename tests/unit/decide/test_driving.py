"""The driver takes a question through every stage, once each, and asks only what it was given to ask with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from eclctl.decide.driving import drive
from eclctl.decide.facts import Facts
from eclctl.decide.questions import Decision, Lookup, Opening, Question, StatusNeeded
from eclctl.model import Caller, Code
from eclctl.trust.revocation import Link
from tests.helpers.engines import Site

QUESTION = Question("/a.sif", Caller(1, 1))


class Staged:
    """Answers with the stages that it was given, and notes what it was called with."""

    def __init__(self, site: Site, *answers: object) -> None:
        self.snapshot = site.engine.snapshot
        self.answers = list(answers)
        self.begun: list[tuple[datetime, bool]] = []
        self.concluded: list[Facts] = []

    def begin(
        self, question: Question, snapshot: object, now: datetime, *, anywhere: bool, status_asked: bool
    ) -> object:
        assert anywhere
        assert snapshot is self.snapshot
        self.begun.append((now, status_asked))
        return self.answers.pop(0)

    def look_up(self, lookup: Lookup) -> Facts:
        return Facts("own", None)

    def conclude(self, lookup: Lookup, facts: Facts, now: datetime) -> object:
        self.concluded.append(facts)
        return self.answers.pop(0)


@pytest.fixture
def decision(site: Site) -> Decision:
    return site.engine.deny(QUESTION, site.engine.snapshot, Code.TIMEOUT, "it is only passed through")


def test_each_stage_is_taken_and_the_decision_returned(site: Site, decision: Decision) -> None:
    snapshot, asked = site.engine.snapshot, []
    engine = Staged(
        site,
        Opening(QUESTION, snapshot),
        StatusNeeded(QUESTION, snapshot, ()),
        Lookup(QUESTION, snapshot, None, status_asked=True),
        Opening(QUESTION, snapshot, status_asked=True),
        decision,
    )

    def ask(links: Sequence[Link]) -> None:
        asked.append(links)

    assert drive(engine, QUESTION, ask, lambda: site.now) is decision  # type: ignore[arg-type]
    assert [status_asked for _, status_asked in engine.begun] == [False, False, True, True]
    assert asked == [()]
    assert [facts.store for facts in engine.concluded] == ["own"]


def test_without_a_way_to_ask_it_begins_with_what_is_known(site: Site, decision: Decision) -> None:
    engine = Staged(site, decision)
    assert drive(engine, QUESTION, None, lambda: site.now) is decision  # type: ignore[arg-type]
    assert engine.begun == [(site.now, True)]


def test_facts_can_come_from_elsewhere(site: Site, decision: Decision) -> None:
    engine = Staged(site, Lookup(QUESTION, site.engine.snapshot, None), decision)
    found = Facts("elsewhere", None)
    assert drive(engine, QUESTION, None, lambda: site.now, look_up=lambda _: found) is decision  # type: ignore[arg-type]
    assert engine.concluded == [found]


def test_a_whole_engine_is_driven_to_what_it_decides(site: Site) -> None:
    image = site.image("a.sif")
    answer = drive(site.engine, QUESTION._replace(image=str(image)), None, lambda: site.now)
    assert (answer.code, answer.path) == (Code.REQUIREMENTS_MET, str(image))


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ({"store": "keys", "digested": False}, True),
        ({"store": "keys", "digested": True}, False),
        ({"store": "keys", "digested": False, "whole": True}, False),
        ({"store": "others", "digested": False}, False),
    ],
)
def test_facts_serve_only_who_asks_for_what_they_say(asked: dict[str, object], served: bool) -> None:
    facts = Facts("keys", None)
    assert facts.serve(**asked) is served  # type: ignore[arg-type]
    assert replace(facts, digested=True, whole="sha256:00").serve("keys", digested=True, whole=True)
