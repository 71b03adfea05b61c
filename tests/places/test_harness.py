"""The harness itself: mounts stay inside, users are users, and the FUSE server does what it is told."""

from __future__ import annotations

import os
import re
import time

import pytest

from tests.helpers.site import APPROVED, POLICY, eventually
from tests.places import linux
from tests.places.arena import ALICE, BOB, RECORDED, Arena, InsideError, needs_arena, needs_ext4, recorded
from tests.places.fuse_server import Entry
from tests.places.users import attempt, listing, who_am_i

pytestmark = needs_arena


def test_what_is_mounted_in_an_arena_shows_nowhere_else(arena: Arena) -> None:
    point = arena.folder("point")
    arena.mount("tmpfs", point, "tmpfs")
    assert str(point) in arena.run("cat", "/proc/self/mountinfo").output
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        assert str(point) not in mounts.read()


def test_a_user_in_an_arena_has_that_user_s_rights_alone(arena: Arena) -> None:
    private = arena.folder("private", 0o700)
    assert arena.call(who_am_i, who=ALICE._replace(groups=(7,))) == (ALICE.uid, ALICE.gid, [7])
    assert arena.call(attempt, str(private / "x"), who=ALICE) == "EACCES"
    assert arena.call(attempt, "/proc/self/fd/0", who=ALICE) == "opened"  # its own /proc, as after a login
    assert arena.run("id", "-u", who=BOB).output.strip() == str(BOB.uid)


def test_a_function_that_fails_in_an_arena_fails_the_test(arena: Arena) -> None:
    with pytest.raises(InsideError, match="NotADirectoryError"):
        arena.call(listing, "/dev/null")


def test_a_function_that_hangs_in_an_arena_is_killed(arena: Arena) -> None:
    job = arena.start(time.sleep, 1000)
    with pytest.raises(InsideError, match="nothing came"):
        job.result(0.1)
    assert not os.path.exists(f"/proc/{job.pid}")


def test_a_daemon_in_an_arena_sees_its_mounts_and_answers_users(arena: Arena) -> None:
    arena.start_daemon(POLICY)
    answer = arena.ask_as(ALICE, arena.site.image(APPROVED))
    assert (answer["decision"], answer["rule"], answer["assurance"]) == ("allow", "production", "trusted-path")
    assert os.readlink(f"/proc/{arena.site.pid}/ns/mnt") == os.readlink(f"/proc/{arena.pid}/ns/mnt")
    assert os.readlink(f"/proc/{arena.site.pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")


@needs_ext4
def test_a_loop_device_is_given_back_with_its_mount(arena: Arena) -> None:
    image, point = arena.root / "disk", arena.folder("point")
    with image.open("wb") as file:
        file.truncate(4 << 20)
    assert arena.run("mkfs.ext4", "-q", "-F", image).status == 0
    device = arena.loop(image, point)
    assert "lost+found" in arena.call(listing, str(point))
    backing = f"/sys/block/{os.path.basename(device)}/loop/backing_file"
    with open(backing, encoding="utf-8") as file:
        assert file.read().strip() == str(image)
    arena.umount(point)
    assert not os.path.exists(backing)


TREE = {"a/x": Entry(b"hello"), "bin": Entry(mode=0o700, uid=ALICE.uid), "bin/y": Entry(b"y", uid=ALICE.uid)}


def test_the_fuse_server_serves_its_user_and_the_kernel_refuses_others(arena: Arena) -> None:
    point = arena.folder("point")
    arena.fuse(point, TREE, uid=ALICE.uid, gid=ALICE.gid)
    assert arena.call(listing, str(point), who=ALICE) == ["a", "bin"]
    assert arena.run("cat", point / "a" / "x", who=ALICE).output == "hello"
    assert arena.run("stat", "-c", "%u:%g:%a", point / "a" / "x", who=ALICE).output.strip() == "0:0:644"
    assert arena.call(attempt, str(point / "a" / "x"), who=BOB) == "EACCES"
    assert arena.call(attempt, str(point / "a" / "x")) == "EACCES"
    assert arena.call(attempt, str(point / "a" / "z"), who=ALICE) == "ENOENT"


def test_the_fuse_server_exchanges_content_at_will(arena: Arena) -> None:
    point = arena.folder("point")
    served = arena.fuse(point, TREE, allow_other=True)
    assert arena.run("cat", point / "a" / "x", who=BOB).output == "hello"
    served.put("a/x", Entry(b"other words"))
    served.put("a/w", Entry(b"new"))
    served.put("bin", None)
    assert arena.run("cat", point / "a" / "x", who=BOB).output == "other words"
    assert arena.call(listing, str(point / "a")) == ["w", "x"]
    assert arena.call(listing, str(point)) == ["a"]


def test_the_fuse_server_can_refuse_root_as_a_squashing_server_does(arena: Arena) -> None:
    point = arena.folder("point")
    arena.fuse(point, TREE, allow_other=True, default_permissions=True, squash_root=True)
    assert arena.call(attempt, str(point / "a" / "x"), who=ALICE) == "opened"
    assert arena.call(attempt, str(point / "bin" / "y"), who=BOB) == "EACCES"
    assert arena.call(attempt, str(point / "a" / "x")) == "EACCES"


def test_the_fuse_server_can_hang_and_is_ended(arena: Arena) -> None:
    point = arena.folder("point")
    served = arena.fuse(point, TREE, allow_other=True)
    served.hang()
    before = served.asked()
    job = arena.start(attempt, str(point / "a" / "x"), who=ALICE)
    eventually(lambda: served.asked() > before)
    served.abort()
    assert job.result() in {"ECONNABORTED", "ENOTCONN"}


def test_the_names_of_mount_points_may_hold_anything(arena: Arena) -> None:
    point = arena.folder("a\u2028b\rc d")
    arena.mount("tmpfs", point, "tmpfs", linux.MS_NOSUID)
    assert arena.call(listing, str(point)) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("*.txt")))
def test_recorded_mount_tables_have_the_fields_of_proc_5(name: str) -> None:
    lines = recorded(name).split("\n")
    assert lines.pop() == ""
    for line in lines:
        before, _, after = line.partition(" - ")
        assert re.fullmatch(r"\d+ \d+ \d+:\d+ [^ ]+ /[^ ]* r[wo][^ ]*( [^ ]+)*", before), line
        assert len(after.split(" ")) == 3, line
