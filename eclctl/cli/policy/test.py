"""`eclctl policy test`: whether a policy says what its tests expect."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby

from eclctl.cli.inputs.policies import add_policy_options, settings_from_options
from eclctl.cli.policy.check import problem_fields
from eclctl.cli.terminal.exit_codes import FAILED, NO_RESULT, NOTHING_TESTED, OK
from eclctl.cli.terminal.output import print_json, print_problem, wrapped
from eclctl.cli.terminal.parser import UsageError, add_repeatable
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.accounts import NAMES
from eclctl.dataclass import asdict, dataclass
from eclctl.files.atomic import Existing, write_file
from eclctl.files.guarded import read_guarded, read_unguarded
from eclctl.policytest import junit
from eclctl.policytest.coverage import Reached, coverage
from eclctl.policytest.junit import Timed
from eclctl.policytest.loading import FOLDER, LoadedTests, beside_policies, load_tests
from eclctl.policytest.running import CaseResult, Runner
from eclctl.text import counted, json_text, printable

_INDENT = " " * 8
_FURTHER = " " * 18

_EXAMPLES = f"""Tests are YAML files in the directory `{FOLDER}` beside a policy, which the daemon
does not read; docs/policy-test.md explains them. An image is judged as if it
lay where the test says. Neither a daemon nor another host is asked.

exit status:
  0  every test passed
  1  a test failed, or with --all-rules a rule is not tested
  2  the command line is wrong
  3  the output, or the file of --junit, cannot be written
  4  nothing was tested: policy or tests do not load, or there are no tests

examples:
  eclctl policy test policies.d/
  eclctl policy test policies.d/ -k overlay
  eclctl policy test --keyring site-ring.asc --junit policy.xml policies.d/
  eclctl policy test --config /etc/eclctl/config.yaml --json
"""


def add(commands: Commands) -> None:
    """Add the command's parser to those of `eclctl policy`."""
    parser = add_command(commands, "test", "Runs the tests that lie beside a policy.", _EXAMPLES)
    add_policy_options(parser, "certificates, instead of those that the tests name")
    text = f"tests, instead of those in `{FOLDER}` beside the policies"
    add_repeatable(parser, "--tests", metavar="FILE_OR_DIR", text=text)
    parser.add_argument("-k", dest="filter", metavar="TEXT", help="only tests with this text in their name")
    parser.add_argument("--all-rules", action="store_true", help="fail also when tests leave out what a rule does")
    parser.add_argument("--junit", metavar="FILE", help="write the results as JUnit XML too")
    parser.add_argument("-v", "--verbose", action="store_true", help="also list the tests that pass")


@dataclass(frozen=True, slots=True)
class Run:
    """What a run found. `selected` is false when `-k` left tests out: then nothing is said about rules."""

    loaded: LoadedTests
    timed: tuple[Timed, ...]
    rules: tuple[Reached, ...]
    selected: bool

    @property
    def failed(self) -> int:
        """How many tests failed."""
        return sum(not each.result.passed for each in self.timed)


def run(options: argparse.Namespace) -> int:
    """Run `eclctl policy test`; return its exit status."""
    if options.all_rules and options.filter is not None:
        raise UsageError("--all-rules is about all tests, and -k leaves some out")
    started = datetime.now(UTC)
    made = _run(options, started)
    unwritten = None if options.junit is None else _write(options.junit, made, started)
    if options.json:
        print_json(_shape(made))
    else:
        _print(made, verbose=options.verbose)
    if unwritten is not None:
        print(f"eclctl policy test: cannot write {printable(options.junit)}: {unwritten}", file=sys.stderr)
        return NO_RESULT
    if not made.timed:
        return NOTHING_TESTED
    return FAILED if made.failed or (options.all_rules and any(rule.gap for rule in made.rules)) else OK


def _run(options: argparse.Namespace, now: datetime) -> Run:
    loaded = _loaded(options, now)
    if loaded.snapshot is None or loaded.snapshot.policy is None:
        return Run(loaded, (), (), selected=False)
    wanted = (options.filter or "").casefold()
    chosen = [case for case in loaded.cases if wanted in case.name.casefold()]
    runner = Runner(loaded.snapshot, loaded.elsewhere)
    timed = []
    try:
        for case in chosen:
            started = time.perf_counter()
            result = runner.run(case)
            timed.append(Timed(result, time.perf_counter() - started))
    finally:
        runner.close()
    rules = coverage(loaded.snapshot.policy, (each.result.decision for each in timed))
    return Run(loaded, tuple(timed), rules, selected=options.filter is None)


def _loaded(options: argparse.Namespace, now: datetime) -> LoadedTests:
    """Load policy and tests. Those on the command line may have any owner; else the daemon's rules hold."""
    named = settings_from_options(options)
    if named.settings is None:
        return LoadedTests(None, (), named.errors)
    tests = options.tests or beside_policies(named.settings.policies)
    return load_tests(named.settings, tests, NAMES, now=now, read=read_unguarded if options.paths else read_guarded)


def _write(path: str, made: Run, started: datetime) -> str | None:
    """Write the results as JUnit XML; return why that cannot be, or None."""
    document = junit.document(made.timed, made.loaded.errors, started, platform.node())
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # /dev/stdout, or a pipe to another program
            with open(path, "wb") as stream:
                stream.write(document)
        else:
            write_file(os.path.realpath(path), document, existing=Existing.REGULAR)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _print(made: Run, *, verbose: bool) -> None:
    for problem in made.loaded.errors:
        print_problem("error", problem)
    if made.loaded.errors:
        print(f"nothing was tested: {counted(len(made.loaded.errors), 'error')}", file=sys.stderr)
        return
    if not made.timed:
        where = "is named so" if made.loaded.cases else f"is there; tests lie in `{FOLDER}/` beside the policy"
        print(f"nothing was tested: no test {where}", file=sys.stderr)
        return
    for file, group in groupby(made.timed, key=lambda each: each.result.case.mark.file):
        results = [each.result for each in group]
        failed = sum(not result.passed for result in results)
        also = f", {failed} FAILED" if failed else ""
        print(f"{printable(file)}: {counted(len(results) - failed, 'test')} passed{also}")
        for result in results:
            if verbose or not result.passed:
                print("\n".join(_lines(result)))
    if made.selected:
        _print_gaps(made.rules)
    _print_summary(made)


def _lines(result: CaseResult) -> Iterator[str]:
    """Yield the lines of one test, at most 80 columns wide where words allow."""
    name = printable(result.case.name)
    if result.passed:
        yield f"  ok    {name}"
        return
    yield f"  FAIL  {name}"
    yield f"        at {printable(result.case.mark.file)}:{result.case.mark.line}"
    for each in result.differences:
        label = "" if each.what == "decision" else f" {each.what}"
        yield from wrapped(f"expected{label}: {printable(each.expected)}", _INDENT, _FURTHER)
        yield from wrapped(f"     got{label}: {printable(each.got)}", _INDENT, _FURTHER)
    rule, where = result.decision.rule, result.decision.outcome.rule_where
    if rule is not None and where is not None:
        yield f"        by rule {printable(rule)}, {printable(where)}"  # a path is not broken, however long
    yield from wrapped(f"reason: {printable(result.decision.reason)}", _INDENT, _FURTHER)


def _print_gaps(rules: Sequence[Reached]) -> None:
    gaps = [rule for rule in rules if rule.gap]
    if gaps:
        print("rules whose tests leave something out:")
    for each in gaps:
        print(f"  {printable(each.rule.name)}: {each.gap} ({printable(each.rule.where)})")


def _print_summary(made: Run) -> None:
    policy = made.loaded.snapshot.digest if made.loaded.snapshot is not None else None
    tests, shown = len(made.timed), sum(rule.gap is None for rule in made.rules)
    result = f"{made.failed} of {counted(tests, 'test')} FAILED" if made.failed else f"{counted(tests, 'test')} passed"
    rules = f", {shown} of {counted(len(made.rules), 'rule')} tested both ways" if made.selected else ""
    print(f"{result}{rules}")
    if made.loaded.warnings:
        print(f"the policy has {counted(len(made.loaded.warnings), 'warning')}; `eclctl policy check` shows them")
    print(f"policy {policy}")


def _shape(made: Run) -> dict[str, object]:
    snapshot = made.loaded.snapshot
    return {
        "passed": len(made.timed) - made.failed,
        "failed": made.failed,
        "policy": snapshot.digest if snapshot is not None else None,
        "errors": [problem_fields(problem) for problem in made.loaded.errors],
        "warnings": [problem_fields(problem) for problem in made.loaded.warnings],
        "tests": [_test(each) for each in made.timed],
        "rules": [
            {
                "name": each.rule.name,
                "where": json_text(each.rule.where),
                "allowed": each.allowed,
                "denied": each.denied,
                "gap": each.gap,
            }
            for each in made.rules
        ],
    }


def _test(timed: Timed) -> dict[str, object]:
    result = timed.result
    decision, where = result.decision, result.decision.outcome.rule_where
    return {
        "name": result.case.name,
        "file": json_text(result.case.mark.file),
        "line": result.case.mark.line,
        "passed": result.passed,
        "seconds": round(timed.seconds, 6),
        "decision": decision.verdict,
        "code": decision.code,
        "rule": decision.rule,
        "rule_where": None if where is None else json_text(where),
        "reason": decision.reason,
        "signers": list(decision.signers),
        "missing": [each.requirement for each in decision.missing],
        "would": decision.would,
        "message": decision.message,
        "exception": decision.outcome.exception,
        "differences": [asdict(each) for each in result.differences],
    }
