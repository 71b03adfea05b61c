"""`eclctl policy check`: every error with its place, and an exit status that scripts can use."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eclctl.cli.policy.command import run
from eclctl.config.accounts import NAMES
from eclctl.config.settings import Settings
from eclctl.decide.snapshot import build
from tests.helpers.support import CORPUS, own_copy

RING = CORPUS / "keys" / "pgp" / "site-ring.asc"
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
EXPIRED = "5802C950CB0D8BE07A134CAFA3709DE698D7BD64"
OTHER = "F69053E5830DBDBA72B3D8F61BDDA97D14902F26"
GOOD = f"version: 1\nsigners: {{ci: {{pgp: [{BUILDER}]}}}}\nrules: [{{name: it, require: [{{any_of: [ci]}}]}}]\n"


@pytest.fixture
def ring(tmp_path: Path) -> str:
    return str(own_copy(RING, tmp_path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "policies.d"
    made.mkdir(mode=0o755)
    return made


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def test_a_policy_that_loads_is_0_and_says_what_is_in_it(
    folder: Path, ring: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, GOOD)
    assert run(["check", "--keyring", ring, str(folder)]) == 0
    assert capsys.readouterr().out.startswith("the policy loads: 1 rule, 1 signer, 0 warnings (sha256:")


def test_the_hash_of_a_policy_is_the_one_that_the_daemon_will_have(
    folder: Path, ring: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, GOOD)
    settings = Settings("check", "admin", "state", (str(folder),), (ring,))
    built = build(settings, NAMES, generation=1, now=datetime.now(UTC))
    assert built.snapshot is not None
    assert built.snapshot.digest is not None
    for command in ("check", "show"):
        assert run([command, "--keyring", ring, str(folder)]) == 0
        assert built.snapshot.digest in capsys.readouterr().out
        assert run([command, "--json", "--keyring", ring, str(folder)]) == 0
        assert json.loads(capsys.readouterr().out)["policy"] == built.snapshot.digest


def test_all_errors_of_all_files_are_printed_with_their_places(
    folder: Path, ring: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = write(folder, GOOD.replace("any_of", "anyof")), write(folder, "version: 2\n", "b.yaml")
    assert run(["check", "--keyring", ring, str(folder)]) == 1
    text = capsys.readouterr().err
    assert (
        f"error: {first}:3:31: unknown key 'anyof' in a requirement of rule 'it'\n"
        "     3 | rules: [{name: it, require: [{anyof: [ci]}]}]\n"
        "       |                               ^\n"
        "       = did you mean 'any_of'?\n"
    ) in text
    assert (
        f"error: {second}:1:10: version '2' is not known to this eclctl\n"
        "     1 | version: 2\n"
        "       |          ^\n"
        "       = write 'version: 1'\n"
    ) in text
    assert text.splitlines()[-1] == "the policy does not load: 3 errors"


def test_json_has_every_field_of_every_problem(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder, "version: 1\nrulez: []\n")
    assert run(["check", "--json", str(path)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["v"], answer["loads"], answer["policy"]) == (1, False, None)
    problem = {"file": str(path), "line": 2, "column": 1, "message": "unknown key 'rulez' in the policy"}
    assert answer["errors"] == [{**problem, "hint": "did you mean 'rules'?", "source": "rulez: []"}]
    assert answer["warnings"] == answer["notes"] == []


def test_what_else_is_wrong_is_found_though_a_keyring_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, GOOD.replace("any_of", "anyof"))
    broken = write(folder.parent, "no keys", "ring.asc")
    assert run(["check", "--keyring", str(broken), str(path)]) == 1
    text = capsys.readouterr().err
    assert f"error: {broken}: no keyring: no OpenPGP certificate found\n" in text
    assert "unknown key 'anyof'" in text
    assert "is in no keyring" not in text


def test_what_one_policy_file_says_is_found_in_the_one_that_says_it(
    folder: Path, ring: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(folder, GOOD)
    second = write(folder, "version: 1\nroles:\n  team: [ci, zoe]\n", "b.yaml")
    assert run(["check", "--keyring", ring, str(folder)]) == 1
    text = capsys.readouterr().err
    assert f"error: {second}:3:14: unknown signer 'zoe'\n     3 |   team: [ci, zoe]\n       |              ^\n" in text


def test_warnings_fail_when_asked_to(folder: Path, ring: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder, GOOD.replace("signers: {", f"signers: {{old: {{pgp: [{OTHER}]}}, "))
    assert run(["check", "--keyring", ring, str(path)]) == 0
    assert run(["check", "--strict", "--keyring", ring, str(path)]) == 1
    assert run(["check", "--strict", "--keyring", ring, str(write(folder, GOOD))]) == 0
    assert "no rule asks for the signer 'old'" in capsys.readouterr().err


def test_a_certificate_that_cannot_count_is_a_warning(
    folder: Path, ring: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, GOOD.replace(BUILDER, EXPIRED))
    assert run(["check", "--keyring", ring, str(path)]) == 0
    assert f"warning: {path}:2:22: no signature by {EXPIRED} of 'ci' counts now: " in capsys.readouterr().err


def test_a_file_that_is_missing_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", str(folder / "none.yaml")]) == 1
    assert "none.yaml" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--config", "a", "b"], ["--keyring", "a"]])
def test_arguments_that_contradict_each_other_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", *arguments]) == 2
    assert "eclctl policy check:" in capsys.readouterr().err


def test_control_characters_of_a_policy_reach_no_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(folder, 'version: 1\nsigners: {"\\e[2J\\n": {pgp: [x]}}\n', "a\x1b[2J.yaml")
    assert run(["check", str(path)]) == 1
    assert all(line.isprintable() for line in capsys.readouterr().err.splitlines())


CONFIGURATION = """\
version: 1
sockets: {check: c.sock, admin: a.sock}
state_dir: state
policies: [policies.d]
keyrings: [ring.asc]
watch:
  - path: /proc
"""


def test_rules_and_watched_trees_without_trusted_path_are_warned_of_where_a_configuration_is_checked(
    folder: Path, ring: str, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = write(folder, GOOD.replace("require:", "match: {paths: [/proc/sys/**]}, require:"))
    Path(ring).rename(folder.parent / "ring.asc")
    config = write(folder.parent, CONFIGURATION, "config.yaml")
    assert run(["check", "--config", str(config)]) == 0
    shown = capsys.readouterr()
    assert ", 2 warnings (" in shown.out
    assert f"warning: {policy}:3:36: on this host, rule 'it' asks for trusted-path below '/proc/sys'" in shown.err
    assert f"warning: {config}:7:11: on this host, images in the watched '/proc' have no trusted-path" in shown.err
    assert run(["check", "--strict", "--config", str(config)]) == 1
    assert run(["check", "--strict", "--keyring", str(folder.parent / "ring.asc"), str(policy)]) == 0
