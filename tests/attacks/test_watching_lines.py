"""Attacks, the line "watching": a rescan finds what events miss; watching only prefetches, it never grants."""

from __future__ import annotations

import ast
import os
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import time_ns
from typing import TYPE_CHECKING, Self

import pytest

from eclctl.config.accounts import Names
from eclctl.config.settings import Settings, Watch
from eclctl.daemon.observing.metrics import Metrics
from eclctl.daemon.watching import inotify, settling, tree, watch
from eclctl.daemon.watching.tree import Timing
from eclctl.daemon.watching.watch import Watcher
from eclctl.decide.cache import FactCache
from eclctl.decide.driving import drive
from eclctl.decide.engine import Engine
from eclctl.decide.questions import Question
from eclctl.decide.snapshot import Snapshot, build
from eclctl.files import walk
from eclctl.files.locating import Locator
from eclctl.files.mounts import MountTable
from eclctl.model import Caller
from eclctl.terms import Verdict
from eclctl.verify.hashing import HashPool
from tests.helpers.support import NOW, ROOT
from tests.helpers.watching import WAIT, Clock, Examiner, drain, image
from tests.helpers.watching import tree as make_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eclctl.decide.questions import Decision

FAST = Timing(settle=0.1, quick=0.02, check=0.1)
LIBRARY = ROOT / "examples" / "library"


class Watched:
    """A watcher over one directory, armed and rescanned once."""

    def __init__(self, root: Path, examiner: Examiner | Engine, *, rescan: float = 0.0, local: bool = True) -> None:
        self.metrics = Metrics()
        watches = [Watch(str(root), rescan=rescan)]
        self.watcher = Watcher(watches, examiner, self.metrics, local=lambda _path: local, timing=FAST)

    def __enter__(self) -> Self:
        self.watcher.start()
        wait_until(lambda: self.count("eclctl_watch_rescans_total", reason="start") == 1)
        return self

    def __exit__(self, *_: object) -> None:
        self.watcher.stop(WAIT)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def wait_until(condition: object) -> None:
    """Look again every few milliseconds until the condition holds; fail after `WAIT` seconds."""
    pause = threading.Event()
    for _ in range(int(WAIT / 0.005)):
        if condition():  # type: ignore[operator]
            return
        pause.wait(0.005)
    raise AssertionError("it never came true")


# -- inotify queue overflow


def test_watching_inotify_queue_overflow_ends_in_a_rescan_that_finds_the_image(tmp_path: Path) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("needs fs.inotify.max_queued_events of at most 100000")
    examiner = Examiner()
    with Watched(tmp_path, examiner) as watched:
        notifier = watched.watcher._trees[0].notifier
        assert notifier is not None
        with notifier._inotify._lock:  # the reader cannot read: the kernel's queue fills, and loses the rest
            for number in range(limit // 2 + 2048):  # what it had begun to read may be a whole buffer
                (tmp_path / f"{number}.tmp").touch()
            image(tmp_path / "lost.sif")
        assert examiner.wait_for(tmp_path / "lost.sif")
        wait_until(lambda: watched.count("eclctl_watch_rescans_total", reason="overflow") >= 1)
        assert watched.count("eclctl_watch_overflows_total") >= 1


# -- watch limit reached: tests/integration/test_watch.py does it for real, in a user namespace with lower limits


def test_watching_watch_limit_reached_leaves_the_interval_and_says_so(tmp_path: Path) -> None:
    """A directory that got no watch, as watchdog's reader would report it."""
    examiner = Examiner()
    with Watched(tmp_path, examiner, rescan=0.2) as watched:
        watched.watcher._limit_reached(str(tmp_path / "sub"))
        assert watched.watcher.stats().limited
        image(tmp_path / "sub" / "late.sif")
        assert examiner.wait_for(tmp_path / "sub" / "late.sif")
        wait_until(lambda: not watched.watcher.stats().limited)  # a later rescan got the watches after all


# -- directory created and filled at once


@pytest.mark.parametrize("how", ["made", "copied", "moved"])
def test_watching_directory_created_and_filled_at_once(tmp_path: Path, how: str) -> None:
    root, source, examiner = tmp_path / "root", tmp_path / "source", Examiner()
    root.mkdir()
    names = [f"{a}/{b}/x.sif" for a in range(5) for b in range(5)]
    for name in names:
        image(source / name)
    with Watched(root, examiner):
        if how == "made":
            for name in names:
                image(root / "new" / name)
        elif how == "copied":
            shutil.copytree(source, root / "new", copy_function=shutil.copyfile)
        else:
            source.rename(root / "new")
        assert all(examiner.wait_for(root / "new" / name) for name in names)


# -- remote writes on a network file system


def test_watching_remote_writes_on_a_network_file_system_are_found_at_the_interval(tmp_path: Path) -> None:
    """No event is asked for there, so none can be what finds the image."""
    clock, examiner = Clock(), Examiner()
    watched = make_tree(tmp_path, examiner, clock, local=False, rescan=60.0)
    drain(watched)
    assert watched.mode == "interval"
    path = image(tmp_path / "remote.sif")
    clock.seconds += 60.0
    drain(watched)
    assert examiner.given == [str(path)]


# -- watching only prefetches, it never grants

POLICY = """\
version: 1
signers:
  builder:  {pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}
  scanner:  {pgp: [F69053E5830DBDBA72B3D8F61BDDA97D14902F26]}
  approver: {pgp: [25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4]}
rules:
  - name: production
    match: {paths: ["@LIBRARY@/**"]}
    require: [{any_of: [builder]}, {all_of: [scanner, approver]}]
"""


@pytest.fixture
def library(tmp_path: Path) -> Iterator[tuple[Path, Engine]]:
    """Five images, from approved to forged, and an engine with the policy that tells them apart."""
    root, policies = tmp_path / "library", tmp_path / "policies"
    root.mkdir()
    policies.mkdir()
    (policies / "p.yaml").write_text(POLICY.replace("@LIBRARY@", str(root)))
    ring = str(ROOT / "examples" / "keys" / "site.asc")
    settings = Settings("", "", "", policies=(str(policies),), keyrings=(ring,))
    built = build(settings, Names(lambda _: None, lambda _: None), generation=1, now=NOW)
    assert built.snapshot is not None, built.errors
    mounts, pool = MountTable(), HashPool(1)
    locator = Locator(mounts, frozenset({0, os.getuid()}))
    with pool:
        yield root, Engine(locator, pool, FactCache(100), built.snapshot, file_time=time_ns)
    mounts.close()


def decisions(root: Path, engine: Engine) -> dict[str, Decision]:
    """Ask as `eclctl check` does, with a descriptor, at the time of day: prefetching has seen it too."""
    caller = Caller(os.getuid(), os.getgid(), frozenset(os.getgroups()))
    found = {}
    for path in sorted(root.iterdir()):
        descriptor = os.open(path, os.O_RDONLY)
        found[path.name] = drive(engine, Question(str(path), caller, descriptor), None, lambda: datetime.now(UTC))
        os.close(descriptor)
    return found


def verdicts(root: Path, engine: Engine) -> dict[str, tuple[Verdict, str]]:
    return {name: (decision.verdict, decision.code.value) for name, decision in decisions(root, engine).items()}


def test_watching_only_prefetches_so_every_decision_is_what_it_would_have_been(
    library: tuple[Path, Engine],
) -> None:
    root, engine = library
    for path in LIBRARY.iterdir():
        shutil.copyfile(path, root / path.name)
        os.utime(root / path.name, (1, 1))
    without = verdicts(root, engine)
    engine.flush()
    with Watched(root, engine) as watched:
        wait_until(lambda: watched.count("eclctl_watch_prefetched_total", status="kept") == len(without))
    assert all(decision.cached for decision in decisions(root, engine).values())
    assert verdicts(root, engine) == without
    assert {verdict for verdict, _ in without.values()} == {Verdict.ALLOW, Verdict.DENY}


def test_watching_an_image_that_lost_its_approval_is_denied_though_it_was_prefetched(
    library: tuple[Path, Engine],
) -> None:
    root, engine = library
    shutil.copyfile(LIBRARY / "approved.sif", root / "a.sif")
    with Watched(root, engine) as watched:
        wait_until(lambda: watched.count("eclctl_watch_prefetched_total", status="kept") == 1)
    assert verdicts(root, engine)["a.sif"][0] is Verdict.ALLOW
    engine.install(Snapshot.empty())
    assert verdicts(root, engine)["a.sif"] == (Verdict.DENY, "no-policy")


@pytest.mark.parametrize("module", [inotify, settling, tree, walk, watch])
def test_watching_has_no_way_to_write_a_verdict(module: object) -> None:
    """The watcher's modules name nothing that decides, and ask the engine for two things only."""
    parsed = ast.parse(Path(str(module.__file__)).read_text("utf-8"))  # type: ignore[attr-defined]
    names = {node.id for node in ast.walk(parsed) if isinstance(node, ast.Name)}
    imported = {alias.name for node in ast.walk(parsed) if isinstance(node, ast.ImportFrom) for alias in node.names}
    asked = {
        node.attr
        for node in ast.walk(parsed)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "_engine"
    }
    assert not (names | imported) & {"Engine", "FactCache", "Facts", "Decision", "Verdict", "Code", "Outcome"}
    assert asked <= {"prefetch", "known"}
