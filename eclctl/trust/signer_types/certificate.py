"""X.509 certificates that a policy lists, with the roots that they must lead to.

`trust.x509` is not imported here: a command that only meets other keys does not load it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from eclctl.terms import Finding, SignatureFormat, SignerKind
from eclctl.trust.revocation import Link, StatusSource, first_not_good, known_in_words
from eclctl.trust.signer_types.base import UNTRUSTED, Description, Lifetime, Signed, SignerType, Store

if TYPE_CHECKING:
    from eclctl.signature.keys import PublicKey
    from eclctl.trust.x509 import Credential

_MOMENT = timedelta(seconds=1)  # certificates are valid up to and including their last second


class X509Certificate(SignerType):
    """A certificate with its chain. Its name is `x509:<hex>` (`trust.x509.Credential.id`)."""

    kind = SignerKind.CERTIFICATE
    prefix = "x509:"
    words = "certificate"
    adjective = "certificate"
    noun = "certificate"
    format = SignatureFormat.DSSE
    digest_word = "credentials"
    revocable = True
    expires_with = "it or one above it"
    renewal = "renew it, and list the new one as well"

    def verification_key(self, listed: Credential) -> PublicKey:
        """Return the key that the certificate is for."""
        return listed.key

    def goes_by(self, listed: Credential, digest: str) -> bool:
        """Return whether a digest is the certificate's own, or that of its key."""
        return digest in {listed.fingerprint, listed.key.id}

    def judge(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Finding | None:
        """Return why a certificate does not count at `now` (aware, UTC), or None when it does.

        It counts when a path leads to one of its roots and, if it asks for that, when every certificate of the path but
        the root is known to be good. What is not known is not good.
        """
        credential = self._credential(store, claim.signer.id)
        if credential is None:
            return UNTRUSTED
        found = credential.path_links(now)
        if isinstance(found, Finding):
            return found
        return first_not_good(found, statuses, now) if credential.ocsp else None

    def turning_points(self, store: Store, claim: Signed, now: datetime, statuses: StatusSource) -> Iterable[float]:
        """Return when the path may change, and until when what is known of it may be relied on."""
        credential = self._credential(store, claim.signer.id)
        if credential is None:
            return ()
        known = [statuses.known(link, now) for link in links_needed(credential, now)]
        return [*credential.turning_points, *(each.until.timestamp() for each in known if each is not None)]

    def must_be_good(self, store: Store, name: str, now: datetime) -> tuple[Link, ...]:
        """Return every certificate of the path but the root, where the policy asks for that."""
        credential = self._credential(store, name)
        return () if credential is None else links_needed(credential, now)

    def status_is_asked(self, store: Store, name: str) -> bool:
        """Return whether the policy asks for the status of the certificate."""
        credential = self._credential(store, name)
        return credential is not None and credential.ocsp

    def useless(self, store: Store, name: str, now: datetime) -> Finding | None:
        """Return why no path leads from the certificate to a root now."""
        found = self.listed(store)[name].path(now)
        return found if isinstance(found, Finding) else None

    def ends(self, store: Store, name: str, now: datetime) -> datetime | None:
        """Return when no path leads from the certificate to a root any more."""
        credential: Credential = self.listed(store)[name]
        times = (datetime.fromtimestamp(time, UTC) for time in credential.turning_points if time > now.timestamp())
        return next((time for time in times if isinstance(credential.path(time + _MOMENT), Finding)), None)

    def signing_key(self, store: Store, name: str, created: datetime | None, now: datetime) -> str:
        """Return the name of the key itself."""
        credential = self._credential(store, name)
        return name if credential is None else credential.key.id

    def describe(self, store: Store, name: str, key: str, statuses: StatusSource, now: datetime) -> Description:
        """Return the certificate by its own fingerprint, or its key where it is not listed any more."""
        credential = self._credential(store, name)
        if credential is None:
            return Description(key, name)
        return Description(
            credential.fingerprint,
            name,
            credential.name,
            certificate_lifetime(credential, now),
            subject=credential.name,
            source=credential.source,
            revocation=revocation_of(credential, statuses, now),
        )

    def title(self, store: Store, name: str) -> str:
        """Return the certificate's subject."""
        credential = self._credential(store, name)
        return "" if credential is None else credential.name

    def identity(self, store: Store, name: str) -> str:
        """Return the certificate's own fingerprint."""
        credential = self._credential(store, name)
        return name if credential is None else credential.fingerprint

    def _credential(self, store: Store, name: str) -> Credential | None:
        return self.listed(store).get(name)


def links_needed(credential: Credential, now: datetime) -> tuple[Link, ...]:
    """Return all that must be known to be good of a certificate, once it leads to a trusted root."""
    found = credential.path_links(now) if credential.ocsp else ()
    return () if isinstance(found, Finding) else found


def certificate_lifetime(credential: Credential, now: datetime) -> Lifetime:
    """Return when a certificate counts: as long as all of the path that leads to a root now, else as long as itself."""
    found = credential.path(now)
    if isinstance(found, Finding):
        return Lifetime(credential.leaf.not_valid_before_utc, credential.leaf.not_valid_after_utc, found)
    begins = max(each.not_valid_before_utc for each in found)
    return Lifetime(begins, min(each.not_valid_after_utc for each in found))


def revocation_of(credential: Credential, statuses: StatusSource, now: datetime) -> str:
    """Return what is known of a certificate and those above it, when all of them must be known to be good; else ""."""
    return known_in_words([statuses.known(link, now) for link in links_needed(credential, now)])
