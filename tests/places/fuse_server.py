"""A FUSE server that speaks the kernel's protocol itself (include/uapi/linux/fuse.h), for tests inside an arena.

It serves a tree that the test describes, under any owners and modes, and changes it when the test says so. It can
refuse root as an NFS server that squashes root does, and it can stop answering.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import stat
import struct
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, TypeAlias

from tests.places import linux

READY = "ready"
_LIFETIME = 3600  # seconds, after which a forgotten server ends by itself
_BUFFER = 1 << 18

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, LISTXATTR, FLUSH, INIT = 1, 2, 3, 14, 15, 17, 18, 23, 25, 26
OPENDIR, READDIR, RELEASEDIR, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET, STATX = 27, 28, 29, 34, 36, 38, 42, 52
_SILENT = frozenset({FORGET, BATCH_FORGET, INTERRUPT})
# What an NFS server that squashes root grants it all the same: attributes, and reading what another user has opened.
_FOR_ROOT_TOO = frozenset({INIT, GETATTR, STATX, STATFS, LISTXATTR, READ, RELEASE, RELEASEDIR, FLUSH, DESTROY})

_IN = struct.Struct("=IIQQIIII")
_OUT = struct.Struct("=IiQ")
_INIT_IN = struct.Struct("=IIII")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
_ENTRY = struct.Struct("=QQQQII")
_ATTR_HEAD = struct.Struct("=QI4x")
_ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
_OPEN_OUT = struct.Struct("=QII")
_READ_IN = struct.Struct("=QQIIQI4x")
_STATFS = struct.Struct("=QQQQQIII28x")
_DIRENT = struct.Struct("=QQII")


class Entry(NamedTuple):
    """A file, or without content a directory; by default root's own, and closed to other writers."""

    content: bytes | None = None
    uid: int = 0
    gid: int = 0
    mode: int | None = None
    changed: int = 1_700_000_000  # seconds since the epoch

    @property
    def full_mode(self) -> int:
        kind, default = (stat.S_IFDIR, 0o755) if self.content is None else (stat.S_IFREG, 0o644)
        return kind | (default if self.mode is None else self.mode)


Tree: TypeAlias = dict[str, Entry]
"""Entries by their path below the mount point, without a leading slash; "" is the root of the file system."""


class Options(NamedTuple):
    """How the file system is mounted and served.

    `uid` and `gid` are whose mount the kernel takes it for; without `allow_other`, it refuses all others itself.
    `squash_root` answers EACCES to look-ups, opens and listings by a process whose file system user ID is 0. `kind` is
    the type in the mount table.
    """

    uid: int = 0
    gid: int = 0
    allow_other: bool = False
    default_permissions: bool = False
    squash_root: bool = False
    kind: str = "fuse"
    source: str = "test"
    flags: int = linux.MS_NOSUID | linux.MS_NODEV


class Handle:
    """A test's hold on a server that runs in the arena."""

    def __init__(self, job: Any) -> None:
        self._job = job

    def put(self, path: str, entry: Entry | None) -> None:
        """Set an entry, or with None remove it; in force when this returns."""
        self._job.send(("put", path, entry))
        assert self._job.receive() == READY

    def hang(self) -> None:
        """Answer nothing any more; in force when this returns."""
        self._job.send(("hang", "", None))
        assert self._job.receive() == READY

    def asked(self) -> int:
        """How many requests the server has had."""
        self._job.send(("asked", "", None))
        return self._job.receive()

    def abort(self) -> None:
        """End the server: what waits for it fails, and the mount point gives ENOTCONN."""
        with contextlib.suppress(OSError):
            self._job.kill()


class _Server:
    def __init__(self, tree: Tree, options: Options) -> None:
        self._options = options
        self._tree = {"": Entry()} | tree
        for path in tree:  # directories that were not named
            while path := path.rpartition("/")[0]:
                self._tree.setdefault(path, Entry())
        self._numbers = {"": 1}  # inode numbers by path; never given to another
        self._paths = {1: ""}
        self.asked = 0
        self.hanging = False
        for path in self._tree:
            self._number(path)

    def put(self, path: str, entry: Entry | None) -> None:
        if entry is None:
            self._tree.pop(path, None)
        else:
            self._tree[path] = entry
            self._number(path)

    def _number(self, path: str) -> int:
        number = self._numbers.setdefault(path, len(self._numbers) + 1)
        self._paths[number] = path
        return number

    def answer(self, request: bytes) -> bytes | None:
        """Return the answer to a request, or None where there is none."""
        _, opcode, unique, node, uid, _, _, _ = _IN.unpack_from(request)
        self.asked += 1
        if opcode in _SILENT or self.hanging:
            return None
        try:
            if uid == 0 and self._options.squash_root and opcode not in _FOR_ROOT_TOO:
                raise PermissionError(errno.EACCES, "root is squashed here")
            body = self._body(opcode, self._paths.get(node, ""), request[_IN.size :])
        except OSError as error:
            return _OUT.pack(_OUT.size, -(error.errno or errno.EIO), unique)
        return _OUT.pack(_OUT.size + len(body), 0, unique) + body

    def _body(self, opcode: int, path: str, data: bytes) -> bytes:
        match opcode:
            case n if n == INIT:
                _, minor, readahead, _ = _INIT_IN.unpack_from(data)
                return _INIT_OUT.pack(7, min(minor, 31), readahead, 0, 16, 12, 1 << 17, 1, 32, 0, 0)
            case n if n == LOOKUP:
                child = f"{path}/{os.fsdecode(data.rstrip(bytes(1)))}".lstrip("/")
                return _ENTRY.pack(self._found(child), 0, 0, 0, 0, 0) + self._attributes(child)
            case n if n == GETATTR:
                self._found(path)
                return _ATTR_HEAD.pack(0, 0) + self._attributes(path)
            case n if n in {OPEN, OPENDIR}:
                self._found(path)
                return _OPEN_OUT.pack(0, 0, 0)
            case n if n == READ:
                _, offset, size, _, _, _ = _READ_IN.unpack_from(data)
                self._found(path)
                return (self._tree[path].content or b"")[offset : offset + size]
            case n if n == READDIR:
                _, offset, size, _, _, _ = _READ_IN.unpack_from(data)
                return self._listing(path, offset, size)
            case n if n == STATFS:
                return _STATFS.pack(1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096)
            case n if n in {ACCESS, RELEASE, RELEASEDIR, FLUSH, DESTROY}:
                return b""
        raise OSError(errno.ENOSYS, "not served")

    def _found(self, path: str) -> int:
        if path not in self._tree:
            raise FileNotFoundError(errno.ENOENT, "no such entry")
        return self._numbers[path]

    def _attributes(self, path: str) -> bytes:
        entry = self._tree[path]
        size = len(entry.content or b"")
        links = 2 if entry.content is None else 1
        when = entry.changed
        numbers = (0, 0, 0, entry.full_mode, links, entry.uid, entry.gid, 0, 4096, 0)
        return _ATTR.pack(self._numbers[path], size, (size + 511) // 512, when, when, when, *numbers)

    def _listing(self, path: str, offset: int, size: int) -> bytes:
        self._found(path)
        names = sorted(other for other in self._tree if other and other.rpartition("/")[0] == path)
        listing = b""
        for place, name in enumerate(names[offset:], offset + 1):
            last = os.fsencode(name.rpartition("/")[2])
            kind = self._tree[name].full_mode >> 12
            record = _DIRENT.pack(self._numbers[name], place, len(last), kind) + last
            record += bytes(-len(record) % 8)
            if len(listing) + len(record) > size:
                break
            listing += record
        return listing


def run(channel: Connection, target: str, tree: Tree, options: Options) -> None:
    """Mount a server at `target` in this namespace and serve until killed or unmounted. Called in the arena."""
    signal.alarm(_LIFETIME)
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    words = [f"fd={device}", "rootmode=40000", f"user_id={options.uid}", f"group_id={options.gid}"]
    words += ["allow_other"] * options.allow_other + ["default_permissions"] * options.default_permissions
    try:
        linux.mount(options.source, target, options.kind, options.flags, ",".join(words))
    except OSError as error:
        channel.send(("failed", f"a FUSE file system cannot be mounted at {target!r}: {error}"))
        return
    server = _Server(tree, options)
    waiting = select.poll()
    waiting.register(device, select.POLLIN)
    waiting.register(channel.fileno(), select.POLLIN)
    channel.send(READY)
    with contextlib.suppress(EOFError):  # the test has gone
        while _serve_once(server, device, channel, waiting):
            pass
    os.close(device)


def _serve_once(server: _Server, device: int, channel: Connection, waiting: select.poll) -> bool:
    for descriptor, events in waiting.poll():
        if descriptor == device:
            if events & (select.POLLERR | select.POLLHUP):
                return False
            if not _exchange(server, device):
                return False
        else:
            word, path, entry = channel.recv()
            if word == "put":
                server.put(path, entry)
            server.hanging = server.hanging or word == "hang"
            channel.send(server.asked if word == "asked" else READY)
    return True


def _exchange(server: _Server, device: int) -> bool:
    try:
        request = os.read(device, _BUFFER)
    except OSError as error:
        return error.errno in {errno.EINTR, errno.ENOENT, errno.EAGAIN}  # ENODEV: unmounted
    answer = server.answer(request)
    if answer is not None:
        with contextlib.suppress(OSError):  # the asker was interrupted
            os.write(device, answer)
    return True
