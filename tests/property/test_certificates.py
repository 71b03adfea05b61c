"""For any certificates and OCSP responses, no exception escapes, and nothing unsigned is trusted."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st

from eclctl.errors import KeyMaterialError
from eclctl.trust import der
from eclctl.trust.ocsp import judge_response, responders
from eclctl.trust.revocation import Status
from eclctl.trust.x509 import Credential, load_credential
from tests.helpers.certificates import NOW, OCSP_SIGNING, answer, authority, key_usage, leaf, response, rsa_key, tlv
from tests.helpers.support import CORPUS

ROOT = authority("root", key=rsa_key())
MIDDLE = authority("middle", ROOT, path_length=0)
LEAF = leaf("leaf", MIDDLE)
RESPONDER = leaf("responder", MIDDLE, usages=[OCSP_SIGNING], key_usage=key_usage("digital_signature"))
RESPONSES = [
    response(MIDDLE, answer(LEAF, MIDDLE)),
    response(RESPONDER, answer(leaf("other", MIDDLE), MIDDLE), answer(LEAF, MIDDLE), certificates=[RESPONDER, ROOT]),
    *((CORPUS / "ocsp" / f"{name}.der").read_bytes() for name in ("good", "delegated", "revoked", "unknown")),
]
SIGNED = {ocsp.load_der_ocsp_response(data).tbs_response_bytes for data in RESPONSES}
CORPUS_NOW = datetime(2026, 11, 3, tzinfo=UTC)
REAL = [path.read_bytes() for path in sorted((CORPUS / "keys" / "x509").glob("*.pem")) if "key" not in path.name]


@st.composite
def damaged(draw, originals):
    """One of several byte strings with pieces overwritten, left out, put in or repeated."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 8)))
        data[at:end] = draw(st.one_of(st.binary(max_size=8), st.just(bytes(data[at:end]) * 2)))
    return bytes(data)


def armored(data: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"


def loaded(certificate: bytes, intermediates: bytes, roots: bytes) -> Credential | None:
    try:
        return load_credential(certificate, [intermediates], [roots], ocsp=True)
    except KeyMaterialError as error:
        named = str(error).startswith("certificate")
    assert named
    return None


@given(damaged([LEAF.der, MIDDLE.der, ROOT.der]))
def test_a_certificate_that_was_changed_has_no_path(data):
    for place in range(3):
        files = [LEAF.pem, MIDDLE.pem, ROOT.pem]
        files[place] = armored(data)
        credential = loaded(*files)
        if credential is None:
            continue
        assert list(credential.turning_points) == sorted(credential.turning_points)
        responders(credential.leaf)
        found = credential.path(NOW)
        if isinstance(found, tuple) and place < 2:
            original = (LEAF, MIDDLE)[place].certificate
            assert found[place].tbs_certificate_bytes == original.tbs_certificate_bytes


@given(damaged([*REAL, LEAF.pem + MIDDLE.pem]), st.sampled_from(REAL), st.sampled_from(REAL))
def test_files_that_were_changed_load_or_are_refused_by_name(certificate, intermediates, roots):
    for files in (
        (certificate, intermediates, roots),
        (roots, certificate, intermediates),
        (roots, roots, certificate),
    ):
        credential = loaded(*files)
        if credential is not None:
            credential.path(NOW)


@given(st.one_of(damaged(RESPONSES), st.binary(max_size=64)))
def test_a_response_that_was_changed_says_nothing(data):
    """Good, revoked and unknown are only ever what a responder signed."""
    intermediate = (CORPUS / "keys" / "x509" / "intermediate.pem").read_bytes()
    corpus_leaf = (CORPUS / "keys" / "x509" / "leaf.pem").read_bytes()
    for certificate, issuer, now in ((LEAF.der, MIDDLE.der, NOW), (corpus_leaf, intermediate, CORPUS_NOW)):
        found = judge_response(data, certificate, issuer, now=now)
        if found.status not in {Status.INVALID, Status.UNAVAILABLE}:
            assert ocsp.load_der_ocsp_response(data).tbs_response_bytes in SIGNED


@given(st.binary(max_size=400))
def test_der_is_read_or_refused(data):
    try:
        found = der.elements(data)
    except ValueError:
        return
    assert b"".join(tlv(element.tag, element.contents) for element in found) == data


@given(st.lists(st.tuples(st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F), st.binary(max_size=300))))
def test_der_that_was_written_is_read(parts):
    assert der.elements(b"".join(tlv(*part) for part in parts)) == parts


def test_the_responses_that_are_damaged_are_whole():
    assert [judge_response(data, LEAF.der, MIDDLE.der, now=NOW).status for data in RESPONSES[:2]] == [Status.GOOD] * 2
