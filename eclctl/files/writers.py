"""Tells whether any process of this host has a file open, or mapped, for writing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from enum import Enum

from eclctl.errors import BusyImageError

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Writers(Enum):
    """Whether a process has a file open for writing, or mapped."""

    NONE = "none"
    SOME = "some"
    NOT_KNOWN = "not known"


def ignore_broken_leases() -> None:
    """Have this process ignore SIGIO, which would end it when a lease of its own is broken. For the main thread."""
    signal.signal(signal.SIGIO, signal.SIG_IGN)


def look_for_writers(fd: int) -> Writers:
    """Return whether a process has a file open, or mapped, for writing, by asking for a lease on it (fcntl(2)).

    The kernel announces a broken lease with SIGIO, which this process must ignore.

    Args:
        fd: A descriptor of this process; O_PATH will do.

    Raises:
        BusyImageError: Another process holds a lease that excludes readers, or there are no free descriptors or memory.
    """
    try:
        reading = os.open(f"/proc/self/fd/{fd}", READ)
    except BlockingIOError as error:
        raise lease_error() from error
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise BusyImageError("too many files are open here; ask again later") from error
        return Writers.NOT_KNOWN
    try:
        fcntl.fcntl(reading, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(reading, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise BusyImageError("this host has no memory left; ask again later") from error
        return Writers.SOME if error.errno in {errno.EAGAIN, errno.EBUSY} else Writers.NOT_KNOWN
    finally:
        os.close(reading)
    return Writers.NONE


def lease_error() -> BusyImageError:
    """Return the error for a file with a lease that excludes readers."""
    return BusyImageError("another process holds a lease on the image; ask again when it has finished")
