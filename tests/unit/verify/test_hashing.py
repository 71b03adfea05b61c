"""Objects are hashed once for all that ask, in parallel, and an error ends it when nothing runs any more."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from eclctl.errors import UnreadableImageError
from eclctl.sif import reader
from eclctl.verify.hashing import INLINE, DigestCache, HashPool, Want, hash_objects
from tests.helpers.sifbuilder import SifBuilder, opened


def image():
    builder = SifBuilder()
    for size in (10, INLINE, INLINE + 1, 3_500_000):
        builder.add(os.urandom(size))
    return builder


def digest(name, *parts):
    return hashlib.new(name, b"".join(parts)).digest()


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_digests_of_objects_and_of_sequences_are_right(threads):
    builder = image()
    parts = [entry.data for entry in builder.entries]
    wants = {Want(name, (number + 1,)): digest(name, part) for number, part in enumerate(parts) for name in NAMES}
    wants[Want("sha512", (1, 2, 3, 4))] = digest("sha512", *parts)
    wants[Want("sha256", (4, 1))] = digest("sha256", parts[3], parts[0])
    with opened(builder) as fd:
        if threads:
            with HashPool(threads) as pool:
                found = hash_objects(reader.read(fd), wants, pool=pool)
        else:
            found = hash_objects(reader.read(fd), wants)
    assert found == wants


NAMES = ("sha224", "sha256", "sha384", "sha512", "sha512_224", "sha512_256")


def test_an_object_is_read_once_for_all_its_algorithms(monkeypatch):
    read = []
    real = os.preadv

    def counting(fd, buffers, offset):
        count = real(fd, buffers, offset)
        read.append(count)
        return count

    with opened(image()) as fd:
        opened_image = reader.read(fd)
        monkeypatch.setattr(os, "preadv", counting)
        hash_objects(opened_image, [Want(name, (4,)) for name in NAMES] * 3)
    assert sum(read) == 3_500_000


def test_a_cache_is_asked_first_and_filled():
    known = DigestCache()
    want, other = Want("sha256", (1,)), Want("sha256", (2,))
    known[want] = b"known"
    with opened(image()) as fd:
        found = hash_objects(reader.read(fd), [want, other], known=known)
    assert found[want] == b"known"
    assert known.get(other) == found[other]


def test_a_pool_gives_results_in_order_whoever_did_the_work():
    with HashPool(2) as pool:
        assert pool.run([lambda number=number: number for number in range(50)]) == list(range(50))
        assert pool.run([]) == []


def test_a_pool_that_is_busy_does_not_stop_the_caller():
    with HashPool(1) as pool:
        release, started = threading.Event(), threading.Event()

        def block():
            started.set()
            release.wait(10)

        blocker = threading.Thread(target=pool.run, args=([block, block],))
        blocker.start()
        assert started.wait(10)
        assert pool.run([lambda: 1, lambda: 2]) == [1, 2]
        release.set()
        blocker.join()


def test_the_first_error_is_raised_after_every_job_has_ended():
    ended = threading.Event()
    entered = threading.Event()

    def fail():
        entered.wait(10)
        raise UnreadableImageError("broken")

    def slow():
        entered.set()
        ended.wait(0.05)
        ended.set()

    with HashPool(2) as pool, pytest.raises(UnreadableImageError):
        pool.run([fail, slow])
    assert ended.is_set()


def test_a_closed_descriptor_is_unreadable():
    with opened(image()) as fd:
        copy = os.dup(fd)
        opened_image = reader.read(copy)
        os.close(copy)
        with pytest.raises(UnreadableImageError):
            hash_objects(opened_image, [Want("sha256", (4,))])
