"""What eclctl signs with cosign keys has the shape that SingularityCE gives it, object by object, and is accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclctl.cli.verify import command as verify
from eclctl.errors import EclctlError
from eclctl.model import Code
from tests.helpers.cosigning import KEYS, corpus_key, extras, laid_open, sign, verified, without_chance
from tests.helpers.deciding import ask
from tests.helpers.support import CORPUS, own_copy

KEY_NAMES = ("ci", "approver", "site", "stranger")
PAIRS = [
    ("oci/app-unsigned.oci.sif", "oci/app-ci.oci.sif", ["ci"]),
    ("oci/app-unsigned.oci.sif", "oci/app-site.oci.sif", ["site"]),
    ("oci/app-unsigned.oci.sif", "oci/app-ci+approver.oci.sif", ["ci", "approver"]),
    ("oci/app-unsigned.oci.sif", "oci/app-ci+ci.oci.sif", ["ci", "ci"]),
    ("oci/layers-unsigned.oci.sif", "oci/layers-ci.oci.sif", ["ci"]),
    ("oci/layers-unsigned.oci.sif", "oci/layers-site.oci.sif", ["site"]),
    ("oci/layers-unsigned.oci.sif", "oci/layers-ci+approver.oci.sif", ["ci", "approver"]),
    ("oci/layers-unsigned.oci.sif", "oci/layers-ci+ci.oci.sif", ["ci", "ci"]),
    ("oci-native/app-pgp-builder.oci.sif", "oci-native/app-pgp-builder+ci.oci.sif", ["ci"]),
]
UPSTREAM = [
    ("oci/app-unsigned.oci.sif", "oci/app-upstream-annotated.oci.sif"),
    ("oci/layers-unsigned.oci.sif", "oci/layers-upstream-annotated.oci.sif"),
]
OCI = sorted((CORPUS / "oci").glob("*.oci.sif"))


def payloads(image: Path) -> list[dict]:
    return [json.loads(data) for data in laid_open(image)[2] if data.startswith(b'{"critical"')]


@pytest.mark.parametrize(("source", "expected", "keys"), PAIRS, ids=[pair[1] for pair in PAIRS])
def test_signing_gives_the_reference_s_file_object_by_object(source, expected, keys, tmp_path):
    image = own_copy(CORPUS / source, tmp_path)
    times = [each["optional"]["timestamp"] for each in payloads(CORPUS / expected)]
    for number, name in enumerate(keys):
        sign(image, corpus_key(name), at=times[min(number, len(times) - 1)])
    header, fields, data = laid_open(image)
    their_header, their_fields, their_data = laid_open(CORPUS / expected)
    # An ECDSA signature in DER has 70 to 72 bytes, and 96 letters of base64 whichever of them.
    assert header == their_header
    assert fields == their_fields
    assert without_chance(data) == without_chance(their_data)
    assert [len(each) for each in data] == [len(each) for each in their_data]
    assert payloads(image) == payloads(CORPUS / expected)
    kept = [number for number, each in enumerate(data) if each == their_data[number]]
    assert [extras(image)[number] for number in kept] == [extras(CORPUS / expected)[number] for number in kept]
    assert image.stat().st_size == (CORPUS / expected).stat().st_size


@pytest.mark.parametrize(("source", "expected"), UPSTREAM)
def test_a_signature_that_cosign_made_and_singularity_stored_has_the_same_shape(source, expected, tmp_path):
    image = own_copy(CORPUS / source, tmp_path)
    sign(image, corpus_key("ci"))
    assert [each[:4] for each in laid_open(image)[1]] == [each[:4] for each in laid_open(CORPUS / expected)[1]]
    _, _, mine = laid_open(image)
    _, _, theirs = laid_open(CORPUS / expected)
    assert without_chance(mine[-3:]) == without_chance(theirs[-3:])


@pytest.mark.parametrize("name", KEY_NAMES)
@pytest.mark.parametrize("source", ["app-unsigned", "app-ci", "app-upstream-annotated", "layers-ci+approver"])
def test_every_key_s_signature_verifies_beside_those_of_others(name, source, tmp_path, capsys):
    image = own_copy(CORPUS / "oci" / f"{source}.oci.sif", tmp_path)
    before = len(verified(image, corpus_key("stranger")).signatures)
    sign(image, corpus_key(name), purpose="scan", env="prod")
    assert verify.run(["--cosign", "--json", "--key", str(KEYS / f"{name}.pub"), str(image)]) == 0
    shape = json.loads(capsys.readouterr().out)
    assert {"purpose": "scan", "env": "prod"}.items() <= shape["payloads"][-1]["optional"].items()
    assert len(shape["signatures"]) == before + 1


def test_signatures_of_others_stay_valid(tmp_path):
    image = own_copy(CORPUS / "oci" / "layers-ci+approver.oci.sif", tmp_path)
    sign(image, corpus_key("site"))
    assert len(verified(image, *map(corpus_key, ("ci", "approver", "site"))).payloads) == 3


@pytest.mark.parametrize("path", OCI, ids=lambda path: path.stem)
def test_an_image_is_signed_exactly_if_nothing_in_it_is_damaged(path, tmp_path):
    image = own_copy(path, tmp_path)
    before = image.read_bytes()
    if path.name.startswith("tampered"):
        with pytest.raises(EclctlError, match=r"OCI blob digest mismatch|damaged"):
            sign(image, corpus_key("ci"))
        assert image.read_bytes() == before
        assert list(tmp_path.iterdir()) == [image]
    else:
        sign(image, corpus_key("ci"))
        assert verified(image, corpus_key("ci")).verified


POLICY = """
version: 1
signers:
  ci: {cosign: [ci.pub]}
  approver: {cosign: [approver.pub]}
  scanner: {cosign: [site.pub], annotations: {env: prod}}
rules:
  - name: prod
    require:
      - {all_of: [ci, approver]}
      - {any_of: [scanner], purpose: scan}
"""


def test_a_policy_counts_what_was_signed_by_its_purposes_and_annotations(tmp_path):
    image = own_copy(CORPUS / "oci" / "app-unsigned.oci.sif", tmp_path)
    for name, said in (
        ("ci", {}),
        ("approver", {"purpose": "scan"}),
        ("site", {"purpose": "scan"}),
        ("site", {"env": "prod"}),
        ("approver", {}),
    ):
        sign(image, corpus_key(name), **said)
        assert ask(image, POLICY).code is Code.REQUIREMENTS_NOT_MET
    sign(image, corpus_key("site"), purpose="scan", env="prod")
    assert ask(image, POLICY).code is Code.REQUIREMENTS_MET
