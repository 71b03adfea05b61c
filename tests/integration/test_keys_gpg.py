"""`eclctl keys` beside GnuPG: pairs that are made, exported and imported either way."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eclctl.sign.keyrings.rings import UserRing
from eclctl.sign.keyrings.transferable import Protection
from tests.helpers.gnupg import PATIENCE, gnupg_home, needs_gpg
from tests.helpers.support import ROOT

pytestmark = needs_gpg
SECRET = "a pass phrase"
COMMAND = [sys.executable, "-c", "import sys; from eclctl.cli.entry import main; sys.exit(main())", "keys"]


@pytest.fixture
def ring(tmp_path):
    return UserRing(str(tmp_path / "keys"))


@pytest.fixture
def environment(ring):
    kept = {name: value for name, value in os.environ.items() if name != "ECLCTL_KEY_PASSPHRASE"}
    return {**kept, "ECLCTL_KEYS": ring.directory, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def run(environment):
    """Run a command as a program of its own, without a terminal."""

    def run(*arguments, stdin=b"", status=0):
        command = [*COMMAND, *map(str, arguments)]
        found = subprocess.run(
            command, input=stdin, capture_output=True, check=False, timeout=PATIENCE, env=environment
        )
        assert found.returncode == status, (found.stdout, found.stderr)
        return found

    return run


def test_a_pair_is_made_by_options_alone_and_goes_to_gnupg_and_back(run, ring, tmp_path):
    made = run(
        *("newpair", "--json", "--name", "Joe User", "--email", "joe@site.example", "--comment", "demo"),
        *("--type", "ed25519", "--expire", "1y", "--passphrase-fd", "0"),
        stdin=f"{SECRET}\n".encode(),
    )
    shape = json.loads(made.stdout)
    key = shape["key"]
    assert (key["user"], key["algorithm"], key["protection"]) == (
        "Joe User (demo) <joe@site.example>",
        "Ed25519",
        "passphrase",
    )
    assert Path(shape["revocation"]).read_bytes().count(b":-----BEGIN PGP PUBLIC KEY BLOCK-----") == 1
    exported = run("export", "--secret", "joe@site.example").stdout
    with gnupg_home() as home:
        home.run("--import", stdin=exported)
        signed = home.run("--clear-sign", stdin=b"text\n", passphrase=SECRET)
        assert b"GOODSIG" in home.run("--status-fd", "1", "--verify", stdin=signed)
        back = home.run("--export-secret-keys", "--armor", passphrase=SECRET)
    run("remove", "--both", "--yes", key["fingerprint"])
    assert ring.secret_keys() == {}
    assert run("import", "-", stdin=back).stdout.startswith(b"new, secret new")
    (found,) = ring.secret_keys().values()
    assert set(found.protections.values()) == {Protection.PASSPHRASE}


def test_the_references_own_options_make_its_kind_of_pair(run, ring):
    made = run(
        *("newpair", "--name", "Joe User", "--email", "joe@site.example", "--comment", "demo"),
        *("--password", "secret", "--push=false", "--bit-length", "2048"),
    )
    assert made.stdout.startswith(b"Generating Entity and OpenPGP Key Pair... done\n")
    assert made.stdout.endswith(b"NOT pushing newly created key to keystore\n")
    assert b"WARNING: --password shows the passphrase" in made.stderr
    (key,) = ring.secret_keys().values()
    assert set(key.protections.values()) == {Protection.PASSPHRASE}
    with gnupg_home() as home:
        home.run("--import", stdin=run("export", "joe@site.example").stdout)
        records = [line.split(":") for line in home.run("--with-colons", "--list-keys").decode().splitlines()]
    listed = [
        (record[0], record[2], record[3], record[6], record[11]) for record in records if record[0] in {"pub", "sub"}
    ]
    assert listed == [("pub", "2048", "1", "", "scESC"), ("sub", "2048", "1", "", "e")]


def test_the_passphrase_may_come_in_a_variable(run, ring, environment):
    environment["ECLCTL_KEY_PASSPHRASE"] = SECRET
    run("newpair", "--name", "Joe", "--type", "ed25519")
    (key,) = ring.secret_keys().values()
    assert set(key.protections.values()) == {Protection.PASSPHRASE}


def test_a_gnupg_without_keys_is_listed_empty(run, environment):
    with gnupg_home() as home:
        for folder in ("", "none"):
            environment["GNUPGHOME"] = str(home.path / folder)
            for secret in ([], ["--secret"]):
                listed = run("list", "--gnupg", "--json", *secret)
                assert (json.loads(listed.stdout)["keys"], listed.stderr) == ([], b"")


def test_a_gnupg_that_cannot_be_read_is_not_listed_empty(run, environment):
    with gnupg_home() as home:
        (home.path / "pubring.kbx").write_bytes(b"no keybox at all" * 8)
        environment["GNUPGHOME"] = str(home.path)
        found = run("list", "--gnupg", "--json", status=1)
    assert json.loads(found.stdout)["error"]["code"] == "key-material"


def test_a_pair_that_cannot_be_pushed_is_there_all_the_same(run, ring):
    push = ("--push", "-u", "hkp://127.0.0.1:1")
    made = run("newpair", "--json", "--name", "Joe", "--type", "ed25519", "--no-passphrase", *push, status=1)
    shape = json.loads(made.stdout)
    assert list(ring.secret_keys()) == [shape["key"]["fingerprint"]]
    assert (shape["server"], shape["error"]["code"]) == (None, "remote")
    assert shape["error"]["message"].encode() in made.stderr


def test_gnupgs_own_keys_are_listed(run, environment):
    with gnupg_home() as home:
        name = home.make("Alice <alice@example.org>")
        environment["GNUPGHOME"] = str(home.path)
        assert [key["fingerprint"] for key in json.loads(run("list", "--gnupg", "--json").stdout)["keys"]] == [name]
        assert name.encode() in run("list", "--gnupg", "--secret").stdout


def test_what_gnupg_revokes_is_revoked_here(run):
    with gnupg_home() as home:
        name = home.make("Alice <alice@example.org>")
        run("import", "-", stdin=home.run("--export"))
        revocation = (home.path / "openpgp-revocs.d" / f"{name}.rev").read_bytes().replace(b":-----", b"-----")
    assert run("import", "-", stdin=revocation).stdout.startswith(b"updated")
    assert b"it is revoked" in run("list").stdout


def _talk(command: list[str], environment: dict[str, str], answers: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Run a command on a terminal of its own; answer each prompt when it has come."""
    terminal, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    shown, waiting = b"", list(answers)
    position = 0
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            part = os.read(terminal, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
        while waiting and (at := shown.find(waiting[0][0], position)) >= 0:
            position = at + len(waiting[0][0])
            os.write(terminal, waiting.pop(0)[1] + b"\n")
    os.close(terminal)
    return process.wait(PATIENCE), shown


def test_at_a_terminal_everything_is_asked_for_and_the_passphrase_twice_and_unseen(ring, environment):
    answers = [
        (b"Enter your name", b"Joe User"),
        (b"Enter your email address", b"joe@site.example"),
        (b"Enter optional comment", b""),
        (b"Enter a passphrase : ", b"one thing"),
        (b"Retype your passphrase : ", b"another"),
        (b"Enter a passphrase : ", SECRET.encode()),
        (b"Retype your passphrase : ", SECRET.encode()),
    ]
    status, shown = _talk([*COMMAND, "newpair", "--type", "ed25519"], environment, answers)
    assert status == 0, shown
    assert b"The two are not the same" in shown
    assert SECRET.encode() not in shown
    (key,) = ring.secret_keys().values()
    assert key.user_ids == ("Joe User <joe@site.example>",)
    assert set(key.protections.values()) == {Protection.PASSPHRASE}


@pytest.mark.parametrize(("answer", "left"), [(b"n", 1), (b"", 1), (b"y", 0)])
def test_at_a_terminal_a_secret_key_is_removed_when_that_is_confirmed(ring, environment, answer, left):
    from tests.helpers.pgp import Key, packet, user_id

    key = Key()
    ring.add(packet(5, key.body + b"\0\0\x08\x01\0\x01") + user_id(key))
    status, shown = _talk(
        [*COMMAND, "remove", "--secret", key.fingerprint], environment, [(b"for good? [y/N] ", answer)]
    )
    assert (status, len(ring.secret_keys())) == (left, left), shown
    assert b"Alice <alice@example.org>" in shown


def test_an_empty_passphrase_at_a_terminal_needs_a_yes(ring, environment):
    asked = [(b"Enter a passphrase : ", b""), (b"Retype your passphrase : ", b""), (b"[y/N] ", b"n")]
    status, _ = _talk([*COMMAND, "newpair", "--name", "Joe", "--email", "", "--type", "ed25519"], environment, asked)
    assert (status, ring.secret_keys()) == (1, {})
    status, _ = _talk(
        [*COMMAND, "newpair", "--name", "Joe", "--email", "", "--type", "ed25519"],
        environment,
        [*asked[:2], (b"[y/N] ", b"y")],
    )
    (key,) = ring.secret_keys().values()
    assert (status, set(key.protections.values())) == (0, {Protection.NONE})
