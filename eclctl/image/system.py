"""The three system calls that Python does not offer: statx(2), name_to_handle_at(2) and openat2(2).

Each wrapper raises OSError as the `os` functions do. Attributes are asked for without synchronising with a server
(AT_STATX_DONT_SYNC) unless the caller says otherwise, so that a hung network file system cannot stall the caller.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from functools import cache
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_STATX_DONT_SYNC = 0x4000
AT_STATX_FORCE_SYNC = 0x2000
STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
_SYS_OPENAT2 = 437

_HANDLE_BYTES = 128
_STATX_SIZE = 256
# struct statx up to the device numbers (include/uapi/linux/stat.h); x skips what is not used.
_STATX = struct.Struct("=I4x8xIIIHxxQQ8x8x16xqI4xqI4xqI4x8xII")
_OPEN_HOW = struct.Struct("=QQQ")

_libc = ctypes.CDLL(None, use_errno=True)
_statx = _libc.statx
_statx.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p]
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


class _Buffers(threading.local):
    """One set of result buffers for each thread: allocating them costs more than the calls they serve."""

    def __init__(self) -> None:
        self.statx = ctypes.create_string_buffer(_STATX_SIZE)
        self.handle = ctypes.create_string_buffer(8 + _HANDLE_BYTES)
        self.mount = ctypes.pointer(ctypes.c_int())


_buffers = _Buffers()
_HANDLE_HEAD = struct.pack("=Ii", _HANDLE_BYTES, 0)


class Attributes(NamedTuple):
    """What statx says of a file. Times are nanoseconds since the epoch; `btime_ns` is None where there is none.

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

    @property
    def is_file(self) -> bool:
        """A regular file."""
        return S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """A directory."""
        return S_ISDIR(self.mode)


def _fail(path: str | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)


def attributes(fd: int, *, fresh: bool = False) -> Attributes:
    """Return the attributes of an open descriptor (O_PATH will do).

    With `fresh`, a network file system is asked; otherwise what the kernel has is enough.
    """
    buffer = _buffers.statx
    flags = AT_EMPTY_PATH | (AT_STATX_FORCE_SYNC if fresh else AT_STATX_DONT_SYNC)
    if _statx(fd, b"", flags, STATX_BASIC_STATS | STATX_BTIME, buffer) != 0:
        raise _fail()
    mask, links, uid, gid, mode, inode, size, b_s, b_ns, c_s, c_ns, m_s, m_ns, major, minor = _STATX.unpack_from(buffer)
    btime = b_s * 1_000_000_000 + b_ns if mask & STATX_BTIME else None
    return Attributes(
        mode,
        uid,
        gid,
        links,
        inode,
        size,
        c_s * 1_000_000_000 + c_ns,
        m_s * 1_000_000_000 + m_ns,
        btime,
        os.makedev(major, minor),
    )


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
def _how(flags: int) -> bytes:
    return _OPEN_HOW.pack(flags | os.O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)


def open_exactly(path: str, flags: int) -> int:
    """Open an absolute path (surrogateescape) that must hold no symbolic link in any component; ELOOP when it does.

    Returns a close-on-exec descriptor.
    """
    how = _how(flags)
    fd: int = _syscall(_SYS_OPENAT2, AT_FDCWD, path.encode("utf-8", "surrogateescape"), how, len(how))
    if fd < 0:
        raise _fail(path)
    return fd
