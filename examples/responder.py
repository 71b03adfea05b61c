"""A certificate authority for an afternoon, and its OCSP responder on loopback.

The demonstration's images are signed by a key of theirs. The authority is made anew each time, certifies that key, and
answers whether the certificate is still good, until it is told that it is not.
"""

from __future__ import annotations

import base64
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def key_usage(*, ca: bool) -> x509.KeyUsage:
    """Return what a key may be used for: signatures, and for an authority also certificates."""
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class Authority:
    """A root that certifies one key for code signing. `revoke` is what a site does when that key is lost."""

    def __init__(self, public_key: Path, responder: str, fresh: timedelta) -> None:
        self._fresh = fresh
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.revoked_at: datetime | None = None
        self.root = self._issue("Demonstration root", self._key.public_key(), [])
        place = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(responder))
        release = load_pem_public_key(public_key.read_bytes())
        assert isinstance(release, ec.EllipticCurvePublicKey)
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        self.leaf = self._issue("Release team", release, [usages, x509.AuthorityInformationAccess([place])])

    def _issue(
        self, common: str, key: ec.EllipticCurvePublicKey, extensions: list[x509.ExtensionType]
    ) -> x509.Certificate:
        now, own = datetime.now(UTC), not extensions
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common))
            .issuer_name(_name("Demonstration root"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=own, path_length=0 if own else None), critical=True)
            .add_extension(key_usage(ca=own), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self._key, SHA256())

    def write(self, folder: Path) -> None:
        """Write release.pem and root.pem."""
        folder.mkdir()
        (folder / "release.pem").write_bytes(self.leaf.public_bytes(Encoding.PEM))
        (folder / "root.pem").write_bytes(self.root.public_bytes(Encoding.PEM))

    def revoke(self) -> None:
        """From now on every answer says so."""
        self.revoked_at = datetime.now(UTC)

    def answer(self, request: bytes) -> bytes:
        """Return the OCSP response to a request, both DER (RFC 6960)."""
        asked = ocsp.load_der_ocsp_request(request)
        if asked.serial_number != self.leaf.serial_number:
            refusal = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.UNAUTHORIZED)
            return refusal.public_bytes(Encoding.DER)
        now = datetime.now(UTC)
        response = ocsp.OCSPResponseBuilder().add_response(
            cert=self.leaf,
            issuer=self.root,
            algorithm=asked.hash_algorithm,
            cert_status=ocsp.OCSPCertStatus.REVOKED if self.revoked_at else ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + self._fresh,
            revocation_time=self.revoked_at,
            revocation_reason=x509.ReasonFlags.key_compromise if self.revoked_at else None,
        )
        responder = response.responder_id(ocsp.OCSPResponderEncoding.HASH, self.root)
        return responder.sign(self._key, SHA256()).public_bytes(Encoding.DER)


class _Handler(BaseHTTPRequestHandler):
    authority: Authority

    def do_POST(self) -> None:
        self._reply(self.rfile.read(int(self.headers["Content-Length"])))

    def do_GET(self) -> None:
        self._reply(base64.b64decode(urllib.parse.unquote(self.path.rpartition("/")[2])))

    def _reply(self, request: bytes) -> None:
        body = self.authority.answer(request)
        self.send_response(200)
        self.send_header("Content-Type", "application/ocsp-response")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def authority(public_key: Path, fresh: timedelta) -> Iterator[Authority]:
    """Make an authority for a public key (PEM), and answer for it until the end; each answer is good for `fresh`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    made = _Handler.authority = Authority(public_key, f"http://127.0.0.1:{server.server_address[1]}", fresh)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
