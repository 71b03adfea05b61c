"""A large file without a name is closed last by a process of its own, which nobody waits for and nothing is left of."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from eclctl.sign import release
from eclctl.sign.release import LARGE, leave_to_another

PATIENCE = 60.0


def waiting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "eclctl-release"]


@pytest.fixture
def nameless(tmp_path):
    path = tmp_path / "former"
    path.write_bytes(b"former")
    fd = os.open(path, os.O_RDONLY)
    path.unlink()
    yield fd
    os.close(fd)


def test_the_process_is_reaped(nameless):
    leave_to_another(nameless, LARGE)
    for thread in waiting():
        thread.join(PATIENCE)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_for_a_small_file_there_is_none(nameless):
    leave_to_another(nameless, LARGE - 1)
    assert not waiting()


def test_without_the_program_nothing_happens(nameless, monkeypatch):
    monkeypatch.setattr(release, "_PROGRAM", "/nonexistent")
    leave_to_another(nameless, LARGE)
    assert not waiting()


def test_it_has_the_file_and_none_of_our_pipes(tmp_path):
    """Whoever reads our output would otherwise wait for it."""
    program = (
        "import os, sys, threading; from eclctl.sign import release\n"
        f"release._PROGRAM = {str(tmp_path / 'holder')!r}\n"
        f"fd = os.open({str(tmp_path / 'file')!r}, os.O_RDONLY)\n"
        "release.leave_to_another(fd, release.LARGE)\n"
        "[thread.join(60) for thread in threading.enumerate() if thread.name == 'eclctl-release']\n"
    )
    (tmp_path / "file").write_bytes(b"content")
    holder = tmp_path / "holder"
    holder.write_text(f"#!/bin/sh\nls -l /proc/self/fd > {tmp_path}/held\n")
    holder.chmod(0o755)
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    held = (tmp_path / "held").read_text()
    assert str(tmp_path / "file") in held
    assert "pipe:" not in held
