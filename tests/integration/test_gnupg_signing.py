"""Signing with real GnuPG: keys of our own ring in throw-away homes, and the user's own home with its agent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from eclctl.cli.terminal.cosign_passwords import COSIGN_VARIABLE
from eclctl.cli.terminal.passphrases import VARIABLE
from eclctl.errors import KeyMaterialError
from eclctl.sign import gnupg_run
from eclctl.sign.gnupg import GnupgError, WrongPassphraseError, gnupg_keys, gnupg_signer, ring_signer
from eclctl.sign.gnupg_keys import NewKey, make_pair
from eclctl.sign.keyrings.transferable import Protection, parse_keys
from eclctl.signature import openpgp
from eclctl.signature.openpgp.cleartext import parse_cleartext
from tests.helpers.gnupg import GPG, Home, gnupg_home, needs_gpg
from tests.helpers.support import CORPUS

pytestmark = needs_gpg
PGP = CORPUS / "keys" / "pgp"
TEXT = b'{"version":1}\n-dash  \nFrom here\n'
SECRET = "p\u00e4ss phrase"


def never() -> str:
    raise AssertionError("the user is not to be asked")


def fingerprint(blob: bytes) -> str:
    return openpgp.Keyring.parse(blob).certificates[0].fingerprint


@pytest.fixture(scope="module")
def protected():
    """A key pair with a passphrase."""
    return make_pair(NewKey("J\u00f6e User", "joe@site.example", "demo", bits=2048), SECRET)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where homes are made, for looking at what is left there. Sockets want a short path."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)
        assert os.listdir(folder) == []


@pytest.mark.parametrize("name", ["builder", "scanner", "subkey", "lab", "release", "approver", "outsider"])
@pytest.mark.parametrize("purpose", [None, "scan"])
def test_a_corpus_key_signs_and_our_verifier_and_gpg_agree(name, purpose, places):
    secret = (PGP / f"{name}-secret.asc").read_bytes()
    with ring_signer(secret, fingerprint(secret), never) as signer:
        for hash_name in signer.hash_names:
            message = signer.clear_sign(TEXT, hash_name=hash_name, purpose=purpose)
            (found,) = openpgp.check(message, openpgp.Keyring.parse((PGP / f"{name}.asc").read_bytes())).signatures
            assert (found.hash.lower(), found.purposes) == (hash_name, {purpose} if purpose else set())
        assert signer.identity.fingerprint == fingerprint(secret)
        assert parse_keys(signer.certificate).keys.keys() == {signer.identity.fingerprint}
    with gnupg_home() as home:
        home.run("--import", PGP / f"{name}.asc")
        assert b"GOODSIG" in home.run("--status-fd", "1", "--verify", stdin=message)


def test_a_protected_key_asks_once_and_signs_as_often_as_it_must(protected, places):
    asked = []

    def ask() -> str:
        asked.append(1)
        return SECRET

    with ring_signer(protected.secret, protected.fingerprint, ask) as signer:
        first = signer.clear_sign(b"one\n", hash_name="sha256", purpose=None)
        second = signer.clear_sign(b"two\n", hash_name="sha512", purpose=None)
    assert (b"one" in first, b"two" in second, asked) == (True, True, [1])


@pytest.mark.parametrize("wrong", ["", "wrong", SECRET + " "])
def test_a_wrong_passphrase_is_found_out_before_anything_happens(protected, places, wrong):
    with (
        pytest.raises(WrongPassphraseError, match="the passphrase is wrong"),
        ring_signer(protected.secret, protected.fingerprint, lambda: wrong),
    ):
        pytest.fail("the key is open")


@pytest.mark.parametrize("wrong", ["two\nlines", "nul\0", "x" * 256])
def test_a_passphrase_that_gpg_would_cut_short_is_refused(protected, places, wrong):
    with (
        pytest.raises(GnupgError, match="one line of at most"),
        ring_signer(protected.secret, protected.fingerprint, lambda: wrong),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("expired", "it has expired"),
        ("revoked", "it is revoked"),
        ("future", "it is not valid yet"),
        ("encryptonly", "none of its keys is made for signing"),
        ("dsa", "DSA keys are deprecated"),
    ],
)
def test_a_key_whose_signatures_would_not_count_does_not_sign(name, why):
    secret = (PGP / f"{name}-secret.asc").read_bytes()
    with pytest.raises(GnupgError, match=why), ring_signer(secret, fingerprint(secret), never):
        pass


def test_what_has_no_secret_part_does_not_sign():
    certificate = (PGP / "builder.asc").read_bytes()
    with pytest.raises(GnupgError, match="no secret part"), ring_signer(certificate, fingerprint(certificate), never):
        pass
    with pytest.raises(GnupgError, match="there is no key ABCD"), ring_signer(certificate, "abcd", never):
        pass
    with pytest.raises(KeyMaterialError), ring_signer(b"garbage", "ABCD", never):
        pass


def test_a_subkey_signs_while_its_primary_key_is_offline(places):
    with gnupg_home() as home:
        name = home.make("Alice <alice@example.org>", "ed25519", "cert", SECRET)
        home.run("--quick-add-key", name, "ed25519", "sign", "0", passphrase=SECRET)
        secret = home.run("--export-secret-subkeys", name, passphrase=SECRET)
        certificate = home.run("--export", name)
    assert Protection.ABSENT in parse_keys(secret).keys[name].protections.values()
    with ring_signer(secret, name, lambda: SECRET) as signer:
        message = signer.clear_sign(TEXT, hash_name="sha256", purpose=None)
    (found,) = openpgp.check(message, openpgp.Keyring.parse(certificate)).signatures
    assert (found.certificate, found.key == name) == (name, False)


def test_a_primary_key_that_is_offline_does_not_sign(places):
    with gnupg_home() as home:
        name = home.make("Alice <alice@example.org>", "ed25519", "sign")
        home.run("--quick-add-key", name, "cv25519", "encr", "0")
        secret = home.run("--export-secret-subkeys", name)
    with pytest.raises(GnupgError, match="kept elsewhere"), ring_signer(secret, name, never):
        pass


def test_hashes_that_are_too_short_for_a_key_are_refused():
    secret = (PGP / "lab-secret.asc").read_bytes()
    with ring_signer(secret, fingerprint(secret), never) as signer:
        assert signer.hash_names == ("sha384", "sha512")
        with pytest.raises(GnupgError, match="signs under sha384, sha512, not under sha256"):
            signer.clear_sign(TEXT, hash_name="sha256", purpose=None)


@pytest.mark.parametrize("purpose", ["", "Scan", "a b", "%k", "x" * 33, "scan@eclctl.org=x"])
def test_a_purpose_that_is_none_is_refused(purpose):
    secret = (PGP / "scanner-secret.asc").read_bytes()
    with ring_signer(secret, fingerprint(secret), never) as signer, pytest.raises(GnupgError, match="names no purpose"):
        signer.clear_sign(TEXT, hash_name="sha256", purpose=purpose)


@pytest.mark.parametrize(
    ("new", "secret"),
    [
        (NewKey("J\u00f6e User", "joe@site.example", "demo", bits=2048), SECRET),
        (NewKey("", "joe@site.example", bits=2048, days=30), None),
        (NewKey("%commit", "", "%secring", bits=0), None),
        (NewKey("1 Joe", "j@x", bits=0, days=1), SECRET),
    ],
)
def test_a_pair_is_what_was_wished_for(new, secret, places):
    pair = make_pair(new, secret)
    key = parse_keys(pair.secret).keys[pair.fingerprint]
    assert set(key.protections.values()) == {Protection.PASSPHRASE if secret else Protection.NONE}
    assert key.user_ids == (new.user_id,)
    assert len(key.protections) == (2 if new.bits else 1)
    status = openpgp.Keyring.parse(pair.secret).status(pair.fingerprint, pair.fingerprint)
    lifetime = None if status.valid_until is None else status.valid_until - status.created
    assert lifetime in ({None} if not new.days else range(new.days * 86400 - 60, new.days * 86400 + 60))
    with ring_signer(pair.secret, pair.fingerprint, lambda: secret or never()) as signer:
        assert signer.identity.user_id == new.user_id


def test_what_revokes_a_new_pair_does(places):
    """GnuPG writes a colon before the block, which a user takes away who means it."""
    pair = make_pair(NewKey("Joe", "", bits=0), None)
    (loose,) = parse_keys(pair.revocation.replace(b":-----BEGIN", b"-----BEGIN")).revocations
    revoked = parse_keys(pair.secret).keys[pair.fingerprint].revoked_by(loose)
    with pytest.raises(GnupgError, match="it is revoked"), ring_signer(revoked.whole(), pair.fingerprint, never):
        pass


def test_no_passphrase_is_in_any_argument_or_environment(protected, places, tmp_path, monkeypatch):
    """A program on the PATH notes how it was started, and passes everything on."""
    (tmp_path / "bin").mkdir()
    program, log = tmp_path / "bin" / "gpg", tmp_path / "log"
    program.write_text(f'#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ >> {log}\nexec {GPG} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with ring_signer(protected.secret, protected.fingerprint, lambda: SECRET) as signer:
        signer.clear_sign(TEXT, hash_name="sha256", purpose=None)
    make_pair(NewKey("Joe", "", bits=0), SECRET)
    noted = log.read_bytes()
    assert noted.count(b"--passphrase-fd") > 3
    assert SECRET.encode() not in noted


def test_a_killed_signer_leaves_nothing_for_long(places, monkeypatch):
    code = (
        "import os, signal\n"
        "from eclctl.sign.gnupg_run import temporary_gnupg\n"
        "with temporary_gnupg() as gnupg:\n"
        "    gnupg.run('--quick-generate-key', 'Joe', 'ed25519')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == -9
    (left,) = places.iterdir()
    assert (left / "private-keys-v1.d").exists()
    old = 1_000_000_000
    os.utime(left, (old, old))
    with gnupg_run.temporary_gnupg():
        assert not left.exists()


IN_USE = """
import signal, sys
for number in (signal.SIGHUP, signal.SIGTERM):  # who runs tests in the background may have them ignored
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
from eclctl.sign.gnupg_run import temporary_gnupg
with temporary_gnupg() as gnupg:
    gnupg.run("--quick-generate-key", "Joe", "ed25519", passphrase="secret words")
    gnupg.run("--clear-sign", stdin=b"text", passphrase="secret words")
    print(gnupg.home, flush=True)
    sys.stdin.read()
"""


@contextmanager
def signer_at_work():
    """Give a process that has an unlocked key in a throw-away home, and that home."""
    with subprocess.Popen(
        [sys.executable, "-c", IN_USE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        home = process.stdout.readline().decode().strip()
        yield process, home
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signer_that_is_told_to_end_leaves_neither_home_nor_agent(places, number):
    """And ends by that signal, as its sender expects."""
    with signer_at_work() as (process, home):
        agent = subprocess.run(
            ["gpg-connect-agent", "--homedir", home, "--no-autostart", "GETINFO pid", "/bye"],
            check=True,
            stdout=subprocess.PIPE,
            timeout=60,
        ).stdout
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == -number
    assert number == signal.SIGINT or said == b""
    assert not list(places.iterdir())
    arguments = Path(
        "/proc", agent.decode().split()[1], "cmdline"
    )  # empty once it has ended and its parent has not asked why
    deadline = time.monotonic() + 60
    while arguments.exists() and arguments.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_pressing_ctrl_c_again_and_again_interrupts_no_cleaning_up(places):
    with signer_at_work() as (process, _):
        for _ in range(5):
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert not list(places.iterdir())


def test_an_agent_that_is_left_behind_knows_no_passphrase(places):
    with signer_at_work() as (process, home):
        process.kill()
        process.wait()
    gpg = [GPG, "--homedir", home, "--batch", "--no-tty", "--pinentry-mode", "error", "--clear-sign"]
    assert subprocess.run(gpg, input=b"x", capture_output=True, check=False, timeout=60).returncode != 0
    os.utime(home, (1_000_000_000, 1_000_000_000))
    with gnupg_run.temporary_gnupg():
        assert not Path(home).exists()


def test_a_home_in_use_is_not_swept_away(places):
    with gnupg_run.temporary_gnupg() as first:
        os.utime(first.home, (1_000_000_000, 1_000_000_000))
        with gnupg_run.temporary_gnupg() as second:
            assert sorted(os.listdir(places)) == sorted(os.path.basename(each.home) for each in (first, second))


def test_a_gpg_that_is_too_old_or_none_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GnupgError, match="no gpg on the PATH"), gnupg_run.temporary_gnupg():
        pass
    program = tmp_path / "gpg"
    program.write_text("#!/bin/sh\necho 'gpg (GnuPG) 2.0.22'\n")
    program.chmod(0o755)
    with pytest.raises(GnupgError, match=r"2\.2 or newer is needed, and it is 2\.0"), gnupg_run.temporary_gnupg():
        pass


def test_a_gpg_that_signs_something_else_is_found_out(tmp_path, monkeypatch):
    """A program on the PATH that passes everything on, and changes the text."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gpg"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--clear-sign*) echo evil | exec {GPG} "$@";; *) exec {GPG} "$@";; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    secret = (PGP / "scanner-secret.asc").read_bytes()
    with pytest.raises(GnupgError, match="signed something else"), ring_signer(secret, fingerprint(secret), never):
        pass


def test_a_gpg_that_does_not_end_is_ended(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "gpg"
    program.write_text(f'#!/bin/sh\ncase "$*" in *--version*) exec {GPG} "$@";; *) exec sleep 600;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(gnupg_run, "_PATIENCE", 0.5)
    secret = (PGP / "scanner-secret.asc").read_bytes()
    with pytest.raises(GnupgError, match="took longer than"), ring_signer(secret, fingerprint(secret), never):
        pass


# The user's own GnuPG


@pytest.fixture
def own():
    with gnupg_home() as home:
        yield home


def test_the_agent_asks_through_its_pinentry(own: Home):
    name = own.make("Alice <alice@example.org>", passphrase=SECRET)
    log = own.answer_with(SECRET)
    with gnupg_signer("alice@example.org", str(own.path)) as signer:
        message = signer.clear_sign(TEXT, hash_name="sha256", purpose="scan")
    assert signer.identity.fingerprint == name
    (found,) = openpgp.check(message, openpgp.Keyring.parse(own.run("--export"))).signatures
    assert found.purposes == {"scan"}
    assert log.read_text() == "asked\n"  # and the agent remembers


def test_a_wrong_answer_to_the_pinentry_is_told(own: Home):
    own.make("Alice <alice@example.org>", passphrase=SECRET)
    own.answer_with("wrong")
    with pytest.raises(WrongPassphraseError, match="the passphrase is wrong"), gnupg_signer(None, str(own.path)):
        pass


def test_without_a_pinentry_the_error_says_so(own: Home):
    own.make("Alice <alice@example.org>", passphrase=SECRET)
    own.answer_with(SECRET)
    (own.path / "pinentry").unlink()
    with pytest.raises(GnupgError, match="pinentry"), gnupg_signer(None, str(own.path)):
        pass


def test_the_users_configuration_changes_no_signature(own: Home):
    own.make("Alice <alice@example.org>")
    options = [
        "digest-algo SHA1",
        "comment unsigned words",
        "emit-version",
        "sig-notation evil@example.org=1",
        "textmode",
    ]
    (own.path / "gpg.conf").write_text("\n".join(options) + "\n")
    with gnupg_signer(None, str(own.path)) as signer:
        message = signer.clear_sign(TEXT, hash_name="sha256", purpose=None)
    assert b"Hash: SHA256" in message
    assert b"Comment" not in message
    (packet,) = parse_cleartext(message).signatures
    assert b"evil@example.org" not in packet


def test_of_several_keys_one_must_be_named_or_be_the_default(own: Home):
    alice, bob = own.make("Alice <alice@example.org>"), own.make("Bob <bob@example.org>")
    with pytest.raises(GnupgError, match="several secret keys") as caught, gnupg_signer(None, str(own.path)):
        pass
    assert alice in str(caught.value)
    assert bob in str(caught.value)
    (own.path / "gpg.conf").write_text(f"default-key {bob}\n")
    with gnupg_signer(None, str(own.path)) as signer:
        assert signer.identity.fingerprint == bob
    for user in (alice, f"0x{alice[-16:]}", "alice@example.org"):
        with gnupg_signer(user, str(own.path)) as signer:
            assert signer.identity.fingerprint == alice
    with pytest.raises(GnupgError, match="no secret key for"), gnupg_signer("carol", str(own.path)):
        pass


def test_options_in_place_of_a_user_are_a_user(own: Home):
    own.make("Alice <alice@example.org>")
    with pytest.raises(GnupgError, match="no secret key for"), gnupg_signer("--version", str(own.path)):
        pass


@pytest.mark.parametrize(("name", "why"), [("expired", "it has expired"), ("revoked", "it is revoked")])
def test_a_key_of_gnupg_that_does_not_count_does_not_sign(own: Home, name, why):
    own.run("--import", PGP / f"{name}-secret.asc")
    with pytest.raises(GnupgError, match=why), gnupg_signer(None, str(own.path)):
        pass


def test_gnupgs_keys_are_listed(own: Home):
    assert gnupg_keys(str(own.path)) == gnupg_keys(str(own.path), secret=True) == {}
    alice = own.make("Alice <alice@example.org>")
    own.run("--import", PGP / "builder.asc")
    assert gnupg_keys(str(own.path)).keys() == {alice, fingerprint((PGP / "builder.asc").read_bytes())}
    assert gnupg_keys(str(own.path), secret=True).keys() == {alice}


def test_the_users_agent_is_started_without_our_passphrases(monkeypatch):
    monkeypatch.setenv(VARIABLE, SECRET)
    monkeypatch.setenv(COSIGN_VARIABLE, SECRET)
    assert SECRET not in gnupg_run.Gnupg.of_user(None).environment.values()
