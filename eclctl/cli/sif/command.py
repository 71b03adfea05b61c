"""`eclctl sif`: what is in a SIF image, each command a module of its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from eclctl.cli.sif import dump as sif_dump
from eclctl.cli.sif import header as sif_header
from eclctl.cli.sif import info as sif_info
from eclctl.cli.sif import list as sif_list
from eclctl.cli.terminal.parser import Parser

__all__ = ["run"]

_OVERVIEW = """`eclctl sif COMMAND --help` says more.

examples:
  eclctl sif list app.sif
  eclctl sif header app.sif
  eclctl sif info 4 app.sif
  eclctl sif dump 1 app.sif
  eclctl sif dump 3 app.sif -o root.squashfs
"""


def run(argv: list[str]) -> int:
    """Run `eclctl sif`; return its exit status."""
    options = _parser().parse_args(argv)
    return _COMMANDS[options.command](options)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": sif_list.run,
    "header": sif_header.run,
    "info": sif_info.run,
    "dump": sif_dump.run,
}


def _parser() -> Parser:
    description = "Shows what is in a SIF image, and what is wrong with a damaged one."
    parser = Parser("eclctl sif", description, _OVERVIEW)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sif_list.add(commands)
    sif_header.add(commands)
    sif_info.add(commands)
    sif_dump.add(commands)
    return parser
