"""Reports changes of exceptions: in the audit log, in the daemon's own log and in the metrics.

Nothing here decides: each decision judges exceptions itself (`decide.breakglass`). What changes with time (a start, an
end, a key that expires) is noticed at the instant or within `INTERVAL`. A record that the audit log does not take is
tried again then.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from eclctl.daemon.background.timers import Timer
from eclctl.daemon.observing.audit_records import exception_record
from eclctl.decide.breakglass import Candidate, Exceptions, Standing, State, exception_turning_points, standing
from eclctl.errors import AuditError
from eclctl.text import printable_message

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from eclctl.daemon.observing.audit_log import AuditLog
    from eclctl.daemon.observing.metrics import Metrics
    from eclctl.decide.engine import Engine

INTERVAL: Final = 60.0
"""Seconds after which it is looked at anew, if nothing starts or ends before."""

_SOONEST: Final = 0.05

_log = logging.getLogger(__name__)


class ExceptionWatch:
    """Looks at the exceptions in force, on the event loop.

    Args:
        engine: has the snapshot in force, and the newest time.
        audit: gets a record of each change.
        metrics: counts exceptions by state.
        clock: the time of day, aware, UTC.
    """

    def __init__(self, engine: Engine, audit: AuditLog, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._audit = audit
        self._metrics = metrics
        self._clock = clock
        self._reported: dict[tuple[str, str], tuple[Candidate, State, tuple[str, ...]]] = {}
        self._timer = Timer(self.refresh)

    def refresh(self) -> None:
        """Look now, and again when an exception starts or ends, at the latest after `INTERVAL`."""
        now = self._engine.not_before(self._clock())
        exceptions = self._engine.snapshot.exceptions
        try:
            self._look(exceptions, now)
        except AuditError as error:
            self._metrics.audit(0, ok=False)
            _log.error("%s", error)
        except Exception:  # noqa: BLE001 - reporting exceptions must not end the daemon, and decides nothing
            _log.exception("looking at the exceptions failed")
        self._timer.set(_delay(exceptions, now))

    def stop(self) -> None:
        """Stop looking."""
        self._timer.stop()

    def _look(self, exceptions: Exceptions, now: datetime) -> None:
        snapshot = self._engine.snapshot
        policy, counts = snapshot.policy, Counter[State]()
        found: dict[tuple[str, str], tuple[Candidate, Standing]] = {}
        for candidate in exceptions.candidates if policy is not None else ():
            assert policy is not None
            stands = standing(candidate, policy, snapshot.store, now)
            counts[stands.state] += 1
            found[candidate.name, candidate.digest] = candidate, stands
        self._metrics.exceptions({state.value: counts[state] for state in State})
        changed = [each for key, each in found.items() if self._is_news(key, each[1])]
        gone = [reported[0] for key, reported in self._reported.items() if key not in found]
        if changed or gone:
            records = [exception_record(*each, generation=snapshot.generation, now=now) for each in changed]
            removed = Standing(State.REMOVED, "its file is gone or was changed")
            records += [exception_record(each, removed, generation=snapshot.generation, now=now) for each in gone]
            self._audit.write(records)
            self._metrics.audit(len(records), ok=True)
        for candidate, stands in changed:
            level = logging.INFO if stands.state is State.WAITING or stands.state is State.ENDED else logging.WARNING
            _log.log(level, "exception %s: %s: %s", printable_message(candidate.name), stands.state, stands.why)
        self._reported = {
            key: (candidate, stands.state, stands.approvers) for key, (candidate, stands) in found.items()
        }

    def _is_news(self, key: tuple[str, str], stands: Standing) -> bool:
        reported = self._reported.get(key)
        return reported is None or reported[1:] != (stands.state, stands.approvers)


def _delay(exceptions: Exceptions, now: datetime) -> float:
    """Return in how many seconds the next exception starts or ends, or `INTERVAL` when that is sooner."""
    seconds = now.timestamp()
    ahead = (time - seconds for time in exception_turning_points(exceptions) if time > seconds)
    return max(_SOONEST, min((*ahead, INTERVAL)))
