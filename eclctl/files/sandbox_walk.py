"""Walks a directory that serves as an image (a sandbox): can others than the trusted owners write in it?

Rules of the walk:

1. Everything is reached from the top's descriptor, one component at a time and never through a symbolic link. A
   parent that has to be opened again is opened as `..` and must be the same directory on the same mount.
2. A directory is looked at by the descriptor that lists it, before its entries are opened. Only trusted owners can
   exchange the entries of a directory that passed, so that all its entries are seen.
3. An entry is asked for its owner, mode and mount before it is opened: no FUSE server and no automounter is woken.
4. What cannot be looked at, moves meanwhile or lies beyond a bound is weak.

A mode is enough for POSIX ACLs: where there is one, the group bits show its mask, the most that it can grant.
"""

from __future__ import annotations

import errno
import fcntl
import os
from stat import S_IMODE, S_ISBLK, S_ISCHR, S_ISDIR, S_ISLNK, S_ISREG, S_ISVTX, S_IWGRP, S_IWOTH
from typing import TYPE_CHECKING, NamedTuple

from eclctl.dataclass import dataclass, field
from eclctl.files.syscalls import Attributes, attributes, entry_attributes

if TYPE_CHECKING:
    from collections.abc import Callable

HELD = 32
"""How many directories of one walk are open at a time."""

_OTHERS_WRITE = S_IWGRP | S_IWOTH
_LISTED = 0o555  # what every user may list and enter
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a sandbox is looked at: entries, directories above one another, seconds."""

    entries: int = 1_000_000
    depth: int = 4096
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class SandboxWeakness:
    """The first thing that keeps a sandbox from being trusted.

    `path` is relative to the sandbox (`.` for its top directory; bytes kept by surrogateescape, not escaped for
    display), `why` says what is wrong with it, `advice` what to do. `public` tells whether every user may list the
    directories that it lies in.
    """

    path: str
    why: str
    advice: str
    public: bool = True


class WalkResult(NamedTuple):
    """What a walk found. `weak` is None when only trusted owners can write in the sandbox."""

    weak: SandboxWeakness | None
    entries: int
    seconds: float


class _FoundError(Exception):
    """Ends a walk: something is weak."""

    def __init__(self, path: str, why: str, advice: str, *, public: bool = True) -> None:
        super().__init__(why)
        self.weak = SandboxWeakness(path, why, advice, public)


@dataclass(slots=True)
class _Directory:
    """A directory that the walk is in. `fd` is -1 while it is not held open, `todo` names what to enter yet."""

    name: str
    fd: int
    entry: Attributes
    todo: list[str]


def look(
    fd: int,
    owners: frozenset[int],
    *,
    clock: Callable[[], float],
    bounds: Bounds = Bounds(),  # noqa: B008 - frozen
    entered: Callable[[int], None] | None = None,
    probe: bool = True,
) -> WalkResult:
    """Walk the tree below a directory and return the first thing in it that others than the owners can write.

    Args:
        fd: a descriptor of the top directory; O_PATH will do.
        owners: user IDs whose write access is no tampering.
        clock: monotonic seconds.
        bounds: beyond them, the sandbox is too large, which is weak.
        entered: called with an open descriptor of each directory before it is looked at, to watch it. Must not raise.
        probe: whether files are opened to see if a process writes them. On network file systems a lease that is refused
            is no sign of a writer: NFSv4 refuses all for which it has no delegation.

    Raises nothing for what it meets in the tree. Blocks. The process must ignore SIGIO: a lease is held for an instant
    on each regular file.
    """
    begun = clock()
    walk = _Walk(owners, clock, begun + bounds.seconds, bounds, entered or (lambda _: None), probe)
    weak = None
    try:
        walk.run(fd)
    except _FoundError as found:
        weak = found.weak
    finally:
        walk.close()
    return WalkResult(weak, walk.entries, clock() - begun)


@dataclass(slots=True)
class _Walk:
    """One walk. Depth first, with a stack of its own; of the stack only the last `HELD` directories are open."""

    owners: frozenset[int]
    clock: Callable[[], float]
    end: float
    bounds: Bounds
    entered: Callable[[int], None]
    probes: bool
    entries: int = 0
    _stack: list[_Directory] = field(default_factory=list)
    _mount: int = -1

    def run(self, top: int) -> None:
        """Look at everything. Raises _FoundError at the first thing that is weak."""
        self._enter(".", top)
        while self._stack:
            here = self._stack[-1]
            if here.todo:
                self._enter(here.todo.pop(), here.fd)
            else:
                self._leave()

    def close(self) -> None:
        """Close what is open."""
        for directory in self._stack:
            _release(directory)
        self._stack.clear()

    def _enter(self, name: str, parent: int) -> None:
        """Open a directory, look at it and at all its entries, and put it on the stack."""
        if len(self._stack) > self.bounds.depth:
            raise self._too_large(f"more than {self.bounds.depth} directories lie in one another")
        try:
            fd = os.open(name, _LIST, dir_fd=parent)
        except OSError as error:
            raise self._unknown(name, error) from error
        try:
            self.entered(fd)
            found = attributes(fd)
            if not self._stack:
                self._mount = found.mount
            self._judge(name, found)
        except OSError as error:
            os.close(fd)
            raise self._unknown(name, error) from error
        except _FoundError:
            os.close(fd)
            raise
        here = _Directory(name, fd, found, [])
        self._stack.append(here)
        if len(self._stack) > HELD:
            _release(self._stack[-HELD - 1])
        self._list(here, fd)

    def _leave(self) -> None:
        """Go back to the directory above, which must be the one that the walk came from."""
        done = self._stack[-1]
        if len(self._stack) > 1 and self._stack[-2].fd < 0:
            self._stack[-2].fd = self._back(done.fd, self._stack[-2].entry)
        self._stack.pop()
        _release(done)

    def _back(self, fd: int, wanted: Attributes) -> int:
        above = -1
        try:
            above = os.open("..", _LIST, dir_fd=fd)
            found = attributes(above)
        except OSError as error:
            if above >= 0:
                os.close(above)
            raise self._unknown(None, error) from error
        if (found.device, found.inode, found.mount) == (wanted.device, wanted.inode, wanted.mount):
            return above
        os.close(above)
        raise self._moved(None)

    def _list(self, here: _Directory, fd: int) -> None:
        """Look at the entries of a directory and note which of them to enter."""
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    self._count()
                    self._look_at(here, fd, entry.name)
        except OSError as error:
            raise self._unknown(None, error) from error

    def _count(self) -> None:
        self.entries += 1
        if self.entries > self.bounds.entries:
            raise self._too_large(f"it has more than {self.bounds.entries} entries")
        if self.clock() >= self.end:
            raise self._too_large(f"{self.bounds.seconds:g} seconds were not enough")

    def _look_at(self, here: _Directory, fd: int, name: str) -> None:
        try:
            found = entry_attributes(fd, name)
        except OSError as error:
            raise self._unknown(name, error) from error
        self._judge(name, found)
        if S_ISDIR(found.mode):
            here.todo.append(name)
        elif self.probes and S_ISREG(found.mode):
            self._probe(fd, name, found)

    def _judge(self, name: str, found: Attributes) -> None:
        """Whether only trusted owners can write this."""
        mode = found.mode
        if found.mount != self._mount:
            raise self._found(name, "another file system or a bind mount is mounted on it", "unmount it")
        if found.uid not in self.owners:
            raise self._found(name, f"it belongs to user ID {found.uid}", "chown it to a trusted owner (chown -R root)")
        # A link's mode means nothing, and that of a character device guards the device, which is no content.
        if not mode & _OTHERS_WRITE or S_ISLNK(mode) or S_ISCHR(mode):
            return
        shown = f"(mode {S_IMODE(mode):04o})"
        who = "every user" if mode & S_IWOTH else "its group or a user in its ACL"
        if S_ISDIR(mode):
            sticky = ", also where the sticky bit is set" if mode & S_ISVTX else ""
            raise self._found(name, f"{who} can add files to this directory{sticky} {shown}", "chmod go-w")
        what = "device" if S_ISBLK(mode) else "file"
        raise self._found(name, f"{who} can write this {what} {shown}", "chmod go-w")

    def _probe(self, directory: int, name: str, found: Attributes) -> None:
        """Whether a process has a regular file open, or mapped, for writing: then the kernel grants no read lease.

        A file that this process may not open, or may have no lease on, is no sign of a writer.
        """
        try:
            fd = os.open(name, _READ, dir_fd=directory)
        except PermissionError:
            return
        except BlockingIOError as error:
            raise self._found(name, "a process holds a lease on it", "end that process (fuser -v)") from error
        except OSError as error:
            raise self._unknown(name, error) from error
        try:
            opened = os.fstat(fd)
            if (opened.st_ino, opened.st_dev) != (found.inode, found.device):
                raise self._moved(name)
            if _has_writer(fd):
                raise self._found(name, "a process has it open for writing", "end that process (fuser -v)")
        except OSError as error:
            raise self._unknown(name, error) from error
        finally:
            os.close(fd)

    def _path(self, name: str | None) -> str:
        """Return the path of an entry of the directory that the walk is in; None means that directory."""
        names = [directory.name for directory in self._stack[1:]]
        if name is not None and self._stack:
            names.append(name)
        return "/".join(names) or "."

    def _found(self, name: str | None, why: str, advice: str) -> _FoundError:
        above = self._stack if name is not None else self._stack[:-1]
        public = all(each.entry.mode & _LISTED == _LISTED for each in above)
        return _FoundError(self._path(name), why, advice, public=public)

    def _unknown(self, name: str | None, error: OSError) -> _FoundError:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ESTALE}:
            return self._moved(name)
        advice = "let the daemon read it" if isinstance(error, PermissionError) else "ask again"
        return self._found(name, f"it cannot be looked at: {error.strerror}", advice)

    def _moved(self, name: str | None) -> _FoundError:
        return self._found(name, "it was moved or exchanged while the sandbox was looked at", "ask again")

    def _too_large(self, why: str) -> _FoundError:
        advice = "make it a SquashFS or EROFS file and mount that read-only"
        return _FoundError(".", f"the sandbox is too large to be looked at: {why}", advice)


def _release(directory: _Directory) -> None:
    if directory.fd >= 0:
        os.close(directory.fd)
        directory.fd = -1


def _has_writer(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno in {errno.EAGAIN, errno.EBUSY}
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
