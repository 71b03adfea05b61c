"""Which file systems are trusted, with real loop devices, in a mount namespace of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.support import ROOT

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount"),
    pytest.mark.skipif(not Path("/dev/loop-control").exists(), reason="needs loop devices"),
    pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="needs mkfs.ext4"),
    pytest.mark.skipif(not shutil.which("losetup"), reason="needs losetup"),
]

# Runs in a mount namespace of its own: what it mounts, and the loop devices below, go with it.
SCRIPT = """
import json, os, subprocess, sys
from eclctl.files.trusted_filesystems import FilesystemJudge, Filesystems, SystemPaths
from eclctl.files.mounts import MountTable

folder, steps = sys.argv[1], json.loads(sys.argv[2])
places = SystemPaths(fstab=f"{folder}/fstab", units=(f"{folder}/units",))
table = MountTable(FilesystemJudge(Filesystems(), frozenset({0}), frozenset({0, 6}), places))
for step in steps:
    if isinstance(step, list):
        subprocess.run(step, check=True)
        continue
    table.forget()
    mounts, belief = table.current()
    found = mounts.at(step)
    trusted = found.superblock in belief.trusted
    print(json.dumps([mounts.settled, None if trusted else belief.why_not(found)]))
"""


class Disks:
    """Images of file systems in a folder, each with a directory of its name to mount it on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "units").mkdir()
        self.fstab = folder / "fstab"
        self.fstab.write_text("")

    def make(self, name: str, *, listed: str | None = None) -> tuple[str, str]:
        image, point = self.folder / f"{name}.img", self.folder / name
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(4 << 20)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        if listed is not None:
            self.fstab.write_text(f"{self.fstab.read_text()}{image} {point} ext4 loop,{listed} 0 0\n")
        return str(image), str(point)

    def reasons(self, *steps: list[str] | str) -> list[str | None]:
        """Run commands, and for each mount point among them return why what is there is not trusted."""
        command = ["unshare", "-m", "--propagation", "private", sys.executable, "-c", SCRIPT, str(self.folder)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [*command, json.dumps(steps)], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stdout.splitlines()]
        assert all(settled for settled, _ in found)
        return [reason for _, reason in found]


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Disks]:
    yield Disks(tmp_path)
    deadline = time.monotonic() + 30.0  # the kernel ends a mount namespace when it comes to it
    while str(tmp_path) in loops():
        assert time.monotonic() < deadline, loops()
        time.sleep(0.05)


def loops() -> str:
    return subprocess.run(["losetup", "-a"], capture_output=True, text=True, check=True).stdout


def mounted(image: str, point: str) -> list[str]:
    return ["mount", "-o", "loop", image, point]


def test_a_file_of_roots_that_fstab_lists_is_trusted_and_stays_so_when_it_is_bound(disks: Disks) -> None:
    image, point = disks.make("apps", listed="defaults")
    (disks.folder / "bound").mkdir()
    bound = str(disks.folder / "bound")
    assert disks.reasons(mounted(image, point), point, ["mount", "--bind", point, bound], bound) == [None, None]


def test_what_a_user_brings_as_udisks_mounts_it_is_not_trusted(disks: Disks) -> None:
    image, point = disks.make("stick")
    options = ["mount", "-o", "loop,nosuid,nodev", image, point]
    (reason,) = disks.reasons(["chown", "1000", image], options, point)
    assert reason == f"its file system (ext4 at {point}) is mounted by neither /etc/fstab nor a unit of root's"


def test_a_file_that_a_user_may_write_is_not_trusted_though_fstab_lists_it(disks: Disks) -> None:
    image, point = disks.make("apps", listed="defaults")
    reasons = disks.reasons(
        mounted(image, point),
        point,
        ["chown", "1000", image],
        point,
        ["chown", "0", image],
        ["chmod", "g+w", image],
        point,
        ["chmod", "g-w", image],
        point,
        ["mv", image, f"{image}.old"],
        ["cp", f"{image}.old", image],
        point,
        ["rm", f"{image}.old"],
        point,
    )
    assert [reasons[0], reasons[3]] == [None, None]
    assert f"{image} belongs to user 1000" in str(reasons[1])
    assert f"{image} can be written by others (mode 0664)" in str(reasons[2])
    assert "lists another source there" in str(reasons[4])
    assert "(deleted) does not exist" in str(reasons[5])


def test_an_entry_for_users_is_not_trusted(disks: Disks) -> None:
    image, point = disks.make("apps", listed="user")
    (reason,) = disks.reasons(mounted(image, point), point)
    assert "lets users mount it (option user)" in str(reason)


def test_a_file_inside_of_what_a_user_brought_is_not_trusted(disks: Disks) -> None:
    outer, outer_point = disks.make("outer")
    inner, point = disks.make("inner")
    disks.fstab.write_text(f"{outer_point}/inner.img {point} ext4 loop 0 0\n")
    steps = [mounted(outer, outer_point), ["cp", "--sparse=always", inner, f"{outer_point}/inner.img"]]
    (reason,) = disks.reasons(*steps, mounted(f"{outer_point}/inner.img", point), point, ["umount", point])
    assert f"lies on a file system that is not trusted: ext4 at {outer_point}" in str(reason)


def test_a_mount_unit_is_trusted_and_one_with_drop_ins_is_not(disks: Disks) -> None:
    image, point = disks.make("apps")
    name = point.strip("/").replace("-", "\\x2d").replace("/", "-")
    (disks.folder / "units" / f"{name}.mount").write_text(f"[Mount]\nWhat={image}\nWhere={point}\nOptions=loop\n")
    drop_in = ["mkdir", f"{disks.folder}/units/{name}.mount.d"]
    reasons = disks.reasons(mounted(image, point), point, drop_in, point)
    assert reasons[0] is None
    assert "has drop-ins" in str(reasons[1])


def test_a_tmpfs_that_is_listed_is_trusted_until_something_lies_over_it(disks: Disks) -> None:
    _, point = disks.make("tmp")
    disks.fstab.write_text(f"tmpfs {point} tmpfs size=1m 0 0\n")
    tmpfs = ["mount", "-t", "tmpfs", "tmpfs", point]
    reasons = disks.reasons(tmpfs, point, ["mount", "-t", "ramfs", "x", point], point)
    assert reasons[0] is None
    assert "(ramfs at" in str(reasons[1])
