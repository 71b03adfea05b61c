"""Writes files whole: a file has its old content, or all of the new one.

What every writer here guarantees:

1. A process that is killed at any point leaves the old content under the name, or the whole new content. One
   exception: with `Existing.REFUSED`, on a file system without hard links, it can leave an empty file.
2. On return the content and the name are on disk: fsync(2) of the file, rename or link, fsync(2) of the directory.
3. When writing fails or is interrupted, the name is as it was, and the temporary file is removed.
4. A killed process leaves at most a temporary file in the same directory (`temporary_name`). Its mode is never wider
   than that of the finished file.
5. No symbolic link is followed in the last part of the path. The directory is opened once, and all goes through its
   descriptor, so that a link that takes its place afterwards has no effect.
6. The old file is never written to: its hard links and open descriptors keep the old content.

`resumable` writes files over several runs, and `sign.edit` changes images in place; both use the primitives of this
module.
"""

from __future__ import annotations

import enum
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Required, TypedDict, Unpack

from eclctl.errors import EclctlError

NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""The errors of link(2) on file systems without hard links."""

_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_DIRECTORY_FSYNC: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})
_TEMPORARY: Final = re.compile(r"\..*\.[0-9a-f]{16}\.partial", re.DOTALL)
_PRIVATE: Final = 0o600


class NewFileError(EclctlError):
    """An output file cannot be written, or must not be: its name is taken."""

    code = "output"


class Existing(enum.Enum):
    """What may have the name already.

    REFUSED: nothing. Checked before anything is written, and again, without a race, when the file gets its name.
    REGULAR: a regular file, which is replaced. A directory, device, pipe or symbolic link is refused.
    FILE_OR_LINK: a regular file, or a symbolic link, which is replaced itself: what it leads to stays as it is.
    """

    REFUSED = enum.auto()
    REGULAR = enum.auto()
    FILE_OR_LINK = enum.auto()


class _How(TypedDict, total=False):
    """How a file is written: the arguments of `atomic_writer`."""

    existing: Required[Existing]
    mode: int
    exact_mode: bool
    keep_attributes: bool
    sole_writer: bool
    folder: int | None


@contextmanager
def atomic_writer(
    path: str,
    *,
    existing: Existing,
    mode: int = 0o666,
    exact_mode: bool = False,
    keep_attributes: bool = False,
    sole_writer: bool = False,
    folder: int | None = None,
) -> Iterator[int]:
    """Yield a descriptor to write a file with; the file gets its name when the body ends without an exception.

    Args:
        path: The file; with `folder`, its name alone.
        existing: What may have the name already.
        mode: Permissions of the new file, which it has from its first moment on.
        exact_mode: Whether the umask has no effect on `mode`.
        keep_attributes: Whether owner, group and mode are taken from the file that is replaced, if there is one.
        sole_writer: Whether no other process writes this file. The next run then replaces what a killed one left.
        folder: A descriptor of the directory, for a caller that holds one. It stays open.

    Raises:
        FileExistsError: The name is taken, and `existing` refuses that.
        OSError: The name must not be replaced, or writing failed. The old file stays, unless only the last fsync did.
    """
    with _directory(path, folder) as (directory, name):
        old = require_replaceable(directory, name, existing)
        temporary = temporary_name(name, fixed=sole_writer)
        if sole_writer:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        keep = old if keep_attributes else None
        fd = os.open(temporary, _CREATE, mode if keep is None else _PRIVATE, dir_fd=directory)
        try:
            try:
                if keep is not None:
                    _set_attributes(fd, keep)
                elif exact_mode:
                    os.fchmod(fd, mode)  # the umask may have taken away what the owner needs
                yield fd
                os.fsync(fd)
            finally:
                os.close(fd)
            give_name(directory, temporary, name, existing)
        except BaseException:  # an interrupted file may hold half a secret key
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        flush_directory(directory)


@contextmanager
def prepared_file(path: str, data: bytes, **how: Unpack[_How]) -> Iterator[None]:
    """Write a file to disk, run the body, then give the file its name; until then the name is as it was.

    All that needs room on the disk is done before the body runs. Arguments and errors are those of `atomic_writer`.
    """
    with atomic_writer(path, **how) as fd:
        write_at(fd, data, 0)
        os.fsync(fd)
        yield


def write_file(path: str, data: bytes, **how: Unpack[_How]) -> None:
    """Write `data` as the whole content of a file. Arguments and errors are those of `atomic_writer`."""
    with atomic_writer(path, **how) as fd:
        write_at(fd, data, 0)


@contextmanager
def _directory(path: str, folder: int | None) -> Iterator[tuple[int, str]]:
    """Yield a descriptor of a file's directory, and the file's name in it."""
    directory, name = os.path.split(path)
    if name in {"", ".", ".."} or "\0" in path:
        raise OSError(errno.EINVAL, "this names no file")
    if folder is not None:
        yield folder, name
        return
    fd = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd, name
    finally:
        os.close(fd)


def _set_attributes(fd: int, old: os.stat_result) -> None:
    if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, stat.S_IMODE(old.st_mode))


# -- primitives --------------------------------------------------------------------------------------------------------


def temporary_name(name: str, *, fixed: bool = False) -> str:
    """Return the name under which a file is written until it gets `name`: hidden, in the same directory.

    With `fixed`, it is the same each time; otherwise it cannot be guessed.
    """
    beginning = os.fsdecode(os.fsencode(name)[:64])  # a name has at most 255 bytes
    return f".{beginning}.{'0' * 16 if fixed else secrets.token_hex(8)}.partial"


def is_temporary(name: str) -> bool:
    """Return whether `temporary_name` gives such a name."""
    return _TEMPORARY.fullmatch(name) is not None


def require_replaceable(folder: int, name: str, existing: Existing) -> os.stat_result | None:
    """Return the attributes of what has a name in a directory, None for a free name.

    Raises:
        FileExistsError: The name is taken, and `existing` is REFUSED.
        OSError: What has the name must not be replaced.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if existing is Existing.REFUSED:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    link = stat.S_ISLNK(found.st_mode) and existing is Existing.FILE_OR_LINK
    if not link and not stat.S_ISREG(found.st_mode):
        # As root, `-o /dev/null` would take that device away from all users of the host.
        raise OSError(errno.EINVAL, "not a regular file, so it is not replaced")
    return found


def give_name(folder: int, temporary: str, name: str, existing: Existing) -> None:
    """Rename a file within a directory. The caller flushes the file before, and the directory after.

    With REFUSED a link gives the name, since rename(2) replaces what another process has put there meanwhile.

    Raises:
        FileExistsError: The name is taken, and `existing` is REFUSED.
        OSError: The name cannot be given.
    """
    if existing is not Existing.REFUSED:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _rename_to_free_name(folder, temporary, name)
        return
    os.unlink(temporary, dir_fd=folder)


def _rename_to_free_name(folder: int, temporary: str, name: str) -> None:
    """Take a free name with an empty file, and rename onto that: for file systems without hard links."""
    os.close(os.open(name, _CREATE, _PRIVATE, dir_fd=folder))
    try:
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


def flush_directory(folder: int) -> None:
    """Bring the names in a directory to disk, on file systems that can do so; raises OSError as fsync(2) does."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise


def write_at(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at an offset, in as many calls of pwrite(2) as it takes; raises OSError as that does."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count
