"""What a rule asks for: the items of its `require` and the stages of its `chain`, typed and resolved.

A stage is a requirement with a name. It is written in the chain itself, `scan: {any_of: [scanner]}`, or only named
there. Items of `require` that ask for the purpose of that name are part of it either way, so that none is ever lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eclctl.config import document
from eclctl.config.document import MapNode, Node, Report
from eclctl.dataclass import dataclass, replace
from eclctl.policy.declare import PURPOSE_SHAPE, Declarations, place, signer_names
from eclctl.policy.holders import Holders
from eclctl.policy.language import ANYONE, HOLDS, Match, Requirement, Scope
from eclctl.terms import Kind, is_purpose
from eclctl.text import counted, quoted

ASKS = ("any_of", "all_of", "approvals")
REQUIREMENT_KEYS = (*ASKS, "objects", "purpose")
APPROVALS_KEYS = ("count", "of")
SCOPE_KEYS = ("groups", "ids", "holds")
HIGHEST_COUNT = 1000
HIGHEST_GROUP = 0x0FFFFFFF  # a SIF group number is what the group mask 0xf0000000 leaves
HIGHEST_ID = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a requirement asks of signatures, whichever signer made them.

    what: the rule, as messages name it.
    scope: the part of the image, None for all of it.
    purpose: what signatures must be for, None for approvals without bounds.
    cosign_excluded_because: why no cosign signature can count, None when one could.
    """

    what: str
    scope: Scope | None
    purpose: str | None
    cosign_excluded_because: str | None

    @property
    def text(self) -> str:
        """The end of the sentence that says what is needed."""
        part = "" if self.scope is None else scope_text(self.scope)
        return part + (f" with the purpose {self.purpose}" if self.purpose is not None else "")

    @property
    def why_purpose_cannot_match(self) -> tuple[str, str]:
        """Why signatures of these signers cannot be for the purpose, and what to write."""
        if self.purpose is None:
            return "what they sign with is bound to purposes, and none is asked for", "add purpose: to the requirement"
        hint = f"write purpose: {self.purpose} in the signer's entry, or ask for signers with PGP or cosign keys"
        return f"nothing that they sign with can be for the purpose {self.purpose}", hint


@dataclass(frozen=True, slots=True)
class RequirementReader:
    """Reads requirements against what all files declare."""

    declared: Declarations
    report: Report
    holders: Holders

    def requirements(
        self, fields: Mapping[str, Node], match: Match, what: str
    ) -> tuple[tuple[Requirement, ...], tuple[str, ...]]:
        """Return what the rule `what` asks for, and the names of its stages.

        Items outside of stages come first, in their order, then the stages in that of the chain.
        """
        found = document.items(fields["require"], self.report, f"require of {what}") if "require" in fields else None
        needs = [need for item in found or () if (need := self._requirement(item, match, what)) is not None]
        if "chain" not in fields:
            return tuple(needs), ()
        stages = self._stages(fields["chain"], needs, match, what)
        loose = [need for need in needs if need.purpose is None or need.purpose not in stages]
        return (*loose, *(need for stage in stages.values() for need in stage)), tuple(stages)

    def _stages(
        self, node: Node, needs: Sequence[Requirement], match: Match, what: str
    ) -> dict[str, list[Requirement]]:
        """Return the requirements of each stage of a chain, by name, in order; `needs` are the items of `require`."""
        stages: dict[str, list[Requirement]] = {}
        for entry in document.items(node, self.report, f"chain of {what}") or ():
            named, written = entry, None
            if isinstance(entry, MapNode):
                pairs = document.pairs(entry, self.report, f"a stage of {what}") or ()
                if len(pairs) != 1:
                    message = f"a stage of {what} is a name and what it asks for"
                    self.report.error(entry, message, "write - scan: {any_of: [scanner]}")
                    continue
                named = pairs[0][0]
                written = self._requirement(pairs[0][1], match, what)
            stage = self._stage_name(named, stages, what)
            if stage is None or (isinstance(entry, MapNode) and written is None):
                continue
            mine = [] if written is None else [written]
            mine += [need for need in needs if need.purpose == stage]
            if not mine:
                message = f"the stage {quoted(stage)} of {what} asks for nothing"
                hint = f"write - {stage}: {{any_of: [...]}}, or give an item of require purpose: {stage}"
                self.report.error(entry, message, hint)
            stages[stage] = [replace(need, stage=stage) for need in mine]
        for need in needs:
            if need.purpose is not None and need.purpose not in stages:
                message = f"{what} asks for the purpose {quoted(need.purpose)}, which is no stage of its chain"
                self.report.error(node, message, f"add {need.purpose} to the chain")
        return stages

    def _stage_name(self, node: Node, stages: Mapping[str, object], what: str) -> str | None:
        stage = self.purpose(node, f"a stage of {what}")
        if stage is not None and stage in stages:
            self.report.error(node, f"the stage {quoted(stage)} is twice in the chain of {what}")
            return None
        return stage

    def purpose(self, node: Node, what: str) -> str | None:
        """Take the name of a purpose; None when it was reported."""
        word = document.text(node, self.report, what)
        if word is not None and not is_purpose(word):
            self.report.error(node, f"{what} is {quoted(word)}, which is no purpose", PURPOSE_SHAPE)
            return None
        return word

    def _requirement(self, node: Node, match: Match, what: str) -> Requirement | None:
        fields = document.mapping(node, self.report, f"a requirement of {what}", REQUIREMENT_KEYS)
        if fields is None:
            return None
        asks = [key for key in ASKS if key in fields]
        if len(asks) != 1:
            message = f"a requirement of {what} needs exactly one of {', '.join(ASKS)}, and has {len(asks)}"
            self.report.error(node, message, "write one list item for each")
            return None
        scope = self._scope(fields["objects"], what) if "objects" in fields else None
        purpose = self.purpose(fields["purpose"], f"purpose in {what}") if "purpose" in fields else None
        ask = _Ask(what, scope, purpose, why_cosign_cannot_count(scope, match))
        if asks[0] == "approvals":
            return self._approvals(fields["approvals"], ask)
        entries = document.texts(fields[asks[0]], self.report, f"{asks[0]} of {what}")
        people = signer_names(entries, self.declared, self.report, asked=True)
        if not people:
            return None
        count = 1 if asks[0] == "any_of" else len(people)
        self._check_people(node, people, count, ask)
        text = _listed(asks[0], people) + ask.text
        return Requirement(people, count, text, place(node), scope=scope, purpose=purpose)

    def _check_people(self, node: Node, people: tuple[str, ...], count: int, ask: _Ask) -> None:
        """Report a requirement that its signers can never meet, and warn of those who never count for it."""
        if not self.holders.all_have_keys(people):
            return
        requirement, native = f"a requirement of {ask.what}", ask.cosign_excluded_because is not None
        if self.holders.most(people) < count:
            self.report.error(node, f"{requirement} can never be met: some of these signers have the same key")
        elif self.holders.most(people, native=native) < count:
            message = f"{requirement} can never be met: {ask.cosign_excluded_because}"
            self.report.error(node, message, "ask for signers with other keys")
        elif self.holders.most_for(people, ask.purpose, native=native) < count:
            why, hint = ask.why_purpose_cannot_match
            self.report.error(node, f"{requirement} can never be met: {why}", hint)
        else:
            self._warn_of_idle(node, people, ask, requirement)

    def _warn_of_idle(self, node: Node, people: tuple[str, ...], ask: _Ask, requirement: str) -> None:
        cosign = [name for name in people if ask.cosign_excluded_because and name not in self.holders.native]
        able = self.holders.able(ask.purpose, native=ask.cosign_excluded_because is not None)
        other = [name for name in people if name not in able and name not in cosign]
        for names, why in ((cosign, ask.cosign_excluded_because), (other, ask.why_purpose_cannot_match[0])):
            if names:
                self.report.warning(node, f"in {requirement}, {', '.join(map(quoted, names))} never counts: {why}")

    def _approvals(self, node: Node, ask: _Ask) -> Requirement | None:
        where = f"approvals of {ask.what}"
        fields = document.mapping(node, self.report, where, APPROVALS_KEYS, APPROVALS_KEYS) or {}
        if "count" not in fields or "of" not in fields:
            return None
        count = document.integer(fields["count"], self.report, f"count in {where}", 1, HIGHEST_COUNT)
        role = document.text(fields["of"], self.report, f"of in {where}")
        if role is None or count is None:
            return None
        if role in self.declared.signers and role not in self.declared.roles:
            message = f"{quoted(role)} is a signer, and a role is needed here"
            self.report.error(fields["of"], message, f"write any_of: [{role}]")
            return None
        if role != ANYONE and role not in self.declared.roles:
            self.report.unknown(fields["of"], "role", role, (*self.declared.roles, ANYONE))
            return None
        people = self.declared.roles.get(role, ())
        self._check_count(fields["count"], role, count, ask)
        text = f"{counted(count, 'approval')} from {role}{ask.text}"
        return Requirement(people, count, text, place(node), role == ANYONE, ask.scope, ask.purpose, role=role)

    def _check_count(self, node: Node, role: str, count: int, ask: _Ask) -> None:
        """Report a count that the people of a role can never reach."""
        people, native = self.declared.roles.get(role, ()), ask.cosign_excluded_because is not None
        if role == ANYONE:
            have, reachable = self.holders.most_of_ring(), None
        else:
            have = self.holders.most_for(people, ask.purpose, native=native)
            reachable = self.holders.most(people, native=native)
        if have >= count or not self.holders.all_have_keys(people):
            return
        because = ""
        if reachable is not None and have < reachable:
            because = f" that can count here: {ask.why_purpose_cannot_match[0]}"
        elif reachable is not None and reachable < self.holders.most(people):
            because = f" that can count here: {ask.cosign_excluded_because}"
        needed = f"{count} needed, and {quoted(role)} has {have} with a key of their own"
        self.report.error(node, f"approvals of {ask.what} can never be met: {needed}{because}")

    def _scope(self, node: Node, what: str) -> Scope | None:
        where = f"objects of {what}"
        fields = document.mapping(node, self.report, where, SCOPE_KEYS)
        if fields is None:
            return None
        if not fields or {"groups", "ids"} <= fields.keys():
            self.report.error(node, f"{where} needs either groups or ids, or only holds")
            return None
        groups = self._part_numbers(fields.get("groups"), f"groups in {where}", HIGHEST_GROUP)
        ids = self._part_numbers(fields.get("ids"), f"ids in {where}", HIGHEST_ID)
        words = document.texts(fields["holds"], self.report, f"holds in {where}") if "holds" in fields else None
        holds = frozenset(word.text for word in words or ())
        for word in words or ():
            if word.text not in HOLDS:
                self.report.unknown(word, "word in holds", word.text, HOLDS)
        if "holds" not in fields:
            kind = "group" if groups else "object"
            message = (
                f"{what} trusts a bare {kind} number, which no signature covers: a writer of the file can change it"
            )
            self.report.warning(node, message, "say what it must hold: holds: [overlay]")
        return Scope(groups, ids, holds)

    def _part_numbers(self, node: Node | None, what: str, highest: int) -> frozenset[int]:
        words = document.texts(node, self.report, what) if node is not None else None
        numbers = [document.integer(word, self.report, f"an entry of {what}", 1, highest) for word in words or ()]
        return frozenset(number for number in numbers if number is not None)


def scope_text(scope: Scope) -> str:
    """Return the part of an image in words, with a leading space: " for group 2 holding overlay"."""
    holding = f" holding {', '.join(sorted(scope.holds))}" if scope.holds else ""
    if scope.groups:
        return f" for group{'s' if len(scope.groups) > 1 else ''} {', '.join(map(str, sorted(scope.groups)))}{holding}"
    if scope.ids:
        return f" for object{'s' if len(scope.ids) > 1 else ''} {', '.join(map(str, sorted(scope.ids)))}{holding}"
    return f" for every group{holding}"


def why_cosign_cannot_count(scope: Scope | None, match: Match) -> str | None:
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
