"""The mount table: what is mounted where, and which names a file on a mount has.

The table is /proc/self/mountinfo (proc(5)), which the kernel marks as changed (poll). Rules:

1. Lines end at a newline and at nothing else: a mount point may hold any other byte.
2. A mount is found by its ID, which is that of an open descriptor, in a table that was read after the descriptor was
   opened. It is never found by a path.
3. A table that changed while it was read is read again.
4. A file has one name: that under the mount nearest to the root of its file system. Bind mounts give it aliases.
"""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from eclctl.dataclass import dataclass, field
from eclctl.files import syscalls
from eclctl.files.acls import WithoutAcl

# File systems whose operations end without any other machine or process having to answer.
LOCAL = frozenset(
    {"bcachefs", "btrfs", "erofs", "ext2", "ext3", "ext4", "f2fs", "iso9660", "jfs", "nilfs2", "overlay", "ramfs"}
    | {"rootfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs"}
)

_MAX_REMEMBERED = 4096
_READ_TRIES = 5
_CHUNK = 1 << 16
_ESCAPE = re.compile(r"\\([0-7]{3})")
_GONE = "//deleted"  # what mountinfo adds to the root of a bind mount whose directory was removed


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    `root` is the directory of the file system that is mounted here, `point` where it is mounted, `options` those of
    this mount, `super_options` those of the file system itself. `device` is the superblock's: btrfs shows others in
    the attributes of its files.
    """

    id: int
    parent: int
    device: int
    root: str
    point: str
    options: frozenset[str]
    type: str
    source: str
    super_options: frozenset[str]
    local: bool = field(init=False)
    fuse: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "local", self.type in LOCAL)
        object.__setattr__(self, "fuse", self.type.partition(".")[0] in {"fuse", "fuseblk"})

    @property
    def read_only(self) -> bool:
        """Whether the file system itself is read-only, and not just this mount of it."""
        return "ro" in self.super_options

    @property
    def unchanging(self) -> bool:
        """Whether nothing writes what is read here: it is read-only, and its content lies on no other file system.

        A server, or the layers of an overlay, can be written beside a file system that is read-only here.
        """
        return self.read_only and self.local and self.type != "overlay"

    @property
    def superblock(self) -> tuple[int, str]:
        """What is equal for all mounts of one file system."""
        return self.device, self.type


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """Parse /proc/self/mountinfo (proc(5)), in its order; lines of another shape are left out."""
    return tuple(mount for mount in parse_lines(text, {}).values() if mount is not None)


def parse_lines(text: str, known: Mapping[str, Mount | None]) -> dict[str, Mount | None]:
    """Parse each line, in their order, or take it from `known`: of a long table, hardly any line changes.

    No two lines are equal, since each has an ID of its own.
    """
    return {line: known[line] if line in known else _parse_line(line) for line in text.split("\n")}


def _parse_line(line: str) -> Mount | None:
    left, dash, right = line.partition(" - ")
    fields, tail = left.split(" "), right.split(" ")
    if not dash or len(fields) < 6 or len(tail) < 3:  # noqa: PLR2004 - the fields that proc(5) always gives
        return None
    major, _, minor = fields[2].partition(":")
    try:
        numbers = int(fields[0]), int(fields[1]), os.makedev(int(major), int(minor))
    except ValueError:
        return None
    return Mount(
        *numbers,
        _plain(fields[3]),
        _plain(fields[4]),
        frozenset(fields[5].split(",")),
        tail[0],
        _plain(tail[1]),
        frozenset(tail[2].split(",")),
    )


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


@dataclass(frozen=True, slots=True)
class FilesystemTrust:
    """Which file systems are trusted, by superblock (`Mount.superblock`).

    trusted: Those whose owners and modes are kept by a trusted kernel.
    vouched: Read-only ones for whose whole content an administrator vouches.
    why_not: Returns, for a mount that is in neither, what is missing.
    devices: The device numbers of trusted ones, as most of their files show them (those of btrfs show others).
    """

    trusted: frozenset[tuple[int, str]]
    vouched: frozenset[tuple[int, str]] = frozenset()
    why_not: Callable[[Mount], str] = lambda _: "its file system is not one that the configuration trusts"
    devices: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "devices", frozenset(device for device, _ in self.trusted))

    def trusts(self, mount: Mount) -> bool:
        """Whether owners and modes are trusted on a mount."""
        return mount.superblock in self.trusted

    def of(self, mount: Mount) -> tuple[bool, bool]:
        """Return `trusts` and `vouches_for` of a mount."""
        return mount.superblock in self.trusted, mount.superblock in self.vouched

    def vouches_for(self, mount: Mount) -> bool:
        """Whether an administrator vouches for all content of a mount."""
        return mount.superblock in self.vouched


class Spelling(NamedTuple):
    """A name of a file, and the mount point that it goes through."""

    path: str
    point: str


class Mounts:
    """One state of the mount table. Never changes."""

    def __init__(self, mounts: Iterable[Mount], root: Mount, *, settled: bool) -> None:
        """Index the mounts.

        Args:
            mounts: the lines of mountinfo.
            root: what the process's root directory lies on; in a bare chroot that is no line of the table.
            settled: whether nothing changed while the table was read.
        """
        self.all = tuple(mounts)
        self.root = root
        self.settled = settled
        self._by_id = {mount.id: mount for mount in self.all}
        self.chrooted = root.id not in self._by_id
        self._by_id[root.id] = root
        # What lies on a mount: the order of the table does not tell which mount is on top, after one was moved.
        self._on = {(mount.parent, mount.point): mount for mount in self.all if mount.id != mount.parent}
        covered = {mount.parent for mount in self._on.values() if self._is_at(mount.parent, mount.point)}
        self._points = {mount.point: mount for mount in self.all if mount.id not in covered} | {"/": root}
        self._longest = max((len(mount.point) for mount in self.all), default=1)
        self._local_devices = frozenset(mount.device for mount in (*self.all, root) if mount.local)
        self._mapped = any("idmapped" in mount.options for mount in self.all)
        self._local_below: dict[str, Mount | None] = {}
        self._fuse: dict[tuple[int, str], bool] = {}
        self.without_acl = WithoutAcl()
        self._by_root: dict[tuple[int, str], dict[str, list[Mount]]] = {}
        for mount in self.all:
            self._by_root.setdefault(mount.superblock, {}).setdefault(mount.root, []).append(mount)
        for by_root in self._by_root.values():
            for found in by_root.values():
                if len(found) > 1:
                    found.sort(key=lambda mount: (self._depth(mount), len(mount.point), mount.point))

    def _is_at(self, mount_id: int, point: str) -> bool:
        mount = self._by_id.get(mount_id)
        return mount is not None and mount.point == point

    def of(self, mount_id: int) -> Mount | None:
        """Return the mount of an open descriptor, or None when it is not one of this process's namespace."""
        return self._by_id.get(mount_id)

    def local(self, path: str) -> bool:
        """Whether reaching an absolute, normalised path (symbolic links aside) waits for no other machine."""
        directory = path.rpartition("/")[0]
        try:
            below = self._local_below[directory]
        except KeyError:
            if len(self._local_below) >= _MAX_REMEMBERED:
                self._local_below.clear()
            every = self.above(directory)
            below = self._local_below[directory] = every[-1] if all(mount.local for mount in every) else None
        return below is not None and all(mount.local for mount in self._stacked(below, path))

    def local_device(self, device: int) -> bool:
        """Whether a device number is that of a local file system mounted in this namespace."""
        return device in self._local_devices

    def mapped(self, path: str) -> Mount | None:
        """Return a mount on the way to a path that shows other owners than the file system has (mount_setattr(2))."""
        return next((each for each in self.above(path) if "idmapped" in each.options), None) if self._mapped else None

    def local_descriptor(self, found: syscalls.Attributes) -> bool:
        """Whether what an open descriptor shows lies on a local file system. Its mount may be of another namespace."""
        mount = self._by_id.get(found.mount)
        return found.device in self._local_devices if mount is None else mount.local

    def at(self, point: str) -> Mount | None:
        """Return what is mounted at exactly this point, on top of all else."""
        return self._points.get(point)

    def is_fuse(self, mount: Mount, fd: int) -> bool:
        """Whether the file system behind a file says that it is FUSE, even where the table of mounts does not.

        Asked once of each: it does not change while the table does not. May block on what is not local.
        """
        found = self._fuse.get(mount.superblock)
        if found is None:
            found = self._fuse[mount.superblock] = syscalls.file_system_type(fd) == syscalls.FUSE_SUPER_MAGIC
        return found

    def above(self, path: str) -> list[Mount]:
        """Return the mounts that the way to an absolute, normalised path leads through, the root's first."""
        found = [self.root]
        end = 0
        while 0 <= end < self._longest and path != "/":
            end = path.find("/", end + 1)
            point = path if end < 0 else path[:end]
            found += self._stacked(found[-1], point)
        return found

    def _stacked(self, below: Mount, point: str) -> Iterator[Mount]:
        """Yield what is mounted at a point of a mount, and on top of that at the same point."""
        seen = {below.id}
        above = self._on.get((below.id, point))
        while above is not None and above.id not in seen:
            yield above
            seen.add(above.id)
            above = self._on.get((above.id, point))

    def names(self, mount: Mount, path: str) -> tuple[Spelling, ...] | None:
        """Return the names of a file on a mount, the one that rules use first.

        Args:
            mount: the mount of an open descriptor of the file.
            path: what the kernel says that the descriptor's name is.

        Returns:
            Names without duplicates, `path` among them; None where the file's place in its file system is not known.
        """
        if self.chrooted and mount.superblock == self.root.superblock:
            # The table does not say which directory of the file system the root is, so a bind mount shows unknown ones.
            return (Spelling(path, "/"),) if mount is self.root else None
        by_root = self._by_root[mount.superblock]
        if len(by_root) == 1 and len(by_root[mount.root]) == 1 and not mount.root.endswith(_GONE):
            return (Spelling(path, mount.point),)
        inside = _inside(mount, path)
        if inside is None:
            return None
        found: dict[str, Spelling] = {}
        for top in ancestors(inside):
            for other in by_root.get(top, ()):
                name = _joined(other.point, _below(inside, top) or "")
                if other is not mount and self.above(name)[-1] is not other:
                    continue  # hidden by what is mounted over it, or above
                found.setdefault(name, Spelling(name, other.point))
        found.setdefault(path, Spelling(path, mount.point))
        return tuple(found.values())

    def binds(self) -> Iterator[tuple[str, str]]:
        """Yield each mount point whose files have another name, and what the mount point's own other name is."""
        for mount in self.all:
            names = self.names(mount, mount.point)
            if names and names[0].path != mount.point:
                yield mount.point, names[0].path

    def _depth(self, mount: Mount) -> int:
        """Return how many mounts lie between a mount and the root of the tree."""
        depth, seen = 0, {mount.id}
        parent = self._by_id.get(mount.parent)
        while parent is not None and parent.id not in seen:
            seen.add(parent.id)
            depth, parent = depth + 1, self._by_id.get(parent.parent)
        return depth


def _inside(mount: Mount, path: str) -> str | None:
    """Return the path of a file from the root of its file system, or None when it is not below the mount."""
    rest = None if mount.root.endswith(_GONE) else _below(path, mount.point)
    return None if rest is None else _joined(mount.root, rest)


def _below(path: str, top: str) -> str | None:
    """Return what comes after `top`, with its slash; "" for `top` itself, None when the path is not at or below it."""
    if top == "/":
        return "" if path == "/" else path
    if path == top:
        return ""
    return path[len(top) :] if path.startswith(top + "/") else None


def _joined(top: str, rest: str) -> str:
    return rest or "/" if top == "/" else top + rest


def is_below(path: str, top: str) -> bool:
    """Whether an absolute path is `top`, or lies below it."""
    return _below(path, top) is not None


def ancestors(path: str) -> Iterator[str]:
    """Yield the root, every directory above an absolute path, and the path."""
    yield "/"
    if path == "/":
        return
    end = path.find("/", 1)
    while end > 0:
        yield path[:end]
        end = path.find("/", end + 1)
    yield path


JudgeFilesystems = Callable[[Mounts], FilesystemTrust]


def trust_only_root(mounts: Mounts) -> FilesystemTrust:
    """Trust the file system of the root directory and no other."""
    return FilesystemTrust(frozenset({mounts.root.superblock}))


class _MountInfo:
    """A mountinfo file (proc(5)), which tells when it has changed. For one thread at a time."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLERR | select.POLLPRI)

    def close(self) -> None:
        os.close(self._file)

    def changed(self) -> bool:
        """Whether anything was mounted or unmounted since this was asked or the file was read."""
        return bool(self._poll.poll(0))

    def read(self) -> tuple[str, bool]:
        """Return the text, and whether nothing changed while it was read."""
        for _ in range(_READ_TRIES):
            self.changed()  # the changes up to now are reported by this
            os.lseek(self._file, 0, os.SEEK_SET)
            chunks = []
            while chunk := os.read(self._file, _CHUNK):
                chunks.append(chunk)
            text = b"".join(chunks).decode("utf-8", "surrogateescape")
            if not self.changed():
                return text, True
        return text, False


def _host_mount_info() -> _MountInfo | None:
    """Return the mounts of the host's first process, or None where /proc does not show them."""
    try:
        return _MountInfo("/proc/1/mountinfo")
    except OSError:
        return None


class MountTable:
    """The mounts of this process's namespace, as they are now. Safe for use from several threads."""

    def __init__(self, judge: JudgeFilesystems = trust_only_root) -> None:
        """Open the table. `judge` says which of the mounted file systems are trusted; it must not block."""
        self._judge = judge
        self._lock = threading.Lock()
        self._own = _MountInfo("/proc/self/mountinfo")
        self._hosts = _host_mount_info()
        self._hosts_changes = _host_mount_info()  # each descriptor reports each change once
        self._hosts_ids: frozenset[int] | None = None
        self._lines: dict[str, Mount | None] = {}
        self._now = self._read()

    def close(self) -> None:
        """Give back the descriptors."""
        for each in (self._own, self._hosts, self._hosts_changes):
            if each is not None:
                each.close()

    def current(self) -> tuple[Mounts, FilesystemTrust]:
        """Return the table as the kernel has it now, and which of its file systems are trusted."""
        with self._lock:  # a poll object serves one thread at a time, and reports a change once
            own = self._own.changed()
            # A file system that becomes writable in the host's does so here, too: the kernel reports that only there.
            hosts = self._hosts_changes is not None and self._hosts_changes.changed()
            if own or hosts or not self._now[0].settled:
                self._now = self._read()
            return self._now

    def forget(self) -> None:
        """Read and judge the table again: the configuration or the name of a directory may have changed."""
        with self._lock:
            self._now = self._read()

    def is_the_hosts(self, mount_id: int) -> bool:
        """Whether a descriptor's mount is of this process's namespace, or of that of the host's first process.

        A service manager gives a service a mount namespace of its own. In any other, its users may have mounted things.
        """
        if self.current()[0].of(mount_id) is not None:
            return True
        if self._hosts is None:
            return False
        with self._lock:
            if self._hosts_ids is None or self._hosts.changed():
                text, _ = self._hosts.read()
                self._hosts_ids = frozenset(mount.id for mount in parse_mountinfo(text))
            return mount_id in self._hosts_ids

    def is_unchanging(self, mount_id: int) -> bool:
        """Whether a mount of this process's namespace is `Mount.unchanging` at this moment.

        A remount in another namespace than that of the host's first process, a container's say, is not reported.
        """
        own = f"{mount_id} ".encode()
        with open("/proc/self/mountinfo", "rb") as file:
            line = next((line for line in file if line.startswith(own)), b"")
        mount = _parse_line(line.decode("utf-8", "surrogateescape").removesuffix("\n"))
        return mount is not None and mount.unchanging

    def local(self, path: str) -> bool:
        """Whether opening this path cannot wait for another machine (symbolic links aside)."""
        return self.current()[0].local(path)

    def local_descriptor(self, found: syscalls.Attributes) -> bool:
        """Whether what an open descriptor shows lies on a local file system. Its mount may be of another namespace."""
        return self.current()[0].local_descriptor(found)

    def _read(self) -> tuple[Mounts, FilesystemTrust]:
        text, settled = self._own.read()
        self._lines = parse_lines(text, self._lines)
        every = tuple(mount for mount in self._lines.values() if mount is not None)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = syscalls.attributes(root)
            own = next((mount for mount in every if mount.id == found.mount), None) or _unlisted(root, found)
        finally:
            os.close(root)
        mounts = Mounts(every, own, settled=settled)
        # Where mounts come and go all the time, a line may be of another moment than its neighbour.
        return mounts, self._judge(mounts) if settled else trust_only_root(mounts)


_TYPES = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x73717368: "squashfs",
    0xE0F5E1E2: "erofs",
    0x794C7630: "overlay",
    0xF2F52010: "f2fs",
    0x858458F6: "ramfs",
    0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs",
    0x6969: "nfs",
    syscalls.FUSE_SUPER_MAGIC: "fuse",
}


def _unlisted(root: int, found: syscalls.Attributes) -> Mount:
    """Describe the mount of a root directory that is no mount point (chroot(2)): the table does not list it."""
    name = _TYPES.get(syscalls.file_system_type(root), "unknown")
    return Mount(found.mount, 0, found.device, "/", "/", frozenset(), name, "", frozenset())
