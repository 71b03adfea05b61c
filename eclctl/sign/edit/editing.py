"""Changes a SIF image: adds and removes data objects, in place, so that it is the old image or the new one.

`editing` opens an image, `Editing.digests` hashes its objects, and `Editing.commit` changes it. Until `commit` has
returned, the image is as it was, with any error and after any crash (`sign.edit.inplace`).

From when it is opened until it is written, it must be the same file, and unchanged (`sign.edit.locked_file`). Its
header and descriptors are read again and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from eclctl.errors import BusyImageError, SigningError
from eclctl.sif import reader
from eclctl.sif.edit_journal import Stage
from eclctl.sif.reader import Descriptor, Sif
from eclctl.sign.edit import inplace
from eclctl.sign.edit.assembly import Edit, NewObject, plan_edit
from eclctl.sign.edit.detached_write import WriterKilledError, write_detached
from eclctl.sign.edit.inplace import carry_out, is_done, recover
from eclctl.sign.edit.locked_file import LOCK_TIMEOUT, LockedFile, open_locked
from eclctl.verify.hashing import HashPool, Progress, Want, hash_objects

__all__ = ["Edit", "Editing", "NewObject", "Progress", "editing", "prepare"]

_RECOVERED = {
    Stage.BEFORE: "an earlier edit of the image was interrupted before it changed anything; what it left was removed",
    Stage.BETWEEN: "an earlier edit of the image was interrupted; it was undone",
    Stage.AFTER: "an earlier edit of the image was interrupted when it was done; what it left was removed",
}


class Editing:
    """An image that is being edited.

    fd: The file, open for reading.
    image: What was read of it at the start.
    notes: Sentences for the user: which interrupted edit was found, and what was done about it.
    """

    def __init__(self, file: LockedFile) -> None:
        self.fd = file.fd
        self.image: Sif = reader.read(file.fd)
        self.notes = _notes(file)
        self._file = file
        self._objects = {descriptor.id: descriptor for descriptor in self.image.descriptors}

    @property
    def path(self) -> str:
        """Where the image is, without symbolic links."""
        return self._file.path

    def size_of(self, object_ids: Iterable[int]) -> int:
        """Return how many bytes some objects have together: how much there is to hash."""
        return sum(self._object(one).size for one in object_ids)

    def digests(
        self, object_ids: Iterable[int], algorithms: Iterable[str], progress: Progress | None = None
    ) -> dict[tuple[int, str], bytes]:
        """Return the digests of objects' data.

        Args:
            object_ids: Objects to hash, in any order.
            algorithms: Names of `signature.metadata.ALGORITHMS`; each object is hashed with each, and read once.
            progress: Is told how many bytes more are done, from several threads; in all, as many as `size_of` says.

        Returns:
            The digests by object ID and algorithm.

        Raises:
            SigningError: There is no such object.
            BusyImageError: The file became shorter.
            UnreadableImageError: Reading failed.
        """
        names = tuple(dict.fromkeys(algorithms))
        wants = [Want(name, (self._object(one).id,)) for one in sorted(set(object_ids)) for name in names]
        with HashPool.beside_caller() as pool:
            found = hash_objects(self.image, wants, pool=pool, progress=progress)
        return {(want.objects[0], want.algorithm): digest for want, digest in found.items()}

    def commit(self, edit: Edit, now: datetime, check: Callable[[Sif], None] | None = None) -> None:
        """Change the image; once this returns, that will survive a crash of the machine.

        Args:
            edit: What changes; see `assembly` for what becomes of the header, the slots and the data.
            now: The moment that the image and its new objects bear, aware.
            check: Called with the image as it will be, before anything is written; what it raises leaves it as it was.

        Raises:
            SigningError: The edit is impossible, or the file cannot be written.
            BusyImageError: The image changed meanwhile, and is left as it is now.
            MalformedImageError: The image is such that nothing can be added.
            UnreadableImageError: Reading failed.
        """
        header = self.image.header
        table = reader.pread(self.fd, header.table_size, header.table_offset)
        self._compare(table)
        steps = plan_edit(self.image, table, edit, int(now.timestamp()))
        what = inplace.change(self.image, table, steps)
        data = {(offset, len(content)): content for offset, content in steps.data}
        # What we make must be an image by our own reader, before anyone else sees it.
        after = reader.read_as_edited(self.image, steps.header, steps.table[1], data, steps.size)
        if check is not None:
            check(after)
        with self._file.writing() as fd:
            self._compare(table)
            _carry_out(fd, what)

    def _object(self, object_id: int) -> Descriptor:
        found = self._objects.get(object_id)
        if found is None:
            raise SigningError(f"there is no data object {object_id} in {self.path}")
        return found

    def _compare(self, table: bytes) -> None:
        """Require that the file still holds what was read of it; its times are not enough."""
        now = reader.read(self.fd)
        header = now.header
        same = (header, now.descriptors) == (self.image.header, self.image.descriptors)
        if not same or reader.pread(now.fd, header.table_size, header.table_offset) != table:
            raise BusyImageError(f"{self.path} changed while it was read; try again when it is finished")


def _carry_out(fd: int, what: inplace.PreparedEdit) -> None:
    """Write, in a process that is not killed with this one."""
    try:
        write_detached(lambda: carry_out(fd, what))
    except WriterKilledError:
        recover(fd)
        if not is_done(fd, what):
            raise SigningError("the process that wrote into the image was killed; the image is as it was") from None


@contextmanager
def editing(
    path: str, *, timeout: float = LOCK_TIMEOUT, on_wait: Callable[[], None] | None = None
) -> Iterator[Editing]:
    """Open an image to edit it. Unless `Editing.commit` has returned, the image is as it was.

    Takes a lock against other editors, and undoes or finishes an edit that a crash interrupted.

    Args:
        path: Of the image, or of a symbolic link to it.
        timeout: How many seconds to wait for another eclctl that edits it.
        on_wait: Called once when another eclctl is waited for.

    Raises:
        MalformedImageError: It is no SIF image, or its structure contradicts itself.
        UnreadableImageError: There is no such file, or it cannot be read.
        UnsupportedFileError: It is no regular file.
        BusyImageError: It is being edited or written.
        SigningError: It cannot be written.
    """
    with open_locked(path, recover, timeout=timeout, on_wait=on_wait) as file:
        yield Editing(file)


def _notes(file: LockedFile) -> tuple[str, ...]:
    return () if file.recovered is None else (_RECOVERED[file.recovered],)


def prepare(path: str) -> tuple[str, ...]:
    """Undo or finish an edit that a crash interrupted, before the image is shown; return sentences about that.

    Raises as `editing` does when the image cannot be edited, unless it is for what is in it.
    """
    with open_locked(path, recover) as file:
        return _notes(file)
