"""GnuPG and this verifier agree on every message of the corpus, except where the manifest shows that gpg does not.

The oracle in the manifest is what gpg 2.2.40 said; here the installed gpg is asked again.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eclctl.signature import openpgp
from tests.helpers.support import CORPUS, NOW, UPSTREAM

GPG = shutil.which("gpg")
pytestmark = pytest.mark.skipif(GPG is None, reason="needs gpg")
FOLDERS = [CORPUS / "openpgp", *([UPSTREAM / "openpgp"] if UPSTREAM else [])]
CASES = [
    pytest.param(folder, case, id=case["id"])
    for folder in FOLDERS
    for case in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["cases"]
]
STRICTER = {
    "alg-dsa2048",
    "alg-rsa1024",
    "frame-compressed-inline",
    "frame-leading-newline",
    "frame-suffix-junk",
    "frame-ws-separator",
    "hash-SHA1",
    "key-primary-noflags",
    "sig-future",
    "sub-back-sha1",
    "sub-binding-future",
    "sub-binding-sha1",
    "sub-noflags",
    "text-barecr",
    "type-binary",
    "uid-revoked",
    "v3sig-rsa-sha256",
}
"""gpg accepts these; the manifest allows or demands that we refuse."""

NEWER = {"alg-ed448-v4new", "alg-v6-ed25519", "ring-with-v6"}
"""gpg 2.2 does not know RFC 9580."""


def run(home: Path, *arguments: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [GPG, "--homedir", home, "--batch", "--no-tty", "--no-autostart", "--trust-model", "always"]
    moment = f"{NOW:%Y%m%dT%H%M%S}!"
    return subprocess.run(
        [*command, "--faked-system-time", moment, *arguments], input=stdin, capture_output=True, check=False, timeout=60
    )


@pytest.fixture
def home(tmp_path):
    """A GnuPG home of its own, with a short path and for the owner alone."""
    folder = tmp_path / "gnupg"
    folder.mkdir(mode=0o700)
    return folder


def gpg_accepts(home: Path, certificate: Path, message: bytes) -> bool:
    """Return whether gpg calls every signature of a message good, and the message one."""
    run(home, "--import", certificate)
    found = run(home, "--status-fd", "1", "--verify", stdin=message)
    lines = found.stdout.decode("utf-8", "replace").splitlines()
    words = [line.split()[1] for line in lines if line.startswith("[GNUPG:] ")]
    return found.returncode == 0 and words.count("NEWSIG") == words.count("GOODSIG") == words.count("VALIDSIG") > 0


def we_accept(certificate: Path, message: bytes) -> bool:
    try:
        openpgp.verify(message, certificate.read_bytes(), now=NOW)
    except openpgp.VerificationError:
        return False
    return True


@pytest.mark.parametrize(("folder", "case"), CASES)
def test_gpg_agrees_except_where_the_manifest_shows_that_it_does_not(folder, case, home):
    message, certificate = (folder / case["msg"]).read_bytes(), folder / case["cert"]
    theirs, ours = gpg_accepts(home, certificate, message), we_accept(certificate, message)
    if case["id"] in STRICTER:
        assert (theirs, ours) == (True, False)
    elif case["id"] in NEWER:
        assert (theirs, ours) == (False, True)
    else:
        assert theirs == ours


@pytest.fixture
def signing_home():
    """A home with an agent of its own, that is stopped afterwards. Sockets want a short path."""
    with tempfile.TemporaryDirectory(prefix="gpg") as folder:
        yield Path(folder)
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False, capture_output=True, timeout=60)


def sign(home: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    """Run gpg with an agent and with the present time: the agent knows no other."""
    command = [GPG, "--homedir", home, "--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]
    found = subprocess.run([*command, *arguments], input=stdin, capture_output=True, check=False, timeout=120)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.skipif(shutil.which("gpg-agent") is None, reason="needs gpg-agent")
@pytest.mark.parametrize("algorithm", ["rsa2048", "ed25519", "nistp256", "nistp384", "nistp521"])
def test_what_gpg_signs_today_verifies(algorithm, signing_home):
    """A fresh key and signature by the installed gpg verify, and not with one octet changed."""
    text = b"-dash\n{}  \nFrom here"
    sign(signing_home, "--quick-generate-key", "Alice <alice@example.org>", algorithm, "sign", "0")
    keyring = openpgp.Keyring.parse(sign(signing_home, "--export"), sign(signing_home, "--export", "--armor"))
    message = sign(signing_home, "--clearsign", stdin=text)
    now = datetime.now(UTC) + timedelta(seconds=1)
    found = openpgp.verify(message, keyring, now=now)
    assert found.text == b"-dash\r\n{}\r\nFrom here"
    assert [signer.name for signer in found.signers] == ["Alice <alice@example.org>"]
    with pytest.raises(openpgp.VerificationError):
        openpgp.verify(message.replace(b"{}", b"[]"), keyring, now=now)


def test_a_purpose_that_gpg_writes_is_read(tmp_path: Path) -> None:
    """`gpg --sig-notation purpose@eclctl.org=scan`, as docs/policy.md has it."""
    tmp_path.chmod(0o700)
    command = [GPG, "--homedir", tmp_path, "--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""]
    made = subprocess.run(
        [*command, "--quick-generate-key", "scanner@site.example", "ed25519", "sign"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    if made.returncode != 0:
        pytest.skip(f"needs a gpg that makes keys: {made.stderr.decode(errors='replace')[-200:]}")
    notations = [f"--sig-notation=purpose@eclctl.org={word}" for word in ("scan", "approve")]
    signed = subprocess.run(
        [*command, *notations, "--clearsign"], input=b"{}\n", capture_output=True, check=True, timeout=60
    ).stdout
    ring = subprocess.run([*command, "--export"], capture_output=True, check=True, timeout=60).stdout
    subprocess.run(["gpgconf", "--homedir", tmp_path, "--kill", "all"], check=False, timeout=60)
    (found,) = openpgp.check(signed, openpgp.Keyring.parse(ring)).signatures
    assert isinstance(found, openpgp.GoodSignature)
    assert found.purposes == {"scan", "approve"}
