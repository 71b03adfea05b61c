"""`eclctl keys search`, `pull`, `push` and `refresh`, and what `verify` asks: which servers, what is shown, JSON."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from eclctl.cli.inputs import keyrings, keyservers
from eclctl.cli.keys import command as keys
from eclctl.cli.keys.search import key_table, search_term
from eclctl.cli.verify import command as verify
from eclctl.config.keyservers import Keyserver, Keyservers
from eclctl.errors import ConfigError, RemoteError
from eclctl.remote.keyservers.index import parse_search_index
from eclctl.sign.keyrings.rings import UserRing
from tests.helpers.keyservers import Keyserver as Fake
from tests.helpers.keyservers import index_answer, key_answer
from tests.helpers.pgp import CERTIFY, SIGN, Key, armor, certificate, flags, packet, sub, subkey, user_id
from tests.helpers.servers import answer, free_port
from tests.helpers.sifbuilder import corpus_pgp_key
from tests.helpers.support import CORPUS

ALICE = Key()
BLOCK = armor("PUBLIC KEY BLOCK", certificate(ALICE))
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
IMAGE = str(CORPUS / "images" / "one-builder.sif")
INDEX = f"info:1:1\npub:{ALICE.fingerprint}:22:256:1735689600::\nuid:Alice <alice@example.org>\n"


@pytest.fixture(autouse=True)
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UserRing:
    """An empty ring, no configuration, and no user at a terminal."""
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ECLCTL_KEYS", str(tmp_path / "ring"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(keyservers, "SYSTEM_CONFIG", str(tmp_path / "none.yaml"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return UserRing(str(tmp_path / "ring"))


def run(*arguments: str, status: int = 0) -> None:
    assert keys.run(list(arguments)) == status


def configure(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config" / "eclctl" / "keys.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"version: 1\nkeyservers: {text}\n")
    return path


# -- which servers


def test_the_user_s_file_is_in_the_configuration_directory() -> None:
    assert keyservers.user_file({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}) == "/c/eclctl/keys.yaml"
    assert keyservers.user_file({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}) == "/h/.config/eclctl/keys.yaml"


def test_without_a_server_nobody_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    run("search", "alice", status=1)
    assert "no keyserver is named: give --url URL, or list some in" in capsys.readouterr().err


def test_a_revocation_that_reaches_the_site_s_ring_is_said_to_need_a_reload(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = ("--site", "--keyring-dir", str(tmp_path / "keys.d"))
    revoked = certificate(ALICE) + packet(6, ALICE.body) + packet(2, ALICE.sign(0x20, ALICE.prefix))
    for command, blob in ((("pull", ALICE.fingerprint), BLOCK), (("refresh",), armor("PUBLIC KEY BLOCK", revoked))):
        with Fake({ALICE.fingerprint: key_answer(blob)}) as server:
            run(*command, "--url", server.url, *site)
            assert "next reload: eclctl reload" in capsys.readouterr().err
            run(*command, "--url", server.url, *site)
            assert "reload" not in capsys.readouterr().err


def test_without_a_server_the_site_is_pointed_to_its_own_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("refresh", "--site", "--keyring-dir", str(tmp_path / "keys.d"), status=1)
    assert f"or list some in {tmp_path}/none.yaml" in capsys.readouterr().err


def test_the_site_s_servers_are_asked_by_those_who_have_none_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "version: 1\nsockets: {check: c, admin: a}\nstate_dir: s\npolicies: [p]\nkeyrings: [k]\n"
        "keyservers: {servers: [hkps://site.example]}\n"
    )
    monkeypatch.setattr(keyservers, "SYSTEM_CONFIG", str(config))
    site = Keyservers((Keyserver("https://site.example"),))
    assert keyservers.configured(os.environ) == site
    configure(tmp_path, "{servers: [hkps://own.example], timeout: 2s}")
    own = Keyservers((Keyserver("https://own.example"),), timeout=2.0)
    assert keyservers.configured(os.environ) == own
    assert keyservers.configured(os.environ, site=True) == site
    config.write_text("nonsense")
    with pytest.raises(ConfigError):
        keyservers.configured(os.environ, site=True)


def test_a_file_that_is_wrong_is_no_reason_to_ask_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = configure(tmp_path, "{servers: [nowhere]}")
    run("search", "alice", status=1)
    assert f"{path}:2:" in capsys.readouterr().err


def test_a_url_keeps_what_is_configured_for_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0ken")
    (tmp_path / "token").chmod(0o600)
    with Fake(index=index_answer(INDEX)) as server:
        configure(tmp_path, f'{{servers: [{{url: "{server.url}", token_file: {tmp_path}/token}}]}}')
        run("search", "--url", server.url, "alice")
        assert b"Authorization: Bearer t0ken" in server.requests[0]


# -- search


def test_the_table_is_that_of_singularity(capsys: pytest.CaptureFixture[str]) -> None:
    index = f"info:1:2\npub:{BUILDER}:1:4096:1764547200::\nuid:Builder\nuid:also\npub:{'A' * 40}:22:256:::\n"
    with Fake(index=index_answer(index)) as server:
        run("search", "--url", server.url, "x")
    assert capsys.readouterr().out.splitlines() == [
        "Showing 2 results",
        "",
        "KEY ID    BITS  NAME/EMAIL",
        "C942487F  4096  Builder",
        "                also",
        "",
        "AAAAAAAA  256",
    ]


def test_the_long_table_has_fingerprints_dates_and_status() -> None:
    index = parse_search_index(f"info:1:1\npub:{BUILDER}:1:4096:1764547200:1796083200:r\nuid:B\n".encode(), "u")
    head, row = key_table(index.keys, long=True)
    assert [cell.strip() for cell in head.split("  ") if cell.strip()] == [
        "FINGERPRINT",
        "ALGORITHM",
        "BITS",
        "CREATION DATE",
        "EXPIRATION DATE",
        "STATUS",
        "NAME/EMAIL",
    ]
    assert row == (
        f"{BUILDER}  RSA        4096  2025-12-01 00:00:00 +0000 UTC  2026-12-01 00:00:00 +0000 UTC  [revoked]  B"
    )


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("c942487f", "0xC942487F"),
        ("0xC942487F", "0xC942487F"),
        ("22BC3A3BC942487F", "0x22BC3A3BC942487F"),
        (" ".join(BUILDER[n : n + 4] for n in range(0, 40, 4)), f"0x{BUILDER}"),
        ("joe@site.example", "joe@site.example"),
        ("deadbeef12", "deadbeef12"),
        (" Joe User ", "Joe User"),
    ],
)
def test_digits_of_a_key_are_asked_for_as_such(text: str, asked: str) -> None:
    assert search_term(text) == asked


@pytest.mark.parametrize("text", ["", "  ", "x" * 300])
def test_what_cannot_be_searched_for_is_refused(text: str) -> None:
    with pytest.raises(RemoteError, match="give a fingerprint"):
        search_term(text)


def test_search_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    with Fake(index=index_answer(INDEX)) as server:
        run("search", "--url", server.url, "--json", "alice")
    assert json.loads(capsys.readouterr().out) == {
        "v": 1,
        "server": server.url,
        "term": "alice",
        "keys": [
            {
                "id": ALICE.fingerprint,
                "fingerprint": ALICE.fingerprint,
                "algorithm": "EdDSA",
                "bits": 256,
                "created": "2025-01-01T00:00:00+00:00",
                "expires": None,
                "status": "enabled",
                "users": ["Alice <alice@example.org>"],
                "more_users": 0,
            }
        ],
        "more": 0,
    }


# -- pull


def test_a_name_is_confirmed_by_somebody_at_the_terminal(
    ring: UserRing, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Fake({ALICE.fingerprint: key_answer(BLOCK)}, index=index_answer(INDEX)) as server:
        run("pull", "--url", server.url, "alice", status=1)
        assert "there is no terminal to confirm that at" in capsys.readouterr().err
        monkeypatch.setattr("eclctl.cli.terminal.prompts.at_terminal", lambda: True)
        monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
        run("pull", "--url", server.url, "alice", status=1)
        assert ring.keys() == {}
        monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
        run("pull", "--url", server.url, "alice")
    said = capsys.readouterr()
    assert f"Take the key {ALICE.fingerprint}, which you compared with its owner? [y/N]" in said.err
    assert said.out.startswith("1 key(s) added to keyring of trust ")
    assert set(ring.keys()) == {ALICE.fingerprint}


def test_a_server_that_names_no_whole_fingerprint_leads_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    index = f"info:1:1\npub:{ALICE.fingerprint[-16:]}:22:256:::\nuid:Alice\n"
    with Fake(index=index_answer(index)) as server:
        run("pull", "--url", server.url, "--yes", "alice", status=1)
    assert "names no whole fingerprint" in capsys.readouterr().err


def test_pull_in_json_says_what_is_in_the_ring(capsys: pytest.CaptureFixture[str]) -> None:
    with Fake({ALICE.fingerprint: key_answer(BLOCK)}) as server:
        run("pull", "--url", server.url, "--json", ALICE.fingerprint)
        shape = json.loads(capsys.readouterr().out)
        assert (shape["v"], shape["server"], shape["key"]["public"]) == (1, server.url, "new")
        assert shape["key"]["fingerprint"] == ALICE.fingerprint
        run("pull", "--url", server.url, "--json", ALICE.fingerprint)
        assert json.loads(capsys.readouterr().out)["key"]["public"] == "unchanged"


def test_a_key_goes_into_the_site_s_ring_by_its_whole_fingerprint(tmp_path: Path) -> None:
    site = tmp_path / "keys.d"
    site.mkdir()
    with Fake({ALICE.fingerprint: key_answer(BLOCK)}) as server:
        run("pull", "--url", server.url, "--site", "--keyring-dir", str(site), ALICE.fingerprint)
    assert [path.name for path in site.iterdir() if path.suffix == ".asc"] == [f"{ALICE.fingerprint}.asc"]


def test_several_servers_are_tried_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    with Fake() as empty, Fake({ALICE.fingerprint: key_answer(BLOCK)}) as full:
        run("pull", "--url", gone, "--url", empty.url, "--url", full.url, ALICE.fingerprint)
    assert f"WARNING: {gone}" in capsys.readouterr().err


def test_a_server_that_did_not_answer_is_told_of_beside_what_another_says(
    ring: UserRing, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a key that only the first one has seems to be nowhere."""
    gone = f"http://127.0.0.1:{free_port()}"
    ring.add(certificate(ALICE))
    with Fake({"": answer(b"thanks")}, index=index_answer("info:1:0\n")) as empty:
        both = ("--url", gone, "--url", empty.url)
        for command, status in (("search", 1), ("pull", 1), ("push", 0)):
            run(command, *both, "alice@example.org", status=status)
            err = capsys.readouterr().err
            assert f"WARNING: {gone}/pks/" in err
            assert "Connection refused" in err


# -- push


def test_push_says_what_it_sent(ring: UserRing, capsys: pytest.CaptureFixture[str]) -> None:
    ring.add(certificate(ALICE) + subkey(ALICE, Key()))
    with Fake({"": answer(b"thanks")}) as server:
        run("push", "--url", server.url, "alice@example.org")
        said = capsys.readouterr().out.splitlines()
        run("push", "--url", server.url, "--json", ALICE.fingerprint)
    assert said[0] == f"public key {ALICE.fingerprint} pushed to {server.url} successfully"
    assert said[1] == "    Alice <alice@example.org>"
    assert said[2].startswith("    with 1 subkey, ")
    shape = json.loads(capsys.readouterr().out)
    assert (shape["v"], shape["fingerprint"], shape["subkeys"]) == (1, ALICE.fingerprint, 1)


def test_a_key_without_a_name_of_its_own_is_not_sent(ring: UserRing, capsys: pytest.CaptureFixture[str]) -> None:
    ring.add(packet(6, ALICE.body) + packet(13, b"Alice"))
    with Fake({"": answer(b"thanks")}) as server:
        run("push", "--url", server.url, ALICE.fingerprint, status=1)
        assert server.requests == []
    assert "there is nothing to send" in capsys.readouterr().err


def test_a_key_that_is_not_in_the_ring_is_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    run("push", "--url", "hkps://keys.example", ALICE.fingerprint, status=1)
    assert ALICE.fingerprint in capsys.readouterr().err


# -- refresh


def test_refresh_says_of_each_key_what_came_of_it(ring: UserRing, capsys: pytest.CaptureFixture[str]) -> None:
    revoked_key, absent, wrong = Key(), Key(), Key()
    for key in (ALICE, revoked_key, absent, wrong):
        ring.add(certificate(key))
    revoked = packet(6, revoked_key.body) + packet(2, revoked_key.sign(0x20, revoked_key.prefix)) + user_id(revoked_key)
    replies = {
        ALICE.fingerprint: key_answer(certificate(ALICE) + subkey(ALICE, Key())),
        revoked_key.fingerprint: key_answer(revoked),
        wrong.fingerprint: key_answer(certificate(Key())),
    }
    with Fake(replies) as server:
        run("refresh", "--url", server.url, "--json", status=1)
        shape = json.loads(capsys.readouterr().out)
        states = {each["fingerprint"]: each["state"] for each in shape["keys"]}
        assert states == {
            ALICE.fingerprint: "unchanged",
            revoked_key.fingerprint: "revoked",
            absent.fingerprint: "absent",
            wrong.fingerprint: "failed",
        }
        run("refresh", "--url", server.url, ALICE.fingerprint)
    assert "nothing new" in capsys.readouterr().out
    assert len(ring.certificates().certificates[0].keys) == 1


def test_a_revocation_that_the_first_server_holds_back_is_taken_from_the_second(
    ring: UserRing, capsys: pytest.CaptureFixture[str]
) -> None:
    ring.add(certificate(ALICE))
    revoked = packet(6, ALICE.body) + packet(2, ALICE.sign(0x20, ALICE.prefix)) + user_id(ALICE)
    with Fake({ALICE.fingerprint: key_answer(BLOCK)}) as old, Fake({ALICE.fingerprint: key_answer(revoked)}) as new:
        run("refresh", "--url", old.url, "--url", new.url, "--json")
    (shape,) = json.loads(capsys.readouterr().out)["keys"]
    assert (shape["state"], shape["server"]) == ("revoked", new.url)
    run("list", "--json")
    assert json.loads(capsys.readouterr().out)["keys"][0]["problem"]["code"] == "key-revoked"


def test_keys_are_refreshed_at_the_same_time(ring: UserRing, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that says nothing costs the time that it is given once, not once for each key."""
    keys, together = [Key() for _ in range(8)], threading.Barrier(8)

    def replying(key: Key) -> Callable[[socket.socket], None]:
        def reply(sock: socket.socket) -> None:
            together.wait(60)  # until all are asked about
            sock.sendall(key_answer(certificate(key)))

        return reply

    for key in keys:
        ring.add(certificate(key))
    with Fake({key.fingerprint: replying(key) for key in keys}) as server:
        run("refresh", "--url", server.url, "--json")
    found = json.loads(capsys.readouterr().out)["keys"]
    assert [each["fingerprint"] for each in found] == list(ring.keys())
    assert {each["state"] for each in found} == {"unchanged"}


def test_an_empty_ring_is_refreshed_by_saying_so(capsys: pytest.CaptureFixture[str]) -> None:
    run("refresh", "--url", "hkps://keys.example")
    assert "there are no keys in" in capsys.readouterr().out


# -- verify


@pytest.mark.parametrize(
    "options", [["--local"], ["--keyring", "x"], ["--key", "x"], ["--certificate", "x"], ["--cosign", "--key", "x"]]
)
def test_url_goes_with_nothing_that_asks_nobody(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert verify.run(["--url", "hkps://keys.example", *options, IMAGE]) == 2
    assert "--url" in capsys.readouterr().err


def test_verify_in_json_says_which_signer_is_remote(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verify, "SYSTEM_KEYS", str(tmp_path / "none"))
    builder = (CORPUS / "keys" / "pgp" / "builder.asc").read_bytes()
    with Fake({BUILDER: key_answer(builder)}) as server:
        assert verify.run(["--url", server.url, "--json", IMAGE, IMAGE]) == 0
        assert server.log == [("get", f"0x{BUILDER}")]
    for line in capsys.readouterr().out.splitlines():
        assert json.loads(line)["signatures"][0]["signer"]["remote"] is True


def test_a_server_that_does_not_answer_is_not_said_to_lack_the_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verify, "SYSTEM_KEYS", str(tmp_path / "none"))
    assert verify.run(["--url", f"http://127.0.0.1:{free_port()}", IMAGE]) == 1
    assert f"no keyserver gave the key {BUILDER}: http://127.0.0.1:" in capsys.readouterr().err


def test_a_key_from_a_server_is_revoked_by_whom_its_owner_let_revoke_it(
    ring: UserRing, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verify, "SYSTEM_KEYS", str(tmp_path / "none"))
    builder, revoker = corpus_pgp_key("builder"), Key()
    may_revoke = sub(12, bytes((0x80, 22)) + revoker.raw)
    bound = user_id(builder, b"Builder", flags(SIGN | CERTIFY), may_revoke)
    revoked = packet(6, builder.body) + packet(2, revoker.sign(0x20, builder.prefix)) + bound
    ring.add(certificate(revoker))
    with Fake({BUILDER: key_answer(packet(6, builder.body) + bound)}) as server:
        assert verify.run(["--url", server.url, IMAGE]) == 0
    with Fake({BUILDER: key_answer(revoked)}) as server:
        assert verify.run(["--url", server.url, IMAGE]) == 1
    assert "revoked" in capsys.readouterr().err


def test_a_key_that_no_server_has_leaves_the_signature_unknown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(verify, "SYSTEM_KEYS", str(tmp_path / "none"))
    with Fake() as server:
        assert verify.run(["--url", server.url, IMAGE, IMAGE]) == 1
        assert len(server.requests) == 1
    said = capsys.readouterr().err
    assert f"no keyserver has the key {BUILDER}" in said
    assert "signature made by unknown entity" in said


def test_the_rings_of_the_commands_are_those_of_the_site_and_the_user() -> None:
    assert keyrings.SYSTEM_KEYS == verify.SYSTEM_KEYS
