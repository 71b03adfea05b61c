"""Signs with OpenPGP keys. GnuPG holds the secret key; its signature is verified by our own code before it is used.

A key of our own ring is loaded into a throw-away GnuPG home for as long as a signer is open. A key of the user's own
GnuPG stays there, with its agent, its pinentry, and the card that it may be on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from eclctl.dataclass import dataclass
from eclctl.sign.gnupg_run import Gnupg, GnupgError, GnupgResult, WrongPassphraseError, temporary_gnupg
from eclctl.sign.keyrings.keyfacts import signing_keys, unusable
from eclctl.sign.keyrings.transferable import KeyFile, Protection, TransferableKey, parse_keys
from eclctl.signature import openpgp
from eclctl.signature.openpgp.algorithms import load_verifier
from eclctl.signature.openpgp.keys import OpenPgpKey
from eclctl.signature.openpgp.signature import PURPOSE_NOTATION
from eclctl.terms import is_purpose

__all__ = ["GnupgError", "PgpSigner", "WrongPassphraseError", "gnupg_keys", "gnupg_signer", "ring_signer"]

_HASHES: Final = {
    "sha224": ("SHA224", 28),
    "sha256": ("SHA256", 32),
    "sha384": ("SHA384", 48),
    "sha512": ("SHA512", 64),
}
"""By hashlib's name: GnuPG's, and the length of the digest in octets."""

_LIST: Final = ("--with-colons", "--fixed-list-mode", "--list-keys")
_LIST_SECRETS: Final = ("--with-colons", "--fixed-list-mode", "--list-secret-keys")
_CODE: Final = 0xFFFF
"""Of libgpg-error's numbers, what is the code; above it stands who says so."""

_NO_FILE: Final = 0x8051
"""Its GPG_ERR_ENOENT."""

_TRIAL: Final = b"eclctl tries a key before it does anything else\n"
_REMEDY: Final = {
    Protection.CARD: "it is on a card: sign with --gnupg",
    Protection.ABSENT: "its secret part is kept elsewhere",
}


@dataclass(frozen=True, slots=True)
class PgpSigner:
    """An OpenPGP key that is unlocked, in a GnuPG home.

    Attributes:
        gnupg: The home.
        fingerprint: The primary fingerprint, in upper-case hex.
        keyring: The certificate, which verifies what the key signs.
        key: The primary key or the subkey that signs.
        passphrase: Of a key in a throw-away home.
    """

    gnupg: Gnupg
    fingerprint: str
    keyring: openpgp.Keyring
    key: OpenPgpKey
    passphrase: str | None = None

    @property
    def hash_names(self) -> tuple[str, ...]:
        """The hashes that the key may sign under (RFC 9580 section 5.2.3), shortest first, as hashlib calls them."""
        least = load_verifier(self.key.algorithm, self.key.material).min_digest
        return tuple(name for name, (_, size) in _HASHES.items() if size >= least)

    def clear_sign(self, text: bytes, *, hash_name: str, purpose: str | None) -> bytes:
        """Return a clear-signed message (RFC 9580 section 7) that our own code has verified.

        Args:
            text: What is signed, lines ending in LF.
            hash_name: One of `hash_names`.
            purpose: What the signature approves, in the hashed notation `purpose@eclctl.org`; None is everything.

        Raises:
            GnupgError: There is no signature.
        """
        if hash_name not in self.hash_names:
            names = ", ".join(self.hash_names)
            raise GnupgError(f"the key {self.key.fingerprint} signs under {names}, not under {hash_name}")
        if purpose is not None and not is_purpose(purpose):
            raise GnupgError(f"{purpose!r} names no purpose: 1 to 32 of a-z 0-9 . _ -, a letter or digit at both ends")
        notation = [] if purpose is None else ["--sig-notation", f"{PURPOSE_NOTATION}={purpose}"]
        made = self.gnupg.run(
            *("--digest-algo", _HASHES[hash_name][0], *notation),
            *("--local-user", f"{self.key.fingerprint}!", "--clear-sign"),
            stdin=text,
            passphrase=self.passphrase,
            what="GnuPG did not sign",
        )
        self._verify(made.output, text, _HASHES[hash_name][0], purpose)
        return made.output

    def _verify(self, message: bytes, text: bytes, hash_name: str, purpose: str | None) -> None:
        """Refuse a message that does not say exactly what was asked for."""
        now = datetime.now(UTC)
        try:
            checked = openpgp.check(message, self.keyring)
        except openpgp.VerificationError as error:
            raise GnupgError(f"what GnuPG made does not verify: {error}") from error
        (found,) = checked.signatures if len(checked.signatures) == 1 else (None,)
        if not isinstance(found, openpgp.GoodSignature):
            why = "it has no single signature" if found is None else found.message
            raise GnupgError(f"what GnuPG made does not verify: {why}")
        judged = openpgp.judge_signature(found.certificate, found.key, found.created, found.expires, self.keyring, now)
        if judged is not None:
            raise GnupgError(f"what GnuPG made does not count: {judged.message}")
        made = (found.certificate, found.hash, found.purposes, checked.text)
        wanted = (
            self.fingerprint,
            hash_name,
            frozenset(() if purpose is None else (purpose,)),
            _canonical(text),
        )
        if made != wanted:
            raise GnupgError(
                "GnuPG signed something else than it was asked for: is its program or configuration altered?"
            )


def _canonical(text: bytes) -> bytes:
    """Return what a text signature covers (RFC 9580 section 7.2): no white space at line ends, CR LF between lines."""
    lines = text.removesuffix(b"\n").split(b"\n")
    return b"\r\n".join(line.rstrip(b" \t\r") for line in lines)


@contextmanager
def ring_signer(secret: bytes, fingerprint: str, passphrase: Callable[[], str]) -> Iterator[PgpSigner]:
    """Open a secret key of our own ring, and try it before anything else happens.

    Args:
        secret: The key with its certificate, as `Ring.secret` returns it.
        fingerprint: The primary fingerprint.
        passphrase: Asks for it; called once, and only when the key that signs is protected.

    Raises:
        WrongPassphraseError: The passphrase does not open the key.
        GnupgError: No key of it may sign now, or none is here, or there is no GnuPG.
        KeyMaterialError: The key is damaged.
    """
    fingerprint = fingerprint.upper()
    file = parse_keys(secret)
    keyring = openpgp.Keyring.parse(secret)
    certificate = keyring.get(fingerprint)
    if certificate is None:
        raise GnupgError(f"there is no key {fingerprint}")
    key, protection = _choose(certificate, keyring, file)
    given = passphrase() if protection is Protection.PASSPHRASE else None
    with temporary_gnupg() as gnupg:
        gnupg.run("--import", stdin=file.keys[fingerprint].whole(), what="GnuPG does not take the key")
        signer = PgpSigner(gnupg, fingerprint, keyring, key, given)
        _try(signer)
        yield signer


def _choose(certificate: openpgp.Certificate, keyring: openpgp.Keyring, file: KeyFile) -> tuple[OpenPgpKey, Protection]:
    """Return the key that signs, and how its secret part is protected."""
    now = datetime.now(UTC)
    here = file.keys[certificate.fingerprint].protections
    able = signing_keys(certificate, keyring, now)
    for key in able:
        protection = here.get(key.fingerprint, Protection.ABSENT)
        if protection not in _REMEDY:
            return key, protection
    name = certificate.fingerprint
    if able:
        remedy = _REMEDY[here.get(able[0].fingerprint, Protection.ABSENT)]
        raise GnupgError(f"the key {name} has no secret part here to sign with: {remedy}")
    raise GnupgError(f"the key {name} cannot sign: {unusable(certificate, keyring, now).message}")


def _try(signer: PgpSigner) -> None:
    signer.clear_sign(_TRIAL, hash_name=signer.hash_names[-1], purpose=None)


@contextmanager
def gnupg_signer(user: str | None) -> Iterator[PgpSigner]:
    """Open a key of the user's own GnuPG. Its agent asks for the passphrase, or for the PIN of a card.

    A key that is not on a card is tried before anything else happens; a card might want a touch each time.

    Args:
        user: A fingerprint, key ID, email address or user ID as GnuPG takes them; None is GnuPG's `default-key`, or
            the only secret key that there is.

    Raises:
        GnupgError: There is no such key, or several; none of its keys may sign now; GnuPG failed.
    """
    gnupg = Gnupg.of_user()
    fingerprint, secrets = _one_secret(gnupg, gnupg.default_key() if user is None else user)
    exported = gnupg.run("--export", fingerprint, what="GnuPG does not export the certificate").output
    keyring = openpgp.Keyring.parse(exported)
    certificate = keyring.get(fingerprint)
    if certificate is None:
        raise GnupgError(f"GnuPG exports another certificate than {fingerprint}")
    now = datetime.now(UTC)
    able = signing_keys(certificate, keyring, now)
    key = next((key for key in able if secrets.get(key.fingerprint, "#") != "#"), None)
    if key is None:
        reason = "it has no secret part here" if able else unusable(certificate, keyring, now).message
        raise GnupgError(f"the key {fingerprint} cannot sign: {reason}")
    signer = PgpSigner(gnupg, fingerprint, keyring, key)
    if secrets[key.fingerprint] in {"", "+"}:
        _try(signer)
    yield signer


def gnupg_keys(*, secret: bool = False) -> dict[str, TransferableKey]:
    """Return the certificates in the user's own GnuPG by primary fingerprint; with `secret`, of those with secret keys.

    Raises:
        GnupgError: There is no GnuPG, or it failed.
    """
    gnupg = Gnupg.of_user()
    wanted = _read_secrets(gnupg.attempt(*_LIST_SECRETS)) if secret else {}
    if secret and not wanted:
        return {}
    if not secret and _is_empty(gnupg.attempt(*_LIST)):
        return {}
    exported = gnupg.run("--export", *wanted, what="GnuPG does not export its certificates").output
    return parse_keys(exported).keys if exported else {}


def _is_empty(listed: GnupgResult) -> bool:
    """Whether GnuPG's listing (doc/DETAILS) has no `pub` record, for there are no keys, or not even a home yet."""
    if not listed.succeeded:
        found = listed.find("ERROR") or ("", "")
        missing = len(found) > 1 and found[1].isdecimal() and int(found[1]) & _CODE == _NO_FILE
        return found[0] == "add_keyblock_resource" and missing
    return not any(line.startswith(b"pub:") for line in listed.output.splitlines())


def _one_secret(gnupg: Gnupg, user: str | None) -> tuple[str, dict[str, str]]:
    """Return the primary fingerprint of one secret key, and where GnuPG has each of its secret parts.

    That is `+` for here, `#` for nowhere, or a card's serial number.
    """
    found = _read_secrets(gnupg.attempt(*_LIST_SECRETS, *(() if user is None else ("--", user))))
    if not found:
        whose = "" if user is None else f" for {user!r}"
        raise GnupgError(f"GnuPG has no secret key{whose} (see `gpg --list-secret-keys`)")
    if len(found) > 1:
        names = ", ".join(found)
        raise GnupgError(f"GnuPG has several secret keys that may be meant; give one's fingerprint: {names}")
    return next(iter(found.items()))


def _read_secrets(listed: GnupgResult) -> dict[str, dict[str, str]]:
    """Read GnuPG's listing (doc/DETAILS): a `sec` or `ssb` record, each with an `fpr` record after it."""
    found: dict[str, dict[str, str]] = {}
    token, current = "", None
    for line in (record.split(":") for record in listed.output.decode("utf-8", "replace").split("\n")):
        if line[0] in {"sec", "ssb"}:
            token = line[14] if len(line) > 14 else ""  # noqa: PLR2004 - field 15 of the record
            current = None if line[0] == "sec" else current
        elif line[0] == "fpr" and len(line) > 9:  # noqa: PLR2004 - field 10
            current = found.setdefault(line[9], {}) if current is None else current
            current[line[9]] = token
    return found
