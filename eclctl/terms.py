"""The terms of eclctl that nearly every module uses. A command that needs no more than these starts fast.

The other frozen types that layers share, facts and decisions, are in `eclctl.model`.
"""

from __future__ import annotations

import re
from enum import StrEnum

from eclctl.dataclass import dataclass


class Kind(StrEnum):
    """What sort of image a file is."""

    SIF = "sif"
    OCI_SIF = "oci-sif"
    SANDBOX = "sandbox"
    SQUASHFS = "squashfs"
    EXT3 = "ext3"
    OTHER = "other"

    __hash__ = str.__hash__  # what Enum brings is Python code, and every decision asks for the kind


class Assurance(StrEnum):
    """The assurance level of a file: how sure it is that the file stays what was decided on."""

    TRUSTED_PATH = "trusted-path"
    NONE = "none"

    @property
    def rank(self) -> int:
        """Higher is stronger."""
        return 1 if self is Assurance.TRUSTED_PATH else 0


class SignatureFormat(StrEnum):
    """How a signature is written in the file."""

    PGP = "pgp"
    DSSE = "dsse"
    LEGACY = "legacy"
    COSIGN = "cosign"
    UNKNOWN = "unknown"


class SignerKind(StrEnum):
    """What sort of key verified a signature."""

    PGP = "pgp"
    KEY = "key"
    CERTIFICATE = "certificate"
    COSIGN = "cosign"


class Verdict(StrEnum):
    """What a decision says."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class KeyRef:
    """The key that verified a signature.

    `id` is the primary fingerprint in upper-case hex for OpenPGP, and `sha256:` with the lower-case hex digest of
    the DER SubjectPublicKeyInfo for a PEM key. A key that a certificate speaks for goes by that (`x509:…`,
    `trust.x509.Credential.id`), and one for cosign signatures by `cosign:sha256:…`: what a key was listed for is the
    only thing that it can sign, so one key can have several of these names.
    """

    kind: SignerKind
    id: str


_PURPOSE = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,30}[a-z0-9])?")
NO_PURPOSE_KNOWN = ""
"""What a signature is for that says so in a way that cannot be understood: no policy can ask for this."""


def is_purpose(word: str) -> bool:
    """Whether a word can name a purpose: 1 to 32 of `a-z 0-9 . _ -`, first and last a letter or digit."""
    return _PURPOSE.fullmatch(word) is not None


def purpose(word: object) -> str:
    """Return the purpose that a signature states; `NO_PURPOSE_KNOWN` for what is no such word."""
    return word if isinstance(word, str) and is_purpose(word) else NO_PURPOSE_KNOWN


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found out and does not raise: a code from a closed list and one sentence.

    Not a named tuple: functions return a tuple or a finding, and a finding must never pass for a tuple.
    """

    code: str
    message: str
