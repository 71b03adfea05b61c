"""JUnit XML that the usual CI systems take."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

from eclctl.config.document import Problem
from eclctl.policytest.junit import Timed, document
from tests.helpers.policy_tests import NOT_MET, one, results

STARTED = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)

# What the schemas that go around (of Ant, Jenkins, pytest's xunit2, GitLab) agree on.
ATTRIBUTES = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, set()),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "hostname"}, set()),
    "testcase": ({"name", "classname", "time"}, set()),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "error"},
    "failure": set(),
    "error": set(),
}


def check(element: ET.Element) -> None:
    """Every element has the attributes that are required, no others, and only children that are allowed."""
    assert set(element.attrib) == ATTRIBUTES[element.tag][0]
    for name in {"tests", "failures", "errors", "skipped"} & set(element.attrib):
        assert element.attrib[name].isdigit()
    if "time" in element.attrib:
        assert float(element.attrib["time"]) >= 0
    for child in element:
        assert child.tag in CHILDREN[element.tag]
        check(child)


def parsed(folder: Path, tests: str) -> ET.Element:
    timed = [Timed(result, 0.25) for result in results(folder, tests)]
    root = ET.fromstring(document(timed, (), STARTED, "node1"))
    check(root)
    return root


def test_a_suite_for_each_file_with_its_totals(tmp_path: Path) -> None:
    root = parsed(tmp_path, one("signed_by: []", NOT_MET) + one("signed_by: []", name="fails"))
    (suite,) = root
    assert suite.attrib == {
        "name": str(tmp_path / "p" / "tests" / "t.yaml"),
        "timestamp": "2026-11-23T12:30:00",
        "hostname": "node1",
        "tests": "2",
        "failures": "1",
        "errors": "0",
        "skipped": "0",
        "time": "0.500",
    }
    assert (root.get("tests"), root.get("failures"), root.get("errors"), root.get("time")) == ("2", "1", "0", "0.500")
    assert [case.get("name") for case in suite] == ["it", "fails"]


def test_a_failure_has_expected_got_reason_and_place(tmp_path: Path) -> None:
    (failure,) = parsed(tmp_path, one("signed_by: []")).iter("failure")
    assert failure.get("message") == "decision: expected allow requirements-met, got deny requirements-not-met"
    assert failure.text is not None
    lines = failure.text.splitlines()
    assert lines[1].startswith("reason: needs 1 approval from builder and has none")
    assert lines[2] == f"at {tmp_path / 'p' / 'tests' / 't.yaml'}:6"


def test_names_and_reasons_are_escaped_whatever_is_in_them(tmp_path: Path) -> None:
    (case,) = parsed(tmp_path, one("signed_by: []", name="\"a <b> & 'c' ]]> é\"")).iter("testcase")
    assert case.get("name") == "a <b> & 'c' ]]> é"
    problem = Problem("f\x1b\udcff\ufffe.yaml", 3, 1, "un\x00able\nline", None)
    root = ET.fromstring(document((), (problem,), STARTED, "h\x07"))
    check(root)
    (error,) = root.iter("error")
    assert error.get("message") == "un\\u0000able\nline"
    (case,) = root.iter("testcase")
    assert case.get("name") == "f\\u001b\\udcff\\ufffe.yaml:3"


def test_what_does_not_load_is_an_error_for_each_problem(tmp_path: Path) -> None:
    problems = (Problem("a.yaml", 1, 2, "wrong", "right"), Problem("b", 0, 0, "gone"))
    root = ET.fromstring(document((), problems, STARTED, "node1"))
    check(root)
    assert (root.get("tests"), root.get("errors")) == ("2", "2")
    assert [error.text for error in root.iter("error")] == ["a.yaml:1:2: wrong (right)", "b: gone"]


def test_results_follow_the_files(tmp_path: Path) -> None:
    first = results(tmp_path / "one", one("signed_by: []", NOT_MET))
    second = results(tmp_path / "two", one("signed_by: []", NOT_MET))
    root = ET.fromstring(document([Timed(each, 0) for each in (*first, *second)], (), STARTED, "node1"))
    check(root)
    assert [suite.get("tests") for suite in root] == ["1", "1"]
