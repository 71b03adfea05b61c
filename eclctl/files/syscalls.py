"""System calls that Python does not offer: statx(2), name_to_handle_at(2), openat2(2), fstatfs(2), setfsuid(2).

Each wrapper raises OSError as the `os` functions do. Attributes are asked for without synchronising with a server
(AT_STATX_DONT_SYNC) unless the caller says otherwise, so that a hung network file system cannot stall the caller.

Kernels before 5.8 do not tell the mount by statx: fdinfo does. Kernels before 5.6 have no openat2: `opening` walks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import NamedTuple

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_STATX_DONT_SYNC = 0x4000
AT_STATX_FORCE_SYNC = 0x2000
STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800
STATX_MNT_ID = 0x1000
STATX_MNT_ID_UNIQUE = 0x4000

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_CACHED = 0x20
_SYS_OPENAT2 = 437
# setgroups(2) by itself: the C library's function changes every thread of the process.
_SYS_SETGROUPS = {"x86_64": 116, "aarch64": 159, "riscv64": 159, "ppc64le": 81, "s390x": 206}.get(os.uname().machine)

FUSE_SUPER_MAGIC = 0x65735546
PROC_SUPER_MAGIC = 0x9FA0

_HANDLE_BYTES = 128
_STATX_SIZE = 256
_STATFS_SIZE = 256
_LOCATE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OF_DESCRIPTOR = AT_EMPTY_PATH | AT_STATX_DONT_SYNC
_OF_ENTRY = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC
_NO_MOUNT = -1  # the ID of no mount
_WANTED = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID
# struct statx up to the mount ID (include/uapi/linux/stat.h); x skips what is not used.
_STATX = struct.Struct("=I4x8xIIIHxxQQ8x8x16xqI4xqI4xqI4x8xIIQ")
_MODE = struct.Struct("=28xH")
_DIRECTORY_STATX = struct.Struct("=20xI4xH2xQ56xqI28xII")
_OPEN_HOW = struct.Struct("=QQQ")
_FIRST_LONG = struct.Struct("@l")

_libc = ctypes.CDLL(None, use_errno=True)
_quick = ctypes.PyDLL(None, use_errno=True)  # keeps Python's lock: for calls that never wait
_statx = _libc.statx
_statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p]
_fstatfs = _libc.fstatfs
_fstatfs.argtypes = [ctypes.c_int, ctypes.c_char_p]
_name_to_handle_at = _libc.name_to_handle_at
_name_to_handle_at.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
]
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
_setgroups = _quick.syscall
_setgroups.restype = ctypes.c_long
_setgroups.argtypes = [ctypes.c_long, ctypes.c_size_t, ctypes.c_char_p]
_setfsuid = _quick.setfsuid
_setfsuid.argtypes = [ctypes.c_uint32]
_setfsuid.restype = ctypes.c_uint32
_setfsgid = _quick.setfsgid
_setfsgid.argtypes = [ctypes.c_uint32]
_setfsgid.restype = ctypes.c_uint32
_NO_ID = 0xFFFFFFFF


class _Buffers(threading.local):
    """One set of result buffers for each thread: allocating them costs more than the calls they serve."""

    def __init__(self) -> None:
        self.statx = ctypes.create_string_buffer(_STATX_SIZE)
        self.statfs = ctypes.create_string_buffer(_STATFS_SIZE)
        self.handle = ctypes.create_string_buffer(8 + _HANDLE_BYTES)
        self.mount = ctypes.pointer(ctypes.c_int())


_buffers = _Buffers()
_HANDLE_HEAD = struct.pack("=Ii", _HANDLE_BYTES, 0)


class Attributes(NamedTuple):
    """What statx says of a file. Times are nanoseconds since the epoch; `btime_ns` is None where there is none.

    `mount` is the ID that the mount has in /proc/self/mountinfo. It is not given to another mount while a descriptor
    of a file on it is open, so a table that is read after the file was opened has the right mount under it.

    A tuple, because every decision makes several.
    """

    mode: int
    uid: int
    gid: int
    links: int
    inode: int
    size: int
    ctime_ns: int
    mtime_ns: int
    btime_ns: int | None
    device: int
    mount: int

    @property
    def is_file(self) -> bool:
        """A regular file."""
        return S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """A directory."""
        return S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """A symbolic link."""
        return S_ISLNK(self.mode)


def _fail(path: str | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)


def attributes(fd: int, *, fresh: bool = False) -> Attributes:
    """Return the attributes of an open descriptor (O_PATH will do).

    With `fresh`, a network file system is asked; otherwise what the kernel has is enough.
    """
    flags = AT_EMPTY_PATH | AT_STATX_FORCE_SYNC if fresh else _OF_DESCRIPTOR
    found = _attributes(_filled_statx(fd, b"", flags, _WANTED))
    return found if found.mount != _NO_MOUNT else found._replace(mount=_mount_by_fdinfo(fd))


def entry_attributes(directory: int, name: str) -> Attributes:
    """Return the attributes of an entry of an open directory (surrogateescape), and the mount that is on top of it.

    The entry is not opened, and its server is not asked. A symbolic link is not followed.
    """
    found = _attributes(_filled_statx(directory, os.fsencode(name), _OF_ENTRY, _WANTED))
    if found.mount != _NO_MOUNT:
        return found
    fd = os.open(name, _LOCATE, dir_fd=directory)
    try:
        return attributes(fd)
    finally:
        os.close(fd)


def _attributes(buffer: ctypes.Array[ctypes.c_char]) -> Attributes:
    mask, links, uid, gid, mode, inode, size, b_s, b_ns, c_s, c_ns, m_s, m_ns, major, minor, mount = _STATX.unpack_from(
        buffer
    )
    return Attributes(
        mode,
        uid,
        gid,
        links,
        inode,
        size,
        c_s * 1_000_000_000 + c_ns,
        m_s * 1_000_000_000 + m_ns,
        b_s * 1_000_000_000 + b_ns if mask & STATX_BTIME else None,
        os.makedev(major, minor),
        mount if mask & STATX_MNT_ID else _NO_MOUNT,
    )


class DirectoryAttributes(NamedTuple):
    """What a directory is judged by. `ctime_ns` is in nanoseconds since the epoch."""

    mode: int
    uid: int
    inode: int
    device: int
    ctime_ns: int


def directory_attributes(fd: int) -> DirectoryAttributes:
    """Return mode, owner, device and change time of an open descriptor as the kernel has them: no server is asked."""
    uid, mode, inode, seconds, nanoseconds, major, minor = _DIRECTORY_STATX.unpack_from(
        _filled_statx(fd, b"", _OF_DESCRIPTOR, STATX_BASIC_STATS)
    )
    return DirectoryAttributes(mode, uid, inode, os.makedev(major, minor), seconds * 1_000_000_000 + nanoseconds)


def unique_mount(fd: int) -> int:
    """Return an ID of a descriptor's mount that no later mount gets; before Linux 6.8, the one in mountinfo."""
    mask, *_, mount = _STATX.unpack_from(_filled_statx(fd, b"", _OF_DESCRIPTOR, STATX_MNT_ID_UNIQUE))
    return int(mount) if mask & STATX_MNT_ID_UNIQUE else attributes(fd).mount


def is_link(fd: int) -> bool:
    """Whether an open descriptor (O_PATH) is of a symbolic link.

    Does not ask for the mount: before Linux 5.14, a thread with the rights of another user may not read fdinfo.
    """
    return S_ISLNK(_MODE.unpack_from(_filled_statx(fd, b"", _OF_DESCRIPTOR, STATX_BASIC_STATS))[0])


def _filled_statx(fd: int, name: bytes, flags: int, wanted: int) -> ctypes.Array[ctypes.c_char]:
    """Return this thread's buffer with a struct statx in it, which the next call overwrites."""
    buffer = _buffers.statx
    if _statx(fd, name, flags, wanted, buffer) != 0:
        raise _fail()
    return buffer


def _mount_by_fdinfo(fd: int) -> int:
    """Return the mount's ID as proc(5) tells it, for kernels before 5.8."""
    with open(f"/proc/self/fdinfo/{fd}", "rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            if name == b"mnt_id":
                return int(value)
    raise OSError(errno.ENODATA, "the kernel does not tell the mount of an open file")


def file_system_type(fd: int) -> int:
    """Return the magic number of the file system that an open descriptor is on (statfs(2), `f_type`).

    A FUSE file system asks its server for this, so it can block there.
    """
    buffer = _buffers.statfs
    if _fstatfs(fd, buffer) != 0:
        raise _fail()
    return int(_FIRST_LONG.unpack_from(buffer)[0]) & 0xFFFFFFFF


def handle(fd: int) -> bytes | None:
    """Return the file handle of an open descriptor: type and bytes, unique on its file system even after inode reuse.

    None where the file system gives no handles.
    """
    buffer = _buffers.handle
    ctypes.memmove(buffer, _HANDLE_HEAD, 8)
    if _name_to_handle_at(fd, b"", buffer, _buffers.mount, AT_EMPTY_PATH) != 0:
        return None
    raw = buffer.raw
    return raw[4 : 8 + int.from_bytes(raw[:4], "little")]


@cache
def _how(flags: int, resolve: int) -> bytes:
    return _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, resolve)


def openat2(directory: int, path: str, flags: int, resolve: int) -> int:
    """Open a path (surrogateescape) relative to a directory's descriptor; `resolve` is openat2's RESOLVE_ flags.

    Returns a close-on-exec descriptor. Raises OSError, with ENOSYS where the kernel has no openat2, and where a system
    call filter does not know it.
    """
    try:
        return _openat2(directory, path, _how(flags, resolve))
    except PermissionError as error:
        if error.errno == errno.EPERM and _is_filtered():
            raise OSError(errno.ENOSYS, "a system call filter refuses openat2", path) from error
        raise


def _openat2(directory: int, path: str, how: bytes) -> int:
    fd: int = _syscall(_SYS_OPENAT2, directory, path.encode("utf-8", "surrogateescape"), how, len(how))
    if fd < 0:
        raise _fail(path)
    return fd


def _is_filtered() -> bool:
    """Whether openat2 is refused for every path: filters that are older than the call answer EPERM, not ENOSYS.

    Older versions of systemd do (RHEL 8 has 239). The kernel itself refuses the root directory to no one.
    """
    try:
        os.close(_openat2(AT_FDCWD, "/", _how(os.O_PATH, 0)))
    except PermissionError as error:
        return error.errno == errno.EPERM
    return False


class Credentials(NamedTuple):
    """Whose rights a path is looked up with: a user ID, a group ID and supplementary groups."""

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()


def can_assume() -> bool:
    """Whether this process can look paths up with the rights of others: it runs as root."""
    return os.geteuid() == 0 and _SYS_SETGROUPS is not None


@contextmanager
def assumed(credentials: Credentials | None) -> Iterator[None]:
    """Give this thread alone another file system user, group and supplementary groups (credentials(7)).

    Root's powers over files go with the user ID; those to come back stay. None changes nothing. Raises PermissionError
    when the kernel does not take the credentials; then nothing is changed. Nothing but opening and looking belongs in
    the block.
    """
    if credentials is None:
        yield
        return
    own = Credentials(os.geteuid(), os.getegid(), frozenset(os.getgroups()))
    # What cannot be changed need not be taken back: a process without CAP_SETGID, or under a filter, goes on.
    if not _has_ids(own) or not _take_groups(credentials.groups):
        raise PermissionError(errno.EPERM, "cannot take over the groups of another user")
    try:
        _setfsgid(credentials.gid)
        _setfsuid(credentials.uid)
        if not _has_ids(credentials):
            raise PermissionError(errno.EPERM, "cannot take over the rights of another user")
        yield
    finally:
        _restore(own)


def _has_ids(wanted: Credentials) -> bool:
    """Both calls return the ID from before, whether they fail or not: an impossible ID only asks."""
    return bool(_setfsgid(_NO_ID) == wanted.gid and _setfsuid(_NO_ID) == wanted.uid)


def _take_groups(groups: frozenset[int]) -> bool:
    packed = array("I", sorted(groups)).tobytes()  # not kept: a user can come with ever other sets of 65,536 of them
    return _SYS_SETGROUPS is not None and bool(_setgroups(_SYS_SETGROUPS, len(packed) // 4, packed) == 0)


def _restore(own: Credentials) -> None:
    """Take back this process's own. A thread that cannot must not go on: the process ends."""
    _setfsuid(own.uid)
    _setfsgid(own.gid)
    if not _take_groups(own.groups) or not _has_ids(own):
        os.abort()
