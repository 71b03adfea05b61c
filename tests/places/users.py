"""What users and root do in an arena besides asking: functions that a test names, and a child there runs."""

from __future__ import annotations

import errno
import os


def who_am_i() -> tuple[int, int, list[int]]:
    """The IDs of the process."""
    return os.geteuid(), os.getegid(), os.getgroups()


def listing(path: str) -> list[str]:
    """The sorted names in a directory."""
    return sorted(os.listdir(path))


def attempt(path: str, flags: int = os.O_RDONLY) -> str:
    """Open a file: `opened`, or the name of the error."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "opened"
