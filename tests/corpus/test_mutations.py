"""Every damaged copy: nothing that the reference refuses is accepted, and every other refusal has a listed reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.corpus import reference
from tests.helpers.sifbuilder import opened
from tests.helpers.support import CORPUS

MUTATIONS = [json.loads(line) for line in (CORPUS / "mutations.jsonl").read_text().splitlines()]
IMAGES = sorted({mutation["image"] for mutation in MUTATIONS})

STRUCTURAL = {
    ("mixed-builder.sif", "[[7021, '0540000001070000']]"): "two data objects have ID 7",
    ("one-builder+dsse-p256.sif", "[[6441, '00']]"): "a data object has ID 0",
    ("one-dsse-rsa2048.sif", "[[108, '80']]"): (
        "reading descriptors: a table of 549755841968 bytes for 48 slots of 585"
    ),
    (
        "one-builder+dsse-p256.sif",
        "[[5887, '00000000'], [5897, '619d39b4'], [5882, '0000000000000000'], [5864, 'ffffffffffffffff']]",
    ): "data object 4 (1665 bytes at 4294967295) is outside the file of 39739 bytes",
}
"""What the reference accepts and is refused here, with the contradiction in the file that is the reason."""


def ask(mutation):
    image = bytearray((CORPUS / "images" / mutation["image"]).read_bytes())
    for offset, patch in mutation["patches"]:
        data = bytes.fromhex(patch)
        image[offset : offset + len(data)] = data
    question = mutation["with"]
    keyring = CORPUS / question["keyring"] if "keyring" in question else None
    keys = reference.material(keyring, tuple(CORPUS / Path(path) for path in question.get("pem", ())))
    with opened(bytes(image)) as fd:
        return reference.ask(fd, keys, reference.scope(question))


@pytest.mark.parametrize("image", IMAGES)
def test_accepts_nothing_that_the_reference_refuses(image):
    wrong = [
        mutation["patches"]
        for mutation in MUTATIONS
        if mutation["image"] == image and not mutation["ok"] and ask(mutation).ok
    ]
    assert wrong == []


@pytest.mark.parametrize("image", IMAGES)
def test_refuses_what_the_reference_accepts_only_for_a_listed_structural_reason(image):
    refused = {}
    for mutation in MUTATIONS:
        if mutation["image"] == image and mutation["ok"]:
            answer = ask(mutation)
            if not answer.ok:
                refused[image, str(mutation["patches"])] = answer.message
    assert refused == {key: reason for key, reason in STRUCTURAL.items() if key[0] == image}


def test_few_mutations_are_refused_beyond_the_reference():
    assert len(STRUCTURAL) / len(MUTATIONS) <= 0.02
