"""The rules of a policy file, typed and resolved."""

from __future__ import annotations

from collections.abc import Mapping

from eclctl.config import document
from eclctl.config.document import Node, Report, Scalar, WrongTextError
from eclctl.dataclass import dataclass
from eclctl.policy.conditions import MatchReader
from eclctl.policy.declare import Declarations, LoadEnvironment, name_of, place, signer_names
from eclctl.policy.holders import Holders
from eclctl.policy.language import SIGNED_KINDS, Match, Rule
from eclctl.policy.matching import match
from eclctl.policy.messages import Message, parse_message
from eclctl.policy.requirements import RequirementReader
from eclctl.terms import Assurance, Finding, Verdict
from eclctl.text import quoted
from eclctl.trust.signer_types import signer_type

RULE_KEYS = (
    "name",
    "match",
    "require",
    "chain",
    "decision",
    "distinct",
    "forbid",
    "max_signature_age",
    "unknown_signatures",
    "discounted_signatures",
    "legacy_signatures",
    "assurance",
    "mode",
    "message",
)
FORBID_KEYS = ("signed_by",)
IGNORE_OR_DENY = ("ignore", "deny")
LEGACY_SIGNATURES = ("ignore", "accept")
MODES = ("enforce", "permissive")
LONGEST_MESSAGE = 1000
_ONLY_WITH_REQUIRE = ("distinct", "legacy_signatures", "max_signature_age", "mode")
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
                message = f"rule {quoted(rule.name)} is declared twice (first at {names[rule.name]})"
                self.report.error(node, message)
            names.setdefault(rule.name, rule.where)
            found.append(rule)
        return tuple(found)

    def _rule(self, node: Node, order: int) -> Rule | None:
        fields = document.mapping(node, self.report, "a rule", RULE_KEYS, ("name",))
        if fields is None:
            return None
        name = (name_of(fields["name"], self.report, "rule") if "name" in fields else None) or f"#{order + 1}"
        what = f"rule {quoted(name)}"
        reader = MatchReader(self.environment, self.report)
        match = reader.match(fields["match"], what) if "match" in fields else Match()
        self._require_or_decide(node, fields, match, what)
        forbidden = self._forbidden(fields["forbid"], what) if "forbid" in fields else ()
        asked = RequirementReader(self.declared, self.report, self.holders)
        require, chain = asked.requirements(fields, match, what)
        message, template = self._message(fields.get("message"), what)
        decision = self._chose(fields, "decision", what, tuple(Verdict))
        age, distinct = fields.get("max_signature_age"), fields.get("distinct")
        written = age.text if isinstance(age, Scalar) else "age"
        max_age = None if age is None else document.duration(age, self.report, f"max_signature_age of {what}", low=1.0)
        rule = Rule(
            name=name,
            where=place(node),
            order=order,
            match=match,
            require=require,
            decision=None if decision is None else Verdict(decision),
            distinct=distinct is not None and document.boolean(distinct, self.report, f"distinct of {what}") is True,
            forbidden=forbidden,
            forbidden_keys=self.holders.keys_of(forbidden),
            deny_unknown=self._chose(fields, "unknown_signatures", what, IGNORE_OR_DENY) == "deny",
            deny_discounted=self._chose(fields, "discounted_signatures", what, IGNORE_OR_DENY) == "deny",
            accept_legacy=self._chose(fields, "legacy_signatures", what, LEGACY_SIGNATURES) == "accept",
            assurance=self._assurance(fields.get("assurance"), what),
            permissive=self._chose(fields, "mode", what, MODES) == "permissive",
            message=message,
            max_age=max_age,
            too_old=Finding("too-old", f"it is older than the {written} that rule {name} accepts"),
            template=template,
            chain=chain,
        )
        self._check_distinct(node, rule, what)
        self._check_ages(fields, rule, what)
        return rule

    def _check_distinct(self, node: Node, rule: Rule, what: str) -> None:
        """Report a rule whose requirements need more different people than they name."""
        people = [tuple(self.holders.ring) if need.anyone else need.people for need in rule.require]
        slots = [names for names, need in zip(people, rule.require, strict=True) for _ in range(need.count)]
        if rule.distinct and None in match(slots):
            self.report.error(node, f"{what} can never be met: it is distinct and needs {len(slots)} different people")

    def _check_ages(self, fields: Mapping[str, Node], rule: Rule, what: str) -> None:
        """Report signers whose signatures can never be known to be young enough, and warn of what of them is not."""
        node = fields.get("max_signature_age")
        if node is None or rule.max_age is None:
            return
        for name in dict.fromkeys(name for need in rule.require for name in need.people):
            signer = self.declared.signers[name]
            if not signer.keys:
                continue  # an error that has been reported
            where = f"of {quoted(name)} (declared at {signer.where})"
            timed = [signer_type(key).carries_time for key in signer.keys]
            if not any(timed):
                message = f"max_signature_age of {what}: the signatures {where} carry no time"
                self.report.error(node, message, "only PGP signatures do: list a PGP key, or ask in another rule")
            elif not all(timed):
                message = f"max_signature_age of {what}: of the signatures {where}, only those by PGP keys carry a time"
                self.report.warning(node, message, "the others never count here")

    def _require_or_decide(self, node: Node, fields: dict[str, Node], match: Match, what: str) -> None:
        asks = next((key for key in ("require", "chain") if key in fields), None)
        if (asks is not None) == ("decision" in fields):
            which = f"has both {asks} and decision" if asks else "has neither require nor decision"
            self.report.error(node, f"{what} {which}", "a rule has one of them")
        for key in ("require", "chain", "forbid", "unknown_signatures", "discounted_signatures"):
            unsigned = sorted(match.kinds - SIGNED_KINDS)
            if key in fields and unsigned:
                message = f"{what} matches {', '.join(unsigned)}, which carry no signatures, and has {key}"
                self.report.error(fields[key], message, "make another rule with a decision for these kinds")
        for key in _ONLY_WITH_REQUIRE:
            if key in fields and "decision" in fields:
                self.report.warning(fields[key], f"{key} does nothing in {what}, which has a decision")

    def _forbidden(self, node: Node, what: str) -> tuple[str, ...]:
        fields = document.mapping(node, self.report, f"forbid of {what}", FORBID_KEYS, FORBID_KEYS) or {}
        entries = None
        if "signed_by" in fields:
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

    def _message(self, node: Node | None, what: str) -> tuple[str | None, Message | None]:
        """Return a message, and what is to be filled in when it has placeholders."""
        if node is None:
            return None, None
        text = document.text(node, self.report, f"message of {what}", longest=LONGEST_MESSAGE)
        if text is None:
            return None, None
        if not text.strip().isprintable():
            self.report.error(node, f"message of {what} has control characters or several lines", "write one line")
        try:
            message = parse_message(text.strip())
        except WrongTextError as error:
            self.report.error(node, f"message of {what} {error}", error.hint)
            return None, None
        return (text.strip(), message) if message.names else (message.texts[0], None)
