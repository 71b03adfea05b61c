"""Accepts connections from listening sockets, also when no descriptor is free."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import TYPE_CHECKING, Final, Protocol

from eclctl.daemon.background.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Callable

_ACCEPTS: Final = 64
_PAUSE_SECONDS: Final = 0.1
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


class AcceptedHandler(Protocol):
    """Takes a connection that was accepted."""

    def __call__(self, sock: socket.socket, *, admin: bool) -> None:
        """Take a socket; `admin` tells whether it came by the admin socket."""


class Acceptor:
    """Accepts connections on the event loop.

    Args:
        accepted: takes each connection.
        failed: told when one could not be accepted.
    """

    def __init__(self, accepted: AcceptedHandler, failed: Callable[[], None]) -> None:
        self._accepted = accepted
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._listeners: list[socket.socket] = []
        self._stopped = False
        self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def listen(self, listener: socket.socket, *, admin: bool) -> None:
        """Accept connections from a non-blocking listening socket."""
        self._listeners.append(listener)
        self._loop.add_reader(listener, self._accept, listener, admin)

    def stop(self) -> None:
        """Accept nothing more."""
        self._stopped = True
        for listener in self._listeners:
            self._loop.remove_reader(listener)

    def close(self) -> None:
        """Give back the descriptor that is held in reserve."""
        os.close(self._reserve)

    def _accept(self, listener: socket.socket, admin: bool) -> None:  # noqa: FBT001 - add_reader passes positions
        for _ in range(_ACCEPTS):
            try:
                sock, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                self._failed()
                if error.errno not in _NO_DESCRIPTORS or not self._drop_one(listener):
                    self._loop.remove_reader(listener)
                    Timer(lambda: self._resume(listener, admin=admin)).set(_PAUSE_SECONDS)
                return
            self._accepted(sock, admin=admin)

    def _drop_one(self, listener: socket.socket) -> bool:
        """Without a free descriptor a waiting connection cannot even be refused: use the one held back for this."""
        os.close(self._reserve)
        try:
            listener.accept()[0].close()
        except OSError:
            return False
        finally:
            self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        return True

    def _resume(self, listener: socket.socket, *, admin: bool) -> None:
        if not self._stopped:
            self._loop.add_reader(listener, self._accept, listener, admin)
