"""`eclctl sif`: what is in a SIF image, each command a module of its own."""

from __future__ import annotations

from eclctl.cli.terminal.parser import Parser
from eclctl.cli.terminal.subcommands import run_subcommand

_OVERVIEW = """`eclctl sif COMMAND --help` says more.

examples:
  eclctl sif list app.sif
  eclctl sif header app.sif
  eclctl sif info 4 app.sif
  eclctl sif dump 1 app.sif
  eclctl sif dump 3 app.sif -o root.squashfs
"""

_MODULES = {
    "list": "eclctl.cli.sif.list",
    "header": "eclctl.cli.sif.header",
    "info": "eclctl.cli.sif.info",
    "dump": "eclctl.cli.sif.dump",
}


def run(argv: list[str]) -> int:
    """Run `eclctl sif`; return its exit status."""
    description = "Shows what is in a SIF image, and what is wrong with a damaged one."
    parser = Parser("eclctl sif", description, _OVERVIEW)
    return run_subcommand(parser, _MODULES, argv)
