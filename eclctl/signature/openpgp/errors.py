"""What goes wrong in OpenPGP material, and the words for it.

Messages use the words of ProtonMail's go-crypto, the reference, wherever it has words for the case.
"""

from __future__ import annotations

from typing import ClassVar, Final

from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.terms import Finding


class FindingCode:
    """The closed list of codes that OpenPGP findings carry."""

    UNKNOWN_KEY: Final = "unknown-key"
    BAD_SIGNATURE: Final = "bad-signature"
    KEY_EXPIRED: Final = "key-expired"
    KEY_NOT_YET_VALID: Final = "key-not-yet-valid"
    SIGNATURE_EXPIRED: Final = "signature-expired"
    SIGNATURE_FROM_FUTURE: Final = "signature-from-future"
    KEY_REVOKED: Final = "key-revoked"
    WEAK_HASH: Final = "weak-hash"
    WEAK_KEY: Final = "weak-key"
    UNSUPPORTED: Final = "unsupported"
    BAD_FRAMING: Final = "bad-framing"
    BAD_CERTIFICATE: Final = "bad-certificate"
    NOT_A_SIGNING_KEY: Final = "not-a-signing-key"


class VerificationError(EclctlError):
    """A message that does not verify; `finding` says why."""

    code: ClassVar[str] = "openpgp"

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class CertificateError(KeyMaterialError):
    """A keyring that is damaged as a whole: broken armor, truncated packets, nothing in it."""


class PacketError(EclctlError):
    """Bytes that are no well-formed packet, armor or number. Never leaves this package."""

    code: ClassVar[str] = "openpgp"


class UnknownHashError(PacketError):
    """A signature packet under a hash that cannot be computed here."""


UNKNOWN_ENTITY: Final = Finding(FindingCode.UNKNOWN_KEY, "openpgp: signature made by unknown entity")
KEY_EXPIRED: Final = Finding(FindingCode.KEY_EXPIRED, "openpgp: key expired")
KEY_NOT_YET_VALID: Final = Finding(FindingCode.KEY_NOT_YET_VALID, "openpgp: key expired")
SIGNATURE_EXPIRED: Final = Finding(FindingCode.SIGNATURE_EXPIRED, "openpgp: signature expired")
SIGNATURE_FROM_FUTURE: Final = Finding(FindingCode.SIGNATURE_FROM_FUTURE, "openpgp: signature expired")
KEY_REVOKED: Final = Finding(FindingCode.KEY_REVOKED, "openpgp: signature made by revoked key")
NOT_A_SIGNING_KEY: Final = Finding(FindingCode.NOT_A_SIGNING_KEY, UNKNOWN_ENTITY.message)
HASH_MISMATCH_WORDS: Final = "openpgp: invalid data: hash algorithm or salt mismatch with cleartext message headers"


def bad_certificate(why: str) -> Finding:
    """Return the finding for a certificate that vouches for nothing, with the reference's words first."""
    return Finding(FindingCode.BAD_CERTIFICATE, f"{UNKNOWN_ENTITY.message}: {why}")
