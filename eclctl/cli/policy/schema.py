"""`eclctl policy schema`: the JSON Schema of policy files, for editors."""

from __future__ import annotations

import argparse
import json
from typing import Any

from eclctl.cli.terminal.exit_codes import OK
from eclctl.policy.schema import policy_schema

__all__ = ["add", "run"]

_EXAMPLES = """An editor that knows schemas completes keys, explains them, and marks what
cannot be. What depends on keyrings, key files and this host, only
`eclctl policy check` finds.

In a policy, for editors with the YAML language server:
  # yaml-language-server: $schema=eclctl-policy.schema.json

exit status:
  0  the schema was printed
  2  the command line is wrong
  3  the output cannot be written

examples:
  eclctl policy schema > eclctl-policy.schema.json
"""


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command's parser."""
    schema = commands.add_parser(
        "schema",
        help="print the JSON Schema of policy files, for editors",
        description="Prints the JSON Schema (draft 2020-12) of policy files.",
        examples=_EXAMPLES,
    )
    schema.add_argument("-j", "--json", action="store_true", help="print one line")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    print(json.dumps(policy_schema(), indent=None if options.json else 2))
    return OK
