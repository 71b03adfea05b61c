"""What commands print beside their answer, and how: notes, errors, JSON, lines as wide as the terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from eclctl.cli.terminal.exit_codes import FAILED
from eclctl.text import printable, printable_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eclctl.config.document import Problem
    from eclctl.terms import Finding

_WIDEST = 200


def columns(usual: int = 80) -> int:
    """Return how many columns the terminal has, as `shutil.get_terminal_size` does.

    `shutil` is not used since it imports every compressor of the standard library.

    Args:
        usual: What is returned where neither COLUMNS nor the standard output tells.
    """
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and int(stated) > 0:
        return int(stated)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or usual  # type: ignore[union-attr] # it may be None
    except (AttributeError, OSError, ValueError):  # there is none, it is no terminal, or it is closed
        return usual


def wrapped(text: str, first: str = "", later: str = "", width: int = 80) -> list[str]:
    """Return a text as lines, indented by `first` and `later`. Paths and digests stay in one piece, however long."""
    import textwrap  # noqa: PLC0415 - many answers have nothing to wrap

    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=later, break_long_words=False, break_on_hyphens=False
    )


def print_note(line: str) -> None:
    """Print a line for people on standard error, at once. What it shows of a file must be escaped already."""
    print(line, file=sys.stderr, flush=True)


def print_problem(sort: str, problem: Problem) -> None:
    """Print a problem of a policy on standard error, with the line it is about; `sort` is error, warning or note."""
    from eclctl.config.excerpts import WIDTH, problem_lines  # noqa: PLC0415 - reads YAML, which most commands do without

    width = min(columns(WIDTH), _WIDEST) if sys.stderr.isatty() else WIDTH
    print("\n".join(problem_lines(sort, problem, width)), file=sys.stderr)


def print_json(fields: Mapping[str, Any]) -> None:
    """Print an answer as a JSON object on one line, with the version of its shape; no terminal obeys what is in it."""
    import json  # noqa: PLC0415 - only --json needs it

    print(json.dumps({"v": 1, **fields}).replace("\x7f", "\\u007f"), flush=True)


def print_failure(command: str, error: Exception, *, as_json: bool) -> int:
    """Print why a command did nothing, with `--json` as an object, too; return the exit status for that."""
    print(f"{command}: {printable(str(error))}", file=sys.stderr)
    if as_json:
        print_error(error)
    return FAILED


def print_error(error: Exception) -> None:
    """Print as a JSON object why a command has no answer."""
    print_json({"error": error_as_json(error)})


def error_as_json(error: Exception) -> dict[str, str]:
    """Return an error with its code and message; the code is `io` for an error that is not eclctl's own."""
    return {"code": getattr(error, "code", "io"), "message": printable_message(str(error))}


def finding_as_json(finding: Finding | None) -> dict[str, str] | None:
    """Return a finding with its code and message, None for none."""
    return None if finding is None else {"code": finding.code, "message": finding.message}
