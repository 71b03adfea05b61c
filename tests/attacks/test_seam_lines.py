"""attacks.md: what an ordinary user can do where a name or a descriptor becomes a file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import time

from eclctl.client import Client, ClientRequest, NoAnswerError
from tests.helpers.site import APPROVED, UNSIGNED
from tests.helpers.support import CORPUS
from tests.places import linux
from tests.places.arena import ALICE, BOB, Arena, needs_arena
from tests.places.fuse_server import Entry
from tests.places.policies import HOMES, PRODUCTION

pytestmark = needs_arena

IMAGES = CORPUS / "images"
_CLONE_NEWUSER = 0x10000000
_libc = ctypes.CDLL(None, use_errno=True)


def own_namespaces() -> None:
    """What every user may do: a user namespace of one's own, and a mount namespace in it."""
    uid, gid = os.geteuid(), os.getegid()
    if _libc.unshare(_CLONE_NEWUSER | linux.CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)


def ask(client: Client, name: str, descriptor: int, method: str = "check") -> dict:
    try:
        return client.ask(ClientRequest(method, {"image": name, "fd": True}, [descriptor]))
    except NoAnswerError as error:
        return {"error": error.code, "message": str(error)}


def ask_by_two_names(daemon: str, folder: str, count: int) -> list[dict]:
    """Open one's own file of two names by one that lies below /dev in a mount namespace of one's own."""
    with Client(daemon) as client:
        own_namespaces()
        linux.bind(folder, "/dev/shm")
        descriptor = os.open("/dev/shm/b.sif", os.O_RDONLY)
        return [ask(client, f"{folder}/a.sif", descriptor) for _ in range(count)]


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_question_about_a_file_of_two_names_leaves_no_descriptor_open(arena: Arena) -> None:
    home = arena.folder("home", owner=ALICE)
    shutil.copyfile(IMAGES / UNSIGNED, home / "a.sif")
    os.chown(home / "a.sif", *ALICE[:2])
    os.link(home / "a.sif", home / "b.sif")
    arena.start_daemon(HOMES)
    arena.call(ask_by_two_names, arena.site.check_socket, str(home), 5, who=ALICE)
    before = descriptors(arena.site.pid)
    answers = arena.call(ask_by_two_names, arena.site.check_socket, str(home), 50, who=ALICE)
    assert {answer.get("decision") for answer in answers} == {"allow"}
    assert descriptors(arena.site.pid) < before + 10


def answered(arena: Arena, seconds: float = 5) -> bool:
    """Whether another user is answered."""
    job = arena.start(ask_once, arena.site.check_socket, arena.site.image(APPROVED), who=BOB)
    return job.ready(seconds) and job.result()["decision"] == "allow"


def ask_once(daemon: str, path: str, name: str = "") -> dict:
    descriptor = os.open(path, os.O_RDONLY)
    with Client(daemon) as client:
        return ask(client, name or path, descriptor)


def hung(arena: Arena, home: str) -> None:
    """A FUSE file system of the user's own, that all may enter, and that answers nothing any more."""
    point = arena.folder(f"{home}/mnt", owner=ALICE)
    server = arena.fuse(point, {"d/x.sif": Entry(b"x")}, uid=ALICE.uid, gid=ALICE.gid, allow_other=True)
    assert arena.run("stat", point, point / "d", who=ALICE).status == 0  # the kernel knows the modes of its directories
    server.hang()


def test_the_loop_does_not_enter_a_hung_mount_below_a_renamed_directory(arena: Arena) -> None:
    """A rename of the directory above a mount point changes the mount table without the kernel telling it."""
    home = arena.folder("home", owner=ALICE)
    arena.folder("home/a", owner=ALICE)
    hung(arena, "home/a")
    shutil.copyfile(IMAGES / UNSIGNED, home / "own.sif")
    arena.start_daemon(HOMES)
    assert answered(arena)
    arena.call(os.rename, str(home / "a"), str(home / "b"), who=ALICE)
    arena.start(ask_once, arena.site.check_socket, str(home / "own.sif"), str(home / "b/mnt/d/x.sif"), who=ALICE)
    time.sleep(0.5)
    assert answered(arena)


def test_the_loop_does_not_enter_a_hung_mount_on_the_way_to_another_name(arena: Arena) -> None:
    """The file lies below a mount point of the user's; a bind mount of the home still reaches it."""
    home = arena.folder("home", owner=ALICE)
    arena.folder("home/mnt", owner=ALICE)
    arena.folder("home/mnt/d", owner=ALICE)
    shutil.copyfile(IMAGES / UNSIGNED, home / "mnt/d/x.sif")
    arena.bind(home, arena.root / "bound")
    hung(arena, "home")
    arena.start_daemon(HOMES)
    assert answered(arena)
    arena.start(ask_once, arena.site.check_socket, str(arena.root / "bound/mnt/d/x.sif"), who=ALICE)
    time.sleep(0.5)
    assert answered(arena)


def flip_for_ever(link: str, one: str, other: str) -> None:
    """Have a symbolic link lead to one and the other place in turn, until killed."""
    while True:
        for target in (one, other):
            os.symlink(target, link + ".new")
            os.rename(link + ".new", link)


def ask_for_ever(daemon: str, path: str, name: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    while True:
        with contextlib.suppress(OSError), Client(daemon, 2) as client:
            while True:
                ask(client, name, descriptor)


def test_the_loop_does_not_enter_a_hung_mount_when_it_looks_again(arena: Arena) -> None:
    """The name is local when the question is begun, and leads into the mount when the image has been read."""
    home = arena.folder("home", owner=ALICE)
    arena.folder("home/d", owner=ALICE)
    hung(arena, "home")
    shutil.copyfile(IMAGES / UNSIGNED, home / "d/x.sif")
    (home / "link").symlink_to(home / "d")
    arena.start_daemon(PRODUCTION + _NEEDS_READING)
    assert answered(arena)
    link, image = str(home / "link"), str(home / "d/x.sif")
    arena.start(flip_for_ever, link, str(home / "d"), str(home / "mnt/d"), who=ALICE)
    arena.start(ask_for_ever, arena.site.check_socket, image, f"{link}/x.sif", who=ALICE)
    for _ in range(20):
        time.sleep(0.2)
        assert answered(arena)


_NEEDS_READING = """  - name: read
    match: {{paths: ["{root}/**"]}}
    assurance: none
    require:
      - any_of: [builder]
"""
