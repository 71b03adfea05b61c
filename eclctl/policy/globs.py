"""Path patterns: matched by component on the resolved path, never by string prefix.

`*` stands for any characters inside one component and `?` for one of them. `**`, as a whole component, stands for any
number of directories; at the end it stands for everything below, and not for the directory itself. All else is
literal. Paths are str with surrogateescape, so that names which are not UTF-8 match `*`.

Patterns for repositories of container images (`registry.example/prod/**`) are the same without the leading slash.

A pattern becomes one regular expression. Everything between two wildcards is an atomic group that takes the earliest
match: that is enough for wildcards, and it keeps the time linear in the path for any names.

`includes` compares patterns as sequences, of components and within a component of characters, in which one token (`**`,
`*`) stands for any number of others. The answer is never yes when it should be no. It may be no for patterns that a
proof by cases would show to be included, since each token of the one is matched with tokens of the other alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache

from eclctl.dataclass import dataclass, field

MAX_LENGTH = 4096
_WILD = re.compile(r"[*?]")
_UNSUPPORTED = re.compile(r"[\[\]{}]")
_BRACKETS = "uses brackets or braces", "only *, ** and ? are special; list several paths instead"
_STARS = "has ** beside other characters", "** stands alone between slashes; * is for inside a name"
_NO_COMPONENTS = frozenset({"", ".", ".."})
_DEEP = "**"
_STAR = "*"


@dataclass(frozen=True)
class Glob:
    """A pattern. `prefix` is the literal directory that everything it matches lies in, "" for the root.

    Without slots, for the expression, which is compiled on first use: few of many rules are ever asked.
    """

    pattern: str
    prefix: str
    components: tuple[str, ...] = field(repr=False, compare=False)

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The expression that a path must match as a whole."""
        return re.compile(_expression(self.components))

    def matches(self, path: str) -> bool:
        """Tell whether an absolute, resolved path matches."""
        return self.regex.fullmatch(path) is not None


def objection(pattern: str) -> tuple[str, str] | None:
    """Return what is wrong with a pattern and what to write instead, or None when `compile_glob` takes it."""
    if len(pattern) > MAX_LENGTH:
        return "is longer than a path can be", "shorten it"
    if not pattern.startswith("/"):
        return "is not absolute", "begin it with /"
    if _UNSUPPORTED.search(pattern):
        return _BRACKETS
    components = pattern[1:].split("/")
    if components[-1] == "":
        return "ends in a slash", "end it in /** for everything below a directory"
    if not _NO_COMPONENTS.isdisjoint(components):
        return "has an empty, '.' or '..' component", "write the resolved path"
    return _STARS if _stars_beside_others(components) else None


def repository_objection(pattern: str) -> tuple[str, str] | None:
    """Return what is wrong with a pattern for repositories and what to write instead, or None."""
    if len(pattern) > MAX_LENGTH:
        return "is longer than a reference can be", "shorten it"
    if "://" in pattern:
        return "has a scheme", "begin it with the registry's name: registry.example/prod/**"
    if "@" in pattern:
        return "has a digest", "name the repository alone: the signature itself names the digest"
    if _UNSUPPORTED.search(pattern):
        return _BRACKETS[0], "only *, ** and ? are special; use a signer for each repository"
    components = pattern.split("/")
    if not _NO_COMPONENTS.isdisjoint(components):
        return "has an empty, '.' or '..' component", "write registry.example/prod/**, without slashes at the ends"
    return _STARS if _stars_beside_others(components) else None


def _stars_beside_others(components: list[str]) -> bool:
    return any("**" in component and component != "**" for component in components)


def compile_glob(pattern: str) -> Glob:
    """Compile a pattern that `objection` has nothing against."""
    components = pattern[1:].split("/")
    wild = next((n for n, component in enumerate(components) if _WILD.search(component)), len(components))
    prefix = "".join("/" + component for component in components[: min(wild, len(components) - 1)])
    return Glob(pattern, prefix, tuple(components))


def compile_repository(pattern: str) -> Glob:
    """Compile a pattern that `repository_objection` has nothing against, for `matches_repository`."""
    return Glob(pattern, "", tuple(pattern.split("/")))


def matches_repository(glob: Glob, reference: str) -> bool:
    """Tell whether the reference that a signature names matches; one that is empty, or has empty parts, never does."""
    return _NO_COMPONENTS.isdisjoint(reference.split("/")) and glob.regex.fullmatch("/" + reference) is not None


def _expression(components: Sequence[str]) -> str:
    """Return the regular expression for all components.

    A run is the components between two `**`. The earliest place for each run leaves the most for those after it, so
    each is atomic, but for the last, which must reach the end.
    """
    runs: list[list[str]] = [[]]
    for component in components:
        if component == "**":
            runs.append([])
        else:
            runs[-1].append(component)
    first, *rest = ["".join("/" + component_expression(component) for component in run) for run in runs]
    if not rest:
        return first
    middle = "".join(f"(?>(?:/[^/]+)*?{run}(?=/))" for run in rest[:-1] if run)
    return first + middle + r"(?:/[^/]+)" + ("+" if not rest[-1] else f"*{rest[-1]}")


def component_expression(component: str) -> str:
    """Return the expression for one component, which can match in one way only as far as its neighbours can tell."""
    first, *rest = [re.escape(part).replace(r"\?", "[^/]") for part in re.split(r"\*+", component)]
    if not rest:
        return first
    middle = "".join(f"(?>[^/]*?{part})" for part in rest[:-1] if part)
    return f"(?>{first}{middle}[^/]*{rest[-1]}(?=/|\\Z))"


def is_literal(glob: Glob) -> bool:
    """Return whether a pattern matches one path alone: itself."""
    return "*" not in glob.pattern and "?" not in glob.pattern


def ends(glob: Glob) -> tuple[str, str]:
    """Return what everything that matches begins with and ends with; both are the pattern itself when it is literal.

    A pattern that includes another one begins and ends with no more than that one does.
    """
    marks = [at for at, character in enumerate(glob.pattern) if character in "*?"]
    if not marks:
        return glob.pattern, glob.pattern
    return glob.pattern[: marks[0]], glob.pattern[marks[-1] + 1 :]


def includes(wide: Glob, narrow: Glob) -> bool:
    """Return True only when every resolved path that `narrow` matches is matched by `wide`."""
    if is_literal(narrow):
        return wide.matches(narrow.pattern)
    return _covers(_components(wide.pattern), _components(narrow.pattern), _DEEP, _component_includes)


def _covers(wide: Sequence[str], narrow: Sequence[str], many: str, one: Callable[[str, str], bool]) -> bool:
    """Return whether tokens of `wide` can be laid over all of `narrow`: `many` over any number, others over one.

    `row[n]` tells whether the tokens of `wide` that have been looked at, from the end, cover `narrow[n:]`.
    """
    size = len(narrow)
    row = [False] * size + [True]
    for token in reversed(wide):
        if token == many:
            for at in range(size - 1, -1, -1):
                row[at] = row[at] or row[at + 1]
        else:
            over = (narrow[at] != many and row[at + 1] and one(token, narrow[at]) for at in range(size))
            row = [*over, False]
    return row[0]


@lru_cache(maxsize=4096)
def _components(pattern: str) -> tuple[str, ...]:
    """Return a pattern's components in one form for all that mean the same: `**` is none or more, `*` any one.

    At the end, `**` is one or more: `*` and `**`. Of neighbours, `**` comes first.
    """
    found: list[str] = []
    components = pattern[1:].split("/")
    for component in components[:-1]:
        _append(found, component)
    _append(found, components[-1])
    if components[-1] == _DEEP:
        found.append(_STAR)
    return tuple(found)


def _append(found: list[str], component: str) -> None:
    if component != _DEEP:
        found.append(_canonical(component))
        return
    start = len(found)
    while start and found[start - 1] in {_STAR, _DEEP}:
        start -= 1
    if _DEEP not in found[start:]:
        found.insert(start, _DEEP)


def _canonical(component: str) -> str:
    """Return a component with `*` before `?` wherever they meet, and `*` for what matches any component."""
    found: list[str] = []
    for character in component:
        if character != _STAR:
            found.append(character)
            continue
        start = len(found)
        while start and found[start - 1] in "*?":
            start -= 1
        if _STAR not in found[start:]:
            found.insert(start, _STAR)
    text = "".join(found)
    return _STAR if text == "*?" else text  # no component is empty


@lru_cache(maxsize=65536)
def _component_includes(wide: str, narrow: str) -> bool:
    return wide == _STAR or _covers(wide, narrow, _STAR, lambda character, other: character in {"?", other})
