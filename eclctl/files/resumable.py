"""A file that comes in pieces, over several runs if need be, and appears under its name when it is whole and approved.

Until then it stands beside its place under a name that begins with a dot, which the daemon's watcher passes over
(`files.temporary_names`), readable for its owner alone. A run that ends early leaves it there for the next one to
continue. What was meant to be in it is part of its name: a run that wants something else begins anew and removes it.
A lock keeps two runs off one file.

A process that is killed at any moment leaves the final name as it was, or with the whole new file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from eclctl.files.atomic import NewFileError
from eclctl.files.temporary_names import continued_name, is_continued

__all__ = ["Landing", "landing"]

_MODE = 0o755
"""Launchers run images by name, too. Nobody but the owner may write: that would cost it its trust."""

_FLAGS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_PRIVATE = stat.S_IRUSR | stat.S_IWUSR
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class _NoLocksError(NewFileError):
    """Nobody can be kept off a file there."""


class Landing:
    """A file on its way to its place.

    `fd` is open for reading and writing; `path` is where it is now, `final` where it will be, both without symbolic
    links in their directories.
    """

    def __init__(self, directory: str, folder: int, name: str, temporary: str, fd: int) -> None:
        self.fd = fd
        self.path = os.path.join(directory, temporary)
        self.final = os.path.join(directory, name)
        self._folder = folder
        self._name = name
        self._temporary = temporary

    def room(self, size: int) -> None:
        """Require that the file system has room for a file of `size` bytes in all.

        Raises:
            NewFileError: it has not.
        """
        free = os.fstatvfs(self.fd)
        if not free.f_blocks:
            return  # it does not say: a tmpfs without a limit, or some that live in user space
        wanted = size - os.fstat(self.fd).st_blocks * 512
        if wanted > free.f_bavail * free.f_frsize:
            left = free.f_bavail * free.f_frsize
            raise NewFileError(f"{self.final}: {wanted} bytes are needed, and the file system has {left} left")

    def land(self, *, replace: bool) -> None:
        """Give the file its name. All of it is on disk before, and its name after.

        Raises:
            NewFileError: there is a file of that name, and `replace` is false; this is no longer our file; or the name
                cannot be given.
            OSError: what was written did not get on disk.
        """
        os.fchmod(self.fd, _MODE & ~_umask())
        try:
            self._name_it(replace=replace)
        except (NewFileError, OSError) as error:
            os.fchmod(self.fd, _PRIVATE)  # it has no name: nobody else reads it, and the next run may still use it
            if isinstance(error, NewFileError):
                raise
            raise NewFileError(f"{self.final}: the file cannot get this name: {error.strerror}") from error
        os.fsync(self._folder)

    def _name_it(self, *, replace: bool) -> None:
        os.fsync(self.fd)
        here, there = os.fstat(self.fd), os.stat(self._temporary, dir_fd=self._folder, follow_symlinks=False)
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise NewFileError(f"{self.path}: somebody else has replaced it; who can write in the directory?")
        if replace:
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        else:
            self._link()

    def drop(self) -> None:
        """Remove the file: nothing of it is wanted any more."""
        with suppress(FileNotFoundError):
            os.unlink(self._temporary, dir_fd=self._folder)

    def _link(self) -> None:
        """Take a name that nobody has: a rename would replace what somebody has put there meanwhile."""
        try:
            os.link(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileExistsError:
            raise _exists(self.final) from None
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            _free(self.final, self._folder, self._name)
            os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            return
        os.unlink(self._temporary, dir_fd=self._folder)


@contextmanager
def landing(path: str, content: str, *, replace: bool) -> Iterator[Landing]:
    """Open the file that will be `path`, as an earlier run for the same content left it, or empty.

    Args:
        path: where it is to be.
        content: what is to be in it, in words that no other content has.
        replace: whether a file may be there already.

    Raises:
        NewFileError: there is one, and it may not; or somebody else is at it.
        OSError: it cannot be opened.
    """
    name = os.path.basename(path)
    directory = os.path.realpath(os.path.dirname(path) or ".")
    if name in {"", ".", ".."}:
        raise NewFileError(f"{path}: this names no file")
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not replace:
            _free(path, folder, name)
        else:
            _replaceable(path, folder, name)
        temporary = continued_name(name, content)
        try:
            fd = _open(folder, temporary, directory)
        except OSError as error:
            beside = os.path.join(directory, temporary)
            raise NewFileError(f"{os.path.join(directory, name)}: {beside}: {error.strerror}") from error
        try:
            _sweep(folder, name, temporary)
            file = Landing(directory, folder, name, temporary, fd)
            try:
                yield file
            finally:
                if not os.fstat(fd).st_size:
                    file.drop()  # there is nothing to continue
        finally:
            os.close(fd)
    finally:
        os.close(folder)


def _open(folder: int, name: str, directory: str) -> int:
    """Open our file of that name, locked; one that is not plainly ours is not used, for its name can be guessed."""
    while True:
        fd = os.open(name, _FLAGS | os.O_CREAT, 0o600, dir_fd=folder)
        try:
            _lock(fd, os.path.join(directory, name))
            status = os.fstat(fd)
            if status.st_nlink and _ours(status):
                return fd
            if status.st_nlink:
                # Linked twice: a run was killed between giving the name and removing this one. Or it is somebody's.
                os.unlink(name, dir_fd=folder)
        except _NoLocksError:
            os.close(fd)
            os.unlink(name, dir_fd=folder)
            raise
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _ours(status: os.stat_result) -> bool:
    private = stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == _PRIVATE
    return private and status.st_uid == os.geteuid() and status.st_nlink == 1


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NewFileError(f"{path}: another run is writing it; wait for that") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise _NoLocksError(
            f"{os.path.dirname(path)}: the file system has no locks (Lustre: mount it with -o flock), so two runs "
            "could spoil one file; pull to another file system, and copy what comes of it"
        ) from error


def _sweep(folder: int, name: str, kept: str) -> None:
    """Remove what earlier runs left that wanted something else of the same name, and that nobody is writing."""
    for other in os.listdir(folder):
        if other == kept or not is_continued(other, name):
            continue
        with suppress(OSError, NewFileError):
            fd = os.open(other, _FLAGS, dir_fd=folder)
            try:
                _lock(fd, other)
                if os.fstat(fd).st_uid == os.geteuid():
                    os.unlink(other, dir_fd=folder)
            finally:
                os.close(fd)


def _free(path: str, folder: int, name: str) -> None:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise _exists(path)


def _exists(path: str) -> NewFileError:
    return NewFileError(f"image file already exists: {path!r} - will not overwrite; --force does")


def _replaceable(path: str, folder: int, name: str) -> None:
    """Refuse what a file must not take the place of: a directory, and `/dev/null`, say, for everybody on the host."""
    try:
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(kind):
        raise NewFileError(f"{path}: this is a directory")
    if not stat.S_ISREG(kind) and not stat.S_ISLNK(kind):
        raise NewFileError(f"{path!r} is there and is no regular file: it is not replaced")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
