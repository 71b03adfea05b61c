"""From a name to a file, and back to the one name that the kernel has for it.

Rules:

1. A sent name only says where to look. What is looked at are descriptors that this process opened in its
   own mount namespace, and the name that counts is what the kernel says of such a descriptor.
2. A sent name is looked up with its sender's rights: what the sender may not see shows neither in an answer nor in the
   time that it takes. Only directories that every user may search are looked up as root.
3. Every directory is opened by its entry in the one above, never through a symbolic link, and judged by its descriptor:
   owner, mode and mount.
4. Links that /proc makes up (`fd/7`, `cwd`, `root`) lead nowhere: here they would be this process's own.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from eclctl.files.mounts import Belief, Mounts
from eclctl.files.opening import open_following
from eclctl.files.syscalls import Attributes, Credentials, Glance, assumed, attributes, glance

PATH_MAX = 4096
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SEARCHABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = _ENTRY | os.O_DIRECTORY
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM})
_GONE = " (deleted)"


class Weakness(NamedTuple):
    """Why a file is not on a trusted path: one part of a sentence.

    `shown` tells whether those who asked may know it; it names directories that they may not be able to see.
    """

    text: str
    shown: bool = True


class Named(NamedTuple):
    """A file as a name led to it.

    `fd` is an O_PATH descriptor that the holder closes, `path` what the kernel says that its name is. `weak` is the
    first directory above it that others than the trusted owners can change, or that cannot be judged. `searchable`
    tells whether every user may search all of these directories. `also` are names of other hard links.
    """

    fd: int
    path: str
    attributes: Attributes
    weak: Weakness | None
    searchable: bool
    also: tuple[str, ...] = ()


class NotPlainError(Exception):
    """A name holds a symbolic link, or a directory that not every user may search: it needs the asker's rights."""


class Surroundings(NamedTuple):
    """What directories are judged by: the mount table, what is believed of it, and the trusted owners."""

    mounts: Mounts
    belief: Belief
    owners: frozenset[int]

    def same_for(self, named: Named, now: Surroundings) -> bool:
        """Whether what is mounted now is the same for a file as when it was found; other mounts may differ."""
        if self.mounts is now.mounts:
            return True
        mount, way = self.mounts.of(named.attributes.mount), self.mounts.above(named.path)
        return (
            mount is not None
            and mount == now.mounts.of(mount.id)
            and way == now.mounts.above(named.path)
            and self.mounts.names(mount, named.path) == now.mounts.names(mount, named.path)
            and all(self.belief.says(each) == now.belief.says(each) for each in way)
        )


def is_plain(name: str) -> bool:
    """Whether an absolute name has no empty, `.` or `..` component."""
    return not ("//" in name or "/." in name or name.endswith("/")) or name == "/" or _only_hidden(name)


def _only_hidden(name: str) -> bool:
    """Names of hidden files are plain too; hardly any name gets here."""
    return not {"", ".", ".."}.intersection(name[1:].split("/"))


def kernel_name(fd: int) -> str | None:
    """Return the kernel's name of an open descriptor (surrogateescape), or None for one that cannot be a path.

    A file that was removed has none. Nor has one whose name is longer than PATH_MAX: the kernel does not tell it.
    """
    try:
        name = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return None
    return name if name.startswith("/") else None


def reach(name: str, asker: Credentials | None, around: Surroundings, *, cached: bool) -> Named:
    """Follow an absolute name, as `asker`, or None as this process itself.

    With `cached`, raises BlockingIOError where the kernel would have to ask a file system. Raises OSError as open(2)
    does: PermissionError when the asker may not look there.
    """
    if not name.startswith("/") or "\0" in name or len(name) >= PATH_MAX:
        raise FileNotFoundError(errno.ENOENT, "is no absolute path", None)
    if is_plain(name):
        try:
            return descend(name, around, public=asker is not None, cached=cached)
        except (NotPlainError, PermissionError):
            pass  # a server that squashes root lets its users in
    with assumed(asker):
        fd = open_following(name, cached=cached)
    try:
        return _renamed(fd, around, cached=cached)
    except BaseException:
        os.close(fd)
        raise


def _renamed(fd: int, around: Surroundings, *, cached: bool) -> Named:
    """Judge what is above an open descriptor, by the name that the kernel has for it. Takes over the descriptor."""
    found, path = attributes(fd), kernel_name(fd)
    if path is None or path.endswith(_GONE) or not is_plain(path):
        raise FileNotFoundError(errno.ENOENT, "the file has no name here")
    try:
        named = descend(path, around, public=False, cached=cached)
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


def descend(path: str, around: Surroundings, *, public: bool, cached: bool) -> Named:
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
            found = glance(current)
            if cached and not around.mounts.local_device(found.device):
                _require_local(current, around)
            if found.mode & _SEARCHABLE != _SEARCHABLE:
                searchable = False
                _require_plain(not public)
            elif public:
                _require_plain(around.mounts.without_acl.holds(current, found))
            if weak is None and not (
                found.device in around.belief.devices  # which spares a look for its mount
                and found.uid in around.owners
                and (not found.mode & OTHERS_WRITE or found.mode & stat.S_ISVTX)
            ):
                weak = _judge(current, found, parts[:depth], around)
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


def _require_local(fd: int, around: Surroundings) -> None:
    mount = around.mounts.of(attributes(fd).mount)  # btrfs shows other device numbers than its mount's
    if mount is None or not mount.local:
        raise BlockingIOError(errno.EAGAIN, "the directory is not on a local file system")


def _require_name(fd: int, path: str) -> None:
    if kernel_name(fd) != path:
        raise FileNotFoundError(errno.ENOENT, "the file was renamed meanwhile, or its directory folds case")


def _judge(fd: int, found: Glance, parts: list[str], around: Surroundings) -> Weakness | None:
    """Say what is wrong with a directory, if others can change what is in it.

    POSIX ACLs need no look of their own: where there is one, the group bits show its mask, the most that it can grant.
    A sticky directory does not let others replace what trusted owners put there.
    """
    mount_id = attributes(fd).mount
    mount = around.mounts.of(mount_id)
    if mount is not None and around.belief.vouches_for(mount):
        return None
    if mount is None or not (around.belief.trusts(mount) or mount.type == "autofs"):
        return Weakness(f"the directory {_shown(parts)}: {_not_believed(around, mount_id)}")
    if found.uid not in around.owners:
        return Weakness(f"the directory {_shown(parts)} belongs to user {found.uid}")
    if found.mode & OTHERS_WRITE and not found.mode & stat.S_ISVTX:
        return Weakness(f"others can write the directory {_shown(parts)} (mode {found.mode & 0o7777:04o})")
    return None


def _not_believed(around: Surroundings, mount_id: int) -> str:
    mount = around.mounts.of(mount_id)
    return "its mount is not of this namespace" if mount is None else around.belief.why_not(mount)


def why_not_believed(found: Attributes, around: Surroundings) -> Weakness | None:
    """Say why the file system of a file is not believed, if it is not."""
    mount = around.mounts.of(found.mount)
    if mount is not None and (around.belief.trusts(mount) or around.belief.vouches_for(mount)):
        return None
    return Weakness(_not_believed(around, found.mount))


def _shown(parts: list[str]) -> str:
    return "/" + "/".join(parts)


def may_not_look(error: OSError) -> bool:
    """Whether a look-up failed for want of rights."""
    return error.errno in _NOT_ALLOWED
