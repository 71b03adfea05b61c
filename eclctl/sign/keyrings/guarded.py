"""A directory of keys: its owner and modes are checked, and its files are replaced whole (`files.atomic`).

A file has the mode that it keeps from its first moment on, so that there is no moment at which others could open it.
Everything goes through one descriptor of the directory: a link that takes the place of the path has no effect.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from eclctl.dataclass import dataclass, field
from eclctl.errors import KeyMaterialError
from eclctl.files.atomic import Existing, flush_directory, is_temporary, prepared_file, write_file

_LOCK: Final = ".lock"
_OTHERS: Final = 0o077
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""What file systems say that have no flock(2): Lustre that is mounted without it, NFS without its lock daemon."""

_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(slots=True)
class GuardedDirectory:
    """An open directory: a private one is 0700 with files of 0600, a shared one 0755 with files of 0644.

    `warnings` say what was wrong with its modes or owner. In a private one modes have been corrected, where possible.
    """

    path: str
    private: bool
    fd: int
    warnings: list[str] = field(default_factory=list)

    @classmethod
    @contextmanager
    def open(
        cls, path: str, *, private: bool, create: bool = False, marks: Collection[str] = ()
    ) -> Iterator[GuardedDirectory | None]:
        """Open a directory; yield None when there is none and `create` is false.

        Args:
            path: Where.
            private: Whether it is for its owner alone.
            create: Whether to make it.
            marks: Files of which a private one has one, unless it is empty.

        Raises:
            KeyMaterialError: A private one is another user's, or is open to others and has none of `marks`; a shared
                one can be written by all users; or it cannot be opened.
        """
        fd = _open(path, private=private, create=create)
        if fd is None:
            yield None
            return
        try:
            directory = cls(path, private, fd)
            directory._check(marks)
            yield directory
        finally:
            os.close(fd)

    def _check(self, marks: Collection[str]) -> None:
        found = os.fstat(self.fd)
        mode = stat.S_IMODE(found.st_mode)
        if not self.private:
            self._check_shared(found.st_uid, mode)
        elif found.st_uid != os.geteuid():
            raise KeyMaterialError(
                f"{self.path} belongs to the user with number {found.st_uid}, not to you ({os.geteuid()}): its"
                " owner decides which keys are in it"
            )
        elif mode & _OTHERS:
            self._require_marks(marks, mode)
            self._close_to_others(self.fd, self.path, mode, 0o700)

    def _require_marks(self, marks: Collection[str], mode: int) -> None:
        """Refuse a directory that is something else: it is open to others who need what is in it, as /etc is."""
        names = set(os.listdir(self.fd)) - {_LOCK}
        if names and names.isdisjoint(marks):
            raise KeyMaterialError(
                f"{self.path} is open to others (mode {mode:04o}) and holds {min(names)!r}, but no keys of yours:"
                " name a directory that is for your keys alone"
            )

    def _close_to_others(self, fd: int, path: str, mode: int, wanted: int) -> None:
        found = f"{path} was open to others (mode {mode:04o})"
        try:
            os.fchmod(fd, wanted)
        except OSError as error:  # what is in it can be read all the same, from a read-only file system for one
            self.warnings.append(f"{found}, and stays so: {_why(error)}")
        else:
            self.warnings.append(f"{found}; it is {wanted:04o} now")

    def _check_shared(self, owner: int, mode: int) -> None:
        if mode & stat.S_IWOTH:
            raise KeyMaterialError(f"{self.path} can be written by all users (mode {mode:04o}): chmod o-w it first")
        if mode & stat.S_IWGRP:
            self.warnings.append(f"{self.path} can be written by its group (mode {mode:04o}), which so chooses keys")
        if owner not in {0, os.geteuid()}:
            self.warnings.append(f"{self.path} belongs to the user with number {owner}, who so chooses keys")

    def names(self) -> list[str]:
        """Return the names of its regular files, sorted, without hidden ones and editors' copies."""
        names = [name for name in os.listdir(self.fd) if not name.startswith(".") and not name.endswith("~")]
        return sorted(name for name in names if self._is_file(name))

    def _is_file(self, name: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(name, dir_fd=self.fd).st_mode)
        except OSError:
            return False

    def read(self, name: str, limit: int) -> bytes | None:
        """Return what a file holds, or None when there is none.

        The mode of a file of a private directory that others could read is corrected, with a warning.

        Raises:
            KeyMaterialError: It is not a regular file, belongs to another user, is longer than `limit` bytes, or
                cannot be read.
        """
        with _as_key_error(self.file(name)):
            try:
                # A shared directory may be made of links; in a private one a link was planted by another user.
                fd = os.open(name, _READ | (os.O_NOFOLLOW if self.private else 0), dir_fd=self.fd)
            except FileNotFoundError:
                return None
            try:
                self._check_file(fd, name)
                with os.fdopen(fd, "rb", closefd=False) as file:
                    data = file.read(limit + 1)
            finally:
                os.close(fd)
        if len(data) > limit:
            raise KeyMaterialError(f"{self.file(name)}: larger than {limit} bytes")
        return data

    def _check_file(self, fd: int, name: str) -> None:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise KeyMaterialError(f"{self.file(name)}: not a regular file")
        if not self.private:
            return
        if found.st_uid != os.geteuid():
            raise KeyMaterialError(f"{self.file(name)} belongs to the user with number {found.st_uid}, not to you")
        mode = stat.S_IMODE(found.st_mode)
        if mode & _OTHERS:
            self._close_to_others(fd, self.file(name), mode, 0o600)

    def file(self, name: str) -> str:
        """Return the path of a file, for people."""
        return os.path.join(self.path, name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other writers out, and remove what one that died left behind.

        Raises:
            KeyMaterialError: The directory cannot be written.
        """
        with _as_key_error(self.path):
            # Other users must not open it: they could hold the lock for ever.
            fd = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=self.fd)
        try:
            if self._locked(fd):
                self._sweep()
            yield
        finally:
            os.close(fd)

    def _locked(self, fd: int) -> bool:
        """Wait for the lock; return whether there is such a thing."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise KeyMaterialError(f"{self.path}: {_why(error)}") from error
            # Each file is replaced whole all the same: two writers lose what one of them added, and break nothing.
            self.warnings.append(f"{self.path}: its file system has no locks; change it from one place at a time")
            return False
        return True

    def _sweep(self) -> None:
        for name in os.listdir(self.fd):
            if is_temporary(name):
                with suppress(OSError):  # what cannot be removed, a directory for example, was not written here
                    os.unlink(name, dir_fd=self.fd)

    def replace_all(self, files: Mapping[str, bytes]) -> None:
        """Make each of `files` the content of the file of its name, one after the other. Needs `lock`.

        All are written before the first takes its name, so that a full disk changes none. A crash leaves each file as
        it was or new.

        Raises:
            KeyMaterialError: One cannot be written; all are as they were.
        """
        mode, there = 0o600 if self.private else 0o644, Existing.FILE_OR_LINK
        with ExitStack() as entered:
            for name, data in reversed(tuple(files.items())):  # the last one that is entered gets its name first
                entered.enter_context(_as_key_error(self.file(name)))
                file = prepared_file(name, data, existing=there, mode=mode, exact_mode=True, folder=self.fd)
                entered.enter_context(file)

    def remove(self, name: str) -> None:
        """Remove a file. Needs `lock`.

        Raises:
            KeyMaterialError: It cannot be removed.
        """
        with _as_key_error(self.file(name)):
            os.unlink(name, dir_fd=self.fd)
            flush_directory(self.fd)


def write_new(path: str, data: bytes, mode: int, *, overwrite: bool = False) -> None:
    """Write a file of a user's keys, which has its mode from its first moment on, without regard to the umask.

    Args:
        path: Where; its directory is trusted.
        data: What.
        mode: 0o600 for secrets.
        overwrite: Whether a regular file of that name may be replaced, in one step; nothing else ever is.

    Raises:
        KeyMaterialError: It cannot be written, or its name is taken.
    """
    existing = Existing.REGULAR if overwrite else Existing.REFUSED
    with _as_key_error(path):
        write_file(path, data, existing=existing, mode=mode, exact_mode=True)


@contextmanager
def replacing_file(path: str, data: bytes, mode: int) -> Iterator[None]:
    """Write a file that gets its name, in one step, once the body is through; until then the name is as it was.

    All that needs room on the disk is done before the body runs. Arguments are as for `write_new`.

    Raises:
        KeyMaterialError: It cannot be written, or what has the name is not a regular file.
    """
    with _as_key_error(path), prepared_file(path, data, existing=Existing.REGULAR, mode=mode, exact_mode=True):
        yield


@contextmanager
def _as_key_error(path: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise KeyMaterialError(f"{path} is there already: name another file, or add --force") from error
    except OSError as error:
        raise KeyMaterialError(f"{path}: {_why(error)}") from error


def _open(path: str, *, private: bool, create: bool) -> int | None:
    with _as_key_error(path), suppress(FileNotFoundError):
        if create:
            _make(path, 0o700 if private else 0o755)
        # A link to another directory of our own is followed: what is opened is what is checked.
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return None


def _make(path: str, mode: int) -> None:
    """Make a directory and those above it. `mkdir` narrows a mode by the umask and never widens it."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    if parent != path:
        _make(parent, mode)
    with suppress(FileExistsError):
        os.mkdir(path, mode)
        # Through a descriptor: who can write the directory above could have put a link there meanwhile. It is one that
        # can be had of a directory that the umask has closed to us, too.
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.chmod(f"/proc/self/fd/{fd}", mode)
        finally:
            os.close(fd)


def _why(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{error.strerror}: it needs the rights of its owner (for a system directory, root's)"
    return error.strerror or str(error)
