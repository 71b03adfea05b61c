"""`eclctl policy`: its commands, each a module of its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from eclctl.cli.policy import check as policy_check
from eclctl.cli.policy import exception as policy_exception
from eclctl.cli.policy import import_ecl
from eclctl.cli.policy import schema as policy_schema
from eclctl.cli.policy import show as policy_show
from eclctl.cli.policy import simulate as policy_simulate
from eclctl.cli.policy import test as policy_test
from eclctl.cli.policy import withdraw as policy_withdraw
from eclctl.cli.terminal.parser import Parser

__all__ = ["run"]

_OVERVIEW = """`eclctl policy COMMAND --help` says more.

examples:
  eclctl policy check
  eclctl policy check --keyring site-ring.asc policies.d/
  eclctl policy show
  eclctl policy test policies.d/
  eclctl policy simulate new/policies.d
  eclctl policy withdraw --image bad.sif --reason "CVE-2026-1234"
  eclctl policy exception list
  eclctl policy import-ecl --keyring global-pgp-public ecl.toml
"""


def run(argv: list[str]) -> int:
    """Run `eclctl policy`; return its exit status."""
    options = _parser().parse_args(argv)
    return _COMMANDS[options.command](options)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "check": policy_check.run,
    "show": policy_show.run,
    "schema": policy_schema.run,
    "test": policy_test.run,
    "simulate": policy_simulate.run,
    "withdraw": policy_withdraw.run,
    "exception": policy_exception.run,
    "import-ecl": import_ecl.run,
}


def _parser() -> Parser:
    parser = Parser("eclctl policy", "Works on policies, without a daemon.", _OVERVIEW)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    policy_check.add(commands)
    policy_show.add(commands)
    policy_schema.add(commands)
    policy_test.add(commands)
    policy_simulate.add(commands)
    policy_withdraw.add(commands)
    policy_exception.add(commands)
    import_ecl.add(commands)
    return parser
