"""Files of tests are read like policies: all errors at once, with places; what a test leaves out has a meaning."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eclctl.model import Caller, Code
from eclctl.policytest.cases import Case
from eclctl.policytest.describing import IMAGE_KEYS
from eclctl.policytest.reading import _CIRCUMSTANCES, _EXPECT
from eclctl.policytest.signing import _KEYS
from eclctl.terms import Assurance, Verdict
from eclctl.trust.revocation import Status
from tests.helpers.policy_tests import HEAD, MET, case, errors, loaded, one
from tests.helpers.support import CORPUS, NOW, ROOT

BARE = HEAD.split("defaults")[0] + "tests:\n"


def read(folder: Path, body: str, head: str = HEAD, expect: str = MET) -> Case:
    made = loaded(folder, one(body, expect), head=head)
    assert made.errors == ()
    return case(made)


def test_a_test_that_says_little_is_an_image_of_nobody_at_the_time_of_the_run(tmp_path: Path) -> None:
    found = read(tmp_path, "path: /a.sif", BARE)
    assert (found.path, found.caller, found.role) == ("/a.sif", Caller(65534, 65534), "rootfs")
    assert (found.now, found.assurance, found.ocsp) == (NOW, Assurance.TRUSTED_PATH, Status.GOOD)


def test_a_test_goes_before_the_defaults_of_its_file(tmp_path: Path) -> None:
    assert read(tmp_path, "path: /b.sif").path == "/b.sif"
    assert read(tmp_path / "other", "signed_by: []").path == "/srv/prod/a.sif"


def test_callers_go_by_names_of_the_file_then_of_the_host_and_by_number(tmp_path: Path) -> None:
    found = read(tmp_path, "caller: {user: ana, groups: [hpc, wheel, 77]}")
    assert found.caller == Caller(2001, 500, frozenset({500, 10, 77}))
    assert read(tmp_path / "root", "caller: {user: root}").caller == Caller(0, 65534)


def test_a_name_of_the_file_goes_before_the_hosts(tmp_path: Path) -> None:
    head = HEAD.replace("{hpc: 500}", "{hpc: 500, wheel: 11}")
    assert read(tmp_path, "caller: {groups: [wheel]}", head).caller.groups == {11}


@pytest.mark.parametrize(
    ("word", "time"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T12:30:00Z", datetime(2026, 11, 23, 12, 30, tzinfo=UTC)),
        ("2026-11-23T12:30:00+02:00", datetime(2026, 11, 23, 10, 30, tzinfo=UTC)),
    ],
)
def test_now_is_a_day_or_a_time_with_its_offset(word: str, time: datetime, tmp_path: Path) -> None:
    assert read(tmp_path, f"now: {word}").now == time


def test_a_path_of_null_is_a_name_that_does_not_lead_to_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, "path: null").path is None


def test_an_image_is_found_relative_to_the_file_of_tests(tmp_path: Path) -> None:
    image = CORPUS / "images" / "one-builder.sif"
    relative = os.path.relpath(image, tmp_path / "p" / "tests")
    assert read(tmp_path, f"image: {relative}").image == str(image)


def test_what_is_expected_is_taken_whole(tmp_path: Path) -> None:
    expect = (
        '{decision: allow, code: permissive, rule: production, missing: ["2 approvals from security"], '
        "signers: [], would: requirements-not-met, message: text}"
    )
    found = read(tmp_path, "signed_by: []", expect=expect).expect
    assert (found.verdict, found.code, found.rule) == (Verdict.ALLOW, Code.PERMISSIVE, "production")
    assert (found.missing, found.signers) == (("2 approvals from security",), ())
    assert (found.would, found.message) == (Code.REQUIREMENTS_NOT_MET, "text")


def test_the_document_on_tests_names_every_key() -> None:
    text = (ROOT / "docs" / "policy-test.md").read_text(encoding="utf-8")
    words = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", text))))
    assert [key for key in (*_CIRCUMSTANCES, *IMAGE_KEYS, *_EXPECT, *_KEYS) if key not in words] == []


BODIES = {
    "pth: /a": "7:5: unknown key 'pth' in a test",
    "path: srv/a.sif": "7:11: the path 'srv/a.sif' is not as the daemon sees paths (absolute, without '.', '..', '//'",
    "path: /srv/../a.sif": "7:11: the path '/srv/../a.sif' is not as the daemon sees paths",
    "now: yesterday": "7:10: now of test 'it' must be a date or time, and is 'yesterday' (2026-11-23, or",
    "now: 2026-11-23T12:00:00": "7:10: now of test 'it' is '2026-11-23T12:00:00', without an offset from UTC",
    "now: 0001-01-01T00:00:00+14:00": "7:10: now of test 'it' must be from 1971 to 2999, and is '0001-01-01",
    "now: 9999-12-31T23:59:59Z": "7:10: now of test 'it' must be from 1971 to 2999",
    "signatures: [{by: builder, age: 99999w}]": "7:37: age of a signature of test 'it' must be from 0s to",
    "role: Root FS": "7:11: role of test 'it' must be a lower-case word, and is 'Root FS'",
    "assurance: trusted": "7:16: assurance of test 'it' must be one of trusted-path, none",
    "ocsp: fine": "7:11: ocsp of test 'it' must be one of good, revoked",
    "caller: {user: anna}": "7:20: there is no user 'anna', on this host or under names (did you mean 'ana'?)",
    "caller: {groups: [x]}": "7:23: there is no group 'x', on this host or under names (known: hpc)",
    "caller: {groups: [99999999999]}": "7:23: there is no group '99999999999', on this host or under names",
    "caller: {uid: 5}": "7:14: unknown key 'uid' in caller of test 'it'",
    "image: none.sif": "7:12: there is no image 'none.sif' (paths are relative to the file of tests)",
    "image: t.yaml\nsigned_by: []": "8:16: test 'it' has an image, which says itself what signed_by describes",
}


@pytest.mark.parametrize("body", BODIES)
def test_what_is_wrong_with_a_test_is_said_with_its_place(body: str, tmp_path: Path) -> None:
    (found,) = errors(tmp_path, one(body))
    assert found.startswith(BODIES[body])


EXPECTATIONS = {
    "allow": "7:13: expect of test 'it' must be a mapping, and is 'allow' (write {decision: deny, code:",
    "{decision: allow}": "7:13: expect of test 'it' needs 'code'",
    "{code: tampered}": "7:13: expect of test 'it' needs 'decision'",
    "{decision: alow, code: tampered}": "7:24: decision of expect of test 'it' must be one of allow, deny",
    "{decision: deny, code: tempered}": "7:36: unknown code 'tempered' (did you mean 'tampered'?)",
    "{decision: allow, code: tampered}": "7:37: expect of test 'it' contradicts itself: tampered is no allow (codes of",
    "{decision: deny, code: tampered, rule: prodution}": "7:52: unknown rule 'prodution' (did you mean 'production'?)",
    "{decision: deny, code: tampered, signers: [bilder]}": "7:55: unknown signer 'bilder' (did you mean 'builder'?)",
}


@pytest.mark.parametrize("expect", EXPECTATIONS)
def test_what_is_wrong_with_an_expectation_is_said_with_its_place(expect: str, tmp_path: Path) -> None:
    (found,) = errors(tmp_path, one("", expect))
    assert found.startswith(EXPECTATIONS[expect])


HEADS = {
    "version: 2\ntests: []": [
        "1:10: version must be one of 1, and is '2'",
        "2:8: tests is an empty list (leave the key out, or list something)",
    ],
    "version: 1\ntsts: []": [
        "1:1: the file of tests needs 'tests'",
        "2:1: unknown key 'tsts' in the file of tests (did you mean 'tests'?)",
    ],
    "version: 1\nnames: {groups: {hpc: many}}\ntests: [{}]": [
        "2:23: the number of 'hpc' must be a number from 0 to",
    ],
    "version: 1\ndefaults: {kind: sif}\ntests: [{}]": ["2:12: unknown key 'kind' in defaults"],
}


@pytest.mark.parametrize("head", HEADS)
def test_what_is_wrong_with_a_file_is_said_with_its_place(head: str, tmp_path: Path) -> None:
    found = [line for line in errors(tmp_path, "", head=head + "\n") if not line.startswith("/")]
    assert len(found) >= len(HEADS[head])
    for line, start in zip(found, HEADS[head], strict=False):
        assert line.startswith(start)


def test_a_mistake_in_the_defaults_is_said_once(tmp_path: Path) -> None:
    head = BARE.replace("tests:", "defaults: {path: srv}\ntests:")
    found = errors(tmp_path, one("") + one("", name="other"), head=head)
    assert [line.split(" (")[0] for line in found] == ["4:18: the path 'srv' is not as the daemon sees paths"]


def test_two_tests_of_one_name_are_an_error(tmp_path: Path) -> None:
    assert errors(tmp_path, one("") + one("")) == ["8:5: test 'it' is there twice (first on line 6)"]


def test_a_name_has_one_number_in_all_files(tmp_path: Path) -> None:
    (tmp_path / "p" / "tests").mkdir(parents=True)
    second = tmp_path / "p" / "tests" / "u.yaml"
    second.write_text("version: 1\nnames: {groups: {hpc: 501}}\ntests:\n" + one("path: /a"))
    (found,) = loaded(tmp_path, one("")).errors
    first = tmp_path / "p" / "tests" / "t.yaml"
    assert str(found) == f"{second}:2:23: group 'hpc' is 501 here and 500 at {first}:3 (give it one number)"


def test_a_name_that_moves_a_terminal_is_an_error(tmp_path: Path) -> None:
    (found,) = errors(tmp_path, one("", name='"\\e[2J"'))
    assert found.startswith("6:11: the name of a test has control characters")
