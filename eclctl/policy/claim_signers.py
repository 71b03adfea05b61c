"""For which signers a claim counts, and what it approves: everything, or only what it says that it is for.

A cosign signature counts for a signer whose entry it is as asked for: its annotations and its repository. One key may
be listed for two signers with different annotations, so this is asked for each person, and not for the key. What a
signature says of itself was signed with the key, but the holder of the key chose the words: they reach messages quoted.

An OpenPGP signature says what it is for in a hashed notation and a cosign signature in an annotation
(`Claim.purposes`). A DSSE signature says nothing: what it is for is written in its signer's entry. A scan signature is
not a run approval: a claim with purposes counts only where one of them is required, and a claim without only where none
is required.
"""

from __future__ import annotations

from collections.abc import Iterable

from eclctl.model import Claim
from eclctl.policy.globs import matches_repository
from eclctl.policy.language import Policy, Signer
from eclctl.terms import SignatureFormat
from eclctl.text import quoted
from eclctl.trust.signer_types import SIGNER_TYPES

_COSIGN = SignatureFormat.COSIGN


def signers_of(policy: Policy, claim: Claim) -> tuple[str, ...]:
    """Return the people that a claim counts for: those who list its key, and whose entry it is as asked for."""
    holder = policy.holders.get(claim.signer.id)
    if holder is None:
        return ()
    if claim.format is not _COSIGN:
        return holder.people
    signers = policy.signers
    return tuple(name for name in holder.people if name in signers and cosign_mismatch(signers[name], claim) is None)


def cosign_mismatch(signer: Signer, claim: Claim) -> str | None:
    """Return what a cosign claim lacks of what a signer's entry asks for, as "it lacks …"; None when it lacks nothing.

    Every annotation must be there, with its value, among the texts of the payload's `optional`. A signature that names
    no repository, as SingularityCE makes them, matches no pattern. Claims of other formats lack nothing.
    """
    if claim.format is not _COSIGN:
        return None
    if lacking := signer.annotations - claim.annotations:
        key, value = min(lacking)
        has = dict(claim.annotations).get(key)
        if has is None:
            return f"it lacks the annotation {quoted(f'{key}={value}')}"
        return f"its annotation {quoted(key)} is {quoted(has)}, and {quoted(value)} is asked for"
    pattern = signer.repository
    if pattern is None or matches_repository(pattern, claim.repository):
        return None
    named = f"the repository {quoted(claim.repository)}" if claim.repository else "no repository"
    return f"it names {named}, and {quoted(pattern.pattern)} is asked for"


def purposes(policy: Policy, claim: Claim, person: str) -> frozenset[str]:
    """Return what a claim is for when it counts for `person`; nothing is an approval without bounds."""
    if SIGNER_TYPES[claim.signer.kind].states_purpose:
        return claim.purposes
    signer = policy.signers.get(person)
    return frozenset() if signer is None else signer.purposes


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
