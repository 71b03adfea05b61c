"""Denies that no policy words: no rule, too little assurance, and what is certain before an image is read."""

from __future__ import annotations

from collections.abc import Sequence

from eclctl.files.canonical_name import NoName
from eclctl.files.locating import Located
from eclctl.model import Code, Kind, Outcome
from eclctl.policy.language import Rule


def before_reading(rules: Sequence[Rule | None], located: Located) -> Outcome | None:
    """Return the deny that is certain whatever the file holds: there is no reason to read it then."""
    matching = [rule for rule in rules if rule is not None]
    if not matching:
        return no_rule(located)
    if all(located.assurance.rank < rule.assurance.rank for rule in matching):
        return too_low(matching[0], located)
    return None


def no_rule(located: Located, kind: Kind | None = None) -> Outcome:
    """Return the deny for an image that no rule matches; `kind` as far as it is known."""
    if located.unnamed is not None:
        return _NO_RULE_FOR_NAMELESS[located.unnamed]
    return NO_RULE if kind is None else _NO_RULE_FOR_KIND.get(kind, NO_RULE)


_NO_RULE_FOR_KIND = {
    kind: Outcome(
        Code.NO_RULE,
        f"this is no SIF image but of kind {kind}, and no rule matches that for this caller: "
        "a rule must name kinds other than sif and oci-sif",
    )
    for kind in (Kind.SANDBOX, Kind.SQUASHFS, Kind.EXT3, Kind.OTHER)
}
NO_RULE = Outcome(Code.NO_RULE, "no rule matches this image and caller, and nothing else is accepted")
_NO_RULE_FOR_NAMELESS = {
    why: Outcome(Code.NO_RULE, f"{why.value}, so no rule for paths applies, and no other matches") for why in NoName
}
_NOT_SHOWN = "others than the trusted owners can change it or a directory above it; `eclctl explain` as root names it"


def too_low(rule: Rule, located: Located) -> Outcome:
    """Return the deny for an image whose assurance level is below what its rule wants, with the reason."""
    weak = located.weak
    why = weak.text if weak is not None and weak.shown else _NOT_SHOWN
    reason = (
        f"rule {rule.name} wants assurance {rule.assurance.value}, and this file has {located.assurance.value}: {why}"
    )
    return Outcome(Code.ASSURANCE_TOO_LOW, reason, rule.name, rule.where, rule.mode, message=rule.message)
