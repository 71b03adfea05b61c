"""A file that appears under its name when it is whole, and not before."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from eclctl.errors import EclctlError

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})  # what file systems without hard links say

__all__ = ["NewFileError", "new_file"]


class NewFileError(EclctlError):
    """A file cannot be written, or must not be: there is one of that name."""

    code = "output"


@contextmanager
def new_file(path: str, *, replace: bool, mode: int = 0o666) -> Iterator[int]:
    """Give a descriptor to write a file with; at the end it is on disk and has its name.

    When the body raises, nothing of that name has changed. A process that is killed leaves at most a file beside it
    whose name begins with a dot and ends in `.partial`.

    Args:
        path: The name. A regular file of that name is replaced when `replace` is true; nothing else ever is.
        replace: Whether there may be such a file.
        mode: Of the new file, less the process's umask.

    Raises:
        NewFileError: There is something of that name, or writing failed.
    """
    directory, name = os.path.split(path)
    if not name:
        raise NewFileError(f"{path!r} names no file")
    _check_free(path, replace=replace)
    temporary = os.path.join(directory, f".{name[:64]}.{secrets.token_hex(8)}.partial")
    try:
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error
    try:
        try:
            yield fd
            os.fsync(fd)
        finally:
            os.close(fd)
        _publish(temporary, path, replace=replace)
        _sync(directory or ".")
    except OSError as error:
        raise _failure(path, error) from error
    finally:
        with suppress(OSError):  # there is none when it has been renamed
            os.unlink(temporary)


def _check_free(path: str, *, replace: bool) -> None:
    """Refuse early: what is found here is found again, without a race, when the file gets its name."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise _failure(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise NewFileError(f"{path!r} is there and is no regular file: it is not replaced")
    if not replace:
        raise _taken(path)


def _publish(temporary: str, path: str, *, replace: bool) -> None:
    """Give the file its name; without `replace` by a link, which the kernel makes of a free name only."""
    if replace:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        try:  # take the name with an empty file, then rename onto it
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError as taken:
            raise _taken(path) from taken
        os.replace(temporary, path)


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _taken(path: str) -> NewFileError:
    return NewFileError(f"{path!r} is there already; --force replaces it")


def _failure(path: str, error: OSError | ValueError) -> NewFileError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return NewFileError(f"cannot write {path!r}: {reason}")
