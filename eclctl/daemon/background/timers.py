"""Calls on a timer: once at a time that can be set anew, or again and again. Nothing is called after `stop`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """Calls `work` on the event loop once for each time that is set. For the event loop's thread alone."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._handle: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def due(self) -> float | None:
        """When `work` will be called, in seconds of the loop's clock; None while no time is set."""
        return None if self._handle is None else self._handle.when()

    def set(self, seconds: float) -> None:
        """Call `work` in so many seconds, instead of at the time that was set before."""
        self.cancel()
        if not self._stopped:
            self._handle = asyncio.get_running_loop().call_later(seconds, self._call)

    def cancel(self) -> None:
        """Forget the time that was set."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def stop(self) -> None:
        """Never call `work` again, even if a time is set later."""
        self._stopped = True
        self.cancel()

    def _call(self) -> None:
        self._handle = None
        self._work()


class Repeating(Timer):
    """Calls `work` on the event loop every so many seconds, also after it has raised."""

    def start(self, seconds: float) -> None:
        """Call `work` in so many seconds for the first time."""
        self._seconds = seconds
        self.set(seconds)

    def _call(self) -> None:
        self.set(self._seconds)
        self._work()
