"""An arena: a mount namespace of a test's own with a site in it, whose daemon runs as root, and users who ask it.

What is mounted in it shows nowhere else and goes with it. Functions that run inside are named functions of a module:
a child of the arena's own process runs them, as root or as a user.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import pytest

from tests.helpers.site import PATIENCE, Site
from tests.helpers.support import ROOT
from tests.places import asking, fuse_server, linux
from tests.places.inside import Done, Order, User, execute, send

RECORDED = ROOT / "tests" / "places" / "mountinfo"
ALICE, BOB = User(4242, 4242), User(4343, 4343)
_HOMES = ("/tmp", "/srv", "/var/lib", "/")
_MAIN = "from tests.places.inside import main; main()"

needs_arena = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("nsenter") is None, reason="needs root and nsenter, for a mount namespace"
)
needs_ext4 = pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="needs mkfs.ext4")


class InsideError(AssertionError):
    """A function failed in the arena; the text is its traceback there."""


class Job:
    """A function that runs in the arena. `send` and `receive` speak with one that was started with a channel."""

    def __init__(self, arena: Arena, pid: int, channel: Connection) -> None:
        self._arena, self.pid, self._channel = arena, pid, channel

    def send(self, message: object) -> None:
        self._channel.send(message)

    def receive(self, timeout: float = PATIENCE) -> Any:
        """Return the next message. Kills the job when none comes in time."""
        if not self._channel.poll(timeout):
            self.kill()
            raise InsideError(f"nothing came from a process in the arena within {timeout:g} s")
        return self._channel.recv()

    def ready(self, timeout: float) -> bool:
        """Whether a message or the result comes in that time."""
        return self._channel.poll(timeout)

    def result(self, timeout: float = PATIENCE) -> Any:
        """Wait until the function returns, and return that; InsideError when it raised."""
        try:
            good, value = self.receive(timeout)
        except EOFError:
            raise InsideError("a process in the arena was killed") from None
        self._channel.close()
        if not good:
            raise InsideError(value)
        return value

    def kill(self) -> None:
        """End the process at once."""
        self._arena.kill(self.pid)
        self._channel.close()


class Arena:
    """A mount namespace, with `site`: a site on the root file system whose daemon does not run yet."""

    def __init__(self, limits: str = "{}") -> None:
        self._jobs: list[Job] = []
        self._closers: list[Callable[[], None]] = []
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(PATIENCE)
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", _MAIN, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        self.pid = self._number()
        self.site = Site(limits, folder=home(), prefix=("nsenter", f"--mount=/proc/{self.pid}/ns/mnt", "--"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def root(self) -> Path:
        """The site's directory: root's own, on the root file system, open to all users."""
        return self.site.root

    def close(self) -> None:
        """End all that runs in the namespace, and remove the site's files."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.site.close)
            stack.callback(self._wait)
            stack.callback(self._socket.close)
            for job in self._jobs:
                stack.callback(job._channel.close)
            stack.callback(self.site.end)
            for closer in self._closers:
                stack.callback(closer)

    def _wait(self) -> None:
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def _number(self) -> int:
        data = self._socket.recv(4)
        if len(data) != 4:
            raise InsideError("the process of the arena ended; was it allowed to unshare its mounts?")
        return int.from_bytes(data, sys.byteorder)

    # Running

    def start(self, function: Callable, *arguments: object, who: User | None = None, channel: bool = False) -> Job:
        """Start a module's function in the arena, as root or as `who`.

        With `channel`, its first argument is a Connection, the other end of the job's `send` and `receive`.
        """
        ours, theirs = socket.socketpair()
        order = Order((function.__module__, function.__qualname__), arguments, who, channel)
        with theirs:
            send(self._socket, order, (theirs.fileno(),))
            job = Job(self, self._number(), Connection(ours.detach()))
        self._jobs.append(job)
        return job

    def call(self, function: Callable, *arguments: object, who: User | None = None, timeout: float = PATIENCE) -> Any:
        """Run a module's function in the arena and return what it returns."""
        return self.start(function, *arguments, who=who).result(timeout)

    def run(self, *argv: str | Path, who: User | None = None, timeout: float = PATIENCE) -> Done:
        """Run a program in the arena."""
        return self.call(execute, tuple(map(str, argv)), timeout, who=who, timeout=timeout + 5)

    def kill(self, pid: int) -> None:
        """Kill a job."""
        send(self._socket, Order(pid=pid))
        self._number()

    # Files and mounts

    def folder(self, name: str, mode: int = 0o755, owner: User = User(0, 0)) -> Path:  # noqa: B008 - frozen
        """Make a directory below the site's."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, owner.uid, owner.gid)
        path.chmod(mode)
        return path

    def mount(
        self, source: str, target: Path | str, kind: str | None = None, flags: int = 0, data: str | None = None
    ) -> None:
        self.call(linux.mount, source, str(target), kind, flags, data)

    def bind(self, source: Path | str, target: Path | str) -> None:
        """Bind a directory or a file to another place, which is made when it is not there."""
        if not os.path.lexists(target):
            Path(target).mkdir() if os.path.isdir(source) else Path(target).touch()
        self.call(linux.bind, str(source), str(target))

    def loop(
        self, image: Path | str, target: Path | str, kind: str = "ext4", flags: int = linux.MS_NOSUID | linux.MS_NODEV
    ) -> str:
        """Mount a file system that lies in a file; return its loop device, which is given back with the mount."""
        return self.call(linux.mount_loop, str(image), str(target), kind, flags)

    def umount(self, target: Path | str, *, lazy: bool = False) -> None:
        self.call(detach if lazy else linux.umount, str(target))

    def fuse(self, target: Path | str, tree: fuse_server.Tree, **options: Any) -> fuse_server.Handle:
        """Mount a FUSE server of this tree; `options` are those of `fuse_server.Options`."""
        job = self.start(fuse_server.run, str(target), tree, fuse_server.Options(**options), channel=True)
        made = job.receive()
        if made != fuse_server.READY:
            raise InsideError(made[1])
        handle = fuse_server.Handle(job)
        self._closers.append(handle.abort)
        return handle

    # The daemon

    def start_daemon(self, policy: str | None = None, more: str = "", limits: str = "{}") -> Site:
        """Start the daemon in the namespace, with a policy as `Site.policy` takes it and more of the configuration."""
        if policy is not None:
            self.site.policy(policy)
        self.site.configure(limits, more)
        return self.site.start()

    def ask_as(
        self,
        who: User | None,
        image: Path | str,
        *,
        name: Path | str | None = None,
        flags: int = os.O_RDONLY,
        method: str = "check",
        fd: bool = True,
    ) -> dict:
        """Ask the daemon as a user: open `image` with `flags` and send its descriptor with `name` (or `image`).

        Returns the result, or `{"error": code, "message": text}`. Without `fd`, ask by name alone.
        """
        question = asking.Ask(str(image), str(image if name is None else name), flags, method, fd)
        (answer,) = self.ask_all(who, [question])
        return answer

    def ask_all(self, who: User | None, questions: Sequence[asking.Ask], timeout: float = PATIENCE) -> list[dict]:
        """Ask several questions as a user, one after another over one connection."""
        return self.call(asking.ask, self.site.check_socket, tuple(questions), who=who, timeout=timeout)


def detach(target: str) -> None:
    """Unmount lazily."""
    linux.umount(target, lazy=True)


def home() -> str:
    """A directory on the root file system, whose parents are trusted."""
    device = os.stat("/").st_dev
    return next(folder for folder in _HOMES if os.path.isdir(folder) and os.stat(folder).st_dev == device)


def filesystems(
    trusted: Sequence[Path | str] = (), read_only: Sequence[Path | str] = (), fuse: Sequence[Path | str] = ()
) -> str:
    """The line of the configuration that says which mount points are trusted."""
    lists = {"trusted": trusted, "read_only": read_only, "fuse": fuse}
    return f"filesystems: { ({key: [str(point) for point in points] for key, points in lists.items()})!r}\n"


def recorded(name: str) -> str:
    """A recorded mount table, as the daemon would read it: by newline alone, odd bytes as surrogate escapes."""
    return (RECORDED / f"{name}.txt").read_bytes().decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Hold a lock that all workers of a test run share."""
    import fcntl

    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
