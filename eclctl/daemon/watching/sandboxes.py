"""Reports changes inside sandboxes whose look-up results are kept, by an inotify instance of its own.

The tree watcher (`inotify`) leaves the insides of sandboxes out: one has thousands of directories, and its files are no
images. Here only directories are watched of which a result is kept, and they are added by descriptor while they
are walked. The first change ends the result and gives the watches back.

Where there are no watches (the limit is reached, or the file system has none), results live by their age alone.
"""

from __future__ import annotations

import ctypes
import logging
import os
import select
import struct
import threading
from typing import TYPE_CHECKING

from watchdog.observers.inotify_c import InotifyConstants

from eclctl.daemon.watching.inotify import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WATCH_LIMIT = 65_536
"""The most directories that are watched, and never more than a quarter of what the user may watch."""

_MAX_USER_WATCHES = "/proc/sys/fs/inotify/max_user_watches"
_BUFFER = 65_536
_EVENT = struct.Struct("=iIII")  # struct inotify_event: wd, mask, cookie, len; then the name

_EVENTS = EVENTS | InotifyConstants.IN_DELETE  # a missing file, too, makes a sandbox another one

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32]
_log = logging.getLogger(__name__)


class WatchedSandbox:
    """The watched directories of one sandbox (`files.sandboxes.Watched`)."""

    def __init__(self, watch: SandboxWatch, changed: Callable[[], None]) -> None:
        """Used by `SandboxWatch.begin`."""
        self._watch = watch
        self.changed = changed
        self.watches: set[int] = set()
        self.closed = False

    def add(self, fd: int) -> None:
        """Watch a directory by its open descriptor. Without a watch to be had, gives back all of this sandbox."""
        self._watch.add(self, fd)

    def close(self) -> None:
        """Give all watches back. May be called several times."""
        self._watch.release(self)


class SandboxWatch:
    """One inotify instance and the thread that reads it, which starts at once (`files.sandboxes.Watching`).

    Raises:
        OSError: from the constructor, when the user has no inotify instance left.
    """

    def __init__(self, limit: int | None = None) -> None:
        """Make the instance. `limit` is the most directories that are watched at a time."""
        self._limit = _default_limit() if limit is None else limit
        self._fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise _error()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._lock = threading.Lock()  # guards the watches; not held while `changed` is called
        self._of: dict[int, set[WatchedSandbox]] = {}
        self._refused = False
        self._thread = threading.Thread(target=self._run, name="watch-sandboxes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and give the instance back. What is watched is watched no longer, without a report."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        with self._lock:
            fd, self._fd = self._fd, -1
            self._of.clear()
        os.close(fd)
        os.close(self._stop)

    def begin(self, changed: Callable[[], None]) -> WatchedSandbox:
        """Begin with a sandbox. `changed` is called from the thread; it must return quickly."""
        return WatchedSandbox(self, changed)

    def add(self, sandbox: WatchedSandbox, fd: int) -> None:
        """Watch one more directory of a sandbox; used by `WatchedSandbox`."""
        with self._lock:
            if sandbox.closed or self._fd < 0:
                return
            if len(self._of) < self._limit:
                wd = _libc.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, _EVENTS)
                if wd >= 0:
                    self._of.setdefault(wd, set()).add(sandbox)
                    sandbox.watches.add(wd)
                    return
                reason = _error().strerror
            else:
                reason = f"{self._limit} directories are watched"
            told, self._refused = self._refused, True
        self.release(sandbox)
        if not told:
            _log.warning("a sandbox is not watched: results about it are kept by age alone", extra={"error": reason})

    def release(self, sandbox: WatchedSandbox) -> None:
        """Give back the watches that no other sandbox needs; used by `WatchedSandbox`."""
        with self._lock:
            sandbox.closed = True
            for wd in sandbox.watches:
                sharers = self._of.get(wd, set())
                sharers.discard(sandbox)
                if not sharers and self._of.pop(wd, None) is not None and self._fd >= 0:
                    _libc.inotify_rm_watch(self._fd, wd)
            sandbox.watches.clear()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._stop, select.POLLIN)
        while all(fd != self._stop for fd, _ in poll.poll()):
            try:
                events = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                continue
            for sandbox in self._concerned(events):
                sandbox.changed()

    def _concerned(self, events: bytes) -> set[WatchedSandbox]:
        """Return the sandboxes that something changed in."""
        concerned: set[WatchedSandbox] = set()
        with self._lock:
            for wd, mask in _parse(events):
                if mask & InotifyConstants.IN_Q_OVERFLOW:
                    concerned.update(*self._of.values())
                concerned |= self._of.get(wd, set())
                if mask & InotifyConstants.IN_IGNORED:  # the directory is gone, and its watch with it
                    for sandbox in self._of.pop(wd, set()):
                        sandbox.watches.discard(wd)
        return concerned


def _parse(events: bytes) -> Iterator[tuple[int, int]]:
    """Yield watch descriptor and mask of each event (inotify(7))."""
    offset = 0
    while offset + _EVENT.size <= len(events):
        wd, mask, _, length = _EVENT.unpack_from(events, offset)
        offset += _EVENT.size + length
        yield wd, mask


def _default_limit() -> int:
    """Return how many directories to watch: most of what the user may watch is for the tree watcher."""
    try:
        with open(_MAX_USER_WATCHES, "rb") as file:
            return min(WATCH_LIMIT, int(file.read()) // 4)
    except (OSError, ValueError):
        return 0


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
