"""One batch of questions, asked before the first is answered: what is seen once may serve all of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

from eclctl.decide.questions import Decision, Question, Turn
from eclctl.model import Code
from tests.helpers.engines import CALLER, RULES, Site
from tests.helpers.support import CORPUS, NOW


def warm(site: Site) -> Question:
    image = site.image("a.sif")
    assert site.ask(image).code is Code.REQUIREMENTS_MET
    return Question(str(image), CALLER)


def ask(site: Site, question: Question, turn: Turn) -> Decision:
    begun = site.engine.begin(question, site.engine.snapshot, NOW, turn=turn)
    assert isinstance(begun, Decision)
    return begun


def test_the_same_question_in_one_turn_gets_the_same_answer_under_its_own_id(site: Site) -> None:
    question, turn = warm(site), Turn()
    first, second = ask(site, question, turn), ask(site, question, turn)
    assert first.code is Code.REQUIREMENTS_MET
    assert first.id != second.id
    assert second == first._replace(id=second.id)
    assert site.engine.cache.stats().hits == 1


def test_an_answer_serves_no_later_turn(site: Site) -> None:
    question = warm(site)
    assert ask(site, question, Turn()).code is Code.REQUIREMENTS_MET
    os.unlink(question.image)
    assert ask(site, question, Turn()).code is Code.UNREADABLE


def test_an_answer_serves_no_other_question(site: Site) -> None:
    only_ours = RULES.replace("match: {paths:", f"match: {{users: [{CALLER.uid}], paths:")
    question, turn = warm(site), Turn()
    site.use_policy(only_ours)
    assert ask(site, question, turn).code is Code.REQUIREMENTS_MET
    assert ask(site, question._replace(caller=replace(CALLER, uid=4343)), turn).code is Code.NO_RULE
    explained = ask(site, question._replace(explain=True), turn)
    assert explained.signatures
    other = site.image("b.sif", "one-unsigned.sif")
    assert site.ask(other).code is Code.REQUIREMENTS_NOT_MET
    assert ask(site, question._replace(image=str(other)), turn).code is Code.REQUIREMENTS_NOT_MET


def test_an_answer_serves_no_other_snapshot(site: Site) -> None:
    question, turn = warm(site), Turn()
    assert ask(site, question, turn).code is Code.REQUIREMENTS_MET
    site.use_policy(RULES.replace("/**", "/elsewhere/**"))
    again = ask(site, question, turn)
    assert (again.code, again.generation) == (Code.NO_RULE, 2)


def test_a_descriptor_is_always_looked_at(site: Site) -> None:
    question, turn = warm(site), Turn()
    assert ask(site, question, turn).code is Code.REQUIREMENTS_MET
    unsigned = site.root / "unsigned.sif"
    shutil.copyfile(CORPUS / "images" / "one-unsigned.sif", unsigned)
    approved, other = os.open(question.image, os.O_RDONLY), os.open(unsigned, os.O_RDONLY)
    try:
        passed = question._replace(descriptor=approved)
        assert ask(site, passed, turn).code is Code.REQUIREMENTS_MET
        os.dup2(other, approved)  # as when the number is given to the next file that is passed
        assert ask(site, passed, turn).code is Code.NO_RULE
    finally:
        os.close(approved)
        os.close(other)
