"""Certificates and a real responder, `openssl ocsp`: each verdict, and how long it took."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from eclctl.remote.ocsp.client import Reply, ask
from eclctl.trust.revocation import Link, Status
from tests.helpers.openssl import Responder, needs_openssl, responder, write_index
from tests.helpers.pki import CODE_SIGNING, INTERMEDIATE, OCSP_SIGNING, Authority, Issued
from tests.helpers.servers import Server, answer, says
from tests.helpers.site import LENIENT, Site, eventually
from tests.helpers.support import CORPUS

pytestmark = needs_openssl
TIMEOUT = 1.0
KNOWN, REVOKED, NOT_KNOWN = 10, 11, 12
X509 = CORPUS / "keys" / "x509"
CORPUS_PORT = 18080


def ask_about(link: Link, what: str, timeout: float = TIMEOUT) -> Reply:
    """Ask, and print how long that took; it must be over when its time is."""
    begun = time.perf_counter()
    reply = asyncio.run(ask(link, now=lambda: datetime.now(UTC), timeout=timeout))
    took = time.perf_counter() - begun
    print(f"{what}: {reply.status} after {1000 * took:.1f} ms: {reply.reason}")
    assert took < timeout + 30  # of a machine that is busy
    assert all(asked.seconds < timeout + 30 for asked in reply.answers)
    return reply


class Ca:
    """A CA with its responder, which knows one certificate as good and one as revoked."""

    def __init__(self, folder: Path, usages: Sequence[x509.ObjectIdentifier] | None = None) -> None:
        self.authority = Authority()
        signer = None if usages is None else self.authority.leaf("responder", usages=usages)
        serials = {KNOWN: False, REVOKED: True}
        self.responder = responder(folder, "intermediate", self.authority.intermediate, serials, signer)

    def leaf(self, serial: int) -> Issued:
        return self.authority.leaf(urls=[self.responder.url], serial=serial)


@pytest.fixture
def ca(tmp_path: Path) -> Iterator[Ca]:
    made = Ca(tmp_path)
    with made.responder:
        yield made


@pytest.mark.parametrize(
    ("serial", "status"), [(KNOWN, Status.GOOD), (REVOKED, Status.REVOKED), (NOT_KNOWN, Status.UNKNOWN)]
)
def test_what_the_ca_knows_is_what_is_heard(ca: Ca, serial: int, status: Status) -> None:
    assert ask_about(ca.leaf(serial).link, status).status is status


def test_get_is_understood_too(ca: Ca) -> None:
    """By a proxy in front of the responder that takes no POST."""

    def behave(sock: socket.socket, asked: bytes) -> None:
        if asked.startswith(b"POST"):
            sock.sendall(answer(b"", "405 Method Not Allowed"))
            return
        with socket.create_connection(("127.0.0.1", ca.responder.port)) as upstream:
            upstream.sendall(asked)
            while part := upstream.recv(65536):
                sock.sendall(part)

    with Server(behave) as front:
        leaf = ca.authority.leaf(urls=[front.url], serial=KNOWN)
        assert ask_about(leaf.link, "GET").status is Status.GOOD
        assert [line.split(" ")[0] for line in front.lines] == ["POST", "GET"]


def test_a_responder_that_was_killed_says_nothing(ca: Ca) -> None:
    leaf = ca.leaf(KNOWN)
    ca.responder.kill()
    reply = ask_about(leaf.link, "killed")
    assert reply.status is Status.UNAVAILABLE
    assert "Connection refused" in reply.reason


def test_a_responder_that_hangs_takes_its_time_and_no_more(ca: Ca) -> None:
    ca.responder.hang()
    reply = ask_about(ca.leaf(KNOWN).link, "hanging")
    assert reply.status is Status.UNAVAILABLE
    assert "did not answer in full within" in reply.reason


def test_another_that_answers_makes_up_for_one_that_hangs(ca: Ca, tmp_path: Path) -> None:
    with responder(tmp_path, "second", ca.authority.intermediate, {KNOWN: False}) as second:
        leaf = ca.authority.leaf(urls=[ca.responder.url, second.url], serial=KNOWN)
        ca.responder.hang()
        assert ask_about(leaf.link, "one of two hanging").status is Status.GOOD


def test_one_that_knows_of_a_revocation_is_enough(ca: Ca, tmp_path: Path) -> None:
    with responder(tmp_path, "second", ca.authority.intermediate, {KNOWN: True}) as second:
        leaf = ca.authority.leaf(urls=[ca.responder.url, second.url], serial=KNOWN)
        assert ask_about(leaf.link, "one of two says revoked").status is Status.REVOKED


@pytest.mark.parametrize(
    ("usages", "status"), [(OCSP_SIGNING, Status.GOOD), (CODE_SIGNING, Status.INVALID), ((), Status.INVALID)]
)
def test_a_delegate_must_have_been_issued_for_it(
    tmp_path: Path, usages: Sequence[x509.ObjectIdentifier], status: Status
) -> None:
    made = Ca(tmp_path, usages)
    with made.responder:
        what = f"delegate with {[usage._name for usage in usages]}"
        assert ask_about(made.leaf(KNOWN).link, what).status is status


def test_another_ca_s_responder_is_not_trusted(ca: Ca, tmp_path: Path) -> None:
    foreign = Authority()
    with responder(tmp_path, "foreign", foreign.intermediate, {KNOWN: False}) as other:
        leaf = ca.authority.leaf(urls=[other.url], serial=KNOWN)
        assert ask_about(leaf.link, "foreign responder").status is Status.INVALID


# -- what is no responder at all


def flood(sock: socket.socket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nConnection: close\r\n\r\n")
    block = bytes(1 << 20)
    for _ in range(1024):
        sock.sendall(block)


def drip(sock: socket.socket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    while True:
        sock.sendall(b"\x30")
        threading.Event().wait(0.05)


@pytest.mark.parametrize(
    ("what", "behave", "status", "words"),
    [
        ("garbage", says(answer(b"garbage")), Status.INVALID, ""),
        ("nothing", says(answer(b"")), Status.INVALID, ""),
        ("HTML", says(answer(b"<html>" * 1000, "403 Forbidden")), Status.UNAVAILABLE, "status 403"),
        ("a gigabyte", flood, Status.UNAVAILABLE, "more than 65536 bytes"),
        (
            "a gigabyte announced",
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"),
            Status.UNAVAILABLE,
            "more than 65536 bytes",
        ),
        ("a byte at a time", drip, Status.UNAVAILABLE, "did not answer in full within"),
    ],
)
def test_what_is_no_answer_is_never_good(
    what: str, behave: Callable[[socket.socket, bytes], None], status: Status, words: str
) -> None:
    with Server(behave) as server:
        reply = ask_about(Authority().leaf(urls=[server.url]).link, what)
    assert reply.status is status
    assert words in reply.reason


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("http://127.0.0.1:{port}/", "loopback"),
        ("http://localhost:{port}/", "loopback"),
        ("http://[::ffff:127.0.0.1]:{port}/", "loopback"),
        ("http://169.254.169.254/latest/meta-data/", "link-local"),
        ("file:///etc/passwd", "neither http nor https"),
        ("https://ocsp.example/", "another scheme"),
    ],
)
def test_a_redirect_inside_is_not_followed_though_a_good_answer_waits_there(ca: Ca, where: str, words: str) -> None:
    with Server(says(answer(b"", "307 Temporary", Location=where.format(port=ca.responder.port)))) as server:
        leaf = ca.authority.leaf(urls=[server.url], serial=KNOWN)
        reply = ask_about(leaf.link, f"redirect to {where}")
        assert [line.split(" ")[0] for line in server.lines] == ["POST", "GET"]
    assert reply.status is Status.UNAVAILABLE
    assert words in reply.reason


# -- the corpus's own chain, whose certificates name one port


@contextlib.contextmanager
def corpus_port() -> Iterator[None]:
    """The port for this test alone, where no other process has it."""
    with open(Path(tempfile.gettempdir()) / "eclctl-test-ocsp.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            socket.create_server(("127.0.0.1", CORPUS_PORT)).close()
        except OSError:
            pytest.skip(f"needs port {CORPUS_PORT}")
        yield


def corpus_link(name: str, issuer: str = "intermediate") -> Link:
    first, second = (x509.load_pem_x509_certificate((X509 / f"{each}.pem").read_bytes()) for each in (name, issuer))
    return Link(first, second)


@pytest.mark.parametrize("signer", ["intermediate", "ocsp-responder"])
def test_the_corpus_s_own_certificates(tmp_path: Path, signer: str) -> None:
    index = tmp_path / "index.txt"
    index.write_text((X509 / "index.txt").read_text())
    keys = X509 / f"{signer}.pem", X509 / f"{signer}-key.pem"
    with corpus_port(), Responder(tmp_path, X509 / "intermediate.pem", keys, index, CORPUS_PORT):
        assert ask_about(corpus_link("leaf"), "corpus leaf").status is Status.GOOD
        assert ask_about(corpus_link("leaf-revoked"), "corpus leaf-revoked").status is Status.REVOKED
        assert ask_about(corpus_link("leaf-noocsp"), "corpus leaf-noocsp").status is Status.UNAVAILABLE
        # it speaks for the intermediate CA, and not for who issued that
        assert ask_about(corpus_link("intermediate", "root"), "corpus intermediate").status is Status.INVALID


# -- a running daemon

POLICY = """version: 1
signers:
  release:
    certificate: {{file: ../certs/leaf.pem, intermediates: ../certs/intermediate.pem, roots: ../certs/root.pem}}
  builder: {{pgp: [{builder}]}}
rules:
  - name: released
    match: {{paths: ["{root}/images/released.sif"]}}
    require: [{{any_of: [release]}}]
  - name: built
    match: {{paths: ["{root}/images/**"]}}
    require: [{{any_of: [builder]}}]
default: deny
"""


class Released:
    """A site that trusts a certificate, whose CAs have a responder each."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.root / "certs"
        self.folder.mkdir()
        self.folder.chmod(0o755)
        root = Authority().root
        self.upper = responder(self.folder, "upper", root, {INTERMEDIATE: False})
        self.authority = Authority([self.upper.url], root)
        self.lower = responder(self.folder, "lower", self.authority.intermediate, {KNOWN: False})
        key = (CORPUS / "keys" / "pem" / "p256-private.pem").read_bytes()
        leaf = self.authority.leaf(urls=[self.lower.url], serial=KNOWN, key=key)
        for name, issued in (("leaf", leaf), ("intermediate", self.authority.intermediate), ("root", root)):
            issued.write(self.folder, name)
        site.add("released.sif", CORPUS / "images" / "one-dsse-p256.sif")
        site.policy(POLICY)

    def revoke(self) -> None:
        write_index(self.folder / "lower" / "index.txt", {KNOWN: True})

    def check(self) -> dict:
        return self.site.check("released.sif")

    def status(self, status: Status) -> bool:
        """Whether the next answer is what this status makes it, and says so."""
        answered = self.check()
        if status is Status.GOOD:
            return answered["code"] == "requirements-met"
        return answered["code"] == "requirements-not-met" and status in answered["reason"]


@pytest.fixture
def released(quiet_site: Site) -> Iterator[Released]:
    made = Released(quiet_site)
    with made.upper, made.lower:
        yield made


def test_a_daemon_asks_about_every_certificate_but_the_root_and_then_from_memory(released: Released) -> None:
    released.site.configure(more="ocsp: {max_age: 1h, timeout: 10s}\n")
    released.site.start()
    begun = time.perf_counter()
    first = released.check()
    print(f"first answer of a daemon that has just started: {1000 * (time.perf_counter() - begun):.1f} ms")
    assert (first["code"], first["signers"]) == ("requirements-met", ["release"])
    released.upper.kill()
    released.lower.kill()
    begun = time.perf_counter()
    assert released.check()["code"] == "requirements-met"
    print(f"the next one, without a responder: {1000 * (time.perf_counter() - begun):.1f} ms")


def test_a_revocation_found_by_a_refresh_changes_the_very_next_answer(released: Released) -> None:
    released.site.configure(more="ocsp: {max_age: 4s, timeout: 2s}\n")
    released.site.start()
    assert released.check()["code"] == "requirements-met"
    released.revoke()
    begun = time.perf_counter()
    eventually(lambda: not released.status(Status.GOOD))
    print(f"denied {time.perf_counter() - begun:.2f} s after the revocation, with answers kept for 4 s")
    assert released.status(Status.REVOKED)
    assert released.site.stop() == 0
    told = [line for line in released.site.log.splitlines() if "OCSP" in line and "CN=leaf" in line]
    assert ["is good" in line or "is revoked" in line for line in told] == [True, True]


def test_when_responders_die_answers_last_until_they_run_out_and_come_back_with_them(released: Released) -> None:
    released.site.configure(more="ocsp: {max_age: 3s, timeout: 1s}\n")
    released.site.start()
    assert released.check()["code"] == "requirements-met"
    released.lower.hang()
    eventually(lambda: released.status(Status.UNAVAILABLE))
    assert released.site.check("one-builder.sif")["code"] == "requirements-met"
    released.lower.go_on()
    eventually(lambda: released.status(Status.GOOD))


def test_a_hanging_responder_delays_only_those_who_need_it(released: Released) -> None:
    released.lower.hang()
    released.site.configure(more="ocsp: {max_age: 1h, timeout: 2s}\n")
    released.site.start()
    denied: list[dict] = []
    waiting = [threading.Thread(target=lambda: denied.append(released.check())) for _ in range(10)]
    begun = time.perf_counter()
    for thread in waiting:
        thread.start()
    assert released.site.check("one-builder.sif")["code"] == "requirements-met"
    print(f"another image meanwhile: {1000 * (time.perf_counter() - begun):.1f} ms")
    for thread in waiting:
        thread.join()
    print(f"those that needed the responder: {1000 * (time.perf_counter() - begun):.1f} ms")
    assert [each["code"] for each in denied] == ["requirements-not-met"] * 10
    assert all("unavailable" in each["reason"] for each in denied)


def test_a_daemon_that_is_asking_stops_at_once(released: Released) -> None:
    released.lower.hang()
    released.site.configure(more="ocsp: {timeout: 30s}\n")
    released.site.start()
    eventually(lambda: asks(released.lower.port))
    assert released.site.stop() == 0
    assert "Traceback" not in released.site.log
    assert "exception" not in released.site.log.lower()


def asks(port: int) -> bool:
    """Whether a process is connected to a port on this host."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


def test_a_certificate_that_a_reload_brings_is_asked_about_before_anybody_needs_it(released: Released) -> None:
    site = released.site
    site.policy(LENIENT)
    site.configure(more="ocsp: {max_age: 1h, timeout: 30s}\n")
    site.start()
    assert released.check()["code"] == "requirements-not-met"
    released.lower.hang()
    assert not asks(released.lower.port)
    site.policy(POLICY)
    assert site.order("reload")["ok"] is True
    eventually(lambda: asks(released.lower.port))
    released.lower.go_on()
    assert released.check()["code"] == "requirements-met"
