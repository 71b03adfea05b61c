"""attacks.md: sandboxes, whose top is root's, over something that others can write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.site import eventually
from tests.places.arena import ALICE, BOB, Arena, filesystems, needs_arena, needs_ext4
from tests.places.fuse_server import Entry
from tests.places.linux import MS_NODEV, MS_NOSUID, MS_RDONLY
from tests.places.policies import SANDBOXES
from tests.places.spellings import LINE_ENDS
from tests.places.users import file_system_in, grant_by_acl, hold_for_writing

pytestmark = needs_arena


@pytest.fixture
def box(arena: Arena) -> Path:
    return make_box(arena, "box")


def make_box(arena: Arena, called: str) -> Path:
    """Make a sandbox that is root's all through."""
    box = arena.folder(f"images/{called}")
    for name in (".singularity.d", "bin", "usr/bin", "usr/lib/deep/down", "tmp", "etc"):
        arena.folder(f"images/{called}/{name}")
    for name in ("bin/sh", "usr/bin/python", "usr/lib/deep/down/lib.so", ".singularity.d/runscript", "etc/passwd"):
        (box / name).write_text("content")
        (box / name).chmod(0o644)
    (box / "sh").symlink_to("bin/sh")
    (box / "out").symlink_to("/etc/passwd")
    return box


def file_of_a_user(_: Arena, box: Path) -> None:
    os.chown(box / "usr/lib/deep/down/lib.so", ALICE.uid, 0)


def file_for_all(_: Arena, box: Path) -> None:
    (box / "usr/lib/deep/down/lib.so").chmod(0o666)


def directory_of_a_user(_: Arena, box: Path) -> None:
    os.chown(box / "usr/lib/deep", ALICE.uid, 0)


def directory_for_all(_: Arena, box: Path) -> None:
    (box / "usr/lib/deep").chmod(0o777)


def sticky_directory(_: Arena, box: Path) -> None:
    (box / "tmp").chmod(0o1777)


def file_for_a_group(_: Arena, box: Path) -> None:
    os.chown(box / "bin/sh", 0, ALICE.gid)
    (box / "bin/sh").chmod(0o664)


def directory_for_a_group(_: Arena, box: Path) -> None:
    os.chown(box / "bin", 0, ALICE.gid)
    (box / "bin").chmod(0o2775)


def file_for_a_user_by_acl(_: Arena, box: Path) -> None:
    grant_by_acl(box / "bin/sh", ALICE)


def directory_for_a_user_by_acl(_: Arena, box: Path) -> None:
    grant_by_acl(box / "bin", ALICE)


def mount_of_memory(arena: Arena, box: Path) -> None:
    arena.mount("tmpfs", box / "tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")


def mount_of_a_user(arena: Arena, box: Path) -> None:
    owners = {"uid": ALICE.uid, "gid": ALICE.gid}
    arena.fuse(box / "usr/lib/deep", {"lib.so": Entry(b"anything")}, allow_other=True, **owners)


def mount_closed_to_root(arena: Arena, box: Path) -> None:
    arena.fuse(box / "usr/lib/deep", {"lib.so": Entry(b"anything")}, uid=ALICE.uid, gid=ALICE.gid)


def directory_of_a_user_bound_into_it(arena: Arena, box: Path) -> None:
    arena.bind(arena.folder("alice", owner=ALICE), box / "etc")


def hard_link_to_a_user_s_file(arena: Arena, box: Path) -> None:
    own = arena.folder("alice", owner=ALICE) / f"{box.name}.so"
    own.write_text("mine")
    os.chown(own, ALICE.uid, ALICE.gid)
    os.link(own, box / "usr/lib/deep/down/more.so")


WRITABLE: list[Callable[[Arena, Path], None]] = [
    file_of_a_user,
    file_for_all,
    directory_of_a_user,
    directory_for_all,
    sticky_directory,
    file_for_a_group,
    directory_for_a_group,
    file_for_a_user_by_acl,
    directory_for_a_user_by_acl,
    mount_of_memory,
    mount_of_a_user,
    mount_closed_to_root,
    directory_of_a_user_bound_into_it,
    hard_link_to_a_user_s_file,
]
MOUNTS = {mount_of_memory, mount_of_a_user, mount_closed_to_root, directory_of_a_user_bound_into_it}
NAMES = [make.__name__ for make in WRITABLE]
TOO_LOW = ("deny", "assurance-too-low", "none")
TRUSTED = ("allow", "rule-allow", "trusted-path")


def verdict(arena: Arena, box: Path) -> tuple[str, str, str]:
    answer = arena.ask_as(BOB, box)
    return answer["decision"], answer["code"], answer["assurance"]


def test_sandboxes_that_are_root_s_all_through_have_a_trusted_path(arena: Arena, box: Path) -> None:
    arena.start_daemon(SANDBOXES)
    assert [verdict(arena, box) for _ in range(2)] == [TRUSTED] * 2


def test_sandboxes_over_what_others_can_write_have_no_trusted_path(arena: Arena) -> None:
    boxes = {make: make_box(arena, make.__name__) for make in WRITABLE}
    for make, box in boxes.items():
        make(arena, box)
    arena.start_daemon(SANDBOXES)
    for _ in range(2):
        assert {make.__name__: verdict(arena, box) for make, box in boxes.items()} == dict.fromkeys(NAMES, TOO_LOW)


def test_sandboxes_that_change_after_their_first_question_lose_their_trusted_path(arena: Arena) -> None:
    """The result of a walk is forgotten by `flush` at the latest."""
    boxes = {make: make_box(arena, make.__name__) for make in WRITABLE}
    arena.start_daemon(SANDBOXES)
    assert {make.__name__: verdict(arena, box) for make, box in boxes.items()} == dict.fromkeys(NAMES, TRUSTED)
    for make, box in boxes.items():
        make(arena, box)
    arena.site.order("flush")
    assert {make.__name__: verdict(arena, box) for make, box in boxes.items()} == dict.fromkeys(NAMES, TOO_LOW)


def test_sandboxes_that_change_lose_their_trusted_path_by_themselves(arena: Arena) -> None:
    """A mount ends what is kept at once, any other change when it is reported."""
    boxes = {make: make_box(arena, make.__name__) for make in WRITABLE}
    arena.start_daemon(SANDBOXES)
    for _ in range(2):
        assert {make.__name__: verdict(arena, box) for make, box in boxes.items()} == dict.fromkeys(NAMES, TRUSTED)
    for make, box in boxes.items():
        make(arena, box)
    for make, box in boxes.items():
        if make not in MOUNTS:
            eventually(lambda box=box: verdict(arena, box) == TOO_LOW)
    assert {make.__name__: verdict(arena, box) for make, box in boxes.items()} == dict.fromkeys(NAMES, TOO_LOW)


def test_sandboxes_see_mounts_whose_names_hold_what_looks_like_a_line_end(arena: Arena, box: Path) -> None:
    """A user's file system is mounted after the first question."""
    owners = {"uid": ALICE.uid, "gid": ALICE.gid}
    boxes = {name: make_box(arena, f"box{number}") for number, name in enumerate(LINE_ENDS)}
    for name, each in boxes.items():
        arena.folder(f"images/{each.name}/a{LINE_ENDS[name]}b")
    arena.start_daemon(SANDBOXES)
    assert {name: verdict(arena, each) for name, each in boxes.items()} == dict.fromkeys(boxes, TRUSTED)
    for name, each in boxes.items():
        arena.fuse(each / f"a{LINE_ENDS[name]}b", {"lib.so": Entry(b"anything")}, allow_other=True, **owners)
    assert {name: verdict(arena, each) for name, each in boxes.items()} == dict.fromkeys(boxes, TOO_LOW)
    assert verdict(arena, box) == TRUSTED


@pytest.mark.parametrize("mapped", [False, True], ids=["a descriptor", "a mapping whose descriptor is closed"])
def test_sandboxes_with_a_file_that_a_user_could_still_write_have_no_trusted_path(
    arena: Arena, box: Path, mapped: bool
) -> None:
    path = box / "usr/lib/deep/down/lib.so"
    os.chown(path, ALICE.uid, ALICE.gid)
    writer = arena.start(hold_for_writing, str(path), mapped, who=ALICE, channel=True)
    assert writer.receive() == "held"
    os.chown(path, 0, 0)
    arena.start_daemon(SANDBOXES)
    for _ in range(2):
        assert verdict(arena, box) == TOO_LOW
    writer.kill()
    arena.site.order("flush")
    assert verdict(arena, box) == TRUSTED


def test_sandboxes_that_are_not_the_top_of_the_tree_are_walked_too(arena: Arena, box: Path) -> None:
    """A part of a sandbox is trusted or not by itself; the top is not when a part is not."""
    file_for_all(arena, box)
    arena.start_daemon(SANDBOXES)
    assert arena.ask_as(BOB, box / "usr/lib")["assurance"] == "none"
    assert arena.ask_as(BOB, box / "bin")["assurance"] == "trusted-path"


def test_sandboxes_deeper_than_a_walk_goes_are_answered_and_not_trusted(arena: Arena, box: Path) -> None:
    """The last of three thousand directories, whose names together pass PATH_MAX, holds a file for all."""
    arena.call(deepen, str(box), 3000)
    try:
        arena.start_daemon(SANDBOXES)
        answer = arena.ask_as(BOB, box)
        assert (answer["decision"], answer["assurance"]) == ("deny", "none")
        assert answer["code"] != "internal-error"
    finally:
        arena.run("rm", "-rf", box)  # which goes deeper than shutil does


def deepen(top: str, depth: int) -> None:
    """Make directories in directories, with a file that all can write in the last."""
    os.chdir(top)
    for _ in range(depth):
        os.mkdir("dd")
        os.chdir("dd")
    with open("file", "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o666)


@needs_ext4
@pytest.mark.parametrize("listed", ["read_only", "trusted", None])
def test_sandboxes_on_a_read_only_file_system_are_trusted_when_it_is_listed(arena: Arena, listed: str | None) -> None:
    """What others could write there, if it could be written, does not matter then."""
    point = arena.folder("images/media")
    file_system_in(arena.root / "disk")
    arena.loop(arena.root / "disk", point)
    arena.call(make_open_box, str(point))
    arena.umount(point)
    arena.loop(arena.root / "disk", point, flags=MS_NOSUID | MS_NODEV | MS_RDONLY)
    arena.start_daemon(SANDBOXES, filesystems(**{listed: [point]}) if listed else "")
    answer = arena.ask_as(BOB, point / "box")
    assert answer["assurance"] == ("trusted-path" if listed else "none")


def make_open_box(point: str) -> None:
    """A sandbox with a file that all could write."""
    os.makedirs(f"{point}/box/.singularity.d")
    shutil.copyfile("/etc/passwd", f"{point}/box/file")
    os.chmod(f"{point}/box/file", 0o666)
