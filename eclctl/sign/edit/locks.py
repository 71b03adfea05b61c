"""Tells whether another process uses an image: an eclctl that edits it, a container that writes into it, any writer."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

from eclctl.errors import BusyImageError

__all__ = ["Lock", "lock", "no_writers", "refuse_if_mounted"]

_FLOCK = struct.Struct("hhqqi4x")
_DENIED = frozenset({errno.EAGAIN, errno.EACCES})
_WRITTEN = "another program has the image open for writing; end it, or wait until it is done"


class Lock(Enum):
    """The result of asking for a lock.

    OURS: this process has it.
    THEIRS: another process has it.
    UNKNOWN: the file system has no locks.
    """

    OURS = "ours"
    THEIRS = "theirs"
    UNKNOWN = "unknown"


def lock(fd: int) -> Lock:
    """Try to take the lock that every eclctl takes to edit a file (flock, exclusive), without waiting.

    The lock ends with the open file, so a dead process holds none. On NFS the kernel makes it a record lock, which
    needs a descriptor that is open for writing.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Lock.THEIRS if error.errno in _DENIED else Lock.UNKNOWN
    return Lock.OURS


def refuse_if_mounted(fd: int) -> None:
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
            raise BusyImageError(_WRITTEN) from error
        yield
        return
    try:
        yield
    finally:
        # The kernel takes a lease away that is not given up in time (lease-break-time), from a stopped process for
        # example. The body has ended, so this is not an error.
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
