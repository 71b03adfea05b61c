"""System calls for replacing files that Python does not offer, or only in part.

None of them is needed for a correct result: each says when it cannot be had, and its caller does without.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable

__all__ = ["clone", "exchange", "immutable", "start_writing_back"]

_FICLONE = 0x40049409
_FS_IOC_GETFLAGS = 0x80086601
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20
_RENAME_EXCHANGE = 2
_SYNC_FILE_RANGE_WRITE = 2
_NOT_TO_BE_HAD = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM})

_libc = ctypes.CDLL(None, use_errno=True)


def _function(name: str, *arguments: type) -> Callable[..., int] | None:
    """Return a function of the C library; None where it is too old."""
    try:
        found = getattr(_libc, name)
    except AttributeError:
        return None
    found.argtypes = list(arguments)
    return found  # type: ignore[no-any-return]


_renameat2 = _function("renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_sync_file_range = _function("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def exchange(directory: int, one: str, other: str) -> bool:
    """Let two names in a directory trade their files in one step (renameat2, RENAME_EXCHANGE).

    Returns whether the file system can; raises OSError when it could and did not.
    """
    if _renameat2 is None:
        return False
    if _renameat2(directory, os.fsencode(one), directory, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NOT_TO_BE_HAD - {errno.EPERM}:
        return False
    raise OSError(number, os.strerror(number), other)


def clone(source: int, target: int) -> bool:
    """Let an empty file share the blocks of another until either changes (FICLONE). Returns whether it does."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NOT_TO_BE_HAD | {errno.EXDEV, errno.EBADF}:
            return False
        raise
    return True


def start_writing_back(fd: int, offset: int, size: int) -> None:
    """Have the kernel begin to write part of a file out, and do not wait for it: less is left for fsync.

    What it says is not looked at: fsync says whether everything was written.
    """
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, size, _SYNC_FILE_RANGE_WRITE)


def immutable(fd: int) -> bool:
    """Whether a file is immutable or append-only (chattr +i, +a), so that not even root can replace it."""
    buffer = bytearray(8)
    try:
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, buffer)
    except OSError:
        return False
    return bool(int.from_bytes(buffer[:4], "little") & (_IMMUTABLE | _APPEND_ONLY))
