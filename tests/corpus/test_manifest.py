"""Every case of the main manifests: what the reference refuses is refused, and who signed what is the same."""

from __future__ import annotations

import json
import re

import pytest

from tests.corpus import reference
from tests.helpers.support import CORPUS

CASES = json.loads((CORPUS / "manifest.json").read_text())["cases"]
OCI_CASES = [
    case for case in json.loads((CORPUS / "manifest-oci-native.json").read_text())["cases"] if "keyring" in case["with"]
]

# Where the reference dies, quotes its language's library or reads on in an image that is malformed as a whole, the
# words are ours.
OWN_WORDS = re.compile(r"PANIC|reading |readat |invalid character")
OWN_WORDS_IMAGES = re.compile(r"clearsign-|struct-object-|metadata-empty-objects")


def uses_own_words(case):
    theirs = reference.reference_message(case["error"])
    stricter = OWN_WORDS_IMAGES.match(case["image"]) or case["image"] in reference.STRICTER
    return bool(OWN_WORDS.search(theirs) or stricter)


@pytest.mark.parametrize("case", CASES, ids=reference.name)
def test_answers_as_the_reference_or_stricter_where_listed(case):
    answer = reference.ask_case(case, CORPUS / "images")
    expected = case["ok"] and case["image"] not in reference.STRICTER
    assert answer.ok is expected, answer.message


@pytest.mark.parametrize("case", [case for case in CASES if case["ok"]], ids=reference.name)
def test_signers_and_objects_equal_the_references(case):
    answer = reference.ask_case(case, CORPUS / "images")
    if case["image"] in reference.STRICTER:
        assert answer.signatures == ()
        return
    theirs = tuple((found["id"], found["signer"], tuple(found["objects"])) for found in case["signatures"])
    assert answer.signatures == theirs


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case["ok"] and not uses_own_words(case)], ids=reference.name
)
def test_refusals_use_the_references_words(case):
    theirs = reference.reference_message(case["error"])
    assert reference.ask_case(case, CORPUS / "images").message == theirs


def test_every_stricter_image_is_refused_in_every_case():
    asked = [case for case in CASES if case["image"] in reference.STRICTER]
    assert {case["image"] for case in asked} == reference.STRICTER
    assert not [case for case in asked if reference.ask_case(case, CORPUS / "images").ok]


@pytest.mark.parametrize("case", OCI_CASES, ids=reference.name)
def test_native_signatures_in_an_oci_sif_answer_as_the_reference(case):
    answer = reference.ask_case(case, CORPUS)
    assert (answer.ok, answer.message) == (case["ok"], case["error"])
    if case["ok"]:
        assert [signer for _, signer, _ in answer.signatures] == case["signers"]
