"""How problems of policies and of what belongs to them are printed: the sentence, the line itself, and what to do."""

from __future__ import annotations

import json
import shutil
import sys

from eclctl.config.document import Problem
from eclctl.config.excerpts import WIDTH, shown
from eclctl.text import printable_message

__all__ = ["complain", "error_shape", "print_error"]

_WIDEST = 200


def complain(sort: str, problem: Problem) -> None:
    """Print a problem to the error output; `sort` is `error`, `warning` or `note`."""
    print("\n".join(shown(sort, problem, _width())), file=sys.stderr)


def print_error(error: Exception) -> None:
    """Print as JSON why a command has no answer; what is not eclctl's own error is one of input or output."""
    print(json.dumps({"v": 1, "error": error_shape(error)}))


def error_shape(error: Exception) -> dict[str, str]:
    """Return an error's shape in JSON; what is not eclctl's own error is one of input or output."""
    return {"code": getattr(error, "code", "io"), "message": printable_message(str(error))}


def _width() -> int:
    return min(shutil.get_terminal_size((WIDTH, 24)).columns, _WIDEST) if sys.stderr.isatty() else WIDTH
