"""Finds out who is behind a caller's uid and gids, without ever blocking the event loop.

Most callers have no ID in a range of subordinate IDs and are known at once. The others are looked up in a thread, since
the name service may hang, and what was found is kept for a minute. A caller who cannot be looked up within
`PATIENCE` counts as unidentified: rules that allow are not for them where they name users, and all rules that deny
some users or groups are (`decide.identify`).

The files are looked at every `INTERVAL` seconds, and read again when they have changed and at each reload. A connection
keeps the identity that its caller had when it was made, as it keeps their credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eclctl.config import subordinate_id_files
from eclctl.config.document import printable
from eclctl.daemon.background.workers import Workers
from eclctl.decide.identify import Accounts, NameService, Owner, concerns, identify, unidentified

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from eclctl.config.subordinate_id_files import Files, SubordinateIds
    from eclctl.model import Caller

INTERVAL: Final = 5.0
PATIENCE: Final = 5.0
_KEPT_SECONDS: Final = 60.0
_KEPT_EACH: Final = 64  # callers of one person, who has 65,536 uids to choose from
_KEPT_PERSONS: Final = 16_384
_REMEMBERED: Final = 65_536  # accounts in ranges
_MANY_GROUPS: Final = 1024  # of a caller in more, finding the ranges is work for a thread
_THREADS: Final = 4
_SHOWN: Final = 20

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Lookup:
    """A caller who is being looked up, and everybody who waits for it."""

    caller: Caller
    deadline: asyncio.TimerHandle | None = None
    waiting: list[Callable[[Caller], None]] = field(default_factory=list)


class _Remembering:
    """A name service whose word that an account exists is kept, for one that is down says that none does.

    Safe for use from several threads.
    """

    def __init__(self, service: Accounts, clock: Callable[[], float]) -> None:
        self._service = service
        self._clock = clock
        self._users: set[int] = set()
        self._groups: set[int] = set()
        self._owners: dict[str, tuple[float, Owner]] = {}
        self._lock = threading.Lock()

    def is_user(self, uid: int) -> bool:
        """As `Accounts` has it."""
        return self._remembered(self._users, uid, exists=self._service.is_user(uid))

    def is_group(self, gid: int) -> bool:
        """As `Accounts` has it."""
        return self._remembered(self._groups, gid, exists=self._service.is_group(gid))

    def _remembered(self, known: set[int], number: int, *, exists: bool) -> bool:
        with self._lock:
            if exists and len(known) < _REMEMBERED:
                known.add(number)
            return exists or number in known

    def owner(self, word: str) -> Owner | None:
        """As `Accounts` has it; kept for a minute."""
        kept = self._owners.get(word)
        if kept is not None and kept[0] > self._clock():
            return kept[1]
        found = self._service.owner(word)
        if found is not None:
            with self._lock:
                if len(self._owners) >= _REMEMBERED:
                    self._owners.clear()
                self._owners[word] = (self._clock() + _KEPT_SECONDS, found)
        return found

    def users(self) -> list[int]:
        """Return the uids in ranges that have been seen to be accounts."""
        with self._lock:
            return sorted(self._users)

    def forget(self) -> None:
        """Forget everything."""
        with self._lock:
            self._users.clear()
            self._groups.clear()
            self._owners.clear()


class Callers:
    """Identifies callers.

    Args:
        files: where the ranges are.
        clock: a monotonic clock, in seconds.
        wall: the time of day, in seconds since the epoch.
        service: the host's users and groups; it may block.
    """

    def __init__(
        self, files: Files, *, clock: Callable[[], float], wall: Callable[[], float], service: Accounts | None = None
    ) -> None:
        self._files = files
        self._clock = clock
        self._wall = wall
        self._accounts = _Remembering(service or NameService(), clock)
        self._loop = asyncio.get_running_loop()
        self._workers = Workers("callers", _THREADS)
        self._reader = Workers("subids", 1)
        self._state = subordinate_id_files.state_of(files, wall())
        self._ids = subordinate_id_files.read_subordinate_ids(files)
        self._kept: dict[Hashable, dict[Caller, tuple[float, Caller]]] = {}
        self._lookups: dict[Caller, _Lookup] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._complain(None)

    @property
    def ids(self) -> SubordinateIds:
        """The ranges in force."""
        return self._ids

    # -- identities ------------------------------------------------------------------------------------------------

    def known(self, caller: Caller) -> Caller | None:
        """Return the caller with their identity, None when they must be looked up (`find`)."""
        if len(caller.groups) <= _MANY_GROUPS and not concerns(caller, self._ids):
            return caller
        kept = self._kept.get(self.household(caller), {}).get(caller)
        return kept[1] if kept is not None and kept[0] > self._clock() else None

    def household(self, caller: Caller) -> Hashable:
        """Return what all callers have in common who may be the same person: the owners of their uid, or it itself."""
        return self._ids.uids.ranges.owners_of(caller.uid) or caller.uid

    def find(self, caller: Caller, done: Callable[[Caller], None]) -> None:
        """Look a caller up; `done` is called on the loop with them and their identity, `PATIENCE` from now at most."""
        lookup = self._lookups.get(caller)
        if lookup is None:
            lookup = self._lookups[caller] = _Lookup(caller)
            lookup.deadline = self._loop.call_later(PATIENCE, self._give_up, lookup)
            ids, lane = self._ids, self.household(caller)
            self._workers.submit(lane, lambda: self._look_up(lookup, ids), gates=(lane,))
        lookup.waiting.append(done)

    def subject(self, caller: Caller | None) -> Caller | None:
        """Return another user with their identity. Blocks; for use in a thread."""
        return None if caller is None else identify(caller, self._ids, self._accounts)

    def _look_up(self, lookup: _Lookup, ids: SubordinateIds) -> None:
        """In a thread."""
        found: Caller | None = None
        try:
            found = identify(lookup.caller, ids, self._accounts)
        except Exception:  # noqa: BLE001 - a bug must not end the thread; a caller who is not identified gets no rights
            _log.exception("identifying a caller failed")
        with contextlib.suppress(RuntimeError):  # the loop has ended: no caller waits
            self._loop.call_soon_threadsafe(self._found, lookup, ids, found)

    def _found(self, lookup: _Lookup, ids: SubordinateIds, found: Caller | None) -> None:
        if found is not None and ids is self._ids:
            self._keep(lookup.caller, found)
        self._answer(lookup, found)

    def _keep(self, caller: Caller, found: Caller) -> None:
        if len(caller.groups) > _MANY_GROUPS:
            return  # megabytes each
        if len(self._kept) >= _KEPT_PERSONS:
            self._kept.clear()
        same = self._kept.setdefault(self.household(caller), {})
        if len(same) >= _KEPT_EACH:
            same.clear()
        same[caller] = (self._clock() + _KEPT_SECONDS, found)

    def _give_up(self, lookup: _Lookup) -> None:
        self._answer(lookup, None)

    def _answer(self, lookup: _Lookup, found: Caller | None) -> None:
        if lookup.deadline is not None:
            lookup.deadline.cancel()
        if self._lookups.get(lookup.caller) is lookup:
            del self._lookups[lookup.caller]
        waiting, lookup.waiting = lookup.waiting, []
        for done in waiting:
            done(found or unidentified(lookup.caller, self._ids))

    # -- files -----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look at the files from now on."""
        self._timer = self._loop.call_later(INTERVAL, self._tick)

    def refresh(self) -> None:
        """Read the files again, soon, and ask the name service anew."""
        self._accounts.forget()
        self._kept.clear()
        self._reader.submit(None, lambda: self._read(None))

    def stop(self) -> None:
        """Begin no further work in threads."""
        if self._timer is not None:
            self._timer.cancel()
        self._workers.stop()
        self._reader.stop()

    def _tick(self) -> None:
        if not self._reader.waiting():
            state = self._state
            self._reader.submit(None, lambda: self._read(state))
        self.watch()

    def _read(self, known: tuple[object, ...] | None) -> None:
        """In a thread: read the files, unless they are in the state that is known."""
        try:
            state = subordinate_id_files.state_of(self._files, self._wall())
            if state == known:
                return
            found = subordinate_id_files.read_subordinate_ids(self._files, self._ids)
        except Exception:  # noqa: BLE001 - a bug in it must not end the looking
            _log.exception("reading the ranges of subordinate IDs failed")
            return
        with contextlib.suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self._install, state, found)

    def _install(self, state: tuple[object, ...], found: SubordinateIds) -> None:
        self._state = state
        if found != self._ids:
            before, self._ids = self._ids, found
            self._kept.clear()
            self._complain(before)

    def _complain(self, before: SubordinateIds | None) -> None:
        said = set() if before is None else set(_problems(before))
        for problem in _problems(self._ids):
            if problem not in said:
                _log.warning("%s", problem)

    def status(self) -> dict[str, Any]:
        """How it stands, as plain JSON."""
        seen = [uid for uid in self._accounts.users() if uid not in self._ids.uids.local]
        shown = {"count": len(seen), "uids": seen[:_SHOWN]}
        return subordinate_id_files.status(self._ids) | {"seen": shown, "lookups": len(self._lookups)}


def _problems(ids: SubordinateIds) -> list[str]:
    found = [f"{granted.file} {granted.problem}" for granted in (ids.uids, ids.gids) if granted.problem is not None]
    if ids.not_read is not None:
        found.append(f"subid: {printable(ids.not_read)} in nsswitch.conf: only /etc/subuid and /etc/subgid are read")
    return found
