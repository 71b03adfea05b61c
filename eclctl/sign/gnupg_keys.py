"""Makes key pairs with GnuPG, in a temporary home."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from typing import Final

from eclctl.dataclass import dataclass
from eclctl.sign.gnupg_run import Gnupg, GnupgError, temporary_gnupg
from eclctl.sign.keyrings.keyfacts import signing_keys
from eclctl.sign.keyrings.transferable import Protection, parse_keys
from eclctl.signature import openpgp

LENGTHS: Final = (2048, 3072, 4096)
"""The lengths of RSA keys that are made, in bits; GnuPG makes no longer ones."""

_BRACKETS: Final = re.compile(r"[()<>]")
_EMAIL: Final = re.compile(r"[^\s@<>()\",;:]+@[^\s@<>()\",;:]+")
_LONGEST: Final = 255


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key is to be. The user ID becomes `name (comment) <email>`; `days` until it expires, 0 for never.

    An RSA key is as SingularityCE makes it: a primary key that certifies and signs, and a subkey of the same length
    that encrypts, with self-signatures under SHA-384. An Ed25519 key (`bits` is 0) is one key that certifies and signs.
    """

    name: str
    email: str
    comment: str = ""
    bits: int = 4096
    days: int = 0

    @property
    def user_id(self) -> str:
        """The user ID, as OpenPGP programs write it."""
        comment = f"({self.comment})" if self.comment else ""
        address = f"<{self.email}>" if self.email and (self.name or comment) else self.email
        return " ".join(part for part in (self.name, comment, address) if part)


@dataclass(frozen=True, slots=True)
class Pair:
    """A new key: the secret key with its certificate, binary, and what GnuPG made to revoke it with."""

    fingerprint: str
    secret: bytes
    revocation: bytes


def problem(new: NewKey) -> str | None:
    """Return what is wrong with a wish for a key, or None."""
    for what, text in (("name", new.name), ("comment", new.comment), ("email address", new.email)):
        if not text.isprintable() or text != text.strip() or len(text) > _LONGEST:
            return f"the {what} has white space at an end, characters that do not show, or more than {_LONGEST}"
        if _BRACKETS.search(text):
            return f"the {what} has one of ( ) < >, which separate the parts of a user ID"
    if not new.name and not new.email:
        return "a key needs a name or an email address"
    if new.comment and not new.name:
        return "a comment stands behind a name: give the name too, or leave the comment out"
    if new.email and not _EMAIL.fullmatch(new.email):
        return f"{new.email!r} is no email address"
    if new.bits and new.bits not in LENGTHS:
        return f"an RSA key has {', '.join(map(str, LENGTHS[:-1]))} or {LENGTHS[-1]} bits"
    return None


def make_pair(new: NewKey, passphrase: str | None) -> Pair:
    """Make a key pair.

    Args:
        new: What it is to be; `problem` finds nothing wrong with it.
        passphrase: What protects it; None or nothing leaves it unprotected.

    Raises:
        GnupgError: There is no GnuPG, or it failed, or what it made is not what was wanted.
    """
    with temporary_gnupg() as gnupg:
        made = gnupg.run(
            *("--cert-digest-algo", "SHA384", "--full-generate-key"),
            stdin=_parameters(new, protected=bool(passphrase)).encode(),
            passphrase=passphrase or None,
            what="GnuPG made no key",
        ).find("KEY_CREATED")
        if made is None or len(made) < 2:  # noqa: PLR2004 - a letter and the fingerprint
            raise GnupgError("GnuPG does not say which key it made")
        fingerprint = made[1]
        secret = gnupg.run(
            "--export-secret-keys", fingerprint, passphrase=passphrase or None, what="GnuPG does not hand out the key"
        ).output
        pair = Pair(fingerprint, secret, _revocation(gnupg, fingerprint))
    _check(pair, new, protected=bool(passphrase))
    return pair


def _parameters(new: NewKey, *, protected: bool) -> str:
    """GnuPG's "Unattended key generation"; one parameter a line."""
    lines = [] if protected else ["%no-protection"]
    if new.bits:
        lines += ["Key-Type: RSA", f"Key-Length: {new.bits}", "Key-Usage: sign"]
        lines += ["Subkey-Type: RSA", f"Subkey-Length: {new.bits}", "Subkey-Usage: encrypt"]
    else:
        lines += ["Key-Type: EDDSA", "Key-Curve: Ed25519", "Key-Usage: sign"]
    named = (("Real", new.name), ("Comment", new.comment), ("Email", new.email))
    lines += [f"Name-{what}: {text}" for what, text in named if text]
    return "\n".join([*lines, f"Expire-Date: {new.days}d" if new.days else "Expire-Date: 0", "%commit", ""])


def _revocation(gnupg: Gnupg, fingerprint: str) -> bytes:
    path = os.path.join(gnupg.home or "", "openpgp-revocs.d", f"{fingerprint}.rev")
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise GnupgError(f"GnuPG made no revocation certificate: {error.strerror}") from error


def _check(pair: Pair, new: NewKey, *, protected: bool) -> None:
    """Refuse a key that is not what was asked for: in another name, unprotected, or of no use."""
    keyring = openpgp.Keyring.parse(pair.secret)
    certificate = keyring.get(pair.fingerprint)
    wanted = {Protection.PASSPHRASE if protected else Protection.NONE}
    key = parse_keys(pair.secret).keys.get(pair.fingerprint)
    if certificate is None or key is None or set(key.protections.values()) != wanted:
        raise GnupgError("GnuPG handed out another key, or one that is not protected as it should be")
    if certificate.name != new.user_id or set(key.user_ids) != {new.user_id}:
        raise GnupgError(f"GnuPG made a key for {certificate.name!r}, not for {new.user_id!r}")
    if not signing_keys(certificate, keyring, datetime.now(UTC)):
        raise GnupgError("GnuPG made a key whose signatures would not count")
