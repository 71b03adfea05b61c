"""Writes an exception as its file. `breakglass.read_exception` reads it back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from eclctl.dataclass import dataclass
from eclctl.policy.breakglass import FileName
from eclctl.text import printable


@dataclass(frozen=True, slots=True)
class Draft:
    """What an exception is to say. `files` come with the name that each had, for a comment. Times are aware."""

    name: str
    reason: str
    users: Sequence[str]
    groups: Sequence[str]
    starts: datetime
    ends: datetime
    files: Sequence[tuple[FileName, str]] = ()
    paths: Sequence[str] = ()


def write_exception(draft: Draft) -> str:
    """Return the file of an exception. Whether it is acceptable is for `read_exception` to say."""
    scope = ("users", draft.users) if draft.users else ("groups", draft.groups)
    lines = [
        "version: 1",
        f"exception: {_quoted(draft.name)}",
        f"reason: {_quoted(draft.reason)}",
        f"{scope[0]}: [{', '.join(map(_quoted, scope[1]))}]",
        f"starts: {_time(draft.starts)}",
        f"ends: {_time(draft.ends)}",
        "images:",
    ]
    for file, name in draft.files:
        lines += [f"  # {printable(name)}", f"  - {{sha256: {file.digest}, size: {file.size}}}"]
    lines += [f"  - {{path: {_quoted(path)}}}" for path in draft.paths]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A YAML double-quoted scalar: JSON's strings are such (YAML 1.2 section 1.3)."""
    return json.dumps(text, ensure_ascii=False)


def _time(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
