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
        if has_acl(f"/proc/self/fd/{fd}"):
            return False
        if found.ctime_ns < self._clock() - _SETTLED_NS:
            if len(self._seen) >= _MAX_REMEMBERED:
                self._seen.clear()
            self._seen[key] = found.ctime_ns
        return True


def has_acl(path: str, attributes: Callable[[str], list[str]] = os.listxattr) -> bool:
    """Whether a file has an ACL, by what `attributes` (listxattr(2)) says. True where that is not known."""
    try:
        return "system.posix_acl_access" in attributes(path)
    except OSError as error:
        return error.errno != errno.ENOTSUP  # a file system without attributes has no ACLs either
