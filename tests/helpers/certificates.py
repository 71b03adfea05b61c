"""X.509 certificates and OCSP responses for tests, with any errors in them.

Certificates are built by the library. OCSP responses are put together from DER here, because the library writes one
answer at a time and refuses to write most of what a verifier must refuse to read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

BEGINS = datetime(2026, 1, 1, tzinfo=UTC)
ENDS = datetime(2027, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)

CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
ANY_USAGE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
OCSP_SIGNING = ExtendedKeyUsageOID.OCSP_SIGNING
UNKNOWN_EXTENSION = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_RSA = {bits: rsa.generate_private_key(65537, bits) for bits in (1024, 2048)}


def rsa_key(bits: int = 2048):
    """An RSA key, the same one each time: to make one takes long."""
    return _RSA[bits]


def ec_key(curve=ec.SECP256R1):
    return ec.generate_private_key(curve())


def key_usage(*usages: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in usages for name in _USAGES})


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Holder:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: object

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(self, name: str, **options) -> Holder:
        return issue(name, self, **options)


def issue(
    name,
    issuer: Holder | None = None,
    *,
    key=None,
    ca: bool | None = False,
    path_length: int | None = None,
    usages=None,
    key_usage: x509.KeyUsage | None = None,
    extensions=(),
    begins: datetime = BEGINS,
    ends: datetime = ENDS,
    hash_: HashAlgorithm | None = None,
    serial: int | None = None,
) -> Holder:
    """Issue a certificate, self-signed without an issuer. `ca` None leaves basicConstraints out."""
    key = key or ec_key()
    subject = name if isinstance(name, x509.Name) else common_name(name)
    signer = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length), critical=True)
    if usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return Holder(builder.sign(signer, None if _is_ed25519(signer) else hash_ or SHA256()), key)


def authority(name, issuer: Holder | None = None, **options) -> Holder:
    """An authority as they usually are: CA bit, and a key usage for certificates."""
    return issue(name, issuer, **{"ca": True, "key_usage": key_usage("key_cert_sign", "crl_sign"), **options})


def leaf(name, issuer: Holder | None, **options) -> Holder:
    """A certificate for code signing as they usually are."""
    return issue(name, issuer, **{"usages": [CODE_SIGNING], "key_usage": key_usage("digital_signature"), **options})


def signed_with_sha1(holder: Holder, issuer: Holder) -> Holder:
    """The same certificate under an RSA signature over SHA-1, which the library refuses to make."""
    old, new = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    data = holder.certificate.tbs_certificate_bytes.replace(old, new)
    signature = issuer.key.sign(data, padding.PKCS1v15(), SHA1())
    return Holder(
        x509.load_der_x509_certificate(tlv(0x30, data, tlv(0x30, new, b"\x05\x00"), bits(signature))), holder.key
    )


def tlv(tag: int, *parts: bytes) -> bytes:
    """An element of DER."""
    contents = b"".join(parts)
    size = len(contents)
    length = bytes([size]) if size < 128 else size.to_bytes((size.bit_length() + 7) // 8, "big")
    prefix = b"" if size < 128 else bytes([0x80 | len(length)])
    return bytes([tag]) + prefix + length + contents


def bits(contents: bytes) -> bytes:
    return tlv(0x03, b"\0" + contents)


def generalized(time: datetime) -> bytes:
    return tlv(0x18, time.strftime("%Y%m%d%H%M%SZ").encode())


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    flag = b"\x01\x01\xff" if critical else b""
    return tlv(0x30, bytes.fromhex(oid), flag, tlv(0x04, value))


UNKNOWN = "06092b0601040183b20301"  # an OID that has no meaning
NONCE = "06092b0601050507300102"
GOOD = tlv(0x80)
UNKNOWN_STATUS = tlv(0x82)
_HASHES = {
    "md5": "06082a864886f70d0205",
    "sha1": "06052b0e03021a",
    "sha256": "0609608648016503040201",
    "sha512": "0609608648016503040203",
}
_ECDSA_SHA256 = bytes.fromhex("06082a8648ce3d040302")
_RSA_SHA256 = bytes.fromhex("06092a864886f70d01010b0500")
_RSA_SHA1 = bytes.fromhex("06092a864886f70d0101050500")
_ED25519 = bytes.fromhex("06032b6570")


def revoked(time: datetime, reason: int | None = None) -> bytes:
    """A CertStatus; `reason` is a CRLReason (RFC 5280 section 5.3.1)."""
    why = b"" if reason is None else tlv(0xA0, tlv(0x0A, bytes([reason])))
    return tlv(0xA1, generalized(time), why)


def key_bits(certificate: x509.Certificate) -> bytes:
    """The contents of the BIT STRING subjectPublicKey."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def answer(
    certificate: Holder,
    issuer: Holder,
    status: bytes = GOOD,
    *,
    this: datetime = NOW - timedelta(hours=1),
    following: datetime | None = NOW + timedelta(days=1),
    hash_: str = "sha1",
    serial: int | None = None,
    extensions: bytes = b"",
) -> bytes:
    """A SingleResponse (RFC 6960 section 4.2.1)."""
    digest = lambda data: tlv(0x04, hashlib.new(hash_, data).digest())  # noqa: E731
    number = certificate.certificate.serial_number if serial is None else serial
    certificate_id = tlv(
        0x30,
        tlv(0x30, bytes.fromhex(_HASHES[hash_]), b"\x05\x00"),
        digest(issuer.certificate.subject.public_bytes()),
        digest(key_bits(issuer.certificate)),
        tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big")),
    )
    optional = b"" if following is None else tlv(0xA0, generalized(following))
    if extensions:
        optional += tlv(0xA1, tlv(0x30, extensions))
    return tlv(0x30, certificate_id, status, generalized(this), optional)


def response(
    signer: Holder,
    *answers: bytes,
    by_name: bool = False,
    names: Holder | None = None,
    certificates=(),
    nonce: bytes | None = None,
    extensions: bytes = b"",
    sha1: bool = False,
) -> bytes:
    """An OCSPResponse with a BasicOCSPResponse, signed. `names` is who it says made it, by default the signer."""
    named = (names or signer).certificate
    key_hash = hashlib.sha1(key_bits(named)).digest()
    responder = tlv(0xA1, named.subject.public_bytes()) if by_name else tlv(0xA2, tlv(0x04, key_hash))
    if nonce is not None:
        extensions += extension(NONCE, tlv(0x04, nonce))
    tail = tlv(0xA1, tlv(0x30, extensions)) if extensions else b""
    data = tlv(0x30, responder, generalized(NOW), tlv(0x30, *answers), tail)
    algorithm, signature = _sign(signer.key, data, sha1=sha1)
    included = tlv(0xA0, tlv(0x30, *(each.der for each in certificates))) if certificates else b""
    basic = tlv(0x30, data, tlv(0x30, algorithm), bits(signature), included)
    body = tlv(0x30, bytes.fromhex("06092b0601050507300101"), tlv(0x04, basic))
    return tlv(0x30, tlv(0x0A, b"\0"), tlv(0xA0, body))


def _sign(key, data: bytes, *, sha1: bool) -> tuple[bytes, bytes]:
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = _RSA_SHA1 if sha1 else _RSA_SHA256
        return algorithm, key.sign(data, padding.PKCS1v15(), SHA1() if sha1 else SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _ECDSA_SHA256, key.sign(data, ec.ECDSA(SHA256()))
    return _ED25519, key.sign(data)


def _is_ed25519(key) -> bool:
    return isinstance(key, ed25519.Ed25519PrivateKey)
