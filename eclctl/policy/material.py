"""The files that signers name: PEM keys, and certificates with the chains above them. Each file is read once."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from eclctl.config import document
from eclctl.config.document import Node, Report, Scalar
from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.signature.keys import PublicKey, parse_public_key
from eclctl.terms import Finding, SignerKind
from eclctl.text import printable_message, quoted
from eclctl.trust.signer_types import SIGNER_TYPES
from eclctl.trust.signer_types.cosign_key import cosign_name

if TYPE_CHECKING:
    from cryptography import x509

    from eclctl.trust.x509 import Credential

CERTIFICATE_KEYS = ("file", "intermediates", "roots", "ocsp")
_IS_CERTIFICATE = "list a certificate under certificate: {file: LEAF.pem, roots: [ROOT.pem]}"
_IS_KEY = "list a public key under key, or under cosign when it signs OCI images with cosign"


@dataclass(slots=True)
class SignerFiles:
    """Everything that the signers' files hold, by the names that signatures are known under (`KeyRef.id`).

    `read` returns the content of a file and raises OSError or an EclctlError. `now` is when certificates are looked at,
    for warnings alone. `files` has the content of all files, by path, in the order in which they were first named.
    `listed` is by kind and name.
    """

    read: Callable[[str], bytes]
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
        listed = self.listed.setdefault(kind, {})
        return listed.setdefault(name, value) is value

    def pem(self, entry: Scalar) -> str | None:
        """Take a file with a key for DSSE signatures; return the key's name, or None when an error was reported."""
        key = self._key(entry)
        if key is None:
            return None
        self.take(SignerKind.KEY, key.id, key)
        return key.id

    def cosign_key(self, entry: Scalar) -> str | None:
        """Take a file with a key for cosign signatures; return the key's name, or None when an error was reported."""
        key = self._key(entry)
        if key is None:
            return None
        self.take(SignerKind.COSIGN, name := cosign_name(key), key)
        return name

    def certificate(self, node: Node, what: str) -> tuple[Scalar, str] | None:
        """Take a certificate of the signer `what`; return its file and its name, or None when an error was reported."""
        where = f"certificate of {what}"
        if isinstance(node, Scalar):
            shape = f"write {{file: {quoted(node.text)}, roots: [ROOT.pem]}}"
            self.report.error(node, f"{where} must be a mapping, and is {quoted(node.text)}", shape)
            return None
        fields = document.mapping(node, self.report, where, CERTIFICATE_KEYS, ("file", "roots")) or {}
        leaf = self._file(fields["file"], f"file in {where}") if "file" in fields else None
        own = None if leaf is None else self._certificates(leaf)
        intermediates = self._chain(fields.get("intermediates"), f"intermediates in {where}")
        roots = self._chain(fields.get("roots"), f"roots in {where}")
        ocsp = self._ocsp(fields.get("ocsp"), where)
        if leaf is None or own is None or intermediates is None or not roots or ocsp is None:
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

    def _file(self, node: Node, what: str) -> Scalar | None:
        found = document.text(node, self.report, what)
        return node if found is not None and isinstance(node, Scalar) else None

    def _list(self, node: Node, what: str) -> tuple[Scalar, ...] | None:
        """Take a file, or a list of them."""
        if isinstance(node, Scalar):
            one = self._file(node, what)
            return None if one is None else (one,)
        return document.texts(node, self.report, what)

    def _ocsp(self, node: Node | None, where: str) -> str | None:
        return "require" if node is None else document.choice(node, self.report, f"ocsp in {where}", ("require", "off"))

    def _chain(self, node: Node | None, what: str) -> list[bytes] | None:
        """Take files of certificates and return what they hold; None when one of them cannot be used."""
        entries = () if node is None else self._list(node, what)
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
        found = credential.path(self.now)
        if isinstance(found, Finding):
            self.report.warning(entry, f"no signature {by} counts now: {found.message}")
        chain = (credential.leaf,) if isinstance(found, Finding) else found[:-1]
        silent = next((each for each in chain if not _can_be_asked_about(each)), None)
        if credential.ocsp and silent is not None:
            name = quoted(silent.subject.rfc4514_string())
            message = f"no signature {by} can ever count: ocsp is required, and {name} names no OCSP responder"
            self.report.warning(entry, message, "get certificates that name one, or write ocsp: off")

    def _key(self, entry: Scalar) -> PublicKey | None:
        content = self._content(entry, "key")
        if content is None:
            return None
        try:
            return parse_public_key(content, source=printable_message(entry.text))
        except KeyMaterialError as error:
            self._unusable(entry, "key", error)
            return None

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
        self.report.error(entry, message, self._advice(entry, sort))

    def _advice(self, entry: Scalar, sort: str) -> str | None:
        """Return where to list a file that was listed as something else than it is."""
        content = self.files.get(os.path.join(os.path.dirname(entry.mark.file), entry.text), b"")
        if sort == "key" and b"-----BEGIN CERTIFICATE-----" in content:
            return _IS_CERTIFICATE
        return _IS_KEY if sort == "certificate" and b"-----BEGIN PUBLIC KEY-----" in content else None


def _can_be_asked_about(certificate: x509.Certificate) -> bool:
    """Tell whether a certificate names a responder that speaks HTTP."""
    from eclctl.trust.ocsp import responders  # noqa: PLC0415 - only a certificate needs X.509

    return any(url.lower().startswith(("http://", "https://")) for url in responders(certificate))
