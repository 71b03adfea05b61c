"""A host whose mount table is recorded text, and whose fstab, units, sysfs and /dev lie in a folder of the test's.

What the test's user owns belongs to root there, and device nodes are plain files that lstat(2) is made to show as
nodes: so that all of it runs without root.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from eclctl.files.mounts import FilesystemTrust, Mounts, parse_mountinfo
from eclctl.files.trusted_filesystems import FilesystemJudge, Filesystems, SystemCalls, SystemPaths

ROOT = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"
DISK = 6
ALL_SETTLED = 2**62


def number(device: str) -> int:
    major, _, minor = device.partition(":")
    return os.makedev(int(major), int(minor))


def mounts_of(*lines: str) -> Mounts:
    mounts = parse_mountinfo("\n".join(lines))
    return Mounts(mounts, mounts[0], settled=True)


class Host:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fstab = folder / "etc/fstab"
        self.units = tuple(folder / name for name in ("etc/units", "run/units", "usr/units"))
        self.sysfs, self.dev = folder / "sys", folder / "dev"
        for each in (*self.units, self.sysfs / "dev/block", self.sysfs / "fs/btrfs", self.dev):
            each.mkdir(parents=True)
        self.fstab.write_text("")
        self.shown: dict[str, dict[str, Any]] = {}
        self.lists: set[str] = set()
        self.looked_at: list[str] = []
        self.clock: Callable[[], int] = lambda: ALL_SETTLED
        self._judge: FilesystemJudge | None = None

    # What there is on it.

    def write(self, path: Path | str, text: str = "") -> Path:
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def unit(self, name: str, text: str, directory: int = 0) -> Path:
        return self.write(self.units[directory] / name, text)

    def show(self, path: Path | str, **what: Any) -> None:
        """Have lstat show a file as another: `mode`, `uid`, `gid`, `rdev`."""
        self.shown.setdefault(str(self.folder / path), {}).update(what)

    def disk(self, name: str, device: str, *, below: tuple[str, ...] = (), part_of: str | None = None) -> Path:
        """Make a block device, as sysfs and /dev show it; return its directory in sysfs."""
        directory = self.sysfs / "devices" / (f"{part_of}/{name}" if part_of else name)
        directory.mkdir(parents=True)
        (directory / "dev").write_text(f"{device}\n")
        (directory / "uevent").write_text(f"MAJOR=8\nDEVNAME={name}\nDEVTYPE=disk\n")
        if part_of:
            (directory / "partition").write_text("1\n")
        else:
            (directory / "slaves").mkdir()
        for each in below:
            (directory / "slaves" / each).symlink_to(f"../../{each}")
        (self.sysfs / "dev/block" / device).symlink_to(os.path.relpath(directory, self.sysfs / "dev/block"))
        node = self.write(self.dev / name)
        self.show(node, mode=stat.S_IFBLK | 0o660, rdev=number(device), gid=DISK)
        return directory

    def named(self, by: str, name: str, node: str) -> None:
        """Name a device below /dev/disk."""
        link = self.dev / "disk" / f"by-{by}" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../{node}")

    def loop(self, name: str, device: str, file: Path | str) -> None:
        directory = self.disk(name, device)
        self.write(directory / "loop/backing_file", f"{file}\n")

    # Which file systems are trusted on it.

    def trust(self, *lines: str, words: Filesystems | None = None, root: str = ROOT) -> tuple[Mounts, FilesystemTrust]:
        mounts = mounts_of(root, *lines)
        places = SystemPaths(str(self.fstab), tuple(map(str, self.units)), str(self.sysfs), str(self.dev))
        if words is not None or self._judge is None:
            self._judge = FilesystemJudge(
                words or Filesystems(), frozenset({0}), frozenset({0, DISK}), places, self._system()
            )
        return mounts, self._judge(mounts)

    def objection(self, point: str, *lines: str, words: Filesystems | None = None, root: str = ROOT) -> str | None:
        """Why what is mounted on top at a point is not trusted, or None; `words` are new ones for a new host."""
        mounts, trust = self.trust(*lines, words=words, root=root)
        mount = mounts.at(point)
        assert mount is not None
        judged = mount.superblock in trust.trusted or mount.superblock in trust.vouched
        return None if judged else trust.why_not(mount)

    def _system(self) -> SystemCalls:
        return SystemCalls(self._lstat, lambda path: ["system.posix_acl_access"] * (path in self.lists), self._now)

    def _now(self) -> int:
        return self.clock()

    def _lstat(self, path: str) -> Any:
        self.looked_at.append(path)
        real = os.lstat(path)
        found = SimpleNamespace(**{name: getattr(real, name) for name in dir(real) if name.startswith("st_")})
        if real.st_uid == os.getuid():
            found.st_uid = 0
        for name, value in self.shown.get(path, {}).items():
            setattr(found, f"st_{name}", value)
        return found
