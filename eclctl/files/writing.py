"""Writing at a place in a file, for whatever makes images or changes them."""

from __future__ import annotations

import os

__all__ = ["write_at"]


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at an offset, in as many turns as pwrite(2) takes for it; raises OSError as that does."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
