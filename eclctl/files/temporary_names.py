"""How files are named that stand where an image will be while it is being fetched.

The names are known here because others pass over them: the daemon's watcher does not examine ahead of any question
what nobody is to ask about. That is all a name can do. An answer about such a file is as strict as about any other,
and a report of what lies in a directory leaves none out.
"""

from __future__ import annotations

import hashlib
import os
import re

__all__ = ["continued_name", "is_continued", "is_temporary"]

_PATTERN = re.compile(r"\.eclctl-pull-[0-9a-f]{32}\.part")


def is_temporary(name: str) -> bool:
    """Whether a file name, without directories, is one of ours."""
    return _PATTERN.fullmatch(name) is not None


def continued_name(target: str, content: str) -> str:
    """Return the name of a file that a later run finds again: it will be `target`, and `content` says what is in it.

    Whoever opens it has to look whose it is, for this name can be guessed.
    """
    return f".eclctl-pull-{_half(target)}{_half(content)}.part"


def is_continued(name: str, target: str) -> bool:
    """Whether a name is one that `continued_name` gives for this target, whatever is in it."""
    return is_temporary(name) and name.startswith(f".eclctl-pull-{_half(target)}")


def _half(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]
