"""Work in a process of its own: what it says, what reaches it, and what is known of it when it is killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eclctl.errors import BusyImageError, EclctlError, SigningError
from eclctl.sign.edit.detached_write import WriterKilledError, write_detached
from tests.helpers.support import ROOT


def test_it_is_done_elsewhere_and_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "done"
    write_detached(lambda: path.write_text(str(os.getpid())) and None)
    assert int(path.read_text()) != os.getpid()


@pytest.mark.parametrize("error", [SigningError("no room"), BusyImageError("in use")], ids=["signing", "busy"])
def test_what_it_raises_is_raised_here(error: EclctlError) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        write_detached(work)


def test_it_is_known_to_have_been_killed() -> None:
    with pytest.raises(WriterKilledError):
        write_detached(lambda: os.kill(os.getpid(), signal.SIGKILL))


def test_where_no_process_can_be_had_nothing_is_done_and_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", none_left)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(SigningError, match="Resource temporarily unavailable; the image is as it was"):
        write_detached(lambda: None)
    assert os.listdir("/proc/self/fd") == before


def test_a_mistake_in_it_is_not_taken_for_success() -> None:
    with pytest.raises(WriterKilledError):
        write_detached(lambda: 1 // 0 and None)


def test_a_process_that_ignores_the_end_of_children_is_told_all_the_same(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        write_detached((tmp_path / "done").touch)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert (tmp_path / "done").exists()


SCRIPT = """
import os, signal, sys
from pathlib import Path
from eclctl.sign.edit.detached_write import write_detached
folder, name = Path(sys.argv[1]), sys.argv[2]

def work():
    (folder / "begun").touch()
    os.killpg(os.getppid(), getattr(signal, name))  # as a terminal does, or a job's end
    os.kill(os.getpid(), signal.SIGTERM)
    while name == "SIGKILL" and os.getppid() == parent:
        pass
    (folder / "done").touch()

os.setpgid(0, 0)
parent = os.getpid()
write_detached(work)
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT", "SIGTERM", "SIGHUP"])
def test_what_ends_the_command_ends_it_when_the_work_is_done(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, tmp_path, name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read()  # ends when both have
    assert process.returncode == -getattr(signal, name)
    assert (tmp_path / "done").exists()
