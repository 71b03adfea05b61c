"""Decides which file systems are trusted: on these, owners and modes count (see `mounts.FilesystemTrust`).

Rules:

1. The file system of the root directory is trusted, unless it is FUSE.
2. So is a file system that keeps owners of its own, is mounted at a point and of a source that root has written down
   (`configured_mounts`) without permission for users, and lies on devices that only trusted owners can write
   (`block_devices`).
3. All others are trusted where the configuration lists their mount point, and not otherwise: network file systems,
   FUSE, overlays, those that take owners from mount options, and all that an automounter mounts.
4. FUSE is trusted under `fuse`, or as content of a read-only file system under `read_only`, and by no other setting.
5. What is trusted is a superblock. A sandbox mounts the same file systems again, under other mount IDs.
6. Read-only means the superblock. A user who may mount can make a mount of anything read-only.
7. Nothing here waits for another machine, or for a process of a user's (`local_lookup`).
"""

from __future__ import annotations

import grp
import os
from collections.abc import Callable, Iterator
from time import time_ns
from typing import NamedTuple

from eclctl.dataclass import dataclass, field
from eclctl.files.block_devices import Devices
from eclctl.files.configured_mounts import UNIT_DIRECTORIES, ConfiguredMounts, Entry, MountsReader
from eclctl.files.local_lookup import LocalFiles, LocalLookupError, Lstat
from eclctl.files.mounts import FilesystemTrust, Mount, Mounts, is_below

OWN_OWNERS = frozenset(
    {"bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "squashfs", "tmpfs", "xfs"}
)
"""Local file systems that keep owners and modes themselves, and whose content lies on their own devices alone."""

_FOR_USERS = frozenset({"user", "users", "owner", "group", "x-udisks-auth", "pamconsole"})
_AUTOMOUNT = frozenset({"x-systemd.automount", "comment=systemd.automount"})
_OPEN_TYPES = frozenset({"", "auto"})
_EXT = frozenset({"ext2", "ext3", "ext4"})  # one driver serves all three, under the name of any


@dataclass(frozen=True, slots=True)
class Filesystems:
    """What the configuration says of file systems: mount points, absolute and normalised.

    trusted: The file system mounted there is trusted; not FUSE.
    read_only: The configuration vouches for read-only file systems there, and below; also FUSE.
    fuse: The FUSE file system mounted there is trusted.
    """

    trusted: frozenset[str] = frozenset()
    read_only: frozenset[str] = frozenset()
    fuse: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SystemPaths:
    """Paths of the system's own files."""

    fstab: str = "/etc/fstab"
    units: tuple[str, ...] = UNIT_DIRECTORIES
    sysfs: str = "/sys"
    dev: str = "/dev"


@dataclass(frozen=True, slots=True)
class SystemCalls:
    """The system calls that are made: lstat(2), listxattr(2), and the clock, in nanoseconds since the epoch."""

    lstat: Lstat = os.lstat
    attributes: Callable[[str], list[str]] = lambda path: os.listxattr(path, follow_symlinks=False)
    clock: Callable[[], int] = time_ns


def device_groups() -> frozenset[int]:
    """Return the groups that may write block devices: root's, and `disk`, whose members are as good as root."""
    try:
        return frozenset({0, grp.getgrnam("disk").gr_gid})
    except KeyError:
        return frozenset({0})


@dataclass(slots=True)
class FilesystemJudge:
    """Decides which file systems of a mount table are trusted; a `mounts.JudgeFilesystems`.

    Called under the lock of a mount table, and by one table only: it keeps what it has read of files.

    Args:
        listed: what the configuration lists.
        owners: user IDs that may write images, and loop files and device nodes below file systems.
        groups: group IDs that may write device nodes.
        places: where things are.
        files: how files are looked at.
    """

    listed: Filesystems
    owners: frozenset[int]
    groups: frozenset[int]
    places: SystemPaths = SystemPaths()
    files: SystemCalls = SystemCalls()
    _configured: MountsReader = field(init=False)

    def __post_init__(self) -> None:
        self._configured = MountsReader(self.places.fstab, self.places.units, self.files.clock)

    def __call__(self, mounts: Mounts) -> FilesystemTrust:
        """Return which file systems are trusted in this state of the mount table."""
        local_files = LocalFiles(mounts, self.files.lstat)
        listed = _ListedMounts(mounts, self.listed, self.owners)
        judge = _Judge(mounts, listed, self._configured.read(local_files))
        sysfs, dev, attributes = self.places.sysfs, self.places.dev, self.files.attributes
        judge.devices = Devices(local_files, sysfs, dev, self.owners, self.groups, judge.untrusted, attributes)
        return judge.trust()


@dataclass(slots=True)
class _Judge:
    """Judges one state of the mount table."""

    mounts: Mounts
    listed: _ListedMounts
    configured: ConfiguredMounts
    devices: Devices = field(init=False)
    _trusted: frozenset[tuple[int, str]] = frozenset()
    _vouched: frozenset[tuple[int, str]] = frozenset()
    _reasons: dict[int, str | None] = field(default_factory=dict)  # by mount ID; None is trusted
    _exposures: dict[tuple[tuple[int, str], int | tuple[int, int]], str | None] = field(default_factory=dict)
    _automounted: frozenset[str] = frozenset()

    def trust(self) -> FilesystemTrust:
        self._automounted = self.configured.automounts | {each.point for each in self.mounts.all if _is_autofs(each)}
        self._trusted = frozenset(each.superblock for each in self.listed.trusted())
        self._vouched = frozenset(each.superblock for each in self.mounts.all if self.listed.vouches(each))
        others = [each for each in self.mounts.all if each.superblock not in self._trusted]
        written = frozenset(each.superblock for each in others if self.reason(each) is None)
        return FilesystemTrust(self._trusted | written, self._vouched, self.why_not)

    def why_not(self, mount: Mount) -> str:
        """Return why a mount is not trusted: the part of a sentence that begins with "its"."""
        flaw = self.listed.flaw(mount) or self._reasons.get(mount.id)
        return flaw or f"its file system ({_where(mount)}) is not one that is mounted here"

    def untrusted(self, path: str) -> str | None:
        """Return why the file system that a path lies on is not trusted, or None."""
        top = self.mounts.above(path)[-1]
        if top.superblock in self._trusted or top.superblock in self._vouched:
            return None
        others = [each for each in self.mounts.all if each.superblock == top.superblock]
        return None if any(self.reason(each) is None for each in others) else _where(top)

    def reason(self, mount: Mount) -> str | None:
        """Return why rule 2 does not hold for a mount, or None when it does."""
        if mount.id not in self._reasons:
            self._reasons[mount.id] = f"{_where(mount)} lies on itself"  # what a loop of loop files comes back to
            self._reasons[mount.id] = self._reason(mount)
        return self._reasons[mount.id]

    def _reason(self, mount: Mount) -> str | None:
        if mount.type not in OWN_OWNERS:
            return f"its file system ({_where(mount)}) is not listed under filesystems in the configuration"
        parent = self.mounts.of(mount.parent)
        if mount.point in self._automounted or (parent is not None and _is_autofs(parent)):
            return f"its file system ({_where(mount)}) comes from an automounter, and is not listed under filesystems"
        flaw = f"its file system ({_where(mount)}) is mounted by neither /etc/fstab nor a unit of root's"
        if self.configured.unread is not None:
            flaw += f" (/etc/fstab is not read: {self.configured.unread})"
        entries = self.configured.entries.get(mount.point, ())
        for entry in entries:
            options = [each for each in entry.options if each.partition("=")[0] in _FOR_USERS]
            if options:  # mount(8) takes any line that fits
                return f"its file system ({_where(mount)}): {entry.where} lets users mount it (option {min(options)})"
        for entry in entries:
            found = self._entry_mismatch(mount, entry)
            if found is None:
                return None
            flaw = f"its file system ({_where(mount)}): {found}"
        return flaw

    def _entry_mismatch(self, mount: Mount, entry: Entry) -> str | None:
        """Return why an entry for a mount's point does not make it trusted, or None."""
        if entry.flaw is not None:
            return f"{entry.where} {entry.flaw}"
        if entry.options & _AUTOMOUNT:
            return f"{entry.where} has it mounted by an automounter; list it under filesystems.trusted"
        if mount.type == "tmpfs":
            top = self.mounts.at(mount.point)
            covered = top is None or top.superblock != mount.superblock
            return f"{entry.where} lists something else there" if entry.type != "tmpfs" or covered else None
        if not _is_of_type(mount.type, entry.type):
            return f"{entry.where} lists {entry.type} there"
        return self._on_device(mount, entry)

    def _on_device(self, mount: Mount, entry: Entry) -> str | None:
        try:
            devices, meant = self.devices.below(mount), self.devices.meant(entry.source)
            if meant not in {*devices, *map(self.devices.loop_file, devices)}:
                return f"{entry.where} lists another source there ({entry.source})"
        except LocalLookupError as error:
            return str(error)
        key = mount.superblock, meant
        if key not in self._exposures:
            self._exposures[key] = self.devices.exposure(devices, meant)
        return self._exposures[key]


class _ListedMounts(NamedTuple):
    """The mounts that the configuration's lists name in one mount table."""

    mounts: Mounts
    listed: Filesystems
    owners: frozenset[int]

    def trusted(self) -> Iterator[Mount]:
        """Yield the mounts whose file systems the root directory or the configuration makes trusted."""
        if not self.mounts.root.fuse:
            yield self.mounts.root
        for point in self.listed.trusted:
            top = self.mounts.at(point)
            if top is not None and not top.fuse:
                yield top
            automounters = {each.id for each in self.mounts.all if _is_autofs(each) and each.point == point}
            yield from (each for each in self.mounts.all if each.parent in automounters and not each.fuse)
        for point in self.listed.fuse:
            top = self.mounts.at(point)
            if top is not None and top.fuse:
                yield top

    def vouches(self, mount: Mount) -> bool:
        """Whether `read_only` vouches for the content of a mount."""
        return mount.read_only and any(
            (self.writable_below(mount, each) or self.of_a_user_below(mount, each)) is None
            for each in self.points_above(mount)
        )

    def points_above(self, mount: Mount) -> Iterator[str]:
        """Yield the points under `read_only` that a mount is at or below."""
        return (each for each in self.listed.read_only if is_below(mount.point, each))

    def writable_below(self, mount: Mount, point: str) -> Mount | None:
        """Return the mount at or below a listed point on which a user could have mounted another one, or None.

        That is a mount that is neither read-only nor an automounter's, and that something else of this path is mounted
        on. Where the listed point is a plain directory, what that lies on counts too: directories in it may be users'.
        """
        seen = {mount.id}
        while (parent := self.mounts.of(mount.parent)) is not None and parent.id not in seen:
            inside = is_below(parent.point, point)
            if not inside and mount.point == point:
                return None
            if not (parent.read_only or _is_autofs(parent)):
                return parent
            if not inside:
                return None
            seen.add(parent.id)
            mount = parent
        return None if mount.point == point else mount

    def of_a_user_below(self, mount: Mount, point: str) -> Mount | None:
        """Return the FUSE mount of a user's that a mount below a listed point is or lies on, or None.

        What that is mounted on may have become read-only afterwards; an automounter's mounts nothing for users.
        """
        seen: set[int] = set()
        while mount.id not in seen and mount.point != point and is_below(mount.point, point):
            seen.add(mount.id)
            parent = self.mounts.of(mount.parent)
            users = mount.fuse and not any(f"user_id={owner}" in mount.super_options for owner in self.owners)
            if users and not (parent is not None and _is_autofs(parent)):
                return mount
            mount = parent or mount
        return None

    def flaw(self, mount: Mount) -> str | None:
        """Say what is wrong where the configuration lists the point, or where FUSE is not listed."""
        where = f"its file system ({_where(mount)})"
        points = sorted(self.points_above(mount), key=len)
        if points and not mount.read_only and mount.point in points:
            return f"{where} is listed under filesystems.read_only, and is not read-only"
        if points and mount.read_only:
            other = self.writable_below(mount, points[-1])
            on = "" if other is None else f", on {_where(other)}, which can be written"
            if other is None and (users := self.of_a_user_below(mount, points[-1])) is not None:
                on = f", and {_where(users)} is a user's"
            return f"{where} is read-only{on}: list {mount.point} itself under filesystems.read_only"
        if not mount.fuse:
            return None
        if mount.point in self.listed.trusted:
            return f"{where} is FUSE, which is trusted only under filesystems.fuse"
        return f"{where} is FUSE and not listed under filesystems.fuse"


def _where(mount: Mount) -> str:
    return f"{mount.type} at {mount.point}"


def _is_autofs(mount: Mount) -> bool:
    return mount.type == "autofs"


def _is_of_type(mounted: str, written: str) -> bool:
    """Whether what is mounted is of the type, or one of the types, that was written down."""
    kinds = set(written.split(","))
    return bool(kinds & (_OPEN_TYPES | {mounted})) or (mounted in _EXT and bool(kinds & _EXT))
