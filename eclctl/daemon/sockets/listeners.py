"""Unix sockets that appear only when the daemon answers on them, and the accepting of connections.

A socket is bound and made to listen under another name in the same directory, gets its mode and owner there, and
is renamed into place when the daemon is ready. What is left of a daemon that died is replaced; a socket on
which another process listens is not. Connections are accepted also when no descriptor is free.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eclctl.daemon.background.timers import Timer
from eclctl.dataclass import dataclass
from eclctl.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

BACKLOG: Final = 1024
_PATH_LIMIT: Final = 107  # sizeof(sun_path) - 1, unix(7)
_ACCEPTS: Final = 64
_PAUSE_SECONDS: Final = 0.1
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


@dataclass(slots=True)
class Listener:
    """A listening socket and where it is to appear; `path` is None when the service manager owns the name."""

    socket: socket.socket
    path: Path | None = None
    hidden: Path | None = None
    identity: tuple[int, int] | None = None

    def publish(self) -> None:
        """Let the socket appear under its name.

        Raises:
            ConfigError: the name cannot be taken.
        """
        if self.path is None or self.hidden is None:
            return
        try:
            self.hidden.rename(self.path)
        except OSError as error:
            raise ConfigError(f"cannot put the socket at {self.path}: {error.strerror}") from error
        self.hidden = None

    def close(self) -> None:
        """Stop listening, and remove the name if it is still ours."""
        for name in (self.path, self.hidden):
            if name is not None and _identity(name) == self.identity:
                name.unlink(missing_ok=True)
        self.socket.close()


def open_listener(path: Path, mode: int, group: int | None = None) -> Listener:
    """Listen on a Unix socket that does not show under its name yet.

    Args:
        path: where it will appear; missing directories are created.
        mode: permission bits of the socket.
        group: numeric group that gets it, or None to leave it.

    Raises:
        ConfigError: the place cannot be used, or another process listens there already.
    """
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise ConfigError(f"the socket path {path} is longer than {_PATH_LIMIT} bytes; choose a shorter one")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        return _listen(listener, path, mode, group)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen at {path}: {error.strerror}") from error
    except ConfigError:
        listener.close()
        raise


def _listen(listener: socket.socket, path: Path, mode: int, group: int | None) -> Listener:
    _make_directory(path.parent)
    _require_unused(path)
    hidden = path.with_name(f".{secrets.token_hex(4)}"[: max(2, len(path.name))])
    listener.bind(str(hidden))
    hidden.chmod(mode)
    if group is not None:
        os.chown(hidden, -1, group)
    listener.listen(BACKLOG)
    return Listener(listener, path, hidden, _identity(hidden))


def _make_directory(directory: Path) -> None:
    """Make what is missing, open to all under any umask: the socket's own mode says who may connect."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)


def _require_unused(path: Path) -> None:
    """A name may be taken over only from a socket on which no process listens."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(f"{path} exists and is no socket; remove it or name another place for the socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except BlockingIOError:
            pass  # its queue is full: a process listens, and is busy
    raise ConfigError(f"another daemon listens at {path}; stop it first, or name another socket")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


class Acceptor:
    """Accepts connections on the event loop.

    Args:
        accepted: takes each connection, and whether it came by the admin socket.
        failed: told when one could not be accepted.
    """

    def __init__(self, accepted: Callable[[socket.socket, bool], None], failed: Callable[[], None]) -> None:
        self._accepted = accepted
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._listeners: set[socket.socket] = set()
        self._stopped = False
        self._reserve = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def listen(self, listener: socket.socket, *, admin: bool) -> None:
        """Accept connections from a non-blocking listening socket."""
        if not self._stopped:
            self._listeners.add(listener)
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
                    Timer(lambda: self.listen(listener, admin=admin)).set(_PAUSE_SECONDS)
                return
            self._accepted(sock, admin)

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
