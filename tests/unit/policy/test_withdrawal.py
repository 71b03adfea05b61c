"""Keys that are withdrawn by their own names, over the corpus' real keys and images."""

from __future__ import annotations

import pytest

from eclctl.model import Code
from tests.helpers.deciding import RING, ask, loaded
from tests.helpers.support import CORPUS

BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
SCANNER = "F69053E5830DBDBA72B3D8F61BDDA97D14902F26"
BOTH = CORPUS / "images" / "one-builder+scanner.sif"
POLICY = f"""version: 1
signers:
  builder: {{pgp: [{BUILDER}]}}
withdrawn: {{keys: [NAME]}}
rules:
  - name: any
    match: {{paths: [/srv/**]}}
    require: [{{any_of: [builder]}}]
"""
MATERIAL = next(iter(next(each for each in RING.certificates if each.fingerprint == SCANNER).materials))


def withdrawing(name: str) -> str:
    return POLICY.replace("NAME", name)


@pytest.mark.parametrize("name", [BUILDER, BUILDER.lower(), SCANNER, MATERIAL, MATERIAL.upper().replace("SHA", "sha")])
def test_what_a_withdrawn_key_signed_is_denied_under_any_signer_and_any_name(name: str) -> None:
    assert ask(BOTH, POLICY.replace("withdrawn: {keys: [NAME]}\n", "")).code is Code.REQUIREMENTS_MET
    assert ask(BOTH, withdrawing(name)).code is Code.WITHDRAWN


def test_a_withdrawn_key_stops_nothing_that_it_did_not_sign() -> None:
    outcome = ask(CORPUS / "images" / "one-builder.sif", withdrawing(SCANNER))
    assert outcome.code is Code.REQUIREMENTS_MET


def test_other_keys_of_the_same_signer_are_not_withdrawn_with_one() -> None:
    two = POLICY.replace(f"[{BUILDER}]", f"[{BUILDER}, {SCANNER}]")
    assert ask(CORPUS / "images" / "one-builder.sif", two.replace("NAME", SCANNER)).code is Code.REQUIREMENTS_MET
    assert ask(BOTH, two.replace("NAME", SCANNER)).code is Code.WITHDRAWN


NO_NAME = "an OpenPGP fingerprint, or sha256:… of a PEM key or certificate; for a person, signers: [NAME]"
UNKNOWN = "keep it with its signer or in a keyring, so that its signatures are recognised"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("builder", "'builder' is no name of a key", NO_NAME),
        ("0" * 40, f"no signer and no keyring has the key '{'0' * 40}'", UNKNOWN),
        ("sha256:" + "0" * 64, f"no signer and no keyring has the key 'sha256:{'0' * 64}'", UNKNOWN),
    ],
)
def test_a_withdrawal_that_could_stop_nothing_is_an_error_at_its_place(name: str, message: str, hint: str) -> None:
    assert [str(problem) for problem in loaded(withdrawing(name)).errors] == [f"0.yaml:4:20: {message} ({hint})"]
