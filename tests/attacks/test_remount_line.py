"""attacks.md: a file system that becomes writable in the host's mount namespace, and not in the daemon's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.support import ROOT
from tests.places.arena import needs_arena

pytestmark = needs_arena

# The host's first process, and in a namespace of its own, as a service manager makes it, what a service sees.
HOST = """
import os, sys
from eclctl.files.mounts import MountTable
from tests.places import linux

MS_SHARED, MS_SLAVE = 1 << 20, 1 << 19
point, where = sys.argv[1:]
linux.unshare_mounts()
linux._check(linux._libc.unshare(0x20000000))  # CLONE_NEWPID
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
linux.mount("none", "/", flags=linux.MS_REC | MS_SHARED)
linux.mount("proc", "/proc", "proc")
linux.mount("tmpfs", point, "tmpfs")
linux.mount("none", point, flags=linux.MS_REMOUNT | linux.MS_RDONLY)
asked, ready = os.pipe(), os.pipe()
if not (service := os.fork()):
    linux._check(linux._libc.unshare(linux.CLONE_NEWNS))
    linux.mount("none", "/", flags=linux.MS_REC | MS_SLAVE)
    table = MountTable()
    mount = table.current()[0].at(point)
    print(mount.read_only, table.is_unchanging(mount.id))
    os.write(ready[1], b"x")
    os.read(asked[0], 1)
    print(where == "elsewhere" or table.current()[0].at(point).read_only, table.is_unchanging(mount.id))
    sys.exit(0)
os.read(ready[0], 1)
if not (other := os.fork()):
    if where == "elsewhere":
        linux.unshare_mounts()
    linux.mount("none", point, flags=linux.MS_REMOUNT)
    os._exit(0)
os.waitpid(other, 0)
os.write(asked[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(service, 0)[1]))
"""


def seen(point: Path, where: str) -> list[str]:
    """Return what a service sees of a read-only file system: whether it is that before and after it is remounted."""
    done = subprocess.run(
        [sys.executable, "-c", HOST, str(point), where],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_file_system_that_is_made_writable_in_the_host_s_namespace_is_writable_for_a_service(tmp_path: Path) -> None:
    assert seen(tmp_path, "here") == ["True", "True", "False", "False"]


def test_a_file_system_that_is_made_writable_elsewhere_may_change_for_a_service(tmp_path: Path) -> None:
    assert seen(tmp_path, "elsewhere") == ["True", "True", "True", "False"]
