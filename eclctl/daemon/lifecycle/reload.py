"""Loads policy and keys while the daemon answers, and keeps the last good ones when anything is wrong.

A reload reads the configuration again and builds a whole new snapshot in a thread. Only a snapshot without errors is
installed, in one step; decisions that have begun finish under the one that they began with. Requests that come while
a reload runs share the next one, for the files may have changed since the running one began.

Changes of certificates that keyservers report (`learn`) need no files: they count also while those on disk do not load.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from eclctl.config import settings as configuration
from eclctl.config.document import Problem
from eclctl.daemon.background.workers import Workers
from eclctl.daemon.observing.audit_records import reload_record, timestamp
from eclctl.dataclass import dataclass, fields
from eclctl.decide.snapshot import Built, Snapshot, build, refreshed
from eclctl.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from eclctl.config.accounts import Names
    from eclctl.config.settings import Settings
    from eclctl.daemon.observing.audit_log import AuditLog
    from eclctl.daemon.observing.metrics import Metrics
    from eclctl.decide.engine import Engine
    from eclctl.signature.openpgp import Keyring

_RELOADABLE = frozenset({"policies", "keyrings"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """The result of one load. `generation` and `policy` are in force after it, also when it failed."""

    ok: bool
    at: datetime
    generation: int
    policy: str | None
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    def fields(self) -> dict[str, Any]:
        """As the protocol shows it."""
        return {
            "ok": self.ok,
            "at": timestamp(self.at),
            "generation": self.generation,
            "policy": self.policy,
            "errors": [str(problem) for problem in self.errors],
            "warnings": [str(problem) for problem in self.warnings],
        }


@dataclass(eq=False)
class Reloader:
    """Loads policy and keys into an engine.

    Args:
        engine: gets each good snapshot.
        path: the daemon's configuration file.
        settings: what the daemon was started with; only policies and keyrings of a changed file count before a restart.
        names: resolves names of users and groups while a policy loads.
        audit: gets a record of each load.
        metrics: counts them.
        clock: the time of day, aware, UTC.
        learnt: returns the answers of keyservers about certificates in the keyrings, None without any; in any thread.
    """

    engine: Engine
    path: str
    settings: Settings
    names: Names
    audit: AuditLog
    metrics: Metrics
    clock: Callable[[], datetime]
    learnt: Callable[[], Keyring | None] = lambda: None

    def __post_init__(self) -> None:
        self._workers = Workers("reload", 1)
        self._running = False
        self._waiting: list[Callable[[ReloadReport], None]] = []
        self._learning: list[Callable[[], None]] = []
        self.last: ReloadReport | None = None

    def request(self, done: Callable[[ReloadReport], None]) -> None:
        """Load soon; `done` is called on the loop with the result."""
        self._waiting.append(done)
        self._run()

    def learn(self, done: Callable[[], None]) -> None:
        """Apply the answers of keyservers soon; `done` is called on the loop when they count."""
        self._learning.append(done)
        self._run()

    def stop(self) -> None:
        """Begin no further load."""
        self._workers.stop()

    def load_first(self) -> ReloadReport:
        """Load at the start, blocking, from the settings at hand."""
        return self._finish(self._guarded(lambda: self._build_from(self.settings)))

    def _run(self) -> None:
        """Begin what was asked for, unless a load runs: then the rest begins at its end."""
        if self._running or not (self._waiting or self._learning):
            return
        self._running = True
        waiting, self._waiting = self._waiting, []
        learning, self._learning = self._learning, []

        def load() -> tuple[Built | None, Snapshot | None]:
            built = self._guarded(self._build) if waiting else None
            return built, self._refreshed() if built is None or built.snapshot is None else None

        self._workers.run(None, load, lambda loaded: self._done(loaded, waiting, learning))

    def _refreshed(self) -> Snapshot | None:
        """Return the snapshot in force, with what was learnt since it was built; None when that is nothing."""
        learnt = self.learnt()
        try:
            return None if learnt is None else refreshed(self.engine.snapshot, learnt, now=self.clock())
        except Exception:  # noqa: BLE001 - a bug in it must not end reloading
            _log.exception("applying the answers of keyservers failed")
            return None

    def _build(self) -> Built:
        loaded = configuration.load_settings(self.path, resolve_user=self.names.user)
        if loaded.settings is None:
            return Built(None, loaded.errors)
        built = self._build_from(loaded.settings)
        return Built(built.snapshot, built.errors, (*built.warnings, *self._unapplied(loaded.settings)))

    def _guarded(self, load: Callable[[], Built]) -> Built:
        try:
            return load()
        except Exception as error:  # noqa: BLE001 - a bug in loading must leave the last good policy in force
            _log.exception("loading failed")
            return Built(None, (Problem(self.path, 0, 0, f"an internal error ({type(error).__name__})"),))

    def _build_from(self, settings: Settings) -> Built:
        generation = self.engine.snapshot.generation + 1
        return build(settings, self.names, generation=generation, now=self.clock(), learnt=self.learnt())

    def _unapplied(self, new: Settings) -> list[Problem]:
        changed = [
            field.name
            for field in fields(new)
            if field.name not in _RELOADABLE and getattr(new, field.name) != getattr(self.settings, field.name)
        ]
        text = "{} changed; restart the daemon for that to take effect"
        return [Problem(self.path, 0, 0, text.format(name)) for name in changed]

    def _done(
        self,
        loaded: tuple[Built | None, Snapshot | None] | Exception,
        waiting: list[Callable[[ReloadReport], None]],
        learning: list[Callable[[], None]],
    ) -> None:
        assert not isinstance(loaded, Exception)  # `_guarded` and `_refreshed` raise none
        built, news = loaded
        if news is not None:
            self._take_over(news)
        if built is not None:
            report = self._finish(built)
            for done in waiting:
                done(report)
        for learnt in learning:
            learnt()
        self._running = False
        self._run()

    def _take_over(self, snapshot: Snapshot) -> None:
        """Install a snapshot of the same policy that knows more of its keys."""
        now = self.clock()
        self._install(snapshot, now)
        _log.info("policy generation %d is in force: answers of keyservers changed its keys", snapshot.generation)
        generation, digest = snapshot.generation, snapshot.digest
        self._record(ReloadReport(ok=True, at=now, generation=generation, policy=digest, errors=(), warnings=()))

    def _finish(self, built: Built) -> ReloadReport:
        """Install a good snapshot; log, count and record the load."""
        now = self.clock()
        if built.snapshot is not None:
            self._install(built.snapshot, now)
        snapshot = self.engine.snapshot
        ok = built.snapshot is not None
        report = ReloadReport(ok, now, snapshot.generation, snapshot.digest, built.errors, built.warnings)
        self.metrics.reload(ok=ok, now=now)
        for problem in (*built.errors, *built.warnings):
            _log.log(logging.WARNING if ok else logging.ERROR, "%s", problem)
        self._record(report)
        self.last = report
        return report

    def _install(self, snapshot: Snapshot, now: datetime) -> None:
        self.engine.install(snapshot)
        self.metrics.policy(snapshot.generation, loaded=True, now=now)
        self.metrics.rules.begin(snapshot.digest, now)

    def _record(self, report: ReloadReport) -> None:
        errors = [str(problem) for problem in report.errors]
        try:
            record = reload_record(
                ok=report.ok, generation=report.generation, policy=report.policy, errors=errors, now=report.at
            )
            self.audit.write([record])
        except AuditError as error:
            self.metrics.audit(1, ok=False)
            _log.error("%s", error)
