"""Copying a file of any size in constant memory, and hashing parts of the copy while it is being made.

One thread fills the copy, another follows it and hashes: what is hashed is read from the copy, so it is what the copy
holds, and it is read so soon that it comes out of memory. The filler is never far ahead, for the same reason.
Where the file system can share blocks, the copy is there at once. Holes stay holes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from eclctl.errors import BusyImageError, SigningError, UnreadableImageError
from eclctl.sign import system

__all__ = ["Extent", "Progress", "copy", "digests"]

Progress = Callable[[int], None]
"""Is told how many bytes more are done."""

_STEP = 4 << 20
"""How much is copied at a time, in bytes."""

_LEAD = 64 << 20
"""How far ahead of the hashing the copying may be, in bytes."""

_CHUNK = 256 << 10
"""How much is hashed at a time, in bytes: it fits the processor's cache."""

_NO_COPY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF})


class Extent(NamedTuple):
    """A part of a file to hash: where, how many bytes, and with which of hashlib's algorithms."""

    offset: int
    size: int
    algorithms: tuple[str, ...]


def copy(
    source: int, target: int, size: int, extents: Sequence[Extent], progress: Progress | None
) -> list[Mapping[str, bytes]]:
    """Make an empty file a copy of the first `size` bytes of another, and return the digests of parts of it.

    The extents do not overlap. Progress adds up to `size`.

    Raises:
        SigningError: The copy cannot be written.
        BusyImageError: The source became shorter.
        UnreadableImageError: The source cannot be read.
    """
    with _Filler(source, target, size) as filler:
        made = _follow(filler, target, extents, _Position(progress))
        filler.wait(size)
    return made


def digests(fd: int, extents: Iterable[Extent]) -> list[Mapping[str, bytes]]:
    """Return the digests of parts of a file that is complete.

    Raises as `copy` does.
    """
    return [_digest(fd, extent, lambda _: None) for extent in extents]


def _follow(filler: _Filler, target: int, extents: Sequence[Extent], position: _Position) -> list[Mapping[str, bytes]]:
    made: dict[int, Mapping[str, bytes]] = {}
    sure = 0

    def reach(offset: int) -> None:
        nonlocal sure
        while position.at < offset:
            step = min(offset, position.at + _STEP)
            if step > sure:
                sure = min(filler.wait(step), step + _STEP)
            position.move(step)

    for number, extent in sorted(enumerate(extents), key=lambda item: item[1].offset):
        reach(extent.offset)
        made[number] = _digest(target, extent, reach)
    reach(filler.size)
    return [made[number] for number in range(len(extents))]


def _digest(fd: int, extent: Extent, before: Callable[[int], None]) -> Mapping[str, bytes]:
    """Hash an extent; `before` is called with where the next chunk ends, before it is read."""
    hashes = {name: hashlib.new(name) for name in extent.algorithms}
    view = memoryview(bytearray(min(_CHUNK, extent.size)))
    at, end = extent.offset, extent.offset + extent.size
    while at < end:
        want = min(_CHUNK, end - at)
        before(at + want)
        count = _read(fd, view[:want], at)
        for made in hashes.values():
            made.update(view[:count])
        at += count
    return {name: made.digest() for name, made in hashes.items()}


def _read(fd: int, view: memoryview, offset: int) -> int:
    try:
        count = os.preadv(fd, [view], offset)
    except OSError as error:
        raise UnreadableImageError(f"cannot read the image: {error.strerror}") from error
    if count == 0:
        raise BusyImageError("the image changed while it was copied: it has become shorter")
    return count


class _Position:
    """How far the work is, and who wants to know."""

    def __init__(self, progress: Progress | None) -> None:
        self.at = 0
        self._progress = progress

    def move(self, to: int) -> None:
        if self._progress is not None:
            self._progress(to - self.at)
        self.at = to


class _Filler:
    """Fills a copy in a thread of its own, unless it is there at once."""

    def __init__(self, source: int, target: int, size: int) -> None:
        self.size = size
        self._source, self._target = source, target
        self._moved = threading.Condition()
        self._filled = 0
        self._wanted = 0  # where the follower is
        self._error: Exception | None = None
        self._stop = False
        self._in_kernel = True
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            if system.clone(self._source, self._target) and os.fstat(self._target).st_size >= self.size:
                self._filled = self.size
            os.ftruncate(self._target, self.size)  # a hole at the end is nothing that would be written
        except OSError as error:
            raise _cannot_write(error) from error
        if self._filled < self.size:
            self._thread = threading.Thread(target=self._fill, name="eclctl-copy", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._moved:
            self._stop = True
            self._moved.notify_all()
        if self._thread is not None:
            self._thread.join()

    def wait(self, upto: int) -> int:
        """Wait until the copy holds everything before `upto`; return up to where it does.

        Raises what kept the copy from that.
        """
        with self._moved:
            self._wanted = upto
            self._moved.notify_all()
            while self._filled < upto and self._error is None:
                self._moved.wait()
            if self._error is not None:
                raise self._error
            return self._filled

    def _fill(self) -> None:
        try:
            with suppress(OSError):  # advice only
                os.posix_fadvise(self._source, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            at = 0
            while at < self.size and self._may_go_on(at):
                at = self._advance(at)
        except OSError as error:
            self._fail(_cannot_write(error))
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        with self._moved:
            self._error = error
            self._moved.notify_all()

    def _may_go_on(self, at: int) -> bool:
        """Tell how far the copy is, and wait until the follower is near enough; say whether anyone still wants it."""
        with self._moved:
            self._filled = at
            self._moved.notify_all()
            while at - self._wanted > _LEAD and not self._stop:
                self._moved.wait()
            return not self._stop

    def _advance(self, at: int) -> int:
        """Copy one step, or pass over a hole; return where the next begins."""
        data, hole = _next_data(self._source, at, self.size)
        if data > at:
            return self._done(data)
        count = self._copy(at, min(_STEP, hole - at))
        system.start_writing_back(self._target, at, count)
        return self._done(at + count)

    def _done(self, at: int) -> int:
        if at >= self.size:
            with self._moved:
                self._filled = self.size
                self._moved.notify_all()
        return at

    def _copy(self, at: int, size: int) -> int:
        if self._in_kernel:
            try:
                count = os.copy_file_range(self._source, self._target, size, at, at)
            except OSError as error:
                if error.errno not in _NO_COPY_RANGE:
                    raise
                count = 0
            if count:
                return count
            self._in_kernel = False  # some file systems copy nothing and say so by 0; reading tells
        return self._copy_through(at, size)

    def _copy_through(self, at: int, size: int) -> int:
        view = memoryview(bytearray(min(size, _STEP)))
        count = _read(self._source, view, at)
        written = 0
        while written < count:
            written += os.pwrite(self._target, view[written:count], at + written)
        return count


def _next_data(fd: int, at: int, size: int) -> tuple[int, int]:
    """Return where the next data begins and ends (lseek, SEEK_DATA); both `size` when there is none."""
    try:
        data = os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        return at, size  # a file system that does not tell
    if data >= size:
        return size, size
    return data, min(size, os.lseek(fd, data, os.SEEK_HOLE))


def _cannot_write(error: OSError) -> SigningError:
    return SigningError(f"cannot make a copy of the image beside it: {error.strerror}; the image is as it was")
