"""Tests are put to the daemon's engine: its order of checks, its time, its codes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eclctl.config.document import Mark
from eclctl.config.settings import Settings
from eclctl.files.guarded import read_unguarded
from eclctl.model import Caller, Code, Outcome
from eclctl.policytest.cases import Expectation
from eclctl.policytest.loading import load_tests
from eclctl.policytest.running import AnswerDifference, Runner, differences
from tests.helpers.breaking import HALF, BreakGlass
from tests.helpers.engines import CALLER, Site
from tests.helpers.policy_tests import HOST, MET, NOT_MET, loaded, one, results, running
from tests.helpers.support import CORPUS, NOW

IMAGES = CORPUS / "images"
RULE = (
    "rules: [{{name: production, match: {{paths: ['{}/**']}}, "
    "require: [{{any_of: [builder]}}, {{approvals: {{count: 2, of: security}}}}]}}]\n"
)
APPROVED = f"image: {IMAGES / 'one-builder+scanner+approver.sif'}"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def codes(folder: Path, *bodies: str) -> list[Code]:
    """What production says of tests with these bodies."""
    tests = "".join(one(body, name=f"t{number}") for number, body in enumerate(bodies))
    return [result.decision.code for result in results(folder, tests)]


def test_a_real_image_is_judged_where_the_test_says_that_it_lies(tmp_path: Path) -> None:
    assert codes(tmp_path, APPROVED, f"{APPROVED}\npath: /srv/other/a.sif", f"{APPROVED}\npath: null") == [
        Code.REQUIREMENTS_MET,
        Code.NO_RULE,
        Code.NO_RULE,
    ]


def test_a_real_image_is_worth_what_the_test_says_wherever_the_file_is(tmp_path: Path) -> None:
    assert codes(tmp_path, f"{APPROVED}\nassurance: none") == [Code.ASSURANCE_TOO_LOW]


def test_who_asks_is_part_of_the_question(tmp_path: Path) -> None:
    assert codes(tmp_path, f"{APPROVED}\ncaller: {{groups: [501]}}") == [Code.NO_RULE]


def test_real_images_are_judged_at_the_time_of_the_test(tmp_path: Path) -> None:
    assert codes(tmp_path, f"{APPROVED}\nnow: 2025-12-31") == [Code.REQUIREMENTS_NOT_MET]  # a day before they signed


def test_a_later_test_may_take_place_earlier(tmp_path: Path) -> None:
    early, late = "signed_by: [expired]\nnow: 2021-01-15", "signed_by: [expired]\nnow: 2026-11-23"
    rules = "rules: [{name: r, require: [{any_of: [expired]}]}]\n"
    tests = one(late, NOT_MET, name="late") + one(early, MET, name="early")
    assert [result.passed for result in results(tmp_path, tests, rules)] == [True, True]


@pytest.mark.parametrize(
    ("image", "code"),
    [
        ("struct-truncated-half.sif", Code.MALFORMED),
        ("groups-swapped.sif", Code.REQUIREMENTS_NOT_MET),
        ("not-a-sif.sif", Code.NO_RULE),
    ],
)
def test_what_is_wrong_with_an_image_is_a_deny_as_in_the_daemon(image: str, code: Code, tmp_path: Path) -> None:
    assert codes(tmp_path, f"image: {IMAGES / image}") == [code]


def test_a_directory_is_a_sandbox(tmp_path: Path) -> None:
    rules = "rules: [{name: s, match: {kinds: [sandbox]}, decision: allow}]\n"
    (result,) = results(tmp_path, one(f"image: {IMAGES}"), rules)
    assert result.decision.code is Code.RULE_ALLOW


def test_an_image_that_vanishes_is_a_deny(tmp_path: Path) -> None:
    image = tmp_path / "a.sif"
    image.write_bytes((IMAGES / "one-builder.sif").read_bytes())
    made = loaded(tmp_path, one(f"image: {image}"))
    image.unlink()
    with running(made) as runner:
        assert runner.run(made.cases[0]).decision.code is Code.UNREADABLE


def test_what_no_rule_matches_is_denied_before_anything_is_said_of_content(tmp_path: Path) -> None:
    """As in the daemon, which does not read an image in vain, so that withdrawn content is not seen."""
    digest = "sha256:" + "ab" * 32
    rules = f"withdrawn: {{objects: [{digest}]}}\nrules: [{{name: r, match: {{paths: [/p/*]}}, decision: allow}}]\n"
    tests = one(f"digests: {{1: {digest}}}") + one(f"path: /p/a\ndigests: {{1: {digest}}}", name="there")
    assert [result.decision.code for result in results(tmp_path, tests, rules)] == [Code.NO_RULE, Code.WITHDRAWN]


def test_the_role_is_part_of_the_question(tmp_path: Path) -> None:
    (result,) = results(tmp_path, one("role: overlay"))
    assert result.decision.question.role == "overlay"


def test_rules_for_other_hosts_are_tested_as_these_hosts_load_them(tmp_path: Path) -> None:
    rules = "rules: [{name: gpu, match: {hosts: ['gpu*.example']}, require: [{any_of: [builder]}]}]\n"
    tests = "".join(
        one(f"signed_by: [builder]\n{host}", name=f"t{number}")
        for number, host in enumerate(["host: gpu7.example", "host: login1.example", ""])
    )
    assert [result.decision.code for result in results(tmp_path, tests, rules)] == [
        Code.REQUIREMENTS_MET,
        Code.NO_RULE,
        Code.NO_RULE,
    ]


def test_windows_of_rules_are_tested_at_the_time_of_the_test(tmp_path: Path) -> None:
    rules = "rules: [{name: day, match: {times: ['mon-fri 08:00-18:00 UTC']}, require: [{any_of: [builder]}]}]\n"
    tests = "".join(
        one(f"signed_by: [builder]\nnow: {now}", name=f"t{number}")
        for number, now in enumerate(["2026-11-23T09:00:00Z", "2026-11-23T19:00:00Z", "2026-11-22T09:00:00Z"])
    )
    assert [result.decision.code for result in results(tmp_path, tests, rules)] == [
        Code.REQUIREMENTS_MET,
        Code.NO_RULE,
        Code.NO_RULE,
    ]


def test_signatures_grow_too_old_for_a_rule(tmp_path: Path) -> None:
    rules = "rules: [{name: young, max_signature_age: 30d, require: [{any_of: [builder]}]}]\n"
    tests = one("signatures: [{by: builder, age: 29d}]") + one("signatures: [{by: builder, age: 31d}]", name="old")
    assert [result.decision.code for result in results(tmp_path, tests, rules)] == [
        Code.REQUIREMENTS_MET,
        Code.REQUIREMENTS_NOT_MET,
    ]


def test_an_image_is_read_once_however_many_tests_ask(tmp_path: Path) -> None:
    image = tmp_path / "a.sif"
    image.write_bytes((IMAGES / "one-builder+scanner+approver.sif").read_bytes())
    body = f"image: {image}"
    made = loaded(tmp_path, one(body) + one(f"{body}\ncaller: {{user: root, groups: [hpc]}}", name="again"))
    with running(made) as runner:
        first = runner.run(made.cases[0])
        image.write_bytes(b"another")
        second = runner.run(made.cases[1])
    assert (first.decision.code, second.decision.code) == (Code.REQUIREMENTS_MET, Code.REQUIREMENTS_MET)
    assert second.decision.question.caller == Caller(0, 500, frozenset({500}))


def test_certificates_are_as_good_in_one_test_as_in_the_next_says(tmp_path: Path) -> None:
    """The image is read once, and what is kept of judging it must not be taken from another test."""
    rules = "rules: [{name: r, require: [{any_of: [release]}]}]\n"
    body = f"image: {IMAGES / 'one-dsse-p256.sif'}"
    tests = "".join(
        one(f"{body}\nocsp: {status}", name=status) for status in ("good", "revoked", "unavailable", "unknown")
    ) + one(body, name="again")
    found = [result.decision.code for result in results(tmp_path, tests, rules)]
    assert found == [Code.REQUIREMENTS_MET, *[Code.REQUIREMENTS_NOT_MET] * 3, Code.REQUIREMENTS_MET]


@pytest.mark.parametrize("image", ["one-builder+scanner+approver.sif", "one-builder.sif", "mixed-builder.sif"])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_test_of_a_real_image_says_what_the_daemon_says(
    site: Site, image: str, trusted: bool, tmp_path: Path
) -> None:
    path = site.image("a.sif", image)
    if not trusted:
        path.chmod(0o646)
    asked = site.ask(path).outcome
    rules = RULE.format(site.library)
    body = f"image: {path}\npath: {path}\nassurance: {'trusted-path' if trusted else 'none'}"
    (tested,) = (result.decision.outcome for result in results(tmp_path / "tests", one(body), rules))
    assert (tested.code, tested.signers) == (asked.code, asked.signers)
    assert not trusted or tested.reason == asked.reason  # else the daemon says what is weak, which a test does not know
    assert tested.missing == asked.missing


def expectation(made: Outcome, **changes: object) -> Expectation:
    fields: dict[str, object] = {"mark": Mark("f", 1, 1), "verdict": made.verdict, "code": made.code}
    return Expectation(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, None),
        ({"code": Code.TAMPERED}, "decision"),
        ({"rule": "production"}, None),
        ({"rule": "other"}, "rule"),
        ({"missing": ("2 approvals from security",)}, None),
        ({"missing": ()}, "missing"),
        ({"stages": ()}, None),
        ({"stages": ("scan",)}, "stages"),
        ({"signers": ("scanner", "builder")}, None),
        ({"signers": ("builder",)}, "signers"),
        ({"would": Code.REQUIREMENTS_NOT_MET}, "would"),
        ({"message": "Ask the container team"}, None),
        ({"message": "Ask"}, "message"),
        ({"exception": "e-1"}, "exception"),
    ],
)
def test_only_what_a_test_asks_is_compared(changes: dict[str, object], what: str | None, tmp_path: Path) -> None:
    (result,) = results(tmp_path, one("signed_by: [builder, scanner]"))
    found = differences(expectation(result.decision.outcome, **changes), result.decision)
    assert [each.what for each in found] == ([] if what is None else [what])


def test_a_difference_shows_both_sides(tmp_path: Path) -> None:
    (result,) = results(tmp_path, one("signed_by: [builder, scanner]"))
    assert not result.passed
    assert result.differences == (AnswerDifference("decision", "allow requirements-met", "deny requirements-not-met"),)


def test_a_runner_decides_under_the_snapshot_that_was_loaded(tmp_path: Path) -> None:
    made = loaded(tmp_path, one("signed_by: [builder]", NOT_MET))
    with running(made) as runner:
        assert isinstance(runner, Runner)
        decision = runner.run(made.cases[0]).decision
    assert made.snapshot is not None
    assert decision.policy == made.snapshot.digest
    assert made.cases[0].now == datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_an_exception_allows_in_a_test_what_it_allows_in_the_daemon(tmp_path: Path) -> None:
    site = BreakGlass(tmp_path)
    try:
        image = site.image("a.sif", HALF)
        site.grant("drain", image, f"{site.library}/path.sif")
    finally:
        site.close()
    allowed = "{decision: allow, code: exception, exception: drain, rule: production}"
    caller = f"caller: {{user: {CALLER.uid}}}"
    (tmp_path / "tests.yaml").write_text(
        "version: 1\ntests:\n"
        + one(f"image: {image}\npath: {image}\n{caller}\nnow: 2026-11-23T12:00:00Z", allowed)
        + one(f"path: {site.library}/path.sif\n{caller}\nnow: 2026-11-23T12:00:00Z", allowed, name="by path")
        + one(f"path: {site.library}/path.sif\n{caller}\nnow: 2026-11-25", NOT_MET, name="later")
        + one(f"path: {site.library}/path.sif\nnow: 2026-11-23T12:00:00Z", NOT_MET, name="for others")
    )
    settings = Settings("", "", "", (str(tmp_path / "policies.d"),), (str(tmp_path / "keys.d"),))
    made = load_tests(settings, (str(tmp_path / "tests.yaml"),), HOST, now=NOW, read=read_unguarded)
    with running(made) as runner:
        found = [(each.name, runner.run(each).differences) for each in made.cases]
    assert found == [("it", ()), ("by path", ()), ("later", ()), ("for others", ())]
