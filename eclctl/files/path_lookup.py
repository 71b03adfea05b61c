"""Opens files by name, component by component, and asks the kernel for the name of what was opened.

Rules:

1. A sent name only says where to look. Only descriptors count that this process opened in its own mount namespace, and
   the name is the one that the kernel gives for such a descriptor.
2. A sent name is looked up with its sender's rights. What the sender may not see shows neither in an answer nor in the
   time that it takes. Only directories that every user may search are looked up as root.
3. Every directory is opened by its entry in the one above, never through a symbolic link, and judged by its descriptor:
   owner, mode and mount.
4. The links of /proc (`fd/7`, `cwd`, `root`) are not followed: here they would be this process's own.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from eclctl.files.opening import open_following
from eclctl.files.syscalls import Attributes, Credentials, assumed, attributes, directory_attributes
from eclctl.files.trusted_path import OTHERS_WRITE, TrustBasis, Weakness, directory_weakness

PATH_MAX = 4096
_SEARCHABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = _ENTRY | os.O_DIRECTORY
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM})
_GONE = " (deleted)"


class Named(NamedTuple):
    """A file that was opened by name.

    fd: An O_PATH descriptor, which the holder closes.
    path: Its name according to the kernel.
    attributes: What statx(2) says of it.
    weak: The first directory above it that others than the trusted owners can change, or that cannot be judged.
    searchable: Whether every user may search all of these directories.
    also: Names of other hard links.
    """

    fd: int
    path: str
    attributes: Attributes
    weak: Weakness | None
    searchable: bool
    also: tuple[str, ...] = ()


class NotPlainError(Exception):
    """A name has a symbolic link, or a directory that not every user may search: it needs the asker's rights."""


def is_plain(name: str) -> bool:
    """Whether an absolute name has no empty, `.` or `..` component."""
    if name == "/" or not ("//" in name or "/." in name or name.endswith("/")):
        return True
    return not {"", ".", ".."}.intersection(name[1:].split("/"))  # the slower test also passes hidden files


def kernel_name(fd: int) -> str | None:
    """Return the kernel's name of an open descriptor (surrogateescape), or None for one that cannot be a path.

    A file that was removed has none. Nor has one whose name is longer than PATH_MAX: the kernel does not tell it.
    """
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    return name if name.startswith("/") else None


def open_by_name(name: str, asker: Credentials | None, basis: TrustBasis, *, cached: bool) -> Named:
    """Follow an absolute name, as `asker`, or None as this process itself.

    With `cached`, raises BlockingIOError where the kernel would have to ask a file system. Raises OSError as open(2)
    does: PermissionError when the asker may not look there.
    """
    if not name.startswith("/") or "\0" in name or len(name) >= PATH_MAX:
        raise FileNotFoundError(errno.ENOENT, "is no absolute path", None)
    if is_plain(name):
        try:
            return open_by_components(name, basis, public=asker is not None, cached=cached)
        except (NotPlainError, PermissionError):
            pass  # a server that squashes root lets its users in
    with assumed(asker):
        fd = open_following(name, cached=cached)
    try:
        return _renamed(fd, basis, cached=cached)
    except BaseException:
        os.close(fd)
        raise


def _renamed(fd: int, basis: TrustBasis, *, cached: bool) -> Named:
    """Judge what is above an open descriptor, by the name that the kernel has for it. Takes over the descriptor."""
    found, path = attributes(fd), kernel_name(fd)
    if path is None or path.endswith(_GONE) or not is_plain(path):
        raise FileNotFoundError(errno.ENOENT, "the file has no name here")
    try:
        named = open_by_components(path, basis, public=False, cached=cached)
    except (PermissionError, NotPlainError):
        weak = Weakness(f"eclctl may not look at the directories above {path}")
        return Named(fd, path, found, weak, searchable=False)
    if not same_file(named.attributes, found):
        os.close(named.fd)
        raise FileNotFoundError(errno.ENOENT, "the file has another name now")
    os.close(fd)
    return named


def same_file(one: Attributes, other: Attributes) -> bool:
    """Whether two descriptors, both open, are of one file.

    An inode number is not given to another file while the first is open. Mounts are not compared: a job with a mount
    namespace of its own sees each file system through another mount.
    """
    return (one.device, one.inode, one.btime_ns) == (other.device, other.inode, other.btime_ns)


def open_by_components(path: str, basis: TrustBasis, *, public: bool, cached: bool) -> Named:
    """Open a plain path component by component, and judge each directory by its descriptor.

    With `public`, raises NotPlainError before it looks into a directory that not every user may search, by its mode, or
    that has an ACL, which can take from one user what the mode gives to all. Raises
    NotPlainError for a symbolic link and for what is no directory too, and OSError. With `cached`, raises
    BlockingIOError before it looks into a directory that is not on a local file system: the table of mounts may have
    the name of the mount point from before a directory above that was renamed.
    """
    parts = [part for part in path.split("/") if part]
    current = os.open("/", _DIRECTORY)
    weak: Weakness | None = None
    searchable = True
    try:
        for depth, part in enumerate(parts):
            found = directory_attributes(current)
            if cached and not basis.mounts.local_device(found.device):
                _require_local(current, basis)
            if found.mode & _SEARCHABLE != _SEARCHABLE:
                searchable = False
                _require_plain(not public)
            elif public:
                _require_plain(basis.mounts.without_acl.holds(current, found))
            if weak is None and not (
                found.device in basis.trust.devices  # which spares a look for its mount
                and found.uid in basis.owners
                and (not found.mode & OTHERS_WRITE or found.mode & stat.S_ISVTX)
            ):
                weak = directory_weakness(current, found, "/" + "/".join(parts[:depth]), basis)
            # Opened as a directory, an automount point is mounted; without, its trigger would be looked at.
            below = os.open(part, _ENTRY if depth + 1 == len(parts) else _DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        file = attributes(current)
        _require_plain(not file.is_link)
        _require_name(current, path)
    except BaseException as error:
        os.close(current)
        if isinstance(error, OSError) and error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise NotPlainError from error  # perhaps a symbolic link
        raise
    return Named(current, path, file, weak, searchable)


def _require_plain(plain: bool) -> None:  # noqa: FBT001 - what is required
    if not plain:
        raise NotPlainError


def _require_local(fd: int, basis: TrustBasis) -> None:
    mount = basis.mounts.of(attributes(fd).mount)  # btrfs shows other device numbers than its mount's
    if mount is None or not mount.local:
        raise BlockingIOError(errno.EAGAIN, "the directory is not on a local file system")


def _require_name(fd: int, path: str) -> None:
    if kernel_name(fd) != path:
        raise FileNotFoundError(errno.ENOENT, "the file was renamed meanwhile, or its directory folds case")


def may_not_look(error: OSError) -> bool:
    """Whether a look-up failed for want of rights."""
    return error.errno in _NOT_ALLOWED
