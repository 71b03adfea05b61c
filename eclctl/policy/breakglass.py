"""Exceptions: files that let named images run for a while though a rule's requirements are not met.

The policy says what is possible at all (`exceptions: {directory, approvals, longest}`). Each exception is a file of its
own in that directory, read as strictly as a policy, and it says nothing until enough people of the role have signed its
exact bytes. Rules:

1. An exception names images: files by size and SHA-256 of all their bytes, or paths. It names users or groups. It has a
   reason, a start and an end.
2. It ends at most `longest` after its start, and at most `longest` after each approval that counts for it: approvals
   cannot be collected in advance.
3. A person approves once, however many keys they sign with, and a key speaks for one person.
4. Only OpenPGP signatures approve: they alone say when they were made, which rule 2 needs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from eclctl.config import document
from eclctl.config.document import Node, Report, Scalar
from eclctl.dataclass import dataclass
from eclctl.policy.declare import Declarations, place
from eclctl.policy.globs import Glob, compile_glob, objection
from eclctl.policy.holders import Holders
from eclctl.policy.language import ANYONE, ExceptionTerms, Policy
from eclctl.policy.matching import match
from eclctl.text import duration_as_written, quoted

if TYPE_CHECKING:
    from eclctl.model import Caller

FILE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
"""What an exception may be called; its file has that name and ends in `.yaml`."""

TERMS_KEYS = ("directory", "approvals", "longest")
_KEYS = ("version", "exception", "reason", "images", "users", "groups", "starts", "ends")
_REQUIRED = ("version", "exception", "reason", "images", "starts", "ends")
_HOUR = 3600.0
_LONGEST = 31 * 24 * _HOUR
_LONGEST_REASON = 500
_HIGHEST_COUNT = 1000
_HIGHEST_SIZE = 2**63 - 1
_HIGHEST_ID = 2**32 - 2
_NUMBER = re.compile(r"[0-9]{1,10}")
_DIGEST = re.compile(r"sha256:[0-9A-Fa-f]{64}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?")
_HOW_TO_WRITE_TIME = "a day, a time and Z for UTC: 2026-11-22T03:00:00Z"


@dataclass(frozen=True, slots=True)
class FileName:
    """A file by its content: `sha256:<hex>` over all of its bytes, and how many there are."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class PolicyException:
    """What one exception says. `users` or `groups` is None, the other is not; both are numbers. Times are aware."""

    name: str
    reason: str
    files: frozenset[FileName]
    paths: tuple[Glob, ...]
    users: frozenset[int] | None
    groups: frozenset[int] | None
    starts: datetime
    ends: datetime
    where: str

    def is_for(self, caller: Caller) -> bool:
        """Tell whether it is for a caller; as for a rule that allows."""
        if self.users is not None:
            return caller.matches(self.users, None)
        return caller.matches(None, self.groups or frozenset())


class State(StrEnum):
    """How an exception stands. Only an `active` one allows anything; `removed` is said of one that is gone."""

    ACTIVE = "active"
    WAITING = "waiting"
    UNAPPROVED = "unapproved"
    ENDED = "ended"
    REFUSED = "refused"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Standing:
    """How an exception stands at some time.

    `approvers` are those who approve it now, `discounted` says of each other signature why it does not count, and
    `why` in one sentence how it stands.
    """

    state: State
    why: str
    approvers: tuple[str, ...] = ()
    discounted: tuple[str, ...] = ()


def approvers(policy: Policy, terms: ExceptionTerms, keys: Iterable[str]) -> tuple[str, ...]:
    """Return those of the role for which these keys speak, as many as there can be when no key speaks for two of them.

    Args:
        policy: the policy of the terms.
        terms: who may approve.
        keys: the `KeyRef.id` of each signature that counts. What a withdrawn signer signed approves nothing.
    """
    held: dict[str, set[int]] = {}
    for key in keys:
        holder = policy.holders.get(key)
        if holder is not None and holder.key not in policy.withdrawn.keys:
            for person in holder.people:
                held.setdefault(person, set()).add(holder.key)
    people = [person for person in terms.people if person in held]
    given = match([sorted(held[person]) for person in people])
    return tuple(person for person, key in zip(people, given, strict=True) if key is not None)


def read_terms(
    declared: Declarations, holders: Holders, withdrawn: frozenset[int], report: Report
) -> ExceptionTerms | None:
    """Take what the policy says about exceptions; None when it says nothing, or an error was reported.

    `withdrawn` has the numbers (`Holder.key`) of keys that are withdrawn.
    """
    if declared.exceptions is None:
        return None
    fields = document.mapping(declared.exceptions, report, "exceptions", TERMS_KEYS, TERMS_KEYS)
    if fields is None or set(fields) != set(TERMS_KEYS):
        return None
    directory = document.text(fields["directory"], report, "directory of exceptions")
    approvals = _Terms(declared, holders, withdrawn, report).approvals(fields["approvals"])
    longest = document.duration(fields["longest"], report, "longest of exceptions", low=60.0, high=_LONGEST)
    if directory is None or approvals is None or longest is None:
        return None
    role, count = approvals
    base = os.path.dirname(declared.exceptions.mark.file)
    folder = os.path.normpath(os.path.join(base, directory))
    return ExceptionTerms(folder, role, declared.roles[role], count, longest, place(declared.exceptions))


@dataclass(frozen=True, slots=True)
class _Terms:
    """Reads who approves exceptions, against the signers that there are."""

    declared: Declarations
    holders: Holders
    withdrawn: frozenset[int]
    report: Report

    def approvals(self, node: Node) -> tuple[str, int] | None:
        where = "approvals of exceptions"
        fields = document.mapping(node, self.report, where, ("count", "of"), ("count", "of")) or {}
        if "count" not in fields or "of" not in fields:
            return None
        count = document.integer(fields["count"], self.report, f"count in {where}", 1, _HIGHEST_COUNT)
        role = document.text(fields["of"], self.report, f"of in {where}")
        if count is None or role is None:
            return None
        if role == ANYONE:
            hint = "name a role of people that you trust with that"
            self.report.error(fields["of"], f"'{ANYONE}' cannot approve exceptions", hint)
            return None
        if role not in self.declared.roles:
            self.report.unknown(fields["of"], "role", role, self.declared.roles)
            return None
        self._check(fields["count"], role, count)
        return role, count

    def _check(self, node: Node, role: str, count: int) -> None:
        """Report a role that cannot approve an exception, and warn of those in it who cannot."""
        people = self.declared.roles[role]
        keys = {person: self._keys(person) for person in people}
        silent = [quoted(person) for person in people if person in self.holders.keys and not keys[person]]
        only_pgp = "an exception is approved with OpenPGP, whose signatures say when they were made"
        have, left = (_most(held - gone for held in keys.values()) for gone in (frozenset(), self.withdrawn))
        if have < count and self.holders.all_have_keys(people):
            there = f"{quoted(role)} has {have} with an OpenPGP key of their own"
            self.report.error(node, f"exceptions can never be approved: {count} needed, and {there}", only_pgp)
        elif silent:
            message = f"{', '.join(silent)} of {quoted(role)} cannot approve exceptions"
            self.report.warning(node, message, only_pgp)
        if left < count <= have:
            # No error: a stolen key must be withdrawn at once, even when a role lacks people then.
            message = (
                f"exceptions cannot be approved: {count} needed, and the keys of {left} of {quoted(role)} are left"
            )
            self.report.warning(node, message, "the others are withdrawn; put another person into the role")

    def _keys(self, person: str) -> frozenset[int]:
        """Return the OpenPGP keys of a person, by number."""
        signer = self.declared.signers.get(person)
        fingerprints = [name for name in (() if signer is None else signer.keys) if ":" not in name]
        return frozenset(self.holders.by_name[name].key for name in fingerprints if name in self.holders.by_name)


def _most(held: Iterable[frozenset[int]]) -> int:
    """Return how many people can approve at once, each with a key of their own."""
    return sum(key is not None for key in match([sorted(keys) for keys in held]))


@dataclass(frozen=True, slots=True)
class _Reader:
    terms: ExceptionTerms
    resolve_user: Callable[[str], int | None]
    resolve_group: Callable[[str], int | None]
    report: Report

    def read(self, root: Node, stem: str) -> PolicyException | None:
        fields = document.mapping(root, self.report, "the exception", _KEYS, _REQUIRED)
        if fields is None:
            return None
        self._check_version(fields.get("version"))
        self._check_scope(root, fields)
        name = self._name(fields.get("exception"), stem)
        reason = self._reason(fields.get("reason"))
        files, paths = self._images(fields.get("images"))
        starts, ends = self._time(fields.get("starts"), "starts"), self._time(fields.get("ends"), "ends")
        users = self._numbers(fields, "users", self.resolve_user)
        groups = self._numbers(fields, "groups", self.resolve_group)
        if starts is not None and ends is not None:
            self._check_span(fields["ends"], starts, ends)
        if name is None or reason is None or starts is None or ends is None:
            return None
        return PolicyException(name, reason, files, paths, users, groups, starts, ends, place(root))

    def _check_version(self, node: Node | None) -> None:
        if node is not None:
            document.integer(node, self.report, "version", 1, 1)

    def _check_scope(self, root: Node, fields: Mapping[str, Node]) -> None:
        if ("users" in fields) == ("groups" in fields):
            which = "has both users and groups" if "users" in fields else "has neither users nor groups"
            self.report.error(root, f"the exception {which}", "say who it is for with one of them")

    def _name(self, node: Node | None, stem: str) -> str | None:
        name = None if node is None else document.text(node, self.report, "exception")
        if node is None or name is None:
            return None
        if not FILE_NAME.fullmatch(name):
            hint = "1 to 64 of a-z, 0-9, dot, dash and underscore"
            self.report.error(node, f"the exception's name {quoted(name)} is no name", hint)
            return None
        if name != stem:
            message = f"the exception is called {quoted(name)} and its file {quoted(stem + '.yaml')}"
            self.report.error(node, message, "an exception has the name of its file, so that it cannot be copied")
        return name

    def _reason(self, node: Node | None) -> str | None:
        reason = None if node is None else document.text(node, self.report, "reason", longest=_LONGEST_REASON)
        if node is None or reason is None:
            return None
        if not reason.strip() or not reason.strip().isprintable():
            self.report.error(node, "reason is blank, or has control characters or several lines", "write one line")
        return reason.strip()

    def _images(self, node: Node | None) -> tuple[frozenset[FileName], tuple[Glob, ...]]:
        files: set[FileName] = set()
        paths: list[Glob] = []
        for item in () if node is None else document.items(node, self.report, "images") or ():
            fields = document.mapping(item, self.report, "an image", ("sha256", "size", "path"))
            if fields is None:
                continue
            if set(fields) == {"path"}:
                paths += self._path(fields["path"])
            elif set(fields) == {"sha256", "size"}:
                files |= self._file(fields)
            else:
                shape = "write {sha256: sha256:…, size: BYTES}, or {path: /srv/…}"
                self.report.error(item, "an image is named by sha256 and size, or by path", shape)
        return frozenset(files), tuple(paths)

    def _file(self, fields: Mapping[str, Node]) -> set[FileName]:
        digest = document.text(fields["sha256"], self.report, "sha256 of an image")
        size = document.integer(fields["size"], self.report, "size of an image", 1, _HIGHEST_SIZE)
        if digest is not None and not _DIGEST.fullmatch(digest):
            self.report.error(fields["sha256"], f"{quoted(digest)} is no digest", "sha256: and 64 hex digits")
            return set()
        return set() if digest is None or size is None else {FileName(digest.lower(), size)}

    def _path(self, node: Node) -> list[Glob]:
        pattern = document.text(node, self.report, "path of an image")
        if pattern is None:
            return []
        wrong = objection(pattern)
        if wrong is None:
            return [compile_glob(pattern)]
        self.report.error(node, f"the path {quoted(pattern)} {wrong[0]}", wrong[1])
        return []

    def _numbers(
        self, fields: Mapping[str, Node], key: str, resolve: Callable[[str], int | None]
    ) -> frozenset[int] | None:
        if key not in fields:
            return None
        numbers = [self._number(word, key, resolve) for word in document.texts(fields[key], self.report, key) or ()]
        return frozenset(number for number in numbers if number is not None)

    def _number(self, word: Scalar, key: str, resolve: Callable[[str], int | None]) -> int | None:
        number = int(word.text) if _NUMBER.fullmatch(word.text) else resolve(word.text)
        if number is None or number > _HIGHEST_ID:
            self.report.error(word, f"there is no {key[:-1]} {quoted(word.text)} on this host")
            return None
        return number

    def _time(self, node: Node | None, what: str) -> datetime | None:
        word = None if node is None else document.text(node, self.report, what)
        if node is None or word is None:
            return None
        found = _TIME.fullmatch(word)
        try:
            moment = datetime.fromisoformat(word) if found else None
            if moment is not None and found is not None and found[1] is not None:
                return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            moment = None
        wrong = "names no time zone" if moment is not None else "is no time"
        self.report.error(node, f"{what} {quoted(word)} {wrong}", _HOW_TO_WRITE_TIME)
        return None

    def _check_span(self, node: Node, starts: datetime, ends: datetime) -> None:
        seconds = (ends - starts).total_seconds()
        if seconds <= 0:
            self.report.error(node, "the exception ends before it starts")
        elif seconds > self.terms.longest:
            lasts, longest = duration_as_written(seconds), duration_as_written(self.terms.longest)
            message = f"the exception lasts {lasts}, and {longest} is the longest that there is"
            self.report.error(node, message, f"the policy says so at {self.terms.where}")


def read_exception(
    path: str,
    text: bytes,
    terms: ExceptionTerms,
    report: Report,
    *,
    resolve_user: Callable[[str], int | None],
    resolve_group: Callable[[str], int | None],
) -> PolicyException | None:
    """Read one exception.

    Args:
        path: its file, whose name is the exception's.
        text: all of it.
        terms: what the policy allows at all.
        report: takes everything that is wrong; with any error, the exception says nothing.
        resolve_user: the number of a user's name on this host, or None.
        resolve_group: likewise of a group's.
    """
    root = document.read_document(path, text, report)
    if root is None:
        return None
    stem = os.path.basename(path).removesuffix(".yaml")
    found = _Reader(terms, resolve_user, resolve_group, report).read(root, stem)
    return None if report.errors else found
