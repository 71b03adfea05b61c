"""Tests of a policy as frozen types: what is asked, under which circumstances, and what must be answered."""

from __future__ import annotations

from datetime import datetime

from eclctl.config.document import Mark
from eclctl.dataclass import dataclass
from eclctl.model import Caller, Code, Verification
from eclctl.terms import Assurance, Verdict
from eclctl.trust.revocation import Status


@dataclass(frozen=True, slots=True)
class Supposed:
    """An image that exists only in a test: what reading it would have shown.

    `revoked` are the claims, by index, whose key or certificate is supposed to be revoked, against what
    keyring or responder say.
    """

    verification: Verification
    revoked: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must be answered. None means that the test does not ask; names and requirements are in no order.

    `missing` are requirements that are not met, `stages` the stages of a chain that are not.
    """

    mark: Mark
    verdict: Verdict
    code: Code
    rule: str | None = None
    missing: tuple[str, ...] | None = None
    stages: tuple[str, ...] | None = None
    signers: tuple[str, ...] | None = None
    would: Code | None = None
    message: str | None = None
    exception: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One test.

    `image` is a file, or what is supposed of one. It is judged as if it lay at `path`, with an identity that is worth
    `assurance`; None is a name that does not lead to the file. `ocsp` is what responders say of certificates. `host` is
    the name of the host that decides, None for this one.
    """

    name: str
    mark: Mark
    image: str | Supposed
    path: str | None
    caller: Caller
    role: str
    now: datetime
    assurance: Assurance
    ocsp: Status
    host: str | None
    expect: Expectation
