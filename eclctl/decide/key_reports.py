"""Which key made each signature of an image, and how long that key is good for: what `explain` shows below a signer.

These are descriptions for people. Nothing here takes part in a decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from eclctl.decide.snapshot import Snapshot
from eclctl.model import Claim, Verification
from eclctl.terms import SignerKind
from eclctl.trust.revocation import StatusSource
from eclctl.trust.signer_types import SIGNER_TYPES

__all__ = ["KeyReport", "keys_behind", "short_name"]

_SHORT = (
    16  # hex digits; of an OpenPGP fingerprint of 20 bytes, the last so many are its key ID (RFC 9580 section 5.5.4)
)
_VERSION_4 = 40  # hex digits of a fingerprint


@dataclass(frozen=True, slots=True)
class KeyReport:
    """The key that made one signature.

    `id` is what it goes by outside: the upper-case fingerprint of an OpenPGP key or subkey, `sha256:<hex>` of a PEM
    key, `sha256:<hex>` of a certificate's DER. `primary` is the fingerprint of the OpenPGP certificate, else "".
    `short` is a part of `id` that people compare. `subject` is a certificate's (RFC 4514), else "". `signed` and
    `signature_expires` are the signature's times, `begins` and `ends` the key's; None where there are none.
    `revocation` is what is known of the certificates that must be good, else "".

    For admins alone: `user_id` is of the OpenPGP certificate, `source` the file that a key was read from, and
    `declared` where the policy lists it for a signer (`file:line`).
    """

    kind: SignerKind
    id: str
    short: str
    primary: str
    subject: str
    signed: datetime | None
    signature_expires: datetime | None
    begins: datetime | None
    ends: datetime | None
    revocation: str
    user_id: str
    source: str
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
    key = SIGNER_TYPES[kind].describe(snapshot.store, name, claim.key, statuses, now)
    return KeyReport(
        kind=kind,
        id=key.id,
        short=short_name(key.id),
        primary=key.primary,
        subject=key.subject,
        signed=claim.created,
        signature_expires=claim.expires,
        begins=key.life.begins,
        ends=key.life.ends,
        revocation=key.revocation,
        user_id=key.user_id,
        source=key.source,
        declared=_declared(snapshot, name),
    )


def _declared(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    policy = snapshot.policy
    holder = None if policy is None else policy.holders.get(name)
    if policy is None or holder is None:
        return ()
    return tuple(policy.signers[person].where for person in holder.people if person in policy.signers)
