"""`eclctl sign` as people run it: corpus keys, GnuPG of one's own, a terminal, and GnuPG's word on what was signed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.gnupg import PATIENCE, gnupg_home, needs_gpg
from tests.helpers.scribes import built, corpus_copy, objects_of, signature_data
from tests.helpers.sifbuilder import pem_key, private_pem, sample
from tests.helpers.site import ECLCTL, Site
from tests.helpers.support import CORPUS
from tests.helpers.terminal import Terminal

pytestmark = needs_gpg
PGP = CORPUS / "keys" / "pgp"
RING = PGP / "site-ring.asc"
FINGERPRINTS = json.loads((PGP / "fingerprints.json").read_text())


def eclctl(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [*ECLCTL, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE, stdin=subprocess.DEVNULL, **options
    )


def signed(path: Path, *options: object, **more: object) -> dict:
    """Sign an image, which works, and return what it says."""
    done = eclctl("sign", "--json", *options, path, **more)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def verified(path: Path, ring: Path = RING) -> list[tuple[int, str, list[int]]]:
    """Verify an image, which works, and return what each signature covers and who made it."""
    done = eclctl("verify", "--json", "--keyring", ring, path)
    assert done.returncode == 0, done.stdout
    return [(each["id"], each["signer"]["id"], each["objects"]) for each in json.loads(done.stdout)["signatures"]]


@pytest.mark.parametrize("name", ["builder", "scanner", "approver", "release", "lab", "subkey"])
def test_corpus_keys_sign_and_the_corpus_ring_verifies(name, tmp_path):
    path = corpus_copy("two-unsigned.sif", tmp_path)
    said = signed(path, "--secret-keyring", PGP / f"{name}-secret.asc")
    fingerprint = FINGERPRINTS[name]
    assert said["signers"][0]["id"] == fingerprint
    assert verified(path) == [(6, fingerprint, [1, 2, 3]), (7, fingerprint, [4, 5])]
    assert objects_of(path)[-1][0].entity[:20].hex().upper() == fingerprint


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("expired", "it has expired"),
        ("revoked", "it is revoked"),
        ("future", "it is not valid yet"),
        ("dsa", "DSA keys are deprecated"),
        ("encryptonly", "none of its keys is made for signing"),
    ],
)
def test_a_key_whose_signatures_count_for_nothing_does_not_sign(name, why, tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    before = path.read_bytes()
    done = eclctl("sign", "--secret-keyring", PGP / f"{name}-secret.asc", path)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert path.read_bytes() == before


def test_gnupg_verifies_what_eclctl_signs(tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    signed(path, "--secret-keyring", PGP / "builder-secret.asc", "--purpose", "review", "--hash", "sha512")
    message = tmp_path / "message.asc"
    message.write_bytes(signature_data(path, 4))
    with gnupg_home() as home:
        home.run("--import", PGP / "builder.asc")
        status = home.run("--status-fd", "1", "--verify", message).decode()
    assert "[GNUPG:] VALIDSIG 81F111F6190C46143937EF7C22BC3A3BC942487F" in status


def test_what_gnupg_signs_eclctl_verifies(tmp_path):
    builder = sample()
    with gnupg_home() as home:
        fingerprint = home.make("Alice <alice@site.example>")
        message = home.run("--clear-sign", stdin=builder.metadata())
        (tmp_path / "ring.asc").write_bytes(home.run("--armor", "--export", fingerprint))
    builder.attach(message, fingerprint=bytes.fromhex(fingerprint))
    assert verified(built(builder, tmp_path), tmp_path / "ring.asc") == [(4, fingerprint, [1, 2, 3])]


def test_a_key_of_the_users_gnupg_signs_with_its_agent(tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    with gnupg_home() as home:
        fingerprint = home.make("Alice <alice@site.example>", passphrase="secret")
        home.make("Bob <bob@site.example>")
        (tmp_path / "ring.asc").write_bytes(home.run("--armor", "--export"))
        asked = home.answer_with("secret")
        environment = os.environ | {"GNUPGHOME": str(home.path)}
        done = eclctl("sign", "--gnupg", path, env=environment)
        assert (done.returncode, "several secret keys" in done.stderr) == (1, True)
        said = signed(path, "--gnupg", "-u", "alice@site.example", env=environment)
        assert asked.exists()
    assert said["signers"] == [{"kind": "pgp", "id": fingerprint, "name": "Alice <alice@site.example>"}]
    assert verified(path, tmp_path / "ring.asc") == [(4, fingerprint, [1, 2, 3])]


def test_a_protected_key_takes_its_passphrase_from_a_descriptor(tmp_path):
    path, ring = corpus_copy("one-unsigned.sif", tmp_path), tmp_path / "secret.asc"
    with gnupg_home() as home:
        fingerprint = home.make("Alice <alice@site.example>", passphrase="secret")
        ring.write_bytes(home.run("--armor", "--export-secret-keys", fingerprint, passphrase="secret"))
        (tmp_path / "ring.asc").write_bytes(home.run("--armor", "--export", fingerprint))
    command = [*ECLCTL, "sign", "--secret-keyring", str(ring), "--passphrase-fd", "0", str(path)]
    for passphrase, status in (("wrong", 1), ("secret", 0)):
        done = subprocess.run(command, input=passphrase, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert done.returncode == status, done.stderr
    assert verified(path, tmp_path / "ring.asc") == [(4, fingerprint, [1, 2, 3])]


def test_the_daemon_allows_an_image_once_its_last_approval_is_signed(site: Site, tmp_path):
    """What `--config` says beforehand is what the daemon then decides."""
    path = Path(site.image("one-builder.sif"))
    secret = PGP / "scanner-secret.asc"
    said = signed(path, "--secret-keyring", secret, "--config", site.config)
    assert (said["policy"]["now"]["decision"], said["policy"]["after"]["decision"]) == ("deny", "allow")
    assert said["policy"]["now"]["missing"][0]["could_sign"] == ["scanner"]
    checked = eclctl("check", "--socket", site.check_socket, path)
    assert checked.returncode == 0, checked.stderr


def test_a_user_at_the_terminal_types_the_passphrase(tmp_path):
    path, key = corpus_copy("one-unsigned.sif", tmp_path), tmp_path / "k.pem"
    command = ["openssl", "pkcs8", "-topk8", "-passout", "pass:secret", "-out", key]
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    subprocess.run(command, input=private_pem(pem_key("p256")), check=True, capture_output=True)
    terminal = Terminal("sign", "--key", key, path)
    terminal.expect(r"Enter passphrase for \S+k\.pem : ")
    terminal.answer("secret")
    assert terminal.end() == 0
    assert "secret" not in terminal.text
    assert "Signature created and applied" in terminal.text


@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("", 1), ("y", 0)])
def test_a_user_at_the_terminal_is_asked_about_warnings(answer, status, tmp_path):
    path = corpus_copy("one-dsse-p256.sif", tmp_path)
    before = path.read_bytes()
    terminal = Terminal("sign", "--key", CORPUS / "keys" / "pem" / "p256-private.pem", path)
    terminal.expect(r"all the same\? \[y/N\] ")
    assert path.read_bytes() == before
    terminal.answer(answer)
    assert terminal.end() == status
    assert (path.read_bytes() == before) is (status == 1)


@pytest.mark.parametrize("option", ["--yes", "--non-interactive"])
def test_a_user_who_said_yes_is_not_asked(option, tmp_path):
    path = corpus_copy("one-dsse-p256.sif", tmp_path)
    terminal = Terminal("sign", option, "--key", CORPUS / "keys" / "pem" / "p256-private.pem", path)
    assert terminal.end() == 0
    assert "[y/N]" not in terminal.text


def test_a_user_at_the_terminal_chooses_among_several_keys(tmp_path):
    path, ring = corpus_copy("one-unsigned.sif", tmp_path), tmp_path / "secret.asc"
    ring.write_bytes(b"".join((PGP / f"{name}-secret.asc").read_bytes() for name in ("builder", "scanner")))
    terminal = Terminal("sign", "--secret-keyring", ring, path)
    terminal.expect("Enter # of private key to use : ")
    assert "1)  User:              Scanner" in terminal.text
    terminal.answer("1")
    assert terminal.end() == 0
    assert [signer for _, signer, _ in verified(path)] == ["F69053E5830DBDBA72B3D8F61BDDA97D14902F26"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_cannot_be_shown_is_not_signed(tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    before = path.read_bytes()
    command = [*ECLCTL, "sign", "--key", str(CORPUS / "keys" / "pem" / "p256-private.pem"), str(path)]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, timeout=PATIENCE)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == b"eclctl: cannot write the output: No space left on device"
    assert path.read_bytes() == before
