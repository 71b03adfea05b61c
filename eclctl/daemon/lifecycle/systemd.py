"""The protocol between systemd and a service: readiness, the watchdog, and sockets that were opened beforehand.

Written from sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3); no library is needed for it.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START
_MICROSECONDS: Final = 1_000_000


class SystemdNotifier:
    """Sends state to the service manager; does nothing when there is none.

    Args:
        address: the value of NOTIFY_SOCKET: a path, or `@` and an abstract name; None without a manager.
    """

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    def ready(self, status: str) -> None:
        """The service answers now; `status` is one line for `systemctl status`."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service begins to stop."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The event loop turns."""
        self._send("WATCHDOG=1")

    def _send(self, state: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(0)
            try:
                sender.sendto(state.encode(), self._address)
            except OSError:
                return  # the manager is gone or does not read; what it makes of the silence is its to say


def watchdog_interval(environment: Mapping[str, str]) -> float | None:
    """Return seconds between two signs of life, half of what the manager allows; None when it does not ask for any."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    allowed = environment.get("WATCHDOG_USEC", "")
    if not allowed.isdecimal() or int(allowed) == 0:
        return None
    return int(allowed) / _MICROSECONDS / 2


def passed_sockets(environment: Mapping[str, str]) -> dict[str, socket.socket]:
    """Listening sockets that the service manager opened, by the name that FileDescriptorName= gives them.

    Raises:
        OSError: a descriptor that was announced is no socket.
    """
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return {}
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    passed = {}
    for index in range(int(count)):
        descriptor = _FIRST_DESCRIPTOR + index
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - takes no keyword
        listener = socket.socket(fileno=descriptor)
        listener.settimeout(0)
        passed[names[index] if index < len(names) else f"unknown-{index}"] = listener
    return passed
