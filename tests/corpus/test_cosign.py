"""Every case of the cosign manifest, and what native and cosign signatures of one OCI-SIF give together."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from eclctl.cli.verify import command as verify
from eclctl.model import Verification
from eclctl.terms import SignatureFormat
from eclctl.trust.keyring import KeyStore, load_public_keys
from eclctl.verify.cosign import verify_cosign
from eclctl.verify.examine import examine
from tests.corpus.reference import name
from tests.helpers.ocibuilder import cosign_store
from tests.helpers.sifbuilder import corpus_store
from tests.helpers.support import CORPUS

CASES = json.loads((CORPUS / "manifest-cosign.json").read_text())["cases"]
NATIVE = json.loads((CORPUS / "manifest-oci-native.json").read_text())["cases"]
NATIVE_COSIGN = [case for case in NATIVE if "cosign_key" in case["with"]]
KEYS = load_public_keys([CORPUS / "keys" / "cosign" / f"{key}.pub" for key in ("ci", "approver", "site")])
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"


def examined(image: str, **keys: object) -> Verification:
    fd = os.open(CORPUS / image, os.O_RDONLY)
    try:
        return examine(fd, KeyStore.of(corpus_store("site-ring").pgp, **keys))
    finally:
        os.close(fd)


def test_the_manifest_has_every_case():
    assert len(CASES) == 84


@pytest.mark.parametrize("case", CASES, ids=name)
def test_answers_payloads_and_words_are_the_references(case):
    keys = load_public_keys([CORPUS / case["with"]["cosign_key"]])
    fd = os.open(CORPUS / case["image"], os.O_RDONLY)
    report = verify_cosign(fd, keys)
    os.close(fd)
    message = "" if report.error is None else report.error.message
    assert (report.verified, list(report.payloads), message) == (case["ok"], case["payloads"], case["error"])


@pytest.mark.parametrize("case", [*CASES, *NATIVE_COSIGN], ids=name)
def test_the_command_answers_the_same_in_json(case, capsys):
    arguments = ["--cosign", "--json", "--key", str(CORPUS / case["with"]["cosign_key"]), str(CORPUS / case["image"])]
    assert verify.run(arguments) == (0 if case["ok"] else 1)
    shape = json.loads(capsys.readouterr().out)
    assert shape["verified"] is case["ok"]
    assert (shape["error"] or {"message": ""})["message"] == case["error"]
    assert any(each["valid"] for each in shape["signatures"]) is case["ok"]
    if "payloads" in case:
        assert shape["payloads"] == case["payloads"]


@pytest.mark.parametrize("case", CASES, ids=name)
def test_a_claim_covers_the_image_exactly_where_the_reference_accepts(case):
    fd = os.open(CORPUS / case["image"], os.O_RDONLY)
    found = examine(fd, cosign_store(*load_public_keys([CORPUS / case["with"]["cosign_key"]])))
    os.close(fd)
    covering = [claim for claim in found.claims if found.oci is not None and claim.objects == found.oci.subject]
    if Path(case["image"]).name != "tampered-object7.oci.sif":
        # The reference wants every blob to be sound. Here a damaged config of signatures just carries nothing.
        assert bool(covering) is case["ok"]
    assert len(covering) >= len(case["payloads"])


@pytest.mark.parametrize("number", [7, 8])
def test_a_damaged_carrier_leaves_an_object_that_no_cosign_claim_speaks_for(number):
    found = examined(f"oci/tampered-object{number}.oci.sif", cosign=KEYS)
    assert found.oci is not None
    assert number not in found.oci.subject | found.oci.carriers


def test_cosign_first_and_native_last_are_claims_side_by_side():
    found = examined("oci-native/app-ci+pgp-builder.oci.sif", cosign=KEYS)
    native, cosign = found.claims
    assert (native.format, native.signer.id, native.mismatch) == (SignatureFormat.PGP, BUILDER, None)
    assert native.whole_group
    assert (cosign.format, cosign.mismatch) == (SignatureFormat.COSIGN, None)
    assert found.oci is not None
    assert cosign.objects == found.oci.subject < native.objects
    assert found.failures == ()


def test_cosign_added_after_a_native_signature_breaks_that():
    found = examined("oci-native/app-pgp-builder+ci.oci.sif", cosign=KEYS)
    native, cosign = found.claims
    assert native.format is SignatureFormat.PGP
    assert native.mismatch is not None
    assert (cosign.format, cosign.mismatch) == (SignatureFormat.COSIGN, None)


def test_a_native_signature_alone_makes_no_cosign_claim():
    found = examined("oci-native/app-pgp-builder.oci.sif", cosign=KEYS)
    assert [claim.format for claim in found.claims] == [SignatureFormat.PGP]
    assert found.oci is not None
