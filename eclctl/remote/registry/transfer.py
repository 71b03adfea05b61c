"""Downloads and uploads of blobs: hashed as they pass, and resumed where they stopped.

A file is filled in the order of its offsets. Its length alone says how far an earlier download got: what is there is
hashed again before more is added. What stands before the first blob is written last, so that no reader takes the file
for an image before it is one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from eclctl.dataclass import dataclass
from eclctl.errors import RemoteError
from eclctl.files.atomic import write_at
from eclctl.remote.http.client import TransientError
from eclctl.remote.http.limits import CHUNK, TRIES
from eclctl.remote.registry.client import NoRangeError, Registry
from eclctl.sif.reader import pread

_PROGRESS: Final = 1 << 20  # after this many more bytes, tries count anew
_PART: Final = 1 << 18  # a blob is sent in parts of this size, each of which has to go within the time for no progress

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
class BlobSource:
    """A blob to send: `size` bytes of an open file from `offset` on, or `data`."""

    digest: str
    size: int
    fd: int = -1
    offset: int = 0
    data: bytes | None = None

    def read(self, start: int, size: int) -> bytes:
        """Return a part of the bytes; raises as `sif.reader.pread`."""
        if self.data is not None:
            return self.data[start : start + size]
        return pread(self.fd, size, self.offset + start)


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
            kept += _Download(registry, fd, piece, advance).run(max(0, min(there, piece.size)))
    os.ftruncate(fd, pieces[-1].offset + pieces[-1].size)
    os.fsync(fd)
    write_at(fd, head, 0)
    os.fsync(fd)
    return kept


class _Download:
    """One blob that is downloaded into the file."""

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
        self._hash_existing(there)
        if self._have == self._piece.size and not self._is_complete():
            self._start_over()
        self._kept = self._have
        self._fetch_rest()
        if not self._is_complete() and self._kept:
            # What was there was not the beginning of this blob: a page that a crash lost, or another file.
            self._start_over()
            self._fetch_rest()
        if not self._is_complete():
            self._start_over()
            raise RemoteError(f"{self._piece.digest}: the registry sent something else; nothing of it is kept")
        return self._kept

    def _hash_existing(self, there: int) -> None:
        for start in range(0, there, CHUNK):
            chunk = pread(self._fd, min(CHUNK, there - start), self._piece.offset + start)
            self._hash.update(chunk)
            self._have += len(chunk)
            self._advance(len(chunk))

    def _start_over(self) -> None:
        self._advance(-self._have)
        self._hash, self._have, self._kept = hashlib.sha256(), 0, 0
        os.ftruncate(self._fd, self._piece.offset)

    def _is_complete(self) -> bool:
        return f"sha256:{self._hash.hexdigest()}" == self._piece.digest

    def _fetch_rest(self) -> None:
        tried, at = 0, self._have
        while self._have < self._piece.size:
            try:
                self._registry.fetch_blob(self._piece.digest, self._piece.size, self._add, self._have)
            except NoRangeError:
                self._start_over()
            except TransientError as error:
                tried = 1 if self._have >= at + _PROGRESS else tried + 1
                at = self._have
                if tried >= TRIES:
                    raise
                self._registry.pause(tried - 1, error)

    def _add(self, part: bytes) -> None:
        write_at(self._fd, part, self._piece.offset + self._have)
        self._hash.update(part)
        self._have += len(part)
        self._advance(len(part))


class _Outgoing:
    """A blob that is sent, hashed as it goes.

    Attributes:
        hash: Of the bytes that were given out.
        sent: How many these are.
    """

    def __init__(self, source: BlobSource, advance: Advance) -> None:
        self._source = source
        self._advance = advance
        self.hash = hashlib.sha256()
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, self._source.size, _PART):
            part = self._source.read(start, min(_PART, self._source.size - start))
            self.hash.update(part)
            self.sent += len(part)
            self._advance(len(part))
            yield part

    def require_whole(self) -> None:
        """Require that all of the blob was given out, and that it has its digest.

        Raises:
            RemoteError: It is not so.
        """
        digest = self._source.digest
        if self.sent != self._source.size:
            raise RemoteError(f"{digest}: the registry stopped after {self.sent} of {self._source.size} bytes")
        if f"sha256:{self.hash.hexdigest()}" != digest:
            raise RemoteError(
                f"{digest}: what the image holds has another digest, and is not pushed. If it is a writable overlay, "
                "seal it first (singularity overlay seal or sync), and sign the result"
            )


def push_blob(registry: Registry, source: BlobSource, advance: Advance) -> bool:
    """Send a blob to a registry that does not have it; return whether it had to be sent.

    A blob that the registry has is hashed all the same: a push of a damaged file must not succeed.

    Raises:
        RemoteError: It did not arrive, or is not what its digest says.
    """
    if registry.has_blob(source.digest, source.size):
        blob = _Outgoing(source, advance)
        for _ in blob:
            pass
        blob.require_whole()
        return False
    registry.retry(lambda: _upload(registry, source, advance))
    return True


def _upload(registry: Registry, source: BlobSource, advance: Advance) -> None:
    blob = _Outgoing(source, advance)
    try:
        url = registry.begin_upload()
        if source.size:
            url = registry.send(url, blob, source.size)
        blob.require_whole()
        registry.end_upload(url, source.digest)
    except RemoteError:
        advance(-blob.sent)
        raise
