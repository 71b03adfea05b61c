"""The results of tests in the XML that CI systems read: the part of JUnit's format that all of them take."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby

from eclctl.config.document import Problem
from eclctl.dataclass import dataclass
from eclctl.policytest.running import CaseResult

# What XML 1.0 cannot hold in any spelling (section 2.2).
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNTESTED = "loading"


@dataclass(frozen=True, slots=True)
class Timed:
    """A result, and the seconds that it took."""

    result: CaseResult
    seconds: float


def document(timed: Sequence[Timed], problems: Sequence[Problem], started: datetime, host: str) -> bytes:
    """Return the XML of a run: a suite for each file of tests, and one for what kept tests from loading.

    Args:
        timed: the results, tests of one file together.
        problems: what kept policy or tests from loading.
        started: when the run began (aware, UTC).
        host: the name of this host.
    """
    root = ET.Element("testsuites", {"name": "eclctl policy test"})
    if problems:
        suite = _suite(root, _UNTESTED, started, host)
        for problem in problems:
            place = f"{problem.file}:{problem.line}" if problem.line else problem.file
            case = _case(suite, _UNTESTED, place, 0.0)
            _wrong(case, "error", problem.message, str(problem))
        _count(suite)
    for file, group in groupby(timed, key=lambda each: each.result.case.mark.file):
        suite = _suite(root, file, started, host)
        for each in group:
            _of_result(suite, file, each)
        _count(suite)
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _suite(root: ET.Element, name: str, started: datetime, host: str) -> ET.Element:
    fields = {"name": _safe(name), "timestamp": started.strftime("%Y-%m-%dT%H:%M:%S"), "hostname": _safe(host)}
    return ET.SubElement(root, "testsuite", fields)


def _of_result(suite: ET.Element, file: str, timed: Timed) -> None:
    result = timed.result
    case = _case(suite, file, result.case.name, timed.seconds)
    if result.passed:
        return
    lines = [f"{each.what}: expected {each.expected}, got {each.got}" for each in result.differences]
    text = "\n".join([*lines, f"reason: {result.decision.reason}", f"at {file}:{result.case.mark.line}"])
    _wrong(case, "failure", lines[0], text)


def _case(suite: ET.Element, file: str, name: str, seconds: float) -> ET.Element:
    fields = {"classname": _safe(file), "name": _safe(name), "time": f"{seconds:.3f}"}
    return ET.SubElement(suite, "testcase", fields)


def _wrong(case: ET.Element, sort: str, message: str, text: str) -> None:
    ET.SubElement(case, sort, {"message": _safe(message), "type": sort}).text = _safe(text)


def _count(suite: ET.Element) -> None:
    """Write a suite's totals, once it has all of its tests."""
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    for name, sort in (("failures", "failure"), ("errors", "error")):
        suite.set(name, str(sum(case.find(sort) is not None for case in cases)))
    suite.set("skipped", "0")
    suite.set("time", f"{sum(float(case.get('time', '0')) for case in cases):.3f}")


def _safe(text: str) -> str:
    r"""Return text that XML can hold; other characters, lone surrogates too, are written as `\uNNNN`."""
    return _NO_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
