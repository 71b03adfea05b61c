"""Closing a large file that has no name any more, without waiting for the system to free its blocks."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Final

__all__ = ["LARGE", "leave_to_another"]

LARGE: Final = 64 << 20
"""From how many bytes on it is worth another process."""

_PROGRAM: Final = "/bin/true"
_OUTPUT: Final = ("/dev/null", os.O_WRONLY, 0)


def leave_to_another(fd: int, size: int) -> None:
    """Have a process that ends at once hold a file after us; whoever calls this closes `fd` next.

    The last to close a file without a name waits until its blocks are free: on ext4 a quarter of a second for each GiB,
    in which all that matters is done. Where no process can be had, it is us who wait.

    Args:
        fd: open on the file.
        size: how large it is, in bytes. A small one is left as it is.
    """
    if size < LARGE:
        return
    # It gets neither our terminal nor our pipes, or whoever reads these would wait for it.
    actions = [
        (os.POSIX_SPAWN_DUP2, fd, 0),
        (os.POSIX_SPAWN_OPEN, 1, *_OUTPUT),
        (os.POSIX_SPAWN_OPEN, 2, *_OUTPUT),
    ]
    with suppress(OSError):
        process = os.posix_spawn(_PROGRAM, [_PROGRAM], {}, file_actions=actions, setsigmask=(), setpgroup=0)
        threading.Thread(target=os.waitpid, args=(process, 0), name="eclctl-release", daemon=True).start()
