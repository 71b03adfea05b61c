"""Finds and loads tests with the policy that they are about.

Tests lie in `tests/` beside the policy files. The daemon takes the files of a directory and does not descend
(`files.guarded.expand`), so it never sees them there, under any name; it would take
`NAME.test.yaml` beside `NAME.yaml` for a policy. Where a configuration names the directory itself, its files do not
load: a policy has no key `tests`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime

from eclctl.config.accounts import Names
from eclctl.config.document import MAX_BYTES, Mark, Problem, Report, read_document
from eclctl.config.settings import Settings
from eclctl.dataclass import dataclass, field, replace
from eclctl.decide.snapshot import Built, Snapshot, build
from eclctl.errors import ConfigError
from eclctl.files.guarded import Reader, expand, read_unguarded
from eclctl.policytest.cases import Case
from eclctl.policytest.reading import CaseReader, Declared, FileHeader, read_header
from eclctl.policytest.signing import SigningKeys

FOLDER = "tests"
"""The directory beside policy files that tests lie in."""

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class LoadedTests:
    """Tests and the snapshot that they are put to, or every error that kept them from loading.

    A policy compares names of hosts when it loads, so there is one more snapshot for each host that tests name.
    """

    snapshot: Snapshot | None
    cases: tuple[Case, ...]
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    elsewhere: Mapping[str, Snapshot] = field(default_factory=dict)


def beside_policies(policies: Sequence[str]) -> tuple[str, ...]:
    """Return the directories of tests that lie beside policy files and in policy directories, each once."""
    folders = (os.path.join(path if os.path.isdir(path) else os.path.dirname(path), FOLDER) for path in policies)
    return tuple(dict.fromkeys(folder for folder in folders if os.path.isdir(folder)))


def load_tests(
    settings: Settings,
    tests: Sequence[str],
    host: Names,
    *,
    now: datetime,
    read: Reader,
) -> LoadedTests:
    """Load the policy that the settings name, and its tests.

    Args:
        settings: policies and keyrings; without keyrings, those that the test files name are used.
        tests: files and directories of tests.
        host: what names of users and groups are on this host; names that tests declare go first.
        now: when tests take place that do not say (aware, UTC).
        read: how policies and keys are read.

    Never raises for what it reads: all errors are returned, those of the policy first.
    """
    report, declared = Report(), Declared(host)
    files = _files(tests, report)
    headers = [header for file in files if (header := _header(file, declared, report)) is not None]
    if not settings.keyrings:
        rings = tuple(dict.fromkeys(ring for header in headers for ring in header.keyrings))
        settings = replace(settings, keyrings=rings)
    built = build(settings, declared.names(), generation=1, now=now, read=read)
    cases = _cases(built, headers, declared, report, now)
    errors = [*built.errors, *_in_order(report.errors, files)]
    elsewhere: dict[str, Snapshot] = {}
    for name in dict.fromkeys(case.host for case in cases if case.host is not None):
        there = build(settings, declared.names(name), generation=1, now=now, read=read)
        errors += (problem for problem in there.errors if problem not in errors)
        if there.snapshot is not None:
            elsewhere[name] = there.snapshot
    if errors:
        return LoadedTests(None, (), tuple(errors), built.warnings)
    return LoadedTests(built.snapshot, cases, (), built.warnings, elsewhere)


def _files(paths: Sequence[str], report: Report) -> list[str]:
    files: dict[str, None] = {}
    for path in paths:
        try:
            files.update(dict.fromkeys(expand((path,), _SUFFIXES)))
        except ConfigError as error:
            report.error(Mark(path, 0, 0), str(error).removeprefix(f"{path}: "))
    return list(files)


def _header(file: str, declared: Declared, report: Report) -> FileHeader | None:
    try:
        text = read_unguarded(file, limit=MAX_BYTES)
    except ConfigError as error:
        report.error(Mark(file, 0, 0), f"the file of tests {error}")
        return None
    root = read_document(file, text, report)
    return None if root is None else read_header(root, declared, report)


def _in_order(problems: Sequence[Problem], files: Sequence[str]) -> list[Problem]:
    """Return problems by file, in the order given, and then by place."""
    order = {file: number for number, file in enumerate(files)}
    return sorted(problems, key=lambda found: (order.get(found.file, -1), found.line, found.column))


def _cases(
    built: Built, headers: Sequence[FileHeader], declared: Declared, report: Report, now: datetime
) -> tuple[Case, ...]:
    snapshot = built.snapshot
    if snapshot is None or snapshot.policy is None:
        return ()
    reader = CaseReader(SigningKeys(snapshot.policy, snapshot.store), declared, report, now)
    return tuple(case for header in headers for case in reader.cases(header))
