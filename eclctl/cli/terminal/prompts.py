"""Questions to the user at the terminal."""

from __future__ import annotations

import sys

from eclctl.cli.terminal.passphrases import at_terminal
from eclctl.errors import KeyMaterialError

_YES = frozenset({"y", "yes"})


def ask_line(question: str) -> str:
    """Ask the user a question, printable text; return the answer.

    Raises:
        KeyMaterialError: It is no text.
    """
    print(question, end="", file=sys.stderr, flush=True)
    try:
        return sys.stdin.readline().strip()
    except UnicodeDecodeError:
        raise KeyMaterialError("what was typed is no text in this terminal's encoding; nothing was done") from None


def confirmed(question: str) -> bool | None:
    """Ask a question, printable text; return whether the answer was yes, None without a terminal."""
    if not at_terminal():
        return None
    return ask_line(f"{question} [y/N] ").lower() in _YES
