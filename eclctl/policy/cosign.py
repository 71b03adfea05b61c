"""Whether a cosign signature is one that a signer's entry asks for: its annotations and its repository.

One key may be listed for two signers with different annotations, so this is asked for each person, and not for the
key. What a signature says of itself was signed with the key, but the holder of the key chose the words: they reach
messages quoted.
"""

from __future__ import annotations

from eclctl.model import Claim
from eclctl.policy.globs import matches_repository
from eclctl.policy.language import Policy, Signer
from eclctl.terms import SignatureFormat
from eclctl.text import quoted

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
    lacking = signer.annotations - claim.annotations
    if lacking:
        return _annotation(*min(lacking), claim)
    pattern = signer.repository
    if pattern is None or matches_repository(pattern, claim.repository):
        return None
    named = f"the repository {quoted(claim.repository)}" if claim.repository else "no repository"
    return f"it names {named}, and {quoted(pattern.pattern)} is asked for"


def _annotation(key: str, value: str, claim: Claim) -> str:
    has = dict(claim.annotations).get(key)
    if has is None:
        return f"it lacks the annotation {quoted(f'{key}={value}')}"
    return f"its annotation {quoted(key)} is {quoted(has)}, and {quoted(value)} is asked for"
