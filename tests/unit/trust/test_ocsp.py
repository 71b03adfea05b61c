"""OCSP responses: who may give them, about what, and for how long they hold (RFC 6960)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA224
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from eclctl.errors import KeyMaterialError
from eclctl.trust.ocsp import (
    MAX_AGE_WITHOUT_NEXT_UPDATE,
    MAX_RESPONDERS,
    MAX_RESPONSE,
    SKEW,
    build_request,
    judge,
    judge_response,
    responders,
)
from eclctl.trust.revocation import Link, Status
from tests.helpers.certificates import (
    ANY_USAGE,
    CODE_SIGNING,
    GOOD,
    NOW,
    OCSP_SIGNING,
    UNKNOWN,
    UNKNOWN_EXTENSION,
    UNKNOWN_STATUS,
    Holder,
    answer,
    authority,
    ec_key,
    extension,
    issue,
    key_usage,
    leaf,
    response,
    revoked,
    rsa_key,
    signed_with_sha1,
    tlv,
)

ROOT = authority("root")
CA = authority("issuer", ROOT)
LEAF = leaf("leaf", CA)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
GOOD_ANSWER = answer(LEAF, CA)


def delegate(issuer=CA, **options):
    usual = {"usages": [OCSP_SIGNING], "key_usage": key_usage("digital_signature")}
    return issue("responder", issuer, **{**usual, **options})


def asked(data, certificate=LEAF, issuer=CA, now=NOW, **options):
    found = judge_response(data, certificate.certificate, issuer.certificate, now=now, **options)
    assert found.reason
    assert judge(data, certificate.certificate, issuer.certificate, now=now, **options) is found.status
    return found.status


@pytest.mark.parametrize(
    ("status", "expected"),
    [(GOOD, Status.GOOD), (revoked(NOW - HOUR), Status.REVOKED), (UNKNOWN_STATUS, Status.UNKNOWN)],
)
@pytest.mark.parametrize("by_name", [True, False])
def test_what_the_issuer_says_counts(status, expected, by_name):
    assert asked(response(CA, answer(LEAF, CA, status), by_name=by_name)) is expected


def test_the_answer_says_since_when_and_until_when():
    found = judge_response(response(CA, GOOD_ANSWER), LEAF.der, CA.pem, now=NOW)
    assert (found.this_update, found.next_update) == (NOW - HOUR, NOW + 24 * HOUR)
    capped = judge_response(response(CA, GOOD_ANSWER), LEAF.der, CA.pem, now=NOW, max_age=2 * HOUR)
    assert capped.next_update == NOW + HOUR
    gone = judge_response(response(CA, answer(LEAF, CA, revoked(NOW - HOUR))), LEAF.der, CA.pem, now=NOW)
    assert gone.reason == "revoked at 2026-06-01 11:00:00 UTC"


@pytest.mark.parametrize(
    "given", [lambda holder: holder.certificate, lambda holder: holder.pem, lambda holder: holder.der]
)
def test_certificates_are_objects_or_pem_or_der(given):
    assert judge(response(CA, GOOD_ANSWER), given(LEAF), given(CA), now=NOW) is Status.GOOD


def test_what_is_given_as_a_certificate_and_is_none_is_an_error():
    for certificate, issuer in ((b"junk", CA.pem), (LEAF.pem, b"-----BEGIN CERTIFICATE-----"), (b"", CA.der)):
        with pytest.raises(KeyMaterialError):
            judge(response(CA, GOOD_ANSWER), certificate, issuer, now=NOW)


@pytest.mark.parametrize("hash_", ["sha1", "sha256", "sha512"])
def test_a_certificate_is_named_under_any_hash(hash_):
    """A SHA-1 CertID only names."""
    assert asked(response(CA, answer(LEAF, CA, hash_=hash_))) is Status.GOOD


@pytest.mark.parametrize(
    "other",
    [
        answer(leaf("leaf", CA), CA),
        answer(LEAF, CA, serial=1),
        answer(LEAF, ROOT),
        answer(LEAF, authority("issuer", ROOT)),
        answer(LEAF, authority("other", ROOT, key=CA.key)),
        answer(LEAF, CA, hash_="md5"),
    ],
    ids=["sibling", "serial", "another issuer", "another issuer key", "another issuer name", "unknown hash"],
)
def test_an_answer_about_another_certificate_is_invalid(other):
    assert asked(response(CA, other)) is Status.INVALID


def test_of_several_answers_the_one_about_the_certificate_counts():
    others = [answer(leaf(f"leaf {number}", CA), CA, revoked(NOW)) for number in range(3)]
    assert asked(response(CA, *others[:2], GOOD_ANSWER, others[2])) is Status.GOOD
    assert asked(response(CA, *others)) is Status.INVALID
    assert asked(response(CA)) is Status.INVALID


def test_answers_that_contradict_each_other_are_invalid():
    gone = answer(LEAF, CA, revoked(NOW - HOUR), hash_="sha256")
    assert asked(response(CA, GOOD_ANSWER, gone)) is Status.INVALID
    assert asked(response(CA, gone, GOOD_ANSWER)) is Status.INVALID
    assert asked(response(CA, GOOD_ANSWER, answer(LEAF, CA, hash_="sha256"))) is Status.GOOD
    stale = answer(LEAF, CA, hash_="sha256", following=NOW - SECOND)
    assert asked(response(CA, GOOD_ANSWER, stale)) is Status.INVALID


def test_a_certificate_that_the_issuer_did_not_issue_has_no_status():
    """Though the issuer's own response names it."""
    forged = leaf("leaf", authority("issuer", ROOT))
    assert asked(response(CA, answer(forged, CA)), certificate=forged) is Status.INVALID
    assert asked(response(ROOT, answer(LEAF, ROOT)), issuer=ROOT) is Status.INVALID


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("nocheck", [True, False])
def test_a_delegate_of_the_issuer_may_answer(by_name, nocheck):
    """With or without id-pkix-ocsp-nocheck: whether a delegate was revoked is not asked."""
    responder = delegate(extensions=[(x509.OCSPNoCheck(), False)] if nocheck else [])
    data = response(responder, GOOD_ANSWER, by_name=by_name, certificates=[responder])
    assert asked(data) is Status.GOOD


def test_a_delegate_is_found_among_other_certificates():
    responder = delegate()
    others = [ROOT, CA, leaf("sibling", CA), delegate(ROOT), delegate()]
    assert asked(response(responder, GOOD_ANSWER, certificates=[*others, responder])) is Status.GOOD
    assert asked(response(responder, GOOD_ANSWER, by_name=True, certificates=[*others, responder])) is Status.GOOD
    assert asked(response(responder, GOOD_ANSWER, certificates=others)) is Status.INVALID
    assert asked(response(responder, GOOD_ANSWER)) is Status.INVALID


@pytest.mark.parametrize(
    "options",
    [
        {"usages": None},
        {"usages": [CODE_SIGNING]},
        {"usages": [ANY_USAGE]},
        {"key_usage": key_usage("key_encipherment")},
        {"ca": True, "key_usage": key_usage("digital_signature", "key_cert_sign")},
        {"ends": NOW - SECOND},
        {"begins": NOW + SECOND},
        {"extensions": [(UNKNOWN_EXTENSION, True)]},
        {"issuer": ROOT},
        {"issuer": authority("issuer", ROOT)},
        {"issuer": LEAF},
        {"issuer": None},
        {"key": rsa_key(1024)},
        {"key": ec_key(ec.SECP256K1)},
    ],
    ids=[
        "no usage",
        "another usage",
        "any usage",
        "key usage",
        "an authority",
        "expired",
        "not yet valid",
        "critical extension",
        "of the root",
        "of another of that name",
        "of the certificate",
        "of itself",
        "weak RSA",
        "odd curve",
    ],
)
def test_who_is_no_delegate_of_the_issuer_may_not_answer(options):
    impostor = delegate(**options)
    for by_name in (True, False):
        data = response(impostor, GOOD_ANSWER, by_name=by_name, certificates=[impostor])
        assert asked(data) is Status.INVALID


def test_a_delegate_whose_certificate_is_signed_over_a_weak_hash_may_not_answer():
    issuer = authority("issuer", ROOT, key=rsa_key())
    certificate, responder = leaf("leaf", issuer), delegate(issuer)
    weak = signed_with_sha1(responder, issuer), delegate(issuer, hash_=SHA224())
    for signer, expected in ((responder, Status.GOOD), *((each, Status.INVALID) for each in weak)):
        data = response(signer, answer(certificate, issuer), certificates=[signer])
        assert asked(data, certificate, issuer) is expected


def test_a_delegate_of_a_revoked_issuer_s_namesake_may_not_answer():
    """The name of the issuer with another key behind it is another issuer."""
    namesake = authority("issuer", ROOT)
    responder = delegate(namesake)
    assert asked(response(responder, GOOD_ANSWER, certificates=[responder, namesake])) is Status.INVALID


def test_the_certificate_does_not_answer_for_itself():
    assert asked(response(LEAF, GOOD_ANSWER, certificates=[LEAF])) is Status.INVALID
    assert asked(response(LEAF, GOOD_ANSWER, names=CA, certificates=[LEAF])) is Status.INVALID


def test_a_delegate_does_not_answer_for_itself_either():
    """Its key would vouch for itself, and for its thief."""
    both = leaf("both", CA, usages=[CODE_SIGNING, OCSP_SIGNING])
    assert asked(response(both, GOOD_ANSWER, certificates=[both])) is Status.GOOD
    assert asked(response(both, answer(both, CA), certificates=[both]), certificate=both) is Status.INVALID
    twin = leaf("twin", CA, usages=[OCSP_SIGNING], key=both.key)
    assert asked(response(twin, answer(both, CA), certificates=[twin]), certificate=both) is Status.INVALID


def test_the_responder_id_is_the_signer_s():
    responder = delegate()
    for by_name in (True, False):
        data = response(CA, GOOD_ANSWER, names=ROOT, by_name=by_name)
        assert asked(data) is Status.INVALID
        data = response(responder, GOOD_ANSWER, names=leaf("leaf", CA), by_name=by_name, certificates=[responder])
        assert asked(data) is Status.INVALID


@pytest.mark.parametrize("key", [rsa_key, lambda: ec_key(ec.SECP384R1), ed25519.Ed25519PrivateKey.generate])
def test_responders_sign_with_rsa_ecdsa_and_ed25519(key):
    responder = delegate(key=key())
    assert asked(response(responder, GOOD_ANSWER, certificates=[responder])) is Status.GOOD


def test_a_response_signed_over_sha1_is_invalid():
    responder = delegate(key=rsa_key())
    found = response(responder, GOOD_ANSWER, certificates=[responder], sha1=True)
    assert asked(found) is Status.INVALID


def test_an_answer_is_relied_on_from_thisupdate_less_the_skew_to_nextupdate():
    data = response(CA, answer(LEAF, CA, this=NOW, following=NOW + HOUR))
    assert [asked(data, now=NOW + after) for after in (-SKEW - SECOND, -SKEW, timedelta(), HOUR, HOUR + SECOND)] == [
        Status.INVALID,
        Status.GOOD,
        Status.GOOD,
        Status.GOOD,
        Status.INVALID,
    ]


def test_without_nextupdate_an_answer_is_relied_on_for_some_days():
    data = response(CA, answer(LEAF, CA, this=NOW, following=None))
    assert asked(data, now=NOW + MAX_AGE_WITHOUT_NEXT_UPDATE) is Status.GOOD
    assert asked(data, now=NOW + MAX_AGE_WITHOUT_NEXT_UPDATE + SECOND) is Status.INVALID
    assert asked(data, now=NOW + 400 * 24 * HOUR, max_age=401 * 24 * HOUR) is Status.GOOD


def test_the_greatest_age_bounds_an_answer_whatever_its_nextupdate():
    data = response(CA, answer(LEAF, CA, this=NOW, following=NOW + 365 * 24 * HOUR))
    assert asked(data, now=NOW + 300 * 24 * HOUR) is Status.GOOD
    assert asked(data, now=NOW + HOUR, max_age=HOUR) is Status.GOOD
    assert asked(data, now=NOW + HOUR + SECOND, max_age=HOUR) is Status.INVALID
    assert asked(response(CA, answer(LEAF, CA, following=NOW - SECOND)), max_age=24 * HOUR) is Status.INVALID


def test_nextupdate_before_thisupdate_is_invalid():
    assert asked(response(CA, answer(LEAF, CA, this=NOW + SECOND, following=NOW))) is Status.INVALID


def test_what_was_revoked_and_is_stale_is_invalid():
    data = response(CA, answer(LEAF, CA, revoked(NOW - HOUR), following=NOW - SECOND))
    assert asked(data) is Status.INVALID


@pytest.mark.parametrize(("reason", "final"), [(None, True), (1, True), (6, False), (8, False)])
def test_a_revocation_is_final_unless_the_certificate_is_on_hold(reason, final):
    data = response(CA, answer(LEAF, CA, revoked(NOW - HOUR, reason)))
    found = judge_response(data, LEAF.certificate, CA.certificate, now=NOW)
    assert (found.status, found.final) == (Status.REVOKED, final)


def test_the_nonce_that_was_sent_comes_back():
    data = response(CA, GOOD_ANSWER, nonce=b"n" * 32)
    assert asked(data, nonce=b"n" * 32) is Status.GOOD
    assert asked(data, nonce=b"m" * 32) is Status.INVALID
    assert asked(data) is Status.GOOD
    assert asked(response(CA, GOOD_ANSWER), nonce=b"n" * 32) is Status.INVALID


def test_a_critical_extension_is_invalid_wherever_it_is():
    for critical, expected in ((False, Status.GOOD), (True, Status.INVALID)):
        odd = extension(UNKNOWN, b"\x05\x00", critical=critical)
        assert asked(response(CA, GOOD_ANSWER, extensions=odd)) is expected
        assert asked(response(CA, answer(LEAF, CA, extensions=odd))) is expected
        assert asked(response(CA, answer(LEAF, CA, extensions=odd, following=None))) is expected
        sibling = answer(leaf("sibling", CA), CA, extensions=odd)
        assert asked(response(CA, sibling, GOOD_ANSWER)) is expected
        gone = answer(LEAF, CA, revoked(NOW), extensions=odd)
        assert asked(response(CA, gone)) is (Status.INVALID if critical else Status.REVOKED)


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6])
def test_an_error_is_never_good(number):
    assert asked(tlv(0x30, tlv(0x0A, bytes([number])))) is Status.UNAVAILABLE


def test_an_error_with_a_good_response_in_it_is_never_good():
    good = response(CA, GOOD_ANSWER)
    assert asked(good.replace(b"\x0a\x01\x00", b"\x0a\x01\x03", 1)) is Status.UNAVAILABLE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"<html>",
        tlv(0x30, tlv(0x0A, b"\0")),
        tlv(0x30, tlv(0x0A, b"\x04")),
        tlv(0x30, tlv(0x0A, b"\x07")),
        response(CA, GOOD_ANSWER) + b"\0",
        response(CA, GOOD_ANSWER)[:-1],
        response(CA, GOOD_ANSWER).replace(bytes.fromhex("2b0601050507300101"), bytes.fromhex("2b0601050507300102"), 1),
    ],
    ids=["empty", "nul", "html", "no body", "status 4", "status 7", "trailing", "truncated", "another type"],
)
def test_what_is_no_response_is_invalid(data):
    assert asked(data) is Status.INVALID


def test_a_response_that_is_too_long_is_not_looked_at():
    padded = response(CA, GOOD_ANSWER, certificates=[ROOT] * (MAX_RESPONSE // len(ROOT.der) + 1))
    assert asked(padded) is Status.INVALID
    assert asked(response(CA, GOOD_ANSWER, certificates=[ROOT] * 4)) is Status.GOOD


def test_a_request_asks_about_the_certificate():
    link = Link(LEAF.certificate, CA.certificate)
    parsed = ocsp.load_der_ocsp_request(build_request(link, None))
    assert (parsed.serial_number, parsed.hash_algorithm.name) == (LEAF.certificate.serial_number, "sha1")
    assert len(parsed.extensions) == 0
    nonce = ocsp.load_der_ocsp_request(build_request(link, b"n" * 32)).extensions.get_extension_for_class(
        x509.OCSPNonce
    )
    assert (nonce.value.nonce, nonce.critical) == (b"n" * 32, False)


def access(*descriptions):
    found = [x509.AccessDescription(method, where) for method, where in descriptions]
    return leaf("leaf", CA, extensions=[(x509.AuthorityInformationAccess(found), False)]).certificate


def test_the_responders_are_those_that_the_certificate_names_in_order():
    uri = x509.UniformResourceIdentifier
    method = AuthorityInformationAccessOID.OCSP
    certificate = access(
        (method, uri("http://b.example/")),
        (AuthorityInformationAccessOID.CA_ISSUERS, uri("http://issuer.example/ca.der")),
        (method, x509.DNSName("ocsp.example")),
        (method, uri("http://a.example/")),
        (method, uri("http://b.example/")),
    )
    assert responders(certificate) == ("http://b.example/", "http://a.example/")
    assert responders(LEAF.certificate) == ()
    many = access(*((method, uri(f"http://{number}.example/")) for number in range(99)))
    assert len(responders(many)) == MAX_RESPONDERS


def test_a_signature_of_odd_bits_is_invalid():
    """The library drops bits that a BIT STRING leaves unused, so two encodings would be one response."""
    responder = next(each for each in iter(delegate, None) if each.der[-1] % 2 == 0)
    signature = responder.certificate.signature
    odd = responder.der.replace(b"\0" + signature, b"\1" + signature)
    twin = Holder(x509.load_der_x509_certificate(odd), responder.key)
    assert asked(response(responder, GOOD_ANSWER, certificates=[responder])) is Status.GOOD
    assert asked(response(responder, GOOD_ANSWER, certificates=[twin])) is Status.INVALID
