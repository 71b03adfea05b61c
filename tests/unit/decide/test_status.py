"""Certificates whose status must be known: nothing is guessed, no answer is waited for twice, news counts at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eclctl.decide.questions import Decision, Lookup, Pending, Question, StatusNeeded, Turn
from eclctl.model import Code
from eclctl.trust.revocation import Known, Link, Status
from tests.helpers.engines import CALLER, Site
from tests.helpers.support import CORPUS, NOW

FAR = datetime(2030, 1, 1, tzinfo=UTC)
SIGNERS = """\
version: 1
signers:
  release:
    certificate:
      {file: ../certs/leaf.pem, intermediates: ../certs/intermediate.pem, roots: ../certs/root.pem, ocsp: OCSP}
"""
RULES = """\
rules:
  - name: released
    match: {paths: ["@LIBRARY@/**"]}
    require: [{any_of: [release]}]
"""


class Told:
    """A source that was told what the test says."""

    def __init__(self) -> None:
        self.version = 0
        self.answers: dict[str, Known] = {}

    def known(self, link: Link, now: datetime) -> Known | None:
        del now
        return self.answers.get(link.id)

    def tell(self, links: tuple[Link, ...], status: Status, until: datetime = FAR) -> None:
        self.version += 1
        self.answers.update({link.id: Known(status, until, "so it was said") for link in links})


class Released(Site):
    """A site whose images a certificate speaks for."""

    def __init__(self, root: Path, ocsp: str = "require") -> None:
        (root / "certs").mkdir()
        for name in ("leaf", "intermediate", "root"):
            shutil.copyfile(CORPUS / "keys" / "x509" / f"{name}.pem", root / "certs" / f"{name}.pem")
            os.chmod(root / "certs" / f"{name}.pem", 0o644)
        os.chmod(root / "certs", 0o755)
        super().__init__(root, RULES, signers=SIGNERS.replace("OCSP", ocsp))
        self.told = Told()
        self.engine.statuses = self.told
        self.path = self.image("a.sif", "one-dsse-p256.sif")

    def begin(self, *, status_asked: bool = False, now: datetime = NOW, turn: Turn | None = None) -> Decision | Pending:
        question = Question(str(self.path), CALLER)
        begun = self.engine.begin(question, self.engine.snapshot, now, status_asked=status_asked, turn=turn)
        if isinstance(begun, Lookup):
            return self.engine.conclude(begun, self.engine.look_up(begun), now)
        return begun

    def links(self) -> tuple[Link, ...]:
        pending = self.begin()
        assert isinstance(pending, StatusNeeded)
        return pending.links

    def code(self, *, status_asked: bool = False, now: datetime = NOW) -> Code:
        decision = self.begin(status_asked=status_asked, now=now)
        assert isinstance(decision, Decision)
        return decision.code


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Released]:
    made = Released(tmp_path)
    yield made
    made.close()


def test_what_is_not_asked_for_is_not_needed(tmp_path: Path) -> None:
    site = Released(tmp_path, "off")
    assert site.code() is Code.REQUIREMENTS_MET
    site.close()


def test_what_was_not_asked_about_is_asked_first_for_every_certificate_but_the_root(site: Released) -> None:
    subjects = [link.certificate.subject.rfc4514_string() for link in site.links()]
    assert [subject.rpartition("CN=")[2].partition(",")[0] for subject in subjects] == ["leaf", "intermediate"]


def test_a_question_that_waits_for_a_status_keeps_nothing_open(site: Released) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        pending = site.begin()
        assert isinstance(pending, StatusNeeded)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_image_is_denied_after_asking_in_vain(site: Released) -> None:
    decision = site.begin(status_asked=True)
    assert isinstance(decision, Decision)
    assert decision.code is Code.REQUIREMENTS_NOT_MET
    assert "leaf" in decision.reason
    assert "not known to be good" in decision.reason


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.GOOD])
def test_only_good_counts(site: Released, status: Status) -> None:
    site.told.tell(site.links(), status)
    assert site.code() is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize("bad", [0, 1])
def test_every_certificate_but_the_root_must_be_good(site: Released, bad: int) -> None:
    links = site.links()
    site.told.tell(links, Status.GOOD)
    assert site.code() is Code.REQUIREMENTS_MET
    site.told.tell((links[bad],), Status.REVOKED)
    assert site.code() is Code.REQUIREMENTS_NOT_MET


def test_a_revocation_changes_the_very_next_answer_also_from_kept_facts(site: Released) -> None:
    links = site.links()
    site.told.tell(links, Status.GOOD)
    assert [site.code() for _ in range(2)] == [Code.REQUIREMENTS_MET] * 2
    site.told.tell(links, Status.REVOKED)
    assert site.code() is Code.REQUIREMENTS_NOT_MET


def test_an_answer_that_has_run_out_counts_no_longer(site: Released) -> None:
    site.told.tell(site.links(), Status.GOOD, NOW + timedelta(hours=1))
    assert site.code(now=NOW + timedelta(minutes=59)) is Code.REQUIREMENTS_MET
    assert site.code(now=NOW + timedelta(hours=1)) is Code.REQUIREMENTS_NOT_MET


def test_setting_the_clock_back_extends_no_answer(site: Released) -> None:
    site.told.tell(site.links(), Status.GOOD, NOW + timedelta(hours=1))
    assert site.code(now=NOW + timedelta(hours=2)) is Code.REQUIREMENTS_NOT_MET
    assert site.code(now=NOW) is Code.REQUIREMENTS_NOT_MET


def test_a_certificate_that_has_expired_is_not_asked_about(site: Released) -> None:
    assert site.code(now=datetime(2050, 1, 1, tzinfo=UTC)) is Code.REQUIREMENTS_NOT_MET


def test_a_question_that_waits_answers_no_other_of_its_turn(site: Released) -> None:
    turn = Turn()
    assert isinstance(site.begin(turn=turn), Pending)
    site.told.tell(site.links(), Status.GOOD)
    decision = site.begin(turn=turn)
    assert isinstance(decision, Decision)
    assert decision.code is Code.REQUIREMENTS_MET


def test_an_image_without_such_a_signature_waits_for_nothing(site: Released) -> None:
    site.path = site.image("b.sif", "one-unsigned.sif")
    assert site.code() is Code.REQUIREMENTS_NOT_MET
