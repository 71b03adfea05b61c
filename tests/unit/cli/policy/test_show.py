"""`eclctl policy show` and `eclctl policy schema`: what a policy comes to, and what editors are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclctl.cli.policy.command import run
from eclctl.policy.schema import policy_schema
from tests.helpers.support import CORPUS, own_copy

BUILDER, SCANNER = "81F111F6190C46143937EF7C22BC3A3BC942487F", "F69053E5830DBDBA72B3D8F61BDDA97D14902F26"
POLICY = f"""\
version: 1
signers:
  ci: {{pgp: [{BUILDER}]}}
  scanner: {{pgp: [{SCANNER}]}}
roles: {{security: [ci, scanner]}}
withdrawn: {{signers: [scanner]}}
rules:
  - name: production
    match: {{paths: [/srv/**], users: [0], hosts: [nowhere-*], times: [mon-fri 08:00-18:00 UTC]}}
    require: [{{any_of: [ci], purpose: build}}]
    chain: [build, {{approve: {{approvals: {{count: 2, of: security}}}}}}]
    max_signature_age: 365d
    mode: permissive
    message: Ask us
  - {{name: rest, decision: deny}}
"""


@pytest.fixture
def named(tmp_path: Path) -> list[str]:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY, encoding="utf-8")
    path.chmod(0o644)
    return ["--keyring", str(own_copy(CORPUS / "keys" / "pgp" / "site-ring.asc", tmp_path)), str(path)]


def test_a_policy_is_shown_as_it_was_understood(named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", *named]) == 0
    shown = [line.replace(named[-1], "POLICY") for line in capsys.readouterr().out.splitlines()]
    assert shown[0].startswith("policy sha256:")
    assert shown[2:] == [
        "",
        "signers",
        "  ci (POLICY:3)",
        f"    {BUILDER}",
        "  scanner (POLICY:4)",
        f"    {SCANNER}",
        "",
        "roles",
        "  security: ci, scanner",
        "",
        "withdrawn",
        "  everything signed by scanner",
        f"  everything signed with {SCANNER}",
        "",
        "rules, the first that matches decides",
        "  1. production (POLICY:8)",
        "       paths: /srv/**",
        "       kinds: oci-sif, sif",
        "       users: 0",
        "       hosts: nowhere-*: never matches here",
        "       times: mon-fri 08:00-18:00 UTC",
        "       needs stage build: 1 approval from ci with the purpose build (POLICY:10)",
        "       needs stage approve: 2 approvals from security (POLICY:11)",
        "       signatures count for 365 days",
        "       mode: permissive",
        "       message: Ask us",
        "  2. rest (POLICY:15)",
        "       kinds: oci-sif, sif",
        "       decision: deny",
        "  3. everything else is denied",
    ]


def test_the_json_has_everything_resolved(named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "--json", *named]) == 0
    shape = json.loads(capsys.readouterr().out)
    assert shape["v"] == 1
    assert shape["signers"]["ci"]["keys"] == [BUILDER]
    assert shape["roles"] == {"security": ["ci", "scanner"]}
    first = shape["rules"][0]
    assert first["match"]["here"] is False
    assert first["chain"] == ["build", "approve"]
    assert [(need["stage"], need["purpose"], need["signers"]) for need in first["require"]] == [
        ("build", "build", ["ci"]),
        ("approve", None, ["ci", "scanner"]),
    ]


def test_a_policy_that_does_not_load_is_not_shown(named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(named[-1]).write_text(POLICY.replace("any_of", "anyof"), encoding="utf-8")
    assert run(["show", *named]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean 'any_of'?" in captured.err


def test_a_configuration_is_named_alone(named: list[str]) -> None:
    assert run(["show", "--config", "x.yaml", *named]) == 2
    assert run(["show", "--keyring", "x.asc"]) == 2


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_the_schema_is_printed(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", *options]) == 0
    assert json.loads(capsys.readouterr().out) == policy_schema()
