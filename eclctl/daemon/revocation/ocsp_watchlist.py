"""Certificates whose OCSP answers are kept fresh: those of the policy in force that lead to a root.

That changes with each reload, and with time: certificates become valid, and expire. Finding it out means building
paths, which is done in a thread.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from eclctl.daemon.background.timers import Timer
from eclctl.daemon.background.workers import Workers
from eclctl.trust.keyring import needed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from eclctl.decide.engine import Engine
    from eclctl.remote.ocsp.cache import OcspCache
    from eclctl.trust.revocation import Link

INTERVAL: Final = 3600.0
"""Seconds after which it is found out anew, without a reload."""

_log = logging.getLogger(__name__)


class OcspWatchlist:
    """Tells the cache of OCSP answers which certificates to keep fresh.

    Args:
        engine: has the snapshot in force.
        cache: asks responders, and keeps what they say.
        clock: the time of day, aware, UTC.
    """

    def __init__(self, engine: Engine, cache: OcspCache, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._cache = cache
        self._clock = clock
        self._workers = Workers("ocsp-watchlist", 1)
        self._running = False
        self._again = False
        self._timer = Timer(self.refresh)

    def refresh(self) -> None:
        """Search soon. Requests that come while a search runs lead to one more search."""
        if self._running:
            self._again = True
            return
        self._running = True
        self._timer.cancel()
        self._workers.run(None, lambda: needed(self._engine.snapshot.store, self._clock()), self._found)

    def stop(self) -> None:
        """Start no further search."""
        self._workers.stop()
        self._timer.stop()

    def _found(self, links: Sequence[Link] | Exception) -> None:
        self._running = False
        if isinstance(links, Exception):  # what is watched already stays so
            _log.error("finding the certificates whose status must be known failed", exc_info=links)
        else:
            self._cache.watch(links)
        self._timer.set(INTERVAL)
        if self._again:
            self._again = False
            self.refresh()
