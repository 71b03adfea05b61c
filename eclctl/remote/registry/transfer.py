"""Blobs on their way between a registry and a file: hashed as they pass, continued where they stopped.

A file is filled in the order of its offsets, and its length is all that is remembered of how far that got: what is
there is hashed again before it is built upon. What stands before the first blob is written last, so that nothing takes
a file for an image before it is one.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from eclctl.errors import RemoteError
from eclctl.files.atomic import write_at
from eclctl.remote.http.limits import CHUNK, TRIES
from eclctl.remote.registry.client import NoRangeError, Registry
from eclctl.remote.registry.session import TransientError
from eclctl.sif.reader import pread

__all__ = ["Piece", "Source", "fill", "push_blob"]

_PROGRESS: Final = 1 << 20  # this many bytes more are progress, after which tries count anew

Advance = Callable[[int], None]


class Piece(Protocol):
    """A blob and where it goes in a file. `data` is None for one that is to be fetched."""

    @property
    def digest(self) -> str: ...  # noqa: D102 - a field

    @property
    def size(self) -> int: ...  # noqa: D102

    @property
    def offset(self) -> int: ...  # noqa: D102

    @property
    def data(self) -> bytes | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Source:
    """A blob that can be read: `size` bytes of an open file from `offset` on, or `data`."""

    digest: str
    size: int
    fd: int = -1
    offset: int = 0
    data: bytes | None = None

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes, at most 1 MiB at a time; raises as `sif.reader.pread`."""
        if self.data is not None:
            yield self.data
            return
        for start in range(0, self.size, CHUNK):
            yield pread(self.fd, min(CHUNK, self.size - start), self.offset + start)


def fill(registry: Registry, fd: int, pieces: Sequence[Piece], head: bytes, advance: Advance) -> int:
    """Fill an open file with blobs, and write what stands before them.

    Args:
        registry: where they are.
        fd: open for reading and writing, perhaps with a part of them, or with anything else.
        pieces: the blobs by offset; the first follows `head` at once, and each the one before.
        head: what stands at the beginning.
        advance: is told of bytes that are done.

    Returns:
        How many bytes of what was there were kept.

    Raises:
        RemoteError: not everything could be had; what could is in the file.
        OSError: writing failed.
    """
    kept = 0
    write_at(fd, bytes(len(head)), 0)
    for piece in pieces:
        there = os.fstat(fd).st_size - piece.offset
        if piece.data is not None:
            write_at(fd, piece.data, piece.offset)
            advance(piece.size)
        else:
            kept += _Fetching(registry, fd, piece, advance).run(max(0, min(there, piece.size)))
    os.ftruncate(fd, pieces[-1].offset + pieces[-1].size)
    os.fsync(fd)
    write_at(fd, head, 0)
    os.fsync(fd)
    return kept


class _Fetching:
    """One blob on its way into the file."""

    def __init__(self, registry: Registry, fd: int, piece: Piece, advance: Advance) -> None:
        self._registry = registry
        self._fd = fd
        self._piece = piece
        self._advance = advance
        self._hash = hashlib.sha256()
        self._have = 0
        self._kept = 0

    def run(self, there: int) -> int:
        """Fetch what is missing; return how many of the bytes that were there were kept."""
        self._recall(there)
        if self._have == self._piece.size and not self._right():
            self._again()
        self._kept = self._have
        self._fetch()
        if not self._right() and self._kept:
            # What was there was not the beginning of this blob: a page that a crash lost, or somebody else's.
            self._again()
            self._fetch()
        if not self._right():
            self._again()
            raise RemoteError(f"{self._piece.digest}: the registry sent something else; nothing of it is kept")
        return self._kept

    def _recall(self, there: int) -> None:
        for start in range(0, there, CHUNK):
            chunk = pread(self._fd, min(CHUNK, there - start), self._piece.offset + start)
            self._hash.update(chunk)
            self._have += len(chunk)
            self._advance(len(chunk))

    def _again(self) -> None:
        self._advance(-self._have)
        self._hash, self._have, self._kept = hashlib.sha256(), 0, 0
        os.ftruncate(self._fd, self._piece.offset)

    def _right(self) -> bool:
        return f"sha256:{self._hash.hexdigest()}" == self._piece.digest

    def _fetch(self) -> None:
        tried, at = 0, self._have
        while self._have < self._piece.size:
            try:
                self._stream()
            except NoRangeError:
                self._again()
            except TransientError as error:
                tried = 1 if self._have >= at + _PROGRESS else tried + 1
                at = self._have
                if tried >= TRIES:
                    raise
                self._registry.pause(tried - 1, error)

    def _stream(self) -> None:
        with contextlib.closing(self._registry.blob(self._piece.digest, self._piece.size, self._have)) as chunks:
            for chunk in chunks:
                write_at(self._fd, chunk, self._piece.offset + self._have)
                self._hash.update(chunk)
                self._have += len(chunk)
                self._advance(len(chunk))


class _Body:
    """A blob as requests sends it, hashed as it goes."""

    def __init__(self, source: Source, advance: Advance) -> None:
        self._chunks = source.chunks()
        self._size = source.size
        self._rest = b""
        self._advance = advance
        self.hash = hashlib.sha256()
        self.sent = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        while chunk := self.read(CHUNK):
            yield chunk

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, b"" at the end."""
        if not self._rest:
            self._rest = next(self._chunks, b"")
        part, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        self.hash.update(part)
        self.sent += len(part)
        self._advance(len(part))
        return part


def push_blob(registry: Registry, source: Source, advance: Advance) -> bool:
    """Send a blob to a registry that has not got it; return whether it had to be sent.

    What need not be sent is hashed all the same: nobody is to believe of a damaged file that it was pushed.

    Raises:
        RemoteError: it did not get there, or is not what its digest says.
    """
    if registry.has_blob(source.digest, source.size):
        body = _Body(source, advance)
        for _ in body:
            pass
        _require_right(source, body)
        return False
    registry.patiently(lambda: _upload(registry, source, advance))
    return True


def _upload(registry: Registry, source: Source, advance: Advance) -> None:
    body = _Body(source, advance)
    try:
        _send(registry, source, body)
    except RemoteError:
        advance(-body.sent)
        raise


def _send(registry: Registry, source: Source, body: _Body) -> None:
    place = registry.begin_upload()
    if source.size:
        place = registry.send(place, body, source.size)
    if body.sent != source.size:
        raise RemoteError(f"{source.digest}: the registry stopped after {body.sent} of {source.size} bytes")
    _require_right(source, body)
    registry.end_upload(place, source.digest)


def _require_right(source: Source, body: _Body) -> None:
    if f"sha256:{body.hash.hexdigest()}" != source.digest:
        raise RemoteError(
            f"{source.digest}: what the image holds has another digest, and is not pushed. If it is a writable "
            "overlay, seal it first (singularity overlay seal or sync), and sign the result"
        )
