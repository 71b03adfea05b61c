"""Looks up files by name without waiting for another machine or for a process of a user's.

Rules:

1. A path is touched only when every mount at it and above it is of this host (`Mounts.above`).
2. Symbolic links are followed here, component by component, so that rule 1 holds for what they lead to.

An instance serves one state of the mount table, and looks at each file once.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from eclctl.files.mounts import Mount, Mounts, ancestors
from eclctl.files.opening import MAX_LINKS, open_exactly

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_KERNELS_OWN = frozenset({"devtmpfs", "sysfs"})  # as quick as any of `mounts.LOCAL`; no image lies there

Lstat = Callable[[str], os.stat_result]


class LocalLookupError(Exception):
    """A file cannot be looked up; the message is the end of a sentence about it."""


class LocalFiles:
    """Files of this host, as they are while one mount table is judged.

    `lstat` is `os.lstat`. Every method takes absolute, normalised paths (surrogateescape) and raises LocalLookupError.
    """

    def __init__(self, mounts: Mounts, lstat: Lstat = os.lstat) -> None:
        self._mounts = mounts
        self._lstat = lstat
        self._seen: dict[str, os.stat_result | LocalLookupError] = {}
        self._far: dict[str, Mount | None] = {}
        self._safe: dict[tuple[str, frozenset[int]], str | None] = {}

    def status(self, path: str) -> os.stat_result:
        """Return what lstat(2) says, from the first look at this path."""
        found = self._seen.get(path)
        if found is None:
            found = self._seen[path] = self._look(path)
        if isinstance(found, LocalLookupError):
            raise found
        return found

    def resolve(self, path: str) -> str:
        """Return the path without symbolic links; what it names exists."""
        todo, done, links = _parts(path), "", 0
        while todo:
            part = todo.pop()
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            here = f"{done}/{part}"
            if not stat.S_ISLNK(self.status(here).st_mode):
                done = here
                continue
            target = self.target(here)
            links += 1
            if links > MAX_LINKS:
                raise LocalLookupError(f"{path} has too many symbolic links")
            todo += _parts(target)
            done = "" if target.startswith("/") else done
        return done or "/"

    def target(self, path: str) -> str:
        """Return what a symbolic link says."""
        self._require_near(path)
        try:
            return os.readlink(path)
        except OSError as error:
            raise _not_seen(path, error) from error

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, in order."""
        self._require_near(directory)
        try:
            return sorted(os.listdir(directory))
        except OSError as error:
            raise _not_seen(directory, error) from error

    def text(self, path: str, limit: int) -> str:
        """Return what a regular file (or an attribute of sysfs) without symbolic links in its path holds."""
        known = self.status(path)
        if not stat.S_ISREG(known.st_mode):
            raise LocalLookupError(f"{path} is not a regular file")
        try:
            fd = open_exactly(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
            with os.fdopen(fd, "rb") as file:
                opened = os.fstat(fd)
                data = file.read(limit + 1)
        except OSError as error:
            raise _not_seen(path, error) from error
        if (opened.st_dev, opened.st_ino) != (known.st_dev, known.st_ino):
            raise LocalLookupError(f"{path} was replaced while it was looked at")
        if len(data) > limit:
            raise LocalLookupError(f"{path} is too long")
        return data.decode("utf-8", "surrogateescape")

    def exposure(self, path: str, owners: frozenset[int]) -> str | None:
        """Return why others than `owners` can change which file a path without links names, or write it; else None.

        A sticky directory does not let others replace what an owner put there. POSIX ACLs need no look of their own:
        where there is one, the group bits show the most that it grants.
        """
        for directory in ancestors(path):
            if directory != path and (found := self._directory_exposure(directory, owners)) is not None:
                return found
        status = self.status(path)
        if stat.S_ISLNK(status.st_mode):
            return f"{path} is a symbolic link"
        return _exposed(path, status, owners)

    def _directory_exposure(self, directory: str, owners: frozenset[int]) -> str | None:
        key = directory, owners
        if key not in self._safe:
            status = self.status(directory)
            sticky = bool(status.st_mode & stat.S_ISVTX)
            found = f"{directory} is a symbolic link" if stat.S_ISLNK(status.st_mode) else None
            self._safe[key] = found or _exposed(directory, status, owners, sticky=sticky)
        return self._safe[key]

    def _look(self, path: str) -> os.stat_result | LocalLookupError:
        try:
            self._require_near(path)
            return self._lstat(path)
        except LocalLookupError as error:
            return error
        except (OSError, ValueError) as error:
            return _not_seen(path, error)

    def _require_near(self, path: str) -> None:
        directory = path.rpartition("/")[0] or "/"
        if directory not in self._far:
            self._far[directory] = next(filter(_is_far, self._mounts.above(directory)), None)
        own = self._mounts.at(path)
        far = self._far[directory] or (own if own is not None and _is_far(own) else None)
        if far is not None:
            raise LocalLookupError(f"{path} lies on {far.type} at {far.point}, where a look could take for ever")


def _is_far(mount: Mount) -> bool:
    return not mount.local and mount.type not in _KERNELS_OWN


def _exposed(path: str, status: os.stat_result, owners: frozenset[int], *, sticky: bool = False) -> str | None:
    if status.st_uid not in owners:
        return f"{path} belongs to user {status.st_uid}"
    if status.st_mode & OTHERS_WRITE and not sticky:
        return f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in {"", "."}]


def _not_seen(path: str, error: OSError | ValueError) -> LocalLookupError:
    if isinstance(error, OSError) and error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return LocalLookupError(f"{path} does not exist")
    return LocalLookupError(f"{path} cannot be looked at: {getattr(error, 'strerror', None) or error}")
