"""Attacks on certificates and on OCSP responses: each test is named after its line of the attack list.

Images are signed with the key of a certificate made here, verified for real, and put to a policy that trusts its root.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from eclctl.model import Code
from eclctl.trust.ocsp import judge
from eclctl.trust.revocation import Status
from tests.helpers import deciding
from tests.helpers.certificates import (
    ANY_USAGE,
    CODE_SIGNING,
    OCSP_SIGNING,
    SERVER_AUTH,
    Holder,
    answer,
    authority,
    key_usage,
    leaf,
    response,
    revoked,
    tlv,
)
from tests.helpers.sifbuilder import corpus_pgp_key, pem_key, sample
from tests.helpers.support import CORPUS, NOW

POLICY = """version: 1
signers:
  release:
    certificate: {file: signer.pem, intermediates: between.pem, roots: trusted.pem, ocsp: off}
rules: [{name: it, require: [{any_of: [release]}]}]
"""
KEY = pem_key("p256")
ROOT = authority("root")
MIDDLE = authority("middle", ROOT, path_length=0)
LEAF = leaf("leaf", MIDDLE, key=KEY.private)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def code(signer: Holder, *between: Holder, root: Holder = ROOT, image=None, policy: str = POLICY) -> Code:
    """What is decided of an image that the signer's key signed."""
    if image is None:
        image = sample()
        image.sign_dsse(KEY)
    chain = b"".join(each.pem for each in between) or root.pem
    files = {"signer.pem": signer.pem, "between.pem": chain, "trusted.pem": root.pem}
    return deciding.ask(image, policy, files=files).code


def signer(issuer: Holder = MIDDLE, **options) -> Holder:
    return leaf("leaf", issuer, key=KEY.private, **options)


def test_x509_a_certificate_with_a_path_to_the_root_is_trusted():
    assert code(LEAF, MIDDLE) is Code.REQUIREMENTS_MET


@pytest.mark.parametrize("usages", [None, [SERVER_AUTH], [OCSP_SIGNING]])
def test_x509_no_or_wrong_usage_is_not_trusted(usages):
    assert code(signer(usages=usages), MIDDLE) is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize("usages", [[CODE_SIGNING], [ANY_USAGE]])
def test_x509_a_usage_that_the_issuer_does_not_have_is_not_trusted(usages):
    narrow = authority("middle", ROOT, usages=[SERVER_AUTH])
    assert code(signer(narrow, usages=usages), narrow) is Code.REQUIREMENTS_NOT_MET


def test_x509_a_key_that_is_not_for_signatures_is_not_trusted():
    assert code(signer(key_usage=key_usage("key_agreement")), MIDDLE) is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize("ca", [False, None])
def test_x509_an_issuer_without_the_ca_bit_is_not_trusted(ca):
    middle = authority("middle", ROOT, ca=ca)
    assert code(signer(middle), middle) is Code.REQUIREMENTS_NOT_MET
    root = authority("root", ca=ca)
    assert code(signer(root), root=root) is Code.REQUIREMENTS_NOT_MET


def test_x509_a_signer_that_issues_a_certificate_to_another_is_not_trusted():
    """Who may sign containers may not say who else may."""
    release = leaf("release", MIDDLE)
    assert code(signer(release), release, MIDDLE) is Code.REQUIREMENTS_NOT_MET


def test_x509_an_authority_that_signs_containers_itself_is_not_trusted():
    middle = authority("middle", ROOT, key=KEY.private, usages=[CODE_SIGNING])
    assert code(middle, root=ROOT) is Code.REQUIREMENTS_NOT_MET


def test_x509_an_authority_beyond_the_path_length_is_not_trusted():
    lower = authority("lower", MIDDLE)
    assert code(signer(lower), lower, MIDDLE) is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize(
    "dates", [{"ends": NOW - HOUR}, {"begins": NOW + HOUR, "ends": NOW + DAY}], ids=["expired", "not yet"]
)
@pytest.mark.parametrize("where", ["root", "middle", "leaf"])
def test_x509_expired_or_not_yet_valid_anywhere_is_not_trusted(where, dates):
    root = authority("root", **(dates if where == "root" else {}))
    middle = authority("middle", root, **(dates if where == "middle" else {}))
    release = signer(middle, **(dates if where == "leaf" else {}))
    assert code(release, middle, root=root) is Code.REQUIREMENTS_NOT_MET


def test_x509_another_root_of_the_same_name_is_not_trusted():
    assert code(LEAF, MIDDLE, root=authority("root")) is Code.REQUIREMENTS_NOT_MET


def test_x509_a_root_that_comes_with_the_certificate_is_not_trusted():
    other = authority("other")
    assert code(signer(other), other) is Code.REQUIREMENTS_NOT_MET


def test_x509_a_certificate_that_is_its_own_root_is_not_trusted():
    own = leaf("leaf", None, key=KEY.private)
    assert code(own, root=own) is Code.REQUIREMENTS_NOT_MET


def test_x509_a_certificate_over_another_s_key_signs_nothing():
    """Certificates are public: a person who has one has no signature by its key."""
    image = sample()
    image.sign_dsse(pem_key("stranger"))
    assert code(LEAF, MIDDLE, image=image) is not Code.REQUIREMENTS_MET
    image = sample()
    image.sign_pgp(corpus_pgp_key("builder"))
    assert code(LEAF, MIDDLE, image=image) is not Code.REQUIREMENTS_MET


def test_x509_without_a_responder_what_must_be_asked_is_not_trusted():
    assert code(LEAF, MIDDLE, policy=POLICY.replace(", ocsp: off", "")) is Code.REQUIREMENTS_NOT_MET


GOOD = answer(LEAF, MIDDLE, this=NOW - HOUR, following=NOW + DAY)
OTHER_CA = authority("middle", authority("other"))


def status(data: bytes) -> Status:
    return judge(data, LEAF.certificate, MIDDLE.certificate, now=NOW)


def responder(issuer: Holder, **options) -> Holder:
    return leaf("responder", issuer, **{"usages": [OCSP_SIGNING], **options})


def test_ocsp_what_the_issuer_signed_is_good():
    assert status(response(MIDDLE, GOOD)) is Status.GOOD


def test_ocsp_what_the_issuer_revoked_is_revoked():
    gone = answer(LEAF, MIDDLE, revoked(NOW - HOUR), this=NOW - HOUR, following=NOW + DAY)
    assert status(response(MIDDLE, gone)) is Status.REVOKED


def test_ocsp_forged_is_never_good():
    data = bytearray(response(MIDDLE, GOOD))
    data[-1] ^= 1
    assert status(bytes(data)) is Status.INVALID
    assert status(response(OTHER_CA, GOOD, names=MIDDLE)) is Status.INVALID


@pytest.mark.parametrize("times", [(-2 * DAY, -DAY), (-8 * DAY, None), (HOUR, DAY)], ids=["stale", "old", "future"])
def test_ocsp_stale_or_from_the_future_is_never_good(times):
    this, following = times
    until = None if following is None else NOW + following
    assert status(response(MIDDLE, answer(LEAF, MIDDLE, this=NOW + this, following=until))) is Status.INVALID


def test_ocsp_about_another_serial_or_issuer_is_never_good():
    times = {"this": NOW - HOUR, "following": NOW + DAY}
    for other in (answer(LEAF, MIDDLE, serial=7, **times), answer(LEAF, OTHER_CA, **times)):
        assert status(response(MIDDLE, other)) is Status.INVALID


def test_ocsp_by_a_sibling_is_never_good():
    for sibling in (leaf("sibling", MIDDLE), leaf("sibling", MIDDLE, usages=[ANY_USAGE]), LEAF):
        assert status(response(sibling, GOOD, certificates=[sibling])) is Status.INVALID


def test_ocsp_by_a_foreign_responder_is_never_good():
    for issuer in (ROOT, OTHER_CA, authority("other")):
        foreign = responder(issuer)
        assert status(response(foreign, GOOD, certificates=[foreign, issuer])) is Status.INVALID


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6])
def test_ocsp_an_unsigned_error_is_never_good(number):
    assert status(tlv(0x30, tlv(0x0A, bytes([number])))) is Status.UNAVAILABLE


@pytest.mark.parametrize("data", [b"", b"\x30\x80", b"good", bytes(65536), b"\x30" * 65536], ids=range(5))
def test_ocsp_garbage_is_never_good(data):
    assert status(data) is Status.INVALID


@pytest.mark.parametrize(
    "name",
    [path.name for path in sorted((CORPUS / "ocsp").glob("*.der")) if not path.name.startswith(("good", "delegated."))],
)
def test_ocsp_of_the_stored_responses_no_other_is_good(name):
    folder = CORPUS / "keys" / "x509"
    data, at = (CORPUS / "ocsp" / name).read_bytes(), datetime(2026, 11, 3, tzinfo=UTC)
    issuer = (folder / "intermediate.pem").read_bytes()
    for certificate in ("leaf.pem", "leaf-revoked.pem"):
        assert judge(data, (folder / certificate).read_bytes(), issuer, now=at) is not Status.GOOD
