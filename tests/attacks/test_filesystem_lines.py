"""attacks.md: file systems that a user brought, and that look like those that root has written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.support import ROOT
from tests.places.arena import ALICE, BOB, Arena, filesystems, needs_arena, needs_ext4
from tests.places.fuse_server import Entry
from tests.places.linux import MS_NODEV, MS_NOSUID, MS_RDONLY, MS_REMOUNT
from tests.places.policies import SANDBOXES

# A desktop service puts a loop device over what a user opened, under the name of a file of root's, and root mounts it.
LOOP = """
import json, os, socket, sys
from eclctl.files.trusted_filesystems import FilesystemJudge, Filesystems, SystemPaths
from eclctl.files.mounts import MountTable
from tests.places import linux

folder = sys.argv[1]
disks, point, mine = f"{folder}/disks", f"{folder}/point", f"{folder}/mine.img"
linux.unshare_mounts()
ours, theirs = socket.socketpair()
if not os.fork():
    linux.unshare_mounts()
    linux.mount("tmpfs", disks, "tmpfs")
    with open(mine, "rb") as source, open(f"{disks}/root.img", "xb") as image:
        image.write(source.read())
    with open(f"{disks}/root.img", "r+b") as image:
        socket.send_fds(theirs, [b"x"], [image.fileno()])
    theirs.recv(1)
    os._exit(0)
_, (backing,), _, _ = socket.recv_fds(ours, 1, 1)
device, descriptor = linux.loop_device(f"/proc/self/fd/{backing}")
linux.mount(device, point, "ext4")
os.makedirs(f"{folder}/dev/disk/by-label")
node = f"{folder}/dev/{os.path.basename(device)}"
os.mknod(node, 0o60600, os.stat(device).st_rdev)
os.symlink(node, f"{folder}/dev/disk/by-label/data")
for source in ("LABEL=data", node):
    with open(f"{folder}/fstab", "w") as fstab:
        fstab.write(f"{source} {point} ext4 defaults 0 0\\n")
    places = SystemPaths(fstab=f"{folder}/fstab", units=(), dev=f"{folder}/dev")
    mounts, trust = MountTable(FilesystemJudge(Filesystems(), frozenset({0}), frozenset({0, 6}), places)).current()
    found = mounts.at(point)
    print(json.dumps(None if trust.trusts(found) else trust.why_not(found)))
linux.umount(point)
ours.send(b"x")
"""


@needs_arena
@needs_ext4
@pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="needs loop devices")
def test_a_loop_device_over_what_a_user_opened_under_the_name_of_a_file_of_root_s_is_not_trusted(
    tmp_path: Path,
) -> None:
    for name in ("disks", "point"):
        (tmp_path / name).mkdir()
    for image in (tmp_path / "mine.img", tmp_path / "disks/root.img"):
        with image.open("wb") as file:
            file.truncate(1 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reasons = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(reasons) == 2
    assert all(reason is not None for reason in reasons), reasons


@needs_arena
@pytest.mark.parametrize("owner", [ALICE.uid, 0])
def test_what_a_user_mounted_before_a_file_system_became_read_only_is_not_vouched_for(arena: Arena, owner: int) -> None:
    library = arena.folder("images")
    arena.mount("tmpfs", library, "tmpfs", data="mode=755")
    arena.call(os.mkdir, f"{library}/point")
    tree = {"": Entry(), "box": Entry(), "box/file": Entry(b"content", uid=ALICE.uid)}
    arena.fuse(library / "point", tree, uid=owner, allow_other=True, flags=MS_NOSUID | MS_NODEV | MS_RDONLY)
    arena.mount("tmpfs", library, flags=MS_REMOUNT | MS_RDONLY)
    arena.start_daemon(SANDBOXES, filesystems(read_only=[library]))
    answer = arena.ask_as(BOB, library / "point/box")
    assert answer["assurance"] == ("none" if owner else "trusted-path"), answer
