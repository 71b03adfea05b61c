"""Attacks on users who sign: other content than was shown, a program that signs something else, their passphrase."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from eclctl.sif.reader import read
from tests.helpers.gnupg import GPG, PATIENCE, gnupg_home, needs_gpg
from tests.helpers.scribes import corpus_copy
from tests.helpers.sifbuilder import opened
from tests.helpers.site import ECLCTL
from tests.helpers.support import CORPUS
from tests.helpers.terminal import Terminal

KEY = CORPUS / "keys" / "pem" / "p256-private.pem"
SECRET = CORPUS / "keys" / "pgp" / "builder-secret.asc"


def program(folder: Path, body: str) -> dict[str, str]:
    """Put a program `gpg` before the real one; return the environment in which it is found."""
    folder.mkdir()
    script = folder / "gpg"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("how", ["renamed over", "written into", "data", "data of another file"])
def test_signing_another_image_than_was_shown_is_refused(how, tmp_path):
    """Also when its header and descriptors are those that were shown, and its times are set back."""
    path, other = corpus_copy("one-dsse-p256.sif", tmp_path), corpus_copy("two-dsse-p256.sif", tmp_path)
    terminal = Terminal("sign", "--key", KEY, path)
    terminal.expect("all the same")
    evil = other.read_bytes()
    if how.startswith("data"):
        with opened(path) as fd:
            (partition,) = (each for each in read(fd).descriptors if each.is_primary_partition)
        evil = path.read_bytes()
        evil = evil[: partition.offset] + bytes([evil[partition.offset] ^ 1]) + evil[partition.offset + 1 :]
        times = path.stat().st_mtime_ns
        if how != "data":
            path.unlink()
        path.write_bytes(evil)
        os.utime(path, ns=(times, times))
    elif how == "renamed over":
        other.rename(path)
    else:
        path.write_bytes(evil)
    terminal.answer("y")
    assert terminal.end() == 1
    assert "it has changed meanwhile" in terminal.text
    assert path.read_bytes() == evil


@needs_gpg
def test_signing_with_a_gpg_that_signs_something_else_leaves_the_image_as_it_was(tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    before = path.read_bytes()
    altered = f"""sed 's/"objectDigest":"sha256:./&f/' | {GPG} "$@" """
    lying = f'case "$*" in *--clear-sign*) {altered}; exit ;; esac\nexec {GPG} "$@"'
    done = subprocess.run(
        [*ECLCTL, "sign", "--secret-keyring", str(SECRET), str(path)],
        env=program(tmp_path / "bin", lying),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "GnuPG signed something else than it was asked for" in done.stderr
    assert path.read_bytes() == before


@needs_gpg
def test_signing_shows_the_passphrase_to_no_command_line_and_no_environment(tmp_path):
    path, ring, log = corpus_copy("one-unsigned.sif", tmp_path), tmp_path / "secret.asc", tmp_path / "log"
    passphrase = "a-passphrase-that-is-found"
    with gnupg_home() as home:
        fingerprint = home.make("Alice <alice@site.example>", passphrase=passphrase)
        ring.write_bytes(home.run("--export-secret-keys", fingerprint, passphrase=passphrase))
    assert shutil.which("env") is not None
    spying = f'{{ echo "argv: $*"; env; }} >> {log}\nexec {GPG} "$@"'
    done = subprocess.run(
        [*ECLCTL, "sign", "--secret-keyring", str(ring), str(path)],
        env=program(tmp_path / "bin", spying) | {"ECLCTL_KEY_PASSPHRASE": passphrase},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "--clear-sign" in log.read_text()
    assert passphrase not in log.read_text() + done.stdout + done.stderr
