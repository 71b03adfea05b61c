"""Partial downloads: a file that is written over several runs, and gets its name when it is whole and approved.

1. Until then it lies in the same directory under a hidden name, and only its owner can read it. The daemon's watcher
   passes over such names (`is_partial`). That is all that the name does: a decision about such a file is as strict as
   about any other, and a report of a directory lists it.
2. A run that ends early leaves the file, and the next run continues it. The name says which content was meant: a run
   that wants other content begins anew, and removes the stale file.
3. A lock keeps two runs off one file.
4. A process that is killed at any point leaves the final name as it was, or with the whole new file (`atomic`).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from eclctl.files.atomic import Existing, NewFileError, flush_directory, give_name, require_replaceable

_MODE: Final = 0o755
"""Launchers also execute images. Only the owner may write: an image that others can write is on no trusted path."""

_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_PRIVATE: Final = stat.S_IRUSR | stat.S_IWUSR
_NO_LOCKS: Final = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
_PATTERN: Final = re.compile(r"\.eclctl-pull-[0-9a-f]{32}\.part")


class _NoLocksError(NewFileError):
    """The file system has no locks."""


# -- names -------------------------------------------------------------------------------------------------------------


def is_partial(name: str) -> bool:
    """Return whether a file name, without directories, is one of a partial download."""
    return _PATTERN.fullmatch(name) is not None


def partial_name(target: str, content: str) -> str:
    """Return the name of a partial download, the same in each run.

    The name can be guessed: what has it must be checked for its owner before it is used.

    Args:
        target: the final file name.
        content: what is to be in the file.
    """
    return f".eclctl-pull-{_half_digest(target)}{_half_digest(content)}.part"


def _is_partial_of(name: str, target: str) -> bool:
    """Return whether `partial_name` gives this name for `target`, with any content."""
    return is_partial(name) and name.startswith(f".eclctl-pull-{_half_digest(target)}")


def _half_digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


# -- the file ----------------------------------------------------------------------------------------------------------


class PartialFile:
    """An open partial download.

    `fd` is open for reading and writing. `path` is where the file is now and `final` where it will be, both without
    symbolic links in their directories.
    """

    def __init__(self, directory: str, folder: int, name: str, temporary: str, fd: int) -> None:
        self.fd = fd
        self.path = os.path.join(directory, temporary)
        self.final = os.path.join(directory, name)
        self._folder = folder
        self._name = name
        self._temporary = temporary

    def require_space(self, size: int) -> None:
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

    def publish(self, *, replace: bool) -> None:
        """Give the file its name. All of it is on disk before, and its name after.

        Args:
            replace: whether a regular file or a link of that name is replaced.

        Raises:
            NewFileError: the name is taken, and `replace` is false; another file has the temporary name; or the name
                cannot be given.
            OSError: the directory cannot be flushed.
        """
        os.fchmod(self.fd, _MODE & ~_umask())
        try:
            self._give_name(replace=replace)
        except (NewFileError, OSError) as error:
            os.fchmod(self.fd, _PRIVATE)  # it has no name yet: only its owner reads it, and the next run can use it
            if isinstance(error, NewFileError):
                raise
            raise NewFileError(f"{self.final}: the file cannot get this name: {error.strerror}") from error
        flush_directory(self._folder)

    def _give_name(self, *, replace: bool) -> None:
        os.fsync(self.fd)
        here, there = os.fstat(self.fd), os.stat(self._temporary, dir_fd=self._folder, follow_symlinks=False)
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise NewFileError(f"{self.path}: another user has replaced it; check who can write in the directory")
        try:
            give_name(self._folder, self._temporary, self._name, _existing(replace=replace))
        except FileExistsError:
            raise _exists_error(self.final) from None

    def remove(self) -> None:
        """Remove the partial file, so that the next run begins anew."""
        with suppress(FileNotFoundError):
            os.unlink(self._temporary, dir_fd=self._folder)


@contextmanager
def open_partial(path: str, content: str, *, replace: bool) -> Iterator[PartialFile]:
    """Open the file that will be `path`, as an earlier run for the same content left it, or empty.

    Args:
        path: where it is to be.
        content: what is to be in it, in words that no other content has.
        replace: whether a file may be there already.

    Raises:
        NewFileError: there is one, and it may not; or another run is writing the same file.
        OSError: the directory cannot be opened.
    """
    name = os.path.basename(path)
    directory = os.path.realpath(os.path.dirname(path) or ".")
    if name in {"", ".", ".."}:
        raise NewFileError(f"{path}: this names no file")
    with ExitStack() as opened:
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, folder)
        _require_nameable(folder, name, path, replace=replace)
        temporary = partial_name(name, content)
        try:
            fd = _open_own(folder, temporary, directory)
        except OSError as error:
            beside = os.path.join(directory, temporary)
            raise NewFileError(f"{os.path.join(directory, name)}: {beside}: {error.strerror}") from error
        opened.callback(os.close, fd)
        _remove_stale_partials(folder, name, temporary)
        file = PartialFile(directory, folder, name, temporary, fd)
        try:
            yield file
        finally:
            if not os.fstat(fd).st_size:
                file.remove()  # there is nothing to continue


def _require_nameable(folder: int, name: str, path: str, *, replace: bool) -> None:
    """Refuse early what `publish` would refuse."""
    try:
        require_replaceable(folder, name, _existing(replace=replace))
    except FileExistsError:
        raise _exists_error(path) from None
    except OSError as error:
        raise NewFileError(f"{path!r}: {error.strerror}") from error


def _existing(*, replace: bool) -> Existing:
    return Existing.FILE_OR_LINK if replace else Existing.REFUSED


def _exists_error(path: str) -> NewFileError:
    return NewFileError(f"image file already exists: {path!r} - will not overwrite; --force does")


def _open_own(folder: int, name: str, directory: str) -> int:
    """Open our partial file of that name, locked; one that may be another user's is not used but removed."""
    while True:
        fd = os.open(name, _FLAGS | os.O_CREAT, 0o600, dir_fd=folder)
        try:
            _lock(fd, os.path.join(directory, name))
            status = os.fstat(fd)
            if status.st_nlink and _is_own_private_file(status):
                return fd
            if status.st_nlink:
                # With two links, a run was killed after it gave the name and before it removed this one.
                os.unlink(name, dir_fd=folder)
        except _NoLocksError:
            os.close(fd)
            os.unlink(name, dir_fd=folder)
            raise
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_own_private_file(status: os.stat_result) -> bool:
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
            "could spoil one file; pull to another file system, and copy the image from there"
        ) from error


def _remove_stale_partials(folder: int, name: str, kept: str) -> None:
    """Remove what earlier runs left that wanted other content under the same name, unless it is being written."""
    for other in os.listdir(folder):
        if other == kept or not _is_partial_of(other, name):
            continue
        with suppress(OSError, NewFileError):
            fd = os.open(other, _FLAGS, dir_fd=folder)
            try:
                _lock(fd, other)
                if os.fstat(fd).st_uid == os.geteuid():
                    os.unlink(other, dir_fd=folder)
            finally:
                os.close(fd)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
