"""What is mounted where: which paths may be touched without fear of a stall, and what a file system's word is worth.

The table is read from /proc/self/mountinfo, which the kernel marks as changed (poll), so it need not be stale.
"""

from __future__ import annotations

import os
import re
import select
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

# File systems whose operations end without any other machine or process having to answer.
LOCAL = frozenset(
    {"bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "nilfs2", "overlay", "ramfs"}
    | {"rootfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs"}
)
# Kernel clients of network file systems: slow, but their ownership and change times come from the server's kernel.
NETWORK = frozenset({"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "pvfs2", "smb3", "smbfs"})

_MAX_REMEMBERED = 4096
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: where, what, and whether the file system itself (not just this mount) is read-only.

    `local` is whether touching it never waits for another machine. `honest` is whether its ownership, modes and times
    are a kernel's word: not those of FUSE, where any process may lie.
    """

    point: str
    device: int
    type: str
    read_only: bool
    local: bool = field(init=False)
    honest: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "local", self.type in LOCAL)
        object.__setattr__(self, "honest", self.type in LOCAL or self.type in NETWORK)


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Parse /proc/self/mountinfo (proc(5)), later mounts last; lines of another shape are left out."""
    return tuple(mount for line in text.splitlines() if (mount := _parse_line(line)) is not None)


def _parse_line(line: str) -> Mount | None:
    left, dash, right = line.partition(" - ")
    fields, tail = left.split(" "), right.split(" ")
    if not dash or len(fields) < 6 or len(tail) < 3:  # noqa: PLR2004 - the fields that proc(5) always gives
        return None
    major, _, minor = fields[2].partition(":")
    point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
    super_options = tail[2].split(",")
    return Mount(point, os.makedev(int(major), int(minor)), tail[0], "ro" in super_options)


class Crossing(NamedTuple):
    """The mounts that a path crosses, root first, and what all of them are."""

    mounts: tuple[Mount, ...]
    local: bool
    honest: bool


class MountTable:
    """The mounts of this process's namespace.

    `refresh` reads them again when the kernel says that they changed.
    """

    def __init__(self, trusted: frozenset[str] = frozenset()) -> None:
        """Open the table. `trusted` are mount points whose read-only file systems an admin vouches for (CVMFS)."""
        self._trusted = tuple(trusted)
        self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLERR | select.POLLPRI)
        self._lock = threading.Lock()
        self._read()

    def close(self) -> None:
        """Give back the descriptor."""
        os.close(self._file)

    def refresh(self) -> None:
        """See to it that the table is as the kernel's."""
        if self._poll.poll(0):
            self._read()

    def covering(self, path: str) -> Crossing:
        """Return the mounts that an absolute, normalised path crosses."""
        directory = path.rpartition("/")[0]
        crossed = self._crossed.get(directory)
        if crossed is None:
            if len(self._crossed) >= _MAX_REMEMBERED:
                self._crossed.clear()
            crossed = self._crossed[directory] = _crossing(self._above(directory))
        own = self._points.get(path)
        return crossed if own is None or path == "/" else _crossing((*crossed.mounts, own))

    def _above(self, directory: str) -> tuple[Mount, ...]:
        """Return the mounts at the root, the directory and all between."""
        parts = directory.split("/")
        points = ["/", *("/".join(parts[:count]) for count in range(2, len(parts) + 1))]
        return tuple(self._points[point] for point in points if point in self._points)

    def local(self, path: str) -> bool:
        """Whether opening this path cannot wait for another machine (symbolic links aside). Refreshes first."""
        self.refresh()
        return self.covering(path).local

    def local_device(self, device: int) -> bool:
        """Whether a device number is that of a local file system mounted in this namespace."""
        return device in self._local_devices

    def vouched(self, mount: Mount) -> bool:
        """Whether a read-only file system lies at or below a mount point that the admin trusts.

        Only root can mount on a directory that others cannot write, and on such a file system nobody can write one.
        """
        inside = any(mount.point == point or mount.point.startswith(point.rstrip("/") + "/") for point in self._trusted)
        return inside and mount.read_only

    def trustworthy(self, path: str, owned: bool) -> bool:  # noqa: FBT001 - every decision asks
        """Whether a file at this path, which `owned` says only trusted owners can write, is what it seems to be."""
        crossing = self.covering(path)
        if self._trusted and crossing.mounts and self.vouched(crossing.mounts[-1]):
            return True
        return owned and crossing.honest

    def _read(self) -> None:
        with self._lock:
            chunks = []
            offset = 0
            while chunk := os.pread(self._file, 1 << 16, offset):
                chunks.append(chunk)
                offset += len(chunk)
            mounts = parse_mountinfo(b"".join(chunks).decode("utf-8", "surrogateescape"))
            self._points = {mount.point: mount for mount in mounts}
            self._crossed: dict[str, Crossing] = {}
            self._local_devices = frozenset(mount.device for mount in mounts if mount.local)


def _crossing(mounts: tuple[Mount, ...]) -> Crossing:
    some = bool(mounts)
    return Crossing(mounts, some and all(mount.local for mount in mounts), some and all(m.honest for m in mounts))
