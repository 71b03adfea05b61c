"""`eclctl policy import-ecl`: the policy where it was asked for, the report beside it, and a status for scripts."""

from __future__ import annotations

import io
import json
import os
import stat
from pathlib import Path

import pytest

from eclctl.cli.policy.command import run
from eclctl.ecl.toml import ListMode
from tests.helpers.ecl import KEYS
from tests.helpers.support import CORPUS, own_copy

RING = CORPUS / "keys" / "pgp" / "site-ring.asc"
TOML = f"""activated = true

[[execgroup]]
  tagname = "prod"
  mode = "whitestrict"
  dirpath = "/"
  keyfp = ["{KEYS["builder"]}", "{KEYS["scanner"]}"]

[[execgroup]]
  mode = "whitelist"
  keyfp = ["{KEYS["mallory"]}"]
"""


@pytest.fixture
def ring(tmp_path: Path) -> str:
    return str(own_copy(RING, tmp_path))


@pytest.fixture
def ecl(tmp_path: Path) -> Path:
    path = tmp_path / "ecl.toml"
    path.write_text(TOML)
    return path


def test_the_policy_is_the_output_and_the_report_the_error_output(
    ecl: Path, ring: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import-ecl", "--keyring", ring, str(ecl)]) == 0
    made = capsys.readouterr()
    policy = tmp_path / "policy.yaml"
    policy.write_text(made.out)
    policy.chmod(0o644)
    assert run(["check", "--keyring", ring, str(policy)]) == 0
    lines = made.err.splitlines()
    assert lines[0] == "ECL is activated; 2 execgroups, 2 rules"
    assert max(map(len, lines)) <= 80
    first = lines.index("execgroup 1 'prod' (line 3), whitestrict in /")
    assert lines[first + 1 : first + 6] == [
        "  rule 'prod'",
        "  each of these keys must have signed every object group",
        "  stricter: user-writable, unresolved-name, strict-reading, stray-signatures,",
        "    nil-uuid",
        "",
    ]
    second = lines.index("execgroup 2 (line 9), whitelist for what is in no other")
    assert lines[second + 2] == "  nothing may run, as in ECL: none of its keys is in the keyring"
    assert lines[second + 5] == "  answers as ECL does"


def test_a_file_is_written_whole_and_for_everybody_to_read(
    ecl: Path, ring: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out" / "10-ecl.yaml"
    target.parent.mkdir()
    target.write_text("what was there before")
    assert run(["import-ecl", "--keyring", ring, "-o", str(target), str(ecl)]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.endswith(f"\nthe policy is in {target}\n")
    assert target.read_text().startswith("# Made by `eclctl policy import-ecl`")
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert os.listdir(target.parent) == ["10-ecl.yaml"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(ecl: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(OSError, match=r"."):
        run(["import-ecl", "-o", str(target), str(ecl)])
    assert sorted(os.listdir(tmp_path)) == ["ecl.toml", "out"]


def test_a_link_or_a_device_is_not_replaced(ecl: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    target = tmp_path / "policy.yaml"
    target.symlink_to("victim")
    with pytest.raises(OSError, match="not a regular file"):
        run(["import-ecl", "-o", str(target), str(ecl)])
    assert (tmp_path / "victim").read_text() == "precious"
    assert target.is_symlink()


def test_what_ecl_would_not_load_is_1_with_every_error_and_no_policy(
    ecl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ecl.write_text(TOML.replace("whitestrict", "strict").replace('"/"', '"srv"'))
    assert run(["import-ecl", "-o", str(tmp_path / "policy.yaml"), str(ecl)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        f"error: {ecl}:3:1: execgroup 1 ('prod'): dirpath 'srv' is not absolute (ECL wants the resolved path)",
        (
            f"error: {ecl}:3:1: execgroup 1 ('prod'): mode must be one of {', '.join(ListMode)}, and is 'strict'"
            " (did you mean 'whitestrict'?)"
        ),
        "no policy was made",
    ]
    assert not (tmp_path / "policy.yaml").exists()


def test_a_directory_that_is_a_symbolic_link_on_this_host_is_an_error(
    ecl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    ecl.write_text(TOML.replace('"/"', json.dumps(str(tmp_path / "link"))))
    assert run(["import-ecl", str(ecl)]) == 1
    assert (
        f"leads through a symbolic link (ECL wants the resolved path, '{tmp_path / 'real'}')" in capsys.readouterr().err
    )


def test_files_that_cannot_be_read_are_1_and_named(
    ecl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import-ecl", str(tmp_path / "missing")]) == 1
    assert f"error: {tmp_path / 'missing'}: cannot be read: No such file" in capsys.readouterr().err
    assert run(["import-ecl", "--keyring", str(ecl), str(ecl)]) == 1
    assert f"error: the keyring: {ecl}: no OpenPGP certificate found" in capsys.readouterr().err


def test_the_standard_input_can_be_imported(
    ring: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TOML.encode())))
    assert run(["import-ecl", "--keyring", ring, "-"]) == 0
    assert "# standard input:3: execgroup 1 'prod', whitestrict" in capsys.readouterr().out


def test_without_a_keyring_the_report_says_that_no_key_was_looked_up(
    ecl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import-ecl", str(ecl)]) == 0
    assert capsys.readouterr().err.endswith("\nNo keyring was given, so the keys were not looked up.\n")


def test_json_has_the_policy_and_for_each_group_where_it_differs(
    ecl: Path, ring: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["import-ecl", "--json", "--keyring", ring, str(ecl)]) == 0
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert printed.err == ""
    assert (answer["v"], answer["imported"], answer["activated"], answer["legacyinsecure"]) == (1, True, True, False)
    assert answer["policy"].startswith("# Made by")
    first, second = answer["groups"]
    assert (first["execgroup"], first["line"], first["rule"], first["decision"]) == (1, 3, "prod", None)
    assert first["laxer"] == []
    assert "nil-uuid" in first["stricter"]
    assert (second["dirpath"], second["decision"], second["stricter"], second["laxer"]) == ("", "deny", [], [])
    assert second["remarks"] == [
        f"left out: {KEYS['mallory']}, which is not in the keyring, so that ECL never finds it"
    ]
    assert answer["general"] == {"stricter": ["other-kinds"], "laxer": []}
    named = {*first["stricter"], *first["laxer"], "other-kinds"}
    assert set(answer["explanations"]) == named


def test_json_has_every_error_of_what_was_not_imported(ecl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ecl.write_text("activated = maybe\n")
    assert run(["import-ecl", "--json", str(ecl)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["imported"], answer["policy"], answer["groups"]) == (False, None, [])
    (error,) = answer["errors"]
    assert (error["line"], error["column"]) == (1, 13)


def test_what_was_chosen_reaches_every_rule(ecl: Path, ring: str, capsys: pytest.CaptureFixture[str]) -> None:
    ecl.write_text("legacyinsecure = true\n" + TOML)
    assert run(["import-ecl", "--permissive", "--assurance", "none", "--keyring", ring, str(ecl)]) == 0
    policy = capsys.readouterr().out
    assert "    mode: permissive\n    assurance: none\n" in policy
    assert run(["import-ecl", "--modern", "--keyring", ring, str(ecl)]) == 0
    assert "    unknown_signatures: deny\n    discounted_signatures: deny\n\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["a", "b"], ["--assurance", "some", "a"], ["--nonsense", "a"]])
def test_a_wrong_command_line_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(["import-ecl", *words])
    assert end.value.code == 2
    assert " --help` shows how" in capsys.readouterr().err


def test_help_ends_in_examples_that_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["import-ecl", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert "examples:" in lines
    assert max(map(len, lines)) <= 80
