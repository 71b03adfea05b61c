"""The test images of the reference itself, with the reference's answers; read where they are, copied nowhere."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from eclctl.errors import EclctlError, KeyMaterialError
from eclctl.sif import reader
from eclctl.signature import openpgp
from eclctl.trust.keyring import KeyStore, load_public_keys
from eclctl.verify.reference import CheckedObjects, GivenKeys
from tests.corpus import reference
from tests.helpers.support import UPSTREAM, needs_upstream

pytestmark = needs_upstream

CASES = (
    [json.loads(line) for line in (UPSTREAM / "manifest.jsonl").read_text().splitlines()]
    if UPSTREAM is not None
    else []
)
SIGNER = "12045C8C0B1004D058DE4BEDA20C27EE7FF7BA84"


def keyring() -> openpgp.Keyring:
    """Return the public half of upstream's test key, from wherever the corpus has it."""
    for path in sorted((UPSTREAM / "openpgp" / "keys").iterdir()):
        try:
            ring = openpgp.Keyring.parse(path.read_bytes())
        except KeyMaterialError:
            continue
        if ring.get(SIGNER) is not None:
            return ring
    raise AssertionError("upstream's key is missing")


def material(words: list[str]) -> GivenKeys:
    keys = load_public_keys(sorted((UPSTREAM / "keys").glob("*-public.pem"))) if "pem" in words else ()
    ring = keyring() if "keyring" in words else openpgp.Keyring.parse()
    return GivenKeys(KeyStore.of(ring, keys), "keyring" in words, bool(keys))


def scope(words: list[str], image: Path) -> CheckedObjects:
    groups = frozenset(int(found[1]) for word in words if (found := re.fullmatch(r"group(\d+)", word)))
    objects = frozenset(int(found[1]) for word in words if (found := re.fullmatch(r"object(\d+)", word)))
    if words[-1] == "legacy":  # there it means every group, which `verify` asks for by number
        groups = every_group(image)
    every = "legacy-all" in words
    return CheckedObjects(groups, objects, legacy=every or "legacy" in words, every_object=every)


def every_group(image: Path) -> frozenset[int]:
    fd = os.open(image, os.O_RDONLY)
    try:
        return frozenset(found.group for found in reader.read(fd).descriptors if found.group)
    except EclctlError:
        return frozenset()
    finally:
        os.close(fd)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['file']}-{case['with']}")
def test_answers_as_the_reference(case):
    words = case["with"].split("+")
    image = UPSTREAM / "images" / case["file"]
    answer = reference.ask_file(image, material(words), scope(words, image))
    assert answer.ok is case["ok"], answer.message
    if not (words[-1] == "legacy" and "no groups" in case.get("err", "")):
        assert answer.message == reference.reference_message(case.get("err", ""))
    if case["ok"]:
        theirs = tuple((found["sig"], found.get("signer", ""), tuple(found["objects"])) for found in case["sigs"])
        assert answer.signatures == theirs
