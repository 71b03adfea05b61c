"""What commands print beside their answer: notes, errors and findings, as text and as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from eclctl.cli.terminal.width import columns
from eclctl.text import printable_message

if TYPE_CHECKING:
    from eclctl.config.document import Problem
    from eclctl.terms import Finding

__all__ = ["error_as_json", "finding_as_json", "print_error", "print_note", "print_problem"]

_WIDEST = 200


def print_note(line: str) -> None:
    """Print a line for people on standard error, at once. What it shows of a file must be escaped already."""
    print(line, file=sys.stderr, flush=True)


def print_problem(sort: str, problem: Problem) -> None:
    """Print a problem of a policy on standard error, with the line it is about; `sort` is error, warning or note."""
    from eclctl.config.excerpts import WIDTH, problem_lines  # noqa: PLC0415 - reads YAML, which most commands do without

    width = min(columns(WIDTH), _WIDEST) if sys.stderr.isatty() else WIDTH
    print("\n".join(problem_lines(sort, problem, width)), file=sys.stderr)


def print_error(error: Exception) -> None:
    """Print as a JSON object why a command has no answer."""
    import json  # noqa: PLC0415 - only --json needs it

    print(json.dumps({"v": 1, "error": error_as_json(error)}))


def error_as_json(error: Exception) -> dict[str, str]:
    """Return an error with its code and message; the code is `io` for an error that is not eclctl's own."""
    return {"code": getattr(error, "code", "io"), "message": printable_message(str(error))}


def finding_as_json(finding: Finding | None) -> dict[str, str] | None:
    """Return a finding with its code and message, None for none."""
    return None if finding is None else {"code": finding.code, "message": finding.message}
