"""Path patterns: matched by component on the resolved path, never by string prefix.

`*` stands for any characters inside one component and `?` for one of them. `**`, as a whole component, stands for any
number of directories; at the end it stands for everything below, and not for the directory itself. All else is
literal. Paths are str with surrogateescape, so that names which are not UTF-8 match `*`.

Patterns for repositories of container images (`registry.example/prod/**`) are the same without the leading slash.

A pattern becomes one regular expression. Everything between two wildcards is an atomic group that takes the earliest
match: that is enough for wildcards, and it keeps the time linear in the path for any names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

MAX_LENGTH = 4096
_WILD = re.compile(r"[*?]")
_UNSUPPORTED = re.compile(r"[\[\]{}]")
_BRACKETS = "uses brackets or braces", "only *, ** and ? are special; list several paths instead"
_STARS = "has ** beside other characters", "** stands alone between slashes; * is for inside a name"
_NO_COMPONENTS = frozenset({"", ".", ".."})


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
    first, *rest = ["".join("/" + _component(component) for component in run) for run in runs]
    if not rest:
        return first
    middle = "".join(f"(?>(?:/[^/]+)*?{run}(?=/))" for run in rest[:-1] if run)
    return first + middle + r"(?:/[^/]+)" + ("+" if not rest[-1] else f"*{rest[-1]}")


def _component(component: str) -> str:
    """Return the expression for one component, which can match in one way only as far as its neighbours can tell."""
    first, *rest = [re.escape(part).replace(r"\?", "[^/]") for part in re.split(r"\*+", component)]
    if not rest:
        return first
    middle = "".join(f"(?>[^/]*?{part})" for part in rest[:-1] if part)
    return f"(?>{first}{middle}[^/]*{rest[-1]}(?=/|\\Z))"
