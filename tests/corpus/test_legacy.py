"""Every case of the legacy manifest: the reference's answer, its words, signers and objects."""

from __future__ import annotations

import json

import pytest

from tests.corpus import reference
from tests.helpers.support import CORPUS

CASES = json.loads((CORPUS / "manifest-legacy.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=reference.name)
def test_answers_as_the_reference(case):
    answer = reference.ask_case(case, CORPUS)
    assert (answer.ok, answer.message) == (case["ok"], reference.reference_message(case["error"]))
    if case["ok"]:
        theirs = tuple((found["id"], found["signer"], tuple(found["objects"])) for found in case["signatures"])
        assert answer.signatures == theirs
