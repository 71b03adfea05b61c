"""What a policy says that its author may not mean: the warnings and notes of `policy check`.

Only policies that load are looked at. A warning is certain, and says what to do; each goes away when the policy says
what was meant. A note is about something that is said on purpose, and that a reader of the policy should know.
What the loader itself warns of is not repeated here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from eclctl.config.document import ListNode, MapNode, Node, Report, Scalar
from eclctl.dataclass import dataclass
from eclctl.policy.declare import Declarations, place
from eclctl.policy.globs import Glob, is_literal
from eclctl.policy.language import SIGNED_KINDS, Match, Policy, Requirement, Rule, Signer
from eclctl.policy.persons import Persons
from eclctl.policy.requirements import ASKS
from eclctl.policy.shadows import Shadow, find_shadows
from eclctl.signature import openpgp
from eclctl.terms import Assurance, Verdict
from eclctl.text import counted, quoted
from eclctl.trust.signer_types import SIGNER_TYPES, Listing, signer_type

_PROSE = frozenset({"name", "message", "match", "reason"})
"""Keys of a rule whose text names no signer and no role."""

_MOST_NAMED = 3
_SOON = timedelta(days=30)  # before the end of a key, its signer is warned of that


class LintRemark(NamedTuple):
    """What there is to say of one path of a rule: a warning, or a note."""

    message: str
    hint: str
    warns: bool


Remarks: TypeAlias = Callable[[Rule, Glob], Iterable[LintRemark]]


def no_remarks(_rule: Rule, _path: Glob) -> Iterable[LintRemark]:
    """Return nothing: for hosts whose mounts are not looked at."""
    return ()


class _Keys(NamedTuple):
    """What signer types read of a policy and a keyring."""

    pgp: openpgp.Keyring
    listed: Listing


@dataclass(frozen=True, slots=True)
class Linter:
    """Reviews policies.

    `ring` has the certificates of their signers. Keys are judged at `now` (aware, UTC). `resolve` returns a path
    without symbolic links, and `remarks` what there is to say of a rule's path, as this host has them mounted.
    """

    ring: openpgp.Keyring
    now: datetime
    resolve: Callable[[str], str]
    remarks: Remarks = no_remarks

    def review(self, policy: Policy, declared: Declarations, report: Report) -> None:
        """Add what is found to `report`."""
        _Review(policy, declared, report).rules()
        self._review_keys(policy, declared, report)
        self._warn_of_links(policy, declared, report)
        self._remark(policy, declared, report)

    def _review_keys(self, policy: Policy, declared: Declarations, report: Report) -> None:
        """Warn of keys that do not count now or end soon, and of requirements that too few people have a key for.

        The loader has warned of X.509 certificates that do not count. PEM and cosign keys count as long as they are
        listed.
        """
        keys, now = _Keys(self.ring, policy.listed), self.now
        for key, person, entry in declared.key_places:
            kind, of = signer_type(key), f"of {quoted(person)}"
            useless = kind.useless(keys, key, now)
            if useless is not None and kind.useless_hint:
                message = f"no signature by {key} {of} counts now: {useless.message}"
                report.warning(entry, message, kind.useless_hint)
            ends = None if useless is not None else kind.ends(keys, key, now)
            if ends is not None and ends <= now + _SOON:
                this = key if kind.in_keyrings else f"the {kind.noun} {quoted(entry.text)}"
                left = f"{ends:%Y-%m-%d} ({counted(math.ceil((ends - now) / timedelta(days=1)), 'day')})"
                message = f"signatures by {this} {of} count until {left}: then {kind.expires_with} expires"
                report.warning(entry, message, kind.renewal)
        counts = {
            name
            for name, signer in policy.signers.items()
            if any(signer_type(key).useless(keys, key, now) is None for key in signer.keys)
        }
        for rule in policy.rules:
            for need, node in _needs(declared, rule):
                able = [name for name in need.people if name in counts]
                if not need.anyone and len(able) < need.count:
                    have = f"only {_names(able)} has a key" if able else "none of them has a key"
                    message = f"nothing can meet rule {quoted(rule.name)} now: it needs {need.text}, and {have}"
                    report.warning(node, f"{message} that counts", "renew their keys, or ask for another signer")

    def _warn_of_links(self, policy: Policy, declared: Declarations, report: Report) -> None:
        """Paths are resolved before they are matched: below a symbolic link, there are none."""
        resolved: dict[str, str] = {}
        for rule in policy.rules:
            for path in rule.match.paths or ():
                for part in (path.prefix, path.pattern if is_literal(path) else ""):
                    real = resolved.setdefault(part, self.resolve(part) if part else "")
                    if real not in {part, "/"}:
                        message = f"on this host, {quoted(part)} is a symbolic link to {quoted(real)}, and paths are "
                        message += f"resolved before they are matched: {quoted(path.pattern)} matches nothing"
                        hint = f"write {real}{path.pattern.removeprefix(part)}"
                        report.warning(_path_node(declared, rule, path.pattern), message, hint)
                        break

    def _remark(self, policy: Policy, declared: Declarations, report: Report) -> None:
        """Say what this host's mounts mean for each path. Of one rule, the same is said once."""
        for rule in policy.rules:
            said: set[str] = set()
            for path in rule.match.paths or ():
                for remark in self.remarks(rule, path):
                    if remark.message in said:
                        continue
                    said.add(remark.message)
                    node = _path_node(declared, rule, path.pattern)
                    add = report.warning if remark.warns else report.note
                    add(node, remark.message, remark.hint)


@dataclass(frozen=True, slots=True)
class _Review:
    """Looks at what a policy says, without looking at any key."""

    policy: Policy
    declared: Declarations
    report: Report

    def rules(self) -> None:
        for shadow in find_shadows(self.policy.rules):
            self._shadow(shadow)
        if self.policy.rules:
            self._unused()
        persons = Persons(self.policy)
        for rule in self.policy.rules:
            self._people(rule, persons)
            self._notes(rule)
        for signer in self.policy.signers.values():
            self._unbound(signer)
        self._exceptions()
        self._silent()

    def _exceptions(self) -> None:
        """Warn when one person is enough to approve an exception, which takes OpenPGP keys."""
        terms, node = self.policy.exceptions, _child(self.declared.exceptions, "approvals")
        if terms is None or node is None:
            return
        need = Requirement(terms.people, terms.count, "", terms.where)
        persons = Persons(self.policy, lambda key: signer_type(key).in_keyrings)
        who = persons.alone(Rule("", terms.where, 0, Match(), (need,)))
        if terms.count == 1:
            message = f"one person alone can approve exceptions: any one of {quoted(terms.role)} is enough"
            self.report.warning(_child(node, "count") or node, message, "raise the count")
        elif who is not None:
            message = f"one person alone can approve exceptions: {quoted(who.name)} shares keys with {who.posing}"
            self.report.warning(node, message, "give each of them keys of their own")

    def _unbound(self, signer: Signer) -> None:
        """Note keys whose signatures an entry's purpose does not bind, as its reader may think."""
        types = {signer_type(key) for key in signer.keys}
        free = [entry.adjective for entry in SIGNER_TYPES.values() if entry in types and entry.states_purpose]
        if not signer.purposes or not free:
            return
        which = " and ".join(free)
        message = (
            f"purpose of {quoted(signer.name)} does not bind its {which} signatures: "
            "they say themselves what they are for, if anything"
        )
        at = self.declared.signer_places[signer.name]
        self.report.note(at, message, "sign with the purpose, or list these keys for no signer")

    def _at(self, rule: Rule) -> Node:
        return self.declared.rules[rule.order]

    def _field(self, rule: Rule, key: str) -> Node:
        return _child(self._at(rule), key) or self._at(rule)

    def _shadow(self, shadow: Shadow) -> None:
        name, first = quoted(shadow.rule.name), quoted(shadow.by[0].name)
        by = f"rule {first} at {shadow.by[0].where} takes"
        if len(shadow.by) > 1:
            by = f"rules {_first(shadow.by)} before it take"
        if shadow.path is None:
            hint = f"put it before {first}, or remove it"
            self.report.warning(self._at(shadow.rule), f"rule {name} can never match: {by} all of it", hint)
            return
        at = _path_node(self.declared, shadow.rule, shadow.path.pattern)
        message = f"rule {name} is never reached by {quoted(shadow.path.pattern)}: {by} all of it"
        self.report.warning(at, message, f"put the rule before {first}, or remove this path")

    def _unused(self) -> None:
        """Warn of roles that nothing asks for, and of signers that nothing names."""
        exceptions = self.declared.exceptions
        asking = [*self.declared.rules, *([] if exceptions is None else [exceptions])]
        said = {scalar.text for node in asking for scalar in _scalars(node)}
        said.update(self.policy.withdrawn.signers)
        for name, key in self.declared.role_places.items():
            if name not in said:
                self.report.warning(key, f"no rule asks for the role {quoted(name)}", "remove it, or ask for it")
        said.update(name for members in self.policy.roles.values() for name in members)
        if any(rule.asks_anyone for rule in self.policy.rules):
            said.update(
                signer.name
                for signer in self.policy.signers.values()
                if any(signer_type(key).in_keyrings for key in signer.keys)
            )
        for name, key in self.declared.signer_places.items():
            if name not in said:
                hint = "remove it, put it into a role, or ask for it in a rule"
                self.report.warning(key, f"no rule asks for the signer {quoted(name)}, alone or in a role", hint)

    def _people(self, rule: Rule, persons: Persons) -> None:
        """Warn of who never counts, and of who is enough."""
        for need, node in _needs(self.declared, rule):
            self._denied(rule, need, node)
        who = persons.alone(rule)
        if who is None:
            return
        name = quoted(rule.name)
        if who.posing:
            message = f"one person alone can meet rule {name}: {quoted(who.name)} shares keys with {who.posing}"
            self.report.warning(self._at(rule), message, "give each of them keys of their own")
        elif len(rule.require) > 1:
            enough = f"one person alone can meet rule {name}: {who.text} is enough for all of its requirements"
            self.report.warning(self._at(rule), enough, "write distinct: true, so that no one serves two of them")
        elif not who.anyone and (approvals := _child(_needs(self.declared, rule)[0][1], "approvals")) is not None:
            message = f"one person alone can meet rule {name}: any one of {who.text} is enough"
            hint = "raise the count; or, when one is what you mean, list them under any_of"
            self.report.warning(_child(approvals, "count") or approvals, message, hint)

    def _denied(self, rule: Rule, need: Requirement, node: Node) -> None:
        """Warn of signers that are asked for, and whose every signature denies."""
        for word, denied in (("forbidden", rule.forbidden), ("withdrawn", self.policy.withdrawn.signers)):
            names = [name for name in need.people if name in denied]
            if not names:
                continue
            message = (
                f"in rule {quoted(rule.name)}, {_names(names)} never counts: {word}, so that their signatures deny"
            )
            if len(need.people) - len(names) < need.count:
                message = f"rule {quoted(rule.name)} can never be met: signatures by {_names(names)} deny ({word})"
            self.report.warning(node, message, "ask for another signer")

    def _notes(self, rule: Rule) -> None:
        name, note = quoted(rule.name), self.report.note
        allows_all = rule.decision is Verdict.ALLOW and rule.match == Match(kinds=rule.match.kinds)
        if allows_all:
            message = f"rule {name} allows every {', '.join(sorted(rule.match.kinds))}, from any place and any author"
            self.report.warning(self._field(rule, "decision"), message, "say where: match: {paths: [...]}")
        if rule.permissive and rule.decision is None:
            message = f"rule {name} is permissive: what lacks approvals runs"
            note(self._field(rule, "mode"), message, "once nothing that should run would be denied, remove mode")
        if rule.assurance is Assurance.NONE and rule.decision is not Verdict.DENY:
            message = f"rule {name} accepts files that their owners can change between the answer and the launch"
            note(self._field(rule, "assurance"), message, "leave assurance out where the images lie in trusted places")
        if rule.accept_legacy:
            message = f"rule {name} accepts legacy signatures, which cover neither header nor names"
            note(self._field(rule, "legacy_signatures"), message, "have the images signed again")
        if rule.decision is Verdict.ALLOW and not rule.match.kinds.isdisjoint(SIGNED_KINDS) and not allows_all:
            message = f"rule {name} allows unsigned images"
            note(self._field(rule, "decision"), message, "require approvals where the images are signed")
        if rule.asks_anyone:
            message = f"rule {name} counts every certificate in the keyrings: a person who adds one can approve"
            note(self._field(rule, "require"), message, "list the signers in a role of their own")

    def _silent(self) -> None:
        """Note, once, which rules deny without saying what to do."""
        silent = [rule for rule in self.policy.rules if rule.message is None and rule.decision is not Verdict.ALLOW]
        if silent:
            deny = f"rule {quoted(silent[0].name)} denies" if len(silent) == 1 else f"rules {_first(silent)} deny"
            message = f"{deny} without saying who to ask"
            self.report.note(self._at(silent[0]), message, 'add message: "Ask ..."')


def _needs(declared: Declarations, rule: Rule) -> list[tuple[Requirement, Node]]:
    """Return the requirements of a rule with where each is written: an item, a stage, or else the rule itself."""
    node = declared.rules[rule.order]
    written = [each for key in ("require", "chain") for each in _mappings(_child(node, key))]
    found: list[tuple[Requirement, Node]] = []
    for need in rule.require:
        here = next((each for each in written if place(each) == need.where), None)
        found.append((need, here or node))
        if here is not None:
            written.remove(here)
    return found


def _mappings(node: Node | None) -> Iterator[MapNode]:
    """Yield the requirements below `require` or `chain`."""
    if isinstance(node, ListNode):
        for item in node.items:
            yield from _mappings(item)
    elif isinstance(node, MapNode):
        if any(_child(node, key) is not None for key in ASKS):
            yield node
        else:
            for _, value in node.pairs:
                yield from _mappings(value)


def _path_node(declared: Declarations, rule: Rule, pattern: str) -> Node:
    node = declared.rules[rule.order]
    paths = _child(_child(node, "match"), "paths")
    listed = paths.items if isinstance(paths, ListNode) else ()
    return next((path for path in listed if isinstance(path, Scalar) and path.text == pattern), node)


def _child(node: Node | None, key: str) -> Node | None:
    pairs = node.pairs if isinstance(node, MapNode) else ()
    return next((value for name, value in pairs if isinstance(name, Scalar) and name.text == key), None)


def _scalars(node: Node) -> Iterator[Scalar]:
    """Yield every text in a node that may name a signer or a role."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Scalar):
            yield found
        elif isinstance(found, ListNode):
            waiting += found.items
        else:
            waiting += [value for key, value in found.pairs if not (isinstance(key, Scalar) and key.text in _PROSE)]


def _first(rules: Sequence[Rule]) -> str:
    """Return the names of rules, and of many the first and how many more there are."""
    if len(rules) <= _MOST_NAMED:
        return _names([rule.name for rule in rules])
    shown = ", ".join(quoted(rule.name) for rule in rules[:_MOST_NAMED])
    return f"{shown} and {len(rules) - _MOST_NAMED} more"


def _names(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(map(quoted, names[:-1])), quoted(names[-1])]))
