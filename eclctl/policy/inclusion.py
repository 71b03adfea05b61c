"""Whether one path pattern matches everything that another one matches.

Patterns are compared as sequences, of components and within a component of characters, in which one token (`**`, `*`)
stands for any number of others. The answer is never yes when it should be no. It may be no for patterns that a
proof by cases would show to be included, since each token of the one is matched with tokens of the other alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from eclctl.policy.globs import Glob

__all__ = ["ends", "includes", "is_literal"]

_DEEP = "**"
_STAR = "*"


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
    return wide == _STAR or _covers(wide, narrow, _STAR, _character_includes)


def _character_includes(wide: str, narrow: str) -> bool:
    return wide in {"?", narrow}
