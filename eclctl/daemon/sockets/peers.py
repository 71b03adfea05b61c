"""The process at the other end of a Unix socket, as the kernel says.

The credentials are those of the process that called connect(2) (unix(7), SO_PEERCRED). What a message says about
its sender never counts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from array import array
from typing import Final

from eclctl.dataclass import dataclass
from eclctl.model import Caller

_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; not in Python's socket module
_UCRED: Final = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_GETSOCKOPT_LIMIT: Final = 1024  # the longest buffer that socket.getsockopt takes: 256 groups
MOST_GROUPS: Final = 4096
"""Groups of one caller. The kernel takes 65,536, which a user with subordinate gids can have: megabytes each time."""


class TooManyGroupsError(Exception):
    """A process is in more groups than `MOST_GROUPS`."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected: its credentials then, and its process ID."""

    caller: Caller
    pid: int

    @property
    def person(self) -> int | str:
        """Whose limits count: the uid, or the user that it is a subordinate uid of."""
        return self.caller.person


def peer_of(connection: socket.socket) -> Peer:
    """Return the process that connected to a Unix socket.

    Raises:
        OSError: the kernel does not say; the connection must then be closed.
        TooManyGroupsError: nothing is decided for it.
    """
    pid, uid, gid = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Peer(Caller(uid, gid, _peer_groups(connection) | {gid}), pid)


def _peer_groups(connection: socket.socket) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GETSOCKOPT_LIMIT)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        raw = _many_groups(connection)
    return frozenset(array("I", raw))


def _many_groups(connection: socket.socket) -> bytes:
    """SO_PEERGROUPS for a user in more groups than Python's getsockopt has room for."""
    libc = ctypes.CDLL(None, use_errno=True)
    groups = (ctypes.c_uint32 * MOST_GROUPS)()
    size = ctypes.c_uint32(ctypes.sizeof(groups))
    status = libc.getsockopt(
        connection.fileno(), socket.SOL_SOCKET, _SO_PEERGROUPS, ctypes.byref(groups), ctypes.byref(size)
    )
    if status != 0:
        failure = ctypes.get_errno()
        if failure == errno.ERANGE:
            raise TooManyGroupsError
        raise OSError(failure, os.strerror(failure))
    return bytes(groups)[: size.value]
