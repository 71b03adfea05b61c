"""What the parts of the daemon count, in one place: for `status`, and as numbers for the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eclctl.daemon.observing.internal_errors import InternalErrorStats
    from eclctl.daemon.revocation.key_refresh import RefreshStats
    from eclctl.daemon.watching.watch import WatchStats
    from eclctl.decide.cache import CacheStats
    from eclctl.remote.ocsp.cache import OcspStats


@dataclass(frozen=True, slots=True)
class Stats:
    """Where each part's counts come from. All may be called in any thread."""

    connections: Callable[[], int]
    cache: Callable[[], CacheStats]
    watcher: Callable[[], WatchStats]
    ocsp: Callable[[], OcspStats]
    keyservers: Callable[[], RefreshStats]
    internal_errors: Callable[[], InternalErrorStats]

    def numbers(self) -> dict[str, float | Mapping[str, float]]:
        """Return the counts by metric name, as `Metrics.ask_at_scrape` takes them."""
        cache, watcher, ocsp, keys = self.cache(), self.watcher(), self.ocsp(), self.keyservers()
        return {
            "eclctl_connections": self.connections(),
            "eclctl_internal_errors": self.internal_errors().count,
            "eclctl_cache_entries": cache.entries,
            "eclctl_cache_hits": cache.hits,
            "eclctl_cache_misses": cache.misses,
            "eclctl_cache_evictions": cache.evictions,
            "eclctl_watch_queue_length": watcher.queued,
            "eclctl_watch_overdue_seconds": watcher.overdue,
            "eclctl_watch_limit_reached": float(watcher.limited),
            "eclctl_watch_roots": watcher.modes,
            "eclctl_ocsp_requests": ocsp.requests,
            "eclctl_ocsp_failures": ocsp.failures,
            "eclctl_ocsp_statuses": ocsp.statuses,
            "eclctl_ocsp_oldest_answer_seconds": ocsp.oldest,
            "eclctl_ocsp_soonest_expiry_seconds": ocsp.soonest,
            "eclctl_keyserver_requests": keys.requests,
            "eclctl_keyserver_failures": keys.failures,
            "eclctl_keyserver_updates": keys.updates,
            "eclctl_keyserver_keys": keys.keys,
            "eclctl_keyserver_unanswered_keys": keys.unasked,
            "eclctl_keyserver_oldest_answer_seconds": keys.oldest,
        }
