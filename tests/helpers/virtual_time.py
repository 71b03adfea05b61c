"""An event loop whose time passes only while everybody waits, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

_T = TypeVar("_T")
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class _Selector(selectors.SelectSelector):
    """Skips what it would have waited."""

    loop: Loop

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "everybody waits, and for nothing"
            self.loop.now += max(0.0, timeout)
        return found


class Loop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.clock_set_by = timedelta()
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now

    def clock(self) -> datetime:
        """The time of day, which a test may have set."""
        return START + timedelta(seconds=self.now - 1000.0) + self.clock_set_by


def run(main: Coroutine[Any, Any, _T], loop: Loop) -> _T:
    """Run to the end; what is left over is cancelled."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main)
