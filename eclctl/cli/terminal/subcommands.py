"""Groups of commands, such as `eclctl keys`: only the module of the command that is given is imported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from eclctl.cli.terminal.parser import Parser

__all__ = ["run_subcommand"]


class _Command(Protocol):
    """A module with one command of a group."""

    def add(self, commands: argparse._SubParsersAction[Parser]) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


def run_subcommand(parser: Parser, modules: Mapping[str, str], argv: Sequence[str]) -> int:
    """Run the command of a group that the arguments name.

    Without such a name (`--help`, or an error) every command is imported, since the parser then lists them all.

    Args:
        parser: The parser of the group, without its commands.
        modules: The commands in the order of the help, and the full name of each one's module. Such a module has
            `add`, which adds the command's parser, and `run`, which returns the exit status.
        argv: The arguments after the name of the group.

    Returns:
        The exit status of the command.

    Raises:
        SystemExit: After `--help`, and when the command line is wrong.
    """
    named = argv[0] if argv else ""
    commands: dict[str, _Command] = {
        name: import_module(module) for name, module in modules.items() if name == named or named not in modules
    }
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands.values():
        command.add(subparsers)
    options = parser.parse_args(argv)
    return commands[options.command].run(options)
