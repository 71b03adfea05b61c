"""Signing with OpenPGP keys. GnuPG holds the secret key; what it made is verified by our own code before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from eclctl.errors import KeyMaterialError

__all__ = ["GnupgError", "Identity", "PgpSigner", "WrongPassphraseError"]


class GnupgError(KeyMaterialError):
    """GnuPG is missing or too old, or could not do what it was asked for. The message says what to do."""


class WrongPassphraseError(GnupgError):
    """The passphrase does not open the key."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs: the primary fingerprint in upper-case hex, and the user ID. Unescaped; callers escape."""

    fingerprint: str
    user_id: str


class PgpSigner(Protocol):
    """An OpenPGP key that is unlocked."""

    @property
    def identity(self) -> Identity:
        """Who signs."""

    def clear_sign(self, text: bytes, *, hash_name: str, purpose: str | None) -> bytes:
        """Return a clear-signed message (RFC 9580 section 7) that our own code has verified.

        Args:
            text: What is signed, lines ending in LF.
            hash_name: As hashlib calls it: sha256, sha384, sha512 or sha224.
            purpose: What the signature approves, in the hashed notation `purpose@eclctl.org`; None is everything.

        Raises:
            GnupgError: There is no signature.
        """
