"""How wide the terminal is. `shutil` can tell, too, but it imports every compressor of the standard library."""

from __future__ import annotations

import os
import sys

__all__ = ["columns"]


def columns(usual: int = 80) -> int:
    """Return how many columns the terminal has, as `shutil.get_terminal_size` does.

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
