"""The system calls for mounts, namespaces and loop devices that Python does not offer. Each raises OSError."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 1, 2, 4, 32, 4096
MS_MOVE, MS_REC, MS_PRIVATE = 8192, 16384, 1 << 18
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
AT_FDCWD = -100

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4
_LOOP_CONFIGURE, _LOOP_CTL_GET_FREE = 0x4C0A, 0x4C82
_LO_FLAGS_READ_ONLY, _LO_FLAGS_AUTOCLEAR = 1, 4
# struct loop_config (include/uapi/linux/loop.h): descriptor, block size, loop_info64 (its flags and file name), spare.
_LOOP_CONFIG = struct.Struct("=II 40x III I 64s 64x 32x 16x 64x")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]


def _check(result: int, name: str | None = None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def unshare_mounts() -> None:
    """Give the calling process a mount namespace of its own, from which no mount reaches another."""
    _check(_libc.unshare(CLONE_NEWNS))
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def enter_mounts(descriptor: int) -> None:
    """Enter the mount namespace that a descriptor of /proc/PID/ns/mnt names."""
    _check(_libc.setns(descriptor, CLONE_NEWNS))


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2)."""
    words = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _check(_libc.mount(words[0], words[1], words[2], flags, words[3]), target)


def bind(source: str, target: str, *, recursive: bool = False, read_only: bool = False) -> None:
    """Make what lies at `source` appear at `target` too."""
    mount(source, target, flags=MS_BIND | (MS_REC if recursive else 0))
    if read_only:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def umount(target: str, *, lazy: bool = False) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)), target)


def exchange(one: str, other: str) -> None:
    """Exchange what two names lead to, in one step."""
    _check(_libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE), one)


def die_with_parent(number: int) -> None:
    """Have the kernel send a signal when the parent ends. A change of user undoes this: call it afterwards."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0))


def make_dumpable() -> None:
    """Let /proc/self be the user's own again, which a change of user takes away."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))


def loop_device(image: str, *, read_only: bool = False) -> tuple[str, int]:
    """Put a free loop device over a file.

    Returns its name and a descriptor of it. The device is given back when the descriptor is closed and what was mounted
    from it is gone, even if the process is killed.
    """
    flags = _LO_FLAGS_AUTOCLEAR | (_LO_FLAGS_READ_ONLY if read_only else 0)
    access = os.O_CLOEXEC | (os.O_RDONLY if read_only else os.O_RDWR)
    backing = os.open(image, access)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        config = _LOOP_CONFIG.pack(backing, 0, 0, 0, 0, flags, os.fsencode(image)[:63])
        while True:
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            descriptor = os.open(device, access)
            try:
                fcntl.ioctl(descriptor, _LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(descriptor)
                if error.errno != errno.EBUSY:  # another process was quicker
                    raise
            else:
                return device, descriptor
    finally:
        os.close(backing)
        os.close(control)


def mount_loop(image: str, target: str, kind: str, flags: int = MS_NOSUID | MS_NODEV, data: str | None = None) -> str:
    """Mount a file system that lies in a file; return the device, which is given back with the mount."""
    device, descriptor = loop_device(image, read_only=bool(flags & MS_RDONLY))
    try:
        mount(device, target, kind, flags, data)
    finally:
        os.close(descriptor)
    return device
