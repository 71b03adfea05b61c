"""Reads the mounts that root has configured: /etc/fstab (fstab(5)) and `.mount` files (systemd.mount(5)).

Rules:

1. A file counts only when root owns it and every directory above it, and others cannot write them. A symbolic link
   counts when that holds for what it leads to.
2. Units that the service manager makes up from mountinfo have no file, and transient ones lie in a directory that is
   not read: neither is root's configuration.
3. Of several unit files of one name, the one that the service manager takes counts, and no other.
4. What is not understood (specifiers, drop-ins) is listed with a `flaw`, which says why it does not count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from eclctl.files.local_lookup import LocalFiles, LocalLookupError

UNIT_DIRECTORIES = (
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
)
"""Where unit files are read, the first directory counts most (systemd.unit(5))."""

_ROOT = frozenset({0})
_MAX_BYTES = 1 << 20
_NO_UNIT = "/dev/null"
_KEYS = ("What", "Where", "Type", "Options")
_KINDS = (".mount", ".automount", ".mount.d")
_FOR_ALL_MOUNTS = "mount.d"
_SETTLED_NS = 1_000_000_000  # a file that changed this recently may change again without another change time
_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")
_HEX = re.compile(rb"\\x([0-9a-fA-F]{2})")
_BLANKS = re.compile(r"[ \t]+")
_FIELDS = 3  # source, point, type: what fstab(5) always has; options may be left out
_Read = TypeVar("_Read")


class Entry(NamedTuple):
    """One configured mount.

    `source` is as it was written (`/dev/sdb1`, `UUID=…`). `type` is "" where the file leaves it open. `where` is the
    file. `flaw` says why the entry does not count.
    """

    point: str
    source: str
    type: str
    options: frozenset[str]
    where: str
    flaw: str | None = None


class ConfiguredMounts(NamedTuple):
    """Entries by mount point, and the points that have an `.automount` unit. `unread`: why /etc/fstab is not read."""

    entries: Mapping[str, tuple[Entry, ...]]
    automounts: frozenset[str]
    unread: str | None


class _Kept(Generic[_Read]):
    """Cache of what was read of files or directories, as long as they do not change."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[tuple[int, ...], _Read]] = {}

    def get(self, local_files: LocalFiles, path: str, read: Callable[[str], _Read]) -> _Read:
        """Return what `read` makes of a path without symbolic links. Raises LocalLookupError, as `read` may."""
        now = local_files.status(path)
        state = now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns
        kept = self._kept.get(path)
        if kept is not None and kept[0] == state:
            return kept[1]
        found = read(path)
        if now.st_ctime_ns < self._clock() - _SETTLED_NS:
            self._kept[path] = state, found
        else:
            self._kept.pop(path, None)
        return found


class MountsReader:
    """Reads the files, and reads again what has changed since.

    `clock` is the time in nanoseconds since the epoch.
    """

    def __init__(self, fstab: str, directories: tuple[str, ...], clock: Callable[[], int]) -> None:
        self._fstab = fstab
        self._directories = directories
        self._entries: _Kept[tuple[Entry, ...]] = _Kept(clock)
        self._names: _Kept[tuple[str, ...]] = _Kept(clock)

    def read(self, local_files: LocalFiles) -> ConfiguredMounts:
        """Return the configured mounts. Never raises: a file that cannot be read lists nothing, or has a flaw."""
        units = self._units(local_files)
        unread = None
        entries: list[Entry] = []
        try:
            entries += self._from_fstab(local_files)
        except LocalLookupError as error:
            unread = str(error)
        for name, directory in units.items():
            if name.endswith(".mount"):
                entries += self._from_unit(local_files, name, directory, units)
        by_point: dict[str, tuple[Entry, ...]] = {}
        for entry in entries:
            by_point[entry.point] = (*by_point.get(entry.point, ()), entry)
        automounts = (name.removesuffix(".automount") for name in units if name.endswith(".automount"))
        return ConfiguredMounts(by_point, frozenset(map(unescaped_path, automounts)), unread)

    def _from_fstab(self, local_files: LocalFiles) -> tuple[Entry, ...]:
        path = local_files.resolve(self._fstab)
        if (exposed := local_files.exposure(path, _ROOT)) is not None:
            raise LocalLookupError(exposed)
        return self._entries.get(
            local_files, path, lambda path: tuple(parse_fstab(local_files.text(path, _MAX_BYTES), self._fstab))
        )

    def _units(self, local_files: LocalFiles) -> dict[str, str]:
        """Return the names of units and drop-in directories, each with the directory whose file counts."""
        found: dict[str, str] = {}
        for directory in self._directories:
            try:
                path = local_files.resolve(directory)
                names = self._names.get(local_files, path, lambda path: tuple(local_files.names(path)))
            except LocalLookupError:
                continue
            for name in names:
                if name.endswith(_KINDS) or name == _FOR_ALL_MOUNTS:
                    found.setdefault(name, path)
        return found

    def _from_unit(self, local_files: LocalFiles, name: str, directory: str, units: Iterable[str]) -> tuple[Entry, ...]:
        point, where = unescaped_path(name.removesuffix(".mount")), f"{directory}/{name}"
        try:
            path = local_files.resolve(where)
            if path == _NO_UNIT:
                return (_flawed(point, where, "is masked"),)
            exposed = local_files.exposure(directory, _ROOT) or local_files.exposure(path, _ROOT)
            if exposed is not None:
                return (_flawed(point, where, f"is not root's alone: {exposed}"),)
            if any(each in units for each in drop_ins(name)):
                return (_flawed(point, where, "has drop-ins, which are not read"),)
            return self._entries.get(
                local_files, path, lambda path: (parse_mount_unit(local_files.text(path, _MAX_BYTES), point, where),)
            )
        except LocalLookupError as error:
            return (_flawed(point, where, f"cannot be read: {error}"),)


def _flawed(point: str, where: str, flaw: str) -> Entry:
    return Entry(point, "", "", frozenset(), where, flaw)


def parse_fstab(text: str, where: str) -> Iterator[Entry]:
    """Yield the entries of /etc/fstab; lines without a mount point (swap), and those of another shape, are left out."""
    for line in text.split("\n"):
        fields = [_replaced(_OCTAL, 8, each) for each in _BLANKS.split(line.strip(" \t"))]
        if len(fields) >= _FIELDS and not fields[0].startswith("#") and fields[1].startswith("/"):
            options = fields[3] if len(fields) > _FIELDS else ""
            yield Entry(_plain(fields[1]), fields[0], fields[2], _split(options), where)


def parse_mount_unit(text: str, point: str, where: str) -> Entry:
    """Return what a `.mount` file says; `point` is where its name says that it mounts."""
    values: dict[str, str] = {}
    section = ""
    for line in text.replace("\\\n", " ").split("\n"):
        stripped = line.strip(" \t")
        if stripped.startswith("["):
            section = stripped
        elif section == "[Mount]" and not stripped.startswith(("#", ";")):
            key, _, value = stripped.partition("=")
            values[key.strip(" \t")] = value.strip(" \t")
    if any("%" in values.get(key, "").replace("%%", "") for key in _KEYS):
        return _flawed(point, where, "has specifiers (%), which are not resolved")
    source, named, kind, options = (values.get(key, "").replace("%%", "%") for key in _KEYS)
    if not source or _plain(named or point) != point:
        return _flawed(point, where, "names no source, or another mount point than its file name does")
    return Entry(point, source, kind, _split(options), where)


def drop_ins(name: str) -> Iterator[str]:
    """Yield the names that directories with drop-ins for a unit have (systemd.unit(5))."""
    yield f"{name}.d"
    yield _FOR_ALL_MOUNTS
    stem = name.removesuffix(".mount")
    dash = stem.rfind("-", 0, -1)
    while dash > 0:
        yield f"{stem[: dash + 1]}.mount.d"
        dash = stem.rfind("-", 0, dash)


def unescaped_path(stem: str) -> str:
    """Return the path that the name of a unit stands for (systemd.unit(5), "String Escaping")."""
    return _plain("/" + _replaced(_HEX, 16, stem.replace("-", "/")))


def _replaced(escape: re.Pattern[bytes], base: int, text: str) -> str:
    """Return a text with the bytes that escapes stand for."""
    raw = escape.sub(lambda match: bytes((int(match[1], base),)), text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")


def _plain(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part not in {"", "."})


def _split(options: str) -> frozenset[str]:
    return frozenset(each.strip(" \t") for each in options.split(","))
