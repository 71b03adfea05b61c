"""How a policy declares each type of signer: the word in a signer's entry, and how what follows it is read.

`DECLARATIONS` has one entry for each entry of `trust.signer_types.SIGNER_TYPES`. Loader, messages and schema go by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from eclctl.config import document
from eclctl.config.document import ListNode, Node, Report, Scalar
from eclctl.policy import schema_parts as parts
from eclctl.policy.material import CERTIFICATE_KEYS, SignerFiles
from eclctl.policy.schema_parts import Schema
from eclctl.terms import SignerKind
from eclctl.text import quoted
from eclctl.trust.signer_types import SIGNER_TYPES

__all__ = [
    "DECLARATIONS",
    "FINGERPRINT",
    "OPTIONS",
    "Declaration",
    "KeyringCertificate",
    "KeyringCertificates",
    "Option",
    "Reading",
    "key_words",
    "signer_keys",
    "signer_schema",
]

FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})")
_KEY_ID = re.compile(r"[0-9A-F]{8}(?:[0-9A-F]{8})?")


class KeyringCertificate(Protocol):
    """What the loader needs to know of an OpenPGP certificate: its primary fingerprint, and every key in it."""

    @property
    def fingerprint(self) -> str: ...  # noqa: D102 - upper-case hex

    @property
    def materials(self) -> frozenset[str]: ...  # noqa: D102 - `sha256:<hex of the DER SubjectPublicKeyInfo>`


class KeyringCertificates(Protocol):
    """What the loader needs of a keyring; `signature.openpgp.Keyring` is one."""

    @property
    def certificates(self) -> Iterable[KeyringCertificate]: ...  # noqa: D102 - all of them

    def get(self, fingerprint: str) -> KeyringCertificate | None: ...  # noqa: D102 - by upper-case primary fingerprint


class Reading(NamedTuple):
    """What a declaration is read with.

    material: takes what files hold.
    keyring: the OpenPGP certificates of the site.
    report: takes errors and warnings.
    """

    material: SignerFiles
    keyring: KeyringCertificates
    report: Report


Names = Iterator[tuple[Scalar, str]]
"""The names of keys (`KeyRef.id`), each with the text that stands for it in the entry. Errors have been reported."""


@dataclass(frozen=True, slots=True)
class Option:
    """A key of a signer's entry that says something about signatures by some types of key alone.

    name: the key.
    about: what it is about, and that the signer has no such keys; `{what}` is the signer.
    hint: what to write instead.
    schema: what may stand there.
    """

    name: str
    about: str
    hint: str
    schema: Schema


@dataclass(frozen=True, slots=True)
class Declaration:
    """How a policy declares keys of one type.

    kind: the type.
    word: the key of a signer's entry that lists them.
    read: takes what follows the word, and the signer as messages name it.
    options: the names of the options that are about their signatures.
    schema: what may follow the word.
    """

    kind: SignerKind
    word: str
    read: Callable[[Reading, Node, str], Names]
    options: tuple[str, ...]
    schema: Schema


def key_words() -> tuple[str, ...]:
    """Return the words that list keys, in the order in which messages name them."""
    return tuple(DECLARATIONS[kind].word for kind in SIGNER_TYPES)


def signer_keys() -> tuple[str, ...]:
    """Return every key that a signer's entry may have."""
    return (*key_words(), *(option.name for option in OPTIONS))


def signer_schema() -> Schema:
    """Return the schema of a signer's entry."""
    fields = {declaration.word: declaration.schema for declaration in DECLARATIONS.values()}
    return parts.mapping_schema(fields | {option.name: option.schema for option in OPTIONS}, signer_keys())


def _texts(reading: Reading, node: Node, word: str, what: str) -> tuple[Scalar, ...]:
    return document.texts(node, reading.report, f"{word} of {what}") or ()


def _pgp(reading: Reading, node: Node, what: str) -> Names:
    for entry in _texts(reading, node, "pgp", what):
        if not FINGERPRINT.fullmatch(entry.text):
            reading.report.error(entry, f"{quoted(entry.text)} is no fingerprint", _fingerprint_hint(entry.text))
        elif reading.keyring.get(fingerprint := entry.text.upper()) is None:
            message = f"the key {fingerprint} is in no keyring"
            reading.report.error(entry, message, "export the certificate to a keyring file")
        else:
            yield entry, fingerprint


def _fingerprint_hint(text: str) -> str:
    """Return what to write instead of something that is no fingerprint: most often it nearly is one."""
    digits = re.sub(r"[\s:]", "", text).removeprefix("0x").removeprefix("0X").upper()
    if FINGERPRINT.fullmatch(digits):
        return f"write {digits}"
    if _KEY_ID.fullmatch(digits):
        return "this is a key ID, which many keys can have: `gpg --fingerprint` shows the whole fingerprint"
    return "40 or 64 hex digits, without spaces"


def _pem(reading: Reading, node: Node, what: str) -> Names:
    for entry in _texts(reading, node, "key", what):
        if (name := reading.material.pem(entry)) is not None:
            yield entry, name


def _certificates(reading: Reading, node: Node, what: str) -> Names:
    """Read one certificate, or a list of them."""
    listed: tuple[Node, ...] = (node,)
    if isinstance(node, ListNode):
        listed = document.items(node, reading.report, f"certificate of {what}") or ()
    for each in listed:
        if (found := reading.material.certificate(each, what)) is not None:
            yield found


def _cosign(reading: Reading, node: Node, what: str) -> Names:
    for entry in _texts(reading, node, "cosign", what):
        if (name := reading.material.cosign_key(entry)) is not None:
            yield entry, name


def _certificate_schema() -> Schema:
    files = {"oneOf": [parts.text_schema(), parts.list_of(parts.text_schema())]}
    ocsp = "Whether responders must say that it is not revoked; require if left out."
    fields = {
        "file": parts.text_schema("The signer's certificate."),
        "intermediates": {**files, "description": "What leads from it to a root."},
        "roots": {**files, "description": "The authorities that are trusted for this signer."},
        "ocsp": parts.one_of(("require", "off"), ocsp),
    }
    return parts.mapping_schema(fields, CERTIFICATE_KEYS, required=("file", "roots"))


_ONLY_COSIGN = "{name} of {what} is about cosign signatures, and it has no cosign keys"
OPTIONS = (
    Option(
        "annotations",
        _ONLY_COSIGN,
        "list keys under cosign, or remove annotations",
        {
            **parts.mapping_of(parts.word_schema()),
            "minProperties": 1,
            "description": "What cosign signatures must say.",
        },
    ),
    Option(
        "repository",
        _ONLY_COSIGN,
        "list keys under cosign, or remove repository",
        parts.text_schema("Which repositories cosign signatures must name: registry.example/prod/**"),
    ),
    Option(
        "purpose",
        "{name} of {what} is about signatures by PEM keys and certificates, and it has neither",
        "PGP and cosign signatures say it themselves; remove purpose",
        {
            "description": "What signatures by PEM keys and certificates are for.",
            "oneOf": [parts.purpose_schema(), parts.list_of(parts.purpose_schema())],
        },
    ),
)
"""The keys of a signer's entry that list no keys."""

_FILES = "PEM public keys, as files relative to this one"
_FINGERPRINTS = "OpenPGP primary fingerprints, 40 or 64 hex digits."
DECLARATIONS: dict[SignerKind, Declaration] = {
    declaration.kind: declaration
    for declaration in (
        Declaration(
            SignerKind.PGP,
            "pgp",
            _pgp,
            (),
            parts.list_of(parts.word_schema(r"^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$"), _FINGERPRINTS),
        ),
        Declaration(
            SignerKind.KEY,
            "key",
            _pem,
            ("purpose",),
            parts.list_of(parts.text_schema(), f"{_FILES}, for DSSE signatures."),
        ),
        Declaration(
            SignerKind.COSIGN,
            "cosign",
            _cosign,
            ("annotations", "repository"),
            parts.list_of(parts.text_schema(), f"{_FILES}, for cosign signatures."),
        ),
        Declaration(
            SignerKind.CERTIFICATE,
            "certificate",
            _certificates,
            ("purpose",),
            {"oneOf": [_certificate_schema(), parts.list_of(_certificate_schema(), "Certificates.")]},
        ),
    )
}
"""How each type of signer is declared, by kind. Keys are taken in this order, on which the policy's digest depends."""
