"""Looking at files with the rights of others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from eclctl.files.syscalls import Credentials, assumed
from tests.helpers.support import ROOT

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
STRANGER = Credentials(12345, 12346, frozenset({12347}))


def readable(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return False
    return True


@pytest.fixture
def private(tmp_path: Path) -> Path:
    for directory in (tmp_path, *tmp_path.parents):
        if str(directory) not in {"/", "/tmp"}:
            directory.chmod(0o755)
    path = tmp_path / "private"
    path.write_text("content")
    path.chmod(0o600)
    return path


def test_roots_powers_over_files_are_gone_and_come_back(private: Path) -> None:
    with assumed(STRANGER):
        assert not readable(private)
    assert readable(private)


@pytest.mark.parametrize(("uid", "gid", "mode"), [(12345, 0, 0o400), (0, 12346, 0o040), (0, 12347, 0o040)])
def test_user_group_and_supplementary_groups_are_those_given(private: Path, uid: int, gid: int, mode: int) -> None:
    os.chown(private, uid, gid)
    private.chmod(mode)
    with assumed(STRANGER):
        assert readable(private)
    with assumed(Credentials(54321, 54321)):
        assert not readable(private)


def test_no_group_of_roots_own_is_left(private: Path) -> None:
    os.chown(private, 1, 0)
    private.chmod(0o040)
    with assumed(STRANGER):
        assert not readable(private)


def test_an_error_inside_gives_them_back(private: Path) -> None:
    with pytest.raises(KeyError), assumed(STRANGER):
        raise KeyError
    assert readable(private)


def test_no_other_thread_has_them(private: Path) -> None:
    found: list[bool] = []
    with assumed(STRANGER):
        thread = threading.Thread(target=lambda: found.append(readable(private)))
        thread.start()
        thread.join()
        assert not readable(private)
    assert found == [False]


def test_nothing_is_assumed_without_credentials(private: Path) -> None:
    with assumed(None):
        assert readable(private)


def test_credentials_that_the_kernel_does_not_take_raise_and_change_nothing(private: Path) -> None:
    with pytest.raises(PermissionError), assumed(Credentials(0xFFFFFFFF, 1)):
        pass
    assert readable(private)


def test_no_set_of_groups_is_remembered() -> None:
    """A user with a range of subordinate gids can come with another set each time."""
    tracemalloc.start()
    try:
        for first in range(50):
            with assumed(Credentials(12345, 12345, frozenset(range(100_000 + first, 110_000 + first)))):
                pass
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


TRIED = """
from eclctl.files.syscalls import Credentials, assumed
try:
    with assumed(Credentials(12345, 12346, frozenset({12347}))):
        print("assumed")
except PermissionError:
    print("refused")
open("/etc/shadow").close()
print("goes on")
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
@pytest.mark.parametrize("missing", ["setgid", "setuid"])
def test_a_process_that_may_not_change_its_rights_is_refused_and_goes_on(missing: str) -> None:
    command = ["setpriv", f"--bounding-set=-{missing}", sys.executable, "-c", TRIED]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "refused\ngoes on\n", "")
