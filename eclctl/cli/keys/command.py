"""`eclctl keys`: its commands, each a module of its own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Protocol

from eclctl.cli.keys import export as keys_export
from eclctl.cli.keys import generate_cosign_key_pair
from eclctl.cli.keys import import_keys as keys_import
from eclctl.cli.keys import list as keys_list
from eclctl.cli.keys import newpair as keys_newpair
from eclctl.cli.keys import pull as keys_pull
from eclctl.cli.keys import push as keys_push
from eclctl.cli.keys import refresh as keys_refresh
from eclctl.cli.keys import remove as keys_remove
from eclctl.cli.keys import search as keys_search
from eclctl.cli.terminal.parser import Parser

__all__ = ["run"]

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


class _Command(Protocol):
    """A module with one command."""

    def add(self, commands: argparse._SubParsersAction[Parser]) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


_COMMANDS: Mapping[str, _Command] = {
    "newpair": keys_newpair,
    "generate-cosign-key-pair": generate_cosign_key_pair,
    "list": keys_list,
    "import": keys_import,
    "export": keys_export,
    "remove": keys_remove,
    "search": keys_search,
    "pull": keys_pull,
    "push": keys_push,
    "refresh": keys_refresh,
}


def run(argv: list[str]) -> int:
    """Run `eclctl keys`; return its exit status."""
    options = _parser().parse_args(argv)
    return _COMMANDS[options.command].run(options)


def _parser() -> Parser:
    parser = Parser("eclctl keys", "Keys: pairs to sign with, and the rings of those that are trusted.", _OVERVIEW)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in _COMMANDS.values():
        command.add(commands)
    return parser
