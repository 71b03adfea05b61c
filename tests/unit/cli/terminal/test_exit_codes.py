"""The table of exit codes, docs/exit-codes.md and what each command says of itself are the same."""

from __future__ import annotations

import re
import sys

import pytest

from eclctl.cli import entry
from eclctl.cli.terminal import exit_codes
from tests.helpers.support import ROOT

DOCUMENT = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in DOCUMENT.splitlines() if "|" in line]
NAMED = {name: int(row[0]) for row in ROWS if row[0].isdigit() for name in re.findall(r"`([A-Z_]+)`", row[1])}
COMMANDS = {
    command: {str(code) for code, meaning in enumerate(row[1:]) if meaning}
    for row in ROWS
    if row[0].startswith("`")
    for command in re.findall(r"`([^`]+)`", row[0])
}


def said(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["eclctl", *command.split(), "--help"])
    assert entry.main() == exit_codes.OK
    return capsys.readouterr().out


def test_the_document_has_every_constant() -> None:
    assert {name: value for name, value in vars(exit_codes).items() if name.isupper()} == NAMED


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_says_the_codes_of_the_document(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = re.search(r"^exit status[^:]*:(.*?)\n\n", said(command, monkeypatch, capsys), re.DOTALL | re.MULTILINE)
    assert status is not None
    assert set(re.findall(r"(?<![\w-])[0-9](?= )", status[1])) == COMMANDS[command]


def test_the_document_has_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    every = {
        f"{command} {order}" if order else command
        for command in entry.COMMANDS
        for order in (orders(said(command, monkeypatch, capsys)) if command in {"keys", "policy", "sif"} else [""])
    }
    assert set(COMMANDS) == every


def orders(text: str) -> list[str]:
    return [word for word in re.findall(r"^ {2,4}([a-z][a-z0-9-]+)(?: +|$)", text, re.MULTILINE) if word != "eclctl"]


@pytest.mark.parametrize(("decision", "code"), [("allow", 0), ("deny", 1), ("Allow", 3), (None, 3), (True, 3)])
def test_what_is_not_plainly_allow_or_deny_is_no_decision(decision: object, code: int) -> None:
    assert exit_codes.code_of_decision(decision) == code
