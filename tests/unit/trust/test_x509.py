"""Credentials: what files they are made of, and when there is a path to a root."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from eclctl.errors import KeyMaterialError
from eclctl.terms import Finding
from eclctl.trust.x509 import MAX_CERTIFICATES, check_certificates, load_credential
from tests.helpers.certificates import BEGINS, CODE_SIGNING, ENDS, NOW, authority, ec_key, issue, leaf, rsa_key
from tests.helpers.support import CORPUS

KEYS = CORPUS / "keys" / "x509"
ROOT = authority("root")
MIDDLE = authority("middle", ROOT, path_length=0)
LEAF = leaf("leaf", MIDDLE)
SECOND = timedelta(seconds=1)


def credential(certificate=LEAF, intermediates=(MIDDLE,), roots=(ROOT,), *, ocsp=False):
    return load_credential(
        certificate.pem, [each.pem for each in intermediates], [each.pem for each in roots], ocsp=ocsp, source="ci.pem"
    )


def pem(name):
    return (KEYS / name).read_bytes()


def test_the_path_is_leaf_first_and_root_last():
    found = credential().path(NOW)
    assert found == (LEAF.certificate, MIDDLE.certificate, ROOT.certificate)


def test_a_credential_says_who_it_is():
    loaded = credential()
    assert loaded.id.startswith("x509:")
    assert loaded.fingerprint == "sha256:" + hashlib.sha256(LEAF.der).hexdigest()
    assert (loaded.name, loaded.source, loaded.key.algorithm) == ("CN=leaf", "ci.pem", "P-256")
    assert loaded.leaf == LEAF.certificate


def test_the_id_depends_on_what_is_in_the_files_and_not_on_its_order():
    other = authority("other")
    one = credential(intermediates=(MIDDLE, other), roots=(ROOT, other))
    assert one.id == credential(intermediates=(other, MIDDLE, other), roots=(other, ROOT)).id
    different = [
        credential(),
        credential(intermediates=(MIDDLE, other)),
        credential(roots=(ROOT, other)),
        credential(intermediates=(MIDDLE, other), roots=(ROOT, other), ocsp=True),
        credential(leaf("leaf", MIDDLE), intermediates=(MIDDLE, other), roots=(ROOT, other)),
    ]
    assert len({one.id, *(each.id for each in different)}) == len(different) + 1


def test_a_root_among_the_intermediates_is_not_trusted():
    assert credential(intermediates=(MIDDLE, ROOT), roots=()).path(NOW).code == "unknown-authority"


def test_the_certificate_s_own_file_may_hold_the_intermediates():
    loaded = load_credential(LEAF.pem + MIDDLE.pem, [], [ROOT.pem], ocsp=False)
    assert loaded.leaf == LEAF.certificate
    assert len(loaded.path(NOW)) == 3


def test_an_authority_that_did_not_sign_itself_may_be_a_root():
    assert credential(intermediates=(), roots=(MIDDLE,)).path(NOW) == (LEAF.certificate, MIDDLE.certificate)


def test_text_between_certificates_is_passed_over():
    text = b"Subject: another\n" + LEAF.pem + b"\nmore\n" + MIDDLE.pem
    assert len(load_credential(text, [], [], ocsp=False).intermediates) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "PEM blocks CERTIFICATE"),
        (b"junk", "PEM blocks CERTIFICATE"),
        (LEAF.der, "openssl x509 -inform DER"),
        (pem("leaf-key.pem"), "private key"),
        (LEAF.pem + pem("leaf-key.pem"), "private key"),
        ((CORPUS / "keys" / "pem" / "p256-public.pem").read_bytes(), "PEM blocks CERTIFICATE"),
        (LEAF.pem[:-40], "cannot be parsed"),
        (LEAF.pem + MIDDLE.pem[:60], "damaged"),
        (LEAF.pem.replace(b"BEGIN CERT", b"BEGIN TRUSTED CERT").replace(b"END CERT", b"END TRUSTED CERT"), "PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be parsed"),
        (b" " * (4 * 1024 * 1024 + 1), "larger than"),
    ],
    ids=range(11),
)
def test_a_file_of_something_else_is_refused_by_name(text, words):
    with pytest.raises(KeyMaterialError, match=words) as caught:
        load_credential(text, [], [], ocsp=False, source="ci.pem")
    assert str(caught.value).startswith("ci.pem: ")
    for intermediates, roots in (([text], []), ([], [text])):
        with pytest.raises(KeyMaterialError, match=words) as caught:
            load_credential(LEAF.pem, intermediates, roots, ocsp=False, source="ci.pem")
        assert str(caught.value).startswith("ci.pem: ")


@pytest.mark.parametrize(
    ("key", "words"),
    [(lambda: rsa_key(1024), "1024 bits"), (lambda: ec_key(ec.SECP256K1), "curve")],
    ids=["rsa1024", "secp256k1"],
)
def test_a_certificate_for_a_key_that_does_not_count_is_refused(key, words):
    weak = leaf("weak", ROOT, key=key())
    with pytest.raises(KeyMaterialError, match=words):
        load_credential(weak.pem, [], [ROOT.pem], ocsp=False)


def test_too_many_certificates_are_refused():
    many = MIDDLE.pem * (MAX_CERTIFICATES + 1)
    with pytest.raises(KeyMaterialError, match="more than 1024 certificates"):
        load_credential(LEAF.pem, [many], [], ocsp=False)
    with pytest.raises(KeyMaterialError, match="more than 1024 certificates"):
        load_credential(LEAF.pem, [], [MIDDLE.pem * MAX_CERTIFICATES, ROOT.pem], ocsp=False)


def test_certificates_of_a_file_can_be_checked_by_themselves():
    check_certificates(ROOT.pem, source="roots.pem")
    with pytest.raises(KeyMaterialError, match=r"^roots\.pem: "):
        check_certificates(b"junk", source="roots.pem")


@pytest.mark.parametrize("late", ["leaf", "middle", "root"])
@pytest.mark.parametrize("end", ["begin", "end"])
def test_every_certificate_of_the_path_is_valid_at_the_instant_asked(late, end):
    """Leaf, intermediate and root alike, from the first second to the last."""
    limits = {"begins": NOW} if end == "begin" else {"ends": NOW}
    of = lambda name: limits if name == late else {}  # noqa: E731
    root = authority("root", **of("root"))
    middle = authority("middle", root, **of("middle"))
    loaded = credential(leaf("leaf", middle, **of("leaf")), (middle,), (root,))
    instant = timedelta(microseconds=1)
    inside, outside = (NOW, NOW - instant) if end == "begin" else (NOW, NOW + instant)
    assert len(loaded.path(inside)) == 3
    refused = loaded.path(outside)
    words = "before 2026-06-01T12:00:00Z" if end == "begin" else "after 2026-06-01T12:00:00Z"
    assert refused.message.startswith("x509: certificate has expired or is not yet valid: current time 2026-06-01T")
    assert refused.message.endswith(words)
    assert refused.code == ("certificate-not-yet-valid" if end == "begin" else "certificate-expired")


def test_certificates_that_are_never_valid_together_are_no_path_at_any_time():
    middle = authority("middle", ROOT, ends=NOW)
    loaded = credential(leaf("leaf", middle, begins=NOW + SECOND), (middle,))
    for hours in range(-24, 25):
        assert isinstance(loaded.path(NOW + timedelta(hours=hours)), Finding)


def test_an_expired_intermediate_beside_one_that_is_renewed_does_no_harm():
    key = ec_key()
    old, new = (authority("middle", ROOT, key=key, ends=ends) for ends in (BEGINS + SECOND, ENDS))
    loaded = credential(leaf("leaf", new), (old, new))
    assert loaded.path(NOW) == (loaded.leaf, new.certificate, ROOT.certificate)


def test_the_turning_points_are_where_the_answer_may_change():
    first, last = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
    middle = authority("middle", ROOT, begins=first)
    loaded = credential(leaf("leaf", middle, ends=last), (middle,))
    points = loaded.turning_points
    assert list(points) == sorted(points)
    assert loaded.path_links(first)[0].issuer == middle.certificate
    assert {first.timestamp(), math.nextafter(last.timestamp(), math.inf)} <= set(points)
    between = [first - SECOND, first, last, last + SECOND]
    assert [not isinstance(loaded.path(time), Finding) for time in between] == [False, True, True, False]


def test_a_certificate_without_a_chain_turns_with_its_own_dates_alone():
    assert credential(roots=()).turning_points == (
        BEGINS.timestamp(),
        math.nextafter(ENDS.timestamp(), math.inf),
    )


def test_of_several_files_the_certificate_that_cannot_be_read_is_told():
    twice = issue("twice", ROOT, usages=[CODE_SIGNING])
    broken = twice.der.replace(bytes.fromhex("551d25"), bytes.fromhex("551d13"))  # two basicConstraints
    text = x509.load_der_x509_certificate(broken).public_bytes(Encoding.PEM)
    with pytest.raises(KeyMaterialError, match="roots: certificate 2: the certificate cannot be decoded"):
        load_credential(LEAF.pem, [], [ROOT.pem, text], ocsp=False)


def test_what_must_be_asked_about_is_all_of_the_path_but_the_root():
    found = credential().path_links(NOW)
    assert [(link.certificate, link.issuer) for link in found] == [
        (LEAF.certificate, MIDDLE.certificate),
        (MIDDLE.certificate, ROOT.certificate),
    ]
    assert credential(roots=()).path_links(NOW) == credential(roots=()).path(NOW)
