"""Groups of commands, such as `eclctl keys`: only the module of the command that is given is imported."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, TypeAlias

from eclctl.cli.terminal.output import print_failure
from eclctl.cli.terminal.parser import Parser, UsageError
from eclctl.errors import EclctlError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - argparse has no other name for it
"""The commands of a group, while its parser is made."""


class _Command(Protocol):
    """A module with one command of a group."""

    def add(self, commands: Commands) -> None: ...

    def run(self, options: argparse.Namespace) -> int: ...


def add_command(commands: Commands, name: str, description: str, examples: str) -> Parser:
    """Add a command with `--json` to a group; return its parser.

    The parsed options have the whole name of the command as `prog`.

    Args:
        commands: The commands of the group.
        name: The command's.
        description: What it does, in one sentence, which the help of the group has, too.
        examples: What its help ends in.
    """
    summary = description[:1].lower() + description[1:].rstrip(".")
    parser = commands.add_parser(name, help=summary, description=description, examples=examples)
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")
    parser.set_defaults(prog=parser.prog)
    return parser


def run_subcommand(parser: Parser, modules: Mapping[str, str], argv: Sequence[str]) -> int:
    """Run the command of a group that the arguments name.

    Without such a name (`--help`, or an error) every command is imported, since the parser then lists them all.

    Args:
        parser: The parser of the group, without its commands.
        modules: The commands in the order of the help, and the full name of each one's module. Such a module has
            `add`, which adds the command's parser, and `run`, which returns the exit status. An error that `run`
            raises is printed here; with a `UsageError` the command line is wrong.
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
    chosen: Parser = subparsers.choices[options.command]
    try:
        return commands[options.command].run(options)
    except UsageError as error:
        return chosen.misused(str(error))
    except EclctlError as error:
        return print_failure(chosen.prog, error, as_json=options.json)
