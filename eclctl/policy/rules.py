"""The rules of a policy file, typed and resolved."""

from __future__ import annotations

import re
from dataclasses import dataclass

from eclctl.model import Assurance, Kind, Verdict
from eclctl.policy import document
from eclctl.policy.declare import Declarations, LoadEnvironment, name_of, place, signer_names
from eclctl.policy.document import Node, Report, Scalar, quoted
from eclctl.policy.globs import Glob, compile_glob, objection
from eclctl.policy.holders import Holders
from eclctl.policy.language import ANYONE, HOLDS, SIGNED_KINDS, Match, Requirement, Rule, Scope
from eclctl.policy.matching import match

_RULE = (
    "name",
    "match",
    "require",
    "decision",
    "distinct",
    "forbid",
    "unknown_signatures",
    "legacy_signatures",
    "assurance",
    "mode",
    "message",
)
_LATER = ("max_signature_age", "exceptions")
_ONLY_WITH_REQUIRE = ("distinct", "legacy_signatures", "mode")
_ASKS = ("any_of", "all_of", "approvals")
_HIGHEST_GROUP = 0x0FFFFFFF  # a SIF group number is what the group mask 0xf0000000 leaves
_HIGHEST_ID = 0x7FFFFFFF
_HIGHEST_USER = 0xFFFFFFFE  # uid_t and gid_t; the next one stands for "none"
_NUMBER = re.compile(r"[0-9]{1,10}")
_HIGHEST_COUNT = 1000
_LONGEST_MESSAGE = 1000
_LATER_TIERS = ("verity", "leased")


@dataclass(slots=True)
class RuleReader:
    """Reads rules against what all files declare."""

    environment: LoadEnvironment
    declared: Declarations
    report: Report
    holders: Holders

    def rules(self) -> tuple[Rule, ...]:
        """Return all rules in order; those with errors may be left out or incomplete, and are reported."""
        found: list[Rule] = []
        names: dict[str, str] = {}
        for node in self.declared.rules:
            rule = self._rule(node, len(found))
            if rule is None:
                continue
            if rule.name in names:
                first = names[rule.name]
                self.report.error(node, f"rule {quoted(rule.name)} is declared twice (first at {first})")
            names.setdefault(rule.name, rule.where)
            found.append(rule)
        return tuple(found)

    def _rule(self, node: Node, order: int) -> Rule | None:
        fields = document.mapping(node, self.report, "a rule", (*_RULE, *_LATER), ("name",))
        if fields is None:
            return None
        name = (name_of(fields["name"], self.report, "rule") if "name" in fields else None) or f"#{order + 1}"
        what = f"rule {quoted(name)}"
        self._refuse_later(fields, what)
        match = self._match(fields["match"], what) if "match" in fields else Match()
        self._require_or_decide(node, fields, match, what)
        forbidden = self._forbidden(fields["forbid"], what) if "forbid" in fields else ()
        rule = Rule(
            name=name,
            where=place(node),
            order=order,
            match=match,
            require=self._requirements(fields["require"], match, what) if "require" in fields else (),
            decision=self._decision(fields.get("decision"), what),
            distinct=self._flag(fields.get("distinct"), f"distinct of {what}"),
            forbidden=forbidden,
            forbidden_keys=self.holders.keys_of(forbidden),
            deny_unknown=self._chose(fields, "unknown_signatures", what, ("ignore", "deny")) == "deny",
            accept_legacy=self._chose(fields, "legacy_signatures", what, ("ignore", "accept")) == "accept",
            assurance=self._assurance(fields.get("assurance"), what),
            permissive=self._chose(fields, "mode", what, ("enforce", "permissive")) == "permissive",
            message=self._message(fields.get("message"), what),
        )
        self._check_distinct(node, rule, what)
        return rule

    def _check_distinct(self, node: Node, rule: Rule, what: str) -> None:
        """Report a rule whose requirements need more different people than they name."""
        people = [tuple(self.holders.ring) if need.anyone else need.people for need in rule.require]
        slots = [names for names, need in zip(people, rule.require, strict=True) for _ in range(need.count)]
        if rule.distinct and None in match(slots):
            self.report.error(node, f"{what} can never be met: it is distinct and needs {len(slots)} different people")

    def _refuse_later(self, fields: dict[str, Node], what: str) -> None:
        for key in _LATER:
            if key in fields:
                message = f"{key} in {what} is not known to this version of eclctl"
                self.report.error(fields[key], message, "remove it: it would not be enforced")

    def _require_or_decide(self, node: Node, fields: dict[str, Node], match: Match, what: str) -> None:
        if ("require" in fields) == ("decision" in fields):
            which = "has both require and decision" if "require" in fields else "has neither require nor decision"
            self.report.error(node, f"{what} {which}", "a rule has one of them")
        for key in ("require", "forbid", "unknown_signatures"):
            unsigned = sorted(match.kinds - SIGNED_KINDS)
            if key in fields and unsigned:
                message = f"{what} matches {', '.join(unsigned)}, which carry no signatures, and has {key}"
                self.report.error(fields[key], message, "make another rule with a decision for these kinds")
        for key in _ONLY_WITH_REQUIRE:
            if key in fields and "decision" in fields:
                self.report.warning(fields[key], f"{key} does nothing in {what}, which has a decision")

    def _match(self, node: Node, what: str) -> Match:
        fields = document.mapping(node, self.report, f"match of {what}", ("paths", "kinds", "users", "groups")) or {}
        listed = {key: document.texts(value, self.report, f"{key} of {what}") or () for key, value in fields.items()}
        kinds = frozenset(kind for word in listed.get("kinds", ()) if (kind := self._kind(word)) is not None)
        return Match(
            paths=self._globs(listed["paths"]) if "paths" in listed else None,
            kinds=kinds if "kinds" in listed else SIGNED_KINDS,
            users=self._numbers(listed["users"], "user") if "users" in listed else None,
            groups=self._numbers(listed["groups"], "group") if "groups" in listed else None,
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

    def _requirements(self, node: Node, match: Match, what: str) -> tuple[Requirement, ...]:
        found = document.items(node, self.report, f"require of {what}") or ()
        return tuple(need for item in found if (need := self._requirement(item, match, what)) is not None)

    def _requirement(self, node: Node, match: Match, what: str) -> Requirement | None:
        fields = document.mapping(node, self.report, f"a requirement of {what}", (*_ASKS, "objects"))
        if fields is None:
            return None
        asks = [key for key in _ASKS if key in fields]
        if len(asks) != 1:
            message = f"a requirement of {what} needs exactly one of {', '.join(_ASKS)}, and has {len(asks)}"
            self.report.error(node, message, "write one list item for each")
            return None
        scope = self._scope(fields["objects"], what) if "objects" in fields else None
        part = "" if scope is None else scope_text(scope)
        deaf = _deaf_to_cosign(scope, match)
        if asks[0] == "approvals":
            return self._approvals(fields["approvals"], what, scope, part, deaf)
        entries = document.texts(fields[asks[0]], self.report, f"{asks[0]} of {what}")
        people = signer_names(entries, self.declared, self.report)
        if not people:
            return None
        count = 1 if asks[0] == "any_of" else len(people)
        self._check_people(node, people, count, deaf, what)
        return Requirement(people, count, _listed(asks[0], people) + part, place(node), scope=scope)

    def _check_people(self, node: Node, people: tuple[str, ...], count: int, deaf: str | None, what: str) -> None:
        """Report a requirement that its signers can never meet, and warn of those who never count for it."""
        if not self.holders.all_have_keys(people):
            return
        requirement = f"a requirement of {what}"
        only_cosign = [quoted(name) for name in people if deaf and self.holders.only_cosign(name)]
        if self.holders.most(people) < count:
            self.report.error(node, f"{requirement} can never be met: some of these signers have the same key")
        elif self.holders.most(people, native=deaf is not None) < count:
            self.report.error(node, f"{requirement} can never be met: {deaf}", "ask for signers with other keys")
        elif only_cosign:
            message = f"in {requirement}, {', '.join(only_cosign)} never counts: {deaf}"
            self.report.warning(node, message)

    def _approvals(self, node: Node, what: str, scope: Scope | None, part: str, deaf: str | None) -> Requirement | None:
        where = f"approvals of {what}"
        fields = document.mapping(node, self.report, where, ("count", "of"), ("count", "of")) or {}
        if "count" not in fields or "of" not in fields:
            return None
        count = document.integer(fields["count"], self.report, f"count in {where}", 1, _HIGHEST_COUNT)
        role = document.text(fields["of"], self.report, f"of in {where}")
        if role is None or count is None:
            return None
        if role != ANYONE and role not in self.declared.roles:
            self._unknown_role(fields["of"], role)
            return None
        people = self.declared.roles.get(role, ())
        have = self.holders.most_of_ring() if role == ANYONE else self.holders.most(people, native=deaf is not None)
        if have < count and self.holders.all_have_keys(people):
            message = f"{where} can never be met: {count} needed, and {quoted(role)} has {have} with a key of their own"
            because = f" that can count here: {deaf}" if have < self.holders.most(people) else ""
            self.report.error(fields["count"], message + because)
        text = f"{count} approval{'s' if count > 1 else ''} from {role}{part}"
        return Requirement(people, count, text, place(node), anyone=role == ANYONE, scope=scope)

    def _unknown_role(self, node: Node, role: str) -> None:
        if role in self.declared.signers:
            self.report.error(node, f"{quoted(role)} is a signer, and a role is needed here", f"write any_of: [{role}]")
        else:
            self.report.unknown(node, "role", role, (*self.declared.roles, ANYONE))

    def _scope(self, node: Node, what: str) -> Scope | None:
        where = f"objects of {what}"
        fields = document.mapping(node, self.report, where, ("groups", "ids", "holds"))
        if fields is None:
            return None
        if not fields or {"groups", "ids"} <= fields.keys():
            self.report.error(node, f"{where} needs either groups or ids, or only holds")
            return None
        groups = self._part_numbers(fields.get("groups"), f"groups in {where}", _HIGHEST_GROUP)
        ids = self._part_numbers(fields.get("ids"), f"ids in {where}", _HIGHEST_ID)
        words = document.texts(fields["holds"], self.report, f"holds in {where}") if "holds" in fields else None
        holds = frozenset(word.text for word in words or ())
        for word in words or ():
            if word.text not in HOLDS:
                self.report.unknown(word, "word in holds", word.text, HOLDS)
        if "holds" not in fields:
            kind = "group" if groups else "object"
            message = (
                f"{what} trusts a bare {kind} number, which no signature covers: whoever can write the file renumbers"
            )
            self.report.warning(node, message, "say what it must hold: holds: [overlay]")
        return Scope(groups, ids, holds)

    def _part_numbers(self, node: Node | None, what: str, highest: int) -> frozenset[int]:
        words = document.texts(node, self.report, what) if node is not None else None
        numbers = [document.integer(word, self.report, f"an entry of {what}", 1, highest) for word in words or ()]
        return frozenset(number for number in numbers if number is not None)

    def _decision(self, node: Node | None, what: str) -> Verdict | None:
        chosen = None if node is None else document.choice(node, self.report, f"decision of {what}", tuple(Verdict))
        return None if chosen is None else Verdict(chosen)

    def _flag(self, node: Node | None, what: str) -> bool:
        return node is not None and document.boolean(node, self.report, what) is True

    def _forbidden(self, node: Node, what: str) -> tuple[str, ...]:
        fields = document.mapping(node, self.report, f"forbid of {what}", ("signed_by",), ("signed_by",)) or {}
        if "signed_by" not in fields:
            return ()
        entries = document.texts(fields["signed_by"], self.report, f"signed_by of {what}")
        return signer_names(entries, self.declared, self.report)

    def _chose(self, fields: dict[str, Node], key: str, what: str, options: tuple[str, ...]) -> str | None:
        return document.choice(fields[key], self.report, f"{key} of {what}", options) if key in fields else None

    def _assurance(self, node: Node | None, what: str) -> Assurance:
        if node is None:
            return Assurance.TRUSTED_PATH
        if isinstance(node, Scalar) and node.text in _LATER_TIERS:
            message = f"assurance {quoted(node.text)} is not supported by this version of eclctl"
            self.report.error(node, message, f"use {Assurance.TRUSTED_PATH} or {Assurance.NONE}")
            return Assurance.TRUSTED_PATH
        chosen = document.choice(node, self.report, f"assurance of {what}", tuple(Assurance))
        return Assurance.TRUSTED_PATH if chosen is None else Assurance(chosen)

    def _message(self, node: Node | None, what: str) -> str | None:
        if node is None:
            return None
        message = document.text(node, self.report, f"message of {what}", longest=_LONGEST_MESSAGE)
        if message is not None and not message.strip().isprintable():
            self.report.error(node, f"message of {what} has control characters or several lines", "write one line")
        return None if message is None else message.strip()


def scope_text(scope: Scope) -> str:
    """Return the part of an image in words, with a leading space: " for group 2 holding overlay"."""
    holding = f" holding {', '.join(sorted(scope.holds))}" if scope.holds else ""
    if scope.groups:
        return f" for group{'s' if len(scope.groups) > 1 else ''} {', '.join(map(str, sorted(scope.groups)))}{holding}"
    if scope.ids:
        return f" for object{'s' if len(scope.ids) > 1 else ''} {', '.join(map(str, sorted(scope.ids)))}{holding}"
    return f" for every group{holding}"


def _deaf_to_cosign(scope: Scope | None, match: Match) -> str | None:
    """Return why no cosign signature can meet a requirement, or None when one could."""
    if scope is not None:
        return "a cosign signature approves an image, and never a part of one"
    return None if Kind.OCI_SIF in match.kinds else "only images of the kind oci-sif carry cosign signatures"


def _listed(ask: str, people: tuple[str, ...]) -> str:
    if len(people) == 1:
        return f"1 approval from {people[0]}"
    if ask == "any_of":
        return f"1 approval from any of {', '.join(people)}"
    return f"approvals from each of {', '.join(people)}"
