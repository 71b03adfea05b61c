"""Refreshes the OpenPGP keys that the policy in force uses from keyservers: revocations, new expiry dates.

Rules:

1. Only keys that the policy uses and the keyrings have are asked about, each by its whole fingerprint. What comes back
   adds to that certificate what its own primary key vouches for (`openpgp.proven`), and nothing else ever.
2. What is new counts with the next answer that the daemon gives, as a generation of its own (`Reloader.learn`), and is
   kept (`daemon.revocation.keyserver_cache`).
3. Each key is asked about again after the configured time, less up to a tenth, so that not all nodes ask in the same
   second. All servers are asked, for one that holds a revocation back must not speak for the others. Where none has a
   usable answer, they are asked again after a minute, then less and less often.
4. No decision, load or start waits for any of this.

All but `stats` is for the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from eclctl.daemon.background.timers import Timer
from eclctl.daemon.background.workers import Workers
from eclctl.daemon.revocation.keyserver_cache import KeyChange
from eclctl.dataclass import dataclass, field
from eclctl.errors import ConfigError
from eclctl.remote.keyservers import hkp
from eclctl.text import printable_message
from eclctl.trust.signer_types import signer_type

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from eclctl.config.keyservers import Keyservers
    from eclctl.daemon.revocation.keyserver_cache import KeyserverCache
    from eclctl.decide.engine import Engine
    from eclctl.decide.snapshot import Snapshot
    from eclctl.signature.openpgp import Keyring

FILE: Final = "keyservers.json"
"""In the state directory."""

AT_ONCE: Final = 4
"""Keys that are asked about at the same time."""

_FIRST_RETRY: Final = 60.0  # seconds; doubled each time
_LAST_RETRY: Final = 3600.0
_SOONEST: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RefreshStats:
    """Counts for `status` and the metrics.

    * `requests`: answers of keyservers, by result.
    * `failures`: times that no server had a usable answer about a key.
    * `updates`: times that an answer changed a key.
    * `keys`: keys that are kept fresh; about `unasked` of them no server has ever answered.
    * `oldest`: seconds since the least recently refreshed key was refreshed.
    * `enabled`: whether keyservers are configured and asked.
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    failures: int = 0
    updates: int = 0
    keys: int = 0
    unasked: int = 0
    oldest: float = 0.0
    enabled: bool = False


def used(snapshot: Snapshot) -> frozenset[str]:
    """Return the fingerprints of the OpenPGP keys that a policy uses: all, when a rule asks for the role `anyone`."""
    policy, ring = snapshot.policy, snapshot.store.pgp
    if policy is None:
        return frozenset()
    if any(rule.asks_anyone for rule in policy.rules):
        return frozenset(certificate.fingerprint for certificate in ring.certificates)
    listed = (key for signer in policy.signers.values() for key in signer.keys if signer_type(key).in_keyrings)
    return frozenset(key for key in listed if ring.get(key) is not None)


@dataclass(eq=False)
class KeyRefresh:
    """Asks on a timer, on the event loop that it is made on.

    Args:
        engine: has the snapshot in force.
        keyservers: the servers, and how often to ask them.
        cache: what is known already.
        learn: takes over what is new (`Reloader.learn`).
        clock: the time of day, aware, UTC.
        jitter: a number from 0 to 1.
        ask: asks about one key; left out, the client does.
    """

    engine: Engine
    keyservers: Keyservers
    cache: KeyserverCache
    learn: Callable[[], None]
    clock: Callable[[], datetime]
    jitter: Callable[[], float] = random.random
    ask: Callable[[Keyservers, str, Keyring], Awaitable[hkp.Tried]] = hkp.fetch_all

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._enabled = bool(self.keyservers.servers) and self.keyservers.refresh is not None
        self._wanted: frozenset[str] = frozenset()
        self._due: dict[str, float] = {}  # by the loop's time
        self._requests = dict.fromkeys(map(str, hkp.Result), 0)
        self._failures = 0
        self._updates = 0
        self._in_a_row = 0
        self._timer = Timer(self._begin)
        self._workers = Workers("keyservers", 1)
        self._round: asyncio.Task[None] | None = None
        self._stopped = False

    # -- for any thread --------------------------------------------------------------------------------------------

    def stats(self) -> RefreshStats:
        """Return what a scrape shows."""
        wanted, keys, now = self._wanted, self.cache.keys.copy(), self.clock()
        answered = [(now - keys[key].asked).total_seconds() for key in wanted if key in keys]
        counts = self._requests.copy(), self._failures, self._updates
        oldest = max([0.0, *answered])
        return RefreshStats(*counts, len(wanted), len(wanted) - len(answered), oldest, self._enabled)

    # -- for the loop's thread -------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Keep the keys of the snapshot in force fresh, from now on."""
        if not self._enabled or self._stopped:
            return
        self._wanted = used(self.engine.snapshot)
        now, clock = self._loop.time(), self.clock()
        self._due = {key: self._due.get(key, self._first_due(key, now, clock)) for key in self._wanted}
        self._set_timer()

    def stop(self) -> None:
        """Ask no server any more."""
        self._stopped = True
        self._timer.stop()
        self._workers.stop()
        if self._round is not None:
            self._round.cancel()

    # -- when ------------------------------------------------------------------------------------------------------

    def _interval(self) -> float:
        return (self.keyservers.refresh or 0.0) * (0.9 + 0.1 * self.jitter())

    def _first_due(self, key: str, now: float, clock: datetime) -> float:
        """A key that was asked about before a restart need not be again at once; with a clock set back, it is."""
        known = self.cache.keys.get(key)
        ago = None if known is None else (clock - known.asked).total_seconds()
        return now if ago is None or ago < 0 else now + max(0.0, self._interval() - ago)

    def _set_timer(self) -> None:
        self._timer.cancel()
        if self._due and self._round is None and not self._stopped:
            delay = max(0.0, min(self._due.values()) - self._loop.time())
            if self._in_a_row:
                delay = max(delay, self._backing_off())
            self._timer.set(delay)

    def _backing_off(self) -> float:
        longest = min(_LAST_RETRY, self.keyservers.refresh or _LAST_RETRY)
        return min(longest, _FIRST_RETRY * 2.0 ** max(0, min(self._in_a_row - 1, 16))) * (0.9 + 0.1 * self.jitter())

    # -- asking ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        soon = self._loop.time() + _SOONEST
        due = [key for key, when in sorted(self._due.items(), key=itemgetter(1)) if when <= soon]
        if not due:
            self._set_timer()
            return
        self._round = self._loop.create_task(self._ask_about(due))
        self._round.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._round = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("refreshing keys from keyservers failed", exc_info=error)
            self._in_a_row += 1
        self._set_timer()

    async def _ask_about(self, keys: list[str]) -> None:
        """Ask about all keys, a few at a time; give up for now when no server can be reached for as many."""
        left, reasons = deque(keys), list[str]()
        unreachable = 0

        async def work() -> None:
            nonlocal unreachable
            while left and unreachable < AT_ONCE:
                answer = await self._refresh_key(left.popleft())
                if answer is not None:
                    reasons.append(answer.why)
                    unreachable += answer.result is hkp.Result.UNAVAILABLE

        await asyncio.gather(*(work() for _ in range(min(AT_ONCE, len(keys)))))
        self._log_outcome(reasons, len(keys), len(left))  # first: a disk may be slow
        await self._save()

    def _log_outcome(self, reasons: list[str], asked: int, left: int) -> None:
        """Log the first failed round of a row, and its end."""
        if reasons:
            self._in_a_row += 1
            if self._in_a_row == 1:
                text = "keyservers: no usable answer about %d of %d keys (%s); cached answers stay in use"
                _log.warning(text, len(reasons) + left, asked, reasons[0])
        elif self._in_a_row:
            self._in_a_row = 0
            _log.info("keyservers answer again")

    async def _refresh_key(self, key: str) -> hkp.KeyReply | None:
        """Ask about one key, and take what each server says; return the last answer when there is nothing to take."""
        tried = await self.ask(self.keyservers, key, self.engine.snapshot.store.pgp)
        for answer in tried.answers:
            self._requests[answer.result] += 1
            if answer.why and answer.result is not hkp.Result.UNAVAILABLE:
                _log.warning("keyserver: %s", answer.why)
        if tried.found is None and not tried.absent:
            self._failures += 1
            self._due[key] = self._loop.time() + self._backing_off()  # behind those that are due now
            return next(answer for answer in reversed(tried.answers) if answer.result is not hkp.Result.ABSENT)
        for found in tried.having or (None,):
            await self._take(key, found)
        self._due[key] = self._loop.time() + self._interval()
        return None

    async def _take(self, key: str, found: hkp.KeyReply | None) -> None:
        packets = b"" if found is None else found.packets
        own, now = self.engine.snapshot.store.pgp, self.clock()
        news = await self._workers.result(lambda: self.cache.take(key, packets, now, own))
        if news is KeyChange.NONE or found is None:
            return
        certificate = own.get(key)
        who = key if certificate is None else f"{key} of {printable_message(certificate.name)}"
        what = "was revoked" if news is KeyChange.REVOKED else "has new signatures by its owner"
        _log.warning("keyserver %s: the key %s %s", found.url, who, what)
        self._updates += 1
        self.learn()
        await self._save()

    async def _save(self) -> None:
        """Write the cache. Answers that cannot be written count until a restart."""
        try:
            await self._workers.result(self.cache.save)
        except (ConfigError, OSError) as error:
            _log.error("%s; the answers of keyservers are lost with a restart", error)
