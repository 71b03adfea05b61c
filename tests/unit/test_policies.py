"""The policies that come with eclctl: each passes its own tests, which notice when any part of it is taken away."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eclctl.cli.policy.command import run
from eclctl.config.accounts import NAMES
from eclctl.config.settings import Settings
from eclctl.files.guarded import read_unguarded
from eclctl.policytest.loading import beside_policies, load_tests
from eclctl.policytest.running import Runner
from tests.helpers.support import NOW, ROOT

POLICIES = ROOT / "policies"
EXAMPLES = sorted(path.parent for path in POLICIES.glob("*/tests"))
OVERVIEW = (POLICIES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_each_example_passes_its_tests_which_show_every_rule_both_ways(
    example: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test", "--all-rules", "--json", str(example)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["warnings"] == []
    assert answer["passed"] >= len(answer["rules"]) * 2


def test_there_is_an_example_for_each_of_five_situations_and_the_overview_names_it() -> None:
    assert [path.name for path in EXAMPLES] == ["chain", "from-ecl", "production", "projects", "vendor"]
    assert [path.name for path in EXAMPLES if f"({path.name}/)" not in OVERVIEW] == []


def test_the_overview_tells_that_the_keys_are_throwaway() -> None:
    assert "throwaway" in OVERVIEW


def loosened(policy: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Policies that each lack one thing that the example asks for, and what that is."""
    for number, rule in enumerate(policy["rules"]):
        for what, changed in loosened_rule(rule):
            rules = [*policy["rules"][:number], changed, *policy["rules"][number + 1 :]]
            yield f"{rule['name']}: {what}", {**policy, "rules": rules}
    if "withdrawn" in policy:
        yield "withdrawn", {key: value for key, value in policy.items() if key != "withdrawn"}


def loosened_rule(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rules that each lack one thing; one that would ask for nothing allows everything."""
    for key in {"require", "chain"} & rule.keys():
        for place in range(len(rule[key])):
            left = [*rule[key][:place], *rule[key][place + 1 :]]
            kept = without(rule, key, "distinct", "mode") if not left else rule
            yield f"{key} {place + 1}", {**kept, **({key: left} if left else {"decision": "allow"})}
    for key in {"forbid", "unknown_signatures", "discounted_signatures", "assurance", "message"} & rule.keys():
        yield key, without(rule, key)
    if rule.get("decision") == "deny":
        yield "decision", {**rule, "decision": "allow"}
    if {"groups", "users"} & rule["match"].keys():
        yield "who", {**rule, "match": without(rule["match"], "groups", "users")}


def without(mapping: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def failing(folder: Path) -> list[str]:
    """The names of the tests that fail, of a policy that loads; or how they name what is not there any more."""
    settings = Settings("", "", "", (str(folder),), ())
    made = load_tests(settings, beside_policies((str(folder),)), NAMES, now=NOW, read=read_unguarded)
    assert [str(problem) for problem in made.errors if "/tests/" not in problem.file] == []
    if made.snapshot is None:
        return [str(problem) for problem in made.errors]
    runner = Runner(made.snapshot, made.elsewhere)
    try:
        return [case.name for case in made.cases if not runner.run(case).passed]
    finally:
        runner.close()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_the_tests_of_an_example_notice_whatever_is_taken_out_of_it(example: Path, tmp_path: Path) -> None:
    shutil.copytree(POLICIES / "keys", tmp_path / "policies" / "keys")
    folder = Path(shutil.copytree(example, tmp_path / "policies" / example.name))
    shutil.copytree(ROOT / "examples" / "library", tmp_path / "examples" / "library")
    (file,) = folder.glob("*.yaml")
    # Strings all, as eclctl reads them: a fingerprint of digits stays one.
    policy = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    assert failing(folder) == []
    unnoticed = []
    for what, changed in loosened(policy):
        file.write_text(yaml.safe_dump(changed), encoding="utf-8")
        if not failing(folder):
            unnoticed.append(what)
    assert unnoticed == []


def transcripts() -> list[list[str]]:
    """What docs/policy-test.md shows of each run: the lines, and the exit status as the last."""
    text = (ROOT / "docs" / "policy-test.md").read_text(encoding="utf-8")
    shown = [part.split("\n    [exit ") for part in text.split("    $ eclctl policy test policies/chain\n")[1:]]
    return [[line.removeprefix("    ") for line in part[0].splitlines()] + [part[1][0]] for part in shown]


CHANGES = (
    ("10-chain.yaml", "    unknown_signatures: deny\n", ""),
    ("tests/chain.yaml", "{by: scanner, with: cosign, purpose: sbom", "{by: scaner, with: cosgin, purpose: sbom"),
)


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_the_document_shows_runs_as_they_are(
    shown: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(POLICIES, tmp_path / "policies")
    monkeypatch.chdir(tmp_path)
    for name, before, after in CHANGES[:shown]:
        file = tmp_path / "policies" / "chain" / name
        text = file.read_text(encoding="utf-8")
        assert before in text
        file.write_text(text.replace(before, after), encoding="utf-8")
    status = run(["test", "policies/chain"])
    output = capsys.readouterr()
    lines = [*(output.out + output.err).splitlines(), str(status)]
    assert list(map(undated, lines)) == list(map(undated, transcripts()[shown]))


def undated(line: str) -> str:
    """A line without the digest of a policy, which any change to it changes."""
    return re.sub("sha256:[0-9a-f]{64}", "sha256:...", line)
