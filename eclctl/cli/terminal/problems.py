"""How problems of policies and of what belongs to them are printed: the sentence, the line itself, and what to do."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from eclctl.cli.terminal.width import columns

if TYPE_CHECKING:
    from eclctl.config.document import Problem

__all__ = ["complain", "error_shape", "print_error"]

_WIDEST = 200


def complain(sort: str, problem: Problem) -> None:
    """Print a problem to the error output; `sort` is `error`, `warning` or `note`."""
    from eclctl.config.document import printable  # noqa: PLC0415 - without a problem, YAML is not needed
    from eclctl.config.excerpts import WIDTH, excerpt  # noqa: PLC0415 - likewise

    width = min(columns(WIDTH), _WIDEST) if sys.stderr.isatty() else WIDTH
    lines = [f"{sort}: {problem.sentence}", *excerpt(problem, width)]
    if problem.hint is not None:
        lines.append(f"       = {printable(problem.hint)}")
    print("\n".join(lines), file=sys.stderr)


def print_error(error: Exception) -> None:
    """Print as JSON why a command has no answer; what is not eclctl's own error is one of input or output."""
    print(json.dumps({"v": 1, "error": error_shape(error)}))


def error_shape(error: Exception) -> dict[str, str]:
    """Return an error's shape in JSON; what is not eclctl's own error is one of input or output."""
    from eclctl.config.document import printable  # noqa: PLC0415 - as above

    return {"code": getattr(error, "code", "io"), "message": printable(str(error))}
