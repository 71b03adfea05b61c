"""A strict OpenPGP verifier for clear-signed messages and detached signatures (RFC 9580, RFC 4880), on `cryptography`.

`verify` does everything for one message at one time. `check` and `judge_signature` are its two halves: facts that hold
at all times and may be kept, and whether they count at a given time. `check_detached` is the first half for a file
whose signatures stand beside it.
"""

from __future__ import annotations

from .errors import CertificateError, FindingCode, VerificationError
from .keyring import Certificate, Keyring
from .verification import (
    GoodSignature,
    MessageSigner,
    VerifiedMessage,
    check,
    check_detached,
    judge_signature,
    turning_points,
    verify,
)

__all__ = [
    "Certificate",
    "CertificateError",
    "FindingCode",
    "GoodSignature",
    "Keyring",
    "MessageSigner",
    "VerificationError",
    "VerifiedMessage",
    "check",
    "check_detached",
    "judge_signature",
    "turning_points",
    "verify",
]
