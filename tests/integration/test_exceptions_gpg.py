"""Breaking the glass for real: a daemon, exceptions that gpg signs, the audit log, and an end that comes by itself."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.helpers.site import ECLCTL, UNSIGNED, Site, eventually

GPG = shutil.which("gpg")
pytestmark = pytest.mark.skipif(GPG is None, reason="needs gpg")

PEOPLE = ("alice", "bob", "carol")


class Glass(Site):
    """A site whose people have keys that gpg made, in a home of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.home = self.root / "gnupg"
        self.home.mkdir(mode=0o700)
        (self.root / "exceptions.d").mkdir(mode=0o755)
        for name in PEOPLE:
            user = f"{name} <{name}@site.example>"
            self.gpg("--passphrase", "", "--quick-generate-key", user, "ed25519", "sign", "never")
        ring = self.root / "keys.d" / "people.asc"
        ring.write_bytes(self.gpg("--armor", "--export"))
        ring.chmod(0o644)
        signers = "".join(f"  {name}: {{pgp: [{self.fingerprint(name)}]}}\n" for name in PEOPLE)
        self.policy(
            "version: 1\nsigners:\n"
            + signers.replace("{", "{{").replace("}", "}}")
            + "roles: {{security: [alice, bob]}}\n"
            "exceptions: {{directory: ../exceptions.d, approvals: {{count: 2, of: security}}, longest: 72h}}\n"
            'rules:\n  - name: production\n    match: {{paths: ["{root}/images/**"]}}\n'
            "    require: [{{approvals: {{count: 2, of: security}}}}]\n"
        )

    def gpg(self, *words: str) -> bytes:
        command = [str(GPG), "--homedir", str(self.home), "--batch", "--no-tty", "--quiet", *words]
        return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout

    def fingerprint(self, name: str) -> str:
        listed = self.gpg("--with-colons", "--list-keys", f"{name}@site.example").decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))

    def sign(self, file: Path, name: str) -> None:
        target = f"{file}.{name}.asc"
        self.gpg("--local-user", f"{name}@site.example", "--armor", "--output", target, "--detach-sign", str(file))
        os.chmod(target, 0o644)

    def eclctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*ECLCTL, "policy", "exception", words[0], "--config", str(self.config), *words[1:]]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    def new(self, name: str, *words: str) -> Path:
        made = self.eclctl("new", name, "--user", str(os.getuid()), "--reason", "scanner down, ticket 4711", *words)
        assert made.returncode == 0, made.stderr
        return self.root / "exceptions.d" / f"{name}.yaml"


@pytest.fixture
def glass() -> Iterator[Glass]:
    made = Glass()
    try:
        made.start()
        yield made
    finally:
        subprocess.run(
            ["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False, capture_output=True, timeout=60
        )
        made.close()


def events(site: Site, name: str) -> list[tuple[str, list[str]]]:
    found = [record for record in site.audit() if record["event"] == "exception" and record["name"] == name]
    return [(record["state"], record["approvers"]) for record in found]


def test_a_named_file_runs_once_two_have_signed_with_gpg_and_no_longer_when_it_is_removed(glass: Glass) -> None:
    assert glass.check(UNSIGNED)["code"] == "requirements-not-met"
    file = glass.new("drain", "--for", "12h", "--image", glass.image(UNSIGNED))
    glass.sign(file, "alice")
    glass.sign(file, "carol")  # who is not of the role
    assert glass.order("reload")["ok"]
    denied = glass.check(UNSIGNED)
    assert denied["code"] == "requirements-not-met"
    assert (
        "the exception 'drain' does not help: it needs 2 approvals from security and has 1 (alice)" in denied["reason"]
    )
    glass.sign(file, "bob")
    assert glass.eclctl("check", "drain").returncode == 0
    assert glass.order("reload")["ok"]
    allowed = glass.check(UNSIGNED)
    assert (allowed["decision"], allowed["code"], allowed["exception"]) == ("allow", "exception", "drain")
    assert (allowed["rule"], allowed["signers"]) == ("production", ["alice", "bob"])
    recorded = next(each for each in reversed(glass.audit()) if each["event"] == "decision")
    assert (recorded["code"], recorded["exception"], recorded["signers"]) == ("exception", "drain", ["alice", "bob"])
    file.unlink()
    assert glass.order("reload")["ok"]
    assert glass.check(UNSIGNED)["code"] == "requirements-not-met"
    states = [("unapproved", ["alice"]), ("active", ["alice", "bob"]), ("removed", [])]
    assert events(glass, "drain") == states


def test_it_ends_by_itself_and_the_daemon_says_so(glass: Glass) -> None:
    file = glass.new("brief", "--for", "1h", "--path", f"{glass.root}/images/*")
    ends = datetime.now(UTC) + timedelta(seconds=10)
    lines = [line for line in file.read_text().splitlines() if not line.startswith("ends:")]
    file.write_text("\n".join([*lines, f"ends: {ends:%Y-%m-%dT%H:%M:%SZ}\n"]))
    for name in ("alice", "bob"):
        glass.sign(file, name)
    assert glass.order("reload")["ok"]
    first = glass.check(UNSIGNED)
    assert first["code"] == "exception"
    eventually(lambda: glass.check(UNSIGNED)["code"] == "requirements-not-met")
    assert datetime.now(UTC) >= ends.replace(microsecond=0)
    eventually(lambda: events(glass, "brief")[-1][0] == "ended")
    assert [state for state, _ in events(glass, "brief")] == ["active", "ended"]


def test_a_signature_over_text_or_in_the_clear_approves_nothing(glass: Glass) -> None:
    file = glass.new("drain", "--for", "12h", "--image", glass.image(UNSIGNED))
    glass.sign(file, "alice")
    user = ["--local-user", "bob@site.example", "--armor"]
    glass.gpg(*user, "--textmode", "--output", f"{file}.bob.asc", "--detach-sign", str(file))
    glass.gpg(*user, "--output", f"{file}.bob2.asc", "--clear-sign", str(file))
    said = glass.eclctl("check", "drain")
    assert said.returncode == 1
    assert "unsupported signature type: 1" in " ".join(said.stdout.split())
    assert "detached signature not found" in " ".join(said.stdout.split())


def test_an_approver_whose_key_is_revoked_no_longer_approves(glass: Glass) -> None:
    file = glass.new("drain", "--for", "12h", "--image", glass.image(UNSIGNED))
    for name in ("alice", "bob"):
        glass.sign(file, name)
    assert glass.order("reload")["ok"]
    assert glass.check(UNSIGNED)["code"] == "exception"
    revocation = glass.home / "openpgp-revocs.d" / f"{glass.fingerprint('bob')}.rev"
    usable = revocation.read_text().replace(":-----BEGIN", "-----BEGIN")
    (glass.root / "revoke").write_text(usable)
    glass.gpg("--import", str(glass.root / "revoke"))
    (glass.root / "keys.d" / "people.asc").write_bytes(glass.gpg("--armor", "--export"))
    assert glass.order("reload")["ok"]
    assert glass.check(UNSIGNED)["code"] == "requirements-not-met"
    assert "the signature of bob does not count: openpgp: signature made by revoked key" in " ".join(
        glass.eclctl("check", "drain").stdout.split()
    )


def test_what_is_wrong_with_one_is_in_the_answer_to_reload_and_stops_nothing_else(glass: Glass) -> None:
    (glass.root / "exceptions.d" / "oops.yaml").write_text("version: 1\nexceptoin: oops\n")
    report = glass.order("reload")
    assert report["ok"]
    place = f"{glass.root}/exceptions.d/oops.yaml:2:1: exception refused: unknown key 'exceptoin'"
    assert any(warning.startswith(place) for warning in report["warnings"])
    assert [state for state, _ in events(glass, "oops")] == ["refused"]
