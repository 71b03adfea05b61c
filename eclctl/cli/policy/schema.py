"""`eclctl policy schema`: the JSON Schema of policy files, for editors."""

from __future__ import annotations

import argparse
import json

from eclctl.cli.terminal.exit_codes import OK
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.policy.schema import policy_schema

_EXAMPLES = """With the schema, an editor completes keys, explains them and marks errors. Only
`eclctl policy check` finds errors that depend on keyrings, key files and this
host. --json prints the schema on one line.

In a policy, for editors with the YAML language server:
  # yaml-language-server: $schema=eclctl-policy.schema.json

exit status:
  0  the schema was printed
  2  the command line is wrong
  3  the output cannot be written

examples:
  eclctl policy schema > eclctl-policy.schema.json
"""


def add(commands: Commands) -> None:
    """Add the command's parser."""
    text = "Prints the JSON Schema (draft 2020-12) of policy files, for editors."
    add_command(commands, "schema", text, _EXAMPLES)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    print(json.dumps(policy_schema(), indent=None if options.json else 2))
    return OK
