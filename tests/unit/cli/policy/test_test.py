"""`eclctl policy test`: what an admin sees, what CI reads, and exit statuses that scripts can use."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from eclctl.cli.policy.command import run
from tests.helpers.policy_tests import HEAD, MET, NOT_MET, one, write
from tests.helpers.support import CORPUS, own_copy

GOOD = one("signed_by: [builder, scanner, approver]") + one("signed_by: [builder]", NOT_MET, name="less")
BAD = one("signed_by: [builder, scanner]", name="two is enough")


def test_tests_that_pass_are_0_and_counted_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, GOOD)
    assert run(["test", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"{folder}/tests/t.yaml: 2 tests passed", "2 tests passed, 1 of 1 rule tested both ways"]


def test_a_test_that_fails_is_1_with_expected_got_rule_reason_and_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, GOOD + BAD)
    assert run(["test", folder]) == 1
    out = capsys.readouterr().out
    file = f"{folder}/tests/t.yaml"
    assert f"{file}: 2 tests passed, 1 FAILED\n  FAIL  two is enough\n        at {file}:12\n" in out
    assert "        expected: allow requirements-met\n             got: deny requirements-not-met\n" in out
    assert f"        by rule production, {folder}/a.yaml:19\n" in out
    assert "reason: 1 of 2 approvals from security (scanner)" in out
    assert "1 of 3 tests FAILED" in out


def test_verbose_lists_what_passed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", "-v", write(tmp_path, GOOD)]) == 0
    assert "  ok    it\n  ok    less\n" in capsys.readouterr().out


def test_k_runs_only_tests_with_that_text_in_their_name_in_any_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, GOOD + BAD)
    assert run(["test", folder, "-k", "LES"]) == 0
    assert "\n1 test passed\n" in capsys.readouterr().out  # and nothing is said of rules, which it did not go through
    assert run(["test", folder, "-k", "nonesuch"]) == 4
    assert capsys.readouterr().err == "nothing was tested: no test is named so\n"


def test_a_policy_without_tests_is_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, GOOD)
    (tmp_path / "p" / "tests" / "t.yaml").unlink()
    ring = str(own_copy(CORPUS / "keys" / "pgp" / "site-ring.asc", tmp_path))
    (tmp_path / "p" / "a.yaml").write_text((tmp_path / "p" / "a.yaml").read_text().replace("hpc", "0"))
    assert run(["test", "--keyring", ring, folder]) == 4
    assert capsys.readouterr().err == "nothing was tested: no test is there; tests lie in `tests/` beside the policy\n"


def test_a_policy_or_tests_that_do_not_load_are_4_with_every_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, one("signed_by: [bilder]") + one("kind: sfi", name="b"))
    assert run(["test", folder]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        f"error: {folder}/tests/t.yaml:7:17: unknown signer 'bilder'",
        "     7 |     signed_by: [bilder]",
        "       |                 ^",
        "       = did you mean 'builder'?",
    ]
    assert ":10:11: kind of test 'b' must be one of" in lines[4]
    assert lines[-1] == "nothing was tested: 2 errors"


@pytest.mark.parametrize("arguments", [["--config", "a", "b"], ["--keyring", "a"], ["--all-rules", "-k", "x", "p"]])
def test_arguments_that_make_no_sense_are_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["test", *arguments]) == 2
    assert "eclctl policy test" in capsys.readouterr().err


def test_all_rules_fails_when_a_rule_is_not_shown_to_deny(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, one("signed_by: [builder, scanner, approver]"))
    assert run(["test", folder]) == 0
    assert "  production: no test shows that it denies anything (" in capsys.readouterr().out
    assert run(["test", "--all-rules", folder]) == 1


def test_json_has_every_test_rule_and_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, GOOD + BAD)
    assert run(["test", "--json", folder]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["v"], answer["passed"], answer["failed"], answer["errors"]) == (1, 2, 1, [])
    last = answer["tests"][-1]
    assert (last["name"], last["line"], last["passed"], last["rule"]) == ("two is enough", 12, False, "production")
    assert last["differences"] == [
        {"what": "decision", "expected": "allow requirements-met", "got": "deny requirements-not-met"}
    ]
    assert last["missing"] == ["2 approvals from security"]
    assert [(rule["name"], rule["allowed"], rule["denied"]) for rule in answer["rules"]] == [("production", 1, 2)]


def test_junit_is_written_also_when_nothing_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.xml"
    assert run(["test", "--junit", str(target), write(tmp_path, one("kind: sfi"))]) == 4
    (case,) = ET.parse(target).getroot().iter("testcase")
    assert case.find("error") is not None


def test_junit_may_be_a_link_or_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link to a file stays, and /dev/stdout is a link to a pipe."""
    policy, link, pipe = write(tmp_path, GOOD), tmp_path / "link.xml", tmp_path / "pipe"
    link.symlink_to("out.xml")
    assert run(["test", "--junit", str(link), policy]) == 0
    assert link.is_symlink()
    assert ET.parse(tmp_path / "out.xml").getroot().tag == "testsuites"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert run(["test", "--junit", str(pipe), policy]) == 0
        assert b"<testsuite" in os.read(reader, 65536)
    finally:
        os.close(reader)


def test_junit_that_cannot_be_written_is_3_and_the_results_are_still_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "none" / "out.xml"
    assert run(["test", "--junit", str(target), write(tmp_path, GOOD)]) == 3
    output = capsys.readouterr()
    assert "2 tests passed" in output.out
    assert output.err == f"eclctl policy test: cannot write {target}: No such file or directory\n"


def test_a_configuration_names_policies_beside_policies_them_and_keyrings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, one("signed_by: [builder]"), head=HEAD.replace("keyrings: [/", "keyrings: [/nowhere/"))
    (tmp_path / "p" / "a.yaml").write_text(
        "version: 1\nsigners: {builder: {pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}}\n"
        "rules: [{name: r, require: [{any_of: [builder]}]}]\n"
    )
    own_copy(CORPUS / "keys" / "pgp" / "site-ring.asc", tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(
        "version: 1\nsockets: {check: a, admin: b}\nstate_dir: s\npolicies: [p]\nkeyrings: [site-ring.asc]\n"
    )
    for path in (config, *tmp_path.rglob("*.yaml")):
        path.chmod(0o644)
    assert run(["test", "--config", str(config)]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/p/tests/t.yaml: 1 test passed\n")


def test_a_configured_policy_must_be_roots_and_one_that_is_only_tried_out_anybodys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, GOOD)
    config = tmp_path / "config.yaml"
    config.write_text("version: 1\nsockets: {check: a, admin: b}\nstate_dir: s\npolicies: [p]\nkeyrings: [r]\n")
    config.chmod(0o644)
    (tmp_path / "p" / "a.yaml").chmod(0o666)
    assert run(["test", folder]) == 0
    assert run(["test", "--config", str(config)]) == 4
    assert ("is writable by others than root" in capsys.readouterr().err) == (os.geteuid() == 0)


def test_keyrings_on_the_command_line_replace_those_of_the_tests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path, GOOD)
    assert run(["test", "--keyring", str(CORPUS / "keys" / "pgp" / "builder.asc"), folder]) == 4
    assert "F69053E5830DBDBA72B3D8F61BDDA97D14902F26 is in no keyring" in capsys.readouterr().err


def test_tests_can_lie_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path, GOOD)
    elsewhere = tmp_path / "mine.yaml"
    elsewhere.write_text(HEAD + one("signed_by: [builder, scanner, approver]", MET))
    assert run(["test", "--tests", str(elsewhere), folder]) == 0
    assert capsys.readouterr().out.startswith(f"{elsewhere}: 1 test passed\n")


def test_what_a_test_says_reaches_no_terminal_unescaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules = 'rules: [{name: r, match: {paths: ["/srv/**"]}, require: [{any_of: [builder]}], message: "\u202eevil"}]\n'
    folder = write(
        tmp_path, one("signed_by: [scanner]", '{decision: allow, code: requirements-met, message: "x"}'), rules
    )
    run(["test", folder])
    output = capsys.readouterr()
    assert "\u202e" not in output.out + output.err
