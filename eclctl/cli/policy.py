"""`eclctl policy`: its commands, and `check`, whether policy files load, and what in them is suspicious."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

from eclctl.cli import policy_import_ecl, policy_test
from eclctl.cli.options import USAGE, Parser
from eclctl.cli.text import printable
from eclctl.daemon.service import NAMES
from eclctl.decide import settings
from eclctl.decide.settings import Settings
from eclctl.decide.snapshot import Built, Snapshot, build
from eclctl.model import Finding
from eclctl.policy.document import Problem
from eclctl.signature import openpgp

__all__ = ["run"]

SYSTEM_CONFIG = "/etc/eclctl/config.yaml"
"""What is checked when nothing is named."""

OK, FAILED = 0, 1

_OVERVIEW = """`eclctl policy COMMAND --help` says more.

examples:
  eclctl policy check
  eclctl policy check --keyring site-ring.asc policies.d/
  eclctl policy test policies.d/
  eclctl policy import-ecl --keyring global-pgp-public ecl.toml
"""
_EXAMPLES = """Errors and warnings are printed as FILE:LINE:COLUMN: MESSAGE (HINT). A daemon that
is told to reload a policy with errors keeps the one that it has.

exit status:
  0  the policy loads, with or without warnings
  1  it does not
  2  the command line is wrong
  3  the output cannot be written

examples:
  eclctl policy check
  eclctl policy check --config /etc/eclctl/config.yaml --json
  eclctl policy check --keyring site-ring.asc policies.d/
"""


def run(argv: list[str]) -> int:
    """Run `eclctl policy`; return its exit status."""
    options = _parser().parse_args(argv)
    return _COMMANDS[options.command](options)


def _check(options: argparse.Namespace) -> int:
    if options.config is not None and (options.paths or options.keyring):
        print("eclctl policy check: --config names policies and keyrings; give it alone", file=sys.stderr)
        return USAGE
    if options.keyring and not options.paths:
        print("eclctl policy check: --keyring needs policy files or directories after it", file=sys.stderr)
        return USAGE
    built = _built(options.config, options.paths, options.keyring, datetime.now(UTC))
    if options.json:
        print(json.dumps(_shape(built)))
    else:
        _print(built)
    return OK if built.snapshot is not None else FAILED


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "check": _check,
    "test": policy_test.run,
    "import-ecl": policy_import_ecl.run,
}


def _parser() -> Parser:
    parser = Parser("eclctl policy", "Works on policies, without a daemon.", _OVERVIEW)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        help="load policy files and print every error and warning",
        description="Loads policy files as the daemon would, and prints every error and warning.",
        examples=_EXAMPLES,
    )
    check.add_argument("paths", nargs="*", metavar="FILE_OR_DIR", help="policies, in the order of their rules")
    check.add_argument("--config", metavar="FILE", help=f"check what it names ({SYSTEM_CONFIG})")
    check.add_argument("--keyring", metavar="FILE_OR_DIR", action="append", default=[], help="certificates; repeatable")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    policy_test.add(commands)
    policy_import_ecl.add(commands)
    return parser


def _built(config: str | None, paths: Sequence[str], keyrings: Sequence[str], now: datetime) -> Built:
    """Build what the daemon would, with a warning for every certificate that cannot count at `now`."""
    if paths:
        named = Settings("", "", "", policies=tuple(paths), keyrings=tuple(keyrings))
    else:
        loaded = settings.load(config or SYSTEM_CONFIG, resolve_user=NAMES.user)
        if loaded.settings is None:
            return Built(None, loaded.errors)
        named = loaded.settings
    built = build(named, NAMES, generation=1, now=now)
    if built.snapshot is None:
        return built
    return replace(built, warnings=(*built.warnings, *_useless_certificates(built.snapshot, now)))


def _useless_certificates(snapshot: Snapshot, now: datetime) -> list[Problem]:
    """Return a warning for each certificate of a signer that makes no signature count now."""
    found: list[Problem] = []
    for signer in snapshot.policy.signers.values() if snapshot.policy is not None else ():
        file, _, line = signer.where.rpartition(":")
        for key in signer.keys:
            finding = _why_useless(snapshot.store.pgp, key, now)
            if finding is not None:
                message = f"no signature by {key} of '{signer.name}' counts now: {finding.message}"
                found.append(Problem(file, int(line), 1, message))
    return found


def _why_useless(ring: openpgp.Keyring, fingerprint: str, now: datetime) -> Finding | None:
    """Return why none of a certificate's keys could sign now, or None when one could, or it is no certificate."""
    certificate = ring.get(fingerprint)
    if certificate is None:
        return None
    findings = [openpgp.judge(fingerprint, key.fingerprint, now, None, ring, now) for key in certificate.keys]
    return None if None in findings else next(iter(findings), None)


def _print(built: Built) -> None:
    for problem in built.errors:
        print(f"error: {problem}", file=sys.stderr)
    for problem in built.warnings:
        print(f"warning: {problem}", file=sys.stderr)
    if built.snapshot is None or built.snapshot.policy is None:
        print(f"the policy does not load: {_count(len(built.errors), 'error')}", file=sys.stderr)
        return
    policy = built.snapshot.policy
    what = f"{_count(len(policy.rules), 'rule')}, {_count(len(policy.signers), 'signer')}"
    print(f"the policy loads: {what}, {_count(len(built.warnings), 'warning')} ({printable(policy.digest)})")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _shape(built: Built) -> dict[str, object]:
    policy = built.snapshot.policy if built.snapshot is not None else None
    return {
        "v": 1,
        "loads": policy is not None,
        "errors": [_problem(problem) for problem in built.errors],
        "warnings": [_problem(problem) for problem in built.warnings],
        "policy": policy.digest if policy is not None else None,
        "rules": [rule.name for rule in policy.rules] if policy is not None else [],
        "signers": sorted(policy.signers) if policy is not None else [],
    }


def _problem(problem: Problem) -> dict[str, object]:
    return {**asdict(problem), "file": os.fsencode(problem.file).decode("utf-8", "backslashreplace")}
