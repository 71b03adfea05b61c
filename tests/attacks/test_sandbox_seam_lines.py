"""attacks.md: sandboxes from foreign mount namespaces, and what answers about them tell."""

from __future__ import annotations

import os

import pytest

from eclctl.client import Client
from tests.attacks.test_sandbox_lines import make_box
from tests.attacks.test_seam_lines import ask, own_namespaces
from tests.helpers.support import CORPUS
from tests.places import linux
from tests.places.arena import ALICE, BOB, Arena, filesystems, needs_arena
from tests.places.fuse_server import Entry, Tree
from tests.places.linux import MS_RDONLY
from tests.places.policies import SANDBOXES

pytestmark = needs_arena

IMAGES = CORPUS / "images"


def ask_with_own_mounts(daemon: str, box: str, own: str) -> tuple[dict, dict, dict]:
    """Ask about a sandbox as it is, and again with a directory of one's own mounted in it where the asker is."""
    with Client(daemon) as client:
        clean = os.open(box, os.O_RDONLY)
        first = ask(client, box, clean)
        own_namespaces()
        outside = os.open(box, os.O_RDONLY)
        second = ask(client, box, outside)
        linux.bind(own, f"{box}/usr/lib")
        descriptor = os.open(box, os.O_RDONLY)
        assert os.listdir(f"/proc/self/fd/{descriptor}/usr/lib") == ["mine"]
        return first, second, ask(client, box, descriptor, "explain")


def test_a_sandbox_with_mounts_of_the_asker_s_in_it_is_not_trusted(arena: Arena) -> None:
    box = make_box(arena, "box")
    own = arena.folder("alice", owner=ALICE)
    (own / "mine").write_text("anything")
    arena.start_daemon(SANDBOXES)
    first, second, third = arena.call(ask_with_own_mounts, arena.site.check_socket, str(box), str(own), who=ALICE)
    print(first, second, third)
    assert first["assurance"] == "trusted-path"
    assert third["assurance"] == "none"


def ask_first_with_own_mounts(daemon: str, box: str, own: str) -> dict:
    with Client(daemon) as client:
        own_namespaces()
        linux.bind(own, f"{box}/usr/lib")
        return ask(client, box, os.open(box, os.O_RDONLY))


def test_a_sandbox_with_mounts_of_one_asker_s_in_it_is_trusted_for_others(arena: Arena) -> None:
    box = make_box(arena, "box")
    own = arena.folder("alice", owner=ALICE)
    arena.start_daemon(SANDBOXES)
    arena.call(ask_first_with_own_mounts, arena.site.check_socket, str(box), str(own), who=ALICE)
    assert arena.ask_as(BOB, box)["assurance"] == "trusted-path"


def test_the_reason_for_a_weak_sandbox_names_nothing_in_directories_that_the_asker_may_not_list(arena: Arena) -> None:
    box = make_box(arena, "box")
    private = arena.folder("images/box/private", 0o700)
    secret = private / "salaries-of-bob.txt"
    secret.write_text("content")
    os.chown(secret, BOB.uid, BOB.gid)
    arena.start_daemon(SANDBOXES)
    answer = arena.ask_as(ALICE, box, method="explain")
    assert answer["assurance"] == "none"
    assert "salaries" not in str(answer), answer
    assert str(BOB.uid) not in str(answer)


def test_a_clean_sandbox_says_nothing_of_another_where_states_of_files_cannot_be_told_apart(arena: Arena) -> None:
    memory = arena.folder("images/memory")
    arena.mount("ramfs", memory, "ramfs", data="mode=755")  # gives no handles and no birth times
    boxes = [memory / name for name in ("clean", "dirty")]
    arena.call(make_boxes, str(boxes[0]), str(boxes[1]))
    arena.start_daemon(SANDBOXES, filesystems(trusted=[memory]))
    assert arena.ask_as(BOB, boxes[0])["assurance"] == "trusted-path"
    assert arena.ask_as(BOB, boxes[1])["assurance"] == "none"


def make_boxes(clean: str, dirty: str) -> None:
    os.umask(0o022)
    os.mkdir(clean)
    os.makedirs(f"{dirty}/bin")
    os.chown(f"{dirty}/bin", ALICE.uid, ALICE.gid)


def test_a_sandbox_on_a_read_only_view_of_what_others_write_is_walked(arena: Arena) -> None:
    lower = arena.folder("lower")
    arena.folder("lower/box")
    arena.folder("lower/box/bin", owner=ALICE)
    merged = arena.folder("images/merged")
    arena.mount("overlay", merged, "overlay", data=f"lowerdir={lower}:{arena.folder('empty')}")  # has no upper layer
    arena.start_daemon(SANDBOXES, filesystems(trusted=[merged]))
    assert arena.ask_as(BOB, merged / "box")["assurance"] == "none"


def served(user: int) -> Tree:
    return {"": Entry(), "box": Entry(), "box/file": Entry(b"content", uid=user)}


@pytest.mark.parametrize("user", [0, ALICE.uid])
def test_a_sandbox_on_a_read_only_mount_of_a_server_s_is_walked(arena: Arena, user: int) -> None:
    point = arena.folder("images/served")
    arena.fuse(point, served(user), allow_other=True, flags=MS_RDONLY)
    arena.start_daemon(SANDBOXES, filesystems(fuse=[point]))
    assert arena.ask_as(BOB, point / "box")["assurance"] == ("none" if user else "trusted-path")
