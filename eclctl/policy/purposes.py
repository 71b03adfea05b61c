"""What a signature approves: everything, or only what it says that it is for.

An OpenPGP signature says so in a hashed notation and a cosign signature in an annotation (`Claim.purposes`). A DSSE
signature says nothing: what it is for is written in its signer's entry. A scan signature is not a run approval: a claim
with purposes counts only where one of them is required, and a claim without only where none is required.
"""

from __future__ import annotations

from collections.abc import Iterable

from eclctl.model import Claim
from eclctl.policy.language import Policy
from eclctl.trust.signer_types import SIGNER_TYPES

_EVERYTHING: frozenset[str] = frozenset()


def purposes(policy: Policy, claim: Claim, person: str) -> frozenset[str]:
    """Return what a claim is for when it counts for `person`; nothing is an approval without bounds."""
    if SIGNER_TYPES[claim.signer.kind].states_purpose:
        return claim.purposes
    signer = policy.signers.get(person)
    return _EVERYTHING if signer is None else signer.purposes


def signers_for_purpose(policy: Policy, claim: Claim, people: Iterable[str], purpose: str | None) -> tuple[str, ...]:
    """Return those of `people` that a claim of this purpose counts for, or, for None, an approval without bounds."""
    return tuple(person for person in people if _fits(purposes(policy, claim, person), purpose))


def purpose_mismatch(policy: Policy, claim: Claim, person: str, purpose: str | None) -> str | None:
    """Return why a claim is not for what a requirement asks, as "it is for …"; None when it is."""
    stated = purposes(policy, claim, person)
    if _fits(stated, purpose):
        return None
    is_for = f"it is for {_listed(stated)}" if stated else "it states no purpose"
    return (
        f"{is_for}, and {f'the purpose {purpose} is asked for' if purpose else 'an approval without bounds is needed'}"
    )


def stated(claim: Claim) -> str:
    """Return what a claim says that it is for, with a leading comma, or nothing."""
    return f", for the purpose {_listed(claim.purposes)}" if claim.purposes else ""


def _fits(stated: frozenset[str], purpose: str | None) -> bool:
    return not stated if purpose is None else purpose in stated


def _listed(words: Iterable[str]) -> str:
    return ", ".join(word or "one that cannot be read" for word in sorted(words))
