"""Asking keyservers: what is asked, which answer counts, in which order, and with whose token."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest

from eclctl.config.keyservers import Keyserver, Keyservers
from eclctl.errors import RemoteError
from eclctl.remote.keyservers import hkp
from eclctl.remote.keyservers.hkp import KeyReply, Result, Tried
from eclctl.signature.openpgp import Keyring
from tests.helpers.keyservers import Keyserver as Fake
from tests.helpers.keyservers import index_answer, key_answer
from tests.helpers.pgp import Key, armor, certificate, packet, subkey, user_id
from tests.helpers.pki import Authority
from tests.helpers.servers import PATIENCE, answer, free_port

ALICE, STRANGER = Key(), Key()
BLOCK = armor("PUBLIC KEY BLOCK", certificate(ALICE))
TIMEOUT = PATIENCE


def servers(*fakes: Fake | Keyserver | str) -> Keyservers:
    listed = [each if isinstance(each, Keyserver) else Keyserver(getattr(each, "url", str(each))) for each in fakes]
    return Keyservers(tuple(listed), timeout=TIMEOUT)


def fetch(*fakes: Fake | Keyserver | str, fingerprint: str = ALICE.fingerprint) -> Tried:
    return asyncio.run(hkp.fetch(servers(*fakes), fingerprint))


def only(tried: Tried) -> KeyReply:
    (one,) = tried.answers
    return one


def of(reply: bytes) -> KeyReply:
    """What comes of an answer to the question about Alice's key."""
    with Fake({ALICE.fingerprint: reply}) as server:
        return only(fetch(server))


def test_a_key_is_asked_for_by_its_whole_fingerprint() -> None:
    with Fake({ALICE.fingerprint: key_answer(BLOCK)}) as server:
        found = only(fetch(server))
    assert found.result is Result.FOUND
    assert found.found is not None
    assert found.found.packets == certificate(ALICE)
    assert server.lines == [f"GET /pks/lookup?op=get&options=mr&search=0x{ALICE.fingerprint} HTTP/1.1"]


@pytest.mark.parametrize(
    ("reply", "result"),
    [
        (answer(b"", "404 Not Found"), Result.ABSENT),
        (answer(b"Key not found\n", Content_Type="text/plain"), Result.ABSENT),
        (answer(b"<pre>\nKey not found\n", Content_Type="text/plain"), Result.ABSENT),
        (answer(b"", "500 Oh"), Result.UNAVAILABLE),
        (answer(b"slow down", "429 Too Many Requests"), Result.UNAVAILABLE),
        (answer(BLOCK, Content_Type="text/html; charset=utf-8"), Result.UNAVAILABLE),
        (answer(b"hello", Content_Type="text/plain"), Result.INVALID),
        (answer(BLOCK[:200], Content_Type="application/pgp-keys"), Result.INVALID),
        (answer(b"\xc6\xff\xff", Content_Type="application/pgp-keys"), Result.INVALID),
        (answer(b"<pre>\n" + BLOCK, Content_Type="text/plain"), Result.FOUND),
        (answer(certificate(ALICE), Content_Type="application/octet-stream"), Result.FOUND),
        (answer(BLOCK), Result.FOUND),
    ],
)
def test_what_an_answer_is_worth(reply: bytes, result: Result) -> None:
    found = of(reply)
    assert found.result is result
    assert found.why.isprintable()
    assert bool(found.why) == (result not in {Result.FOUND, Result.ABSENT})


def test_of_several_keys_in_an_answer_only_the_one_asked_for_is_taken_and_the_others_are_named() -> None:
    both = armor("PUBLIC KEY BLOCK", certificate(STRANGER)) + BLOCK
    found = of(key_answer(both))
    assert found.found is not None
    assert found.found.packets == certificate(ALICE)
    assert f"also sent keys that were not asked for: {STRANGER.fingerprint}" in found.why


def test_another_key_is_no_answer() -> None:
    found = of(key_answer(armor("PUBLIC KEY BLOCK", certificate(STRANGER))))
    assert found.result is Result.INVALID
    assert STRANGER.fingerprint in found.why


def test_a_certificate_in_which_nothing_is_signed_is_no_answer() -> None:
    found = of(key_answer(armor("PUBLIC KEY BLOCK", packet(6, ALICE.body) + packet(13, b"Alice"))))
    assert found.result is Result.INVALID
    assert "nothing in it that its key vouches for" in found.why


def test_servers_are_asked_in_their_order_until_one_has_the_key() -> None:
    with Fake() as empty, Fake({ALICE.fingerprint: key_answer(BLOCK)}) as full, Fake() as last:
        gone = f"http://127.0.0.1:{free_port()}"
        tried = fetch(gone, empty, full, last)
    results = [answer_.result for answer_ in tried.answers]
    assert results == [Result.UNAVAILABLE, Result.ABSENT, Result.FOUND]
    assert tried.found is tried.answers[2]
    assert last.requests == []


def test_all_servers_are_asked_where_one_may_hold_something_back() -> None:
    revoked = certificate(ALICE) + packet(6, ALICE.body) + packet(2, ALICE.sign(0x20, ALICE.prefix))
    with Fake({ALICE.fingerprint: key_answer(BLOCK)}) as old, Fake({ALICE.fingerprint: key_answer(revoked)}) as new:
        gone = f"http://127.0.0.1:{free_port()}"
        tried = asyncio.run(hkp.fetch_all(servers(old, gone, new), ALICE.fingerprint))
    results = [answer_.result for answer_ in tried.answers]
    assert results == [Result.FOUND, Result.UNAVAILABLE, Result.FOUND]
    assert [each.url for each in tried.having] == [old.url, new.url]
    assert [each.found is not None and each.found.revoked for each in tried.having] == [False, True]


def test_a_key_is_absent_only_when_every_server_says_so() -> None:
    with Fake() as one, Fake() as two:
        assert fetch(one, two).absent
        assert not fetch(one, f"http://127.0.0.1:{free_port()}").absent


def test_a_search_takes_the_first_server_that_lists_something() -> None:
    text = f"info:1:1\npub:{ALICE.fingerprint}:22:256:::\nuid:Alice\n"
    with Fake(index=index_answer("info:1:0\n")) as empty, Fake(index=index_answer(text)) as full:
        reply = asyncio.run(hkp.search(servers(empty, full), "alice <a&b=c#d?>"))
        assert (reply.url, reply.failed) == (full.url, ())
        assert [key.id for key in reply.content.keys] == [ALICE.fingerprint]
        assert full.log == [("index", "alice <a&b=c#d?>")]


def test_a_search_that_no_server_answers_is_an_error_that_names_them() -> None:
    with Fake(index=answer(b"<html>", Content_Type="text/html")) as page, pytest.raises(RemoteError) as caught:
        asyncio.run(hkp.search(servers(page, f"http://127.0.0.1:{free_port()}"), "x"))
    assert "text/html; is it a keyserver?" in str(caught.value)
    assert "Connection refused" in str(caught.value)


def test_a_key_is_sent_as_a_form() -> None:
    with Fake({"": answer(b"thanks")}) as server:
        assert asyncio.run(hkp.submit(servers(server), BLOCK)).url == server.url
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /pks/add HTTP/1.1\r\n")
    assert b"Content-Type: application/x-www-form-urlencoded\r\n" in head
    assert body.startswith(b"keytext=-----BEGIN+PGP+PUBLIC+KEY+BLOCK-----%0A%0A")


def test_a_server_that_takes_no_keys_says_so() -> None:
    with Fake() as server, pytest.raises(RemoteError, match="takes no keys"):
        asyncio.run(hkp.submit(servers(server), BLOCK))


# -- tokens


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("s3cret.token\n")
    path.chmod(0o600)
    return path


def test_a_token_goes_to_its_own_server_alone(token: Path) -> None:
    with Fake() as other, Fake({ALICE.fingerprint: key_answer(BLOCK)}) as own:
        assert fetch(other, Keyserver(own.url, token_file=str(token))).found is not None
    assert b"Authorization: Bearer s3cret.token\r\n" in own.requests[0]
    assert b"s3cret" not in other.requests[0]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_token_that_others_can_read_is_not_used(token: Path, mode: int) -> None:
    token.chmod(mode)
    with Fake() as server:
        assert "is not yours alone; chmod 600 it" in only(fetch(Keyserver(server.url, token_file=str(token)))).why
        assert server.requests == []


@pytest.mark.parametrize("text", ["", "two words", "line\nInjected: header", "x" * 5000, "ümlaut"])
def test_what_is_no_token_is_not_sent(token: Path, text: str) -> None:
    token.write_text(text)
    with Fake() as server:
        assert "holds no bearer token" in only(fetch(Keyserver(server.url, token_file=str(token)))).why
        assert server.requests == []


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    found = only(fetch(Keyserver("http://127.0.0.1:1", token_file=str(tmp_path / "none"))))
    assert "No such file or directory" in found.why
    assert "Is a directory" in only(fetch(Keyserver("http://127.0.0.1:1", token_file=str(tmp_path)))).why
    os.mkfifo(tmp_path / "pipe")
    assert "is no regular file" in only(fetch(Keyserver("http://127.0.0.1:1", token_file=str(tmp_path / "pipe")))).why


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_a_server_that_wants_a_token_is_understood(status: str, token: Path) -> None:
    with Fake({ALICE.fingerprint: answer(b"", status)}) as server:
        assert "it wants a token" in only(fetch(server)).why
        assert "it wants another token" in only(fetch(Keyserver(server.url, token_file=str(token)))).why


# -- TLS


def test_hkps_trusts_the_roots_that_are_named_for_the_server(tmp_path: Path) -> None:
    authority = Authority()
    own, key = authority.leaf("localhost", names=("localhost",)).write(tmp_path, "server")
    own.write_bytes(own.read_bytes() + authority.intermediate.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    root = authority.root.write(tmp_path, "root")[0]
    with Fake({ALICE.fingerprint: key_answer(BLOCK)}, tls=context) as server:
        url = f"https://localhost:{server.port}"
        assert fetch(Keyserver(url, ca=str(root))).found is not None
        assert "not trusted" in only(fetch(url)).why
        other = Authority().root.write(tmp_path, "other")[0]
        assert "not trusted" in only(fetch(Keyserver(url, ca=str(other)))).why
        assert "cannot use the trusted roots" in only(fetch(Keyserver(url, ca=str(tmp_path / "none")))).why
        assert "it holds no certificates" in only(fetch(Keyserver(url, ca="/dev/null"))).why
        assert len(server.requests) == 1


# -- revocations by others


def test_a_designated_revocation_is_taken_where_the_revoker_is_known() -> None:
    from tests.helpers.pgp import CERTIFY, SIGN, flags, sub

    revoker = Key()
    named = user_id(ALICE, b"Alice", flags(SIGN | CERTIFY), sub(12, bytes((0x80, 22)) + revoker.raw))
    blob = packet(6, ALICE.body) + packet(2, revoker.sign(0x20, ALICE.prefix)) + named + subkey(ALICE, Key())
    with Fake({ALICE.fingerprint: key_answer(armor("PUBLIC KEY BLOCK", blob))}) as server:
        ring = Keyring.parse(certificate(revoker))
        found = asyncio.run(hkp.fetch(servers(server), ALICE.fingerprint, ring)).found
        assert found is not None
        assert found.found is not None
        assert (found.found.revoked, len(found.found.material.subkeys)) == (True, 1)
        without = fetch(server).found
        assert without is not None
        assert without.found is not None
        assert not without.found.revoked
