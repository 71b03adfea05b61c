"""Reads configuration, policy and key files, and refuses those that another user than root could have written."""

from __future__ import annotations

import os
import stat
from typing import Protocol

from eclctl.errors import ConfigError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_MIB = 1024 * 1024
MAX_FILE = 64 * _MIB


class Reader(Protocol):
    """Reads a file that is part of a policy; `read_guarded` and `read_unguarded` do."""

    def __call__(self, path: str, *, limit: int = MAX_FILE) -> bytes:
        """Return the content, of at most `limit` bytes; raise ConfigError when it cannot be read."""


def read_guarded(path: str, *, limit: int = MAX_FILE) -> bytes:
    """Return the content of a configuration, policy or key file.

    When this process is root, the file must belong to root and be writable by root alone. So must its directory,
    unless that is sticky. A user who can write such a file decides what runs.

    Raises ConfigError with one sentence that does not repeat the path.
    """
    return _read(path, limit, guarded=os.geteuid() == 0)[0]


def read_owned(path: str, *, limit: int = MAX_FILE) -> tuple[bytes, int]:
    """Return what `read_guarded` does, and the user ID of the file's owner."""
    return _read(path, limit, guarded=os.geteuid() == 0)


def read_unguarded(path: str, *, limit: int = MAX_FILE) -> bytes:
    """Return the content of a file without a check of its owner: to try a policy out, never to decide by it.

    Raises ConfigError as `read_guarded` does.
    """
    return _read(path, limit, guarded=False)[0]


def _read(path: str, limit: int, *, guarded: bool) -> tuple[bytes, int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise ConfigError(f"cannot be opened: {error.strerror}") from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)  # os.fdopen refuses a directory in its own words
        raise ConfigError("is not a regular file")
    with os.fdopen(fd, "rb") as file:
        if guarded:
            _require_root_only(status, os.stat(os.path.dirname(path) or "."))
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise ConfigError(f"cannot be read: {error.strerror}") from error
    if len(data) > limit:
        bound = f"{limit // 1024} KiB" if limit < _MIB else f"{limit // _MIB} MiB"
        raise ConfigError(f"is larger than {bound}")
    return data, status.st_uid


def _require_root_only(file: os.stat_result, directory: os.stat_result) -> None:
    if file.st_uid != 0:
        raise ConfigError("is not owned by root; chown root it")
    if file.st_mode & _OTHERS_WRITE:
        raise ConfigError("is writable by others than root; chmod go-w it")
    if directory.st_uid != 0 or (directory.st_mode & _OTHERS_WRITE and not directory.st_mode & stat.S_ISVTX):
        raise ConfigError("lies in a directory that others than root can write; chown root and chmod go-w that")


def expand(paths: tuple[str, ...], suffixes: tuple[str, ...] = ()) -> list[str]:
    """Return files for files and directories: of a directory, those in it by name, but hidden ones and directories.

    With `suffixes`, only those of a directory that end in one. Raises ConfigError that names the path.
    """
    files: list[str] = []
    for path in paths:
        if not os.path.isdir(path):
            files.append(path)
            continue
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be listed: {error.strerror}") from error
        files.extend(
            os.path.join(path, name)
            for name in names
            if not name.startswith(".") and not name.endswith("~") and (not suffixes or name.endswith(suffixes))
            if not os.path.isdir(os.path.join(path, name))
        )
    return files
