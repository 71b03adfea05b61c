"""`eclctl keys`: its commands, each a module of its own."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Protocol

from eclctl.cli.options import Parser

__all__ = ["run"]

_OVERVIEW = """`eclctl keys COMMAND --help` says more.

examples:
  eclctl keys newpair
  eclctl keys list
"""


class _Command(Protocol):
    """A module with one command."""

    def add(self, commands: argparse._SubParsersAction[Parser]) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


_COMMANDS: Mapping[str, _Command] = {}


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
