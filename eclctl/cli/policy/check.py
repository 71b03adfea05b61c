"""`eclctl policy check`: whether policy files load, and everything in them that is wrong or suspicious."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from functools import partial

from eclctl.cli.inputs.policies import add_policy_options, settings_from_options
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_json, print_problem
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.config.accounts import NAMES
from eclctl.config.document import Problem
from eclctl.dataclass import asdict, replace
from eclctl.decide.host_mounts import HostMounts, exists_here, trusted_file_systems
from eclctl.decide.snapshot import Built, build
from eclctl.files.mounts import MountTable
from eclctl.text import counted, json_text

_EXAMPLES = """Every problem is printed as SORT: FILE:LINE:COLUMN: MESSAGE, with the line
itself, a caret below the column, and what to do. A policy with errors does not
load: a daemon that is told to reload it keeps the policy that it has. Warnings
show where a policy may not say what you mean. Notes are good to know.

exit status:
  0  the policy loads, with or without warnings
  1  it does not; or, with --strict, there are warnings
  2  the command line is wrong
  3  the output cannot be written

examples:
  eclctl policy check
  eclctl policy check --config /etc/eclctl/config.yaml --json
  eclctl policy check --strict --keyring site-ring.asc policies.d/
"""


def add(commands: Commands) -> None:
    """Add the command's parser."""
    text = "Loads policy files as the daemon would, and prints errors, warnings and notes."
    check = add_command(commands, "check", text, _EXAMPLES)
    add_policy_options(check)
    check.add_argument("--strict", action="store_true", help="warnings fail too")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    built = load_named(options, datetime.now(UTC), lint=True)
    if options.json:
        print_json(_shape(built))
    else:
        _print(built)
    return FAILED if built.snapshot is None or (options.strict and built.warnings) else OK


def load_named(options: argparse.Namespace, now: datetime, *, lint: bool) -> Built:
    """Build what the daemon would of what is named; with `lint`, look for all that may not be meant."""
    named = settings_from_options(options)
    if named.settings is None:
        return Built(None, named.errors)
    if not lint:
        return build(named.settings, NAMES, generation=1, now=now)
    table = MountTable(trusted_file_systems(named.settings))
    try:
        mounts, trust = table.current()
    finally:
        table.close()
    # Policies that are named alone come without a configuration: what theirs will trust is not known.
    host = HostMounts(mounts, None if options.paths else trust, partial(exists_here, mounts))
    built = build(named.settings, NAMES, generation=1, now=now, lint=True, remarks=host.remarks)
    return replace(built, warnings=(*built.warnings, *host.of_watched(named.settings)))


def _print(built: Built) -> None:
    for sort, problems in (("error", built.errors), ("warning", built.warnings), ("note", built.notes)):
        for problem in problems:
            print_problem(sort, problem)
    if built.snapshot is None or built.snapshot.policy is None:
        warnings = f", {counted(len(built.warnings), 'warning')}" if built.warnings else ""
        print(f"the policy does not load: {counted(len(built.errors), 'error')}{warnings}", file=sys.stderr)
        return
    policy = built.snapshot.policy
    what = f"{counted(len(policy.rules), 'rule')}, {counted(len(policy.signers), 'signer')}"
    print(f"the policy loads: {what}, {counted(len(built.warnings), 'warning')} ({built.snapshot.digest})")


def _shape(built: Built) -> dict[str, object]:
    policy = built.snapshot.policy if built.snapshot is not None else None
    return {
        "loads": policy is not None,
        "errors": [problem_fields(problem) for problem in built.errors],
        "warnings": [problem_fields(problem) for problem in built.warnings],
        "notes": [problem_fields(problem) for problem in built.notes],
        "policy": built.snapshot.digest if built.snapshot is not None else None,
        "rules": [rule.name for rule in policy.rules] if policy is not None else [],
        "signers": sorted(policy.signers) if policy is not None else [],
    }


def problem_fields(problem: Problem) -> dict[str, object]:
    """Return a problem as JSON has it; names of files that are no text are escaped."""
    return {**asdict(problem), "file": json_text(problem.file)}
