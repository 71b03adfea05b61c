"""With whose rights a daemon opens what others pass, when it is not root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eclctl.daemon.sockets.permissions import asker_of
from eclctl.errors import UnsupportedFileError
from eclctl.files.locating import Locator
from eclctl.files.mounts import MountTable
from eclctl.model import Caller

DAEMON, STRANGER = 4242, 4343


def opens(path: Path, peer: int) -> bool:
    """Whether a daemon that runs as a user opens an O_PATH descriptor that a peer passed."""
    caller = Caller(peer, peer, frozenset({peer}))
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(DAEMON, DAEMON, DAEMON)
            os.setresuid(DAEMON, DAEMON, DAEMON)
            locator = Locator(MountTable(), frozenset({0}))
            descriptor = os.open(path, os.O_PATH)
            locator.by_descriptor(str(path), descriptor, anywhere=True, asker=asker_of(caller, caller))
        except UnsupportedFileError:
            os._exit(1)
        except BaseException:  # noqa: BLE001 - it ends here
            os._exit(2)
        os._exit(0)
    return {0: True, 1: False}[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
def test_a_daemon_that_is_not_root_opens_nothing_of_its_own_for_others(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents):
        if str(directory) not in {"/", "/tmp"}:
            directory.chmod(0o755)
    path = tmp_path / "private.sif"
    path.write_text("content")
    path.chmod(0o600)
    os.chown(path, DAEMON, DAEMON)
    assert opens(path, DAEMON)
    assert not opens(path, STRANGER)
