"""YAML documents as marked nodes, and the helpers that type them.

The one reader for everything that an administrator writes: policies and the daemon's configuration. Rules:

- libyaml's events are read as a stream, and reading stops at the first event beyond `MAX_DEPTH`, `MAX_NODES` or at
  any anchor, alias or tag, before anything is built from it: libyaml's own composer recurses, and aliases multiply.
- Every scalar is a string until a schema types it. A fingerprint of digits stays one, and `no` is no boolean.
- Every node knows its file, line and column. Problems are collected in a `Report`, so that one run shows them all;
  the helpers return None for what they have reported.
- What is shown of a file's content is escaped and bounded: an error message reaches terminals and logs.
"""

from __future__ import annotations

import codecs
import math
import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import yaml

from eclctl.dataclass import dataclass, field
from eclctl.text import bounded_integer, parse_duration, printable_message, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from yaml._yaml import Mark as _CMark

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_NODES = 1_000_000
MAX_PROBLEMS = 100
_MOST_COMPARED = 80

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # what libyaml counts as the end of a line
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "false": False}


class Mark(NamedTuple):
    """Where something was written. Line and column count from 1; 0 stands for the whole file."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """An error, a warning or a note, with its place and, where there is one, what to do about it.

    `source` is the line itself as it was loaded, without its end; None when no line is meant. It is not escaped:
    `excerpts.excerpt` makes it fit to be shown.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None
    source: str | None = field(default=None, compare=False)

    @property
    def sentence(self) -> str:
        """The place and the message, on one line that is safe to show."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return printable_message(f"{place}: {self.message}")

    def __str__(self) -> str:
        return self.sentence + (f" ({printable_message(self.hint)})" if self.hint else "")


class Scalar(NamedTuple):
    """A string. `plain` is true when it was written without quotes, so that `null` can be told from "null"."""

    mark: Mark
    text: str
    plain: bool = True


class ListNode(NamedTuple):
    """A sequence of nodes, in file order."""

    mark: Mark
    items: tuple[Node, ...]


class MapNode(NamedTuple):
    """A mapping as its pairs in file order; duplicate keys are still there."""

    mark: Mark
    pairs: tuple[tuple[Node, Node], ...]


Node: TypeAlias = Scalar | ListNode | MapNode


class Problems(list[Problem]):
    """Problems of one sort, each once, at most `MAX_PROBLEMS`. `left_out` counts the rest."""

    left_out = 0

    def add(self, problem: Problem) -> None:
        """Keep a problem, or count it."""
        if len(self) >= MAX_PROBLEMS:
            self.left_out += 1
        elif problem not in self:
            self.append(problem)


@dataclass(slots=True)
class Report:
    """Collects problems, each with the line that it is about, out of the texts that `read_document` has read."""

    errors: Problems = field(default_factory=Problems)
    warnings: Problems = field(default_factory=Problems)
    notes: Problems = field(default_factory=Problems)
    _texts: dict[str, str] = field(default_factory=dict)
    _lines: dict[str, list[str]] = field(default_factory=dict)

    def error(self, at: Node | Mark, message: str, hint: str | None = None) -> None:
        """Record an error: the document does not load."""
        self._add(self.errors, at, message, hint)

    def warning(self, at: Node | Mark, message: str, hint: str | None = None) -> None:
        """Record a warning: the document loads, and says something that its author may not mean."""
        self._add(self.warnings, at, message, hint)

    def note(self, at: Node | Mark, message: str, hint: str | None = None) -> None:
        """Record a note: what the document says on purpose, and a reader should know."""
        self._add(self.notes, at, message, hint)

    def unknown(self, at: Node, what: str, word: str, known: Iterable[str], where: str = "") -> None:
        """Record that `word` is none of the `known` words, with the nearest of them as a hint."""
        if len(self.errors) < MAX_PROBLEMS:
            self.error(at, f"unknown {what} {quoted(word)}{where}", suggestion(word, known))
        else:
            self.errors.left_out += 1

    def read(self, name: str, text: str) -> None:
        """Remember the text of a file, for the lines of what is found in it."""
        self._texts[name] = text
        self._lines.pop(name, None)

    def _add(self, problems: Problems, at: Node | Mark, message: str, hint: str | None) -> None:
        mark = at if isinstance(at, Mark) else at.mark
        problems.add(Problem(mark.file, mark.line, mark.column, message, hint, self._line(mark)))

    def _line(self, mark: Mark) -> str | None:
        if mark.file not in self._lines and mark.file in self._texts:
            self._lines[mark.file] = _BREAK.split(self._texts[mark.file])
        lines = self._lines.get(mark.file, ())
        return lines[mark.line - 1] if 0 < mark.line <= len(lines) else None


class WrongTextError(ValueError):
    """A text that is not what it must be: the message begins with a verb, and `hint` says what to write."""

    def __init__(self, message: str, hint: str | None) -> None:
        super().__init__(message)
        self.hint = hint


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return "did you mean 'x'?" for the nearest known word, else None."""
    import difflib  # noqa: PLC0415 - only a word that is unknown needs it

    near = difflib.get_close_matches(word.lower(), sorted(set(known)), n=1) if len(word) <= _MOST_COMPARED else []
    return f"did you mean {quoted(near[0])}?" if near else None


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """Return what `nearest` does, else the known words when they are few, else None."""
    words = sorted(set(known))
    few = f"known: {', '.join(words)}" if 0 < len(words) <= 16 else None  # noqa: PLR2004 - as many as fit a line
    return nearest(word, words) or few


def read_document(name: str, text: bytes, report: Report) -> Node | None:
    """Read one YAML document.

    Args:
        name: the file's name, for messages.
        text: the whole file, UTF-8.
        report: takes what is wrong.

    Returns:
        The root node, or None when an error was reported: then nothing of the document may be used.
    """
    if len(text) > MAX_BYTES:
        report.error(Mark(name, 0, 0), f"the file is larger than {MAX_BYTES // 1024 // 1024} MiB")
        return None
    text = text.removeprefix(codecs.BOM_UTF8)
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        report.read(name, text.decode(errors="backslashreplace"))
        report.error(_place(name, text[: error.start].decode()), "the file is not valid UTF-8")
        return None
    report.read(name, decoded)
    try:
        return _Composer(name).compose(decoded)
    except _RefusedError as refused:
        report.error(refused.mark, refused.message, refused.hint)
    except yaml.MarkedYAMLError as error:
        report.error(_mark(name, error.problem_mark or error.context_mark), *_explained(error))
    except yaml.reader.ReaderError as error:
        # libyaml counts this position in bytes of the UTF-8 that it was given.
        before = decoded.encode()[: error.position] if isinstance(error.position, int) else b""
        report.error(_place(name, before.decode(errors="ignore")), "a control character, which YAML does not allow")
    return None


class _RefusedError(Exception):
    """Ends the stream: YAML that eclctl does not take."""

    def __init__(self, mark: Mark, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.mark, self.message, self.hint = mark, message, hint


class _Composer:
    """Builds nodes from libyaml's events, without recursion and within the bounds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[tuple[Mark, list[Node]]] = []  # collections without their end, and what was read before each
        self._here: list[Node] = []  # what the innermost of them holds so far; the root, outside of all
        self._nodes = 0
        self._documents = 0

    def compose(self, text: str) -> Node:
        loader = yaml.CSafeLoader(text)
        try:
            # Large policies have a million events, most of them scalars: these cost two calls each.
            for event in iter(loader.get_event, None):
                if type(event) is yaml.ScalarEvent:
                    self._here.append(Scalar(self._begin(event), event.value, not event.style))
                else:
                    self._take(event)
        finally:
            loader.dispose()
        if not self._here:
            raise _RefusedError(Mark(self._name, 0, 0), "the file is empty", "it needs at least 'version: 1'")
        return self._here[0]

    def _take(self, event: yaml.Event) -> None:
        kind = type(event)
        if kind is yaml.MappingEndEvent:
            pairs = iter(self._here)
            self._close(MapNode(self._open[-1][0], tuple(zip(pairs, pairs, strict=True))))
        elif kind is yaml.SequenceEndEvent:
            self._close(ListNode(self._open[-1][0], tuple(self._here)))
        elif isinstance(event, yaml.NodeEvent):
            mark = self._begin(event)
            if len(self._open) >= MAX_DEPTH:
                raise _RefusedError(mark, f"nested deeper than {MAX_DEPTH} levels")
            self._open.append((mark, self._here))
            self._here = []
        elif kind is yaml.DocumentStartEvent:
            self._documents += 1
            if self._documents > 1:
                raise _RefusedError(_mark(self._name, event.start_mark), "a second YAML document in one file")

    def _close(self, node: Node) -> None:
        _, self._here = self._open.pop()
        self._here.append(node)

    def _begin(self, event: yaml.NodeEvent) -> Mark:
        """Count a node, refuse what must not be, and return where it begins."""
        at = event.start_mark
        assert at is not None  # libyaml marks every event
        mark = Mark(self._name, at.line + 1, at.column + 1)
        if event.anchor is not None:  # an alias has one, too
            raise _RefusedError(mark, "YAML anchors and aliases are not accepted", "write the value out")
        if event.tag is not None:  # type: ignore[attr-defined] # scalars and collections have one
            raise _RefusedError(mark, "YAML tags are not accepted", "a word that begins with '!' needs quotes")
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _RefusedError(mark, f"more than {MAX_NODES} values in one file")
        return mark


def _mark(name: str, mark: yaml.error.Mark | _CMark | None) -> Mark:
    return Mark(name, mark.line + 1, mark.column + 1) if mark is not None else Mark(name, 0, 0)


def _place(name: str, before: str) -> Mark:
    """Return the mark of the character that follows `before`."""
    lines = _BREAK.split(before)
    return Mark(name, len(lines), len(lines[-1]) + 1)


def _explained(error: yaml.MarkedYAMLError) -> tuple[str, str | None]:
    """Return libyaml's message in one sentence, and a hint for what people run into most."""
    parts = [part for part in (error.context, error.problem) if part]
    text = ": ".join(parts) or "not valid YAML"
    hint = None
    if "cannot start any token" in text:
        hint = "indent with spaces, never tabs; quote a word that begins with @, ` or %"
    elif "mapping values are not allowed" in text:
        hint = "a colon is missing on a line before, the indentation is wrong, or a text with ': ' needs quotes"
    elif error.context_mark is not None and error.problem_mark is not None:
        hint = f"it begins at line {error.context_mark.line + 1}, column {error.context_mark.column + 1}"
    return f"not valid YAML: {text}", hint


def is_null(node: Node) -> bool:
    """Tell whether `node` is nothing, `~` or `null`, without quotes."""
    return isinstance(node, Scalar) and node.plain and node.text in _NULLS


def _kind(node: Node) -> str:
    if isinstance(node, Scalar):
        return "nothing" if is_null(node) else quoted(node.text)
    return "a list" if isinstance(node, ListNode) else "a mapping"


def pairs(node: Node, report: Report, what: str) -> tuple[tuple[Scalar, Node], ...] | None:
    """Take a mapping with any keys, as (key, value) in file order; each key once, a string.

    Duplicate keys are errors at the second place, and left out of the result.
    """
    if not isinstance(node, MapNode):
        report.error(node, f"{what} must be a mapping, and is {_kind(node)}")
        return None
    seen: dict[str, Scalar] = {}
    kept: list[tuple[Scalar, Node]] = []
    for key, value in node.pairs:
        if not isinstance(key, Scalar):
            report.error(key, f"a key of {what} must be a word, and is {_kind(key)}")
        elif key.text in seen:
            report.error(key, f"duplicate key {quoted(key.text)} (first on line {seen[key.text].mark.line})")
        else:
            seen[key.text] = key
            kept.append((key, value))
    return tuple(kept)


def mapping(
    node: Node, report: Report, what: str, known: Sequence[str], required: Sequence[str] = ()
) -> dict[str, Node] | None:
    """Take a mapping whose keys are all among `known`, and that has the `required` ones.

    Returns:
        The values by key, without those that were reported; None when `node` is no mapping.
    """
    found = pairs(node, report, what)
    if found is None:
        return None
    fields: dict[str, Node] = {}
    for key, value in found:
        if key.text in known:
            fields[key.text] = value
        else:
            report.unknown(key, "key", key.text, known, f" in {what}")
    for name in required:
        if name not in fields:
            report.error(node, f"{what} needs {quoted(name)}", "write 'version: 1'" if name == "version" else None)
    return fields


def items(node: Node, report: Report, what: str, *, may_be_empty: bool = False) -> tuple[Node, ...] | None:
    """Take a list. An empty one is an error unless `may_be_empty`: a rule that lists nothing says nothing."""
    if not isinstance(node, ListNode):
        report.error(node, f"{what} must be a list, and is {_kind(node)}", "write it as [a, b]")
        return None
    if not node.items and not may_be_empty:
        report.error(node, f"{what} is an empty list", "leave the key out, or list something")
        return None
    return node.items


def text(node: Node, report: Report, what: str, *, longest: int = 4096) -> str | None:
    """Take a string that is not empty, of at most `longest` characters, without NUL."""
    if not isinstance(node, Scalar) or (node.plain and node.text in _NULLS):
        report.error(node, f"{what} must be text, and is {_kind(node)}")
        return None
    word = node.text
    if not word or len(word) > longest or "\0" in word:
        wrong = f"longer than {longest} characters" if len(word) > longest else "empty or contains NUL"
        report.error(node, f"{what} is {wrong}")
        return None
    return word


def choice(node: Node, report: Report, what: str, options: Sequence[str]) -> str | None:
    """Take one of the words in `options`."""
    word = text(node, report, what)
    if word is not None and word not in options:
        report.error(node, f"{what} must be one of {', '.join(options)}, and is {quoted(word)}", nearest(word, options))
        return None
    return word


def integer(node: Node, report: Report, what: str, low: int, high: int) -> int | None:
    """Take a decimal number from `low` to `high`."""
    word = text(node, report, what)
    number = None if word is None else bounded_integer(word, low, high)
    if word is not None and number is None:
        report.error(node, f"{what} must be a number from {low} to {high}, and is {quoted(word)}")
    return number


def boolean(node: Node, report: Report, what: str) -> bool | None:
    """Take `true` or `false`; YAML 1.1's yes, no, on and off are errors, since programs disagree on them."""
    word = text(node, report, what)
    if word is not None and word not in _BOOLEANS:
        meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(word.lower(), word.lower())
        report.error(node, f"{what} must be true or false, and is {quoted(word)}", nearest(meant, _BOOLEANS))
    return _BOOLEANS.get(word or "")


def duration(node: Node, report: Report, what: str, *, low: float = 0.0, high: float = math.inf) -> float | None:
    """Take a time span such as `30s`, `15m`, `12h`, `365d` or `2w`.

    Returns:
        Seconds, from `low` to `high`.
    """
    word = text(node, report, what)
    if word is None:
        return None
    seconds = parse_duration(word)
    if seconds is None:
        report.error(node, f"{what} must be a duration, and is {quoted(word)}", "a number and s, m, h, d or w: 15m")
        return None
    if not low <= seconds <= high:
        report.error(node, f"{what} must be from {low:g}s to {high:g}s, and is {quoted(word)}")
        return None
    return seconds


def text_or_texts(node: Node, report: Report, what: str) -> tuple[Scalar, ...] | None:
    """Take a string, or a list of strings as `texts` does."""
    if not isinstance(node, Scalar):
        return texts(node, report, what)
    return None if text(node, report, what) is None else (node,)


def texts(node: Node, report: Report, what: str, *, may_be_empty: bool = False) -> tuple[Scalar, ...] | None:
    """Take a list of strings, each once, as the scalars that still know their places."""
    found = items(node, report, what, may_be_empty=may_be_empty)
    if found is None:
        return None
    kept: dict[str, Scalar] = {}
    for item in found:
        word = text(item, report, f"an entry of {what}")
        if word is None or not isinstance(item, Scalar):
            continue
        if word in kept:
            report.error(item, f"{quoted(word)} is listed twice in {what}")
        else:
            kept[word] = item
    return tuple(kept.values())
