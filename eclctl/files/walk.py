"""Walk a directory tree for files that could be images, without following symbolic links and without opening files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from eclctl.files.opening import open_exactly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SANDBOX_MARK = ".singularity.d"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_NOCTTY


def walk(
    root: str, *, recursive: bool, sandboxes: bool = False, refused: Callable[[str, OSError], None] | None = None
) -> Iterator[list[tuple[str, os.stat_result]]]:
    """Yield, one directory at a time, the regular files that are not empty, with their attributes.

    `root` is absolute and free of symbolic links. Every directory is opened by a path none of whose components may be
    a link, so that a link that a user puts in the tree meanwhile does not lead the walk out of it. A directory that
    holds `.singularity.d` is the root of a sandbox image, not a place for images: neither it nor anything below is
    walked; with `sandboxes`, its root is yielded in the place of its files. What cannot be opened or read is left out;
    `refused`, when given, is told of each such directory.
    """
    pending = [root]
    while pending:
        directory = pending.pop()
        files, directories = _list(directory, sandboxes, refused or (lambda _directory, _error: None))
        if recursive:
            pending += directories
        if files:
            yield files


def _list(
    directory: str,
    sandboxes: bool,  # noqa: FBT001 - as walk's
    refused: Callable[[str, OSError], None],
) -> tuple[list[tuple[str, os.stat_result]], list[str]]:
    try:
        descriptor = open_exactly(directory, _FLAGS)
    except OSError as error:
        refused(directory, error)
        return [], []
    try:
        return _entries(directory.rstrip("/"), descriptor, sandboxes=sandboxes)
    except OSError as error:
        refused(directory, error)
        return [], []
    finally:
        os.close(descriptor)


def _entries(directory: str, descriptor: int, *, sandboxes: bool) -> tuple[list[tuple[str, os.stat_result]], list[str]]:
    files: list[tuple[str, os.stat_result]] = []
    directories: list[str] = []
    with os.scandir(descriptor) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if status.st_size:
                    files.append((f"{directory}/{entry.name}", status))
            elif entry.is_dir(follow_symlinks=False):
                if entry.name == SANDBOX_MARK:
                    return [(directory, os.fstat(descriptor))] if sandboxes and directory else [], []
                directories.append(f"{directory}/{entry.name}")
    return files, directories
