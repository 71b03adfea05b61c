"""What users and root do in an arena besides asking: functions that a test names, and a child there runs."""

from __future__ import annotations

import errno
import mmap
import os
import struct
import subprocess
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from eclctl.client import Client, ClientRequest
from tests.places import linux
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
    """Make an ext4 file system in a file, as every user can; the file is root's or a user's own."""
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
        return client.ask(ClientRequest("explain", {"image": path, "fd": True}, [descriptor]))


_DEEP = "d" * 100


def copy_deep(top: str, depth: int, image: str) -> None:
    """Make that many directories with long names in one another, and copy an image into the last."""
    with open(image, "rb") as file:
        content = file.read()
    os.chdir(top)
    for _ in range(depth):
        os.mkdir(_DEEP)
        os.chdir(_DEEP)
    with open("a.sif", "wb") as file:
        file.write(content)


def hold_deep_and_ask(channel: Connection, top: str, depth: int, name: str, daemon: str) -> dict:
    """Open an image as deep below a directory as `copy_deep` made it; ask about it by `name` when told to."""
    channel.recv()
    os.chdir(top)
    for _ in range(depth):
        os.chdir(_DEEP)
    descriptor = os.open("a.sif", os.O_RDONLY)
    channel.send("open")
    channel.recv()
    with Client(daemon) as client:
        return client.ask(ClientRequest("explain", {"image": f"{top}/{name}", "fd": True}, [descriptor]))


def ask_about_one_file(daemon: str, path: str, count: int) -> Counter[tuple[str, str, str]]:
    """Open an image once, and ask about it again and again by one name; count decision, code and assurance."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY)
            break
        except FileNotFoundError:
            continue  # its directory is exchanged at this moment
    counted: Counter[tuple[str, str, str]] = Counter()
    with Client(daemon) as client:
        for _ in range(count):
            answer = client.ask(ClientRequest("check", {"image": path, "fd": True}, [descriptor]))
            counted[answer["decision"], answer["code"], str(answer["assurance"])] += 1
    return counted


def exchange_for_ever(one: str, other: str) -> None:
    """Exchange two names until killed."""
    while True:
        linux.exchange(one, other)


def hold_for_writing(channel: Connection, path: str, mapped: bool) -> None:
    """Open a file for writing, or map it so and close it; say so, and hold it until killed."""
    descriptor = os.open(path, os.O_RDWR)
    if mapped:
        memory = mmap.mmap(descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        os.close(descriptor)
        memory[0] = memory[0]
    channel.send("held")
    channel.recv()


def wait_in(channel: Connection, folder: str) -> None:
    """Have a directory as the working directory, say so, and stay until killed."""
    os.chdir(folder)
    channel.send("there")
    channel.recv()


def grant_by_acl(path: Path, user: User) -> None:
    """Let one user write by a POSIX ACL (posix_acl_xattr.h: version 2; tag, permissions and ID of each entry)."""
    anyone = 0xFFFFFFFF
    entries = [(1, 7, anyone), (2, 7, user.uid), (4, 5, anyone), (16, 7, anyone), (32, 5, anyone)]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
