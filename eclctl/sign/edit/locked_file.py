"""Opens a file to edit it: found once, locked against other eclctl processes, and written only if unchanged.

1. The file is found once. Its symbolic links are followed, its directory is opened by a path without any, and from
   then on names are looked up in that open directory only. A renamed directory does not lead the edit elsewhere.
2. It is locked against other eclctl processes; a dead process holds no lock. It is opened for writing and closed
   again, so that missing rights show before any work is done.
3. No other process may have it open for writing, at the start and before it is written, where the kernel can tell.
4. Before it is written it must be as it was: the same file under the same name, with the same size and times.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress

from eclctl.dataclass import dataclass, replace
from eclctl.errors import BusyImageError, SigningError, UnreadableImageError, UnsupportedFileError
from eclctl.files import locating
from eclctl.files import syscalls as attributes_of
from eclctl.files.opening import open_exactly
from eclctl.sif.edit_journal import Stage, find_interrupted

LOCK_TIMEOUT = 60.0
"""How long to wait for another eclctl that edits the same file, in seconds."""

_POLL_SECONDS = 0.1
_LEASE_SECONDS = 1.0
_LEASE_POLL_SECONDS = 0.001
_ABANDONED_SECONDS = 10.0  # an edit writes for milliseconds, and flushes five times
_CLOCK_TICKS_NS = 20_000_000  # two ticks of a 100 Hz kernel: a change after them has another change time
_FLOCK = struct.Struct("hhqqi4x")
_DENIED = frozenset({errno.EAGAIN, errno.EACCES})
_FLAGS = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class _Place:
    """A file and where it is.

    asked: The path that was named.
    path: The same without symbolic links.
    directory: Its directory, open.
    name: Its name there.
    fd: The file, open for reading.
    writable: The file, open for writing, where only such a descriptor can be locked. This process is then a writer
        itself, and the kernel cannot tell whether there are others.
    locked: Whether the file system has locks.
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
        """Yield a descriptor of the file that is open for writing.

        Raises:
            BusyImageError: A process holds a lease on it, or executes it; or it has been replaced.
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
            fd = self._open_after_lease()
        except FileNotFoundError:
            raise _replaced_error(self.path) from None
        except BlockingIOError as error:
            raise BusyImageError(f"another process holds a lease on {self.path}; try again when it is done") from error
        except OSError as error:
            if error.errno == errno.ETXTBSY:
                raise BusyImageError(f"{self.path} is being executed; try again when it has started") from error
            raise SigningError(
                f"{self.path} cannot be opened for writing: {error.strerror}; let its owner or root do it (also see "
                "chmod, lsattr)"
            ) from error
        if not os.path.samestat(os.fstat(fd), os.fstat(self.fd)):
            os.close(fd)
            raise _replaced_error(self.path)
        return fd

    def _open_after_lease(self) -> int:
        """Open the file for writing; wait for a short lease, as the daemon takes to look for writers."""
        deadline = time.monotonic() + _LEASE_SECONDS
        while True:
            try:
                return os.open(self.name, os.O_RDWR | _FLAGS, dir_fd=self.directory)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LEASE_POLL_SECONDS)


class LockedFile:
    """A file that no other eclctl edits.

    path: Where it is, without symbolic links.
    fd: The file, open for reading.
    recovered: How far an interrupted edit had come, which was undone or finished; None when there was none.
    """

    def __init__(self, place: _Place, recovered: Stage | None) -> None:
        self.path = place.path
        self.fd = place.fd
        self.recovered = recovered
        self._place = place
        self._status = os.fstat(place.fd)
        self._before = attributes_of.attributes(place.fd, fresh=True)

    @contextmanager
    def writing(self) -> Iterator[int]:
        """Yield a descriptor that is open for writing, after a check that the file is unchanged.

        Raises:
            BusyImageError: The file changed since it was opened, or its name leads to another one.
            SigningError: It cannot be written any more.
        """
        with _no_writers(self._place):
            self._require_unchanged()
        with self._place.writing() as fd:
            self._require_unchanged()
            yield fd

    def _require_unchanged(self) -> None:
        if not locating.unchanged(self.fd, self._before) or os.fstat(self.fd).st_nlink == 0:
            raise BusyImageError(
                f"{self.path} changed meanwhile and was left as it is now; try again when it is finished"
            )
        place = self._place
        if not _leads_to(place.name, self._status, place.directory) or not _leads_to(place.asked, self._status):
            raise _replaced_error(self.path)


@contextmanager
def open_locked(
    path: str,
    recover: Callable[[int], Stage | None],
    *,
    timeout: float = LOCK_TIMEOUT,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[LockedFile]:
    """Open a file to edit it.

    Args:
        path: Of a regular file, or of a symbolic link to one.
        recover: Called with a descriptor that is open for writing, once the file is locked and before it is read.
        timeout: How many seconds to wait for another eclctl that edits the file.
        on_wait: Called once when another eclctl is waited for.

    Raises:
        UnreadableImageError: There is no such file, or it cannot be read.
        UnsupportedFileError: It is no regular file.
        BusyImageError: It is being edited or written, for longer than `timeout`.
        SigningError: It cannot be written.
    """
    with ExitStack() as stack:
        place = _acquire(path, stack, time.monotonic() + timeout, on_wait)
        # On the descriptor that is locked: to an NFS server both are record locks, and only of one owner no conflict.
        _refuse_if_mounted(place.fd if place.writable is None else place.writable)
        with _no_writers(place):
            pass  # so that a writer is found now, not after all the work
        with place.writing() as writable:
            _require_abandoned(place)
            recovered = recover(writable)
        _wait_for_clock_tick(place.fd)
        yield LockedFile(place, recovered)


def _acquire(path: str, stack: ExitStack, deadline: float, on_wait: Callable[[], None] | None) -> _Place:
    """Open a file and lock it, for as long as the stack lasts."""
    while True:
        with ExitStack() as attempt:
            place = _lock(_open(path, attempt), attempt)
            if place is not None and _leads_to(path, os.fstat(place.fd)):
                stack.push(attempt.pop_all())
                return place
        if time.monotonic() >= deadline:
            raise _being_edited_error(path)
        if on_wait is not None:
            on_wait()
            on_wait = None
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
        raise BusyImageError(f"another process holds a lease on {path}; try again when it is done") from error
    except OSError as error:
        raise UnreadableImageError(f"{path} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise UnsupportedFileError(f"{path} is not a regular file; only an image in one file can be changed")
    return _Place(path, resolved, directory, name, fd)


def _lock(place: _Place, stack: ExitStack) -> _Place | None:
    """Lock the file; None when another process has the lock. Without locks, only the check for changes protects it."""
    taken = _flock(place.fd)
    if taken is not None:
        return place if taken else None
    writable = place.open_to_write()
    taken = _flock(writable)
    if not taken:
        os.close(writable)
        return replace(place, locked=False) if taken is None else None
    stack.callback(os.close, writable)
    return replace(place, writable=writable)


def _require_abandoned(place: _Place) -> None:
    """Without a lock that tells whether an edit is going on, require that the file does not change for a while."""
    if place.locked:
        return
    before = attributes_of.attributes(place.fd, fresh=True)
    if find_interrupted(place.fd, before.size) is None:
        return
    time.sleep(_ABANDONED_SECONDS)
    if not locating.unchanged(place.fd, before):
        raise _being_edited_error(place.asked)


def _no_writers(place: _Place) -> AbstractContextManager[None]:
    return nullcontext() if place.writable is not None else no_writers(place.fd)


def _leads_to(path: str, status: os.stat_result, directory: int | None = None) -> bool:
    """Whether a path leads to a file, or a name in an open directory is that of the file itself."""
    try:
        found = os.stat(path) if directory is None else os.stat(path, dir_fd=directory, follow_symlinks=False)
        return os.path.samestat(found, status)
    except OSError:
        return False


def _wait_for_clock_tick(fd: int) -> None:
    """Wait until a further change would show: two changes within one tick of the kernel's clock have the same time."""
    while 0 <= time.time_ns() - os.fstat(fd).st_ctime_ns < _CLOCK_TICKS_NS:
        time.sleep(_CLOCK_TICKS_NS / 1e9)


def _being_edited_error(path: str) -> BusyImageError:
    return BusyImageError(f"{path} is being signed or changed by another eclctl; try again when that is done")


def _replaced_error(path: str) -> BusyImageError:
    return BusyImageError(f"{path} was replaced by another file meanwhile, which was left as it is; try again")


def _flock(fd: int) -> bool | None:
    """Try to take the lock that every eclctl takes to edit a file (flock, exclusive), without waiting.

    Returns whether this process has it now, or another one; None when the file system has no locks. The lock ends with
    the open file, so a dead process holds none. On NFS the kernel makes it a record lock, which needs a descriptor that
    is open for writing.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _DENIED else None
    return True


def _refuse_if_mounted(fd: int) -> None:
    """Raise BusyImageError when a container runs that may write into the image.

    SingularityCE and Apptainer hold a record lock for writing on a writable overlay in an image. This function takes
    one for reading, on the open file description. As long as `fd` is open, no such container can start.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in _DENIED:
            raise BusyImageError("a container runs that writes into the image; end it first") from error


@contextmanager
def no_writers(fd: int) -> Iterator[None]:
    """Require that no process writes, and delay a process that opens the file to write, by a read lease (fcntl(2)).

    The kernel gives leases to the file's owner and to root, on local file systems, while no process has the file open
    or mapped for writing. Where it gives none, the body runs all the same, and the file's times have to show a change.

    Raises:
        BusyImageError: A process has the file open or mapped for writing.
    """
    try:
        # The kernel announces by a signal that a lease has to be given up; most signals end the process. SIGURG is
        # ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        if error.errno in {errno.EAGAIN, errno.EBUSY}:
            raise BusyImageError(
                "another program has the image open for writing; end it, or wait until it is done"
            ) from error
        yield
        return
    try:
        yield
    finally:
        # The kernel takes a lease away that is not given up in time (lease-break-time), from a stopped process for
        # example. The body has ended, so this is not an error.
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
