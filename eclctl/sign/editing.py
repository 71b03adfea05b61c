"""Changing a SIF image: add data objects, remove some, and put the result in the old one's place, whole or not at all.

`editing` opens an image, `Editing.copy` makes a copy of it and says what the objects in that copy hash to, and
`Editing.commit` changes the copy and lets it take the image's name. Until `commit` has returned, the image is as it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from eclctl.errors import BusyImageError, SigningError
from eclctl.image import sif
from eclctl.image.sif import Descriptor, Sif
from eclctl.image.temporary import temporary_name
from eclctl.sign.assembly import Edit, NewObject, plan

__all__ = ["Edit", "Editing", "NewObject", "Progress", "editing"]

Progress = Callable[[int], None]
"""Is told how many bytes more are done; a copy is as many as the image has."""


class Editing:
    """An image that is being edited.

    `image` is what was read of it at the start, `fd` the descriptor it is read through, `path` where it is without
    symbolic links. `notes` are sentences for the person: what they might not expect of the result.
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd
        self.image: Sif = sif.read(fd)
        self.notes: tuple[str, ...] = ()
        self._before = os.fstat(fd)
        self._temporary: str | None = None
        self._target = -1

    def read(self, object_id: int, limit: int) -> bytes:
        """Return the data of an object of at most `limit` bytes.

        Raises SigningError when there is no such object or it is larger.
        """
        found = self._descriptor(object_id)
        if found.size > limit:
            raise SigningError(f"data object {object_id} is larger than {limit} bytes")
        return sif.pread(self.fd, found.size, found.offset)

    def copy(
        self, object_ids: Iterable[int] = (), algorithms: Iterable[str] = (), progress: Progress | None = None
    ) -> dict[tuple[int, str], bytes]:
        """Copy the image; return the digests of objects' data, by ID and hashlib's name of the algorithm."""
        self._temporary = os.path.join(os.path.dirname(self.path), temporary_name())
        self._target = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        at = 0
        while count := os.copy_file_range(self.fd, self._target, 1 << 23, at, at):
            at += count
            if progress is not None:
                progress(count)
        names = tuple(algorithms)
        return {(one, name): self._digest(one, name) for one in object_ids for name in names}

    def commit(self, edit: Edit, now: datetime, check: Callable[[int], None] | None = None) -> None:
        """Change the copy and let it take the image's place.

        `check` is called with a descriptor of the changed copy, open for reading, before that has the image's name;
        what it raises leaves the image as it was.
        """
        if self._temporary is None:
            self.copy()
        assert self._temporary is not None
        header = self.image.header
        table = sif.pread(self._target, header.table_size, header.table_offset)
        steps = plan(self.image, table, edit, int(now.timestamp()))
        for at, size in steps.zero:
            os.pwrite(self._target, bytes(size), at)
        if steps.cut is not None:
            os.ftruncate(self._target, steps.cut)
        for at, data in steps.writes:
            os.pwrite(self._target, data, at)
        if check is not None:
            check(self._target)
        os.fchown(self._target, self._before.st_uid, self._before.st_gid)
        os.fchmod(self._target, self._before.st_mode & 0o7777)
        os.fsync(self._target)
        after = os.fstat(self.fd)
        if (after.st_size, after.st_ctime_ns) != (self._before.st_size, self._before.st_ctime_ns):
            raise BusyImageError("the image changed meanwhile")
        os.rename(self._temporary, self.path)
        self._temporary = None

    def close(self) -> None:
        """Give up what has not been committed."""
        if self._target >= 0:
            os.close(self._target)
        if self._temporary is not None:
            os.unlink(self._temporary)

    def _descriptor(self, object_id: int) -> Descriptor:
        found = next((one for one in self.image.descriptors if one.id == object_id), None)
        if found is None:
            raise SigningError(f"there is no data object {object_id}")
        return found

    def _digest(self, object_id: int, algorithm: str) -> bytes:
        found = self._descriptor(object_id)
        digest = hashlib.new(algorithm)
        for at in range(found.offset, found.offset + found.size, 1 << 20):
            digest.update(sif.pread(self._target, min(1 << 20, found.offset + found.size - at), at))
        return digest.digest()


@contextmanager
def editing(path: str) -> Iterator[Editing]:
    """Open an image to edit it."""
    path = os.path.realpath(path)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        made = Editing(path, fd)
        try:
            yield made
        finally:
            made.close()
    finally:
        os.close(fd)
