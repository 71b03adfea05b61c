"""Which file an image is, how it was reached, and what that identity is worth (DESIGN sections 1.8 and 6).

An image is located once, as an O_PATH descriptor: enough to know the file, too little to disturb it. It is opened for
reading only when its content has to be read. Facts are kept under a `FileKey`, which names one state of one file: the
handle guards against reused inode numbers, the change time against rewriting (utimensat cannot reset it), and
`quiescent` against the one change that leaves no trace, a store into a page that was dirty before.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from eclctl.errors import BusyImageError, UnreadableImageError, UnsupportedFileError
from eclctl.image import system
from eclctl.image.mounts import MountTable
from eclctl.image.system import Attributes
from eclctl.model import Assurance

_MAX_LINKS = 40  # as the kernel's own limit (path_resolution(7))
_PATH_MAX = 4096
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_READ_DIRECTORY = stat.S_IROTH | stat.S_IXOTH
_TRUSTED_PATH = Assurance.TRUSTED_PATH
_NONE = Assurance.NONE
_IMAGE_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR})
_SETTLED_NS = 20_000_000  # two ticks of a 100 Hz kernel, the coarsest change time there is
_SEALED = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


class FileKey(NamedTuple):
    """One state of one file. Equal keys mean the same content, as far as the tier `trusted-path` can tell."""

    device: int
    inode: int
    handle: bytes | None
    size: int
    ctime_ns: int
    btime_ns: int | None


class Located(NamedTuple):
    """An image as it was found.

    `fd` is an O_PATH descriptor that the holder closes, or the caller's own descriptor when `owned` is false. `path` is
    the resolved name in this process's namespace when that name reaches this very file, else None. `key` is None where
    the file system cannot tell one state of a file from another.
    """

    fd: int
    owned: bool
    path: str | None
    attributes: Attributes
    key: FileKey | None
    assurance: Assurance

    def close(self) -> None:
        """Close the descriptor if it is ours."""
        if self.owned:
            os.close(self.fd)


class Chain(NamedTuple):
    """What the directories above a file are.

    `owned`: written by trusted owners only. `reachable`: there, and open to every user if that was asked.
    """

    owned: bool
    reachable: bool


Memo: TypeAlias = dict[tuple[str, bool], Chain]
"""What was seen of directories while one batch of questions, read in one go, is answered. Not kept longer."""


class NotLocalError(Exception):
    """The name leads, or may lead, over a file system that can stall: locate it again in a worker thread."""


@dataclass(frozen=True, slots=True)
class Locator:
    """Finds images by name or by descriptor. `owners` are the user IDs whose write access is no tampering.

    Every decision passes here: flags of the private methods go by position, which is measurably quicker.
    """

    mounts: MountTable
    owners: frozenset[int]

    def by_name(self, name: str, *, anywhere: bool, memo: Memo | None = None) -> Located:
        """Locate an image by an absolute name, if any user could read it.

        Raises UnreadableImageError with one and the same text for a file that is missing and one that not every user
        may reach, UnsupportedFileError for what is no file, NotLocalError unless `anywhere`.
        """
        return self._by_name(name, anywhere, {} if memo is None else memo, public=True)

    def by_own_name(self, name: str) -> Located:
        """Locate an image for this process itself, which may read more than every user may. Blocks.

        Raises UnreadableImageError and UnsupportedFileError.
        """
        return self._by_name(name, True, {}, public=False)  # noqa: FBT003 - anywhere

    def _by_name(self, name: str, anywhere: bool, memo: Memo, *, public: bool) -> Located:  # noqa: FBT001 - as by_name's
        if not memo:
            self.mounts.refresh()
        path, fd = self._reach(name, anywhere, public)
        try:
            found = system.attributes(fd)
            owned = self._walk(path, found, name, memo, public)
            _check_type(found)
            return Located(fd, True, path, found, _key(fd, found), self._tier(path, owned))  # noqa: FBT003 - owned
        except BaseException:
            os.close(fd)
            raise

    def by_descriptor(self, name: str, fd: int, *, anywhere: bool, memo: Memo | None = None) -> Located:
        """Locate an image that its caller opened and passed, together with the name they opened it by.

        The name counts only if it reaches the same file here too; otherwise `path` is None and the tier `none`.
        Raises UnsupportedFileError for a descriptor that nothing could be read or launched from.
        """
        if not memo:
            self.mounts.refresh()
        found = system.attributes(fd)
        _check_type(found)
        _check_access(fd, found)
        if not anywhere and not self.mounts.local_device(found.device):
            raise NotLocalError
        key = _key(fd, found)
        path = self._same_file(name, found, key, anywhere=anywhere)
        if path is None:
            return Located(fd, False, None, found, key, Assurance.NONE)  # noqa: FBT003 - owned
        owned = self._walk(path, found, name, {} if memo is None else memo, False)  # noqa: FBT003 - public
        return Located(fd, False, path, found, key, self._tier(path, owned))  # noqa: FBT003 - owned

    def still_there(self, located: Located) -> bool:
        """Whether the name that chose the rule still reaches the file that was read."""
        if located.path is None:
            return True
        return self._same_file(located.path, located.attributes, located.key, anywhere=True) == located.path

    def _same_file(self, name: str, found: Attributes, key: FileKey | None, *, anywhere: bool) -> str | None:
        """Return the resolved path if opening the name in this namespace reaches the file that was passed.

        The mount is not compared: a job with a private mount namespace sees the same file system under another mount
        ID. Device and handle name the file whichever way it was reached.
        """
        try:
            path, fd = self._reach(name, anywhere, False)  # noqa: FBT003 - public
        except UnreadableImageError:
            return None
        try:
            here = system.attributes(fd)
            same = (here.device, here.inode, here.btime_ns) == (found.device, found.inode, found.btime_ns)
            return path if same and (key is None or system.handle(fd) == key.handle) else None
        finally:
            os.close(fd)

    def _reach(self, name: str, anywhere: bool, public: bool) -> tuple[str, int]:  # noqa: FBT001 - see Locator
        """Return the path without symbolic links that a name leads to, and an O_PATH descriptor of what is there."""
        if not name.startswith("/") or "\0" in name or len(name) >= _PATH_MAX:
            raise _unreadable(name)
        plain = os.path.normpath(name) if "//" in name or "/." in name or name.endswith("/") else name
        if not anywhere and not self.mounts.covering(plain).local:
            raise NotLocalError
        try:
            if plain == name:
                return plain, system.open_exactly(plain, os.O_PATH)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise _not_opened(name, error) from error
        path = self._follow(name, anywhere=anywhere, public=public)
        try:
            return path, system.open_exactly(path, os.O_PATH)
        except OSError as error:
            raise _not_opened(name, error) from error

    def _follow(self, name: str, *, anywhere: bool, public: bool) -> str:
        """Resolve component by component, as the kernel would; `public` wants every directory open to all users."""
        todo = [part for part in reversed(name.split("/")) if part not in {"", "."}]
        done = ""
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}"
            if not anywhere and not self.mounts.covering(here).local:
                raise NotLocalError
            try:
                if public and not os.stat(done or "/").st_mode & stat.S_IXOTH:
                    raise _unreadable(name)
                target = os.readlink(here) if stat.S_ISLNK(os.lstat(here).st_mode) else None
            except OSError as error:
                raise _unreadable(name) from error
            if target is None:
                done = here
                continue
            links += 1
            if links > _MAX_LINKS or len(todo) > _PATH_MAX:
                raise _unreadable(name)
            todo.extend(part for part in reversed(target.split("/")) if part not in {"", "."})
            done = "" if target.startswith("/") else done
        return done or "/"

    def _walk(self, path: str, found: Attributes, name: str, memo: Memo, public: bool) -> bool:  # noqa: FBT001 - as above
        """Whether only trusted owners can write the file and every directory above it.

        With `public`, raises UnreadableImageError when not every user can reach and read the file. POSIX ACLs need no
        extra look for writing: where there is one, the group bits show its mask, the most that it can grant. They do
        for reading: an ACL can take from a named user what others have.
        """
        mode = found.mode
        wanted = _READ_DIRECTORY if found.is_directory else stat.S_IROTH
        if public and (mode & wanted != wanted or _has_acl(path)):
            raise _unreadable(name)
        directory = path.rpartition("/")[0] or "/"
        above = memo.get((directory, public))
        if above is None:
            above = memo[directory, public] = self._chain(directory, public=public)
        if not above.reachable:
            raise _unreadable(name)
        return above.owned and found.uid in self.owners and not mode & _OTHERS_WRITE

    def _chain(self, directory: str, *, public: bool) -> Chain:
        """Look at a directory and all above it.

        A sticky one does not let others replace what trusted owners put there.
        """
        owned = True
        while True:
            try:
                status = os.stat(directory)
            except OSError:
                return Chain(owned=False, reachable=False)
            mode = status.st_mode
            if public and (not mode & stat.S_IXOTH or _has_acl(directory)):
                return Chain(owned=False, reachable=False)
            if status.st_uid not in self.owners or (mode & _OTHERS_WRITE and not mode & stat.S_ISVTX):
                owned = False
            if directory == "/":
                return Chain(owned=owned, reachable=True)
            directory = directory.rpartition("/")[0] or "/"

    def _tier(self, path: str, owned: bool) -> Assurance:  # noqa: FBT001 - as above
        """Return what the identity of a file at this path is worth."""
        return _TRUSTED_PATH if self.mounts.trustworthy(path, owned) else _NONE


def _has_acl(path: str) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path)  # getxattr would have to raise for every file without
    except OSError:
        return False


def _unreadable(name: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"{name}: there is no such image, or not every user may read it; name an absolute path, "
        "and ask with an open descriptor (as `eclctl check` does) about a private image"
    )


def _not_opened(name: str, error: OSError) -> UnreadableImageError | BusyImageError:
    """Tell a file that is not there from a process that can open no more files."""
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return BusyImageError("too many files are open here; ask again later")
    return _unreadable(name)


def _check_type(found: Attributes) -> None:
    if stat.S_IFMT(found.mode) not in _IMAGE_TYPES:
        raise UnsupportedFileError("neither a regular file nor a directory; an image is one of these")


def _check_access(fd: int, found: Attributes) -> None:
    """Refuse descriptors that cannot be read, and files without a name, whose content could still be changed."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_PATH or flags & os.O_ACCMODE == os.O_WRONLY:
        raise UnsupportedFileError("the descriptor was not opened for reading; open the image with O_RDONLY")
    if found.links == 0 and not _is_sealed(fd):
        raise UnsupportedFileError("the descriptor is of a file without a name (deleted, or an unsealed memfd)")


def _is_sealed(fd: int) -> bool:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALED == _SEALED
    except OSError:
        return False


def _key(fd: int, found: Attributes) -> FileKey | None:
    handle = system.handle(fd)
    if handle is None and found.btime_ns is None:
        return None  # nothing would show that the inode number was given to another file
    return FileKey(found.device, found.inode, handle, found.size, found.ctime_ns, found.btime_ns)


def open_for_reading(located: Located) -> int:
    """Open the located file itself, not its name, for reading.

    Raises BusyImageError at once when somebody holds a lease on it, UnreadableImageError when it cannot be opened.
    Falls back to the caller's own descriptor, duplicated, where this process may not open the file.
    """
    try:
        return os.open(f"/proc/self/fd/{located.fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except BlockingIOError as error:
        raise BusyImageError("somebody holds a lease on the image; ask again when they have finished") from error
    except OSError as error:
        if located.owned:
            raise UnreadableImageError(f"the image cannot be opened: {error.strerror}") from error
        return os.dup(located.fd)


def quiescent(fd: int, attributes: Attributes, *, now_ns: int) -> bool:
    """Whether the content can no longer change without a trace.

    A read lease is refused while anybody has the file open or mapped for writing; through such a mapping a store into
    a page that is dirty already changes neither mtime nor ctime. And a change within the clock tick of the last one
    leaves the same ctime, so a file that changed just now is not to be relied on either.
    """
    if not 0 <= attributes.ctime_ns <= now_ns - _SETTLED_NS:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        # No lease to be had here (not the owner, no CAP_LEASE, or not on this file system) is no sign of a writer.
        return error.errno not in {errno.EAGAIN, errno.EBUSY}
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def unchanged(fd: int, before: Attributes) -> bool:
    """Whether the file is as it was: same size, change time and modification time. Asks a network file system."""
    after = system.attributes(fd, fresh=True)
    return (after.size, after.ctime_ns, after.mtime_ns) == (before.size, before.ctime_ns, before.mtime_ns)
