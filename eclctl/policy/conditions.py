"""Which questions a rule answers: the `match` of a rule, typed, and resolved for this host.

Patterns for hosts are compared with the name of this one once, when the policy loads. `*` stands for any characters of
one label and `?` for one of them. A pattern without a dot is compared with the first label of the host's name, so that
`login*` is `login1` and `login1.cluster.example`; one with dots with the whole name, label by label. Case does not
matter (RFC 4343).
"""

from __future__ import annotations

import re

from eclctl.config import document
from eclctl.config.accounts import numbers_of
from eclctl.config.document import Node, Report, Scalar, WrongTextError
from eclctl.dataclass import dataclass
from eclctl.policy.declare import LoadEnvironment
from eclctl.policy.globs import Glob, compile_glob, component_expression, objection
from eclctl.policy.language import SIGNED_KINDS, Match
from eclctl.policy.windows import Window, parse_window
from eclctl.terms import Kind
from eclctl.text import quoted

MATCH_KEYS = ("paths", "kinds", "users", "groups", "hosts", "times")
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
        host, resolve_user = self.environment.host, self.environment.resolve_user
        resolve_group = self.environment.resolve_group
        kinds = [document.choice(word, self.report, "a kind", tuple(Kind)) for word in listed.get("kinds", ())]
        return Match(
            paths=self._globs(listed["paths"]) if "paths" in listed else None,
            kinds=frozenset(Kind(kind) for kind in kinds if kind is not None) if "kinds" in listed else SIGNED_KINDS,
            users=numbers_of(listed["users"], self.report, "user", resolve_user) if "users" in listed else None,
            groups=numbers_of(listed["groups"], self.report, "group", resolve_group) if "groups" in listed else None,
            hosts=self._hosts(listed["hosts"]) if "hosts" in listed else None,
            here=any(matches_host(word.text, host) for word in listed["hosts"]) if "hosts" in listed else True,
            times=self._windows(listed["times"]) if "times" in listed else None,
        )

    def _globs(self, words: tuple[Scalar, ...]) -> tuple[Glob, ...]:
        globs: list[Glob] = []
        for word in words:
            wrong = objection(word.text)
            if wrong is None:
                globs.append(compile_glob(word.text))
            else:
                self.report.error(word, f"the path {quoted(word.text)} {wrong[0]}", wrong[1])
        return tuple(globs)

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
            except WrongTextError as error:
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
