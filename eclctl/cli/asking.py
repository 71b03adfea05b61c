"""What somebody at the terminal is asked before it is done."""

from __future__ import annotations

import sys

from eclctl.cli.passphrases import at_terminal

__all__ = ["confirmed"]

_YES = frozenset({"y", "yes"})


def confirmed(question: str) -> bool | None:
    """Ask a question, printable text; return whether the answer was yes, None where nobody can be asked."""
    if not at_terminal():
        return None
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in _YES
