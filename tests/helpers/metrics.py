"""The daemon's metrics for tests, with those that its parts are asked for at each scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eclctl.daemon.lifecycle.stats import Stats
from eclctl.daemon.observing.internal_errors import InternalErrorStats
from eclctl.daemon.observing.metrics import Metrics
from eclctl.daemon.revocation.key_refresh import RefreshStats
from eclctl.daemon.watching.watch import WatchStats
from eclctl.decide.cache import CacheStats
from eclctl.remote.ocsp.cache import OcspStats

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


def whole_metrics() -> Metrics:
    """Metrics of a daemon whose parts have counted nothing yet."""
    metrics = Metrics()
    stats = Stats(
        connections=lambda: 0,
        cache=lambda: CacheStats(0, 0, 0, 0),
        watcher=lambda: WatchStats(0, 0.0, limited=False, modes={}),
        ocsp=OcspStats,
        keyservers=RefreshStats,
        internal_errors=InternalErrorStats,
    )
    metrics.registry.register(stats)
    return metrics


def metric_names(registry: CollectorRegistry) -> frozenset[str]:
    """Return the names of all series that a registry exposes, as a scrape would show them (`_total`, `_bucket`…)."""
    return frozenset(sample.name for family in registry.collect() for sample in family.samples)
