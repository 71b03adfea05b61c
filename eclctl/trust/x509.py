"""X.509 credentials: a certificate that signs containers, and the path from it to a root that the site trusts.

A path is found in four steps, the first three once for each credential, because they hold at all times.

1. Candidates: chains from the leaf to a root in which each certificate's issuer is the next one's subject, byte for
   byte. The leaf is never its own root, no name with its key occurs twice, and number and length are bounded.
2. For each candidate the rules of `trust.chains`: what each certificate may be used for, how deep it may reach, which
   names it constrains, how strong its signature is.
3. Signatures and the rest of RFC 5280's profile, by `cryptography.x509.verification`.
4. `Credential.path` then asks of the candidates that are left whether all of their certificates, the root too, are
   valid now.

Findings are in the words of the reference (Go's crypto/x509) where it has words for them.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from eclctl.dataclass import dataclass, field
from eclctl.errors import KeyMaterialError
from eclctl.signature.keys import MAX_CERTIFICATE_FILE, PublicKey, parse_public_key
from eclctl.terms import Finding
from eclctl.trust.chains import UNKNOWN_AUTHORITY, UNREADABLE, Chain, ReadCertificate, chains, read_certificate
from eclctl.trust.revocation import Link

MAX_CERTIFICATES = 1024
"""The most certificates that are looked at of one sort: intermediates, or roots. A system's roots are some 150."""

_BEGIN = re.compile(rb"^-----BEGIN ([^\r\n]*?)-----", re.MULTILINE)
_LABELS = frozenset({b"CERTIFICATE", b"X509 CERTIFICATE"})
_DER = b"\x30\x82"  # a SEQUENCE of 256 bytes or more


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate that signs containers, with what leads from it to trusted roots. Equal when their `id` is.

    `id` is `x509:` and the hex SHA-256 over leaf, intermediates, roots and `ocsp`, in any order.
    `fingerprint` is `sha256:<hex>` of the leaf's DER, `name` its subject (RFC 4514) and `key` its public key. `ocsp`
    says whether every certificate of the path but the root must be known not to be revoked. `source` is where the
    leaf was read, for messages. `turning_points` are the times at which `path` may begin to say something else, in
    seconds since the epoch, in order: every notBefore in the chains that could become a path, and the instant after
    every notAfter.
    """

    id: str
    leaf: x509.Certificate = field(compare=False, repr=False)
    intermediates: tuple[x509.Certificate, ...] = field(compare=False, repr=False)
    roots: tuple[x509.Certificate, ...] = field(compare=False, repr=False)
    ocsp: bool = field(compare=False)
    key: PublicKey = field(compare=False, repr=False)
    name: str = field(compare=False)
    fingerprint: str = field(compare=False)
    source: str = field(compare=False)
    _validity: tuple[datetime, datetime] = field(compare=False, repr=False)
    _chains: tuple[Chain, ...] = field(compare=False, repr=False)
    turning_points: tuple[float, ...] = field(compare=False, repr=False)

    def path(self, now: datetime) -> tuple[x509.Certificate, ...] | Finding:
        """Return a path that is valid at `now`, leaf first and root last, at least two certificates; or why none is.

        Args:
            now: Aware, UTC. A certificate is valid from its notBefore to its notAfter, both included.
        """
        chain = self._chain(now)
        return chain if isinstance(chain, Finding) else chain.certificates

    def path_links(self, now: datetime) -> tuple[Link, ...] | Finding:
        """Return what must be asked about the path, every certificate but the root; or why there is no path."""
        chain = self._chain(now)
        return chain if isinstance(chain, Finding) else chain.links

    def _chain(self, now: datetime) -> Chain | Finding:
        possible = [chain for chain in self._chains if chain.refusal is None]
        for chain in possible:
            if chain.begins <= now <= chain.ends:
                return chain
        begins, ends = self._validity
        if not begins <= now <= ends:
            return _outside(begins, ends, now)
        if possible:
            return _outside(possible[0].begins, possible[0].ends, now)
        refusals = [chain.refusal for chain in self._chains if chain.refusal is not None]
        telling = (refusal for refusal in refusals if refusal.code != UNKNOWN_AUTHORITY.code)
        return next(telling, refusals[0] if refusals else UNKNOWN_AUTHORITY)


def load_credential(
    certificate: bytes,
    intermediates: Sequence[bytes] = (),
    roots: Sequence[bytes] = (),
    *,
    ocsp: bool,
    source: str = "certificate",
) -> Credential:
    """Return the credential that PEM files make up. `Credential.path` says whether there is a path from it to a root.

    Args:
        certificate: PEM (RFC 7468 section 5). The first certificate is the signer's; more are taken as intermediates.
        intermediates: PEM files, each of one certificate or more. Nothing in them is trusted.
        roots: PEM files of those that are trusted; they need not have signed themselves.
        ocsp: Whether the path counts only when nothing in it is revoked.
        source: Where `certificate` comes from, for messages.

    Raises:
        KeyMaterialError: A file holds no certificate, too many, something else than certificates or one that cannot be
            decoded, or the signer's key is of a kind or size that does not count. The message begins with `source`.
    """
    own = _certificates([certificate], source)
    others = _unique([*own[1:], *_certificates(intermediates, f"{source}: intermediates")])
    trusted = _unique(_certificates(roots, f"{source}: roots"))
    leaf = own[0]
    found = chains(leaf, others, trusted)
    return Credential(
        id=_id(leaf, others, trusted, ocsp=ocsp),
        leaf=leaf.certificate,
        intermediates=tuple(each.certificate for each in others),
        roots=tuple(each.certificate for each in trusted),
        ocsp=ocsp,
        key=_public_key(leaf.certificate, source),
        name=leaf.certificate.subject.rfc4514_string(),
        fingerprint="sha256:" + leaf.certificate.fingerprint(SHA256()).hex(),
        source=source,
        _validity=(leaf.begins, leaf.ends),
        _chains=found,
        turning_points=_turns(leaf.certificate, found),
    )


def check_certificates(text: bytes, *, source: str = "certificates") -> None:
    """Check that a file can be given to `load_credential` as intermediates or roots, to tell which of several cannot.

    Raises:
        KeyMaterialError: As `load_credential`. The message begins with `source`.
    """
    _certificates([text], source)


def _turns(leaf: x509.Certificate, found: Iterable[Chain]) -> tuple[float, ...]:
    certificates = {leaf, *(each for chain in found if chain.refusal is None for each in chain.certificates)}
    begins = {each.not_valid_before_utc.timestamp() for each in certificates}
    ends = {math.nextafter(each.not_valid_after_utc.timestamp(), math.inf) for each in certificates}
    return tuple(sorted(begins | ends))


def _outside(begins: datetime, ends: datetime, now: datetime) -> Finding:
    """Return that some certificate is not valid at `now`; what has ended comes before what has not begun."""
    words = f"is after {_time(ends)}" if now > ends else f"is before {_time(begins)}"
    code = "certificate-expired" if now > ends else "certificate-not-yet-valid"
    message = f"x509: certificate has expired or is not yet valid: current time {_time(now)} {words}"
    return Finding(code, message)


def _time(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _certificates(files: Iterable[bytes], source: str) -> list[ReadCertificate]:
    found: list[ReadCertificate] = []
    for text in files:
        for certificate in _parsed(text, source):
            if len(found) == MAX_CERTIFICATES:
                raise KeyMaterialError(f"{source}: more than {MAX_CERTIFICATES} certificates")
            try:
                found.append(read_certificate(certificate))
            except KeyMaterialError as error:
                raise KeyMaterialError(f"{source}: certificate {len(found) + 1}: {error}") from error
    return found


def _parsed(text: bytes, source: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM file, at least one; text between the blocks is passed over."""
    if len(text) > MAX_CERTIFICATE_FILE:
        raise KeyMaterialError(f"{source}: larger than {MAX_CERTIFICATE_FILE} bytes")
    labels = _BEGIN.findall(text)
    if any(b"PRIVATE" in label for label in labels):
        raise KeyMaterialError(f"{source}: holds a private key; give the certificate that belongs to it")
    if text.startswith(_DER):
        raise KeyMaterialError(f"{source}: holds DER; convert it: openssl x509 -inform DER -in FILE -out FILE.pem")
    if not labels or not _LABELS.issuperset(labels):
        raise KeyMaterialError(f"{source}: a file of PEM blocks CERTIFICATE, and nothing else, is needed")
    try:
        found = x509.load_pem_x509_certificates(text)
    except UNREADABLE as error:
        raise KeyMaterialError(f"{source}: a certificate cannot be parsed: {error}") from error
    if len(found) != len(labels):
        raise KeyMaterialError(f"{source}: a PEM block is damaged")
    return found


def _unique(certificates: Iterable[ReadCertificate]) -> list[ReadCertificate]:
    return list({each.certificate: each for each in certificates}.values())


def _public_key(certificate: x509.Certificate, source: str) -> PublicKey:
    try:
        key = certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE as error:
        raise KeyMaterialError(f"{source}: the certificate's public key cannot be used: {error}") from error
    return parse_public_key(key, source=source)


def _id(
    leaf: ReadCertificate, intermediates: Iterable[ReadCertificate], roots: Iterable[ReadCertificate], *, ocsp: bool
) -> str:
    lines = [f"leaf {_hex(leaf)}", f"ocsp {ocsp}"]
    lines += sorted(f"intermediate {_hex(each)}" for each in intermediates)
    lines += sorted(f"root {_hex(each)}" for each in roots)
    return "x509:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hex(certificate: ReadCertificate) -> str:
    return certificate.certificate.fingerprint(SHA256()).hex()
