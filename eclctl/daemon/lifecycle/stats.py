"""What the parts of the daemon count, in one place: for `status`, and as metrics that are asked for at each scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from eclctl.dataclass import dataclass
from eclctl.remote.keyservers.hkp import Result
from eclctl.trust.revocation import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from eclctl.daemon.observing.internal_errors import InternalErrorStats
    from eclctl.daemon.revocation.key_refresh import RefreshStats
    from eclctl.daemon.watching.watch import WatchStats
    from eclctl.decide.cache import CacheStats
    from eclctl.remote.ocsp.cache import OcspStats

_MODES = ("events", "interval", "missing")
_COUNTER, _GAUGE = CounterMetricFamily, GaugeMetricFamily


@dataclass(frozen=True, slots=True, eq=False)
class Stats(Collector):
    """Where each part's counts come from. All may be called in any thread."""

    connections: Callable[[], int]
    cache: Callable[[], CacheStats]
    watcher: Callable[[], WatchStats]
    ocsp: Callable[[], OcspStats]
    keyservers: Callable[[], RefreshStats]
    internal_errors: Callable[[], InternalErrorStats]

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, in the scraping thread."""
        yield _GAUGE("eclctl_connections", "Open client connections.", self.connections())
        text = "Errors of the program itself; the log has their tracebacks."
        yield _COUNTER("eclctl_internal_errors", text, self.internal_errors().count)
        yield from self._watching()
        yield from self._revocation()

    def _watching(self) -> Iterator[Metric]:
        cache, watcher = self.cache(), self.watcher()
        yield _GAUGE("eclctl_cache_entries", "Images whose facts are in memory.", cache.entries)
        yield _COUNTER("eclctl_cache_hits", "Look-ups that found facts.", cache.hits)
        yield _COUNTER("eclctl_cache_misses", "Look-ups that found none.", cache.misses)
        yield _COUNTER("eclctl_cache_evictions", "Facts dropped to make room.", cache.evictions)
        yield _GAUGE("eclctl_watch_queue_length", "Images waiting to be verified ahead of time.", watcher.queued)
        text = "Seconds that the oldest waiting image is overdue."
        yield _GAUGE("eclctl_watch_overdue_seconds", text, watcher.overdue)
        text = "1 when inotify watches are used up and only rescans find changes."
        yield _GAUGE("eclctl_watch_limit_reached", text, float(watcher.limited))
        text = "Watched trees, by how changes are noticed."
        yield _series(_GAUGE("eclctl_watch_roots", text, labels=["mode"]), _MODES, watcher.modes)

    def _revocation(self) -> Iterator[Metric]:
        ocsp, keys = self.ocsp(), self.keyservers()
        requests = _COUNTER("eclctl_ocsp_requests", "Requests to OCSP responders, by result.", labels=["result"])
        yield _series(requests, Status, ocsp.requests)
        text = "Times that no responder of a certificate gave a valid answer."
        yield _COUNTER("eclctl_ocsp_failures", text, ocsp.failures)
        statuses = _GAUGE("eclctl_ocsp_statuses", "Watched certificates, by current status.", labels=["status"])
        yield _series(statuses, (*Status, "none"), ocsp.statuses)
        yield _GAUGE("eclctl_ocsp_oldest_answer_seconds", "Age of the oldest OCSP answer in use.", ocsp.oldest)
        text = "Seconds until the first OCSP answer expires."
        yield _GAUGE("eclctl_ocsp_soonest_expiry_seconds", text, ocsp.soonest)
        requests = _COUNTER("eclctl_keyserver_requests", "Answers of keyservers, by result.", labels=["result"])
        yield _series(requests, Result, keys.requests)
        text = "Times that no keyserver gave a usable answer about a key."
        yield _COUNTER("eclctl_keyserver_failures", text, keys.failures)
        text = "Keys changed by a keyserver's answer, for instance revoked."
        yield _COUNTER("eclctl_keyserver_updates", text, keys.updates)
        yield _GAUGE("eclctl_keyserver_keys", "Keys in use that are refreshed from keyservers.", keys.keys)
        text = "Keys in use about which no keyserver has ever answered."
        yield _GAUGE("eclctl_keyserver_unanswered_keys", text, keys.unasked)
        yield _GAUGE("eclctl_keyserver_oldest_answer_seconds", "Age of the least recently refreshed key.", keys.oldest)


def _series(
    family: CounterMetricFamily | GaugeMetricFamily, values: Iterable[str], found: Mapping[str, float]
) -> Metric:
    """Fill a metric with a label; a value without a number is 0, so that a rate can be taken from the start."""
    for value in values:
        family.add_metric([str(value)], found.get(value, 0))
    return family
