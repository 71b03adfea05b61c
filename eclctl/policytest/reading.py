"""Reads files of tests, with the reader of policies: every error at once, each with its place and a suggestion.

In two steps, because tests name signers and rules of a policy, and the policy loads with what test files bring along:
`FileHeader` takes keyrings and names, and `CaseReader` the tests, against the policy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from eclctl.config import document
from eclctl.config.accounts import Names
from eclctl.config.document import Node, Report, Scalar
from eclctl.dataclass import dataclass, field
from eclctl.model import ALLOWING, Caller, Code
from eclctl.policytest.cases import Case, Expectation, Supposed
from eclctl.policytest.describing import IMAGE_KEYS, Describer
from eclctl.policytest.signing import SigningKeys
from eclctl.terms import Assurance, Verdict
from eclctl.text import bounded_integer, quoted
from eclctl.trust.revocation import Status

_TOP = ("version", "keyrings", "names", "defaults", "tests")
_CIRCUMSTANCES = ("path", "caller", "role", "now", "assurance", "ocsp", "host")
_CASE = ("name", "image", *IMAGE_KEYS, *_CIRCUMSTANCES, "expect")
_EXPECT = ("decision", "code", "rule", "missing", "stages", "signers", "would", "message", "exception")
_NOBODY = 65534
_HIGHEST_USER = 0xFFFFFFFE
_ROLE = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_LONGEST_NAME = 200
_FIRST_YEAR, _LAST_YEAR = 1971, 2999
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(slots=True)
class Declared:
    """Users and groups that test files declare, so that a policy can be tested on hosts without them.

    What is declared goes before what the host says: a test means the same everywhere.
    """

    host: Names
    users: dict[str, tuple[int, Scalar]] = field(default_factory=dict)
    groups: dict[str, tuple[int, Scalar]] = field(default_factory=dict)

    def names(self, host: str | None = None) -> Names:
        """Return how names become numbers for policy and tests, on a host of this name, or on this one."""
        return Names(
            host=self.host.host if host is None else host,
            user=lambda name: self.users[name][0] if name in self.users else self.host.user(name),
            group=lambda name: self.groups[name][0] if name in self.groups else self.host.group(name),
        )


@dataclass(frozen=True, slots=True)
class FileHeader:
    """What a file of tests says before its tests. `keyrings` are paths; `tests` are still nodes."""

    keyrings: tuple[str, ...]
    defaults: Mapping[str, Node]
    tests: tuple[Node, ...]


def read_header(root: Node, declared: Declared, report: Report) -> FileHeader | None:
    """Take everything of a file but its tests; users and groups go to `declared`."""
    fields = document.mapping(root, report, "the file of tests", _TOP, ("version", "tests"))
    if fields is None:
        return None
    if "version" in fields:
        document.choice(fields["version"], report, "version", ("1",))
    if "names" in fields:
        _declare(fields["names"], declared, report)
    folder = os.path.dirname(root.mark.file)
    rings = document.texts(fields["keyrings"], report, "keyrings") if "keyrings" in fields else None
    defaults = (
        document.mapping(fields["defaults"], report, "defaults", _CIRCUMSTANCES) if "defaults" in fields else None
    )
    tests = document.items(fields["tests"], report, "tests") if "tests" in fields else None
    return FileHeader(
        tuple(os.path.normpath(os.path.join(folder, ring.text)) for ring in rings or ()),
        defaults or {},
        tests or (),
    )


def _declare(node: Node, declared: Declared, report: Report) -> None:
    fields = document.mapping(node, report, "names", ("users", "groups")) or {}
    for sort, known in (("users", declared.users), ("groups", declared.groups)):
        for key, value in (document.pairs(fields[sort], report, sort) or ()) if sort in fields else ():
            number = document.integer(value, report, f"the number of {quoted(key.text)}", 0, _HIGHEST_USER)
            if number is None:
                continue
            before, first = known.setdefault(key.text, (number, key))
            if before != number:
                place = f"{first.mark.file}:{first.mark.line}"
                message = f"{sort.removesuffix('s')} {quoted(key.text)} is {number} here and {before} at {place}"
                report.error(value, message, "give it one number")


@dataclass(frozen=True, slots=True)
class CaseReader:
    """Reads tests against a policy. `now` is when tests take place that do not say."""

    material: SigningKeys
    declared: Declared
    report: Report
    now: datetime

    def cases(self, header: FileHeader) -> tuple[Case, ...]:
        """Return the tests of a file, without those that were reported."""
        found: list[Case] = []
        names: dict[str, Node] = {}
        for node in header.tests:
            fields = document.mapping(node, self.report, "a test", _CASE, ("name", "expect"))
            name = self._name(fields["name"]) if fields is not None and "name" in fields else None
            if fields is None or name is None:
                continue
            if name in names:
                self.report.error(node, f"test {quoted(name)} is there twice (first on line {names[name].mark.line})")
            names.setdefault(name, node)
            before = len(self.report.errors)
            case = self._case(node, name, fields, header.defaults)
            if case is not None and len(self.report.errors) == before:
                found.append(case)
        return tuple(found)

    def _name(self, node: Node) -> str | None:
        name = document.text(node, self.report, "name of a test", longest=_LONGEST_NAME)
        if name is not None and not name.isprintable():
            self.report.error(node, "the name of a test has control characters or several lines", "write one line")
            return None
        return name

    def _case(self, node: Node, name: str, own: Mapping[str, Node], defaults: Mapping[str, Node]) -> Case | None:
        what, fields = f"test {quoted(name)}", {**defaults, **own}
        said = {key: what if key in own or key not in defaults else "the defaults" for key in _CIRCUMSTANCES}
        now = self._now(fields.get("now"), said["now"])
        image = self._image(fields, what, now)
        path = self._path(node, fields.get("path"), said["path"])
        expect = self._expect(fields.get("expect"), what)
        if image is None or expect is None:
            return None
        return Case(
            name=name,
            mark=node.mark,
            image=image,
            path=path,
            caller=self._caller(fields.get("caller"), said["caller"]),
            role=self._role(fields.get("role"), said["role"]),
            now=now,
            assurance=Assurance(self._chosen(fields, "assurance", said, tuple(Assurance)) or Assurance.TRUSTED_PATH),
            ocsp=Status(self._chosen(fields, "ocsp", said, tuple(Status)) or Status.GOOD),
            host=document.text(fields["host"], self.report, f"host of {said['host']}") if "host" in fields else None,
            expect=expect,
        )

    def _chosen(
        self, fields: Mapping[str, Node], key: str, said: Mapping[str, str], options: tuple[str, ...]
    ) -> str | None:
        return document.choice(fields[key], self.report, f"{key} of {said[key]}", options) if key in fields else None

    def _image(self, fields: Mapping[str, Node], what: str, now: datetime) -> str | Supposed | None:
        if "image" not in fields:
            return Describer(self.material, self.report).image(fields, what, now)
        for key in fields.keys() & set(IMAGE_KEYS):
            message = f"{what} has an image, which says itself what {key} describes"
            self.report.error(fields[key], message, f"remove {key}, or image")
        node = fields["image"]
        name = document.text(node, self.report, f"image of {what}")
        if name is None:
            return None
        path = os.path.abspath(os.path.join(os.path.dirname(node.mark.file), name))
        if not os.path.exists(path):
            self.report.error(node, f"there is no image {quoted(name)}", "paths are relative to the file of tests")
            return None
        return path

    def _path(self, case: Node, node: Node | None, what: str) -> str | None:
        if node is None:
            self.report.error(case, f"{what} needs 'path'", "where the image lies; null: its name does not lead to it")
            return None
        if document.is_null(node):
            return None
        path = document.text(node, self.report, f"path of {what}")
        if path is not None and (not path.startswith("/") or os.path.normpath(path) != path):
            message = f"the path {quoted(path)} is not as the daemon sees paths"
            self.report.error(node, message, "absolute, without '.', '..', '//' and a slash at the end")
        return path

    def _now(self, node: Node | None, what: str) -> datetime:
        """Take a date, which means its first moment in UTC, or a time with its offset."""
        word = None if node is None else document.text(node, self.report, f"now of {what}")
        if node is None or word is None:
            return self.now
        try:
            now = datetime.fromisoformat(word)
        except ValueError:
            self.report.error(node, f"now of {what} must be a date or time, and is {quoted(word)}", _TIMES)
            return self.now
        if now.tzinfo is None and not _DAY.fullmatch(word):
            self.report.error(node, f"now of {what} is {quoted(word)}, without an offset from UTC", _TIMES)
            return self.now
        if not _FIRST_YEAR <= now.year <= _LAST_YEAR:
            self.report.error(node, f"now of {what} must be from {_FIRST_YEAR} to {_LAST_YEAR}, and is {quoted(word)}")
            return self.now
        return (now if now.tzinfo is not None else now.replace(tzinfo=UTC)).astimezone(UTC)

    def _role(self, node: Node | None, what: str) -> str:
        role = None if node is None else document.text(node, self.report, f"role of {what}")
        if node is not None and role is not None and not _ROLE.fullmatch(role):
            self.report.error(node, f"role of {what} must be a lower-case word, and is {quoted(role)}")
        return role or "rootfs"

    def _caller(self, node: Node | None, what: str) -> Caller:
        """Return the caller; without fields, the user `nobody` in no group."""
        where = f"caller of {what}"
        fields = {} if node is None else document.mapping(node, self.report, where, ("user", "groups")) or {}
        uid = self._number(fields["user"], "user") if "user" in fields else _NOBODY
        words = document.texts(fields["groups"], self.report, f"groups of {where}") if "groups" in fields else None
        groups = [number for word in words or () if (number := self._number(word, "group")) is not None]
        return Caller(_NOBODY if uid is None else uid, groups[0] if groups else _NOBODY, frozenset(groups))

    def _number(self, node: Node, sort: str) -> int | None:
        word = document.text(node, self.report, f"a {sort} of a caller")
        if word is None:
            return None
        names, known = self.declared.names(), self.declared.users if sort == "user" else self.declared.groups
        number = bounded_integer(word, 0, _HIGHEST_USER)
        if number is None and not word.isdecimal():
            number = (names.user if sort == "user" else names.group)(word)
        if number is None:
            near = document.suggestion(word, known) or f"declare it: names: {{{sort}s: {{{word}: 5001}}}}"
            self.report.error(node, f"there is no {sort} {quoted(word)}, on this host or under names", near)
            return None
        return number

    def _expect(self, node: Node | None, what: str) -> Expectation | None:
        if node is None:
            return None
        where = f"expect of {what}"
        if isinstance(node, Scalar):
            self.report.error(node, f"{where} must be a mapping, and is {quoted(node.text)}", _EXPECTED)
            return None
        fields = document.mapping(node, self.report, where, _EXPECT, ("decision", "code"))
        if fields is None:
            return None
        verdict = self._chosen(fields, "decision", {"decision": where}, tuple(Verdict))
        code, would = self._code(fields.get("code")), self._code(fields.get("would"))
        if verdict is None or code is None:
            return None
        if (code in ALLOWING) != (verdict == Verdict.ALLOW):
            wrong = f"{where} contradicts itself: {code} is no {verdict}"
            codes = sorted(code for code in Code if (code in ALLOWING) == (verdict == Verdict.ALLOW))
            self.report.error(fields["code"], wrong, f"codes of {verdict}: {', '.join(codes)}")
        policy = self.material.policy
        return Expectation(
            mark=node.mark,
            verdict=Verdict(verdict),
            code=code,
            rule=self._rule(fields.get("rule"), where),
            missing=self._names(fields, "missing", where),
            stages=self._names(fields, "stages", where, {stage for rule in policy.rules for stage in rule.chain}),
            signers=self._names(fields, "signers", where, policy.signers, policy.holders),
            would=would,
            message=self._said(fields, "message", where),
            exception=self._said(fields, "exception", where),
        )

    def _said(self, fields: Mapping[str, Node], key: str, where: str) -> str | None:
        return document.text(fields[key], self.report, f"{key} in {where}") if key in fields else None

    def _code(self, node: Node | None) -> Code | None:
        word = None if node is None else document.text(node, self.report, "a code")
        if node is None or word is None:
            return None
        if word not in tuple(Code):
            self.report.unknown(node, "code", word, tuple(Code))
            return None
        return Code(word)

    def _rule(self, node: Node | None, where: str) -> str | None:
        name = None if node is None else document.text(node, self.report, f"rule in {where}")
        known = frozenset(rule.name for rule in self.material.policy.rules)
        if node is not None and name is not None and name not in known:
            self.report.unknown(node, "rule", name, known)
        return name

    def _names(
        self,
        fields: Mapping[str, Node],
        key: str,
        where: str,
        known: Collection[str] | None = None,
        also: Collection[str] = (),
    ) -> tuple[str, ...] | None:
        """Take a list of names: any, or those that are `known`, and `also` others that are not suggested."""
        if key not in fields:
            return None
        found = document.texts(fields[key], self.report, f"{key} in {where}", may_be_empty=True)
        names = None if found is None else tuple(entry.text for entry in found)
        if known is not None:
            for name in names or ():
                if name not in known and name not in also:
                    self.report.unknown(fields[key], key.removesuffix("s"), name, known)
        return names


_TIMES = "2026-11-23, or 2026-11-23T12:00:00Z"
_EXPECTED = "write {decision: deny, code: requirements-not-met}"
