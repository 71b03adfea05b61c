"""A rescan of unchanged images against a bare walk that stats each file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, ratio, seconds
from eclctl.config.settings import Watch
from eclctl.daemon.observing import log
from eclctl.daemon.observing.metrics import Metrics
from eclctl.daemon.watching.tree import Timing, Tree
from eclctl.decide.cache import FactCache
from eclctl.decide.engine import Engine
from eclctl.decide.facts import Facts
from eclctl.decide.snapshot import Snapshot
from eclctl.files.locating import FileKey, Locator
from eclctl.files.mounts import MountTable
from eclctl.verify.hashing import HashPool

FILES = 100_000
DIRECTORIES = 1000


def measure() -> list[Result]:
    log.setup("warning")
    note(f"rescan of {FILES:,} unchanged images …")
    with site.directory() as root:
        engine = _engine()
        _fill(root, engine)
        tree = _tree(root, engine)
        a, b = interleaved(7, lambda: seconds(lambda: _rescan(tree)), lambda: seconds(lambda: bare_walk(root)))
        detail = f"{median(a):.2f} s against {median(b):.2f} s"
        return [Result(f"rescan of {FILES:,} unchanged images", ratio(a, b), 3.0, at_least=False, detail=detail)]


def bare_walk(root: Path) -> int:
    count = 0
    for directory, _, names in os.walk(root):
        for name in names:
            os.stat(os.path.join(directory, name))
            count += 1
    return count


def _engine() -> Engine:
    locator = Locator(MountTable(), frozenset({0, os.getuid()}))
    return Engine(locator, HashPool(1), FactCache(2 * FILES), Snapshot.empty())


def _fill(root: Path, engine: Engine) -> None:
    """Make the files, and keep facts for each: what they hold is nothing to a rescan."""
    facts = Facts(engine.snapshot.store.digest, None)
    for number in range(DIRECTORIES):
        directory = root / f"{number:04d}"
        directory.mkdir()
        for index in range(FILES // DIRECTORIES):
            path = directory / f"{index:03d}.sif"
            path.write_bytes(b"x")
            status = path.stat()
            key = FileKey(status.st_dev, status.st_ino, None, status.st_size, status.st_ctime_ns, None)
            engine.cache.put(key, facts)


def _tree(root: Path, engine: Engine) -> Tree:
    gates = (threading.Semaphore(1), threading.Semaphore(1))
    watch = Watch(str(root), recursive=True, rescan=3600.0)
    tree = Tree(watch, engine, Metrics(), notifier=None, local=lambda _: True, gates=gates, timing=Timing())
    tree.step()
    return tree


def _rescan(tree: Tree) -> None:
    tree.request_rescan("request")
    before = tree.status()["last_rescan"]
    while tree.status()["last_rescan"] == before or tree.status()["rescanning"]:
        tree.step()
    if tree.queued:
        raise SystemExit("an unchanged image was queued")
