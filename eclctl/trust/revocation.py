"""What is known of whether credentials were revoked: the seam between judging and asking.

1. Judging never fetches. `remote` asks, keeps the answers as a `StatusSource`, and judging looks there.
2. A signer type says what must be known to be good (`SignerType.must_be_good`): a tuple of subjects, each of a class of
   its own. `Link` is the subject that OCSP responders are asked about. Another source brings another class.
3. A subject that no source knows is not good. So a key whose source is missing does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

from eclctl.terms import Finding

if TYPE_CHECKING:
    from cryptography import x509

_NOT_ASKED = "its responder was not asked yet"


class Status(StrEnum):
    """What a source says of a subject, in the words of OCSP (RFC 6960). Only `GOOD` lets a credential count.

    `INVALID` is a response that cannot be relied on; `UNAVAILABLE` is no response.
    """

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"


class StatusSubject(Protocol):
    """What a status source is asked about."""

    @property
    def id(self) -> str:
        """Names the subject among those of all sources."""

    @property
    def title(self) -> str:
        """The subject of a sentence, such as "the certificate CN=builder"."""


class Link:
    """A certificate and the one that issued it: what an OCSP request asks about.

    `id` is `sha256:<hex>` over both, so that an answer for one issuer is never taken for another's.
    """

    def __init__(self, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
        self.certificate = certificate
        self.issuer = issuer
        both = [hashlib.sha256(each.public_bytes(Encoding.DER)).digest() for each in (certificate, issuer)]
        self.id = "sha256:" + hashlib.sha256(b"".join(both)).hexdigest()

    @property
    def title(self) -> str:
        """The certificate by its subject (RFC 4514)."""
        return f"the certificate {self.certificate.subject.rfc4514_string()}"


class Known(NamedTuple):
    """What is known of a subject, and until when that may be relied on. `reason` is one sentence."""

    status: Status
    until: datetime
    reason: str


class StatusSource(Protocol):
    """What responders have said of subjects. Safe to ask from several threads; never waits."""

    @property
    def version(self) -> int:
        """A number that changes whenever something is known that was not, or is known otherwise."""

    def known(self, subject: StatusSubject, now: datetime) -> Known | None:
        """Return what is known at `now`; None when no answer has come yet, or what was known has run out."""


class NoStatus:
    """The source of a command that cannot ask: nothing is available, so nothing that must be good is."""

    version = 0

    def known(self, subject: StatusSubject, now: datetime) -> Known:
        """Return that no responder can be asked."""
        del subject
        return Known(Status.UNAVAILABLE, now, "no responder can be asked here whether the certificate was revoked")


NO_STATUS = NoStatus()
"""For judging what needs no status."""


def first_not_good(subjects: Iterable[StatusSubject], statuses: StatusSource, now: datetime) -> Finding | None:
    """Return why the first subject that is not known to be good is not, or None. What is not known is not good."""
    for subject in subjects:
        known = statuses.known(subject, now)
        if known is not None and known.status is Status.GOOD and known.until > now:
            continue
        if known is not None and known.status is Status.REVOKED:
            return Finding("revoked", f"{subject.title} is revoked: {known.reason}")
        why = "not asked yet" if known is None else f"{known.status.value}: {known.reason}"
        return Finding("ocsp", f"{subject.title} is not known to be good ({why})")
    return None


def known_in_words(known: Sequence[Known | None]) -> str:
    """Return the first that is not good, else until when all of them are; "" for nothing."""
    for each in known:
        if each is None:
            return _NOT_ASKED
        if each.status is not Status.GOOD:
            return f"{each.status.value}: {each.reason}"
    untils = [each.until for each in known if each is not None]
    return f"good until {min(untils).strftime('%Y-%m-%d %H:%MZ')}" if untils else ""
