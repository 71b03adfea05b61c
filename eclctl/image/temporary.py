"""How files are named that stand beside an image while its successor is being written.

The names are known here because others pass over them: the daemon's watcher does not examine ahead of any question
what nobody is to ask about. That is all a name can do. An answer about such a file is as strict as about any other,
and a report of what lies in a directory leaves none out.
"""

from __future__ import annotations

import re
import secrets

__all__ = ["is_temporary", "temporary_name"]

_PATTERN = re.compile(r"\.eclctl-[0-9a-f]{32}\.part")


def temporary_name() -> str:
    """Return a name that nobody can guess: 128 random bits."""
    return f".eclctl-{secrets.token_hex(16)}.part"


def is_temporary(name: str) -> bool:
    """Whether a file name, without directories, is one of ours."""
    return _PATTERN.fullmatch(name) is not None
