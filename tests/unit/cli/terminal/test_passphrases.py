"""Passphrases: from a descriptor line by line, from the variable, and from nowhere else without a terminal."""

from __future__ import annotations

import os
import re
import resource

import pytest

from eclctl.cli.keys import command as keys
from eclctl.cli.sign import command as sign
from eclctl.cli.terminal.passphrases import VARIABLE, Passphrases
from eclctl.errors import KeyMaterialError
from tests.helpers.support import CORPUS
from tests.helpers.terminal import Terminal

COSIGN_KEY = CORPUS / "keys" / "cosign" / "ci.key"


def reading(data: bytes, environ: dict[str, str] | None = None) -> Passphrases:
    """Return passphrases from a pipe that holds `data` and has ended."""
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return Passphrases(read, {} if environ is None else environ, ask=False)


def test_each_key_takes_a_line_and_the_last_serves_the_rest():
    found = reading(b"one\ntwo\n")
    assert [found.get(str(number)) for number in range(4)] == ["one", "two", "two", "two"]


@pytest.mark.parametrize(
    ("data", "expected"), [(b"last", "last"), (b"\n", ""), (b" a b \n", " a b "), (b"\xff\n", "\udcff")]
)
def test_a_line_is_taken_as_it_is(data, expected):
    assert reading(data).get("k") == expected


def test_what_comes_after_the_line_is_left_to_others():
    read, write = os.pipe()
    os.write(write, b"secret\nrest")
    assert Passphrases(read, {}, ask=False).get("k") == "secret"
    assert os.read(read, 100) == b"rest"
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "ended before a passphrase for k.pem came"), (b"x" * 5000, "longer than 4096 bytes")]
)
def test_a_descriptor_without_a_passphrase_is_an_error(data, message):
    with pytest.raises(KeyMaterialError, match=message):
        reading(data).get("k.pem")


def test_a_descriptor_that_is_not_open_is_an_error():
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    with pytest.raises(KeyMaterialError, match=f"from descriptor {read}: Bad file descriptor"):
        Passphrases(read, {}, ask=False).get("k")


def test_the_variable_is_taken_out_of_the_environment():
    environ = {VARIABLE: "secret", "PATH": "/bin"}
    assert Passphrases(None, environ, ask=False).get("k") == "secret"
    assert environ == {"PATH": "/bin"}


def test_the_descriptor_goes_before_the_variable_which_is_gone_all_the_same():
    environ = {VARIABLE: "variable"}
    assert reading(b"descriptor\n", environ).get("k") == "descriptor"
    assert environ == {}


def test_where_nobody_can_be_asked_it_is_said_how_to_give_one():
    with pytest.raises(
        KeyMaterialError,
        match=re.escape(f"k\\x1b.pem has a passphrase; give it with --passphrase-fd N or in ${VARIABLE}"),
    ):
        Passphrases(None, {}, ask=False).get("k\x1b.pem")


@pytest.mark.parametrize("number", ["99999999999999999999", "9" * 5000, "-1", "\N{ARABIC-INDIC DIGIT THREE}", ""])
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (sign.run, ["--key", "k.pem", "a.sif"]),
        (keys.run, ["newpair", "--name", "x"]),
        (keys.run, ["generate-cosign-key-pair"]),
    ],
)
def test_a_number_that_no_descriptor_has_is_a_mistake_of_usage(command, arguments, number, capsys):
    with pytest.raises(SystemExit) as end:
        command([*arguments, f"--passphrase-fd={number}"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "is no number from 0 to 1048576; `eclctl " in said
    assert len(said) < 200


def test_a_crash_leaves_no_passphrase_in_a_core_file():
    kept = resource.getrlimit(resource.RLIMIT_CORE)[1]
    Passphrases(None, {}, ask=False)
    assert resource.getrlimit(resource.RLIMIT_CORE) == (0, kept)


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["sign", "--key", COSIGN_KEY, "a.sif"], "Enter passphrase"),
        (["keys", "generate-cosign-key-pair", "--output-key-prefix", "{}/ci"], "Enter password"),
        (["keys", "newpair", "--keyring-dir", "{}/ring"], "Enter your name"),
    ],
)
def test_what_is_typed_and_is_no_text_is_an_error_that_does_not_show_it(arguments, asked, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")  # as in every locale but C and POSIX
    terminal = Terminal(*(str(each).format(tmp_path) for each in arguments))
    terminal.expect(asked)
    terminal.type(b"hunter2 \xff\n")
    assert terminal.end() == 1
    assert "no text in this terminal's encoding" in terminal.text.replace("\r\n", " ")
    assert "Traceback" not in terminal.text
    assert not list(tmp_path.iterdir())
