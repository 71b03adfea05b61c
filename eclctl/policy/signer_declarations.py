"""How a policy declares each type of signer: the word in a signer's entry, and how what follows it is read.

`DECLARATIONS` has one entry for each entry of `trust.signer_types.SIGNER_TYPES`. Loader, messages and schema go by it.
`SignerFiles` takes the files that signers name: PEM keys, and certificates with the chains above them. Each file is
read once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from eclctl.config import document
from eclctl.config.document import ListNode, Node, Report, Scalar
from eclctl.dataclass import dataclass, field
from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.policy import schema_parts as parts
from eclctl.policy.schema_parts import Schema
from eclctl.signature.keys import PublicKey, parse_public_key
from eclctl.terms import Finding, SignerKind
from eclctl.text import printable_message, quoted
from eclctl.trust.signer_types import SIGNER_TYPES
from eclctl.trust.signer_types.cosign_key import cosign_name

if TYPE_CHECKING:
    from eclctl.trust.x509 import Credential

FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})")
_KEY_ID = re.compile(r"[0-9A-F]{8}(?:[0-9A-F]{8})?")
CERTIFICATE_KEYS = ("file", "intermediates", "roots", "ocsp")


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


@dataclass(slots=True)
class SignerFiles:
    """Everything that the signers' files hold, by the names that signatures are known under (`KeyRef.id`).

    `read` returns the content of a file and raises OSError or an EclctlError. `keyring` has the OpenPGP certificates of
    the site. `now` is when certificates are looked at, for warnings alone. `files` has the content of all files, by
    path, in the order in which they were first named. `listed` is by kind and name.
    """

    read: Callable[[str], bytes]
    keyring: KeyringCertificates
    report: Report
    now: datetime
    files: dict[str, bytes] = field(default_factory=dict)
    listed: dict[SignerKind, dict[str, Any]] = field(default_factory=dict)

    def names(self) -> dict[str, frozenset[str]]:
        """Return for each name the keys behind it, as `sha256:<hex of the DER SubjectPublicKeyInfo>`."""
        return {
            name: entry.materials(each)
            for kind, entry in SIGNER_TYPES.items()
            for name, each in self.listed.get(kind, {}).items()
        }

    def take(self, kind: SignerKind, name: str, value: object) -> bool:
        """Keep what is listed under a name; return False when it was there before."""
        return self.listed.setdefault(kind, {}).setdefault(name, value) is value

    def public_key(self, entry: Scalar) -> PublicKey | None:
        """Return the key in a PEM file; None when an error was reported."""
        content = self._content(entry, "key")
        if content is None:
            return None
        try:
            return parse_public_key(content, source=printable_message(entry.text))
        except KeyMaterialError as error:
            self._unusable(entry, "key", error)
            return None

    def certificate(self, node: Node, what: str) -> tuple[Scalar, str] | None:
        """Take a certificate of the signer `what`; return its file and its name, or None when an error was reported."""
        where = f"certificate of {what}"
        if isinstance(node, Scalar):
            shape = f"write {{file: {quoted(node.text)}, roots: [ROOT.pem]}}"
            self.report.error(node, f"{where} must be a mapping, and is {quoted(node.text)}", shape)
            return None
        fields = document.mapping(node, self.report, where, CERTIFICATE_KEYS, ("file", "roots")) or {}
        leaf, own = fields.get("file"), None
        word = None if leaf is None else document.text(leaf, self.report, f"file in {where}")
        if isinstance(leaf, Scalar) and word is not None:
            own = self._certificates(leaf)
        intermediates = self._chain(fields.get("intermediates"), f"intermediates in {where}")
        roots = self._chain(fields.get("roots"), f"roots in {where}")
        ocsp: str | None = "require"
        if "ocsp" in fields:
            ocsp = document.choice(fields["ocsp"], self.report, f"ocsp in {where}", ("require", "off"))
        if not isinstance(leaf, Scalar) or own is None or intermediates is None or not roots or ocsp is None:
            return None
        from eclctl.trust.x509 import load_credential  # noqa: PLC0415 - only a certificate needs X.509

        try:
            source = printable_message(leaf.text)
            credential = load_credential(own, intermediates, roots, ocsp=ocsp == "require", source=source)
        except KeyMaterialError as error:
            self._unusable(leaf, "certificate", error)
            return None
        if self.take(SignerKind.CERTIFICATE, credential.id, credential):
            self._warn_of(credential, leaf, what)
        return leaf, credential.id

    def _chain(self, node: Node | None, what: str) -> list[bytes] | None:
        """Take files of certificates and return what they hold; None when one of them cannot be used."""
        entries = () if node is None else document.text_or_texts(node, self.report, what)
        if entries is None:
            return None
        contents = [self._certificates(entry) for entry in entries]
        return [content for content in contents if content is not None] if None not in contents else None

    def _certificates(self, entry: Scalar) -> bytes | None:
        """Return the content of a file of certificates; None when it is not that."""
        content = self._content(entry, "certificate")
        if content is None:
            return None
        from eclctl.trust.x509 import check_certificates  # noqa: PLC0415 - only a certificate needs X.509

        try:
            check_certificates(content, source=printable_message(entry.text))
        except KeyMaterialError as error:
            self._unusable(entry, "certificate", error)
            return None
        return content

    def _warn_of(self, credential: Credential, entry: Scalar, what: str) -> None:
        """Warn of a certificate by which no signature counts now: it loads, since time alone must break no reload."""
        by = f"by the certificate {quoted(entry.text)} of {what}"
        from eclctl.trust.ocsp import responders  # noqa: PLC0415 - only a certificate needs X.509

        found = credential.path(self.now)
        if isinstance(found, Finding):
            self.report.warning(entry, f"no signature {by} counts now: {found.message}")
        chain = (credential.leaf,) if isinstance(found, Finding) else found[:-1]
        http = ("http://", "https://")
        silent = (each for each in chain if not any(url.lower().startswith(http) for url in responders(each)))
        if credential.ocsp and (unasked := next(silent, None)) is not None:
            name = quoted(unasked.subject.rfc4514_string())
            message = f"no signature {by} can ever count: ocsp is required, and {name} names no OCSP responder"
            self.report.warning(entry, message, "get certificates that name one, or write ocsp: off")

    def _content(self, entry: Scalar, sort: str) -> bytes | None:
        """Return what is in a file, whose path is relative to the policy that names it."""
        found = os.path.join(os.path.dirname(entry.mark.file), entry.text)
        try:
            if found not in self.files:
                self.files[found] = self.read(found)
            return self.files[found]
        except (OSError, EclctlError) as error:
            self._unusable(entry, sort, error)
            return None

    def _unusable(self, entry: Scalar, sort: str, error: OSError | EclctlError) -> None:
        reason = (error.strerror or "") if isinstance(error, OSError) else str(error)
        reason = reason.removeprefix(f"{printable_message(entry.text)}: ")
        message = f"the {sort} file {quoted(entry.text)} cannot be used: {reason}"
        content = self.files.get(os.path.join(os.path.dirname(entry.mark.file), entry.text), b"")
        hint = None
        if sort == "key" and b"-----BEGIN CERTIFICATE-----" in content:
            hint = "list a certificate under certificate: {file: LEAF.pem, roots: [ROOT.pem]}"
        elif sort == "certificate" and b"-----BEGIN PUBLIC KEY-----" in content:
            hint = "list a public key under key, or under cosign when it signs OCI images with cosign"
        self.report.error(entry, message, hint)


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
    read: Callable[[SignerFiles, Node, str], Names]
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


def _pgp(files: SignerFiles, node: Node, what: str) -> Names:
    for entry in document.texts(node, files.report, f"pgp of {what}") or ():
        if not FINGERPRINT.fullmatch(entry.text):
            files.report.error(entry, f"{quoted(entry.text)} is no fingerprint", _fingerprint_hint(entry.text))
        elif files.keyring.get(fingerprint := entry.text.upper()) is None:
            message = f"the key {fingerprint} is in no keyring"
            files.report.error(entry, message, "export the certificate to a keyring file")
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


def _pem(files: SignerFiles, node: Node, what: str) -> Names:
    for entry, key in _public_keys(files, node, f"key of {what}"):
        files.take(SignerKind.KEY, key.id, key)
        yield entry, key.id


def _cosign(files: SignerFiles, node: Node, what: str) -> Names:
    for entry, key in _public_keys(files, node, f"cosign of {what}"):
        files.take(SignerKind.COSIGN, name := cosign_name(key), key)
        yield entry, name


def _public_keys(files: SignerFiles, node: Node, what: str) -> Iterator[tuple[Scalar, PublicKey]]:
    for entry in document.texts(node, files.report, what) or ():
        if (key := files.public_key(entry)) is not None:
            yield entry, key


def _certificates(files: SignerFiles, node: Node, what: str) -> Names:
    """Read one certificate, or a list of them."""
    listed = document.items(node, files.report, f"certificate of {what}") if isinstance(node, ListNode) else (node,)
    for each in listed or ():
        if (found := files.certificate(each, what)) is not None:
            yield found


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
