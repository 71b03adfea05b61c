"""Finds the person behind a caller's uid and gids, without ever blocking the event loop.

Most callers have no ID in a range of subordinate IDs and are known at once. The others are looked up in a thread, since
the name service may hang, and what was found is kept for a minute. A caller who cannot be looked up within
`PATIENCE` counts as unidentified: rules that allow are not for them where they name users, and all rules that deny
some users or groups are (`decide.caller_identity`).

The files are looked at every `INTERVAL` seconds, and read again when they have changed and at each reload. A connection
keeps the identity that its caller had when it was made, as it keeps their credentials.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final

from eclctl.config import subordinate_ids
from eclctl.daemon.background.timers import Repeating, Timer
from eclctl.daemon.background.workers import Workers
from eclctl.dataclass import dataclass, field
from eclctl.decide.caller_identity import Accounts, NameService, Owner, has_subordinate_ids, identify, unidentified
from eclctl.text import printable_message

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from eclctl.config.subordinate_ids import Files, SubordinateIds
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
    """A caller who is being looked up, and what is called with the result."""

    caller: Caller
    waiting: list[Callable[[Caller], None]] = field(default_factory=list)
    deadline: Timer | None = None


class _CachedAccounts:
    """A name service whose answer that an account exists is kept: one that is down says that no account exists.

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
        return self._exists(self._users, uid, exists=self._service.is_user(uid))

    def is_group(self, gid: int) -> bool:
        """As `Accounts` has it."""
        return self._exists(self._groups, gid, exists=self._service.is_group(gid))

    def _exists(self, known: set[int], number: int, *, exists: bool) -> bool:
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


class CallerLookup:
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
        self._accounts = _CachedAccounts(service or NameService(), clock)
        self._workers = Workers("callers", _THREADS)
        self._reader = Workers("subids", 1)
        self._state = subordinate_ids.state_of(files, wall())
        self._ids = subordinate_ids.read_subordinate_ids(files)
        self._kept: dict[Hashable, dict[Caller, tuple[float, Caller]]] = {}
        self._lookups: dict[Caller, _Lookup] = {}
        self._timer = Repeating(self._look_at_files)
        self._log_new_problems(None)

    # -- identities ------------------------------------------------------------------------------------------------

    def known(self, caller: Caller) -> Caller | None:
        """Return the caller with their identity, None when they must be looked up (`find`)."""
        if len(caller.groups) <= _MANY_GROUPS and not has_subordinate_ids(caller, self._ids):
            return caller
        kept = self._kept.get(self.person_key(caller), {}).get(caller)
        return kept[1] if kept is not None and kept[0] > self._clock() else None

    def person_key(self, caller: Caller) -> Hashable:
        """Return one key for all callers who may be the same person: the owners of their uid, or the uid itself."""
        return self._ids.uids.ranges.owners_of(caller.uid) or caller.uid

    def find(self, caller: Caller, done: Callable[[Caller], None]) -> None:
        """Look a caller up; `done` is called on the loop with their identity, after `PATIENCE` at the latest."""
        lookup = self._lookups.get(caller)
        if lookup is None:
            lookup = self._lookups[caller] = _Lookup(caller)
            lookup.deadline = Timer(lambda: self._answer(lookup, None))
            lookup.deadline.set(PATIENCE)
            ids, lane = self._ids, self.person_key(caller)
            self._workers.run(
                lane,
                lambda: identify(caller, ids, self._accounts),
                lambda found: self._found(lookup, ids, found),
                gates=(lane,),
            )
        lookup.waiting.append(done)

    def subject(self, caller: Caller | None) -> Caller | None:
        """Return another user with their identity. Blocks; for use in a thread."""
        return None if caller is None else identify(caller, self._ids, self._accounts)

    def _found(self, lookup: _Lookup, ids: SubordinateIds, found: Caller | Exception) -> None:
        """Keep and pass on what was found. A caller who is not identified, because of a bug, gets no rights."""
        if isinstance(found, Exception):
            _log.error("identifying a caller failed", exc_info=found)
            self._answer(lookup, None)
            return
        if ids is self._ids:
            self._keep(lookup.caller, found)
        self._answer(lookup, found)

    def _keep(self, caller: Caller, found: Caller) -> None:
        if len(caller.groups) > _MANY_GROUPS:
            return  # megabytes each
        if len(self._kept) >= _KEPT_PERSONS:
            self._kept.clear()
        same = self._kept.setdefault(self.person_key(caller), {})
        if len(same) >= _KEPT_EACH:
            same.clear()
        same[caller] = (self._clock() + _KEPT_SECONDS, found)

    def _answer(self, lookup: _Lookup, found: Caller | None) -> None:
        if lookup.deadline is not None:
            lookup.deadline.stop()
        if self._lookups.get(lookup.caller) is lookup:
            del self._lookups[lookup.caller]
        waiting, lookup.waiting = lookup.waiting, []
        for done in waiting:
            done(found or unidentified(lookup.caller, self._ids))

    # -- files -----------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look at the files every `INTERVAL` seconds from now on."""
        self._timer.start(INTERVAL)

    def refresh(self) -> None:
        """Read the files again, soon, and ask the name service anew."""
        self._accounts.forget()
        self._kept.clear()
        self._read_files(None)

    def stop(self) -> None:
        """Begin no further work in threads."""
        self._timer.stop()
        self._workers.stop()
        self._reader.stop()

    def _look_at_files(self) -> None:
        if not self._reader.waiting():
            self._read_files(self._state)

    def _read_files(self, known: tuple[object, ...] | None) -> None:
        """Read the files in a thread, unless they are in the state that is known."""

        def read() -> tuple[tuple[object, ...], SubordinateIds] | None:
            state = subordinate_ids.state_of(self._files, self._wall())
            return None if state == known else (state, subordinate_ids.read_subordinate_ids(self._files, self._ids))

        self._reader.run(None, read, self._install)

    def _install(self, read: tuple[tuple[object, ...], SubordinateIds] | Exception | None) -> None:
        if isinstance(read, Exception):
            _log.error("reading the ranges of subordinate IDs failed", exc_info=read)
            return
        if read is None:
            return
        self._state, found = read
        if found != self._ids:
            before, self._ids = self._ids, found
            self._kept.clear()
            self._log_new_problems(before)

    def _log_new_problems(self, before: SubordinateIds | None) -> None:
        said = set() if before is None else set(_problems(before))
        for problem in _problems(self._ids):
            if problem not in said:
                _log.warning("%s", problem)

    def status(self) -> dict[str, Any]:
        """Return the ranges, their problems, the accounts seen in them and the look-ups under way, as plain JSON."""
        seen = [uid for uid in self._accounts.users() if uid not in self._ids.uids.local]
        shown = {"count": len(seen), "uids": seen[:_SHOWN]}
        return subordinate_ids.status_fields(self._ids) | {"seen": shown, "lookups": len(self._lookups)}


def _problems(ids: SubordinateIds) -> list[str]:
    found = [f"{granted.file} {granted.problem}" for granted in (ids.uids, ids.gids) if granted.problem is not None]
    if ids.not_read is not None:
        found.append(
            f"subid: {printable_message(ids.not_read)} in nsswitch.conf: only /etc/subuid and /etc/subgid are read"
        )
    return found
