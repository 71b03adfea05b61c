"""What is known of whether certificates were revoked: the seam between judging and asking.

Judging never fetches. Whoever asks responders (`remote`) keeps what they said as a `StatusSource`, and judging looks
there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

from cryptography.hazmat.primitives.serialization import Encoding

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["NO_STATUS", "Known", "Link", "NoStatus", "Status", "StatusSource", "links"]


class Status(StrEnum):
    """What an OCSP response is worth (RFC 6960). Only `GOOD` lets a certificate count.

    `INVALID` is a response that cannot be relied on, whatever it says; `UNAVAILABLE` is no response.
    """

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """A certificate and the one that issued it: what an OCSP request asks about.

    `id` is `sha256:<hex>` over both, so that an answer for one issuer is never taken for another's.
    """

    certificate: x509.Certificate
    issuer: x509.Certificate
    id: str = field(init=False)

    def __post_init__(self) -> None:
        both = [hashlib.sha256(each.public_bytes(Encoding.DER)).digest() for each in (self.certificate, self.issuer)]
        object.__setattr__(self, "id", "sha256:" + hashlib.sha256(b"".join(both)).hexdigest())


def links(path: Sequence[x509.Certificate]) -> tuple[Link, ...]:
    """Return what must be asked about a path, leaf first and root last: every certificate but the root."""
    return tuple(Link(certificate, issuer) for certificate, issuer in pairwise(path))


class Known(NamedTuple):
    """What is known of a certificate, and until when that may be relied on. `reason` is one sentence."""

    status: Status
    until: datetime
    reason: str


class StatusSource(Protocol):
    """What whoever asks responders has been told. Safe to ask from several threads; never waits."""

    @property
    def version(self) -> int:
        """A number that changes whenever something is known that was not, or is known otherwise."""

    def known(self, link: Link, now: datetime) -> Known | None:
        """Return what is known at `now`; None when nobody has asked, or what was known has run out."""


@dataclass(frozen=True, slots=True)
class NoStatus:
    """A source for those who have no means to ask: nothing is available, so nothing that must be good is."""

    version: int = 0

    def known(self, link: Link, now: datetime) -> Known:
        """Return that nobody can be asked."""
        del link
        return Known(Status.UNAVAILABLE, now, "nobody can be asked here whether the certificate was revoked")


NO_STATUS = NoStatus()
"""For those who judge nothing that must be asked about."""
