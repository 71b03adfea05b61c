"""Attacks, the line "keyserver": of any answer, only the key asked for by its whole fingerprint is taken, bounded.

Each goes the way of a user: `eclctl keys pull` and its like, with a ring of their own and a server that does its worst.
"""

from __future__ import annotations

import gzip
import socket
import threading
from pathlib import Path

import pytest

from eclctl.cli.keys import command as keys
from eclctl.cli.verify import command as verify
from eclctl.sign.keyrings.rings import UserRing
from eclctl.signature.openpgp import Keyring
from eclctl.signature.openpgp.proven import updated
from tests.helpers.keyservers import Keyserver, Reply, index_answer, key_answer
from tests.helpers.pgp import CERTIFY, CREATED, SIGN, Key, armor, certificate, flags, packet, user_id
from tests.helpers.servers import answer
from tests.helpers.support import CORPUS

ALICE, MALLORY = Key(), Key()
NAMED = b"Alice <alice@example.org>"
BLOCK = armor("PUBLIC KEY BLOCK", certificate(ALICE))
SECRETS = CORPUS / "keys" / "pgp"
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
IMAGE = str(CORPUS / "images" / "one-builder.sif")


class User:
    """A user with an empty ring."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.ring = UserRing(str(folder / "ring"))
        self._capsys = capsys
        self.said = ""

    def run(self, *arguments: str) -> int:
        self._capsys.readouterr()
        status = keys.run(list(arguments))
        out, err = self._capsys.readouterr()
        self.said = out + err
        assert all(line.isprintable() for line in self.said.splitlines())
        return status

    def pull(self, server: Keyserver | str, key: str = ALICE.fingerprint, *options: str) -> int:
        url = server if isinstance(server, str) else server.url
        return self.run("pull", "--url", url, *options, key)

    def configure(self, text: str) -> None:
        (self.folder / "eclctl").mkdir()
        (self.folder / "eclctl" / "keys.yaml").write_text(f"version: 1\nkeyservers: {text}\n")


@pytest.fixture
def user(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> User:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ECLCTL_KEYS", str(tmp_path / "ring"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return User(tmp_path, capsys)


def serving(reply: Reply) -> Keyserver:
    return Keyserver({ALICE.fingerprint: reply})


def stream(start: bytes, block: bytes, count: int) -> Reply:
    def send(sock: socket.socket) -> None:
        sock.sendall(start)
        for _ in range(count):
            sock.sendall(block)

    return send


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/pgp-keys\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        stream(HEAD + b"Content-Length: 52428800\r\n\r\n", bytes(1 << 20), 50),
        stream(HEAD + b"\r\n" + BLOCK, b"A" * (1 << 20), 1 << 20),
        stream(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + bytes(1 << 20) + b"\r\n", 1 << 20),
    ],
    ids=["50 MB", "endless", "endless chunks"],
)
def test_keyserver_sends_too_much(user: User, reply: Reply) -> None:
    with serving(reply) as server:
        assert user.pull(server) == 1
    assert "sent more than 4194304 bytes" in user.said
    assert user.ring.keys() == {}


def test_keyserver_drips(user: User) -> None:
    def drip(sock: socket.socket) -> None:
        sock.sendall(HEAD + b"Content-Length: 5000\r\n\r\n")
        while True:
            sock.sendall(b"-")
            threading.Event().wait(0.02)

    with serving(drip) as server:
        user.configure(f'{{servers: ["{server.url}"], timeout: 1s}}')
        assert user.run("pull", ALICE.fingerprint) == 1
    assert "did not answer in full within 1 s" in user.said


def test_keyserver_sends_a_gzip_bomb(user: User) -> None:
    bomb = gzip.compress(BLOCK + bytes(50 << 20))
    with serving(answer(bomb, Content_Type="application/pgp-keys", Content_Encoding="gzip")) as server:
        assert user.pull(server) == 1
    assert "a compressed answer, which was not asked for" in user.said


def test_keyserver_sends_html(user: User) -> None:
    page = b"<html><pre>" + BLOCK + b"</pre></html>"
    with serving(answer(page, Content_Type="text/html")) as server:
        assert user.pull(server) == 1
    assert "text/html; is it a keyserver?" in user.said
    assert user.ring.keys() == {}


def test_keyserver_sends_another_key(user: User) -> None:
    with serving(key_answer(armor("PUBLIC KEY BLOCK", certificate(MALLORY)))) as server:
        assert user.pull(server) == 1
    assert MALLORY.fingerprint in user.said
    assert user.ring.keys() == {}


def test_keyserver_sends_other_keys_beside_it(user: User) -> None:
    others = b"".join(certificate(Key()) for _ in range(50))
    blocks = armor("PUBLIC KEY BLOCK", others + certificate(MALLORY)) + BLOCK
    with serving(key_answer(blocks)) as server:
        assert user.pull(server) == 0
    assert set(user.ring.keys()) == {ALICE.fingerprint}
    assert "also sent keys that were not asked for" in user.said


def test_keyserver_puts_another_s_subkey_and_names_into_it(user: User) -> None:
    """What the owner's key did not sign is left out."""
    forged = packet(6, ALICE.body) + user_id(ALICE, NAMED) + packet(14, MALLORY.body) + user_id(MALLORY, b"Mallory")
    with serving(key_answer(armor("PUBLIC KEY BLOCK", forged))) as server:
        assert user.pull(server) == 0
    held = user.ring.keys()[ALICE.fingerprint].public()
    assert MALLORY.body not in held
    assert b"Mallory" not in held


def test_keyserver_sends_a_private_key(user: User) -> None:
    secret = (SECRETS / "builder-secret.asc").read_bytes()
    with Keyserver({BUILDER: key_answer(secret)}) as server:
        assert user.pull(server, BUILDER) == 1
    assert "the private key of" in user.said
    assert user.ring.keys() == {}
    assert user.ring.secret_keys() == {}


def test_keyserver_sends_a_million_user_ids(user: User) -> None:
    """More than any certificate has are not even read; fewer are left out, since no key signed them."""

    def unsigned(count: int) -> bytes:
        return packet(6, ALICE.body) + b"".join(bytes((0xCD, 2)) + (n % 65536).to_bytes(2) for n in range(count))

    with serving(key_answer(certificate(ALICE) + unsigned(1_000_000))) as server:
        assert user.pull(server) == 1
    assert "more than 20000 packets" in user.said
    with serving(key_answer(certificate(ALICE) + unsigned(19_000))) as server:
        assert user.pull(server) == 0
    assert len(user.ring.keys()[ALICE.fingerprint].public()) < 1000


def test_keyserver_strips_the_revocation(user: User, tmp_path: Path) -> None:
    revoked = packet(6, ALICE.body) + packet(2, ALICE.sign(0x20, ALICE.prefix)) + user_id(ALICE, NAMED)
    (tmp_path / "alice").write_bytes(revoked)
    assert user.run("import", str(tmp_path / "alice")) == 0
    with serving(key_answer(BLOCK)) as server:
        assert user.pull(server) == 0
        assert user.run("refresh", "--url", server.url) == 0
    status = user.ring.certificates().status(ALICE.fingerprint, ALICE.fingerprint)
    assert status is not None
    assert status.fault is not None
    assert status.fault.code == "key-revoked"


def test_keyserver_invents_a_revocation() -> None:
    """A person who runs a keyserver, or speaks in its place, can cause no deny."""
    site = Keyring.parse(certificate(ALICE))
    for forged in (
        MALLORY.sign(0x20, ALICE.prefix, issuer=ALICE.issuer()),
        ALICE.sign(0x20, MALLORY.prefix),
        b"\x04\x20\x16\x63" + ALICE.sign(0x20, ALICE.prefix)[4:],
    ):
        copy = Keyring.parse(packet(6, ALICE.body) + packet(2, forged) + user_id(ALICE, NAMED))
        assert updated(site, copy) is site


def test_keyserver_lists_a_key_with_the_same_short_id(user: User) -> None:
    twin = "F" * 32 + ALICE.fingerprint[-8:]
    index = f"info:1:2\npub:{twin}:22:256:::\nuid:Alice\npub:{ALICE.fingerprint}:22:256:::\nuid:Alice\n"
    with Keyserver({ALICE.fingerprint: key_answer(BLOCK)}, index=index_answer(index)) as server:
        assert user.pull(server, ALICE.fingerprint[-8:], "--yes") == 1
        assert server.log == [("index", f"0x{ALICE.fingerprint[-8:]}")]
    assert twin in user.said
    assert ALICE.fingerprint in user.said
    assert user.ring.keys() == {}


def test_keyserver_lists_only_another_key_for_a_key_id(user: User) -> None:
    index = f"info:1:1\npub:{MALLORY.fingerprint}:22:256:::\nuid:Alice\n"
    with Keyserver({MALLORY.fingerprint: key_answer(certificate(MALLORY))}, index=index_answer(index)) as server:
        assert user.pull(server, ALICE.fingerprint[-16:], "--yes") == 1
    assert user.ring.keys() == {}


def test_keyserver_lists_a_key_and_sends_another(user: User) -> None:
    index = f"info:1:1\npub:{ALICE.fingerprint}:22:256:::\nuid:Alice\n"
    with Keyserver({ALICE.fingerprint: key_answer(certificate(MALLORY))}, index=index_answer(index)) as server:
        assert user.pull(server, "alice@example.org", "--yes") == 1
    assert user.ring.keys() == {}


@pytest.mark.parametrize(
    "key",
    [ALICE.fingerprint[-8:], ALICE.fingerprint[-16:], "alice@example.org"],
    ids=["short ID", "long ID", "address"],
)
def test_keyserver_never_fills_the_site_s_ring_by_a_key_id_or_name(user: User, key: str, tmp_path: Path) -> None:
    index = f"info:1:1\npub:{ALICE.fingerprint}:22:256:::\nuid:Alice\n"
    site = tmp_path / "keys.d"
    site.mkdir()
    with Keyserver({ALICE.fingerprint: key_answer(BLOCK)}, index=index_answer(index)) as server:
        assert user.pull(server, key, "--yes", "--site", "--keyring-dir", str(site)) == 2
        assert server.requests == []
    assert list(site.iterdir()) == []


@pytest.mark.parametrize(
    "index",
    [
        "info:1:9\npub:zz:1:1:::\n",
        "<html></html>",
        "info:1:1\nuid:x\n",
        f"info:1:1\npub:{ALICE.fingerprint}:1:1:never::\n",
    ],
    ids=["no fingerprint", "HTML", "no key", "no time"],
)
def test_keyserver_sends_a_wrong_index(user: User, index: str) -> None:
    with Keyserver(index=index_answer(index)) as server:
        assert user.run("search", "--url", server.url, "alice") == 1
        assert user.pull(server, "alice", "--yes") == 1


def test_keyserver_writes_to_the_terminal(user: User) -> None:
    names = "%1B%5B2J%1B%5D0%3Bowned%07", "%E2%80%AEevil%0Apub%3AFFFF", "a%5Cb"
    index = f"info:1:1\npub:{ALICE.fingerprint}:22:256:::\n" + "".join(f"uid:{name}\n" for name in names)
    with Keyserver(index=index_answer(index)) as server:
        assert user.run("search", "--url", server.url, "--long", "alice") == 0
    assert "\\x1b[2J" in user.said
    assert "\\u202eevil\\x0apub:FFFF" in user.said


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/", "//keys.example/", "http://169.254.169.254/latest/"]
)
def test_keyserver_redirects_elsewhere(user: User, location: str) -> None:
    with serving(answer(b"", "302 Found", Location=location)) as server:
        assert user.pull(server) == 1
        assert len(server.requests) == 1
    assert "which is not followed" in user.said


@pytest.mark.parametrize("status", ["301 Moved", "307 Temporary", "308 Permanent"])
def test_keyserver_redirects_to_another_host_with_the_token(user: User, status: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    (tmp_path / "token").chmod(0o600)
    with Keyserver({ALICE.fingerprint: key_answer(BLOCK), "": answer(b"thanks")}) as other:
        there = answer(b"", status, Location=f"{other.url}/pks/lookup?op=get&search=0x{ALICE.fingerprint}")
        with Keyserver({ALICE.fingerprint: there, "": there}) as server:
            user.configure(f'{{servers: [{{url: "{server.url}", token_file: {tmp_path}/token}}]}}')
            assert user.run("pull", ALICE.fingerprint) == 1
            user.ring.add(certificate(ALICE))
            assert user.run("push", ALICE.fingerprint) == 1
            assert [b"Bearer s3cret" in request for request in server.requests] == [True, True]
        assert other.requests == []


def test_keyserver_redirects_within_itself(user: User) -> None:
    """The one redirect that is followed, to any path of the same server, and no longer than a few times."""
    there = f"/other/lookup?op=get&options=mr&search={ALICE.fingerprint}"
    with serving(b"") as server:
        server.keys = {ALICE.fingerprint: answer(b"", "302 Found", Location=there)}
        assert user.pull(server) == 1
        assert len(server.requests) == 4
    assert "redirects once more after 3 redirects" in user.said


def test_keyserver_is_never_sent_a_secret(user: User) -> None:
    secret = (SECRETS / "builder-secret.asc").read_bytes()
    user.ring.add(secret)
    with Keyserver({"": answer(b"thanks")}) as server:
        assert user.run("push", "--url", server.url, BUILDER) == 0
    ring = Keyring.parse(_sent(server.requests[0]))
    assert [each.fingerprint for each in ring.certificates] == [BUILDER]
    assert ring.secret == ()
    assert "nothing secret" in user.said


def _sent(request: bytes) -> bytes:
    from urllib.parse import parse_qs

    body = parse_qs(request.partition(b"\r\n\r\n")[2].decode())
    return body["keytext"][0].encode()


def test_keyserver_is_not_asked_by_verify_local(user: User, capsys: pytest.CaptureFixture[str]) -> None:
    with Keyserver({BUILDER: key_answer((SECRETS / "builder.asc").read_bytes())}) as server:
        user.configure(f'{{servers: ["{server.url}"]}}')
        user.ring.add(certificate(ALICE))
        assert verify.run(["--local", IMAGE]) == 1
        assert server.requests == []
        assert verify.run([IMAGE]) == 0
        assert server.log == [("get", f"0x{BUILDER}")]
    assert "[REMOTE]           Fingerprint: " + BUILDER in capsys.readouterr().out


def test_keyserver_sends_verify_another_signer(user: User, capsys: pytest.CaptureFixture[str]) -> None:
    """An image by Mallory that claims to be by the builder, and a server that sends Mallory's key for the builder's."""
    forged = next((CORPUS / "images").glob("one-mallory.sif"))
    mallory = (SECRETS / "mallory.asc").read_bytes()
    with Keyserver({BUILDER: key_answer(mallory)}) as server:
        assert verify.run(["--url", server.url, IMAGE, str(forged)]) == 1
    assert "[REMOTE]" not in capsys.readouterr().out


def test_keyserver_prolongs_nothing_that_the_owner_did_not(user: User) -> None:
    """An expired key stays expired: a self-signature by another key changes nothing."""
    from tests.helpers.pgp import sub, time

    short = packet(6, ALICE.body) + user_id(ALICE, NAMED, flags(SIGN | CERTIFY), sub(9, time(60)))
    longer = (
        packet(6, ALICE.body)
        + packet(13, NAMED)
        + packet(2, MALLORY.sign(0x13, ALICE.prefix, flags(SIGN | CERTIFY), created=CREATED + 5, issuer=ALICE.issuer()))
    )
    user.ring.add(short)
    before = user.ring.keys()[ALICE.fingerprint].public()
    with serving(key_answer(longer)) as server:
        assert user.run("refresh", "--url", server.url) == 1
    assert user.ring.keys()[ALICE.fingerprint].public() == before
