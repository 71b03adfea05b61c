"""Every certificate of the corpus is trusted where the reference trusts it, but for one without a usage."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eclctl.signature import openpgp
from eclctl.terms import SignerKind
from eclctl.trust.keyring import KeyStore
from eclctl.trust.revocation import NO_STATUS, Known, Status
from eclctl.trust.x509 import load_credential
from eclctl.verify.reference import CheckedObjects, GivenKeys, verify_scope
from tests.helpers.support import CORPUS

CASES = json.loads((CORPUS / "manifest-x509.json").read_text())["cases"]
AT = datetime(2026, 11, 22, 16, 37, 34, tzinfo=UTC)
"""When the reference was asked: its words have it."""
STRICTER = frozenset({"keys/x509/leaf-noeku.pem"})
LATER = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Says:
    """A status source that says the same of everything."""

    status: Status
    version: int = 1

    def known(self, link, now):
        return Known(self.status, LATER, "says the test")


def name(case):
    return "-".join([Path(case["image"]).stem, *(Path(str(part)).stem for part in case["with"].values())])


def ask(case, statuses=NO_STATUS):
    question = case["with"]
    files = {key: [(CORPUS / question[key]).read_bytes()] for key in ("intermediates", "roots") if key in question}
    own = (CORPUS / question["certificate"]).read_bytes()
    credential = load_credential(own, **files, ocsp=question.get("ocsp", False))
    material = GivenKeys(KeyStore.of(openpgp.Keyring.parse(), (), (credential,)), False, True, statuses)
    fd = os.open(CORPUS / case["image"], os.O_RDONLY)
    try:
        return verify_scope(fd, material, CheckedObjects(), AT)
    finally:
        os.close(fd)


@pytest.mark.parametrize("case", CASES, ids=name)
def test_answers_as_the_reference_or_stricter_where_listed(case):
    report = ask(case)
    assert report.verified is (case["ok"] and case["with"]["certificate"] not in STRICTER), report.error


@pytest.mark.parametrize("case", [case for case in CASES if not case["ok"]], ids=name)
def test_refusals_use_the_references_words(case):
    assert f"failed to verify container: {ask(case).error.message}" == case["error"]


def test_a_certificate_that_does_not_say_what_it_is_for_is_refused():
    (case,) = [case for case in CASES if case["with"]["certificate"] in STRICTER]
    assert ask(case).error.message == "x509: certificate specifies an incompatible key usage"


def test_the_signer_is_the_certificate():
    report = ask(CASES[0])
    assert [(found.signer.kind, found.objects) for found in report.signatures] == [(SignerKind.CERTIFICATE, (1, 2, 3))]
    assert re.fullmatch(r"x509:[0-9a-f]{64}", report.signatures[0].signer.id)


@pytest.mark.parametrize("case", [case for case in CASES if case["with"].get("ocsp")], ids=name)
@pytest.mark.parametrize("status", Status)
def test_with_ocsp_only_what_is_known_to_be_good_verifies(case, status):
    report = ask(case, Says(status))
    assert report.verified is (status is Status.GOOD)
    if status is not Status.GOOD:
        assert report.error.message == "OCSP verification has failed"
        assert report.error.code == ("revoked" if status is Status.REVOKED else "ocsp")
        assert "CN=leaf" in report.note
        assert report.signatures == ()
