"""Reads `ecl.toml`, the Execution Control List of SingularityCE and Apptainer, and finds wrong what they find wrong.

As there: keys match in any case, unknown ones are ignored, and what is left out is false or empty. An ECL that
is not activated must be valid all the same. All that is wrong is reported, not the first thing alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from eclctl.config.document import Problem, nearest
from eclctl.dataclass import dataclass, field
from eclctl.text import quoted

MAX_ECL_FILE = 4 * 1024 * 1024
"""The largest ecl.toml that is read, in bytes."""

_TOP = ("activated", "legacyinsecure", "execgroup")
_GROUP = ("tagname", "mode", "dirpath", "keyfp")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{40}")
_HEADER = re.compile(r"""[ \t]*\[\[[ \t]*["']?execgroup["']?[ \t]*\]\]""", re.IGNORECASE)
_POSITION = re.compile(r" \(at line (\d+), column (\d+)\)$")
_NO_COMPONENTS = frozenset({"", ".", ".."})
_LONGEST_PATH = 4093  # with a slash and a name of one byte in it, and a NUL at its end, Linux takes 4096


class ListMode(StrEnum):
    """What the keys of an execution group mean."""

    WHITELIST = "whitelist"
    WHITESTRICT = "whitestrict"
    BLACKLIST = "blacklist"


@dataclass(frozen=True, slots=True)
class ExecGroup:
    """An execution group. `directory` is "" for the one that takes what no other does.

    `number` counts from 1; `line` is where it begins, 0 when that is not known. `keys` are upper-case fingerprints of
    40 hex digits, each once, in the order of the file.
    """

    number: int
    line: int
    tag: str
    mode: ListMode
    directory: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EclConfig:
    """A valid ecl.toml. `legacy` looks at signatures of before Singularity 3.6 instead of modern ones."""

    activated: bool
    legacy: bool
    groups: tuple[ExecGroup, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A configuration, or every error that keeps ECL from loading it; remarks come with both."""

    config: EclConfig | None
    errors: tuple[Problem, ...]
    remarks: tuple[Problem, ...]


def read_ecl(name: str, content: bytes, resolve: Callable[[str], str]) -> Parsed:
    """Read an ecl.toml. Never raises for what it says.

    Args:
        name: the file's name, for messages.
        content: the whole file.
        resolve: returns a path with its symbolic links resolved, on this host; raises OSError when it is not here.
    """
    reader = _Reader(name, resolve)
    top = reader.parse(content)
    config = None if top is None else reader.config(top)
    return Parsed(None if reader.errors else config, tuple(reader.errors), tuple(reader.remarks))


@dataclass(slots=True)
class _Reader:
    """Collects what is wrong with one file."""

    name: str
    resolve: Callable[[str], str]
    errors: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)
    lines: tuple[int, ...] = ()

    def parse(self, content: bytes) -> dict[str, Any] | None:
        """Return the tables of the file, and note where its groups begin; None when that is an error."""
        if len(content) > MAX_ECL_FILE:
            self._error(0, f"the file is larger than {MAX_ECL_FILE // 1024 // 1024} MiB")
            return None
        try:
            text = content.decode()
            top = tomllib.loads(text)
        except UnicodeDecodeError as error:
            self._error(content.count(b"\n", 0, error.start) + 1, "the file is not valid UTF-8")
        except RecursionError:
            self._error(0, "not valid TOML: nested too deep")
        except ValueError as error:  # TOMLDecodeError, and numbers and dates that there cannot be
            place = _POSITION.search(str(error))
            line, column = (int(place[1]), int(place[2])) if place else (0, 0)
            message = f"not valid TOML: {_POSITION.sub('', str(error))}"
            self.errors.append(Problem(self.name, line, column, message))
        else:
            self.lines = tuple(number for number, line in enumerate(text.split("\n"), 1) if _HEADER.match(line))
            return top
        return None

    def config(self, top: dict[str, Any]) -> EclConfig:
        fields = self._fields(top, _TOP, 0, "")
        activated = self._boolean(fields, "activated")
        legacy = self._boolean(fields, "legacyinsecure")
        groups = fields.get("execgroup", [])
        if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
            self._error(0, "execgroup must be a list of tables", "write [[execgroup]] before each")
            groups = []
        if len(self.lines) != len(groups):  # inline tables, or a text that looks like a header
            self.lines = (0,) * len(groups)
        found = tuple(self._group(number, group) for number, group in enumerate(groups, 1))
        self._directories_once(found)
        return EclConfig(activated, legacy, found)

    def _error(self, line: int, message: str, hint: str | None = None) -> None:
        self.errors.append(Problem(self.name, line, 1 if line else 0, message, hint))

    def _remark(self, line: int, message: str, hint: str | None) -> None:
        self.remarks.append(Problem(self.name, line, 1 if line else 0, message, hint))

    def _fields(self, table: Mapping[str, Any], known: tuple[str, ...], line: int, what: str) -> dict[str, Any]:
        """Return the values of the known keys, whose case does not matter; two spellings of one are an error."""
        fields: dict[str, Any] = {}
        for key, value in table.items():
            word = key.lower()
            if word not in known:
                self._remark(line, f"{what}ECL ignores the key {quoted(key)}", nearest(key, known))
            elif word in fields:
                self._error(line, f"{what}{word} is there twice, in two spellings", "keep one of them")
            else:
                fields[word] = value
        return fields

    def _boolean(self, fields: Mapping[str, Any], key: str) -> bool:
        value = fields.get(key, False)
        if not isinstance(value, bool):
            self._error(0, f"{key} must be true or false, without quotes")
        return value is True

    def _group(self, number: int, table: Mapping[str, Any]) -> ExecGroup:
        line, what = self.lines[number - 1], f"execgroup {number}"
        fields = self._fields(table, _GROUP, line, f"{what}: ")
        tag = self._text(fields, "tagname", line, what)
        if tag:
            what += f" ({quoted(tag)})"
        directory = self._text(fields, "dirpath", line, what)
        if directory:
            self._check_directory(directory, line, what)
        mode = self._mode(fields, line, what)
        return ExecGroup(number, line, tag, mode, directory, tuple(self._keys(fields, line, what)))

    def _mode(self, fields: Mapping[str, Any], line: int, what: str) -> ListMode:
        mode = fields.get("mode", "")
        if isinstance(mode, str) and mode in tuple(ListMode):
            return ListMode(mode)
        shown = quoted(mode) if isinstance(mode, str) else "not text"
        near = nearest(mode, ListMode) if isinstance(mode, str) else None
        self._error(line, f"{what}: mode must be one of {', '.join(ListMode)}, and is {shown}", near)
        return ListMode.WHITELIST

    def _text(self, fields: Mapping[str, Any], key: str, line: int, what: str) -> str:
        value = fields.get(key, "")
        if isinstance(value, str):
            return value
        self._error(line, f"{what}: {key} must be text, in quotes")
        return ""

    def _keys(self, fields: Mapping[str, Any], line: int, what: str) -> Iterator[str]:
        """Yield the fingerprints, each once; ECL compares them without regard to case."""
        value = fields.get("keyfp", [])
        if not isinstance(value, list):
            self._error(line, f"{what}: keyfp must be a list of fingerprints", 'write keyfp = ["40 hex digits"]')
            return
        seen: set[str] = set()
        for key in value:
            if not isinstance(key, str) or not _FINGERPRINT.fullmatch(key):
                shown = quoted(key) if isinstance(key, str) else "not text"
                hint = "40 hex digits, without spaces: gpg --fingerprint shows them"
                self._error(line, f"{what}: a fingerprint in keyfp is {shown}", hint)
            elif key.upper() not in seen:
                seen.add(key.upper())
                yield key.upper()

    def _check_directory(self, directory: str, line: int, what: str) -> None:
        wrong = _not_clean(directory)
        if wrong is not None:
            self._error(line, f"{what}: dirpath {quoted(directory)} {wrong}", "ECL wants the resolved path")
            return
        try:
            resolved = self.resolve(directory)
        except OSError as error:
            message = f"{what}: dirpath {quoted(directory)} cannot be looked at here: {error.strerror}"
            self._remark(line, message, "where that is so, ECL does not load")
            return
        if resolved != directory:
            message = f"{what}: dirpath {quoted(directory)} leads through a symbolic link"
            self._error(line, message, f"ECL wants the resolved path, {quoted(resolved)}")

    def _directories_once(self, groups: tuple[ExecGroup, ...]) -> None:
        first: dict[str, int] = {}
        for group in groups:
            before = first.setdefault(group.directory, group.number)
            if before != group.number:
                which = f"dirpath {quoted(group.directory)}" if group.directory else "an empty dirpath"
                message = f"execgroup {group.number}: {which} is in execgroup {before} too"
                self._error(group.line, message, "a directory can be in one execgroup only")


def _not_clean(path: str) -> str | None:
    """Return why a path is not as resolving it would write it, as far as can be told without looking."""
    if "\0" in path:
        return "contains NUL"
    if len(path.encode("utf-8", "surrogateescape")) > _LONGEST_PATH:
        return "is longer than the path of a directory with files in it can be"
    if not path.startswith("/"):
        return "is not absolute"
    if path != "/" and not _NO_COMPONENTS.isdisjoint(path[1:].split("/")):
        return "has an empty, '.' or '..' component or a slash at its end"
    return None
