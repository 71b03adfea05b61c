"""The process that owns the mount namespace of an arena, and forks what a test runs in it.

It is a process of one thread that has imported all it needs, so its children can drop to users who may read neither
the interpreter nor the modules. It ends with the test that started it, and so do its children.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NamedTuple

from tests.places import asking, fuse_server, linux  # noqa: F401 - children cannot import once they are users


class User(NamedTuple):
    """Whose rights a program has."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


class Order(NamedTuple):
    """What to run in a child: a function by module and name, or with `pid` the process to kill."""

    function: tuple[str, str] = ("", "")
    arguments: tuple = ()
    who: User | None = None
    channel: bool = False
    pid: int = 0


class Done(NamedTuple):
    """What a program left."""

    status: int
    output: str
    errors: str


def execute(argv: tuple[str, ...], timeout: float) -> Done:
    """Run a program."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout)
    return Done(done.returncode, done.stdout, done.stderr)


def become(who: User) -> None:
    """Take on a user's IDs and lose all of root's rights."""
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)
    linux.make_dumpable()


def _child(order: Order, channel: Connection) -> None:
    """Run the function of an order and send what comes of it; never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        module, name = order.function
        function: Callable = getattr(importlib.import_module(module), name)
        if order.who is not None:
            become(order.who)
        linux.die_with_parent(signal.SIGKILL)
        first = (channel,) if order.channel else ()
        outcome = (True, function(*first, *order.arguments))
    except BaseException:  # noqa: BLE001 - the test sees it
        outcome = (False, traceback.format_exc())
    try:
        channel.send(outcome)
    except OSError:
        os._exit(1)  # the test has gone
    os._exit(0)


def _start(order: Order, descriptor: int, ours: socket.socket, children: set[int]) -> None:
    pid = os.fork()
    if pid == 0:
        ours.close()
        _child(order, Connection(descriptor))
    os.close(descriptor)
    children.add(pid)
    ours.sendall(pid.to_bytes(4, sys.byteorder))


def send(sock: socket.socket, order: Order, descriptors: tuple[int, ...] = ()) -> None:
    """Send an order, with the descriptor that its function answers on."""
    data = pickle.dumps(order)
    socket.send_fds(sock, [len(data).to_bytes(8, sys.byteorder)], descriptors)
    sock.sendall(data)


def _receive(sock: socket.socket) -> tuple[Order | None, list[int]]:
    head, descriptors, _, _ = socket.recv_fds(sock, 8, 1)
    if not head:
        return None, []
    data = sock.recv(int.from_bytes(head, sys.byteorder), socket.MSG_WAITALL)
    return pickle.loads(data), list(descriptors)


def _reap(children: set[int]) -> None:
    for pid in tuple(children):
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            children.discard(pid)


def serve(ours: socket.socket) -> None:
    """Take orders until the test closes the connection, then kill what is left."""
    children: set[int] = set()
    while True:
        order, descriptors = _receive(ours)
        _reap(children)
        if order is None:
            break
        if descriptors:
            _start(order, descriptors[0], ours, children)
            continue
        if order.pid in children:  # a child that was not waited for: its number is still its own
            os.kill(order.pid, signal.SIGKILL)
            os.waitpid(order.pid, 0)
            children.discard(order.pid)
        ours.sendall(order.pid.to_bytes(4, sys.byteorder))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def main() -> None:
    """Make the namespace, say so, and serve on the descriptor that the command line names."""
    os.umask(0o022)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    linux.unshare_mounts()
    with socket.socket(fileno=int(sys.argv[1])) as ours:
        ours.sendall(os.getpid().to_bytes(4, sys.byteorder))
        serve(ours)
