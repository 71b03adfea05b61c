"""Putting a changed copy of a file in the file's place, whole or not at all, without losing what anybody else did.

1. The file is found once: its symbolic links are followed, its directory is opened by a path without any, and from
   then on names are looked up in that open directory only. Nobody who can rename directories leads the work elsewhere.
2. It is locked against others of us; a dead process holds no lock. Leftovers of dead ones are removed.
3. The copy is a new file in the same directory (see `scratch`), with the file's owner from the start, so that one who
   may not give it away hears so before anything is copied, and with its mode and attributes at the end.
4. It is flushed to the disk before it gets any name that matters.
5. The two trade names in one step (RENAME_EXCHANGE), while writers are barred where the kernel can bar them. What
   comes out under the temporary name must be the file that was copied, unchanged; if it is another, the two trade back
   and nothing is lost. A plain rename, where exchanging cannot be had, would have replaced a file that somebody put
   there after the last look. There, the last look is all there is.
6. The former file's name is removed, and the directory is flushed.

A crash before 5 leaves the file as it was, one after it the new one, each whole.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace

from eclctl.errors import BusyImageError, EclctlError, SigningError, UnreadableImageError, UnsupportedFileError
from eclctl.image import identity
from eclctl.image import system as attributes_of
from eclctl.sign import locks, system
from eclctl.sign.attributes import give_attributes, give_owner
from eclctl.sign.locks import Lock
from eclctl.sign.release import leave_to_another
from eclctl.sign.scratch import Scratch, remove_leftovers

__all__ = ["PATIENCE", "Replacement", "replacing"]

PATIENCE = 60.0
"""How long another's work on the same file is waited for, in seconds."""

_POLL_SECONDS = 0.1
_SETTLED_NS = 20_000_000  # two ticks of a 100 Hz kernel: a later change has another change time
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file is: the path that was named, its directory, open, and its name there; and the file, open.

    `writable`: we have it open for writing ourselves, so that the kernel cannot tell us who else has.
    """

    asked: str
    path: str
    directory: int
    name: str
    fd: int
    writable: bool = False


class Replacement:
    """A file and its successor.

    `path` is where the file is, without symbolic links; `fd` is open on it, `size` its size in bytes, `target` is open
    on the successor, which is empty at first. `finished` tells that it is in place. `notes` are sentences for the
    person whose file it is.
    """

    def __init__(self, place: _Place, scratch: Scratch) -> None:
        self.path = place.path
        self.fd = place.fd
        self.target = scratch.fd
        self.notes: list[str] = []
        self._place = place
        self._scratch = scratch
        self._status = os.fstat(place.fd)
        self._before = attributes_of.attributes(place.fd, fresh=True)
        self.size = self._status.st_size
        self.finished = False
        self._note_links()

    def finish(self) -> None:
        """Let the successor take the file's name; return when that will survive a crash of the machine.

        Raises:
            BusyImageError: The file changed meanwhile, or its name leads to another one; all is as it was.
            SigningError: The successor could not be written, or not with the file's attributes.
        """
        with _reported("write the new file"):
            give_owner(self.target, self._status)
            self.notes += give_attributes(self.fd, self.target, self._status)
            os.fsync(self.target)
        with _reported("put the new file in the image's place"):
            self._swap(self._scratch.give_name())
        with _reported("flush the image's directory (the image has been replaced all the same)"):
            os.fsync(self._place.directory)
        self.finished = True

    def unchanged(self) -> bool:
        """Whether the file is as it was when it was opened, and still there."""
        return identity.unchanged(self.fd, self._before) and os.fstat(self.fd).st_nlink > 0

    def _swap(self, temporary: str) -> None:
        directory, name = self._place.directory, self._place.name
        with _barred(self._place):
            self._require_unchanged()
            if not system.exchange(directory, temporary, name):
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                return
            if not self._is_ours(temporary):
                system.exchange(directory, temporary, name)
                raise _replaced(self.path)
        try:
            os.unlink(temporary, dir_fd=directory)
        except OSError as error:
            self.notes.append(
                f"the former image is still there, as {temporary}, and cannot be removed: {error.strerror}"
            )

    def _require_unchanged(self) -> None:
        if not self.unchanged():
            raise BusyImageError(
                f"{self.path} changed meanwhile and was left as it is now; try again when it is finished"
            )
        if not self._is_ours(self._place.name) or not _leads_to(self._place.asked, self._status):
            raise _replaced(self.path)

    def _is_ours(self, name: str) -> bool:
        """Whether a name in the directory is that of the file that was opened."""
        try:
            found = os.stat(name, dir_fd=self._place.directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, self._status)

    def _note_links(self) -> None:
        others = self._status.st_nlink - 1
        if others > 0:
            names = "one other name" if others == 1 else f"{others} other names"
            self.notes.append(
                f"the image has {names} (hard links): there it stays as it is, because the new one is another file"
            )


@contextmanager
def replacing(
    path: str, *, patience: float = PATIENCE, waiting: Callable[[], None] | None = None
) -> Iterator[Replacement]:
    """Open a file to replace it. Unless `Replacement.finish` has put the successor in place, nothing has happened.

    Args:
        path: Of a regular file, or of a symbolic link to one; the link stays and what it leads to is replaced.
        patience: How many seconds to wait while another process of ours is at the same file.
        waiting: Called once when there is somebody to wait for.

    Raises:
        UnreadableImageError: There is no such file, or it cannot be read.
        UnsupportedFileError: It is no regular file.
        BusyImageError: Others are at it, for longer than `patience`.
        SigningError: It cannot be replaced by a file of the same owner in the same directory.
    """
    with ExitStack() as stack:
        place = _acquire(path, stack, time.monotonic() + patience, waiting)
        locks.refuse_if_mounted(place.fd)
        with _barred(place):
            pass  # only to hear now of a writer, not after all the work
        replacement = Replacement(place, _scratch(place, stack))
        yield replacement
        if replacement.finished:
            leave_to_another(place.fd, replacement.size)


def _acquire(path: str, stack: ExitStack, deadline: float, waiting: Callable[[], None] | None) -> _Place:
    """Open a file and lock it, for as long as the stack lasts."""
    while True:
        with ExitStack() as attempt:
            place = _lock(_open(path, attempt), attempt)
            if place is not None and _leads_to(path, os.fstat(place.fd)):
                stack.push(attempt.pop_all())
                return place
        if time.monotonic() >= deadline:
            raise BusyImageError(f"{path} is being signed or changed by another eclctl; try again when that is done")
        if waiting is not None:
            waiting()
            waiting = None
        time.sleep(_POLL_SECONDS)


def _open(path: str, stack: ExitStack) -> _Place:
    """Find a file and open it and its directory."""
    try:
        resolved = os.path.realpath(path, strict=True)
        parent, name = os.path.split(resolved)
        directory = attributes_of.open_exactly(parent, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, directory)
        # Looked at before it is opened: opening a device or a pipe can do something.
        if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            raise UnsupportedFileError(f"{path} is not a regular file; only an image in one file can be changed")
        fd = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=directory)
        stack.callback(os.close, fd)
    except BlockingIOError as error:
        raise BusyImageError(f"somebody holds a lease on {path}; try again when they are done") from error
    except OSError as error:
        raise UnreadableImageError(f"{path} cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise UnsupportedFileError(f"{path} is not a regular file; only an image in one file can be changed")
    return _Place(path, resolved, directory, name, fd)


def _lock(place: _Place, stack: ExitStack) -> _Place | None:
    """Lock the file; None when another has. Where no lock can be had, the look before replacing it has to do."""
    held = locks.lock(place.fd)
    if held is not Lock.UNKNOWN:
        return place if held is Lock.OURS else None
    try:
        writable = os.open(place.name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=place.directory)
    except OSError:
        return place
    held = locks.lock(writable)
    if held is not Lock.OURS:
        os.close(writable)
        return place if held is Lock.UNKNOWN else None
    stack.callback(os.close, writable)
    return replace(place, writable=True)


def _barred(place: _Place) -> AbstractContextManager[None]:
    return nullcontext() if place.writable else locks.barred_to_writers(place.fd)


def _leads_to(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except OSError:
        return False


def _scratch(place: _Place, stack: ExitStack) -> Scratch:
    """Remove leftovers and make the successor, so that whatever forbids it is said before there is any work done."""
    status = os.fstat(place.fd)
    _require_replaceable(place, status)
    with _reported(f"make a file in {os.path.dirname(place.path)}, where the image's successor has to be written"):
        remove_leftovers(place.directory, frozenset({os.geteuid(), status.st_uid}), time.time())
        scratch = Scratch(place.directory)
        stack.callback(scratch.close)
        give_owner(scratch.fd, status)
    _settle(place.fd)
    return scratch


def _require_replaceable(place: _Place, status: os.stat_result) -> None:
    above, own = os.fstat(place.directory), os.geteuid()
    if above.st_mode & stat.S_ISVTX and own not in {0, above.st_uid, status.st_uid}:
        raise SigningError(
            f"{place.path} lies in a directory where only its owner may replace it (sticky bit); let its owner do it"
        )
    if system.immutable(place.fd) or system.immutable(place.directory):
        raise SigningError(f"{place.path} or its directory is immutable or append-only; see lsattr and chattr")


def _settle(fd: int) -> None:
    """Wait until a further change would show: two within one tick of the kernel's clock have the same time."""
    while 0 <= time.time_ns() - os.fstat(fd).st_ctime_ns < _SETTLED_NS:
        time.sleep(_SETTLED_NS / 1e9)


def _replaced(path: str) -> BusyImageError:
    return BusyImageError(f"{path} was replaced by another file meanwhile, which was left as it is; try again")


@contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turn an OSError into a sentence."""
    try:
        yield
    except EclctlError:
        raise
    except OSError as error:
        raise SigningError(f"cannot {what}: {error.strerror}") from error
