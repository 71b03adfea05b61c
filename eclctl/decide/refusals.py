"""Denies that no policy words: no rule, too little assurance, and what is certain before an image is read."""

from __future__ import annotations

from collections.abc import Sequence

from eclctl.decide.place import Place
from eclctl.files.canonical_name import NoName
from eclctl.model import Code, Outcome
from eclctl.policy.language import Rule
from eclctl.policy.outcome import denied
from eclctl.terms import Finding, Kind


def before_reading(rules: Sequence[Rule | None], place: Place) -> Outcome | None:
    """Return the deny that is certain before the file is read, so that reading it is of no use."""
    matching = [rule for rule in rules if rule is not None]
    if not matching:
        return no_rule(place)
    if all(place.assurance.rank < rule.assurance.rank for rule in matching):
        return too_low(matching[0], place)
    return None


def refused(finding: Finding) -> Outcome:
    """Return the deny for an error, with its code where that is one of a decision."""
    return denied(Code(finding.code) if finding.code in _CODES else Code.INTERNAL_ERROR, finding.message)


def no_rule(place: Place, kind: Kind | None = None) -> Outcome:
    """Return the deny for an image that no rule matches; `kind` as far as it is known."""
    if place.unnamed is not None:
        return _NO_RULE_FOR_NAMELESS[place.unnamed]
    return NO_RULE if kind is None else _NO_RULE_FOR_KIND.get(kind, NO_RULE)


_NO_RULE_FOR_KIND = {
    kind: denied(
        Code.NO_RULE,
        f"this is no SIF image but of kind {kind}, and no rule matches that for this caller: "
        "a rule must name kinds other than sif and oci-sif",
    )
    for kind in (Kind.SANDBOX, Kind.SQUASHFS, Kind.EXT3, Kind.OTHER)
}
_CODES = frozenset(Code)
NO_POLICY = denied(Code.NO_POLICY, "no policy is loaded, so nothing may run")
NOT_KNOWN = denied(Code.INTERNAL_ERROR, "nothing is known of the image")
NO_RULE = denied(Code.NO_RULE, "no rule matches this image and caller, and nothing else is accepted")
_NO_RULE_FOR_NAMELESS = {
    why: denied(Code.NO_RULE, f"{why.value}, so no rule for paths applies, and no other matches") for why in NoName
}
_NOT_SHOWN = "others than the trusted owners can change it or a directory above it; `eclctl explain` as root names it"


def too_low(rule: Rule, place: Place) -> Outcome:
    """Return the deny for an image whose assurance level is below what its rule wants, with the reason."""
    weak = place.weak
    why = weak.text if weak is not None and weak.shown else _NOT_SHOWN
    reason = (
        f"rule {rule.name} wants assurance {rule.assurance.value}, and this file has {place.assurance.value}: {why}"
    )
    return denied(Code.ASSURANCE_TOO_LOW, reason, rule)
