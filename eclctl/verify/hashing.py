"""Digests of data objects: each object is read once, for all algorithms together.

Small objects are hashed on the spot, larger ones in parallel threads: hashlib and `preadv` both release the
interpreter's lock. The caller of a pool works as well, so a busy pool slows a verification and never stops it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias, TypeVar

from eclctl.errors import BusyImageError, UnreadableImageError
from eclctl.sif.reader import Descriptor, Sif, checked_size
from eclctl.signature.metadata import ALGORITHMS

if TYPE_CHECKING:
    from _hashlib import HASH
    from concurrent.futures import ThreadPoolExecutor

INLINE = 256 * 1024
"""Objects up to this many bytes are hashed on the spot."""

CHUNK = 512 * 1024
"""How much is read at a time, in bytes: what is hashed is then still in the processor's cache."""

Progress: TypeAlias = Callable[[int], None]
"""Is told how many bytes more are done."""

_Result = TypeVar("_Result")
_buffers = threading.local()


class Want(NamedTuple):
    """A digest that is needed: of the data of one object, or of several one after the other (legacy groups)."""

    algorithm: str
    objects: tuple[int, ...]


DigestCache: TypeAlias = dict[Want, bytes]
"""Digests found before in *the same content*; the keeper of one answers for that.

It lets a changed keyring be applied to a large image without reading the image again.
"""


class HashPool:
    """Threads that hash. One pool serves any number of verifications at once; close it when they are done."""

    def __init__(self, threads: int) -> None:
        """Take `threads`, at least 1, beside those that call."""
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    @classmethod
    def beside_caller(cls) -> Self:
        """Return a pool that, with the one thread that calls, keeps every processor busy."""
        return cls(max(1, (os.cpu_count() or 1) - 1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for running jobs and end the threads."""
        if self._executor is not None:
            self._executor.shutdown()

    def run(self, jobs: Sequence[Callable[[], _Result]]) -> list[_Result]:
        """Return the results of all jobs, in order; the first error ends it, when no job runs any more."""
        queue = deque(enumerate(jobs))
        results: dict[int, _Result] = {}

        def work() -> None:
            try:
                while queue:
                    number, job = queue.popleft()
                    results[number] = job()
            except IndexError:  # another thread took the last job
                return
            except BaseException:
                queue.clear()
                raise

        helpers = [self._started().submit(work) for _ in range(min(self._threads, len(jobs) - 1))]
        try:
            work()
        finally:
            # The image's descriptor must stay open for as long as a helper reads it.
            running = [helper for helper in helpers if not helper.cancel()]
            errors = [error for helper in running if (error := helper.exception()) is not None]
        if errors:
            raise errors[0]
        return [results[number] for number in range(len(jobs))]

    def _started(self) -> ThreadPoolExecutor:
        """Return the threads, which exist from the first time that there is work for them."""
        with self._starting:
            if self._executor is None:
                from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - small images need no threads

                self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="eclctl-hash")
            return self._executor


def hash_objects(
    sif: Sif,
    wants: Iterable[Want],
    *,
    pool: HashPool | None = None,
    known: DigestCache | None = None,
    progress: Progress | None = None,
) -> Mapping[Want, bytes]:
    """Return the wanted digests.

    Args:
        sif: The open image; every object ID of `wants` is in it.
        wants: In any order, with repetitions.
        pool: Hashes large objects in parallel; without one they follow each other.
        known: Digests of the same content found before; what is found is added.
        progress: Is told how many bytes more are read, from the thread that reads them.

    Raises:
        BusyImageError: The file became shorter.
        UnreadableImageError: Reading failed.
    """
    found: dict[Want, bytes] = {}
    groups: dict[tuple[int, ...], set[str]] = {}
    for want in wants:
        digest = known.get(want) if known is not None else None
        if digest is None:
            groups.setdefault(want.objects, set()).add(want.algorithm)
        else:
            found[want] = digest
    fresh = _hash_groups(sif, groups, pool, progress or (lambda _: None))
    if known is not None:
        known |= fresh
    return found | fresh


def hash_file(fd: int) -> tuple[int, str]:
    """Return the size of a file that is no SIF image, and `sha256:<hex>` over all of it.

    Raises:
        EclctlError: It cannot be read, is almost all holes, or becomes shorter meanwhile.
    """
    size = checked_size(fd)
    digest = hashlib.sha256()
    _hash_extent(fd, 0, size, [digest], lambda _: None)
    return size, f"sha256:{digest.hexdigest()}"


def _hash_groups(
    sif: Sif, groups: Mapping[tuple[int, ...], set[str]], pool: HashPool | None, progress: Progress
) -> dict[Want, bytes]:
    by_id = {descriptor.id: descriptor for descriptor in sif.descriptors}
    found: dict[Want, bytes] = {}
    jobs: list[tuple[int, Callable[[], dict[Want, bytes]]]] = []
    for ids, algorithms in groups.items():
        descriptors = [by_id[identity] for identity in ids]
        size = sum(descriptor.size for descriptor in descriptors)
        job = partial(_hash_group, sif, descriptors, algorithms, progress)
        if size <= INLINE:
            found |= job()
        else:
            jobs.append((size, job))
    jobs.sort(key=lambda job: -job[0])  # the largest first: it bounds how long all take
    calls = [call for _, call in jobs]
    for result in pool.run(calls) if pool is not None and len(calls) > 1 else (call() for call in calls):
        found |= result
    return found


def _hash_group(
    sif: Sif, descriptors: Sequence[Descriptor], algorithms: Iterable[str], progress: Progress
) -> dict[Want, bytes]:
    hashes = {name: ALGORITHMS[name]() for name in algorithms}
    for descriptor in descriptors:
        if descriptor.size <= INLINE or descriptor.id in sif.pending:  # pending: in no file yet
            data = sif.data(descriptor)
            for made in hashes.values():
                made.update(data)
            progress(len(data))
        else:
            _hash_extent(sif.fd, descriptor.offset, descriptor.size, tuple(hashes.values()), progress)
    ids = tuple(descriptor.id for descriptor in descriptors)
    return {Want(name, ids): made.digest() for name, made in hashes.items()}


def _hash_extent(fd: int, offset: int, size: int, hashes: Sequence[HASH], progress: Progress) -> None:
    """Add `size` bytes from `offset` to every hash, through one buffer a thread."""
    view = memoryview(_buffer())
    end = offset + size
    while offset < end:
        try:
            count = os.preadv(fd, [view[: min(CHUNK, end - offset)]], offset)
        except OSError as error:
            raise UnreadableImageError(f"cannot read the image: {error.strerror}") from error
        if count == 0:
            raise BusyImageError("the image changed while it was read: it has become shorter")
        chunk = view[:count]
        for made in hashes:
            made.update(chunk)
        progress(count)
        offset += count


def _buffer() -> bytearray:
    buffer: bytearray | None = getattr(_buffers, "buffer", None)
    if buffer is None:
        buffer = _buffers.buffer = bytearray(CHUNK)
    return buffer
