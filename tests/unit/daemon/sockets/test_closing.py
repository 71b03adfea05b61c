"""Descriptors from clients are closed where a close that waits stops no other work."""

import os
import threading

import pytest

from eclctl.daemon.background.workers import Workers
from eclctl.daemon.sockets.closing import Closer
from eclctl.files.mounts import MountTable


class HeldWorkers(Workers):
    """Threads that begin when the test says so, as if an earlier close hung."""

    def __init__(self):
        super().__init__("close", 1)
        self.go = threading.Event()
        super().submit("hung", lambda: self.go.wait(20), gates=())


@pytest.fixture
def closer():
    mounts, workers = MountTable(), HeldWorkers()
    yield Closer(mounts, workers), workers
    workers.go.set()
    workers.stop()
    mounts.close()


def is_open(descriptor):
    return os.path.exists(f"/proc/self/fd/{descriptor}")


def test_a_local_file_is_closed_at_once(closer, tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    closer[0].close(1000, descriptor)
    assert not is_open(descriptor)
    assert closer[0].waiting(1000) == 0


def test_anything_else_waits_for_a_thread_and_is_counted(closer):
    reader, writer = os.pipe()
    closer[0].close(1000, reader)
    assert is_open(reader)
    assert closer[0].waiting(1000) == 1
    closer[1].go.set()
    done = threading.Event()
    closer[1].submit(1000, done.set)
    assert done.wait(20)
    assert not is_open(reader)
    os.close(writer)
