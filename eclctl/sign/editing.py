"""Changing a SIF image: add data objects, remove some, and put the result in the old one's place, whole or not at all.

`editing` opens an image, `Editing.copy` makes a copy of it and says what the objects in that copy hash to, and
`Editing.commit` changes the copy and lets it take the image's name. Until `commit` has begun to trade names, the image
is as it was; whatever is raised before, nothing has happened.

What is signed is what is in the new file: digests are made from the copy, and everything else that was read of the
image (its header, its descriptors, what `Editing.read` returned) is compared with the copy before it is put in place.
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
from eclctl.sign.assembly import Edit, NewObject, Plan, plan
from eclctl.sign.copying import Extent, Progress, copy, digests
from eclctl.sign.replacing import PATIENCE, Replacement, replacing

__all__ = ["Edit", "Editing", "NewObject", "Progress", "editing"]

_ZEROS = bytes(1 << 20)


class Editing:
    """An image that is being edited.

    `image` is what was read of it at the start, `fd` the descriptor that it is read through.
    """

    def __init__(self, replacement: Replacement) -> None:
        self.fd = replacement.fd
        self.image: Sif = sif.read(replacement.fd)
        self._replacement = replacement
        self._objects = {descriptor.id: descriptor for descriptor in self.image.descriptors}
        self._seen: dict[int, bytes] = {}
        self._copied = False

    @property
    def path(self) -> str:
        """Where the image is, without symbolic links."""
        return self._replacement.path

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the person: what they might not expect of the result. After `commit` there may be more."""
        return tuple(self._replacement.notes)

    def read(self, object_id: int, limit: int) -> bytes:
        """Return the data of an object of at most `limit` bytes.

        Raises:
            SigningError: There is no such object, or it is larger.
            BusyImageError: The file became shorter.
            UnreadableImageError: Reading failed.
        """
        found = self._object(object_id)
        if found.size > limit:
            raise SigningError(f"data object {object_id} has {found.size} bytes; at most {limit} are read")
        data = bytes(self.image.data(found))
        self._seen[object_id] = hashlib.sha256(data).digest()
        return data

    def copy(
        self, object_ids: Iterable[int] = (), algorithms: Iterable[str] = (), progress: Progress | None = None
    ) -> dict[tuple[int, str], bytes]:
        """Copy the image, and return the digests of objects' data as the copy holds it.

        Args:
            object_ids: Objects to hash, in any order.
            algorithms: Names of hashlib's algorithms; each object is hashed with each.
            progress: Is told how many bytes more are done; in all, as many as the image has. Not called when the copy
                was made before, and this call only hashes.

        Returns:
            The digests by object ID and algorithm.

        Raises:
            SigningError: There is no such object, or no room for the copy.
            BusyImageError: The image changed meanwhile.
            UnreadableImageError: Reading failed.
        """
        names = tuple(dict.fromkeys(algorithms))
        wanted = {one: self._object(one) for one in sorted(set(object_ids))} if names else {}
        extents = [Extent(one.offset, one.size, names) for one in wanted.values()]
        if self._copied:
            made = digests(self._replacement.target, extents)
        else:
            made = copy(self.fd, self._replacement.target, self.image.size, extents, progress)
            self._copied = True
        return {(one, name): digest for one, by in zip(wanted, made, strict=True) for name, digest in by.items()}

    def commit(self, edit: Edit, now: datetime, check: Callable[[int], None] | None = None) -> None:
        """Change the copy and let it take the image's place. The copy is made now if it was not before.

        Args:
            edit: What changes; see `assembly` for what becomes of the header, the slots and the data.
            now: The moment that the image and its new objects bear, aware.
            check: Called with a descriptor of the finished copy, open for reading, before that has the image's name;
                what it raises leaves the image as it was.

        Raises:
            SigningError: The edit is impossible, or the result cannot be written as it must be.
            BusyImageError: The image changed meanwhile, and is left as it is now.
            MalformedImageError: The image is such that nothing can be added.
            UnreadableImageError: Reading failed.
        """
        header, target = self.image.header, self._replacement.target
        table = sif.pread(self.fd, header.table_size, header.table_offset)
        steps = plan(self.image, table, edit, int(now.timestamp()))
        if not self._copied:
            self.copy()
        self._compare(table)
        try:
            _carry_out(steps, target)
        except OSError as error:
            raise SigningError(f"cannot write the new image: {error.strerror}; the image is as it was") from error
        sif.read(target)  # what we made must be an image by our own reader, before anyone else sees it
        if check is not None:
            check(target)
        self._replacement.finish()

    def _object(self, object_id: int) -> Descriptor:
        found = self._objects.get(object_id)
        if found is None:
            raise SigningError(f"there is no data object {object_id} in {self.path}")
        return found

    def _compare(self, table: bytes) -> None:
        """Require that the copy is of what was read."""
        copied = sif.read(self._replacement.target)
        header = copied.header
        same = (header, copied.descriptors) == (self.image.header, self.image.descriptors)
        if not same or sif.pread(copied.fd, header.table_size, header.table_offset) != table:
            raise _changed(self.path)
        for object_id, digest in self._seen.items():
            if hashlib.sha256(copied.data(self._objects[object_id])).digest() != digest:
                raise _changed(self.path)


@contextmanager
def editing(path: str, *, patience: float = PATIENCE, waiting: Callable[[], None] | None = None) -> Iterator[Editing]:
    """Open an image to edit it. Unless `Editing.commit` has returned, the image is as it was.

    Takes a lock against other editors, and removes what dead ones left behind.

    Args:
        path: Of the image, or of a symbolic link to it, which stays.
        patience: How many seconds to wait while another process of ours edits it.
        waiting: Called once when there is somebody to wait for.

    Raises:
        MalformedImageError: It is no SIF image, or its structure contradicts itself.
        UnreadableImageError: There is no such file, or it cannot be read.
        UnsupportedFileError: It is no regular file.
        BusyImageError: Others are at it.
        SigningError: It cannot be replaced by a file of the same owner in the same directory.
    """
    with replacing(path, patience=patience, waiting=waiting) as replacement:
        yield Editing(replacement)


def _carry_out(steps: Plan, target: int) -> None:
    for offset, size in steps.zero:
        for at in range(offset, offset + size, len(_ZEROS)):
            _write(target, _ZEROS[: offset + size - at], at)
    if steps.cut is not None:
        os.ftruncate(target, steps.cut)
    for offset, data in steps.writes:
        _write(target, data, offset)
    end = max(offset + len(data) for offset, data in steps.writes)
    if os.fstat(target).st_size < end:
        os.ftruncate(target, end)  # an object without data, behind padding


def _write(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def _changed(path: str) -> BusyImageError:
    return BusyImageError(f"{path} changed while it was read; try again when it is finished")
