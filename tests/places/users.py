"""What users and root do in an arena besides asking: functions that a test names, and a child there runs."""

from __future__ import annotations

import errno
import os
import subprocess
from multiprocessing.connection import Connection
from pathlib import Path

from eclctl.client import Client, Question
from tests.places.inside import User


def who_am_i() -> tuple[int, int, list[int]]:
    """The IDs of the process."""
    return os.geteuid(), os.getegid(), os.getgroups()


def listing(path: str) -> list[str]:
    """The sorted names in a directory."""
    return sorted(os.listdir(path))


def attempt(path: str, flags: int = os.O_RDONLY) -> str:
    """Open a file: `opened`, or the name of the error."""
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno]
    return "opened"


def file_system_in(image: Path, owner: User | None = None, size: int = 4 << 20) -> None:
    """Make an ext4 file system in a file, as anybody can; the file is root's or a user's own."""
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "root_owner=0:0", image], check=True, capture_output=True)
    if owner is not None:
        os.chown(image, owner.uid, owner.gid)


def hold_and_ask_later(channel: Connection, path: str, daemon: str) -> dict:
    """Open an image, say so, and ask about it when told to."""
    descriptor = os.open(path, os.O_RDONLY)
    channel.send("open")
    channel.recv()
    with Client(daemon) as client:
        return client.ask(Question("explain", {"image": path, "fd": True}, [descriptor]))
