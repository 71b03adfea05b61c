"""Opens names without following symbolic links, or following them without the links that /proc makes up.

openat2(2) does it in one call. Kernels before 5.6 (RHEL 8 has 4.18) do not have it: there the path is walked, one
component at a time, by descriptors and with O_NOFOLLOW.
"""

from __future__ import annotations

import errno
import os

from eclctl.files import syscalls
from eclctl.files.syscalls import AT_FDCWD, RESOLVE_CACHED, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS

MAX_LINKS = 40  # as the kernel's own limit (path_resolution(7))
_MAX_PARTS = 4096
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_EXACT = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


def open_exactly(path: str, flags: int, directory: int = AT_FDCWD) -> int:
    """Open a path (surrogateescape) that must hold no symbolic link in any component; ELOOP when it does.

    `directory` is a descriptor that a relative path begins at. Returns a close-on-exec descriptor. Raises OSError.
    """
    try:
        return syscalls.openat2(directory, path, flags, _EXACT)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
    return _walk_exactly(path, flags, directory)


def open_following(path: str, *, cached: bool = False) -> int:
    """Open an absolute path as O_PATH, through symbolic links, but not through those of /proc (`fd/7`, `cwd`, `root`).

    With `cached`, only what the kernel has in memory is looked at: EAGAIN when that does not suffice, and always on
    kernels before 5.12. Returns a close-on-exec descriptor. Raises OSError; ELOOP for a link of /proc.
    """
    resolve = RESOLVE_NO_MAGICLINKS | (RESOLVE_CACHED if cached else 0)
    try:
        return syscalls.openat2(AT_FDCWD, path, os.O_PATH, resolve)
    except OSError as error:
        if cached and error.errno in {errno.ENOSYS, errno.EINVAL}:
            raise BlockingIOError(errno.EAGAIN, "this kernel cannot look without waiting", path) from error
        if error.errno != errno.ENOSYS:
            raise
    return _walk_following(path)


def _walk_exactly(path: str, flags: int, directory: int) -> int:
    parts = [part for part in path.split("/") if part]
    if path.startswith("/"):
        current = os.open("/", _DIRECTORY)
    else:
        current = os.open(".", _DIRECTORY, dir_fd=None if directory == AT_FDCWD else directory)
    try:
        for part in parts[:-1]:
            current = _replace(current, _step(current, part, _DIRECTORY))
        if not parts:
            return os.open(".", flags | os.O_CLOEXEC, dir_fd=current)
        return _step(current, parts[-1], flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    finally:
        os.close(current)


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new


def _step(current: int, part: str, flags: int) -> int:
    """Open one component; ELOOP for a symbolic link, before any other error."""
    try:
        fd = os.open(part, flags, dir_fd=current)
    except NotADirectoryError:
        if _is_link(current, part):
            raise _loop(part) from None
        raise
    if flags & os.O_PATH and _shows_link(fd):
        os.close(fd)
        raise _loop(part)
    return fd


def _shows_link(fd: int) -> bool:
    """Whether an open descriptor is of a symbolic link. Closes it when the file system does not say what it is of."""
    try:
        return syscalls.is_link(fd)
    except BaseException:
        os.close(fd)
        raise


def _is_link(current: int, part: str) -> bool:
    try:
        os.readlink(part, dir_fd=current)
    except OSError:
        return False
    return True


def _loop(part: str) -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP), part)


def _walk_following(path: str) -> int:
    """Resolve as path_resolution(7) says, by descriptors."""
    todo = [part for part in reversed(path.split("/")) if part]
    current = os.open("/", _DIRECTORY)
    links = 0
    try:
        while todo:
            part = todo.pop()
            fd = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            if not _shows_link(fd):
                current = _replace(current, fd)
                continue
            try:
                target = _target(fd, part)
            finally:
                os.close(fd)
            links += 1
            todo.extend(part for part in reversed(target.split("/")) if part)
            _require_bounds(links, len(todo), path)
            if target.startswith("/"):
                current = _replace(current, os.open("/", _DIRECTORY))
    except BaseException:
        os.close(current)
        raise
    return current


def _require_bounds(links: int, parts: int, path: str) -> None:
    if links > MAX_LINKS or parts > _MAX_PARTS:
        raise _loop(path)


def _target(link: int, part: str) -> str:
    """Return where an open symbolic link leads. Those on procfs that name an open file are no text: ELOOP."""
    target = os.readlink("", dir_fd=link)
    if syscalls.file_system_type(link) == syscalls.PROC_SUPER_MAGIC and (target.startswith("/") or ":" in target):
        raise _loop(part)
    return target
