"""Closing descriptors that came from clients.

close(2) can wait: for a FUSE server to answer the flush, for a lingering TCP socket of which ours is the last
descriptor. A client that sends such a descriptor must not stop the event loop. So only files and directories on local
file systems are closed at once; the rest goes to threads of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING

from eclctl.files.syscalls import attributes

if TYPE_CHECKING:
    from eclctl.daemon.background.workers import Workers
    from eclctl.files.mounts import MountTable


class Closer:
    """Closes descriptors without ever waiting.

    Args:
        mounts: tells local file systems from others.
        workers: threads for the closing that may wait; the lanes are persons (`Peer.person`).
    """

    def __init__(self, mounts: MountTable, workers: Workers) -> None:
        self._mounts = mounts
        self._workers = workers
        self._lock = threading.Lock()
        self._waiting: Counter[int | str] = Counter()

    def close(self, person: int | str, descriptor: int) -> None:
        """Close a descriptor that came from a person, now or as soon as a thread can."""
        if self._closes_at_once(descriptor):
            os.close(descriptor)
            return
        with self._lock:
            self._waiting[person] += 1
        self._workers.submit(person, lambda: self._close(person, descriptor), gates=(person,))

    def waiting(self, person: int | str) -> int:
        """Return how many descriptors of a person are not closed yet."""
        return self._waiting.get(person, 0)

    def _closes_at_once(self, descriptor: int) -> bool:
        try:
            found = attributes(descriptor)
        except OSError:
            return False
        return (found.is_file or found.is_directory) and self._mounts.local_descriptor(found)

    def _close(self, person: int | str, descriptor: int) -> None:
        with contextlib.suppress(OSError):  # it is gone all the same (close(2), NOTES)
            os.close(descriptor)
        with self._lock:
            self._waiting[person] -= 1
            if not self._waiting[person]:
                del self._waiting[person]
