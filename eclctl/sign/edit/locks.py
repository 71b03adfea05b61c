"""Who else is at a file: another of us, a container that writes into it, any program that has it open for writing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import Enum
from typing import TypeAlias

from eclctl.errors import BusyImageError

__all__ = ["Bar", "Lock", "barred_to_writers", "lock", "refuse_if_mounted"]

_FLOCK = struct.Struct("hhqqi4x")
_DENIED = frozenset({errno.EAGAIN, errno.EACCES})
_WRITTEN = "another program has the image open for writing; end it, or wait until it is done"


Bar: TypeAlias = AbstractContextManager[None]
"""What holds for as long as it is entered."""


class Lock(Enum):
    """What came of asking for a lock."""

    OURS = "ours"
    THEIRS = "theirs"
    UNKNOWN = "unknown"
    """The file system has no locks."""


def lock(fd: int) -> Lock:
    """Take the one lock that those who edit a file agree on (flock, exclusive), if it can be had at once.

    It ends with the open file, so that a dead process holds none. On NFS the kernel makes it a record lock, for which
    the file must be open for writing; such a file is locked by `lock` on a descriptor that is.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Lock.THEIRS if error.errno in _DENIED else Lock.UNKNOWN
    return Lock.OURS


def refuse_if_mounted(fd: int) -> None:
    """Raise BusyImageError when a container runs that may write into the image.

    SingularityCE and Apptainer hold a record lock for writing on a writable overlay in an image. Ours is for reading,
    on an open file description, lasts as long as that, and keeps such containers from starting meanwhile.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in _DENIED:
            raise BusyImageError("a container runs that writes into the image; end it first") from error


@contextmanager
def barred_to_writers(fd: int) -> Iterator[None]:
    """Require that nobody writes, and make who opens the file to write wait a moment, by a read lease (fcntl(2)).

    The kernel gives leases to the file's owner and to root, on local file systems, and only while nobody has the file
    open or mapped for writing. Where it gives none the file is not barred, and its times have to tell of a change.

    Raises:
        BusyImageError: Somebody has the file open or mapped for writing.
    """
    try:
        # A lease that has to be given up is announced by a signal, which ends a process that expects none. This one
        # is ignored unless somebody asks for it.
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
        # The kernel takes a lease away from who does not give it up in time (lease-break-time), a process that was
        # stopped for one. What was done under it is done, and is not to be reported as failed.
        with suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
