"""Keeps the results of walks through sandboxes until something changes below them or they are too old.

1. A result is kept under the state of the top directory and the owners that were trusted.
2. A change that is reported while a walk is under way keeps its result from being kept.
3. A new mount below one of the sandbox's names ends a result, too: no change is reported for it.
4. Callers who ask about the same sandbox at the same time share one walk.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple, Protocol

from eclctl.dataclass import dataclass
from eclctl.files.sandbox_walk import Bounds, SandboxWeakness, WalkResult, look

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from eclctl.files.mounts import Mounts

KEPT_SECONDS = 600.0
"""How long the result that a sandbox is clean is kept."""
WEAK_SECONDS = 10.0
"""How long another result is kept, or `WEAK_TIMES` as long as the walk took, if that is longer."""
WEAK_TIMES = 20.0
KEPT_LIMIT = 4096
_LONGEST_WALK = Bounds().seconds


class Watched(Protocol):
    """The directories of one sandbox."""

    def add(self, fd: int) -> None:
        """Watch a directory by its open descriptor, if that can be done. Never raises."""

    def close(self) -> None:
        """End watching them."""


class Watching(Protocol):
    """Reports changes in directories."""

    def begin(self, changed: Callable[[], None]) -> Watched:
        """Begin with no directory. `changed` is called, from another thread, after something changed in one."""


class SandboxKey(NamedTuple):
    """The top directory of a sandbox.

    `state` names the directory and its state (`locating.FileKey`), `paths` are the names that it has here.
    """

    state: Hashable
    paths: tuple[str, ...]


_Key = tuple["Hashable", frozenset[int]]


@dataclass(slots=True, eq=False)
class _Walked:
    """A walk that is under way or whose result is kept. `mounts` is the newest table without a mount below it."""

    key: _Key
    paths: tuple[str, ...]
    future: Future[WalkResult]
    watched: Watched | None = None
    spoiled: bool = False
    until: float = 0.0
    mounts: Mounts | None = None


class Sandboxes:
    """Walks sandboxes and keeps the results. Safe for use from several threads.

    Args:
        clock: monotonic seconds.
        watching: reports changes; without it, results live by their age alone.
        limit: how many results are kept.
    """

    def __init__(
        self, clock: Callable[[], float], watching: Watching | None = None, *, limit: int = KEPT_LIMIT
    ) -> None:
        self._clock = clock
        self._watching = watching
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: dict[_Key, _Walked] = {}
        self._under_way: dict[_Key, _Walked] = {}

    def kept(self, top: SandboxKey, owners: frozenset[int], mounts: Mounts) -> WalkResult | None:
        """Return the kept result, or None when there is none that still holds. Opens nothing and never waits."""
        key = top.state, owners
        with self._lock:
            walked = self._kept.get(key)
            if walked is None:
                return None
            if self._clock() < walked.until and _unmounted(walked, mounts):
                return walked.future.result()
            del self._kept[key]
        _close(walked)
        return None

    def look(
        self,
        fd: int,
        top: SandboxKey,
        owners: frozenset[int],
        mounts: Mounts,
        *,
        probe: bool = True,
    ) -> WalkResult:
        """Return the kept result, or walk the sandbox (`sandbox_walk.look`) and keep the result. Blocks.

        `fd` is a descriptor of the top directory, `mounts` a table that was read after it was opened. `probe`: whether
        writers are looked for, as `sandbox_walk.look` does.
        """
        found = self.kept(top, owners, mounts)
        if found is not None:
            return found
        key = top.state, owners
        with self._lock:
            other = self._under_way.get(key)
            if other is None:
                own = self._under_way[key] = _Walked(key, top.paths, Future())
        if other is not None:
            return _wait_for(other)
        try:
            result = self._walk(own, fd, owners, probe=probe)
        except BaseException as error:
            self._end(own, None, mounts)
            own.future.set_exception(error)
            raise
        self._end(own, result, mounts)
        return result

    def walk_once(self, fd: int, owners: frozenset[int], *, probe: bool = True) -> WalkResult:
        """Walk a sandbox without keeping the result. Blocks."""
        return look(fd, owners, clock=self._clock, probe=probe)

    def forget(self) -> None:
        """Drop all results, and those of the walks under way when they end."""
        with self._lock:
            every = [*self._kept.values(), *self._under_way.values()]
        for walked in every:
            self._invalidate(walked)

    def __len__(self) -> int:
        """Return how many results are kept."""
        return len(self._kept)

    def _walk(self, walked: _Walked, fd: int, owners: frozenset[int], *, probe: bool) -> WalkResult:
        if self._watching is None:
            return self.walk_once(fd, owners, probe=probe)
        walked.watched = self._watching.begin(lambda: self._invalidate(walked))
        return look(fd, owners, clock=self._clock, entered=walked.watched.add, probe=probe)

    def _end(self, walked: _Walked, result: WalkResult | None, mounts: Mounts) -> None:
        """Keep a result, if nothing changed since its walk began."""
        stale: list[_Walked] = []
        with self._lock:
            del self._under_way[walked.key]
            if result is not None:
                walked.future.set_result(result)
            if result is None or walked.spoiled:
                stale.append(walked)
            else:
                now = self._clock()
                walked.until = now + _age(result)
                walked.mounts = mounts
                stale += self._make_room(now)
                self._kept[walked.key] = walked
        for old in stale:
            _close(old)

    def _make_room(self, now: float) -> list[_Walked]:
        """Remove the results that are too old, and the oldest where there are too many."""
        stale = [walked for walked in self._kept.values() if walked.until <= now]
        for walked in stale:
            del self._kept[walked.key]
        while len(self._kept) >= self._limit:
            stale.append(self._kept.pop(next(iter(self._kept))))
        return stale

    def _invalidate(self, walked: _Walked) -> None:
        """Drop the result of a sandbox in which something changed."""
        with self._lock:
            walked.spoiled = True
            if self._kept.get(walked.key) is walked:
                del self._kept[walked.key]
        _close(walked)


def _wait_for(other: _Walked) -> WalkResult:
    """Return what the walk of another caller finds."""
    try:
        return other.future.result(_LONGEST_WALK)
    except TimeoutError:
        why = f"the sandbox could not be looked at: {_LONGEST_WALK:g} seconds were not enough"
        return WalkResult(SandboxWeakness(".", why, "ask again"), 0, _LONGEST_WALK)


def _close(walked: _Walked) -> None:
    if walked.watched is not None:
        walked.watched.close()


def _age(result: WalkResult) -> float:
    """Return for how long a result is kept: a repaired sandbox is noticed soon, at a bounded cost."""
    if result.weak is None:
        return KEPT_SECONDS
    return min(KEPT_SECONDS, max(WEAK_SECONDS, WEAK_TIMES * result.seconds))


def _unmounted(walked: _Walked, mounts: Mounts) -> bool:
    """Whether nothing is mounted below the sandbox's names, as far as names tell; the walk compares mounts themselves.

    A weak result may be because of a mount.
    """
    if walked.mounts is mounts or walked.future.result().weak is not None:
        return True
    tops = tuple(path.rstrip("/") + "/" for path in walked.paths)
    if any(mount.point.startswith(tops) for mount in mounts.all):
        return False
    walked.mounts = mounts
    return True
