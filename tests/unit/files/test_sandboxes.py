"""For how long the result of a walk is kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eclctl.files import sandboxes
from eclctl.files.mounts import Mounts, parse_mountinfo
from eclctl.files.sandbox_walk import WalkResult
from eclctl.files.sandboxes import KEPT_SECONDS, WEAK_SECONDS, Sandboxes, SandboxKey

OWNERS = frozenset({0})
WAIT = 30.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files are trusted")


def table(*points: str) -> Mounts:
    lines = [f"{number} 22 0:{number} / {point} rw - tmpfs none rw" for number, point in enumerate(points, 23)]
    mounts = parse_mountinfo("\n".join(["22 1 8:1 / / rw - ext4 /dev/sda1 rw", *lines]))
    return Mounts(mounts, mounts[0], settled=True)


MOUNTS = table("/tmp")


class Watched:
    def __init__(self, changed: Callable[[], None], box: Box) -> None:
        self.changed = changed
        self.closed = False
        self._box = box

    def add(self, _fd: int) -> None:
        self._box.entering()

    def close(self) -> None:
        self.closed = True


class Box:
    """A sandbox, what is kept of it, a clock that moves when told, and changes that are reported when told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        (path / "file").write_bytes(b"")
        self.fd = os.open(path, os.O_PATH)
        self.now = 1000.0
        self.walks = 0
        self.watched: list[Watched] = []
        self.entering: Callable[[], None] = lambda: None
        self.sandboxes = Sandboxes(lambda: self.now, self)

    def begin(self, changed: Callable[[], None]) -> Watched:
        self.walks += 1
        self.watched.append(Watched(changed, self))
        return self.watched[-1]

    def look(
        self, state: object = "state", mounts: Mounts = MOUNTS, owners: frozenset[int] = OWNERS, name: str = ""
    ) -> WalkResult:
        top = SandboxKey(state, (name or str(self.path),))
        return self.sandboxes.look(self.fd, top, owners, mounts)

    def kept(self, mounts: Mounts = MOUNTS) -> WalkResult | None:
        return self.sandboxes.kept(SandboxKey("state", (str(self.path),)), OWNERS, mounts)

    def weaken(self) -> None:
        os.chmod(self.path / "file", 0o666)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path / "box")
    yield made
    os.close(made.fd)


def test_a_clean_result_is_kept_until_it_is_too_old(box: Box) -> None:
    assert box.look().weak is None
    box.now += KEPT_SECONDS - 1
    assert box.look().weak is None
    assert box.walks == 1
    box.weaken()
    box.now += 1
    assert box.kept() is None
    assert box.look().weak is not None
    assert box.walks == 2


def test_a_weak_result_is_kept_for_a_shorter_time(box: Box) -> None:
    box.weaken()
    assert box.look().weak is not None
    os.chmod(box.path / "file", 0o644)
    box.now += WEAK_SECONDS - 1
    assert box.look().weak is not None
    box.now += 1
    assert box.look().weak is None


def test_a_weak_result_that_took_long_is_kept_for_longer(box: Box) -> None:
    def slow() -> None:
        box.now += 5

    box.entering = slow
    box.weaken()
    assert box.look().seconds == 5
    box.now += 99
    assert box.kept() is not None
    box.now += 1
    assert box.kept() is None


def test_a_reported_change_ends_a_result(box: Box) -> None:
    assert box.look().weak is None
    box.weaken()
    box.watched[0].changed()
    assert box.watched[0].closed
    assert box.kept() is None
    assert box.look().weak is not None


def test_a_change_that_is_reported_during_a_walk_keeps_its_result_from_being_kept(box: Box) -> None:
    def change() -> None:
        box.watched[-1].changed()

    box.entering = change
    assert box.look().weak is None
    assert box.kept() is None
    assert box.watched[0].closed


def test_a_late_report_about_an_older_walk_leaves_the_newer_result(box: Box) -> None:
    box.look()
    box.watched[0].changed()
    box.look()
    box.watched[0].changed()
    assert box.kept() is not None


def test_all_results_can_be_forgotten_also_those_to_come(box: Box) -> None:
    box.look()
    box.sandboxes.forget()
    assert box.kept() is None
    box.entering = box.sandboxes.forget
    box.look()
    assert box.kept() is None
    assert all(watched.closed for watched in box.watched)


def test_another_state_of_the_top_directory_is_walked_anew(box: Box) -> None:
    box.look("state")
    box.look("another")
    assert box.walks == 2


def test_other_trusted_owners_make_another_result(box: Box) -> None:
    assert box.look(owners=frozenset({0, 12345})).weak is None
    assert box.look(owners=frozenset({12345})).weak is not None


def test_a_new_mount_below_ends_a_clean_result(box: Box) -> None:
    box.look()
    assert box.kept(table("/tmp", f"{box.path}-beside", str(box.path))) is not None
    assert box.kept(table("/tmp", f"{box.path}/etc")) is None
    assert box.watched[0].closed


def test_the_root_directory_has_mounts_below(box: Box) -> None:
    box.look(name="/")
    assert box.sandboxes.kept(SandboxKey("state", ("/",)), OWNERS, table("/tmp", "/mnt")) is None


def test_no_more_results_are_kept_than_the_limit(box: Box) -> None:
    box.sandboxes = Sandboxes(lambda: box.now, box, limit=3)
    for state in range(5):
        box.look(state)
    assert len(box.sandboxes) == 3
    assert [watched.closed for watched in box.watched] == [True, True, False, False, False]


def test_results_that_are_too_old_give_their_watches_back(box: Box) -> None:
    box.look("old")
    box.now += KEPT_SECONDS
    box.look("new")
    assert [watched.closed for watched in box.watched] == [True, False]


def test_results_live_by_their_age_where_nothing_reports_changes(box: Box) -> None:
    box.sandboxes = Sandboxes(lambda: box.now)
    assert box.look().weak is None
    box.weaken()
    assert box.look().weak is None
    box.now += KEPT_SECONDS
    assert box.look().weak is not None


def test_callers_at_the_same_time_share_one_walk(box: Box) -> None:
    entered, go, found = threading.Event(), threading.Event(), []

    def hold() -> None:
        entered.set()
        go.wait(WAIT)

    box.entering = hold
    first = threading.Thread(target=lambda: found.append(box.look()))
    first.start()
    assert entered.wait(WAIT)
    second = threading.Thread(target=lambda: found.append(box.look()))
    second.start()
    go.set()
    first.join(WAIT)
    second.join(WAIT)
    assert found == [found[0]] * 2
    assert box.walks == 1


def test_who_shares_a_walk_waits_no_longer_than_a_walk_may_take(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandboxes, "_LONGEST_WALK", 0)
    found: list[WalkResult] = []

    def ask_too() -> None:
        found.append(box.sandboxes.look(box.fd, SandboxKey("state", ()), OWNERS, MOUNTS))

    box.entering = ask_too  # while the walk is under way
    assert box.look().weak is None
    assert found[0].weak is not None
    assert found[0].weak.why == "the sandbox could not be looked at: 0 seconds were not enough"


def test_a_walk_that_fails_is_not_waited_for_again(box: Box) -> None:
    def fail() -> None:
        raise RuntimeError("a bug")

    box.entering = fail
    with pytest.raises(RuntimeError):
        box.look()
    box.entering = lambda: None
    assert box.look().weak is None
    assert box.watched[0].closed
