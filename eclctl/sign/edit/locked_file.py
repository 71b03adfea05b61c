"""A file that is held while it is edited: found once, locked against others of us, and only written as it was seen.

1. The file is found once: its symbolic links are followed, its directory is opened by a path without any, and from
   then on names are looked up in that open directory only. Nobody who can rename directories leads the work elsewhere.
2. It is locked against others of us; a dead process holds no lock. It is opened for writing and closed again, so that
   who may not write hears so before any work is done.
3. Nobody else may have it open for writing, at the start and before it is written, where the kernel can tell.
4. Before it is written it must be as it was: the same file under the same name, with the same size and times.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

from eclctl.errors import BusyImageError, SigningError, UnreadableImageError, UnsupportedFileError
from eclctl.files import syscalls as attributes_of
from eclctl.files import trusted_path
from eclctl.files.opening import open_exactly
from eclctl.sif.edit_journal import Stage, cut_short
from eclctl.sign.edit import locks
from eclctl.sign.edit.locks import Lock

__all__ = ["PATIENCE", "Held", "held"]

PATIENCE = 60.0
"""How long another's work on the same file is waited for, in seconds."""

_POLL_SECONDS = 0.1
_LEASE_SECONDS = 1.0
_LEASE_POLL_SECONDS = 0.001
_ABANDONED_SECONDS = 10.0  # an edit writes for milliseconds, and flushes five times
_SETTLED_NS = 20_000_000  # two ticks of a 100 Hz kernel: a later change has another change time
_FLAGS = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file is: the path that was named, its directory, open, and its name there; and the file, open.

    `writable` is open for writing, where a lock can be had on nothing else. Then we are a writer ourselves, and the
    kernel cannot tell us who else is. `locked` says whether a lock was had at all.
    """

    asked: str
    path: str
    directory: int
    name: str
    fd: int
    writable: int | None = None
    locked: bool = True

    @contextmanager
    def writing(self) -> Iterator[int]:
        """Give a descriptor of the file that is open for writing, for a while.

        Raises:
            BusyImageError: Somebody holds a lease on it, or runs it; or it has been replaced.
            SigningError: It cannot be written.
        """
        if self.writable is not None:
            yield self.writable
            return
        fd = self.open_to_write()
        try:
            yield fd
        finally:
            os.close(fd)

    def open_to_write(self) -> int:
        """Return another descriptor of the file, open for writing; raises as `writing`."""
        try:
            fd = self._past_leases()
        except FileNotFoundError:
            raise _replaced(self.path) from None
        except BlockingIOError as error:
            raise BusyImageError(f"somebody holds a lease on {self.path}; try again when they are done") from error
        except OSError as error:
            if error.errno == errno.ETXTBSY:
                raise BusyImageError(f"{self.path} is being executed; try again when it has started") from error
            raise _unwritable(self.path, error) from error
        if not os.path.samestat(os.fstat(fd), os.fstat(self.fd)):
            os.close(fd)
            raise _replaced(self.path)
        return fd

    def _past_leases(self) -> int:
        """Open the file for writing; wait for a lease that ends at once, as the daemon takes to look for writers."""
        deadline = time.monotonic() + _LEASE_SECONDS
        while True:
            try:
                return os.open(self.name, os.O_RDWR | _FLAGS, dir_fd=self.directory)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LEASE_POLL_SECONDS)


class Held:
    """A file that no other of us edits.

    `path` is where it is, without symbolic links; `fd` is open on it for reading. `mended` is how far an edit had come
    that was cut short, and has been made up for; None when there was none.
    """

    def __init__(self, place: _Place, mended: Stage | None) -> None:
        self.path = place.path
        self.fd = place.fd
        self.mended = mended
        self._place = place
        self._status = os.fstat(place.fd)
        self._before = attributes_of.attributes(place.fd, fresh=True)

    @contextmanager
    def writing(self) -> Iterator[int]:
        """Give a descriptor that is open for writing, once it is sure that nobody changed the file.

        Raises:
            BusyImageError: The file changed since it was opened, or its name leads to another one.
            SigningError: It cannot be written any more.
        """
        with _alone(self._place):
            self._require_unchanged()
        with self._place.writing() as fd:
            self._require_unchanged()
            yield fd

    def _require_unchanged(self) -> None:
        if not trusted_path.unchanged(self.fd, self._before) or os.fstat(self.fd).st_nlink == 0:
            raise BusyImageError(
                f"{self.path} changed meanwhile and was left as it is now; try again when it is finished"
            )
        if not self._is_ours(self._place.name) or not _leads_to(self._place.asked, self._status):
            raise _replaced(self.path)

    def _is_ours(self, name: str) -> bool:
        """Whether a name in the directory is that of the file that was opened."""
        try:
            found = os.stat(name, dir_fd=self._place.directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, self._status)


@contextmanager
def held(
    path: str,
    mend: Callable[[int], Stage | None],
    *,
    patience: float = PATIENCE,
    waiting: Callable[[], None] | None = None,
) -> Iterator[Held]:
    """Open a file to edit it.

    Args:
        path: Of a regular file, or of a symbolic link to one.
        mend: Called with a descriptor that is open for writing before anything is read, while we have the lock.
        patience: How many seconds to wait while another process of ours is at the same file.
        waiting: Called once when there is somebody to wait for.

    Raises:
        UnreadableImageError: There is no such file, or it cannot be read.
        UnsupportedFileError: It is no regular file.
        BusyImageError: Others are at it, for longer than `patience`.
        SigningError: It cannot be written.
    """
    with ExitStack() as stack:
        place = _acquire(path, stack, time.monotonic() + patience, waiting)
        # On the descriptor that is locked: to an NFS server both are record locks, and only of one owner no conflict.
        locks.refuse_if_mounted(place.fd if place.writable is None else place.writable)
        with _alone(place):
            pass  # only to hear now of a writer, not after all the work
        with place.writing() as writable:
            _require_abandoned(place)
            mended = mend(writable)
        _settle(place.fd)
        yield Held(place, mended)


def _acquire(path: str, stack: ExitStack, deadline: float, waiting: Callable[[], None] | None) -> _Place:
    """Open a file and lock it, for as long as the stack lasts."""
    while True:
        with ExitStack() as attempt:
            place = _lock(_open(path, attempt), attempt)
            if place is not None and _leads_to(path, os.fstat(place.fd)):
                stack.push(attempt.pop_all())
                return place
        if time.monotonic() >= deadline:
            raise _at_it(path)
        if waiting is not None:
            waiting()
            waiting = None
        time.sleep(_POLL_SECONDS)


def _open(path: str, stack: ExitStack) -> _Place:
    """Find a file and open it and its directory."""
    try:
        resolved = os.path.realpath(path, strict=True)
        parent, name = os.path.split(resolved)
        directory = open_exactly(parent, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, directory)
        # Looked at before it is opened: opening a device or a pipe can do something.
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise UnsupportedFileError(f"{path} is not a regular file; only an image in one file can be changed")
        fd = os.open(name, os.O_RDONLY | _FLAGS, dir_fd=directory)
        stack.callback(os.close, fd)
    except BlockingIOError as error:
        raise BusyImageError(f"somebody holds a lease on {path}; try again when they are done") from error
    except OSError as error:
        raise UnreadableImageError(f"{path} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise UnsupportedFileError(f"{path} is not a regular file; only an image in one file can be changed")
    return _Place(path, resolved, directory, name, fd)


def _lock(place: _Place, stack: ExitStack) -> _Place | None:
    """Lock the file; None when another has. Where no lock can be had, the look before it is written has to do."""
    held_by = locks.lock(place.fd)
    if held_by is not Lock.UNKNOWN:
        return place if held_by is Lock.OURS else None
    writable = place.open_to_write()
    held_by = locks.lock(writable)
    if held_by is not Lock.OURS:
        os.close(writable)
        return replace(place, locked=False) if held_by is Lock.UNKNOWN else None
    stack.callback(os.close, writable)
    return replace(place, writable=writable)


def _require_abandoned(place: _Place) -> None:
    """Where no lock tells that whoever left a record is dead, require that the file does not change for a while."""
    if place.locked:
        return
    before = attributes_of.attributes(place.fd, fresh=True)
    if cut_short(place.fd, before.size) is None:
        return
    time.sleep(_ABANDONED_SECONDS)
    if not trusted_path.unchanged(place.fd, before):
        raise _at_it(place.asked)


def _alone(place: _Place) -> locks.Bar:
    return nullcontext() if place.writable is not None else locks.barred_to_writers(place.fd)


def _leads_to(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False


def _settle(fd: int) -> None:
    """Wait until a further change would show: two within one tick of the kernel's clock have the same time."""
    while 0 <= time.time_ns() - os.fstat(fd).st_ctime_ns < _SETTLED_NS:
        time.sleep(_SETTLED_NS / 1e9)


def _at_it(path: str) -> BusyImageError:
    return BusyImageError(f"{path} is being signed or changed by another eclctl; try again when that is done")


def _replaced(path: str) -> BusyImageError:
    return BusyImageError(f"{path} was replaced by another file meanwhile, which was left as it is; try again")


def _unwritable(path: str, error: OSError) -> SigningError:
    return SigningError(
        f"{path} cannot be opened for writing: {error.strerror}; let its owner or root do it (also see chmod, lsattr)"
    )
