"""attacks.md: mounts between two questions, exchanged parents, writers from before, a table for all threads."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.helpers.site import APPROVED, BREAKING_LEASES
from tests.helpers.support import CORPUS
from tests.places import engines
from tests.places.arena import ALICE, BOB, Arena, needs_arena
from tests.places.fuse_server import Entry
from tests.places.policies import PRODUCTION
from tests.places.users import ask_about_one_file, exchange_for_ever, hold_for_writing

pytestmark = needs_arena

IMAGE = CORPUS / "images" / APPROVED
QUESTIONS = 5000


@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "with a descriptor"])
def test_mounts_made_between_two_questions_of_one_turn_are_seen(arena: Arena, by_name: bool) -> None:
    """What is mounted over a name after the turn began, and before its question comes, is no trusted path."""
    job = arena.start(engines.ask_twice_in_a_turn, str(arena.folder("turn")), by_name, channel=True)
    library = job.receive()
    owners = {"uid": ALICE.uid, "gid": ALICE.gid}
    arena.fuse(f"{library}/later", {"a.sif": Entry(IMAGE.read_bytes())}, allow_other=True, **owners)
    job.send("mounted")
    first, second = job.result()
    assert first == ("allow", "trusted-path")
    assert second == ("deny", "none")


def test_mounts_made_between_the_same_question_asked_twice_in_one_turn_are_seen(arena: Arena) -> None:
    """An answer serves others in its turn only while the same is mounted."""
    first, second = arena.call(engines.ask_the_same_twice_in_a_turn, str(arena.folder("turn")))
    assert first == ("allow", "trusted-path")
    assert second == ("deny", "none")


def test_mounts_that_get_the_number_of_another_are_not_taken_for_it(arena: Arena) -> None:
    """A trusted file system is unmounted and another mounted after the table was read, before the file is found."""
    point, other = str(arena.folder("images/point")), str(arena.folder("elsewhere"))
    assert arena.call(engines.look_at_a_mount_that_takes_a_number_over, point, other) == "none"


def test_mounts_that_say_that_they_are_fuse_are_not_trusted_by_what_the_table_calls_them(arena: Arena) -> None:
    point = arena.folder("images/served")
    arena.fuse(point, {"a.sif": Entry(IMAGE.read_bytes())}, allow_other=True, kind="fuse.test")
    found = arena.call(engines.look_by_a_table_that_lies, str(point))
    assert found == ("none", f"its file system at {point} is FUSE, and the mount table calls it tmpfs")


@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_a_mount_table_that_changes_while_it_is_read_is_read_again(arena: Arena, always: bool) -> None:
    """Where it never keeps still, nothing but the root's own file system is trusted of it."""
    settled, seen, trusted = arena.call(engines.read_while_mounting, str(arena.folder("point")), always)
    assert (settled, seen, trusted) == ((False, True, False) if always else (True, True, True))


def test_parents_that_are_exchanged_while_they_are_looked_at_are_not_trusted(arena: Arena) -> None:
    """A user's directory takes turns with a link to a root-owned one; the file in it is root's own."""
    shared = arena.folder("images/shared", 0o1777)
    own = arena.folder("images/shared/own", owner=ALICE)
    shutil.copyfile(IMAGE, own / "a.sif")
    arena.folder("images/system")
    (shared / "link").symlink_to("../system")
    os.chown(shared / "link", ALICE.uid, ALICE.gid, follow_symlinks=False)
    arena.start_daemon(PRODUCTION)
    exchanging = arena.start(exchange_for_ever, str(own), str(shared / "link"), who=ALICE)
    counted = arena.call(
        ask_about_one_file, arena.site.check_socket, str(own / "a.sif"), QUESTIONS, who=ALICE, timeout=300
    )
    exchanging.kill()
    print(counted)
    assert sum(counted.values()) == QUESTIONS
    assert {key for key in counted if "trusted-path" in key or "allow" in key} == set()


@pytest.mark.parametrize("mapped", [False, True], ids=["a descriptor", "a mapping whose descriptor is closed"])
def test_writers_from_before_the_file_became_root_s_are_no_trusted_path(arena: Arena, mapped: bool) -> None:
    path = arena.site.add("given.sif", IMAGE)
    os.chown(path, ALICE.uid, ALICE.gid)
    arena.start_daemon(PRODUCTION)
    writer = arena.start(hold_for_writing, str(path), mapped, who=ALICE, channel=True)
    assert writer.receive() == "held"
    os.chown(path, 0, 0)
    for _ in range(3):
        answer = arena.ask_as(BOB, path)
        assert (answer["decision"], answer["assurance"]) == ("deny", "none")
    writer.kill()
    answer = arena.ask_as(BOB, path)
    assert (answer["decision"], answer["assurance"]) == ("allow", "trusted-path")


def test_writers_who_come_after_the_facts_were_kept_are_no_trusted_path(arena: Arena) -> None:
    """The probe is made for each answer, kept facts or not."""
    path = arena.site.image(APPROVED)
    arena.start_daemon(PRODUCTION)
    arena.ask_as(BOB, path)
    answer = arena.ask_as(BOB, path)
    assert (answer["decision"], answer["cached"]) == ("allow", True)
    writer = arena.start(hold_for_writing, path, False, channel=True)
    assert writer.receive() == "held"
    answer = arena.ask_as(BOB, path)
    assert (answer["decision"], answer["assurance"]) == ("deny", "none")
    writer.kill()
    assert arena.ask_as(BOB, path)["decision"] == "allow"


def test_writers_are_not_killed_by_the_probe_nor_is_the_daemon(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is broken while the daemon holds it sends SIGIO, which ends a process that does not ignore it.

    Here the signal comes for each lease, beside the few that writers happen to break.
    """
    monkeypatch.setattr("tests.helpers.site.ECLCTL", BREAKING_LEASES)
    path = arena.site.image(APPROVED)
    arena.start_daemon(PRODUCTION)
    assert arena.ask_as(BOB, path)["decision"] == "allow"
    job = arena.start(ask_about_one_file, arena.site.check_socket, path, 500, who=BOB)
    for _ in range(500):
        os.close(os.open(path, os.O_RDWR))
    counted = job.result()
    assert sum(counted.values()) == 500
    assert arena.ask_as(BOB, path)["decision"] == "allow"
    assert arena.site.stop() == 0
    assert "a lease is broken" in arena.site.log


def test_a_mount_table_that_eight_threads_use_answers_them_all(arena: Arena) -> None:
    """Mounts come and go while eight threads decide: no exception becomes an internal error."""
    point = arena.folder("coming")
    counted = arena.call(engines.ask_from_threads, str(arena.folder("threads")), str(point), 8, 400, timeout=120)
    print(counted)
    assert sum(counted.values()) == 8 * 400
    assert {code for code in counted if code not in {"requirements-met", "busy"}} == set()
    assert counted["requirements-met"] > 0
