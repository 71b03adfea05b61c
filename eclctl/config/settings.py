"""Reads the daemon's own configuration, config.yaml, as frozen types (`config.example.yaml` shows every key)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from eclctl.config import document
from eclctl.config.accounts import numbers_of
from eclctl.config.document import Mark, Node, Problem, Report
from eclctl.config.keyservers import Keyservers, read_keyservers
from eclctl.dataclass import dataclass, field, fields, replace
from eclctl.errors import ConfigError
from eclctl.files.guarded import read_owned
from eclctl.files.trusted_filesystems import Filesystems
from eclctl.text import quoted

_LISTEN = re.compile(r"(?P<host>[^\s:\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_KEYS = (
    "version",
    "sockets",
    "state_dir",
    "policies",
    "keyrings",
    "watch",
    "metrics",
    "audit",
    "trusted_owners",
    "trusted_mounts",
    "filesystems",
    "ocsp",
    "keyservers",
    "limits",
)
_FILESYSTEMS = tuple(item.name for item in fields(Filesystems))
_REQUIRED = ("version", "sockets", "state_dir", "policies", "keyrings")


@dataclass(frozen=True, slots=True)
class Watch:
    """A directory that is watched.

    rescan: The longest time between two rescans, in seconds.
    mark: Where the configuration names it.
    """

    path: str
    recursive: bool = True
    rescan: float = 900.0
    mark: Mark = field(default=Mark("", 0, 0), compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that keep one user, one image or one peer from taking all. Times are seconds."""

    connections: int = 4096
    connections_per_user: int = 256
    requests_in_flight_per_user: int = 64
    request_timeout: float = 30.0
    idle_timeout: float = 60.0
    verify_threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    open_threads: int = 8
    cache_entries: int = 200_000
    descriptors_per_message: int = 16


@dataclass(frozen=True, slots=True)
class Ocsp:
    """How OCSP responders are asked about certificates. Both are seconds.

    max_age: How long an answer is kept at most, even if its nextUpdate is later.
    timeout: For each responder.
    """

    max_age: float = 86400.0
    timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """config.yaml. Paths are absolute; `trusted_owners` are user IDs."""

    check_socket: str
    admin_socket: str
    state_dir: str
    policies: tuple[str, ...]
    keyrings: tuple[str, ...]
    watch: tuple[Watch, ...] = ()
    metrics_listen: tuple[str, int] | None = ("127.0.0.1", 9469)
    metrics_textfile: str | None = None
    audit_path: str | None = None
    trusted_owners: frozenset[int] = frozenset({0})
    filesystems: Filesystems = field(default_factory=Filesystems)
    ocsp: Ocsp = field(default_factory=Ocsp)
    keyservers: Keyservers = field(default_factory=Keyservers)
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Settings, or every error that kept them from loading."""

    settings: Settings | None
    errors: tuple[Problem, ...]


def load_settings(path: str, *, resolve_user: Callable[[str], int | None]) -> LoadedSettings:
    """Read and check config.yaml; relative paths in it are relative to its directory.

    `resolve_user` gives the number of a user name, or None. Never raises: a file that cannot be read is an error too.
    """
    path = os.path.abspath(path)
    report = Report()
    settings = None
    try:
        text, owner = read_owned(path, limit=document.MAX_BYTES)
    except ConfigError as error:
        report.error(Mark(path, 0, 0), f"the configuration {error}")
    else:
        root = document.read_document(path, text, report)
        if root is not None:
            settings = _Reader(os.path.dirname(path), report, resolve_user, roots_own=owner == 0).settings(root)
    return LoadedSettings(None if report.errors else settings, tuple(report.errors))


@dataclass(frozen=True, slots=True)
class _Reader:
    base: str
    report: Report
    resolve_user: Callable[[str], int | None]
    roots_own: bool

    def settings(self, root: Node) -> Settings | None:
        found = document.mapping(root, self.report, "the configuration", (*_KEYS, "shared_cache"), _REQUIRED)
        if found is None:
            return None
        watched = found.get("watch")
        watches = () if watched is None else document.items(watched, self.report, "watch", may_be_empty=True) or ()
        if "shared_cache" in found:
            self.report.error(found["shared_cache"], "shared_cache is not known to this version of eclctl", "remove it")
        if (version := found.get("version")) is not None:
            document.integer(version, self.report, "version", 1, 1)
        check, admin = self._sockets(found.get("sockets"))
        listen, textfile = self._metrics(found.get("metrics"))
        return Settings(
            check_socket=check,
            admin_socket=admin,
            state_dir=self._path(found.get("state_dir"), "state_dir"),
            policies=self._paths(found.get("policies"), "policies"),
            keyrings=self._paths(found.get("keyrings"), "keyrings", may_be_empty=True),  # all keys can be PEM keys
            watch=tuple(watch for item in watches if (watch := self._watch(item)) is not None),
            metrics_listen=listen,
            metrics_textfile=textfile,
            audit_path=self._audit(found.get("audit")),
            trusted_owners=self._owners(found.get("trusted_owners")),
            filesystems=self._filesystems(found.get("filesystems"), found.get("trusted_mounts")),
            ocsp=self._ocsp(found.get("ocsp")),
            keyservers=read_keyservers(found.get("keyservers"), self.report, self.base),
            limits=self._limits(found.get("limits")),
        )

    def _path(self, node: Node | None, what: str) -> str:
        text = None if node is None else document.text(node, self.report, what)
        return os.path.normpath(os.path.join(self.base, text)) if text else ""

    def _paths(self, node: Node | None, what: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
        found = () if node is None else document.items(node, self.report, what, may_be_empty=may_be_empty) or ()
        return tuple(self._path(item, f"a path in {what}") for item in found)

    def _sockets(self, node: Node | None) -> tuple[str, str]:
        keys = ("check", "admin")
        found = {} if node is None else document.mapping(node, self.report, "sockets", keys, keys) or {}
        check, admin = self._path(found.get("check"), "sockets.check"), self._path(found.get("admin"), "sockets.admin")
        if admin and check == admin:
            self.report.error(found["admin"], "sockets.admin is the same path as sockets.check")
        return check, admin

    def _watch(self, node: Node) -> Watch | None:
        found = document.mapping(node, self.report, "a watch", ("path", "recursive", "rescan"), ("path",))
        if found is None or "path" not in found:
            return None
        recursive, rescan = found.get("recursive"), found.get("rescan")
        again = None if rescan is None else document.duration(rescan, self.report, "rescan", low=1.0)
        return Watch(
            path=self._path(found["path"], "watch.path"),
            recursive=True if recursive is None else document.boolean(recursive, self.report, "recursive") is not False,
            rescan=900.0 if again is None else again,
            mark=found["path"].mark,
        )

    def _metrics(self, node: Node | None) -> tuple[tuple[str, int] | None, str | None]:
        if node is None:
            return ("127.0.0.1", 9469), None
        if document.is_null(node):
            return None, None
        found = document.mapping(node, self.report, "metrics", ("listen", "textfile")) or {}
        if len(found) != 1:
            self.report.error(node, "metrics needs either listen or textfile", "write null for no metrics")
        if "textfile" in found:
            return None, self._path(found["textfile"], "metrics.textfile")
        return self._listen(found.get("listen")), None

    def _listen(self, node: Node | None) -> tuple[str, int] | None:
        text = None if node is None else document.text(node, self.report, "metrics.listen")
        if node is None or text is None:
            return None
        match = _LISTEN.fullmatch(text)
        if match is None or int(match["port"]) > 65535:  # noqa: PLR2004 - the highest port there is
            self.report.error(node, f"metrics.listen must be HOST:PORT, and is {quoted(text)}")
            return None
        return match["host"].strip("[]"), int(match["port"])

    def _audit(self, node: Node | None) -> str | None:
        if node is None or document.is_null(node):
            return None
        found = document.mapping(node, self.report, "audit", ("path",), ("path",)) or {}
        return self._path(found.get("path"), "audit.path") or None

    def _owners(self, node: Node | None) -> frozenset[int]:
        if node is None:
            return frozenset({0})
        names = document.texts(node, self.report, "trusted_owners") or ()
        return numbers_of(names, self.report, "user", self.resolve_user)

    def _filesystems(self, node: Node | None, trusted_mounts: Node | None) -> Filesystems:
        """Read which file systems are trusted; `trusted_mounts` is the older name of `filesystems.read_only`."""
        older = frozenset(map(_one_slash, self._paths(trusted_mounts, "trusted_mounts")))
        if node is None:
            return Filesystems(read_only=older)
        if not self.roots_own:
            self.report.error(node, "filesystems is accepted only in a file that root owns", "chown root the file")
        found = document.mapping(node, self.report, "filesystems", _FILESYSTEMS) or {}
        points = {name: self._points(value, f"filesystems.{name}") for name, value in found.items()}
        return Filesystems(**points | {"read_only": points.get("read_only", frozenset()) | older})

    def _points(self, node: Node, what: str) -> frozenset[str]:
        points: set[str] = set()
        for item in document.texts(node, self.report, what, may_be_empty=True) or ():
            if item.text.startswith("/"):
                points.add(_one_slash(os.path.normpath(item.text)))
            else:
                message = f"the mount point {quoted(item.text)} in {what} is not absolute"
                self.report.error(item, message, "begin it with /")
        return frozenset(points)

    def _ocsp(self, node: Node | None) -> Ocsp:
        found = {} if node is None else document.mapping(node, self.report, "ocsp", ("max_age", "timeout")) or {}
        highest = {"max_age": 7 * 86400.0, "timeout": 60.0}
        given = {
            name: document.duration(value, self.report, f"ocsp.{name}", low=1.0, high=highest[name])
            for name, value in found.items()
        }
        return Ocsp(**{name: seconds for name, seconds in given.items() if seconds is not None})

    def _limits(self, node: Node | None) -> Limits:
        if node is None:
            return Limits()
        names = tuple(item.name for item in fields(Limits))
        found = document.mapping(node, self.report, "limits", names) or {}
        given = {name: limit for name, value in found.items() if (limit := self._limit(name, value)) is not None}
        return replace(Limits(), **given)

    def _limit(self, name: str, node: Node) -> Any:  # int or float, as the field's type is
        if name in {"request_timeout", "idle_timeout"}:
            return document.duration(node, self.report, f"limits.{name}", low=1.0, high=3600.0)
        highest = 253 if name == "descriptors_per_message" else 10_000_000  # SCM_MAX_FD
        return document.integer(node, self.report, f"limits.{name}", 1, highest)


def _one_slash(path: str) -> str:
    """Return a normalised absolute path with one slash at its beginning; `normpath` leaves two."""
    return "/" + path.lstrip("/")
