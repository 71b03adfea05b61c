"""Change events of watched trees, from watchdog and inotify: also lost events (overflow) and used-up watches.

watchdog tells its handlers about changed files and directories. It does not tell them that

* the kernel's event queue overflowed and events were lost (`IN_Q_OVERFLOW`): watchdog renews its watches and says
  nothing;
* a directory could not be watched, because the user's inotify watches are used up (`ENOSPC`): watchdog swallows the
  error for all directories but the first.

`_Inotify` sits where watchdog reads and adds watches, and passes both on. It also leaves out the insides of sandbox
images, which would use up the watches for nothing.
"""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING, Protocol

from watchdog.events import DirCreatedEvent, DirMovedEvent, FileClosedEvent, FileMovedEvent, FileSystemEventHandler
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter
from watchdog.observers.inotify_c import InotifyConstants, InotifyFD, Mask

from eclctl.files.walk import SANDBOX_MARK

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import ObservedWatch
    from watchdog.observers.inotify_c import CallbackId, InotifyEvent, WatchCallback, WatchDescriptor

_MARK = b"/" + SANDBOX_MARK.encode()
_FULL = frozenset({errno.ENOSPC, errno.ENOMEM})
EVENTS = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_ONLYDIR
)
"""What changes images. A write shows as the close after it: IN_MODIFY would only fill the queue, and IN_OPEN and
IN_CLOSE_NOWRITE would show our own reading."""


def is_full(error: OSError) -> bool:
    """Return whether an error says that there are no more inotify watches."""
    return error.errno in _FULL


class ChangeListener(Protocol):
    """Is told what changes in one tree, in watchdog's threads; must return quickly."""

    def changed(self, path: str, *, closed: bool) -> None:
        """A file was created or changed; `closed` when its writer is done or it was moved into place."""

    def directory(self, path: str) -> None:
        """A directory appeared, perhaps with content."""


class _Inotify(InotifyFD):
    """One inotify instance that reports what it lost."""

    def __init__(self, on_overflow: Callable[[], None], on_limit: Callable[[str], None]) -> None:
        super().__init__()
        self._on_overflow = on_overflow
        self._on_limit = on_limit
        self._sandboxes: set[bytes] = set()

    def handle_event(self, event: InotifyEvent) -> None:
        super().handle_event(event)
        if event.is_queue_overflow:  # after watchdog has renewed its watches, so that nothing falls between
            self._on_overflow()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        if self._in_sandbox(path):
            raise OSError(errno.ENOENT, "inside a sandbox image", path)
        try:
            return super().add_callback(path, mask, callback, id_)
        except OSError as error:
            if is_full(error):
                self._on_limit(os.fsdecode(path))
            raise

    def _add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        """Add a callback as watchdog does, but take a second time for what it is, and EACCES for no success.

        A directory that is filled while it is found is found twice. watchdog warns of it with all that it knows, and
        where warnings are errors its reading thread ends.
        """
        watch = self._get_or_create_watch(path, mask)
        if watch.wd == -1:
            del self._watch_for_wd[watch.wd]
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        watch.callbacks[id_] = callback
        return watch.wd

    def _in_sandbox(self, path: bytes) -> bool:
        """Return whether the directory is a sandbox or in one. Parents come first, so that one look up is enough."""
        inside = os.path.dirname(path) in self._sandboxes or os.path.lexists(path + _MARK)
        (self._sandboxes.add if inside else self._sandboxes.discard)(path)
        return inside


class _Emitter(InotifyEmitter):
    """Asks the kernel for exactly the events that matter: watchdog's own choice goes by event classes."""

    def get_event_mask_from_filter(self) -> Mask:
        return EVENTS


class _Handler(FileSystemEventHandler):
    """Hands the events of one tree to its listener."""

    def __init__(self, listener: ChangeListener) -> None:
        self._listener = listener

    def dispatch(self, event: FileSystemEvent) -> None:
        moved = isinstance(event, DirMovedEvent | FileMovedEvent)
        path = os.fsdecode(event.dest_path if moved else event.src_path)
        if not event.is_directory and event.event_type != "deleted":
            self._listener.changed(path, closed=moved or isinstance(event, FileClosedEvent))
        elif isinstance(event, DirCreatedEvent | DirMovedEvent):
            self._listener.directory(path)


class Notifier:
    """Watches trees on local file systems through one inotify instance.

    `on_overflow` and `on_limit` are called, from watchdog's threads, when events were lost and when a directory could
    not be watched because there are no more watches; the latter with the directory's path.

    Raises:
        OSError: from the constructor, when the user has no inotify instance left.
    """

    def __init__(self, on_overflow: Callable[[], None], on_limit: Callable[[str], None]) -> None:
        self._inotify = _Inotify(on_overflow, on_limit)
        self._observer = BaseObserver(_Emitter, inotify_fd=self._inotify)
        self._watches: dict[str, ObservedWatch] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start watchdog's threads."""
        self._inotify.start()
        self._observer.start()

    def stop(self) -> None:
        """Stop watchdog's threads and give back the inotify instance."""
        self._observer.stop()
        self._observer.join()
        self._inotify.stop()
        self._inotify.join()

    def arm(self, path: str, listener: ChangeListener, *, recursive: bool) -> None:
        """Watch a directory (absolute, no links) and with `recursive` everything below. Returns when it is watched.

        Raises:
            OSError: the directory itself cannot be watched, or is already, or the thread that reads events has ended.
        """
        with self._lock:
            if path in self._watches:
                raise FileExistsError(errno.EEXIST, "watched already", path)
            if self._inotify.ident is not None and not self._inotify.is_alive():
                raise OSError(errno.EIO, "the thread that reads events has ended", path)
            self._watches[path] = self._observer.schedule(_Handler(listener), path, recursive=recursive)

    def disarm(self, path: str) -> None:
        """Watch a directory no longer; nothing happens when it was not watched."""
        with self._lock:
            watch = self._watches.pop(path, None)
            if watch is not None:
                self._observer.unschedule(watch)

    def alive(self, path: str) -> bool:
        """Return whether a directory is still watched: it is not once it was removed."""
        watch = self._watches.get(path)
        if watch is None or not (self._inotify.is_alive() and self._observer.is_alive()):
            return False
        return any(emitter.watch is watch and emitter.is_alive() for emitter in self._observer.emitters.copy())
