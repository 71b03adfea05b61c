"""What responders say, taken together: who is asked, how, and which answer counts."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from eclctl.remote.ocsp.client import MAX_AGE, ResponderReply, ask, ask_all
from eclctl.trust.ocsp import build_request
from eclctl.trust.revocation import Status
from tests.helpers.pki import HOUR, Authority, Issued
from tests.helpers.servers import Server, answer, says

GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
TRY_LATER = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER)
NOW = datetime.now(UTC).replace(microsecond=0)
AUTHORITY = Authority()
SHORT = 0.5  # seconds, where a responder hangs


def now() -> datetime:
    return datetime.now(UTC)


def hang(sock: socket.socket, _: bytes) -> None:
    sock.recv(1)


class Responders:
    """A certificate whose responders behave as a test says, each at a URL of its own."""

    def __init__(self, *said: bytes | Callable[[Issued], bytes] | None) -> None:
        self._said = said
        self.servers: list[Server] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.servers = [self._stack.enter_context(Server(hang)) for _ in self._said]
        self.leaf = AUTHORITY.leaf(urls=[f"{server.url}/ocsp" for server in self.servers])
        for server, said in zip(self.servers, self._said, strict=True):
            if said is not None:
                body = said if isinstance(said, bytes) else said(self.leaf)
                server._behave = says(answer(body))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ask(self, *, max_age: timedelta = MAX_AGE) -> ResponderReply:
        timeout = SHORT if None in self._said else 60.0
        return asyncio.run(ask(self.leaf.link, now=now, timeout=timeout, max_age=max_age))


def said(status: ocsp.OCSPCertStatus, since: datetime = NOW) -> Callable[[Issued], bytes]:
    return lambda leaf: AUTHORITY.response(leaf, status, since=since)


@pytest.mark.parametrize(
    ("status", "expected"), [(GOOD, Status.GOOD), (REVOKED, Status.REVOKED), (UNKNOWN, Status.UNKNOWN)]
)
def test_the_question_is_posted_and_the_answer_counts(status: ocsp.OCSPCertStatus, expected: Status) -> None:
    with Responders(said(status)) as responders:
        reply = responders.ask()
        (server,) = responders.servers
        assert server.lines == ["POST /ocsp HTTP/1.1"]
        assert b"Content-Type: application/ocsp-request\r\n" in server.requests[0]
        assert server.requests[0].partition(b"\r\n\r\n")[2] == build_request(responders.leaf.link, None)
    assert (reply.status, reply.this_update, reply.until) == (expected, NOW, NOW + HOUR)
    assert reply.reason.startswith(server.url)


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed", "500 Oh"])
def test_what_post_does_not_settle_is_asked_by_get(status: str) -> None:
    with Responders(said(GOOD)) as responders:
        (server,) = responders.servers
        whole = server._behave
        server._behave = lambda sock, asked: (says(answer(b"", status)) if asked[:4] == b"POST" else whole)(sock, asked)
        assert responders.ask().status is Status.GOOD
        path = server.lines[1].split(" ")[1]
        assert server.lines[1].startswith("GET /ocsp/")
        encoded = unquote(path.removeprefix("/ocsp/"))
        assert base64.b64decode(encoded, validate=True) == build_request(responders.leaf.link, None)
        assert "+" not in path
        assert path.count("/") == 2


def test_of_post_and_get_the_answer_that_says_more_is_reported() -> None:
    with Responders(b"garbage") as responders:
        (server,) = responders.servers
        garbage = server._behave
        server._behave = lambda sock, asked: (garbage if asked[:4] == b"POST" else says(answer(b"", "404 No")))(
            sock, asked
        )
        assert responders.ask().status is Status.INVALID


def test_a_url_with_a_query_is_not_asked_by_get() -> None:
    with Server(says(answer(b"", "500 Oh"))) as server:
        leaf = AUTHORITY.leaf(urls=[f"{server.url}/?ca=1"])
        reply = asyncio.run(ask(leaf.link, now=now))
        assert server.lines == ["POST /?ca=1 HTTP/1.1"]
    assert reply.status is Status.UNAVAILABLE
    assert reply.reason == f"{server.url}/?ca=1 answered with status 500"


def test_a_certificate_without_a_responder_cannot_be_asked_about() -> None:
    reply = asyncio.run(ask(AUTHORITY.leaf().link, now=now))
    assert (reply.status, reply.reason) == (Status.UNAVAILABLE, "the certificate names no OCSP responder")


@pytest.mark.parametrize("url", ["ldap://ocsp.example/", "file:///etc/passwd", "http://me:secret@ocsp.example/"])
def test_a_responder_that_is_not_plain_http_is_not_asked(url: str) -> None:
    reply = asyncio.run(ask(AUTHORITY.leaf(urls=[url]).link, now=now))
    assert reply.status is Status.UNAVAILABLE
    assert "secret" not in reply.reason


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (said(GOOD), said(REVOKED), Status.REVOKED),
        (said(REVOKED), said(GOOD), Status.REVOKED),
        (said(UNKNOWN), said(REVOKED), Status.REVOKED),
        (None, said(REVOKED), Status.REVOKED),
        (b"garbage", said(GOOD), Status.GOOD),
        (None, said(GOOD), Status.GOOD),
        (TRY_LATER, said(GOOD), Status.GOOD),
        (said(UNKNOWN), said(GOOD), Status.GOOD),
        (b"garbage", said(UNKNOWN), Status.UNKNOWN),
        (TRY_LATER, b"garbage", Status.INVALID),
        (None, b"garbage", Status.INVALID),
        (None, TRY_LATER, Status.UNAVAILABLE),
    ],
)
def test_what_several_responders_say_is_taken_together(first: object, second: object, expected: Status) -> None:
    with Responders(first, second) as responders:  # type: ignore[arg-type]
        reply = responders.ask()
        assert [each.url for each in reply.answers] == [f"{server.url}/ocsp" for server in responders.servers]
        assert all(server.requests for server in responders.servers)
    assert reply.status is expected


def test_of_several_good_answers_the_newest_counts() -> None:
    with Responders(said(GOOD, NOW - HOUR / 2), said(GOOD, NOW), said(GOOD, NOW - HOUR / 4)) as responders:
        assert responders.ask().this_update == NOW


def test_responders_are_asked_at_the_same_time() -> None:
    """One that hangs takes no time from the others, and several that hang take no longer than one."""
    with Responders(None, None, None, said(GOOD)) as responders:
        reply = responders.ask()
    assert reply.status is Status.GOOD
    assert sum(each.seconds for each in reply.answers) > 3 * SHORT
    assert all(each.seconds < 60 for each in reply.answers)


def test_no_more_than_eight_responders_of_a_certificate_are_asked() -> None:
    with Server(says(answer(b"", "404 No"))) as server:
        leaf = AUTHORITY.leaf(urls=[f"{server.url}/{number}?" for number in range(100)])
        assert len(asyncio.run(ask(leaf.link, now=now)).answers) == 8
        assert len(server.requests) == 8


def test_an_answer_is_relied_on_for_no_longer_than_the_greatest_age() -> None:
    with Responders(said(GOOD)) as responders:
        before = now()
        reply = responders.ask(max_age=timedelta(seconds=10))
        assert before + timedelta(seconds=10) <= reply.until <= now() + timedelta(seconds=10)


def test_a_whole_path_is_asked_about_at_once() -> None:
    with Responders(said(GOOD)) as responders, Server(hang) as server:
        authority = Authority(urls=[server.url])
        server._behave = says(answer(authority.response(authority.intermediate)))
        links = (responders.leaf.link, authority.intermediate.link, AUTHORITY.leaf().link)
        told = asyncio.run(ask_all(links, now=now))
    statuses = [told.known(link, now()).status for link in links]  # type: ignore[union-attr]
    assert statuses == [Status.GOOD, Status.GOOD, Status.UNAVAILABLE]
    assert told.known(links[0], now() + HOUR) is None
    assert told.known(AUTHORITY.leaf().link, now()) is None
