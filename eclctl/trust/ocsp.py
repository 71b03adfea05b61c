"""What an OCSP response is worth (RFC 6960). No I/O: the caller hands over what came back, and the time.

A response counts when all of this holds; otherwise it is `invalid`.

1. It decodes, and nothing in it is critical and not understood (section 4.4).
2. Its signer may speak for the issuer (4.2.2.2): the issuer itself, or a delegate whose certificate is in the
   response, issued directly by the issuer for OCSP signing, and valid now. The responder ID names the signer. No
   weak hash, no weak key. No certificate answers for itself, though its issuer made it a delegate.
3. It answers about this certificate: serial number and both hashes of the issuer are equal (4.1.1). A SHA-1 CertID
   only names the certificate. Several answers about it must agree.
4. thisUpdate is not in the future, but for `SKEW`; nextUpdate has not passed (4.2.2.1).
5. The nonce is the one that was sent, when one was sent (4.4.1).

A status without a signature (`tryLater`, `unauthorized`, …) says that there is no answer: `unavailable`. producedAt is
not looked at: it dates the signature, not the status. Whether a delegate was revoked is not asked, with or without
id-pkix-ocsp-nocheck: the delegate itself would have to answer. 4.2.2.2.1 leaves this open, and advises CAs to issue
delegates for a short time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    OCSPExtensionOID,
    SignatureAlgorithmOID,
)

from eclctl.errors import KeyMaterialError
from eclctl.signature.keys import parse_public_key
from eclctl.trust import der
from eclctl.trust.chains import STRONG_HASHES, UNREADABLE, read_certificate
from eclctl.trust.revocation import Link, Status

MAX_RESPONSE = 64 * 1024
"""The longest response that is looked at, in bytes."""

MAX_RESPONDERS = 8
"""The most responder URLs of one certificate that are returned."""

SKEW = timedelta(minutes=5)
"""By how much a responder's clock may be ahead."""

MAX_AGE_WITHOUT_NEXT_UPDATE = timedelta(days=7)
"""For how long after thisUpdate a response without nextUpdate is relied on, unless `max_age` says otherwise."""

_MAX_DELEGATES = 8
_RSA: Final[dict[x509.ObjectIdentifier, HashAlgorithm]] = {
    SignatureAlgorithmOID.RSA_WITH_SHA256: SHA256(),
    SignatureAlgorithmOID.RSA_WITH_SHA384: SHA384(),
    SignatureAlgorithmOID.RSA_WITH_SHA512: SHA512(),
}
_ECDSA: Final[dict[x509.ObjectIdentifier, HashAlgorithm]] = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: SHA256(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: SHA384(),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: SHA512(),
}
_TAKEN_BACK = frozenset({x509.ReasonFlags.certificate_hold, x509.ReasonFlags.remove_from_crl})
_OTHER_ERRORS = (*UNREADABLE, InvalidSignature, KeyMaterialError)
_SIGNATURE = 2  # after what is signed and the algorithm
_REQUIRED_FIELDS = 3  # of a SingleResponse: certID, certStatus, thisUpdate
_SINGLE_EXTENSIONS = 0xA1


class OcspAnswer(NamedTuple):
    """What a response is worth, and why, in one sentence.

    `this_update` and `next_update` are set for `good`, `revoked` and `unknown`: from when and until when the answer may
    be relied on, aware, UTC. `next_update` is never later than the greatest age allows. `final` is a revocation that
    nothing takes back: every one but `certificateHold` (RFC 5280 section 5.3.1).
    """

    status: Status
    reason: str
    this_update: datetime | None = None
    next_update: datetime | None = None
    final: bool = False


class _Question(NamedTuple):
    """What a response is judged against; see `judge_response`."""

    certificate: x509.Certificate
    issuer: x509.Certificate
    now: datetime
    nonce: bytes | None
    max_age: timedelta | None


class _InvalidError(Exception):
    """The response cannot be relied on."""


def judge(
    response: bytes,
    certificate: x509.Certificate | bytes,
    issuer: x509.Certificate | bytes,
    *,
    now: datetime,
    nonce: bytes | None = None,
    max_age: timedelta | None = None,
) -> Status:
    """Return what a response says of a certificate, `INVALID` when that cannot be relied on. See `judge_response`."""
    return judge_response(response, certificate, issuer, now=now, nonce=nonce, max_age=max_age).status


def judge_response(
    response: bytes,
    certificate: x509.Certificate | bytes,
    issuer: x509.Certificate | bytes,
    *,
    now: datetime,
    nonce: bytes | None = None,
    max_age: timedelta | None = None,
) -> OcspAnswer:
    """Return what a response says of a certificate, why, and for how long. Never raises for the response's sake.

    Args:
        response: DER, as it came back.
        certificate: Whose status it is; PEM or DER when it is bytes.
        issuer: Who issued `certificate`, likewise.
        now: Aware, UTC.
        nonce: What the request held; the response must then hold the same.
        max_age: The greatest age of thisUpdate, also where nextUpdate is later. Without it nextUpdate alone bounds a
            response, and one without nextUpdate may be `MAX_AGE_WITHOUT_NEXT_UPDATE` old.

    Raises:
        KeyMaterialError: `certificate` or `issuer` is bytes that hold no certificate.
    """
    question = _Question(_certificate(certificate), _certificate(issuer), now, nonce, max_age)
    try:
        return _examined(response, question)
    except _InvalidError as error:
        return OcspAnswer(Status.INVALID, str(error))
    except _OTHER_ERRORS as error:
        return OcspAnswer(Status.INVALID, f"the response cannot be decoded: {error}")


def build_request(link: Link, nonce: bytes | None) -> bytes:
    """Return the DER of a request about a certificate.

    The CertID uses SHA-1, which names the certificate and proves nothing: many responders know no other (RFC 5019
    section 2.1.1).

    Args:
        link: The certificate and its issuer.
        nonce: 1 to 128 bytes, or None to ask without (RFC 9654).
    """
    builder = ocsp.OCSPRequestBuilder().add_certificate(link.certificate, link.issuer, SHA1())  # noqa: S303 (a name)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


def responders(certificate: x509.Certificate) -> tuple[str, ...]:
    """Return the URLs of a certificate's OCSP responders, in order, each once (RFC 5280 section 4.2.2.1).

    They are as the certificate has them: the caller decides which of them it will open.
    """
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, *UNREADABLE):
        return ()
    found = (
        each.access_location.value
        for each in access
        if each.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(each.access_location, x509.UniformResourceIdentifier)
    )
    return tuple(dict.fromkeys(found))[:MAX_RESPONDERS]


def _certificate(given: x509.Certificate | bytes) -> x509.Certificate:
    if isinstance(given, x509.Certificate):
        return given
    try:
        pem = b"-----BEGIN" in given
        return x509.load_pem_x509_certificate(given) if pem else x509.load_der_x509_certificate(given)
    except UNREADABLE as error:
        raise KeyMaterialError(f"no certificate: {error}") from error


def _examined(response: bytes, question: _Question) -> OcspAnswer:
    if len(response) > MAX_RESPONSE:
        raise _InvalidError(f"the response is larger than {MAX_RESPONSE} bytes")
    parsed = ocsp.load_der_ocsp_response(response)
    if parsed.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        name = parsed.response_status.name.lower().replace("_", " ")
        return OcspAnswer(Status.UNAVAILABLE, f"the responder has no answer: {name}")
    if (why := _not_issued(question.certificate, question.issuer)) is not None:
        raise _InvalidError(f"the certificate is not the issuer's: {why}")
    _, wrapped = der.elements(der.one(response, der.SEQUENCE))
    _, basic_response = der.elements(der.one(wrapped.contents, der.SEQUENCE))  # section 4.2.1
    _require_octets(basic_response.contents)
    _require_understood(parsed)
    _require_authorized(parsed, question)
    _require_nonce(parsed, question.nonce)
    about = [answer for answer in parsed.responses if _names(answer, question)]
    if not about:
        raise _InvalidError("the response is about another certificate")
    return _answer(about, question.now, question.max_age)


def _not_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> str | None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return "the signature is another's"
    except UNREADABLE as error:
        return str(error)
    return None


def _require_octets(signed: bytes) -> None:
    """The signature of a BasicOCSPResponse or certificate is whole octets: the library reads over bits left unused."""
    signature = der.elements(der.one(signed, der.SEQUENCE))[_SIGNATURE]
    if not signature.contents.startswith(b"\0"):
        raise _InvalidError("a signature is not whole octets")


def _require_understood(response: ocsp.OCSPResponse) -> None:
    """Nothing is critical but the nonce; single extensions the library shows only where there is one answer."""
    for extension in response.extensions:
        if extension.critical and extension.oid != OCSPExtensionOID.NONCE:
            raise _InvalidError(f"the response has a critical extension {extension.oid.dotted_string}")
    if any(_critical(extensions) for extensions in _single_extensions(response.tbs_response_bytes)):
        raise _InvalidError("an answer has a critical extension")


def _single_extensions(data: bytes) -> Iterator[bytes]:
    """Yield the extensions of each answer in a ResponseData (section 4.2.1)."""
    fields = der.elements(der.one(data, der.SEQUENCE))
    answers = next(field for field in reversed(fields) if field.tag == der.SEQUENCE)
    for answer in der.elements(answers.contents):
        optional = der.elements(answer.contents)[_REQUIRED_FIELDS:]
        yield from (field.contents for field in optional if field.tag == _SINGLE_EXTENSIONS)


def _critical(extensions: bytes) -> bool:
    """Return whether one of the extensions is critical: the flag is left out when it is not (RFC 5280 section 4.1)."""
    each = der.elements(der.one(extensions, der.SEQUENCE))
    return any(field.tag == der.BOOLEAN for extension in each for field in der.elements(extension.contents))


def _require_authorized(response: ocsp.OCSPResponse, question: _Question) -> None:
    """The issuer signed it, or a delegate of the issuer did (section 4.2.2.2)."""
    reasons = []
    for signer in (question.issuer, *response.certificates[:_MAX_DELEGATES]):
        try:
            if _is_responder(response, signer):
                reason = None if signer is question.issuer else _not_delegate(signer, question)
                reason = reason or _not_signed(response, signer)
                if reason is None:
                    return
                reasons.append(reason)
        except (_InvalidError, *_OTHER_ERRORS) as error:
            reasons.append(str(error))
    raise _InvalidError(
        reasons[0] if reasons else "the responder is neither the issuer nor a delegate that is included"
    )


def _is_responder(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    """Return whether the responder ID is this certificate's: its subject, or the SHA-1 of its key (section 4.2.1)."""
    if response.responder_name is not None:
        return response.responder_name == signer.subject
    return response.responder_key_hash == x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest


def _not_delegate(signer: x509.Certificate, question: _Question) -> str | None:
    """Return why a certificate is not one of the issuer's for OCSP signing, or None when it is."""
    if (why := _not_issued(signer, question.issuer)) is not None:
        return f"the responder's certificate is not the issuer's: {why}"
    if signer.public_key() == question.certificate.public_key():
        return "the certificate answers for itself"
    _require_octets(signer.public_bytes(Encoding.DER))
    delegate = read_certificate(signer)
    if delegate.usages is None or ExtendedKeyUsageOID.OCSP_SIGNING not in delegate.usages:
        return "the responder's certificate is not for OCSP signing"
    if delegate.authority or (delegate.key_usage is not None and not delegate.key_usage.digital_signature):
        return "the responder's certificate is not for signatures"
    if delegate.unhandled is not None:
        return f"the responder's certificate has a critical extension {delegate.unhandled}"
    if delegate.hash_name not in STRONG_HASHES:
        return "the responder's certificate is signed with a weak hash"
    return None if delegate.begins <= question.now <= delegate.ends else "the responder's certificate is not valid now"


def _not_signed(response: ocsp.OCSPResponse, signer: x509.Certificate) -> str | None:
    """Return why the signature is not this signer's, by a key that counts and over a strong hash; None when it is."""
    key = signer.public_key()
    parse_public_key(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), source="the responder's key")
    algorithm, signature, data = response.signature_algorithm_oid, response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA:
            key.verify(signature, data, padding.PKCS1v15(), _RSA[algorithm])
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm in _ECDSA:
            key.verify(signature, data, ec.ECDSA(_ECDSA[algorithm]))
        elif isinstance(key, ed25519.Ed25519PublicKey) and algorithm == SignatureAlgorithmOID.ED25519:
            key.verify(signature, data)
        else:
            return f"signed with {algorithm.dotted_string}, which does not count with the responder's key"
    except InvalidSignature:
        return "the signature is not the responder's"
    return None


def _require_nonce(response: ocsp.OCSPResponse, nonce: bytes | None) -> None:
    if nonce is None:
        return
    try:
        echoed = response.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
    except x509.ExtensionNotFound:
        raise _InvalidError("the response does not hold the nonce that was sent") from None
    if echoed != nonce:
        raise _InvalidError("the response holds another nonce than was sent")


def _names(answer: ocsp.OCSPSingleResponse, question: _Question) -> bool:
    """Return whether a CertID is this certificate's (section 4.1.1): the library hashes what we hold the same way."""
    if answer.serial_number != question.certificate.serial_number:
        return False
    builder = ocsp.OCSPRequestBuilder()
    ours = builder.add_certificate(question.certificate, question.issuer, answer.hash_algorithm).build()
    return (answer.issuer_name_hash, answer.issuer_key_hash) == (ours.issuer_name_hash, ours.issuer_key_hash)


def _answer(answers: list[ocsp.OCSPSingleResponse], now: datetime, max_age: timedelta | None) -> OcspAnswer:
    if len({answer.certificate_status for answer in answers}) != 1:
        raise _InvalidError("the response contradicts itself")
    begins = max(answer.this_update_utc for answer in answers)
    ends = min(_ends(answer, max_age) for answer in answers)
    if begins > now + SKEW:
        raise _InvalidError(f"the answer is from the future: thisUpdate is {begins:%Y-%m-%d %H:%M:%S} UTC")
    if ends < now:
        raise _InvalidError(f"the answer is too old: it held until {ends:%Y-%m-%d %H:%M:%S} UTC")
    revoked = [answer for answer in answers if answer.certificate_status is ocsp.OCSPCertStatus.REVOKED]
    final = any(answer.revocation_reason not in _TAKEN_BACK for answer in revoked)
    return OcspAnswer(Status[answers[0].certificate_status.name], _words(answers[0]), begins, ends, final)


def _ends(answer: ocsp.OCSPSingleResponse, max_age: timedelta | None) -> datetime:
    """Return until when an answer may be relied on."""
    update = answer.next_update_utc
    if update is not None and update < answer.this_update_utc:
        raise _InvalidError("nextUpdate is before thisUpdate")
    if update is not None and max_age is None:
        return update
    oldest = answer.this_update_utc + (MAX_AGE_WITHOUT_NEXT_UPDATE if max_age is None else max_age)
    return oldest if update is None else min(update, oldest)


def _words(answer: ocsp.OCSPSingleResponse) -> str:
    if answer.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return "the responder says that it is good"
    if answer.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        return "the responder does not know it"
    reason = "" if answer.revocation_reason is None else f" ({answer.revocation_reason.value})"
    return f"revoked at {answer.revocation_time_utc:%Y-%m-%d %H:%M:%S} UTC{reason}"
