"""One watched tree, step by step, on a clock that moves when told."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from eclctl.daemon.observing.metrics import Metrics
from eclctl.daemon.watching import tree as module
from eclctl.files.resumable import partial_name
from tests.helpers.watching import Clock, Examiner, drain, image, tree

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine() -> Examiner:
    return Examiner()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


# -- rescans


def test_the_first_rescan_has_everything_examined(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    paths = {str(image(tmp_path / name)) for name in ("a.sif", "sub/b.sif")}
    metrics = Metrics()
    drain(tree(tmp_path, engine, clock, metrics=metrics))
    assert set(engine.given) == paths
    assert value(metrics, "eclctl_watch_rescans_total", reason="start") == 1
    assert value(metrics, "eclctl_watch_prefetched_total", status="kept") == 2


def test_a_file_that_is_to_become_an_image_is_not_examined_until_it_has_its_name(
    tmp_path: Path, clock: Clock, engine: Examiner
) -> None:
    part = image(tmp_path / partial_name("image.sif", "sha256:0"))
    watched = tree(tmp_path, engine, clock)
    watched.changed(str(part), closed=True)
    drain(watched)
    assert engine.given == []
    path = part.rename(tmp_path / "image.sif")
    watched.changed(str(path), closed=True)
    clock.seconds += 10.0
    drain(watched)
    assert engine.given == [str(path)]


def test_a_rescan_hands_in_nothing_that_is_known(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    image(tmp_path / "a.sif")
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    watched.request_rescan("request")
    drain(watched)
    assert len(engine.given) == 1
    assert engine.asked == 2


def test_a_change_without_an_event_is_found_at_the_interval_and_not_before(
    tmp_path: Path, clock: Clock, engine: Examiner
) -> None:
    """As on a network file system, where others write."""
    watched = tree(tmp_path, engine, clock, local=False, rescan=60.0)
    drain(watched)
    path = image(tmp_path / "new.sif")
    clock.seconds += 59.0
    drain(watched)
    assert engine.given == []
    clock.seconds += 1.0
    drain(watched)
    assert engine.given == [str(path)]


def test_with_no_interval_there_are_no_rescans_but_the_first(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock, rescan=0.0)
    drain(watched)
    image(tmp_path / "new.sif")
    clock.seconds += 100_000.0
    drain(watched)
    assert engine.given == []


def test_a_young_file_that_a_rescan_finds_settles_first(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    path = image(tmp_path / "a.sif", age=0.5, clock=clock)
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    assert engine.given == []
    clock.seconds += 2.0
    drain(watched)
    assert engine.given == [str(path)]


def test_a_file_with_old_content_that_was_just_moved_in_settles_first(tmp_path: Path, engine: Examiner) -> None:
    """Its change time is new: facts could not be kept yet, and would not be asked for again for long."""
    path = image(tmp_path / "a.sif")
    clock = Clock()
    clock.seconds += path.stat().st_ctime + 0.5 - clock.now().timestamp()
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    assert engine.given == []
    clock.seconds += 2.0
    drain(watched)
    assert engine.given == [str(path)]


def test_a_file_that_keeps_growing_is_left_until_two_looks_agree(
    tmp_path: Path, clock: Clock, engine: Examiner
) -> None:
    path = image(tmp_path / "a.sif", age=0.5, clock=clock)
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    for size in range(3):
        clock.seconds += 2.0
        image(path, "x" * (10 + size), age=0.1, clock=clock)
        drain(watched)
        assert engine.given == []
    clock.seconds += 2.0
    drain(watched)
    assert engine.given == [str(path)]


def test_a_file_dated_in_the_future_is_not_waited_for(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    path = image(tmp_path / "a.sif", age=-1e6)
    drain(tree(tmp_path, engine, clock))
    assert engine.given == [str(path)]


@pytest.mark.parametrize("status", ["not-kept", "failed"])
def test_what_came_to_nothing_is_not_read_at_every_rescan(tmp_path: Path, clock: Clock, status: str) -> None:
    engine = Examiner(status)
    image(tmp_path / "a.sif")
    watched = tree(tmp_path, engine, clock, rescan=60.0)
    for _ in range(10):
        drain(watched)
        clock.seconds += 60.0
    assert len(engine.given) == 1
    clock.seconds += module.RETRY_SECONDS
    drain(watched)
    assert len(engine.given) == 2


def test_what_came_to_nothing_is_read_again_once_it_changed(tmp_path: Path, clock: Clock) -> None:
    engine = Examiner("not-kept")
    path = image(tmp_path / "a.sif")
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    image(path, "another")
    watched.request_rescan("interval")
    drain(watched)
    assert len(engine.given) == 2


def test_what_came_to_nothing_is_read_again_on_request(tmp_path: Path, clock: Clock) -> None:
    engine = Examiner("not-kept")
    image(tmp_path / "a.sif")
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    watched.request_rescan("request", forget=True)
    drain(watched)
    assert len(engine.given) == 2


def test_the_memory_of_what_came_to_nothing_is_bounded(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KNOWN_FAILURES_LIMIT", 5)
    for number in range(20):
        image(tmp_path / f"{number}.sif")
    watched = tree(tmp_path, Examiner("failed"), clock)
    drain(watched)
    assert len(watched._known_failures._states) == 5


def test_a_library_larger_than_the_backlog_is_examined_whole(
    tmp_path: Path, clock: Clock, engine: Examiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_LIMIT", 3)
    paths = {str(image(tmp_path / str(number) / "a.sif")) for number in range(40)}
    drain(tree(tmp_path, engine, clock))
    assert set(engine.given) == paths


def test_a_rescan_without_recursion_stays_in_the_directory(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    path = image(tmp_path / "a.sif")
    image(tmp_path / "sub" / "b.sif")
    drain(tree(tmp_path, engine, clock, recursive=False))
    assert engine.given == [str(path)]


# -- events


def test_a_closed_file_is_examined_after_the_short_wait(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    path = image(tmp_path / "a.sif", age=0.0, clock=clock)
    watched.changed(str(path), closed=True)
    assert drain(watched) == 0.5
    clock.seconds += 0.5
    drain(watched)
    assert engine.given == [str(path)]


def test_a_file_still_being_written_is_looked_at_twice(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    path = image(tmp_path / "a.sif", age=0.0, clock=clock)
    watched.changed(str(path), closed=False)
    clock.seconds += 1.9
    image(path, "more", age=0.0, clock=clock)
    clock.seconds += 0.1
    drain(watched)
    assert engine.given == []
    clock.seconds += 2.0
    drain(watched)
    assert engine.given == [str(path)]


@pytest.mark.parametrize("make", ["missing", "fifo", "link", "directory", "empty"])
def test_events_about_what_can_be_no_image_come_to_nothing(
    tmp_path: Path, clock: Clock, engine: Examiner, make: str
) -> None:
    path = tmp_path / "a.sif"
    {
        "missing": lambda: None,
        "fifo": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/etc/passwd"),
        "directory": path.mkdir,
        "empty": path.touch,
    }[make]()
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    watched.changed(str(path), closed=True)
    clock.seconds += 1.0
    drain(watched)
    assert engine.given == []


def test_an_event_about_a_known_file_comes_to_nothing(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    path = image(tmp_path / "a.sif")
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    watched.changed(str(path), closed=True)
    clock.seconds += 1.0
    drain(watched)
    assert len(engine.given) == 1


def test_an_event_has_a_file_examined_again_that_came_to_nothing(tmp_path: Path, clock: Clock) -> None:
    """A writer that only held it open is gone: the file has not changed, but can be kept now."""
    engine = Examiner("not-kept")
    path = image(tmp_path / "a.sif")
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    watched.changed(str(path), closed=True)
    clock.seconds += 1.0
    drain(watched)
    assert len(engine.given) == 2


def test_a_new_directory_is_read_for_what_came_before_its_watch(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    path = image(tmp_path / "new" / "deep" / "a.sif")
    watched.directory(str(tmp_path / "new"))
    clock.seconds += 0.5
    drain(watched)
    assert engine.given == [str(path)]


def test_a_new_directory_is_not_read_without_recursion(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock, recursive=False)
    drain(watched)
    image(tmp_path / "new" / "a.sif")
    watched.directory(str(tmp_path / "new"))
    clock.seconds += 0.5
    drain(watched)
    assert engine.given == []


def test_a_flood_of_events_ends_in_a_rescan_that_misses_nothing(
    tmp_path: Path, clock: Clock, engine: Examiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE_LIMIT", 10)
    metrics = Metrics()
    watched = tree(tmp_path, engine, clock, metrics=metrics)
    drain(watched)
    paths = {str(image(tmp_path / f"{number}.sif")) for number in range(30)}
    for path in paths:
        watched.changed(path, closed=True)
    assert watched.queued <= 10
    clock.seconds += 1.0
    drain(watched)
    assert set(engine.given) == paths
    assert (value(metrics, "eclctl_watch_overflows_total") or 0) >= 1
    assert (value(metrics, "eclctl_watch_rescans_total", reason="overflow") or 0) >= 1


def test_a_long_backlog_does_not_keep_a_new_image_waiting(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    for number in range(50):
        image(tmp_path / f"{number}.sif")
    watched = tree(tmp_path, engine, clock)
    while not engine.given:
        watched.step()
    new = image(tmp_path / "new.sif")
    watched.changed(str(new), closed=True)
    clock.seconds += 0.5
    for _ in range(5):
        watched.step()
    assert str(new) in engine.given[:6]


# -- where the tree is


def test_a_missing_directory_is_watched_once_it_appears(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    root = tmp_path / "later"
    watched = tree(root, engine, clock)
    assert drain(watched) == 30.0
    assert watched.mode == "missing"
    path = image(root / "a.sif")
    clock.seconds += 30.0
    drain(watched)
    assert engine.given == [str(path)]


def test_a_directory_that_goes_away_during_a_rescan_leaves_nothing_to_do(
    tmp_path: Path, clock: Clock, engine: Examiner
) -> None:
    root = tmp_path / "root"
    image(root / "a.sif")
    watched = tree(root, engine, clock, rescan=5.0)
    drain(watched)
    shutil.rmtree(root)
    clock.seconds += 1000.0
    assert drain(watched) == 30.0
    assert watched.mode == "missing"


def test_a_directory_replaced_by_another_is_read_anew(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    root = tmp_path / "root"
    image(root / "a.sif")
    watched = tree(root, engine, clock)
    drain(watched)
    root.rename(tmp_path / "old")
    path = image(root / "b.sif")
    clock.seconds += 30.0
    drain(watched)
    assert str(path) in engine.given


def test_a_path_that_is_a_link_is_watched_where_it_leads(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    path = image(tmp_path / "real" / "a.sif")
    (tmp_path / "alias").symlink_to("real")
    watched = tree(tmp_path / "alias", engine, clock)
    drain(watched)
    assert engine.given == [str(path)]
    (tmp_path / "alias").unlink()
    other = image(tmp_path / "other" / "b.sif")
    (tmp_path / "alias").symlink_to("other")
    clock.seconds += 30.0
    drain(watched)
    assert str(other) in engine.given


def test_without_inotify_a_local_tree_is_rescanned_and_says_so(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock, notifier=None)
    drain(watched)
    assert (watched.mode, watched.is_limited) == ("interval", True)


def test_a_network_file_system_is_rescanned_without_complaint(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock, local=False)
    drain(watched)
    assert (watched.mode, watched.is_limited) == ("interval", False)


# -- what it tells


def test_overdue_counts_from_when_the_first_image_was_due(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock)
    drain(watched)
    watched.changed(str(tmp_path / "a.sif"), closed=True)
    clock.seconds += 0.4
    assert watched.overdue == 0.0
    clock.seconds += 10.1
    assert watched.overdue == pytest.approx(10.0)
    drain(watched)
    assert watched.overdue == 0.0


def test_overdue_counts_the_backlog_of_a_rescan_too(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    image(tmp_path / "a.sif")
    watched = tree(tmp_path, engine, clock)
    while watched.queued == 0:
        watched.step()
    clock.seconds += 7.0
    assert watched.overdue == pytest.approx(7.0)
    assert watched.status()["queued"] == 1


def test_the_status_says_how_the_last_rescan_went(tmp_path: Path, clock: Clock, engine: Examiner) -> None:
    watched = tree(tmp_path, engine, clock)
    assert watched.status()["last_rescan"] is None
    drain(watched)
    assert watched.status() == {
        "path": str(tmp_path),
        "mode": "interval",
        "recursive": True,
        "queued": 0,
        "overdue_seconds": 0.0,
        "watch_limit_reached": True,
        "rescanning": False,
        "trusted_path": True,
        "why_not": None,
        "last_rescan": clock.now().isoformat(),
        "last_rescan_seconds": 0.0,
    }


def test_the_status_says_why_images_in_a_tree_have_no_trusted_path(
    tmp_path: Path, clock: Clock, engine: Examiner
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    watched = tree(tmp_path / "link", engine, clock, why_not=lambda path: f"not at {path}")
    found = watched.status()
    assert (found["trusted_path"], found["why_not"]) == (None, None)
    drain(watched)
    found = watched.status()
    assert (found["trusted_path"], found["why_not"]) == (False, f"not at {tmp_path}/real")


@pytest.mark.parametrize(("status", "ok", "failed"), [("kept", 1, 0), ("failed", 0, 1), ("known", 0, 0)])
def test_what_was_examined_ahead_of_time_counts_as_examined(tmp_path: Path, status: str, ok: int, failed: int) -> None:
    clock, metrics = Clock(), Metrics()
    image(tmp_path / "a.sif", "12345", clock=clock)
    drain(tree(tmp_path, Examiner(status), clock, metrics=metrics))
    assert value(metrics, "eclctl_verifications_total", result="ok") == ok
    assert value(metrics, "eclctl_verifications_total", result="failed") == failed
    assert value(metrics, "eclctl_verified_bytes_total") == 5 * (ok + failed)
    assert value(metrics, "eclctl_verification_seconds_count") == ok + failed
