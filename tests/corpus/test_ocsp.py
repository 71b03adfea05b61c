"""Every stored OCSP response gets RFC 6960's answer, and no damage to one makes it good."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from cryptography import x509

from eclctl.trust.ocsp import judge
from eclctl.trust.revocation import Status
from tests.helpers.support import CORPUS

CASES = json.loads((CORPUS / "manifest-ocsp.json").read_text())["cases"]
NAMES = [case["file"].removeprefix("ocsp/").removesuffix(".der") for case in CASES]
ANSWERS = ["good", "good-sha1-certid", "delegated", "revoked", "unknown"]


def certificate(path):
    return x509.load_pem_x509_certificate((CORPUS / path).read_bytes())


def asker(case):
    subject, issuer = certificate(case["certificate"]), certificate(case["issuer"])
    now = datetime.fromisoformat(case["at"])
    return lambda data: judge(data, subject, issuer, now=now)


def stored(case):
    return (CORPUS / case["file"]).read_bytes()


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_answer_is_the_one_of_rfc_6960(case):
    assert asker(case)(stored(case)) == case["expect"]


def test_every_kind_of_answer_is_in_the_corpus():
    assert {case["expect"] for case in CASES} == set(Status)


@pytest.mark.parametrize("name", ANSWERS)
def test_no_bit_can_be_flipped(name):
    """Nothing in these responses is outside a signature, so what is left says nothing."""
    case = CASES[NAMES.index(name)]
    ask, data = asker(case), bytearray(stored(case))
    for position in range(len(data) * 8):
        byte, bit = position // 8, 1 << position % 8
        data[byte] ^= bit
        assert ask(bytes(data)) in {Status.INVALID, Status.UNAVAILABLE}, position
        data[byte] ^= bit
    assert ask(bytes(data)) == case["expect"]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_what_is_cut_short_or_goes_on_is_invalid(case):
    ask, data = asker(case), stored(case)
    assert {ask(data[:length]) for length in range(len(data))} <= {Status.INVALID}
    assert ask(data + b"\0") is Status.INVALID
