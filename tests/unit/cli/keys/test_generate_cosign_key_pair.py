"""`eclctl keys generate-cosign-key-pair`: two files or none, and never over others unasked."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from eclctl.cli.keys import command as keys
from eclctl.errors import KeyMaterialError
from eclctl.sign.cosign_keys import read_cosign_key
from eclctl.signature.keys import parse_public_key


def run(capsys, *arguments: str) -> tuple[int, str]:
    try:
        status = keys.run(["generate-cosign-key-pair", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    return status, capsys.readouterr().err


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COSIGN_PASSWORD", raising=False)
    monkeypatch.setattr(sys, "stdin", None)
    return tmp_path


def test_the_files_have_the_reference_s_names_and_belong_together(capsys, here, monkeypatch):
    monkeypatch.setenv("COSIGN_PASSWORD", "secret words")
    status, err = run(capsys)
    assert (status, err) == (0, "INFO:    Creating cosign key-pair singularity-cosign.key/.pub\n")
    private, public = here / "singularity-cosign.key", here / "singularity-cosign.pub"
    assert sorted(here.iterdir()) == [private, public]
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key = read_cosign_key(private.read_bytes(), lambda: b"secret words")
    assert key.public == parse_public_key(public.read_bytes())


def test_in_json_it_says_where_the_files_are_and_which_key_it_is(capsys, here, monkeypatch):
    monkeypatch.setenv("COSIGN_PASSWORD", "secret words")
    assert keys.run(["generate-cosign-key-pair", "--json", "--output-key-prefix", "ci"]) == 0
    shape = json.loads(capsys.readouterr().out)
    identity = parse_public_key((here / "ci.pub").read_bytes()).id
    assert shape == {"v": 1, "private": "ci.key", "public": "ci.pub", "id": identity, "algorithm": "P-256"}
    assert keys.run(["generate-cosign-key-pair", "--json", "--output-key-prefix", "ci"]) == 1
    found = capsys.readouterr()
    error = json.loads(found.out)["error"]
    assert error["code"] == "key-material"
    assert error["message"] in found.err


def test_a_password_comes_from_a_descriptor_without_the_end_of_its_line(capsys, here):
    read, write = os.pipe()
    os.write(write, "päss\n".encode())
    os.close(write)
    status, _ = run(capsys, "--output-key-prefix", "ci", "--password-fd", str(read))
    os.close(read)
    assert status == 0
    assert read_cosign_key((here / "ci.key").read_bytes(), "päss".encode)


def test_an_empty_password_is_taken_and_warned_of(capsys, monkeypatch):
    monkeypatch.setenv("COSIGN_PASSWORD", "")
    status, err = run(capsys, "--output-key-prefix", "ci")
    assert status == 0
    assert err.startswith("WARNING: the password is empty")


@pytest.mark.parametrize("there", ["ci.key", "ci.pub"])
def test_files_that_are_there_stay(capsys, here, there, monkeypatch):
    monkeypatch.setenv("COSIGN_PASSWORD", "x")
    (here / there).write_text("old")
    status, err = run(capsys, "--output-key-prefix", "ci")
    assert status == 1
    assert f"file exists, will not overwrite: {there}" in err
    assert {path.name: path.read_text() for path in here.iterdir()} == {there: "old"}


def test_without_a_password_nothing_is_written(capsys, here):
    status, err = run(capsys)
    assert status == 1
    assert "give it with --passphrase-fd or in COSIGN_PASSWORD" in err
    assert list(here.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(capsys, monkeypatch):
    monkeypatch.setenv("COSIGN_PASSWORD", "x")
    status, err = run(capsys, "--output-key-prefix", "nowhere/ci")
    assert status == 1
    assert "nowhere/ci.key: No such file or directory" in err


@pytest.mark.parametrize("number", ["-1", "x", "99999999999999999999"])
def test_what_is_no_descriptor_is_a_usage_error(capsys, number):
    status, err = run(capsys, "--password-fd", number)
    assert status == 2
    assert "is no number from 0 to 1048576" in err or "expected one argument" in err


def typed(here: Path, *lines: str) -> tuple[int, str]:
    """Run the command at a terminal of its own, where a user types `lines`, each when it is asked for."""
    master, slave = pty.openpty()
    code = "import sys; from eclctl.cli.keys.command import run; sys.exit(run(['generate-cosign-key-pair']))"
    login = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    process = subprocess.Popen(
        [sys.executable, "-c", login + code], stdin=slave, stdout=slave, stderr=slave, cwd=here, start_new_session=True
    )
    os.close(slave)
    screen = b""
    left = list(lines)
    try:
        while data := _read(master):
            screen += data
            if left and screen.rstrip(b" ").endswith((b":", b"[y/N]")):
                os.write(master, left.pop(0).encode() + b"\n")
                screen += b"\n"
    finally:
        os.close(master)
        status = process.wait(60)
    assert not left
    return status, screen.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # the other side is closed
        return b""


def test_a_password_is_typed_twice_and_not_shown(here):
    status, screen = typed(here, "typed words", "typed words")
    assert status == 0, screen
    assert "typed words" not in screen
    assert read_cosign_key((here / "singularity-cosign.key").read_bytes(), lambda: b"typed words")


def test_two_different_passwords_make_no_key(here):
    status, screen = typed(here, "one", "another")
    assert status == 1
    assert "two different passwords were typed" in screen
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(("answer", "replaced"), [("y", True), ("", False), ("n", False)])
def test_who_is_asked_decides_whether_files_are_replaced(here, answer, replaced):
    private = here / "singularity-cosign.key"
    private.write_text("old")
    status, _ = typed(here, answer, *(["new", "new"] if replaced else []))
    assert status == (0 if replaced else 1)
    if replaced:
        assert read_cosign_key(private.read_bytes(), lambda: b"new")
        with pytest.raises(KeyMaterialError):
            read_cosign_key(private.read_bytes(), lambda: b"old")
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    else:
        assert private.read_text() == "old"


def test_libsodium_is_loaded_for_cosign_s_keys_alone():
    commands = "eclctl.cli.keys.command, eclctl.cli.sign.native, eclctl.cli.sign.cosign, eclctl.cli.verify.command"
    code = f"import sys; import {commands}; sys.exit('nacl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
