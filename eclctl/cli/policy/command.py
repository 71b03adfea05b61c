"""`eclctl policy`: its commands, each a module of its own."""

from __future__ import annotations

from eclctl.cli.terminal.parser import Parser
from eclctl.cli.terminal.subcommands import run_subcommand

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

_MODULES = {
    "check": "eclctl.cli.policy.check",
    "show": "eclctl.cli.policy.show",
    "schema": "eclctl.cli.policy.schema",
    "test": "eclctl.cli.policy.test",
    "simulate": "eclctl.cli.policy.simulate",
    "withdraw": "eclctl.cli.policy.withdraw",
    "exception": "eclctl.cli.policy.exception",
    "import-ecl": "eclctl.cli.policy.import_ecl",
}


def run(argv: list[str]) -> int:
    """Run `eclctl policy`; return its exit status."""
    parser = Parser("eclctl policy", "Works on policies, without a daemon.", _OVERVIEW)
    return run_subcommand(parser, _MODULES, argv)
