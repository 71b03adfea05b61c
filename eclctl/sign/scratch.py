"""The file that is going to be an image's successor, while nobody is to take it for one.

Where the file system can, it has no name at all until it is finished (O_TMPFILE): whatever ends this process, the
kernel takes it away. Elsewhere (NFS, some FUSE) it has a name that nobody can guess, is nobody else's to open, and is
locked for as long as its writer lives, so that the next one can tell what a dead one left behind and remove it.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from eclctl.errors import SigningError
from eclctl.image.temporary import is_abandonable, temporary_name
from eclctl.sign.locks import Lock, lock

__all__ = ["Scratch", "remove_leftovers"]

_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS})
_ATTEMPTS = 16
_ABANDONED_SECONDS = 24 * 3600
"""How old a leftover must be where no lock can tell whether its writer lives."""


class Scratch:
    """A new file in a directory, open for reading and writing; `fd` belongs to it.

    Whoever makes one closes it, which also removes what stands under its name.
    """

    def __init__(self, directory: int) -> None:
        """Make an empty file, readable by nobody else.

        Raises OSError as open(2) does.
        """
        self._directory = directory
        self.name: str | None = None
        self.fd = self._nameless()
        if self.fd < 0:
            self.fd = self._named()

    def _nameless(self) -> int:
        if not os.path.exists("/proc/self/fd"):
            return -1  # it could not be given a name later
        try:
            fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
        except OSError as error:
            if error.errno in _NO_NAMELESS:
                return -1
            raise
        lock(fd)
        return fd

    def _named(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for _ in range(_ATTEMPTS):
            name = temporary_name()
            fd = os.open(name, flags, 0o600, dir_fd=self._directory)
            # Between these two lines another writer may have taken it for a dead one's and removed it.
            if lock(fd) is not Lock.THEIRS and _is_at(self._directory, name, fd):
                self.name = name
                return fd
            os.close(fd)
        raise SigningError("somebody keeps removing the temporary file from the image's directory")

    def give_name(self) -> str:
        """Return the file's name, for the moment in which it trades it for its final one.

        linkat(2) cannot put a file in another's place, so that even a nameless one has to pass through a name.
        """
        if self.name is None:
            name = temporary_name()
            os.link(f"/proc/self/fd/{self.fd}", name, dst_dir_fd=self._directory)
            self.name = name
        return self.name

    def close(self) -> None:
        """Remove what stands under the temporary name, if that can be done, and close the file."""
        if self.name is not None:
            with suppress(OSError):
                os.unlink(self.name, dir_fd=self._directory)
        os.close(self.fd)


def remove_leftovers(directory: int, owners: frozenset[int], now: float) -> int:
    """Remove the temporary files that dead writers left in a directory; return how many.

    Only regular files of `owners` (user IDs), whose lock nobody holds. What cannot be removed stays.
    """
    count = 0
    for name in os.listdir(directory):
        if is_abandonable(name):
            with suppress(OSError):
                count += _remove_leftover(directory, name, owners, now)
    return count


def _remove_leftover(directory: int, name: str, owners: frozenset[int], now: float) -> bool:
    if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return False
    fd = _open_to_lock(directory, name)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in owners:
            return False
        held = lock(fd)
        abandoned = held is Lock.OURS or (held is Lock.UNKNOWN and now - status.st_ctime > _ABANDONED_SECONDS)
        if abandoned and _is_at(directory, name, fd):
            os.unlink(name, dir_fd=directory)
            return True
        return False
    finally:
        os.close(fd)


def _open_to_lock(directory: int, name: str) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        return os.open(name, os.O_RDWR | flags, dir_fd=directory)
    except PermissionError:
        return os.open(name, os.O_RDONLY | flags, dir_fd=directory)


def _is_at(directory: int, name: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(name, dir_fd=directory, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False
