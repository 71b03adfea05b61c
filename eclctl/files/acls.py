"""Tells which directories have a POSIX ACL; asks once for each, as long as it does not change."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from time import time_ns

from eclctl.files.syscalls import DirectoryAttributes

_MAX_REMEMBERED = 4096
_SETTLED_NS = 20_000_000  # two ticks of a 100 Hz kernel: a later change has another change time


class WithoutAcl:
    """Cache of the directories of local file systems that had no ACL, by their change times.

    Setting an ACL changes the change time. `clock` is that of change times, in nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time_ns) -> None:
        self._clock = clock
        self._seen: dict[tuple[int, int], int] = {}

    def holds(self, fd: int, found: DirectoryAttributes) -> bool:
        """Return whether a directory, open as `fd`, has no ACL. True also where its file system has none."""
        key = found.device, found.inode
        if self._seen.get(key) == found.ctime_ns:
            return True
        if _has_acl(fd):
            return False
        if found.ctime_ns < self._clock() - _SETTLED_NS:
            if len(self._seen) >= _MAX_REMEMBERED:
                self._seen.clear()
            self._seen[key] = found.ctime_ns
        return True


def _has_acl(fd: int) -> bool:
    """Whether there is one. One that cannot be looked for counts as there."""
    try:
        return "system.posix_acl_access" in os.listxattr(f"/proc/self/fd/{fd}")
    except OSError as error:
        return error.errno != errno.ENOTSUP
