"""A certificate authority for tests: certificates that name a test's own responders, and responses that it signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from eclctl.trust.revocation import Link
from examples.responder import key_usage

CODE_SIGNING = (ExtendedKeyUsageOID.CODE_SIGNING,)
OCSP_SIGNING = (ExtendedKeyUsageOID.OCSP_SIGNING,)
HOUR = timedelta(hours=1)
INTERMEDIATE = 2
"""The serial number of every intermediate CA, below its own root."""


@dataclass(frozen=True)
class Issued:
    """A certificate, its key, and who issued it (itself, for a root)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    issuer: x509.Certificate

    @cached_property
    def link(self) -> Link:
        return Link(self.certificate, self.issuer)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write certificate and key; return their paths."""
        paths = folder / f"{name}.pem", folder / f"{name}-key.pem"
        for path, data in zip(paths, (self.pem, self.key_pem), strict=True):
            path.write_bytes(data)
            path.chmod(0o644)
        return paths


class Authority:
    """A root and, below it, the CA that issues; `urls` are the responders that the latter's certificate names."""

    def __init__(self, urls: Sequence[str] = (), root: Issued | None = None) -> None:
        self._number = 1000
        self.root = root or self._make("root", None, urls=(), usages=(), ca=True)
        self.intermediate = self._make("intermediate", self.root, urls=urls, usages=(), ca=True, serial=INTERMEDIATE)

    def leaf(
        self,
        name: str = "leaf",
        *,
        urls: Sequence[str] = (),
        usages: Sequence[x509.ObjectIdentifier] = CODE_SIGNING,
        key: bytes | None = None,
        names: Sequence[str] = (),
        serial: int | None = None,
    ) -> Issued:
        """Issue a certificate; `key` is a PEM private key (P-256), or a new one; `names` are hosts to serve as."""
        usages = (ExtendedKeyUsageOID.SERVER_AUTH,) if names else usages
        return self._make(
            name, self.intermediate, urls=urls, usages=usages, ca=False, key=key, names=names, serial=serial
        )

    def _make(
        self,
        name: str,
        issuer: Issued | None,
        *,
        urls: Sequence[str],
        usages: Sequence[x509.ObjectIdentifier],
        ca: bool,
        key: bytes | None = None,
        names: Sequence[str] = (),
        serial: int | None = None,
    ) -> Issued:
        own = ec.generate_private_key(ec.SECP256R1()) if key is None else load_pem_private_key(key, None)
        assert isinstance(own, ec.EllipticCurvePrivateKey)
        signing = own if issuer is None else issuer.key
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC).replace(microsecond=0)
        self._number += 1
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(own.public_key())
            .serial_number(serial or self._number)
            .not_valid_before(now - 24 * HOUR)
            .not_valid_after(now + 24 * 365 * HOUR)
            .add_extension(x509.BasicConstraints(ca, None), critical=True)
            .add_extension(key_usage(ca=ca), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            hosts = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
            builder = builder.add_extension(hosts, critical=False)
        if urls:
            builder = builder.add_extension(_access(urls), critical=False)
        certificate = builder.sign(signing, SHA256())
        return Issued(certificate, own, certificate if issuer is None else issuer.certificate)

    def response(
        self,
        subject: Issued,
        status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        nonce: bytes | None = None,
    ) -> bytes:
        """Sign, as the issuer of a leaf or of the intermediate, what a responder would say of it."""
        signer = self.root if subject is self.intermediate else self.intermediate
        since = since or datetime.now(UTC).replace(microsecond=0)
        revoked = status is ocsp.OCSPCertStatus.REVOKED
        builder = (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=subject.certificate,
                issuer=signer.certificate,
                algorithm=SHA1(),
                cert_status=status,
                this_update=since,
                next_update=until or since + HOUR,
                revocation_time=since if revoked else None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
        )
        if nonce is not None:
            builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
        return builder.sign(signer.key, SHA256()).public_bytes(Encoding.DER)


def _access(urls: Sequence[str]) -> x509.AuthorityInformationAccess:
    return x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(url))
            for url in urls
        ]
    )
