"""The daemon from start to stop: builds its parts, listens, tells systemd, handles signals, ends cleanly.

The order of the start matters: configuration, instance lock, audit log, policy, sockets (not visible yet), watcher and
metrics; then the sockets appear and READY=1 is sent. A daemon whose policy does not load starts all the same, denies
everything with code `no-policy`, and says so in its log, status and metrics; a configuration that does not load is
the end of the start, with every error located.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import resource
import signal
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime, monotonic, time, time_ns
from typing import TYPE_CHECKING, Final

from eclctl.config import settings as configuration
from eclctl.config.accounts import NAMES, subject
from eclctl.config.subordinate_ids import SYSTEM, Files
from eclctl.daemon.background.timers import Repeating
from eclctl.daemon.background.workers import Workers
from eclctl.daemon.decisions.calls import CheckCalls
from eclctl.daemon.decisions.checks import Checks
from eclctl.daemon.lifecycle.control import Control
from eclctl.daemon.lifecycle.reload import Reloader, ReloadReport
from eclctl.daemon.lifecycle.stats import Stats
from eclctl.daemon.lifecycle.systemd import SystemdNotifier, passed_sockets, watchdog_interval
from eclctl.daemon.observing.audit_log import AuditLog
from eclctl.daemon.observing.audit_records import start_record, stop_record
from eclctl.daemon.observing.breakglass import ExceptionWatch
from eclctl.daemon.observing.exposition import HttpExposition, TextfileExposition
from eclctl.daemon.observing.internal_errors import PERIOD, InternalErrors
from eclctl.daemon.observing.log import setup
from eclctl.daemon.observing.metrics import Metrics
from eclctl.daemon.observing.surveys import Surveyor
from eclctl.daemon.revocation.key_refresh import FILE, KeyRefresh
from eclctl.daemon.revocation.keyserver_cache import KeyserverCache
from eclctl.daemon.revocation.ocsp_watchlist import OcspWatchlist
from eclctl.daemon.sockets.admins import ADMIN_GROUP, Admins
from eclctl.daemon.sockets.callers import CallerLookup
from eclctl.daemon.sockets.closing import Closer
from eclctl.daemon.sockets.listeners import Listener, open_listener
from eclctl.daemon.sockets.protocol import Method
from eclctl.daemon.sockets.server import Server
from eclctl.daemon.watching.sandboxes import SandboxWatch
from eclctl.daemon.watching.watch import Watcher
from eclctl.dataclass import replace
from eclctl.decide.cache import FactCache
from eclctl.decide.engine import Engine
from eclctl.decide.host_mounts import trusted_file_systems, why_no_trusted_path
from eclctl.decide.snapshot import Snapshot
from eclctl.errors import AuditError, ConfigError
from eclctl.files.locating import Locator
from eclctl.files.mounts import MountTable
from eclctl.files.sandboxes import Sandboxes
from eclctl.files.writers import ignore_broken_leases
from eclctl.remote.ocsp.cache import OcspCache
from eclctl.verify.hashing import HashPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from eclctl.config.settings import Settings

OK, FAILED, MISCONFIGURED = 0, 1, 2
_PATIENCE: Final = 2.0  # seconds for requests under way when the daemon stops
_CLOSING_THREADS: Final = 8
_GC_THRESHOLDS: Final = (20_000, 20, 20)  # a turn makes some thousand objects and drops them all
# What a user with all of their connections can make the daemon hold, for each: the socket, two descriptors that wait
# for requests (`Server`), and, of a quarter as many requests in flight, the image that came and the one that is open.
_DESCRIPTORS_EACH: Final = 4

_log = logging.getLogger(__name__)


def serve(config: str, *, log_level: str = "info", log_json: bool = False, subids: Files = SYSTEM) -> int:
    """Run the daemon until a signal ends it.

    Args:
        config: path of config.yaml.
        log_level: what is logged to standard error.
        log_json: as JSON lines.
        subids: the files that grant subordinate IDs.

    Returns:
        The exit status: `OK`, `FAILED` when it could not start, `MISCONFIGURED`.
    """
    setup(log_level, json=log_json)
    loaded = configuration.load_settings(config, resolve_user=NAMES.user)
    if loaded.settings is None:
        for problem in loaded.errors:
            # For the person who typed the command, also when the log is JSON.
            print(f"eclctl daemon: {problem}", file=sys.stderr)  # noqa: T201 - see above
        return MISCONFIGURED
    try:
        return asyncio.run(_Service(config, loaded.settings, subids).run())
    except (AuditError, ConfigError) as error:
        _log.error("cannot start: %s", error)
        return FAILED


def _make_log_directory(directory: Path) -> None:
    """Make it so that the group that reads the log can enter it, under any umask. An existing one stays as it is."""
    umask = os.umask(0o027)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AuditError(f"cannot make the directory of the audit log, {directory}: {error.strerror}") from error
    finally:
        os.umask(umask)


def _now() -> datetime:
    return datetime.now(UTC)


def _elapsed() -> float:
    """Return seconds of a clock that cannot be set, and that goes on while the host sleeps."""
    return clock_gettime(CLOCK_BOOTTIME)


class _Service:
    """One run of the daemon."""

    def __init__(self, config: str, settings: Settings, subids: Files) -> None:
        self._config = config
        self._subids = subids
        self._settings = settings
        self._notifier = SystemdNotifier(os.environ.get("NOTIFY_SOCKET"))
        self._started = _now()
        self._stack = contextlib.ExitStack()

    async def run(self) -> int:
        """Start, serve until a signal comes, stop."""
        with self._stack:
            self._prepare_process()
            self._build()
            listeners = self._open_listeners()
            self._server = self._build_server(listeners)
            self._start_helpers()
            self._handle_signals()
            snapshot = self._engine.snapshot
            self._audit.write([start_record(generation=snapshot.generation, policy=snapshot.digest, now=_now())])
            self._exceptions.refresh()
            for listener, _ in listeners:
                listener.publish()
            self._notifier.ready(self._summary())
            self._start_watchdog()
            _log.info("ready: %s", self._summary())
            reason = await self._reason
            self._notifier.stopping()
            _log.info("stopping: %s", reason)
            for listener, _ in listeners:
                listener.close()
            await self._server.stop(_PATIENCE)
            self._record_stop(reason)
        return OK

    # -- start -----------------------------------------------------------------------------------------------------

    def _prepare_process(self) -> None:
        os.umask(0o077)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        ignore_broken_leases()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self._fit_limits(hard)
        self._lock_state()

    def _fit_limits(self, descriptors: int) -> None:
        """Fewer connections rather than none, where the descriptors do not suffice for what is configured."""
        limits = self._settings.limits
        possible = max(16, descriptors // _DESCRIPTORS_EACH) if descriptors > 0 else limits.connections
        if possible < limits.connections:
            _log.warning("only %d connections: the limit on open files (LimitNOFILE=) is %d", possible, descriptors)
            self._settings = replace(self._settings, limits=replace(limits, connections=possible))

    def _lock_state(self) -> None:
        """One daemon for each state directory."""
        directory = Path(self._settings.state_dir)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(directory / "eclctl.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot use the state directory {directory}: {error.strerror}") from error
        self._stack.callback(os.close, lock)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another daemon runs with the state directory {directory}; stop it first") from error
        except OSError as error:
            raise ConfigError(f"cannot lock the state directory {directory}: {error.strerror}") from error

    def _build(self) -> None:
        settings = self._settings
        if settings.audit_path is not None:
            _make_log_directory(Path(settings.audit_path).parent)
        self._audit = AuditLog(settings.audit_path)
        self._stack.callback(self._audit.close)
        self._metrics = Metrics()
        self._bugs = InternalErrors(_now, _elapsed)
        self._stack.callback(self._bugs.tell_left_out)
        self._mounts = MountTable(trusted_file_systems(settings))
        self._why_not = partial(why_no_trusted_path, self._mounts)
        self._stack.callback(self._mounts.close)
        ocsp = settings.ocsp
        self._ocsp_cache = OcspCache(clock=_now, timeout=ocsp.timeout, max_age=timedelta(seconds=ocsp.max_age))
        self._stack.callback(self._ocsp_cache.stop)
        self._engine = self._build_engine()
        self._ocsp_watchlist = OcspWatchlist(self._engine, self._ocsp_cache, _now)
        self._stack.callback(self._ocsp_watchlist.stop)
        keyserver_cache = KeyserverCache.load(Path(settings.state_dir, FILE))
        self._reloader = Reloader(
            self._engine,
            path=self._config,
            settings=settings,
            names=NAMES,
            audit=self._audit,
            metrics=self._metrics,
            clock=_now,
            learnt=keyserver_cache.ring,
        )
        self._stack.callback(self._reloader.stop)
        self._keys = KeyRefresh(
            self._engine, keyservers=settings.keyservers, cache=keyserver_cache, learn=self._learn, clock=_now
        )
        self._stack.callback(self._keys.stop)
        self._callers = CallerLookup(self._subids, clock=monotonic, wall=time)
        self._stack.callback(self._callers.stop)
        self._exceptions = ExceptionWatch(self._engine, self._audit, self._metrics, _now)
        self._stack.callback(self._exceptions.stop)
        self._metrics.policy(0, loaded=False, now=self._started)
        self._reloader.load_first()
        # What exists now stays: looking through it for garbage again and again would cost every answer.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        self._watcher = Watcher(settings.watch, self._engine, self._metrics, why_not=self._why_not)
        self._stats = self._build_stats()

    def _build_stats(self) -> Stats:
        return Stats(
            connections=lambda: self._server.connections(),  # noqa: PLW0108 - the server exists only later
            cache=self._engine.cache.stats,
            watcher=self._watcher.stats,
            ocsp=self._ocsp_cache.stats,
            keyservers=self._keys.stats,
            internal_errors=self._bugs.stats,
        )

    def _build_engine(self) -> Engine:
        settings, limits = self._settings, self._settings.limits
        return Engine(
            Locator(self._mounts, settings.trusted_owners, sandboxes=Sandboxes(_elapsed, self._sandbox_watch())),
            HashPool(limits.verify_threads),
            FactCache(limits.cache_entries),
            Snapshot.empty(),
            self._ocsp_cache,
            elapsed=_elapsed,
            file_time=time_ns,
            on_bug=self._bugs.report,
        )

    def _sandbox_watch(self) -> SandboxWatch | None:
        """Return the part that reports changes in sandboxes; without it, results are kept by their age alone."""
        try:
            watch = SandboxWatch()
        except OSError as error:
            _log.warning("no inotify instance is available for sandboxes: %s", error.strerror)
            return None
        self._stack.callback(watch.stop)
        return watch

    def _open_listeners(self) -> list[tuple[Listener, bool]]:
        """Return the check and the admin socket, each with whether it is the admin one."""
        passed = passed_sockets(os.environ)
        if unknown := set(passed) - {"check", "admin"}:
            names = ", ".join(sorted(unknown))
            raise ConfigError(f"systemd passed sockets that are named neither check nor admin: {names}")
        group = NAMES.group(ADMIN_GROUP)
        if os.geteuid() != 0 and group not in {os.getegid(), *os.getgroups()}:
            group = None  # not ours to give away
        listeners = []
        for name, path, mode, owner in (
            ("check", self._settings.check_socket, 0o666, None),
            ("admin", self._settings.admin_socket, 0o600 if group is None else 0o660, group),
        ):
            listener = Listener(passed[name]) if name in passed else open_listener(Path(path), mode, owner)
            self._stack.callback(listener.close)
            listeners.append((listener, name == "admin"))
        return listeners

    def _build_server(self, listeners: list[tuple[Listener, bool]]) -> Server:
        closer = Closer(self._mounts, Workers("close", _CLOSING_THREADS))
        checks = Checks(
            self._engine,
            limits=self._settings.limits,
            audit=self._audit,
            metrics=self._metrics,
            closer=closer,
            mounts=self._mounts,
            wake=lambda: self._server.wake(),  # noqa: PLW0108 - the server exists only later
            clock=_now,
            ask_status=self._ocsp_cache.wait,
        )
        self._stack.callback(checks.stop)
        surveyor = Surveyor(self._engine, _now)
        self._stack.callback(surveyor.stop)
        control = Control(
            self._engine,
            checks,
            self._reloader,
            self._watcher,
            self._metrics,
            self._stats,
            surveyor,
            self._callers,
            lambda: self._server,
            self._settings,
            self._started,
            _now,
            self._reload,
            self._why_not,
        )
        patience = self._settings.limits.request_timeout
        calls = CheckCalls(checks, closer, lambda uid: self._callers.subject(subject(uid)), patience)
        server = Server(
            self._settings.limits,
            handlers=control.handlers() | dict.fromkeys((Method.CHECK, Method.CHECK_ALL, Method.EXPLAIN), calls.handle),
            end_turn=checks.flush,
            observer=self._metrics,
            admins=Admins(NAMES.group(ADMIN_GROUP)),
            closer=closer,
            on_bug=self._bugs.report,
            callers=self._callers,
        )
        for listener, admin in listeners:
            server.listen(listener.socket, admin=admin)
        return server

    def _start_helpers(self) -> None:
        self._metrics.registry.register(self._stats)
        left_out = Repeating(self._bugs.tell_left_out)
        left_out.start(PERIOD)
        self._stack.callback(left_out.stop)
        self._ocsp_watchlist.refresh()
        self._keys.watch()
        self._callers.watch()
        self._watcher.start()
        self._stack.callback(self._watcher.stop)
        settings, registry = self._settings, self._metrics.registry
        exposition: HttpExposition | TextfileExposition | None = None
        if settings.metrics_textfile is not None:
            exposition = TextfileExposition(registry, settings.metrics_textfile)
            exposition.start()
        elif settings.metrics_listen is not None:
            exposition = HttpExposition(registry, *settings.metrics_listen)
        if exposition is not None:
            self._stack.callback(exposition.stop)

    # -- life ------------------------------------------------------------------------------------------------------

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        self._reason = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._on_sighup)

    def _stop(self, reason: str) -> None:
        if not self._reason.done():
            self._reason.set_result(reason)

    def _on_sighup(self) -> None:
        """SIGHUP: log rotation and reload, as is the custom."""
        try:
            self._audit.reopen()
        except AuditError as error:
            self._metrics.audit(0, ok=False)
            _log.error("%s", error)
        self._reload(lambda _: None)

    def _reload(self, done: Callable[[ReloadReport], None]) -> None:
        """Reload, and tell systemd before and after it."""
        self._notifier.reloading()
        self._callers.refresh()
        self._reloader.request(partial(self._reloaded, done))

    def _reloaded(self, done: Callable[[ReloadReport], None], report: ReloadReport) -> None:
        self._notifier.ready(self._summary())
        if report.ok:
            self._mounts.forget()  # device nodes may have other owners now, which changes no mount
            self._watcher.rescan("reload")
            self._ocsp_watchlist.refresh()
            self._exceptions.refresh()
            self._keys.watch()
        done(report)

    def _learn(self) -> None:
        """Take over what keyservers said of keys in use."""
        facts = self._engine.snapshot.store.digest

        def learned() -> None:
            self._exceptions.refresh()
            if self._engine.snapshot.store.digest != facts:  # then the kept facts of images are of other keys
                self._watcher.rescan("reload")

        self._reloader.learn(learned)

    def _summary(self) -> str:
        snapshot, last = self._engine.snapshot, self._reloader.last
        if snapshot.policy is None:
            return "no policy is loaded: every image is denied"
        state = f"policy generation {snapshot.generation} is in force"
        return state if last is None or last.ok else f"{state}; the last reload failed"

    def _start_watchdog(self) -> None:
        """Tell the watchdog from the event loop itself, so that a loop that hangs is noticed."""
        interval = watchdog_interval(os.environ)
        if interval is not None:
            self._notifier.alive()
            alive = Repeating(self._notifier.alive)
            alive.start(interval)
            self._stack.callback(alive.stop)

    def _record_stop(self, reason: str) -> None:
        try:
            self._audit.write([stop_record(reason=reason, now=_now())])
        except AuditError as error:
            _log.error("%s", error)
