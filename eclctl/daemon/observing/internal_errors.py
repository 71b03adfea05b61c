"""Internal errors, which are bugs: each is counted, the last is kept for `status`, and tracebacks go to the log.

A user may be able to cause the same bug again and again. The log therefore gets at most `TRACEBACKS` tracebacks within
`PERIOD` seconds, and one line for all that were left out. The text of an error may hold what a user wrote, such as a
file's name: the log escapes each line, and what is kept for `status` is escaped here.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from eclctl.dataclass import dataclass
from eclctl.text import printable_ascii

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

TRACEBACKS: Final = 10
PERIOD: Final = 60.0
_TEXT_LIMIT: Final = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InternalErrorStats:
    """The internal errors since the start, and the last one.

    * `count`: how many there were.
    * `at`: when it was.
    * `text`: its type and message, one line of printable ASCII.
    * `seconds`: how long ago it was.
    """

    count: int = 0
    at: datetime | None = None
    text: str = ""
    seconds: float = 0.0


class InternalErrors:
    """Takes reports of internal errors from any thread.

    Args:
        clock: the time of day, aware, UTC.
        elapsed: seconds of a clock that cannot be set.
    """

    def __init__(self, clock: Callable[[], datetime], elapsed: Callable[[], float]) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._logged: deque[float] = deque(maxlen=TRACEBACKS)  # when the last tracebacks were logged
        self._left_out = 0
        self._count = 0
        self._last: tuple[datetime, float, str] | None = None

    def report(self, error: BaseException) -> None:
        """Count an error and log its traceback, unless there were too many. Never raises."""
        text = _text(error)
        at, now = self._clock(), self._elapsed()
        with self._lock:
            self._count += 1
            self._last = (at, now, text)
            shown = len(self._logged) < TRACEBACKS or now - self._logged[0] >= PERIOD
            if shown:
                self._logged.append(now)
            else:
                self._left_out += 1
        if shown:
            _log.error("internal error: %s", text, exc_info=error)

    def tell_left_out(self) -> None:
        """Log how many tracebacks were left out since the last time. To be called once every `PERIOD`."""
        with self._lock:
            left_out, self._left_out = self._left_out, 0
        if left_out:
            _log.error("%d more internal errors, logged without tracebacks because there were too many", left_out)

    def stats(self) -> InternalErrorStats:
        """Return what `status` and the metrics show."""
        with self._lock:
            if self._last is None:
                return InternalErrorStats()
            at, when, text = self._last
            return InternalErrorStats(self._count, at, printable_ascii(text), self._elapsed() - when)


def _text(error: BaseException) -> str:
    """Return type and message; an error may be too broken to have one."""
    try:
        return f"{type(error).__name__}: {error}"[:_TEXT_LIMIT]
    except Exception:  # noqa: BLE001 - a report of an error must not end in another
        return type(error).__name__[:_TEXT_LIMIT]
