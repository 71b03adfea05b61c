"""What the commands' argument parsers have in common. `eclctl check` has its own, to start fast."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, NoReturn

from eclctl.cli.terminal.exit_codes import USAGE
from eclctl.cli.terminal.output import columns
from eclctl.text import bounded_integer, bounded_seconds, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import SupportsWrite


class UsageError(ValueError):
    """The command line is wrong in a way that argparse does not know; the message says how."""


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions and examples. Without a width, argparse imports `shutil`."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)  # argparse leaves as much free


class Parser(argparse.ArgumentParser):
    """A parser whose help ends in examples, and whose errors are one line that is safe to show and says what to do.

    Args:
        prog: the command as it is typed.
        description: what it does; lines at most 80 columns wide, for they are printed as they are.
        examples: exit status and examples, likewise.
    """

    def __init__(self, prog: str, description: str, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help; unlike argparse's own, an output that takes nothing is an error."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the command line, and exit."""
        raise SystemExit(self.misused(message))

    def misused(self, message: str) -> int:
        """Print what is wrong with the command line; return the exit status for that."""
        print(f"{self.prog}: {printable(message)}; `{self.prog} --help` shows how", file=sys.stderr)
        return USAGE


def add_repeatable(
    parser: argparse._ActionsContainer, *names: str, metavar: str, text: str, parse: Callable[[str], object] = str
) -> None:
    """Add an option that may be given several times; its value is a list. `text` says what it is for."""
    parser.add_argument(
        *names, action="append", default=[], metavar=metavar, type=parse, help=f"{text}; may be repeated"
    )


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return what parses a whole number from `low` to `high` for a parser."""

    def parse(text: str) -> int:
        number = bounded_integer(text, low, high)
        if number is None:
            raise argparse.ArgumentTypeError(f"{printable(text[:32])} is no number from {low} to {high}")
        return number

    return parse


def timeout(value: str) -> float:
    """Parse the value of `--timeout` for a parser."""
    seconds = bounded_seconds(value)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"needs a number of seconds, at most a day, not {printable(value)}")
    return seconds
