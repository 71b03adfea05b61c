"""Which key made each signature of an image, and how long that key is good for: what `explain` shows below a signer.

These are descriptions for people. Nothing here takes part in a decision.
"""

from __future__ import annotations

from datetime import datetime

from eclctl.dataclass import dataclass
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Claim, Verification
from eclctl.terms import SignerKind
from eclctl.trust.revocation import StatusSource
from eclctl.trust.signer_types import SIGNER_TYPES, Description

_SHORT = 16  # hex digits
_VERSION_4 = 40  # hex digits of a fingerprint


@dataclass(frozen=True, slots=True)
class KeyReport:
    """The key that made one signature.

    kind: the type of signer.
    about: what the key is. Its `user_id` and `source` are for admins alone.
    signed, signature_expires: times of the signature; None where it states none.
    declared: where the policy lists the key for a signer (`file:line`); for admins alone.
    """

    kind: SignerKind
    about: Description
    signed: datetime | None
    signature_expires: datetime | None
    declared: tuple[str, ...]


def keys_behind(
    snapshot: Snapshot, image: Verification, statuses: StatusSource, now: datetime
) -> tuple[KeyReport | None, ...]:
    """Return the key behind each signature, in the order of `policy.report.signatures`; None for one that failed."""
    found: list[tuple[int, KeyReport | None]] = [
        (claim.signature, _made_by(snapshot, claim, statuses, now)) for claim in image.claims
    ]
    found += [(failure.signature, None) for failure in image.failures]
    return tuple(report for _, report in sorted(found, key=lambda each: each[0]))


def short_name(identity: str) -> str:
    """Return the part of a fingerprint that people compare: an OpenPGP key ID, or the first digits of a digest."""
    name, colon, digest = identity.rpartition(":")
    if colon:
        return f"{name}:{digest[:_SHORT]}"
    # The key ID is the end of a version 4 fingerprint, and the beginning of a later one (RFC 9580 section 5.5.4).
    return identity[-_SHORT:] if len(identity) == _VERSION_4 else identity[:_SHORT]


def _made_by(snapshot: Snapshot, claim: Claim, statuses: StatusSource, now: datetime) -> KeyReport:
    kind, name = claim.signer.kind, claim.signer.id
    about = SIGNER_TYPES[kind].describe(snapshot.store, name, claim.key, statuses, now)
    return KeyReport(kind, about, claim.created, claim.expires, _declared(snapshot, name))


def _declared(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    policy = snapshot.policy
    holder = None if policy is None else policy.holders.get(name)
    if policy is None or holder is None:
        return ()
    return tuple(policy.signers[person].where for person in holder.people if person in policy.signers)
