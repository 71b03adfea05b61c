"""Which questions a rule answers: the `match` of a rule, typed, and resolved for this host.

Patterns for hosts are compared with the name of this one once, when the policy loads. `*` stands for any characters of
one label and `?` for one of them. A pattern without a dot is compared with the first label of the host's name, so that
`login*` is `login1` and `login1.cluster.example`; one with dots with the whole name, label by label. Case does not
matter (RFC 4343).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from eclctl.config import document
from eclctl.config.document import Node, Report, Scalar
from eclctl.policy.declare import LoadEnvironment
from eclctl.policy.globs import Glob, compile_glob, component_expression, objection
from eclctl.policy.language import SIGNED_KINDS, Match
from eclctl.policy.windows import Window, WindowError, parse_window
from eclctl.terms import Kind
from eclctl.text import quoted

MATCH_KEYS = ("paths", "kinds", "users", "groups", "hosts", "times")
_HIGHEST_USER = 0xFFFFFFFE  # uid_t and gid_t; the next one stands for "none"
_NUMBER = re.compile(r"[0-9]{1,10}")
_HOST_PATTERN = re.compile(r"[A-Za-z0-9_*?-]{1,63}(?:\.[A-Za-z0-9_*?-]{1,63}){0,31}")


@dataclass(frozen=True, slots=True)
class MatchReader:
    """Reads what rules match; names of users and groups become numbers here, and hosts a yes or no."""

    environment: LoadEnvironment
    report: Report

    def match(self, node: Node, what: str) -> Match:
        """Return the match of the rule `what`; what is wrong is reported, and left out."""
        fields = document.mapping(node, self.report, f"match of {what}", MATCH_KEYS) or {}
        listed = {key: document.texts(value, self.report, f"{key} of {what}") or () for key, value in fields.items()}
        host = self.environment.host
        kinds = frozenset(kind for word in listed.get("kinds", ()) if (kind := self._kind(word)) is not None)
        return Match(
            paths=self._globs(listed["paths"]) if "paths" in listed else None,
            kinds=kinds if "kinds" in listed else SIGNED_KINDS,
            users=self._numbers(listed["users"], "user") if "users" in listed else None,
            groups=self._numbers(listed["groups"], "group") if "groups" in listed else None,
            hosts=self._hosts(listed["hosts"]) if "hosts" in listed else None,
            here=any(matches_host(word.text, host) for word in listed["hosts"]) if "hosts" in listed else True,
            times=self._windows(listed["times"]) if "times" in listed else None,
        )

    def _kind(self, word: Scalar) -> Kind | None:
        chosen = document.choice(word, self.report, "a kind", tuple(Kind))
        return Kind(chosen) if chosen is not None else None

    def _globs(self, words: tuple[Scalar, ...]) -> tuple[Glob, ...]:
        globs: list[Glob] = []
        for word in words:
            wrong = objection(word.text)
            if wrong is None:
                globs.append(compile_glob(word.text))
            else:
                self.report.error(word, f"the path {quoted(word.text)} {wrong[0]}", wrong[1])
        return tuple(globs)

    def _numbers(self, words: tuple[Scalar, ...], sort: str) -> frozenset[int]:
        resolve = self.environment.resolve_user if sort == "user" else self.environment.resolve_group
        numbers: set[int] = set()
        for word in words:
            number = int(word.text) if _NUMBER.fullmatch(word.text) else resolve(word.text)
            if number is None or number > _HIGHEST_USER:
                self.report.error(word, f"there is no {sort} {quoted(word.text)} on this host")
            else:
                numbers.add(number)
        return frozenset(numbers)

    def _hosts(self, words: tuple[Scalar, ...]) -> tuple[str, ...]:
        for word in words:
            if not _HOST_PATTERN.fullmatch(word.text):
                hint = "a host name, in which * and ? are special: login*"
                self.report.error(word, f"{quoted(word.text)} is no host name", hint)
            elif not self.environment.host:
                self.report.error(word, "the name of this host is not known, so that no rule can be for some hosts")
        return tuple(word.text for word in words)

    def _windows(self, words: tuple[Scalar, ...]) -> tuple[Window, ...]:
        windows: list[Window] = []
        for word in words:
            try:
                windows.append(parse_window(word.text))
            except WindowError as error:
                self.report.error(word, f"{quoted(word.text)} {error}", error.hint)
        return tuple(windows)


def matches_host(pattern: str, host: str) -> bool:
    """Tell whether a host's name matches a pattern. What is no pattern matches none."""
    if not _HOST_PATTERN.fullmatch(pattern):
        return False
    wanted, named = pattern.lower().split("."), host.lower().rstrip(".").split(".")
    if len(wanted) == 1:
        named = named[:1]
    pairs = zip(wanted, named, strict=False)
    return len(wanted) == len(named) and all(re.fullmatch(component_expression(each), label) for each, label in pairs)
