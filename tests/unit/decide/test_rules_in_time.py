"""Rules that depend on the time and on who asks: what is kept never outlives the instant when the answer changes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from eclctl.decide.driving import drive
from eclctl.decide.questions import Decision, Lookup, Question
from eclctl.model import Caller, Code
from eclctl.sif.reader import read
from eclctl.terms import Verdict
from eclctl.verify.examine import examine
from tests.helpers.engines import CALLER, Site
from tests.helpers.sifbuilder import corpus_store, opened
from tests.helpers.support import CORPUS, NOW

TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)
AGED = """\
rules:
  - name: production
    match: {paths: ["@LIBRARY@/prod/**"]}
    require: [{all_of: [builder, scanner, approver]}]
    max_signature_age: @AGE@
  - name: archive
    match: {paths: ["@LIBRARY@/**"]}
    require: [{all_of: [builder, scanner, approver]}]
"""
IMAGE = "one-builder+scanner+approver.sif"


def created(image: str = IMAGE) -> list[datetime]:
    with opened(CORPUS / "images" / image) as fd:
        return [each for claim in examine(fd, corpus_store("site-ring")).claims if (each := claim.created) is not None]


def aged(site: Site, age: str) -> None:
    site.use_policy(AGED.replace("@AGE@", age))
    (site.library / "prod").mkdir(exist_ok=True)


def warm(site: Site, name: str, now: datetime) -> Decision:
    """Ask until facts, judgement and outcome are kept; what is returned was answered from what is kept."""
    image = site.library / name if (site.library / name).exists() else site.image(name, IMAGE)
    site.now = now
    time.sleep(0.02)  # facts of a file that changed within the clock tick are not kept
    site.ask(image)
    decision = site.ask(image)
    assert decision.cached
    return decision


def test_a_signature_counts_until_it_has_reached_the_age_and_from_that_instant_on_no_more(site: Site) -> None:
    """Asked before and after the instant with facts, judgement and outcome kept from the other side of it."""
    aged(site, "3650d")
    end = min(created()) + timedelta(days=3650)
    assert warm(site, "prod/a.sif", end - TICK).code is Code.REQUIREMENTS_MET
    site.now = end
    at = site.ask(site.library / "prod/a.sif", explain=True)
    assert at.cached
    assert at.code is Code.REQUIREMENTS_NOT_MET
    assert "does not count: it is older than the 3650d that rule production accepts" in at.reason
    assert {each.why for each in at.signatures if not each.counts} == {
        "it is older than the 3650d that rule production accepts"
    }
    assert site.ask(site.library / "prod/a.sif").code is Code.REQUIREMENTS_NOT_MET


def test_a_clock_that_is_set_back_makes_no_signature_younger(site: Site) -> None:
    aged(site, "3650d")
    end = min(created()) + timedelta(days=3650)
    assert warm(site, "prod/a.sif", end).code is Code.REQUIREMENTS_NOT_MET
    site.now = end - 100 * DAY
    assert site.ask(site.library / "prod/a.sif").code is Code.REQUIREMENTS_NOT_MET


def test_the_age_is_the_rules_own(site: Site) -> None:
    """One judgement serves both rules, and neither answers with what is too old for the other."""
    aged(site, "1d")
    assert warm(site, "prod/a.sif", NOW).code is Code.REQUIREMENTS_NOT_MET
    assert warm(site, "b.sif", NOW).code is Code.REQUIREMENTS_MET
    question = Question(str(site.library / "prod/a.sif"), CALLER)
    assert drive(site.engine, question, None, lambda: NOW).code is Code.REQUIREMENTS_NOT_MET


def test_one_file_under_two_rules_is_too_old_for_the_one_alone(site: Site) -> None:
    """The rule is the caller's: facts, judgements and outcomes are one file's."""
    site.use_policy(
        AGED.replace('paths: ["@LIBRARY@/prod/**"]', f"users: [{CALLER.uid}]").replace("@AGE@", "1d"),
    )
    image = site.image("a.sif", IMAGE)
    time.sleep(0.02)
    for _ in range(3):
        assert site.ask(image).code is Code.REQUIREMENTS_NOT_MET
        assert site.ask(image, Caller(1, 1)).code is Code.REQUIREMENTS_MET


def test_an_age_limit_does_not_excuse_a_signature_over_other_content(site: Site) -> None:
    """With a limit, nothing is allowed that is denied without: an old signature over other content still denies."""
    aged(site, "1d")
    image = site.image("prod/a.sif", IMAGE)
    with opened(image) as fd:
        partition = read(fd).descriptors[2]
    data = bytearray(image.read_bytes())
    data[partition.offset] ^= 1
    image.write_bytes(data)
    assert site.ask(image).code is Code.TAMPERED


TIMED = """\
rules:
  - name: office
    match: {paths: ["@LIBRARY@/**"], times: [mon-fri 08:00-18:00 Europe/Zurich]}
    require: [{all_of: [builder, scanner, approver]}]
  - name: night
    match: {paths: ["@LIBRARY@/**"]}
    decision: deny
"""
MONDAY = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)  # 08:00 in Zurich


@pytest.mark.parametrize(
    ("start", "answers"),
    [
        (MONDAY, [Code.RULE_DENY, Code.REQUIREMENTS_MET]),
        (MONDAY + timedelta(hours=10), [Code.REQUIREMENTS_MET, Code.RULE_DENY]),
    ],
)
def test_another_rule_answers_from_the_first_instant_of_a_window_and_no_more_at_its_end(
    site: Site, start: datetime, answers: list[Code]
) -> None:
    site.use_policy(TIMED)
    assert [warm(site, "a.sif", start - TICK).code, warm(site, "a.sif", start).code] == answers
    assert warm(site, "a.sif", start + TICK).code is answers[1]


FORBIDS = """\
rules:
  - name: closed
    match: {times: [mon 08:00-18:00 UTC]}
    decision: deny
  - name: open
    decision: allow
    forbid: {signed_by: [builder]}
"""


def test_a_window_that_ends_while_an_image_is_read_leaves_nothing_of_it_unread(site: Site) -> None:
    """What begins under a rule that asks nothing of the content may be decided by one that forbids a signer."""
    site.use_policy(FORBIDS)
    image = site.image("a.sif", "one-builder.sif")
    end = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)
    pending = site.engine.begin(Question(str(image), CALLER), site.engine.snapshot, end - TICK)
    assert isinstance(pending, Lookup)
    concluded = site.engine.conclude(pending, site.engine.look_up(pending), end)
    assert isinstance(concluded, Decision)
    assert (concluded.rule, concluded.code) == ("open", Code.FORBIDDEN)


MESSAGE = """\
rules:
  - name: production
    match: {paths: ["@LIBRARY@/**"]}
    chain:
      - build: {any_of: [builder]}
      - approve: {all_of: [scanner, approver]}
    message: "{image} for {user}/{group}: {code} by {rule}, stage {stage}: {missing}; ask {could_sign} {{on {host}}}"
"""


def test_a_message_is_about_the_image_and_the_caller_that_it_is_told(site: Site) -> None:
    """The outcome is kept and is the same for all; what is filled in is not."""
    site.use_policy(MESSAGE)
    host = site.engine.snapshot.policy.host  # type: ignore[union-attr]
    images = [site.image(name, "one-builder+scanner.sif") for name in ("a.sif", "b.sif")]
    time.sleep(0.02)
    for _ in range(2):
        for image in images:
            for uid in (1, 2):
                assert site.ask(image, Caller(uid, 7)).message == (
                    f"{image} for {uid}/7: requirements-not-met by production, stage approve: "
                    f"approvals from each of scanner, approver; ask approver {{on {host}}}"
                )


def test_a_message_tells_no_terminal_what_to_do_and_is_no_longer_than_it_should_be(site: Site) -> None:
    site.use_policy(MESSAGE)
    image = site.image("\x1b[31m" + "x" * 200 + ".sif", "one-builder.sif")
    for path in (image, f"{site.library}/{'./' * 300}{image.name}"):
        message = site.ask(path).message
        assert message is not None
        assert message.isprintable()
        assert len(message) < 1000


def test_a_deny_before_the_image_is_read_has_its_message_filled_too(site: Site) -> None:
    site.use_policy(MESSAGE)
    image = site.image("a.sif")
    image.chmod(0o666)
    decision = site.ask(image)
    assert decision.code is Code.ASSURANCE_TOO_LOW
    assert decision.message is not None
    assert decision.message.startswith(
        f"{image} for 4242/4242: assurance-too-low by production, stage nothing: nothing;"
    )


def test_an_allowed_image_has_no_message(site: Site) -> None:
    site.use_policy(MESSAGE)
    decision = site.ask(site.image("a.sif"))
    assert (decision.verdict, decision.message) == (Verdict.ALLOW, None)


def test_a_permissive_rule_says_what_it_would_have_said(site: Site) -> None:
    site.use_policy(MESSAGE.replace("    message:", "    mode: permissive\n    message:"))
    decision = site.ask(site.image("a.sif", "one-scanner.sif"))
    assert decision.code is Code.PERMISSIVE
    assert ": requirements-not-met by production, stage build, approve: " in str(decision.message)
