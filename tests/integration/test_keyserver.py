"""A real keyserver (Debian's onak) and the commands; revocations that reach the daemon's next answer."""

from __future__ import annotations

import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from eclctl.cli.keys import command as keys
from eclctl.cli.verify import command as verify
from tests.helpers.keyservers import Keyserver, Onak, key_answer, needs_onak
from tests.helpers.servers import PATIENCE, answer, free_port
from tests.helpers.site import APPROVED, BUILDER, LENIENT, SCANNER, Site, eventually
from tests.helpers.support import CORPUS, own_copy

PGP = CORPUS / "keys" / "pgp"
REVOKED = "F5A4C20B8C7054A68A09D71A88B82E9124DD2498"


def eclctl(folder: Path, command: str, *arguments: str, status: int = 0) -> str:
    """Run a command of a user whose home is `folder`, within this process; return what it printed."""
    out, err = io.StringIO(), io.StringIO()
    run = {"keys": keys.run, "verify": verify.run}[command]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv("HOME", str(folder))
        patch.setenv("ECLCTL_KEYS", str(folder / "ring"))
        for name in ("XDG_CONFIG_HOME", "http_proxy", "HTTP_PROXY"):
            patch.delenv(name, raising=False)
        done = run(list(arguments))
    assert done == status, out.getvalue() + err.getvalue()
    return out.getvalue()


# -- the commands and onak


@pytest.fixture
def onak(tmp_path: Path) -> Iterator[Onak]:
    with Onak(tmp_path) as server:
        yield server


@needs_onak
def test_a_key_goes_to_onak_and_comes_back_by_id_name_and_address(tmp_path: Path, onak: Onak) -> None:
    url = ("--url", onak.url)
    eclctl(tmp_path, "keys", "import", str(PGP / "builder-secret.asc"), str(PGP / "scanner.asc"))
    assert f"public key {BUILDER} pushed to {onak.url} successfully" in eclctl(tmp_path, "keys", "push", *url, BUILDER)
    eclctl(tmp_path, "keys", "push", *url, "scanner@site101.example")
    heading, *rows = eclctl(tmp_path, "keys", "search", *url, "0xC942487F").splitlines()[2:]
    assert (heading, rows) == (
        "KEY ID    BITS  NAME/EMAIL",
        ["C942487F  4096  Builder (corpus 101) <builder@site101.example>"],
    )
    for words in ("builder@site101.example", "Builder", BUILDER, f"0x{BUILDER[-16:]}"):
        shape = json.loads(eclctl(tmp_path, "keys", "search", *url, "--json", words))
        assert [key["fingerprint"] for key in shape["keys"]] == [BUILDER]
    found = json.loads(eclctl(tmp_path, "keys", "search", *url, "--json", "corpus"))
    assert {key["fingerprint"] for key in found["keys"]} == {BUILDER, SCANNER}
    eclctl(tmp_path, "keys", "search", *url, "nobody@site101.example", status=1)
    other = tmp_path / "other"
    other.mkdir()
    eclctl(other, "keys", "pull", *url, "corpus", "--yes", status=1)  # there are two
    eclctl(other, "keys", "pull", *url, "C942487F", status=1)  # it is not confirmed
    eclctl(other, "keys", "pull", *url, "C942487F", "--yes")
    assert "1 key(s) added to keyring of trust" in eclctl(other, "keys", "pull", *url, SCANNER)
    listed = json.loads(eclctl(other, "keys", "list", "--json"))["keys"]
    assert {key["fingerprint"] for key in listed} == {BUILDER, SCANNER}
    eclctl(other, "keys", "pull", *url, REVOKED, status=1)


@needs_onak
def test_a_revocation_that_onak_has_is_found_by_refresh(tmp_path: Path, onak: Onak) -> None:
    eclctl(tmp_path, "keys", "import", str(PGP / "revoked-before.asc"))
    onak.add((PGP / "revoked-before.asc").read_bytes())
    shape = json.loads(eclctl(tmp_path, "keys", "refresh", "--url", onak.url, "--json"))
    assert [key["state"] for key in shape["keys"]] == ["unchanged"]
    onak.add((PGP / "revoked.asc").read_bytes())
    assert "REVOKED by its owner" in eclctl(tmp_path, "keys", "refresh", "--url", onak.url)
    (listed,) = json.loads(eclctl(tmp_path, "keys", "list", "--json"))["keys"]
    assert listed["problem"]["code"] == "key-revoked"


@needs_onak
def test_verify_marks_what_comes_from_onak_and_local_asks_no_server(tmp_path: Path, onak: Onak) -> None:
    onak.add((PGP / "builder.asc").read_bytes())
    image = str(CORPUS / "images" / "one-builder.sif")
    said = eclctl(tmp_path, "verify", "--url", onak.url, image)
    assert f"[REMOTE]           Fingerprint: {BUILDER}" in said
    asked = len(onak.requests)
    eclctl(tmp_path, "keys", "pull", "--url", onak.url, BUILDER)
    assert f"[LOCAL]            Fingerprint: {BUILDER}" in eclctl(tmp_path, "verify", "--url", onak.url, image)
    assert len(onak.requests) == asked + 1
    eclctl(tmp_path, "keys", "remove", BUILDER)
    (tmp_path / ".config" / "eclctl").mkdir(parents=True)
    (tmp_path / ".config" / "eclctl" / "keys.yaml").write_text(f'version: 1\nkeyservers: {{servers: ["{onak.url}"]}}\n')
    eclctl(tmp_path, "verify", "--local", image, status=2)  # there is no key at all
    assert len(onak.requests) == asked + 1
    assert "[REMOTE]" in eclctl(tmp_path, "verify", image)


# -- the daemon


class Signed:
    """A site whose images one key must have signed, which is on a keyserver too."""

    def __init__(self, site: Site, server: str, more: str = "refresh: 1m, timeout: 100s") -> None:
        self.site = site
        site.policy(LENIENT)
        site.configure(more=f"keyservers: {{servers: ['{server}'], {more}}}\n")

    @property
    def keyservers(self) -> dict:
        return self.site.order("status")["keyservers"]

    def asked(self) -> bool:
        """Whether a first round is over."""
        found = self.keyservers
        return found["keys"] > 0 and not found["unanswered"]


ONE_REVOKED = """version: 1
signers:
  owner: {{pgp: [F5A4C20B8C7054A68A09D71A88B82E9124DD2498]}}
rules:
  - name: owned
    match: {{paths: ["{root}/images/**"]}}
    require:
      - any_of: [owner]
default: deny
"""


@pytest.fixture
def owned(quiet_site: Site) -> Site:
    """A site that trusts a key whose revocation it has not heard of."""
    quiet_site.policy(ONE_REVOKED)
    quiet_site.add("one-revoked.sif")
    own_copy(PGP / "revoked-before.asc", quiet_site.root / "keys.d")
    return quiet_site


class Told:
    """A keyserver that answers only when it may, with the revocation."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.server = Keyserver({REVOKED: self._reply})

    def _reply(self, sock: socket.socket) -> None:
        self.may.wait(PATIENCE)
        sock.sendall(key_answer((PGP / "revoked.asc").read_bytes()))


def configure(site: Site, server: str) -> None:
    site.configure(more=f"keyservers: {{servers: ['{server}'], refresh: 1m, timeout: 100s}}\n")


def test_a_revocation_counts_with_the_next_answer_though_the_policy_does_not_load_and_after_a_restart(
    owned: Site,
) -> None:
    told = Told()
    with told.server as server:
        configure(owned, server.url)
        owned.start()
        first = owned.check("one-revoked.sif")
        assert (first["decision"], first["generation"]) == ("allow", 1)
        owned.policy("rules: nonsense\n")
        assert not owned.order("reload")["ok"]
        told.may.set()
        eventually(lambda: owned.order("status")["generation"] == 2)
        after = owned.check("one-revoked.sif")
        assert (after["decision"], after["code"], after["generation"]) == ("deny", "requirements-not-met", 2)
        assert after["policy"] != first["policy"]
        eventually(lambda: not owned.order("status")["keyservers"]["unanswered"])
        assert owned.order("status")["keyservers"]["updates"] == 1
        kept = owned.root / "state" / "keyservers.json"
        eventually(lambda: kept.exists() and REVOKED in kept.read_text())
    assert owned.stop() == 0
    assert f"the key {REVOKED} of Revoked (corpus 101) <revoked@site101.example> was revoked" in owned.log
    assert [record["generation"] for record in owned.audit() if record["event"] == "reload"][-1] == 2
    assert kept.stat().st_mode & 0o777 == 0o600
    owned.policy(ONE_REVOKED)
    owned.configure()  # no keyservers any more: what was learnt stays
    owned.launch()  # what it says when it is ready may be what it said before
    eventually(lambda: Path(owned.check_socket).exists())
    assert owned.check("one-revoked.sif")["decision"] == "deny"
    assert owned.order("reload")["ok"]
    assert owned.check("one-revoked.sif")["decision"] == "deny"


def test_facts_that_were_found_before_a_revocation_stay_known(owned: Site) -> None:
    told = Told()
    with told.server as server:
        configure(owned, server.url)
        owned.start()
        eventually(lambda: owned.check("one-revoked.sif")["cached"])
        told.may.set()
        eventually(lambda: owned.order("status")["generation"] == 2)
        after = owned.check("one-revoked.sif")
    assert (after["decision"], after["cached"]) == ("deny", True)


def test_an_unreachable_keyserver_delays_neither_start_nor_answers_and_is_told_of(quiet_site: Site) -> None:
    signed = Signed(quiet_site, f"http://127.0.0.1:{free_port()}")
    quiet_site.start()
    assert quiet_site.check(APPROVED)["decision"] == "allow"
    eventually(lambda: signed.keyservers["failures"] == 1)
    assert signed.keyservers["unanswered"] == 1
    codes = [each["code"] for each in quiet_site.order("status")["attention"]]
    assert "keyservers" in codes
    assert quiet_site.order("reload")["ok"]
    assert quiet_site.stop() == 0
    assert "no usable answer about 1 of 1 keys" in quiet_site.log


def test_without_keyservers_no_server_is_asked(quiet_site: Site) -> None:
    quiet_site.start()
    found = quiet_site.order("status")["keyservers"]
    assert (found["servers"], found["keys"]) == ([], 0)
    assert quiet_site.stop() == 0
    assert not (quiet_site.root / "state" / "keyservers.json").exists()


def test_a_keyserver_that_hangs_holds_up_neither_answers_nor_the_end(quiet_site: Site) -> None:
    def hang(sock: socket.socket) -> None:
        sock.recv(1)

    with Keyserver({BUILDER: hang}) as server:
        Signed(quiet_site, server.url, "timeout: 100s")
        quiet_site.start()
        eventually(lambda: server.requests)
        assert quiet_site.check(APPROVED)["decision"] == "allow"
        assert quiet_site.order("reload")["ok"]
        assert quiet_site.stop() == 0


def test_what_the_daemon_was_told_before_a_damaged_file_is_asked_for_again(quiet_site: Site) -> None:
    (quiet_site.root / "state").mkdir(mode=0o700)
    (quiet_site.root / "state" / "keyservers.json").write_text('{"v": 1, "keys": {"x": ')
    with Keyserver({BUILDER: answer(b"", "404 Not Found")}) as server:
        signed = Signed(quiet_site, server.url)
        quiet_site.start()
        eventually(signed.asked)
        assert quiet_site.check(APPROVED)["decision"] == "allow"
    assert quiet_site.stop() == 0
    assert "the keyserver cache is lost, keyservers are asked again" in quiet_site.log
