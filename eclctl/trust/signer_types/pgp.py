"""OpenPGP certificates in the site's keyrings, named by their primary fingerprint."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from eclctl.signature import openpgp
from eclctl.terms import Finding, SignatureFormat, SignerKind
from eclctl.trust.revocation import StatusSource
from eclctl.trust.signer_types.base import Description, Lifetime, Signed, SignerType, Store


class Pgp(SignerType):
    """An OpenPGP certificate. Its name is its primary fingerprint, in upper-case hex."""

    kind = SignerKind.PGP
    prefix = ""
    words = "PGP key"
    adjective = "PGP"
    format = SignatureFormat.PGP
    in_keyrings = True
    states_purpose = True
    carries_time = True
    revocable = True
    renewal = "have it prolonged, and put the new certificate into the keyring"
    useless_hint = "get its certificate with what renews it, or list the key that replaces it"

    def withdrawal_name(self, store: Store, name: str) -> str:
        """Return the fingerprint."""
        return name

    def judge(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Finding | None:
        """Return what `openpgp.judge_signature` says of the key and of the signature's own times."""
        return openpgp.judge_signature(claim.signer.id, claim.key, claim.created, claim.expires, store.pgp, now)

    def turning_points(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Iterable[float]:
        """Return the times at which key or signature begin or end."""
        return openpgp.turning_points(claim.signer.id, claim.key, claim.created, claim.expires, store.pgp)

    def useless(self, store: Store, name: str, now: datetime) -> Finding | None:
        """Return why none of a certificate's keys could sign now; None when one could, or no keyring has it."""
        certificate = store.pgp.get(name)
        if certificate is None:
            return None
        findings = [
            openpgp.judge_signature(name, key.fingerprint, now, None, store.pgp, now) for key in certificate.keys
        ]
        return None if None in findings else next(iter(findings), None)

    def ends(self, store: Store, name: str, now: datetime) -> datetime | None:
        """Return the first time at which a key of a certificate that could sign now does no more."""
        certificate = store.pgp.get(name)
        statuses = [] if certificate is None else [certificate.status(key.fingerprint) for key in certificate.keys]
        able = [status for status in statuses if status is not None and status.judge(now, None, now) is None]
        ends = [time for status in able for time in status.turning_points(now, None) if time > now.timestamp()]
        return datetime.fromtimestamp(min(ends), UTC) if ends else None

    def signing_key(self, store: Store, name: str, created: datetime | None, now: datetime) -> str:
        """Return the first key of a certificate whose signatures count; its first key when none do."""
        certificate = store.pgp.get(name)
        keys = [each.fingerprint for each in certificate.keys] if certificate is not None else []
        good = (key for key in keys if openpgp.judge_signature(name, key, created, None, store.pgp, now) is None)
        return next(good, next(iter(keys), name))

    def descriptor_fingerprint(self, name: str) -> bytes:
        """Return the primary fingerprint: 20 or 32 bytes."""
        return bytes.fromhex(name)

    def describe(self, store: Store, name: str, key: str, statuses: StatusSource, now: datetime) -> Description:
        """Return a key or subkey of a certificate."""
        user_id = self.title(store, name)
        return Description(key, key, user_id, key_lifetime(store, name, key), primary=name, user_id=user_id)

    def descriptions(self, store: Store, name: str, statuses: StatusSource, now: datetime) -> Iterator[Description]:
        """Yield the keys of a certificate that may sign; when none may, its primary key with the reason."""
        certificate = store.pgp.get(name)
        if certificate is None:
            return
        able = [
            key for key in certificate.keys if (status := certificate.status(key.fingerprint)) and status.attributable
        ]
        for key in able or [certificate.primary]:
            yield self.describe(store, name, key.fingerprint, statuses, now)

    def title(self, store: Store, name: str) -> str:
        """Return the certificate's user ID."""
        certificate = store.pgp.get(name)
        return "" if certificate is None else certificate.name


def key_lifetime(store: Store, certificate: str, key: str) -> Lifetime:
    """Return when a key of an OpenPGP certificate counts. Both are fingerprints in upper-case hex."""
    status = store.pgp.status(certificate, key)
    if status is None:
        return Lifetime(fault=Finding("unknown-key", "the key is in no keyring"))
    ends = [time for time in (status.valid_until, status.vouched_until) if time is not None]
    begins = max(status.valid_from, status.vouched_from, status.created)
    ended = datetime.fromtimestamp(min(ends), UTC) if ends else None
    return Lifetime(datetime.fromtimestamp(begins, UTC), ended, status.fault)
