"""Policies with certificate and cosign signers, asked what the corpus asked the reference: the same images run."""

from __future__ import annotations

import json

import pytest

from eclctl.model import Code
from eclctl.terms import Verdict
from tests.helpers.deciding import ask
from tests.helpers.support import CORPUS

RULES = "rules: [{name: it, require: [{any_of: [it]}]}]\n"
FINGERPRINTS = json.loads((CORPUS / "keys" / "pgp" / "fingerprints.json").read_text(encoding="utf-8"))


def cases(manifest: str, key: str) -> list:
    found = json.loads((CORPUS / manifest).read_text(encoding="utf-8"))["cases"]
    return [pytest.param(case, id=_name(case)) for case in found if key in case["with"]]


def _name(case) -> str:
    words = [value.rpartition("/")[2] if isinstance(value, str) else "ocsp" for value in case["with"].values()]
    return " ".join([case["image"].rpartition("/")[2], *words])


def policy(fields: str) -> str:
    return f"version: 1\nsigners: {{it: {{{fields}}}}}\n{RULES}"


@pytest.mark.parametrize("case", cases("manifest-x509.json", "certificate"))
def test_a_certificate_signer_approves_what_the_reference_accepts(case) -> None:
    """But for `leaf-noeku`, which has no usage that allows code signing."""
    given = {key: value if value is True else value.rpartition("/")[2] for key, value in case["with"].items()}
    chain = ", ".join(f"{key}: {given[key]}" for key in ("intermediates", "roots") if key in given)
    ocsp = "require" if "ocsp" in given else "off"
    outcome = ask(
        CORPUS / case["image"], policy(f"certificate: {{file: {given['certificate']}, {chain}, ocsp: {ocsp}}}")
    )
    expected = case["ok"] and given["certificate"] != "leaf-noeku.pem"
    assert (outcome.verdict is Verdict.ALLOW) is expected, outcome.reason


@pytest.mark.parametrize("case", cases("manifest-cosign.json", "cosign_key"))
def test_a_cosign_signer_approves_what_the_reference_accepts(case) -> None:
    outcome = ask(CORPUS / case["image"], policy(f"cosign: [{case['with']['cosign_key'].rpartition('/')[2]}]"))
    assert (outcome.verdict is Verdict.ALLOW) is case["ok"], outcome.reason


@pytest.mark.parametrize("case", cases("manifest-oci-native.json", "cosign_key"))
def test_a_cosign_signer_approves_beside_native_signatures_that_hold(case) -> None:
    """But not beside one that was made before: it verifies, and is over other content than the file holds now."""
    outcome = ask(CORPUS / case["image"], policy("cosign: [ci.pub]"))
    broken = case["image"].endswith("app-pgp-builder+ci.oci.sif")
    assert (outcome.verdict is Verdict.ALLOW) is (case["ok"] and not broken), outcome.reason
    assert (outcome.code is Code.TAMPERED) is broken


@pytest.mark.parametrize("case", cases("manifest-oci-native.json", "keyring"))
def test_a_native_signer_approves_an_oci_sif(case) -> None:
    outcome = ask(CORPUS / case["image"], policy(f"pgp: [{FINGERPRINTS['builder']}]"))
    assert (outcome.verdict is Verdict.ALLOW) is case["ok"], outcome.reason


def test_both_sorts_of_signature_can_be_asked_for() -> None:
    signers = f"ci: {{cosign: [ci.pub]}}, it: {{pgp: [{FINGERPRINTS['builder']}]}}"
    text = f"version: 1\nsigners: {{{signers}}}\nrules: [{{name: it, require: [{{all_of: [ci, it]}}]}}]\n"
    folder = CORPUS / "oci-native"
    assert ask(folder / "app-ci+pgp-builder.oci.sif", text).signers == ("ci", "it")
    for name in ("app-pgp-builder.oci.sif", "app-pgp-builder+ci.oci.sif"):
        assert ask(folder / name, text).verdict is Verdict.DENY


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("", Code.REQUIREMENTS_MET),
        ("annotations: {WORDS}", Code.REQUIREMENTS_MET),
        ("annotations: {WORDS, other: none}", Code.REQUIREMENTS_NOT_MET),
        ("repository: '**'", None),
    ],
)
def test_annotations_and_repository_of_a_signature_by_cosign_itself(more: str, code: Code | None) -> None:
    image = "oci/app-upstream-annotated.oci.sif"
    found = json.loads((CORPUS / "manifest-cosign.json").read_text(encoding="utf-8"))["cases"]
    (payload,) = next(case["payloads"] for case in found if case["image"] == image and case["payloads"])
    words = ", ".join(f"{key}: '{text}'" for key, text in payload["optional"].items() if isinstance(text, str))
    fields = ", ".join(filter(None, ["cosign: [ci.pub]", more.replace("WORDS", words)]))
    named = payload["critical"]["identity"]["docker-reference"]
    expected = code or (Code.REQUIREMENTS_MET if named else Code.REQUIREMENTS_NOT_MET)
    assert ask(CORPUS / image, policy(fields)).code is expected
    assert words
