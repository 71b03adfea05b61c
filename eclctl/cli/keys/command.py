"""`eclctl keys`: its commands, each a module of its own."""

from __future__ import annotations

from eclctl.cli.terminal.parser import Parser
from eclctl.cli.terminal.subcommands import run_subcommand

_OVERVIEW = """`eclctl keys COMMAND --help` says more.

examples:
  eclctl keys newpair
  eclctl keys generate-cosign-key-pair --output-key-prefix ci
  eclctl keys list
  eclctl keys import joe.asc
  eclctl keys export --armor joe@site.example > joe.asc
  eclctl keys remove A51A441E6236763CE206A977354CB5C746F78F74
  eclctl keys search joe@site.example
  eclctl keys pull 8883491F4268F173C6E5DC49EDECE4F3F38D871E
"""

_MODULES = {
    "newpair": "eclctl.cli.keys.newpair",
    "generate-cosign-key-pair": "eclctl.cli.keys.generate_cosign_key_pair",
    "list": "eclctl.cli.keys.list",
    "import": "eclctl.cli.keys.import_keys",
    "export": "eclctl.cli.keys.export",
    "remove": "eclctl.cli.keys.remove",
    "search": "eclctl.cli.keys.search",
    "pull": "eclctl.cli.keys.pull",
    "push": "eclctl.cli.keys.push",
    "refresh": "eclctl.cli.keys.refresh",
}


def run(argv: list[str]) -> int:
    """Run `eclctl keys`; return its exit status."""
    parser = Parser("eclctl keys", "Keys: pairs to sign with, and the rings of those that are trusted.", _OVERVIEW)
    return run_subcommand(parser, _MODULES, argv)
