"""Keys of signers that do not count, or will soon count no more."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from eclctl.config.document import Report
from eclctl.model import Finding
from eclctl.policy.declare import Declarations
from eclctl.policy.language import X509, Policy
from eclctl.signature import openpgp
from eclctl.text import counted, quoted
from eclctl.trust.x509 import Credential, path, turning_points

__all__ = ["SOON", "review_keys", "who_counts"]

_MOMENT = timedelta(seconds=1)  # certificates are valid up to and including their last second
SOON = timedelta(days=30)
"""How long before the end of a key its signer is warned of."""


def review_keys(policy: Policy, declared: Declarations, report: Report, ring: openpgp.Keyring, now: datetime) -> None:
    """Warn of every key that does not count at `now`, and of those that end within `SOON`.

    The loader has warned of X.509 certificates that do not count.
    """
    credentials = {credential.id: credential for credential in policy.credentials}
    for key, person, entry in declared.key_places:
        of = f"of {quoted(person)}"
        if key.startswith(X509):
            ends = _path_ends(credentials[key], now)
            this = f"the certificate {quoted(entry.text)} {of}"
            why, hint = "it or one above it", "renew it, and list the new one as well"
        else:
            useless = _useless(ring, key, now)
            if useless is not None:
                hint = "get its certificate with what renews it, or list the key that replaces it"
                report.warning(entry, f"no signature by {key} {of} counts now: {useless.message}", hint)
            ends = None if useless is not None else _key_ends(ring, key, now)
            this = f"{key} {of}"
            why, hint = "the key", "have it prolonged, and put the new certificate into the keyring"
        if ends is not None and ends <= now + SOON:
            days = math.ceil((ends - now) / timedelta(days=1))
            left = f"{ends:%Y-%m-%d} ({counted(days, 'day')})"
            report.warning(entry, f"signatures by {this} count until {left}: then {why} expires", hint)


def who_counts(policy: Policy, ring: openpgp.Keyring, now: datetime) -> frozenset[str]:
    """Return the signers with a key that could count at `now`. PEM and cosign keys do as long as they are listed."""
    credentials = {credential.id: credential for credential in policy.credentials}

    def counts(key: str) -> bool:
        if key.startswith(X509):
            return not isinstance(path(credentials[key], now), Finding)
        return _useless(ring, key, now) is None

    return frozenset(name for name, signer in policy.signers.items() if any(map(counts, signer.keys)))


def _useless(ring: openpgp.Keyring, fingerprint: str, now: datetime) -> Finding | None:
    """Return why none of a certificate's keys could sign now, or None when one could, or it is no certificate."""
    certificate = ring.get(fingerprint)
    if certificate is None:
        return None
    findings = [openpgp.judge(fingerprint, key.fingerprint, now, None, ring, now) for key in certificate.keys]
    return None if None in findings else next(iter(findings), None)


def _key_ends(ring: openpgp.Keyring, fingerprint: str, now: datetime) -> datetime | None:
    """Return the first time at which a key of a certificate that could sign now does no more, None for never."""
    certificate = ring.get(fingerprint)
    ends = [] if certificate is None else list(_ends(ring, certificate, now))
    return datetime.fromtimestamp(min(ends), UTC) if ends else None


def _ends(ring: openpgp.Keyring, certificate: openpgp.Certificate, now: datetime) -> Iterator[float]:
    for key in certificate.keys:
        name = certificate.fingerprint, key.fingerprint
        if openpgp.judge(*name, now, None, ring, now) is None:
            yield from (time for time in openpgp.turning_points(*name, now, None, ring) if time > now.timestamp())


def _path_ends(credential: Credential, now: datetime) -> datetime | None:
    """Return when no path leads from a certificate to a root any more; None when none does now."""
    if isinstance(path(credential, now), Finding):
        return None
    times = (datetime.fromtimestamp(time, UTC) for time in turning_points(credential) if time > now.timestamp())
    return next((time for time in times if isinstance(path(credential, time + _MOMENT), Finding)), None)
