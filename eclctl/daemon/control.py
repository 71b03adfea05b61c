"""What the admin socket answers: the daemon's state, and orders to it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from eclctl import __version__
from eclctl.daemon.audit import timestamp
from eclctl.daemon.protocol import VERSION, ErrorCode, Method

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from eclctl.daemon.call import Call
    from eclctl.daemon.checks import Checks
    from eclctl.daemon.reload import Reloader, Report
    from eclctl.daemon.server import Server
    from eclctl.decide.engine import Engine
    from eclctl.decide.settings import Settings


class Watching(Protocol):
    """What the daemon asks of its watcher."""

    def rescan(self) -> None:
        """Look at every watched tree again, soon."""

    def status(self) -> Mapping[str, Any]:
        """How it is going, as plain JSON."""


@dataclass(frozen=True, slots=True)
class Control:
    """Handlers for the methods that decide nothing. `clock` is the time of day, `reload` begins a reload."""

    engine: Engine
    checks: Checks
    reloader: Reloader
    watcher: Watching
    server: Callable[[], Server]
    settings: Settings
    started: datetime
    clock: Callable[[], datetime]
    reload: Callable[[Callable[[Report], None]], None]

    def handlers(self) -> dict[Method, Callable[[Call], None]]:
        """The handler of each method."""
        return {
            Method.PING: self._ping,
            Method.STATUS: self._status,
            Method.RELOAD: self._reload,
            Method.FLUSH: self._flush,
            Method.RESCAN: self._rescan,
            Method.RECENT: self._recent,
        }

    def _ping(self, call: Call) -> None:
        call.answer({"protocol": VERSION, "version": __version__})

    def _reload(self, call: Call) -> None:
        self.reload(lambda report: call.answer(report.fields()))

    def _flush(self, call: Call) -> None:
        call.answer({"dropped": self.engine.flush()})

    def _rescan(self, call: Call) -> None:
        if not self.settings.watch:
            call.fail(ErrorCode.BAD_REQUEST, "no directory is watched; name some under `watch` in the configuration")
            return
        self.watcher.rescan()
        call.answer({"trees": len(self.settings.watch)})

    def _recent(self, call: Call) -> None:
        call.answer({"decisions": self.checks.recent(call.request.limit)})

    def _status(self, call: Call) -> None:
        snapshot, server, last = self.engine.snapshot, self.server(), self.reloader.last
        now = self.clock()
        call.answer(
            {
                "version": __version__,
                "protocol": VERSION,
                "pid": os.getpid(),
                "started": timestamp(self.started),
                "uptime": round((now - self.started).total_seconds(), 3),
                "policy_loaded": snapshot.policy is not None,
                "generation": snapshot.generation,
                "policy": snapshot.digest,
                "loaded_at": None if snapshot.loaded_at is None else timestamp(snapshot.loaded_at),
                "last_reload": None if last is None else last.fields(),
                "connections": server.connections(),
                "in_flight": server.in_flight(),
                "waiting": self.checks.backlog(),
                "cache": asdict(self.engine.cache.stats()),
                "audit": self.settings.audit_path,
                "watch": dict(self.watcher.status()),
            }
        )
