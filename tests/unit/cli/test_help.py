"""What every command says of itself: readable at 80 columns, with the same names for the same options."""

from __future__ import annotations

import sys

import pytest

from eclctl.cli.entry import COMMANDS, main

_BELOW = {
    "keys": "newpair list import export remove search pull push refresh generate-cosign-key-pair",
    "sif": "list header info dump",
    "policy": "check show schema test simulate withdraw exception import-ecl",
    "policy exception": "new list check",
}
ALL = ["", *COMMANDS, *(f"{over} {name}" for over, names in _BELOW.items() for name in names.split())]
"""Every command, also those of commands."""


def help_of(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys, "argv", ["eclctl", *command.split(), "--help"])
    assert main() == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", ALL)
def test_help_fits_a_terminal_of_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [line for line in help_of(command, monkeypatch, capsys).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("command", ALL)
def test_json_has_its_short_name_wherever_it_is(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "\n  --json" not in help_of(command, monkeypatch, capsys)


@pytest.mark.parametrize("command", [name for name in ALL if name.startswith("keys ") or name in {"push", "pull"}])
def test_the_exit_status_when_nothing_can_be_written_is_told(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join(help_of(command, monkeypatch, capsys).split())
    assert "3 when the output cannot be written" in text.partition("exit status: ")[2]


@pytest.mark.parametrize(("option", "short"), [("--force", "-F"), ("--url", "-u")])
@pytest.mark.parametrize("command", [name for name in ALL if not name.startswith("policy")])
def test_an_option_has_the_same_short_name_wherever_it_is(
    option: str, short: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line.strip() for line in help_of(command, monkeypatch, capsys).splitlines()]
    named = [line for line in lines if line.startswith((option, "-")) and option in line.replace(",", " ").split()]
    assert all(line.startswith(f"{short}") for line in named)


def test_every_command_of_commands_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for over, names in _BELOW.items():
        text = help_of(over, monkeypatch, capsys)
        assert all(f"    {name}" in text for name in names.split())
