"""Time-outs of connections: half a line, answers that are not read, and connections on which nothing is asked.

How long a decision may take is another matter (`decisions.request_timeout`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eclctl.daemon.sockets.connection import Connection

SWEEP_SECONDS: Final = 1.0
"""How often the connections are looked at."""

_LINE_SECONDS: Final = 10.0
_STALLED_SECONDS: Final = 10.0


def overdue(connections: Iterable[Connection], now: float, idle_timeout: float) -> Iterator[tuple[Connection, str]]:
    """Yield the connections that have taken too long, each with its kind for the metrics.

    Args:
        connections: all connections.
        now: seconds of the event loop's clock.
        idle_timeout: seconds after which a connection without a request under way ends.
    """
    for connection in connections:
        idle = now - connection.active
        if connection.unsent():
            if min(idle, now - connection.last_progress) > _STALLED_SECONDS:
                yield connection, "slow-reader"
        elif not connection.in_flight and not connection.queued:
            limit = min(_LINE_SECONDS, idle_timeout) if connection.has_partial_line() else idle_timeout
            if idle > limit:
                yield connection, "timeout"
