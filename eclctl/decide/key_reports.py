"""Which key made each signature of an image, and how long that key is good for: what `explain` shows below a signer.

These are descriptions for people. Nothing here takes part in a decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from eclctl.decide.snapshot import Snapshot
from eclctl.model import Claim, Finding, SignerKind, Verification
from eclctl.trust.keyring import KeyStore
from eclctl.trust.revocation import Known, StatusSource, links
from eclctl.trust.x509 import Credential, path

__all__ = ["KeyReport", "Lifetime", "certificate_lifetime", "key_lifetime", "keys_behind", "short_name"]

_SHORT = (
    16  # hex digits; of an OpenPGP fingerprint of 20 bytes, the last so many are its key ID (RFC 9580 section 5.5.4)
)
_VERSION_4 = 40  # hex digits of a fingerprint
_NOT_ASKED = "its responder was not asked yet"


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


@dataclass(frozen=True, slots=True)
class Lifetime:
    """From when until when a key can make signatures count; None is for ever. `fault` is why it never does."""

    begins: datetime | None = None
    ends: datetime | None = None
    fault: Finding | None = None


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


def key_lifetime(store: KeyStore, certificate: str, key: str) -> Lifetime:
    """Return when a key of an OpenPGP certificate counts. Both are fingerprints in upper-case hex."""
    status = store.pgp.status(certificate, key)
    if status is None:
        return Lifetime(fault=Finding("unknown-key", "the key is in no keyring"))
    ends = [time for time in (status.valid_until, status.vouched_until) if time is not None]
    begins = max(status.valid_from, status.vouched_from, status.created)
    return Lifetime(_time(begins), _time(min(ends)) if ends else None, status.fault)


def certificate_lifetime(credential: Credential, now: datetime) -> Lifetime:
    """Return when a certificate counts: as long as all of the path that leads to a root now, else as long as itself."""
    found = path(credential, now)
    if isinstance(found, Finding):
        return Lifetime(credential.leaf.not_valid_before_utc, credential.leaf.not_valid_after_utc, found)
    begins = max(each.not_valid_before_utc for each in found)
    return Lifetime(begins, min(each.not_valid_after_utc for each in found))


def _made_by(snapshot: Snapshot, claim: Claim, statuses: StatusSource, now: datetime) -> KeyReport:
    store, name = snapshot.store, claim.signer.id
    identity, primary, subject, user_id, source, revocation = claim.key, "", "", "", "", ""
    life = Lifetime()
    if claim.signer.kind is SignerKind.PGP:
        certificate = store.pgp.get(name)
        primary, user_id = name, "" if certificate is None else certificate.name
        life = key_lifetime(store, name, claim.key)
    elif claim.signer.kind is SignerKind.CERTIFICATE:
        credential = store.credential(name)
        if credential is not None:
            identity, subject, source = credential.fingerprint, credential.name, credential.source
            life = certificate_lifetime(credential, now)
            revocation = revocation_of(credential, statuses, now)
    else:
        key = next((each for each in (*store.keys, *store.cosign) if name.endswith(each.id)), None)
        identity, source = name.removeprefix("cosign:"), "" if key is None else key.source
    return KeyReport(
        kind=claim.signer.kind,
        id=identity,
        short=short_name(identity),
        primary=primary,
        subject=subject,
        signed=claim.created,
        signature_expires=claim.expires,
        begins=life.begins,
        ends=life.ends,
        revocation=revocation,
        user_id=user_id,
        source=source,
        declared=_declared(snapshot, name),
    )


def revocation_of(credential: Credential, statuses: StatusSource, now: datetime) -> str:
    """Return what is known of a certificate and those above it, when all of them must be known to be good; else ""."""
    found = path(credential, now) if credential.ocsp else ()
    if isinstance(found, Finding):
        return ""
    return _worst([statuses.known(link, now) for link in links(found)])


def _worst(known: Sequence[Known | None]) -> str:
    """Return the first that is not good, else until when all of them are."""
    for each in known:
        if each is None:
            return _NOT_ASKED
        if each.status.value != "good":
            return f"{each.status.value}: {each.reason}"
    untils = [each.until for each in known if each is not None]
    return f"good until {min(untils).strftime('%Y-%m-%d %H:%MZ')}" if untils else ""


def _declared(snapshot: Snapshot, name: str) -> tuple[str, ...]:
    policy = snapshot.policy
    holder = None if policy is None else policy.holders.get(name)
    if policy is None or holder is None:
        return ()
    return tuple(policy.signers[person].where for person in holder.people if person in policy.signers)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
