"""The HTTP client against servers that do their worst."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eclctl.errors import RemoteError
from eclctl.remote.http.client import (
    Exchange,
    Response,
    TransientError,
    Upload,
    escaped,
    exchange,
    parse_url,
    request_url,
)
from tests.helpers.servers import PATIENCE, Server, answer, free_port, says

LIMIT = 1000
SHORT = 0.5  # seconds that a request may take which is meant to run into its deadline


def fetch(url: str, method: str = "GET", *, timeout: float = PATIENCE, **more: object) -> Response:
    return asyncio.run(request_url(method, url, timeout=timeout, limit=LIMIT, **more))  # type: ignore[arg-type]


def why(url: str, method: str = "GET", *, timeout: float = PATIENCE, **more: object) -> str:
    with pytest.raises(RemoteError) as caught:
        fetch(url, method, timeout=timeout, **more)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _nothing_stays_open() -> Iterator[None]:
    """No server can have a descriptor left behind."""
    fetch_once()
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def fetch_once() -> None:
    """Let everything be imported and opened that stays."""
    with Server(says(answer())) as server:
        fetch(server.url)


# -- what comes back


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "500 Oh", "304 Not Modified", "302 Found"])
def test_an_answer_of_any_status_is_returned(status: str) -> None:
    with Server(says(answer(b"" if status.startswith("304") else b"body", status, X_Some="thing"))) as server:
        response = fetch(server.url)
    assert response.status == int(status[:3])
    assert response.headers["x-some"] == "thing"


def test_what_is_sent_is_what_was_given() -> None:
    with Server(says(answer(b"yes"))) as server:
        response = fetch(f"{server.url}/a%2Fb+c?d=e#f", "POST", body=b"body", headers={"Content-Type": "x/y"})
    assert (response.body, response.url) == (b"yes", f"{server.url}/a%2Fb+c?d=e")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /a%2Fb+c?d=e HTTP/1.1\r\n")
    assert b"Content-Type: x/y" in head
    assert body == b"body"


def test_a_body_in_chunks_is_put_together() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    with Server(says(chunked)) as server:
        assert fetch(server.url).body == b"abcde"


# -- deadlines


def hang(sock: socket.socket, _: bytes) -> None:
    sock.recv(1)


def drip(start: bytes, drop: bytes) -> Callable[[socket.socket, bytes], None]:
    def behave(sock: socket.socket, _: bytes) -> None:
        sock.sendall(start)
        while True:
            sock.sendall(drop)
            threading.Event().wait(0.01)

    return behave


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(hang, id="silence"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nX: ", b"a"), id="header"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b"a"), id="body"),
        pytest.param(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), id="interim answers"),
        pytest.param(
            drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"), id="the extension of a chunk"
        ),
    ],
)
def test_any_slow_part_ends_at_the_deadline(behave: Callable[[socket.socket, bytes], None]) -> None:
    with Server(behave) as server:
        said = why(server.url, timeout=SHORT)
    assert said == f"{server.url} did not answer in full within 0.5 s"


def test_a_server_that_does_not_read_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert "did not answer in full" in why(url, "POST", body=bytes(1 << 24), timeout=SHORT)


def test_connecting_ends_at_the_deadline() -> None:
    """A queue of connections that is full drops what asks to join it."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert "did not answer in full" in why(url, timeout=SHORT)


def test_a_name_service_that_hangs_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(PATIENCE) and [])
    try:
        assert "did not answer in full" in why("http://slow.example", timeout=SHORT)
    finally:
        answered.set()


def test_hanging_name_services_take_a_bounded_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(PATIENCE) and [])

    async def many() -> list[BaseException | Response]:
        asked = (request_url("GET", f"http://{n}.example", timeout=SHORT, limit=1) for n in range(100))
        return await asyncio.gather(*asked, return_exceptions=True)

    before = threading.active_count()
    try:
        assert all(isinstance(each, RemoteError) for each in asyncio.run(many()))
        assert threading.active_count() - before <= 32
    finally:
        answered.set()


def test_a_name_that_does_not_exist_is_said_to_be_so() -> None:
    assert why("http://nobody.invalid/") == "http://nobody.invalid/: the name does not resolve"


def test_a_port_without_a_server_is_said_to_be_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert why(url) == f"{url}: Connection refused"


# -- sizes


def flood(sock: socket.socket, _: bytes) -> None:
    """A gigabyte and more."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    while True:
        sock.sendall(block)


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n" + b"x" * 100), "sent more than 1000 bytes"),
        (flood, "sent more than 1000 bytes"),
        (says(answer(b"x" * (LIMIT + 1))), "sent more than 1000 bytes"),
        (says(answer(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")), "compressed"),
        (says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 9000 + b"\r\n\r\n"), "no proper HTTP"),
        (says(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: x\r\n" % n for n in range(100)) + b"\r\n"), "no proper HTTP"),
        (says(b"HTTP/1.1 200 " + b"x" * 9000 + b"\r\n\r\n"), "no proper HTTP"),
        (says(b"\x00\x01\x1b[31m garbage\r\n\r\n"), "no proper HTTP"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "no proper HTTP"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"), "before it was whole"),
        (says(b""), "without an answer"),
    ],
    ids=[
        "gigabyte announced", "gigabyte sent", "one too many", "bomb", "long header", "many headers", "long status",
        "garbage", "negative length", "short", "nothing",
    ],
)  # fmt: skip
def test_what_is_too_much_or_too_little_is_an_error(behave: Callable[[socket.socket, bytes], None], words: str) -> None:
    with Server(behave) as server:
        said = why(server.url)
    assert said.startswith(server.url)
    assert words in said
    assert said.isprintable()


def test_as_much_as_the_limit_is_taken() -> None:
    with Server(says(answer(b"x" * LIMIT))) as server:
        assert len(fetch(server.url).body) == LIMIT


# -- URLs


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "neither http nor https"),
        ("ftp://a.example/", "neither http nor https"),
        ("ldap://a.example/", "neither http nor https"),
        ("http:///x", "no URL that can be asked"),
        ("http://a.example:0/", "no URL that can be asked"),
        ("http://a.example:99999/", "no URL"),
        ("http://a b/", "no URL that can be asked"),
        ("http://a.example/\r\nX: y", "no URL that can be asked"),
        ("http://a.example/\x1b[31m", "no URL that can be asked"),
        ("http://a.example\\@b.example/", "no URL that can be asked"),
        ("http://ä.example/", "no URL that can be asked"),
        ("http://me:secret@a.example/", "holds credentials"),
        ("http://[::1/", "no URL"),
        ("http://[fe80::1%25eth0]/", "no URL that can be asked"),
        ("http://2130706433/", "no URL that can be asked"),
        ("http://127.1/", "no URL that can be asked"),
        ("http://a.example/" + "x" * 3000, "longer than 2048 characters"),
    ],
)
def test_only_plain_http_urls_are_asked(url: str, words: str) -> None:
    said = why(url)
    assert words in said
    assert "secret" not in said
    assert said.replace("…", "").isascii()
    assert said.isprintable()
    assert len(said) < 300


def test_a_url_is_shown_without_what_is_secret_or_unprintable() -> None:
    assert escaped("http://me:secret@a.example/\x1b\n€") == "http://a.example/\\x1b\\x0a\\u20ac"


# -- bodies in parts


def transfer(
    url: str,
    *,
    body: Upload | None = None,
    seconds: float = PATIENCE,
    stall: float = PATIENCE,
    take: Callable[[bytes], object] = lambda _: None,
) -> int:
    """Do one exchange, give each part of its answer to `take`, and return its status."""

    async def run() -> int:
        wanted = Exchange("GET" if body is None else "PATCH", parse_url(url), body, {}, None)
        async with exchange(wanted, seconds=seconds, stall=stall) as answer:
            while part := await answer.next_part():
                take(part)
            return answer.status

    return asyncio.run(run())


def test_a_large_body_comes_in_parts_that_fit_in_memory() -> None:
    parts: list[bytes] = []
    data = os.urandom(8 << 20)
    with Server(says(answer(data))) as server:
        assert transfer(server.url, take=parts.append) == 200
    assert b"".join(parts) == data
    assert max(map(len, parts)) <= 1 << 20


def test_a_body_that_stands_still_ends_the_exchange_and_what_came_before_is_there() -> None:
    def behave(sock: socket.socket, _: bytes) -> None:
        sock.sendall(answer(b"x" * 999)[:-99])
        sock.recv(1)

    parts: list[bytes] = []
    with Server(behave) as server, pytest.raises(TransientError, match=r"nothing came for 0\.5 s") as caught:
        transfer(server.url, stall=SHORT, take=parts.append)
    assert caught.value.slow
    assert b"".join(parts) == b"x" * 900


def test_a_body_that_drips_stands_not_still_and_ends_at_the_deadline() -> None:
    drips = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 150\r\n\r\n", b"a")
    with Server(drips) as server, pytest.raises(TransientError, match=r"did not answer in full within 0\.5 s"):
        transfer(server.url, seconds=SHORT, stall=PATIENCE)
    with Server(drips) as server:
        assert transfer(server.url, seconds=PATIENCE, stall=SHORT) == 200, (
            "more than a second in all, and never half of one still"
        )


def test_the_time_that_the_caller_takes_for_a_part_is_no_standstill() -> None:
    def slow(_: bytes) -> None:
        threading.Event().wait(2 * SHORT)

    with Server(says(answer(b"body"))) as server:
        assert transfer(server.url, stall=SHORT, take=slow) == 200


def test_a_body_is_sent_in_parts_under_its_length() -> None:
    data = os.urandom(3 << 20)
    parts = (data[start : start + 1000] for start in range(0, len(data), 1000))
    with Server(says(answer(status="202 Accepted"))) as server:
        assert transfer(server.url, body=Upload(len(data), parts)) == 202
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert f"Content-Length: {len(data)}".encode() in head
    assert b"hunked" not in head
    assert body == data


def test_a_server_that_stops_reading_what_is_sent_ends_the_exchange() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=5) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(TransientError, match=r"nothing came for 0\.5 s"):
            transfer(url, body=Upload(1 << 26, (bytes(1 << 18) for _ in range(256))), stall=SHORT)


def test_an_answer_that_comes_before_all_is_sent_is_the_answer() -> None:
    """A server that refuses a large body says so, and does not read it to its end."""
    read = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as sock:
                sock.recv(65536)
                sock.sendall(answer(b"no", "403 Forbidden"))
                read.wait(PATIENCE)

        serving = threading.Thread(target=serve)
        serving.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        said: list[bytes] = []
        assert transfer(url, body=Upload(1 << 26, (bytes(1 << 18) for _ in range(256))), take=said.append) == 403
        assert said == [b"no"]
        read.set()
        serving.join()


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), TimeoutError("of a file system"), RemoteError("mine")])
def test_an_error_of_what_is_sent_or_of_the_caller_stays_what_it_is(error: Exception) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x"
        raise error

    def full(_: bytes) -> None:
        raise error

    with Server(says(answer(b"body"))) as server:
        with pytest.raises(type(error)) as caught:
            transfer(server.url, body=Upload(9, broken()))
        assert caught.value is error
        with pytest.raises(type(error)) as caught:
            transfer(server.url, take=full)
        assert caught.value is error


def test_an_exchange_follows_no_redirect_and_need_not_read_its_body() -> None:
    async def run(url: str) -> tuple[int, str]:
        async with exchange(Exchange("GET", parse_url(url), None, {}, None), seconds=PATIENCE, stall=PATIENCE) as found:
            return found.status, found.headers["location"]

    with Server(drip(b"HTTP/1.1 302 Found\r\nLocation: /new\r\n\r\n", b"x" * 9999)) as server:
        assert asyncio.run(run(server.url)) == (302, "/new")
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (says(answer(b"x" * 99)[:-9]), "the answer ended before it was whole"),
        (says(b""), "without an answer"),
        (says(b"garbage\r\n\r\n"), "no proper HTTP"),
    ],
    ids=["short", "nothing", "garbage"],
)
def test_what_may_be_better_the_next_time_is_told_apart(
    behave: Callable[[socket.socket, bytes], None], words: str
) -> None:
    with Server(behave) as server, pytest.raises(TransientError, match=words):
        transfer(server.url)
    with pytest.raises(RemoteError, match="the name does not resolve") as caught:
        transfer("http://a..example/")
    assert not isinstance(caught.value, TransientError)


# -- redirects


def redirect(where: str, status: str = "302 Found") -> Callable[[socket.socket, bytes], None]:
    return says(answer(b"", status, Location=where))


def own_address() -> str:
    """An address of this host that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("needs an address that is not loopback")
        found = str(sock.getsockname()[0])
    if found.startswith("127."):
        pytest.skip("needs an address that is not loopback")
    return found


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("http://127.0.0.1:{port}/x", "loopback"),
        ("/x", "loopback"),
        ("http://localhost:{port}/", "loopback"),
        ("http://[::1]:{port}/", "loopback"),
        ("http://[::ffff:127.0.0.1]:{port}/", "loopback"),
        ("http://0.0.0.0:{port}/", "unspecified"),
        ("http://[::]:{port}/", "unspecified"),
        ("http://2130706433:{port}/", "no numeric address"),
        ("http://127.1:{port}/", "no numeric address"),
        ("http://0x7f.1:{port}/", "loopback"),
        ("http://169.254.169.254/latest/meta-data/", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://224.0.0.1/", "multicast"),
        ("file:///etc/passwd", "neither http nor https"),
        ("gopher://a.example/", "neither http nor https"),
        ("https://a.example/", "another scheme"),
        ("//me:secret@a.example/", "credentials"),
        ("http://a.example/\x01", "no URL"),
    ],
)
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_that_is_not_followed(where: str, words: str, status: str) -> None:
    def behave(sock: socket.socket, _: bytes) -> None:
        redirect(where.format(port=server.port), status)(sock, b"")

    with Server(behave) as server:
        said = why(server.url)
        assert len(server.requests) == 1
    assert words in said
    assert "secret" not in said
    assert said.isprintable()


def test_a_name_counts_as_what_it_resolves_to_at_the_moment_of_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is given out anew at each look-up gains nothing: there is only one, and its result is checked."""
    with Server(redirect("http://inside.example:{}/")) as server:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        server._behave = redirect(f"http://inside.example:{server.port}/")
        said = why(f"http://outside.example:{server.port}")
        assert len(server.requests) == 1
    assert said.startswith(f"http://inside.example:{server.port}/: that is not followed: 127.0.0.1 is a loopback")


def test_a_redirect_to_another_host_is_followed_without_credentials() -> None:
    secret = {"Authorization": "Bearer x", "Cookie": "y", "X-Other": "z"}
    with Server(says(answer(b"there")), address=own_address()) as there:
        with Server(redirect(there.url + "/new")) as here:
            response = fetch(here.url, headers=secret)
        assert (response.body, response.url) == (b"there", there.url + "/new")
        assert b"Authorization: Bearer x" in here.requests[0]
        assert b"X-Other: z" in there.requests[0]
        for name in (b"Authorization", b"Cookie", b"Bearer"):
            assert name not in there.requests[0]


def test_a_redirect_within_the_origin_keeps_credentials() -> None:
    def behave(sock: socket.socket, asked: bytes) -> None:
        sock.sendall(answer(b"there") if b" /new " in asked else answer(b"", "301 Moved", Location="new"))

    with Server(behave, address=own_address()) as server:
        assert fetch(server.url + "/old", headers={"Authorization": "Bearer x"}).body == b"there"
        assert b"Authorization: Bearer x" in server.requests[1]


@pytest.mark.parametrize(
    ("status", "line", "body"),
    [("302 Found", "GET /new HTTP/1.1", b""), ("307 Temporary", "POST /new HTTP/1.1", b"question")],
)
def test_post_becomes_get_unless_the_redirect_says_otherwise(status: str, line: str, body: bytes) -> None:
    def behave(sock: socket.socket, asked: bytes) -> None:
        sock.sendall(answer(b"there") if b" /new " in asked else answer(b"", status, Location="/new"))

    with Server(behave, address=own_address()) as server:
        assert fetch(server.url, "POST", body=b"question", headers={"Content-Type": "x/y"}).body == b"there"
        assert server.lines[1] == line
        assert server.requests[1].partition(b"\r\n\r\n")[2] == body
        assert (b"Content-Type: x/y" in server.requests[1]) == bool(body)


def test_redirects_come_to_an_end() -> None:
    with Server(redirect("/again"), address=own_address()) as server:
        assert "redirects once more after 3 redirects" in why(server.url)
        assert len(server.requests) == 4


def test_a_redirect_out_of_a_public_host_to_loopback_is_not_followed() -> None:
    with Server(says(answer())) as inside, Server(redirect(inside.url), address=own_address()) as outside:
        assert "loopback" in why(outside.url)
        assert inside.requests == []


# -- proxies


def test_a_proxy_is_asked_for_the_whole_url_and_alone_gets_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(says(answer(b"by proxy"))) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
        assert fetch("http://ocsp.example/x").body == b"by proxy"
    assert proxy.lines == ["GET http://ocsp.example/x HTTP/1.1"]
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in proxy.requests[0]


def test_https_goes_through_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(says(answer(b"", "403 Forbidden"))) as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{proxy.port}")
        said = why("https://ocsp.example/x")
    assert proxy.lines == ["CONNECT ocsp.example:443 HTTP/1.1"]
    assert b"Proxy-Authorization: Basic bWU6c2VjcmV0" in proxy.requests[0]
    assert "secret" not in said


def test_a_proxy_that_does_not_answer_is_named_without_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("http_proxy", f"http://me:secret@{proxy}")
    found = why("http://ocsp.example/x")
    assert found == f"http://ocsp.example/x: through the proxy http://{proxy}: Connection refused"


def test_a_proxy_that_cannot_be_used_is_not_gone_around(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server(says(answer()), address=own_address()) as server:
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
        assert "only such proxies are supported" in why(server.url)
        assert server.requests == []


def test_behind_a_proxy_only_redirects_within_the_origin_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    def behave(sock: socket.socket, asked: bytes) -> None:
        sock.sendall(answer(b"there") if b"/new " in asked else answer(b"", "302 Found", Location=where))

    with Server(behave) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        where = "http://ocsp.example/new"
        assert fetch("http://ocsp.example/old").body == b"there"
        where = "http://inside.example/new"
        assert "which address a proxy would connect to cannot be seen" in why("http://ocsp.example/old")
        where = "http://169.254.169.254/new"
        assert "a proxy would connect to cannot be seen" in why("http://ocsp.example/old")
        assert len(proxy.requests) == 4


# -- TLS


def test_a_server_that_the_system_does_not_trust_is_not_asked(tls: tuple[ssl.SSLContext, Path]) -> None:
    with Server(says(answer()), tls=tls[0]) as server:
        said = why(f"https://localhost:{server.port}")
        assert server.requests == []
    assert "the server's certificate is not trusted" in said


def test_a_server_that_the_system_trusts_is_asked(
    tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    with Server(says(answer(b"trusted")), tls=tls[0]) as server:
        assert fetch(f"https://localhost:{server.port}").body == b"trusted"


def test_a_certificate_for_another_name_is_not_accepted(
    tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    with Server(says(answer()), tls=tls[0]) as server:
        assert "not trusted" in why(f"https://127.0.0.1:{server.port}")
        assert server.requests == []


# -- what it costs those who fetch nothing


@pytest.mark.parametrize(
    "module",
    ["eclctl.cli.check", "eclctl.daemon.lifecycle.service", "eclctl.remote.ocsp.cache", "eclctl.remote.ocsp.client"],
)
def test_nothing_imports_aiohttp_before_something_is_fetched(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(name in sys.modules for name in ('aiohttp', 'yarl')))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=PATIENCE).returncode == 0
