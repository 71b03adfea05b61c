"""Attacks, the line "OCSP", as far as responders and networks can do: hang, flood, redirect, replay. Never good.

Each goes the way of the daemon: a keeper is asked for a certificate, asks the responder, and tells what is known.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.x509 import ocsp

from eclctl.remote.ocsp.cache import OcspCache
from eclctl.trust.revocation import Known, Link, Status
from tests.helpers.ocsp import ready
from tests.helpers.pki import HOUR, Authority
from tests.helpers.servers import PATIENCE, Server, answer, says

AUTHORITY = Authority()
TIMEOUT = 0.5
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


def now() -> datetime:
    return datetime.now(UTC)


def known(link: Link, timeout: float = TIMEOUT) -> Known:
    """What a daemon that has just started knows of a certificate, once it has asked."""

    async def main() -> Known | None:
        keeper = OcspCache(clock=now, timeout=timeout)
        async with asyncio.timeout(PATIENCE):
            await ready(keeper, [link])
        keeper.stop()
        return keeper.known(link, now())

    found = asyncio.run(main())
    assert found is not None
    return found


def hang(sock: socket.socket, _: bytes) -> None:
    sock.recv(1)


def drip(start: bytes) -> Callable[[socket.socket, bytes], None]:
    def behave(sock: socket.socket, _: bytes) -> None:
        sock.sendall(start)
        while True:
            sock.sendall(b"x")
            threading.Event().wait(0.02)

    return behave


@pytest.mark.parametrize(
    "behave",
    [hang, drip(b"HTTP/1.1 200 OK\r\nX: "), drip(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")],
    ids=["silence", "headers", "body"],
)
def test_ocsp_hang(behave: Callable[[socket.socket, bytes], None]) -> None:
    with Server(behave) as server:
        found = known(AUTHORITY.leaf(urls=[server.url]).link)
    assert found.status is Status.UNAVAILABLE
    assert "did not answer in full within" in found.reason


def test_ocsp_hang_of_one_responder_hides_no_revocation_that_another_knows() -> None:
    with Server(hang) as silent, Server(hang) as speaking:
        leaf = AUTHORITY.leaf(urls=[silent.url, speaking.url])
        speaking._behave = says(answer(AUTHORITY.response(leaf, ocsp.OCSPCertStatus.REVOKED)))
        assert known(leaf.link).status is Status.REVOKED


@pytest.mark.parametrize("head", [b"Content-Length: 1073741824", b"Connection: close"], ids=["announced", "not"])
def test_ocsp_1_gb_body(head: bytes) -> None:
    """A good answer with a gigabyte behind it; hardly any of that is taken."""
    taken = []

    def behave(sock: socket.socket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + good)
        for number in range(1024):
            taken.append(number)
            sock.sendall(bytes(1 << 20))

    with Server(behave) as server:
        leaf = AUTHORITY.leaf(urls=[server.url])
        good = AUTHORITY.response(leaf)
        found = known(leaf.link, PATIENCE)
    assert found.status is Status.UNAVAILABLE
    assert "sent more than 65536 bytes" in found.reason
    assert len(taken) < 64


@pytest.mark.parametrize(
    "where",
    [
        "http://127.0.0.1:{port}/good",
        "http://localhost:{port}/good",
        "http://[::ffff:127.0.0.1]:{port}/good",
        "http://0x7f000001:{port}/good",
        "//127.0.0.1:{port}/good",
        "/good",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "https://127.0.0.1:{port}/good",
    ],
)
@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_ocsp_redirect_to_loopback_or_file(where: str, status: str) -> None:
    """Even though a good answer waits there."""

    def behave(sock: socket.socket, asked: bytes) -> None:
        location = where.format(port=server.port)
        good = b"/good" in asked.partition(b"\r\n")[0]
        sock.sendall(answer(AUTHORITY.response(leaf)) if good else answer(b"", status, Location=location))

    with Server(behave) as server:
        leaf = AUTHORITY.leaf(urls=[server.url + "/ocsp"])
        found = known(leaf.link, PATIENCE)
        assert all(" /ocsp" in line for line in server.lines)
    assert found.status is Status.UNAVAILABLE
    assert "not followed" in found.reason


def test_ocsp_stale_a_recorded_good_answer_undoes_no_revocation() -> None:
    """It is signed and not stale, only older than what is known: an attacker on the network can send it again."""

    async def main() -> list[Status]:
        keeper = OcspCache(clock=now, max_age=timedelta(seconds=2), jitter=lambda: 0.0)
        keeper.watch([leaf.link])
        await ready(keeper, [leaf.link])
        before = len(server.requests)
        server._behave = says(answer(recorded))
        seen = []
        async with asyncio.timeout(PATIENCE):
            while len(server.requests) < before + 3:  # while the answer is kept, and after it has run out
                await asyncio.sleep(0.01)
                found = keeper.known(leaf.link, now())
                seen.append(Status.UNAVAILABLE if found is None else found.status)
        keeper.stop()
        return seen

    with Server(hang) as server:
        leaf = AUTHORITY.leaf(urls=[server.url])
        recorded = AUTHORITY.response(leaf, since=NOW - HOUR / 2)
        server._behave = says(answer(AUTHORITY.response(leaf, ocsp.OCSPCertStatus.REVOKED, since=NOW)))
        statuses = asyncio.run(main())
    assert Status.REVOKED in statuses
    assert Status.GOOD not in statuses
