"""With `--json`, a command that cannot do its work says why in an object on standard output, too."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from eclctl.cli.entry import main

NOWHERE = ["--config", "/nonexistent/config.yaml"]


@pytest.fixture(autouse=True)
def _an_empty_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECLCTL_KEYS", str(tmp_path / "keys"))


@pytest.mark.parametrize(
    ("command", "status", "code"),
    [
        (["report", *NOWHERE], 3, "config"),
        (["report", "--socket", "/nonexistent/admin.sock"], 3, "no-daemon"),
        (["policy", "simulate", "--revoke", "mallory", *NOWHERE], 3, "config"),
        (["policy", "withdraw", "--signer", "mallory", "--reason", "gone", *NOWHERE], 3, "config"),
        (["policy", "exception", "list", *NOWHERE], 1, "config"),
        (["keys", "list", "nobody"], 1, "key-material"),
        (["keys", "import", *NOWHERE, "joe.asc"], 1, "key-material"),
        (["keys", "export", "-o", "/nonexistent/joe.asc", "nobody"], 1, "key-material"),
        (["keys", "remove", "nobody"], 1, "key-material"),
        (["keys", "remove", "A51A441E6236763CE206A977354CB5C746F78F74"], 1, "key-material"),
        (["keys", "newpair", "--name", "Joe", "--password", ""], 1, "key-material"),
        (["keys", "search", "--url", "nowhere", "joe"], 1, "config"),
        (["keys", "pull", "--url", "nowhere", "joe"], 1, "config"),
        (["keys", "push", "--url", "nowhere", "joe"], 1, "config"),
        (["keys", "refresh", "--url", "nowhere"], 1, "config"),
        (["push", "/nonexistent/a.sif", "docker://registry.example/a:1"], 1, "unreadable"),
        (["pull", "--require-allow", *NOWHERE, "/nonexistent/a.sif", "oras://registry.example/a:1"], 1, "config"),
    ],
)
def test_why_there_is_no_answer_is_an_object(
    command: list[str], status: int, code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["eclctl", *command, "--json"])
    assert main() == status
    found = capsys.readouterr()
    shape = json.loads(found.out)
    assert (shape["v"], shape["error"]["code"]) == (1, code)
    assert shape["error"]["message"].splitlines()[0] in found.err


def test_a_policy_that_cannot_be_shown_has_the_errors_that_check_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes = []
    for command in ("check", "show"):
        monkeypatch.setattr(sys, "argv", ["eclctl", "policy", command, *NOWHERE, "--json"])
        assert main() == 1
        shapes.append(json.loads(capsys.readouterr().out))
    assert shapes[1] == {"v": 1, "policy": None, "errors": shapes[0]["errors"]}
