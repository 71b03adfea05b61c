"""What is mounted where: which paths may be touched without fear of a stall, and what a file system's word is worth.

The table is read from /proc/self/mountinfo, which the kernel marks as changed (poll), so it is never stale.
"""

from __future__ import annotations

import os
import re
import select
import threading
from dataclasses import dataclass

# File systems whose operations end without any other machine or process having to answer.
LOCAL = frozenset(
    {"bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "nilfs2", "overlay", "ramfs"}
    | {"rootfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs"}
)
# Kernel clients of network file systems: slow, but their ownership and change times come from the server's kernel.
NETWORK = frozenset({"9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "pvfs2", "smb3", "smbfs"})

_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: where, what, and whether it can be written there."""

    point: str
    device: int
    type: str
    read_only: bool
    by_root: bool

    @property
    def local(self) -> bool:
        """Whether touching it never waits for another machine."""
        return self.type in LOCAL

    @property
    def honest(self) -> bool:
        """Whether its ownership, modes and times are a kernel's word: not those of FUSE, where any process may lie."""
        return self.type in LOCAL or self.type in NETWORK


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
    options, super_options = fields[5].split(","), tail[2].split(",")
    user = next((option[8:] for option in super_options if option.startswith("user_id=")), "0")
    read_only = "ro" in options or "ro" in super_options
    return Mount(point, os.makedev(int(major), int(minor)), tail[0], read_only, user == "0")


class MountTable:
    """The mounts of this process's namespace, read again whenever the kernel says that they changed."""

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

    def covering(self, path: str) -> tuple[Mount, ...]:
        """Return the mounts that an absolute, normalised path crosses, root first."""
        if self._poll.poll(0):
            self._read()
        points = self._points
        found = [points["/"]] if "/" in points else []
        if self._nested:
            end = path.find("/", 1)
            while end != -1:
                if (mount := points.get(path[:end])) is not None:
                    found.append(mount)
                end = path.find("/", end + 1)
            if path in points and path != "/":
                found.append(points[path])
        return tuple(found)

    def local(self, path: str) -> bool:
        """Whether opening this path cannot wait for another machine (symbolic links aside)."""
        mounts = self.covering(path)
        return bool(mounts) and all(mount.type in LOCAL for mount in mounts)

    def local_device(self, device: int) -> bool:
        """Whether a device number is that of a local file system mounted in this namespace."""
        if self._poll.poll(0):
            self._read()
        return device in self._local_devices

    def vouched(self, mount: Mount) -> bool:
        """Whether a read-only file system mounted by root lies at or below a mount point that the admin trusts."""
        inside = any(mount.point == point or mount.point.startswith(point.rstrip("/") + "/") for point in self._trusted)
        return inside and mount.read_only and mount.by_root

    def _read(self) -> None:
        with self._lock:
            chunks = []
            offset = 0
            while chunk := os.pread(self._file, 1 << 16, offset):
                chunks.append(chunk)
                offset += len(chunk)
            mounts = parse_mountinfo(b"".join(chunks).decode("utf-8", "surrogateescape"))
            self._points = {mount.point: mount for mount in mounts}
            self._nested = len(self._points) > 1
            self._local_devices = frozenset(mount.device for mount in mounts if mount.local)
