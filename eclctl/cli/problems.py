"""How problems of policies and of what belongs to them are printed: the sentence, the line itself, and what to do."""

from __future__ import annotations

import shutil
import sys

from eclctl.policy.document import Problem, printable
from eclctl.policy.excerpts import WIDTH, excerpt

__all__ = ["complain"]

_WIDEST = 200


def complain(sort: str, problem: Problem) -> None:
    """Print a problem to the error output; `sort` is `error`, `warning` or `note`."""
    lines = [f"{sort}: {problem.sentence}", *excerpt(problem, _width())]
    if problem.hint is not None:
        lines.append(f"       = {printable(problem.hint)}")
    print("\n".join(lines), file=sys.stderr)


def _width() -> int:
    return min(shutil.get_terminal_size((WIDTH, 24)).columns, _WIDEST) if sys.stderr.isatty() else WIDTH
