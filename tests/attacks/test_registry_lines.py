"""Attacks, the lines on registries: what one that lies can have us believe, send, wait for, or show."""

from __future__ import annotations

import base64
import gzip
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eclctl.cli.registry import pull, push
from eclctl.errors import RemoteError
from eclctl.remote.http import limits
from eclctl.remote.registry.client import Access, Registry
from eclctl.remote.registry.credentials import ANONYMOUS, RegistryCredentials
from eclctl.remote.registry.images import find_image
from eclctl.remote.registry.names import parse_reference
from eclctl.remote.registry.transfer import BlobSource, fill, push_blob
from eclctl.sign.new_oci_sif import PlacedBlob
from tests.helpers.registries import INDEX_TYPE, MANIFEST_TYPE, OCI, Ask, FakeRegistry, Rule, answer, digest_of, on
from tests.helpers.servers import Server, says
from tests.helpers.site import Site
from tests.helpers.support import CORPUS

USER = RegistryCredentials("joe", "secret", source="a file")
SECRETS = (b"secret", base64.b64encode(b"joe:secret"), b"t0ken", b"Authorization", b"authorization")
DATA = b"squashfs" * 1000
IMAGE = OCI / "app-ci.oci.sif"


@pytest.fixture(autouse=True)
def _nothing_of_this_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def registry(
    server: FakeRegistry,
    credentials: RegistryCredentials = ANONYMOUS,
    *,
    roots: Path | None = None,
    seconds: float = 20.0,
) -> Registry:
    """A client with a login, that waits for nothing between tries."""
    way = Access(
        {}, credentials, plain=roots is None, roots=roots and str(roots), seconds=seconds, sleep=lambda _: None
    )
    return Registry(parse_reference(f"docker://localhost:{server.port}/prod/app:1"), way, push=True)


def fetch(asking: Registry, path: Path, data: bytes = DATA) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fill(asking, fd, [PlacedBlob(digest_of(data), len(data), 0, None)], b"", lambda _: None)
    finally:
        os.close(fd)


def logged_in(rule: Rule) -> Rule:
    """Ask for name and password before anything else."""

    def behave(ask: Ask) -> bytes | None:
        if "authorization" not in ask.headers:
            return answer(status="401 Unauthorized", WWW_Authenticate='Basic realm="x"')
        return rule(ask)

    return behave


def redirect(to: str, status: str = "307 Temporary Redirect") -> bytes:
    return answer(status=status, Location=to)


def told(server: Server) -> bytes:
    return b"".join(server.requests)


# -- redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_registry_redirects_a_blob_elsewhere_without_anything_of_ours(tmp_path: Path, status: str) -> None:
    """A blob may come from elsewhere, where no login is sent; its digest says whether it is the blob."""
    with Server(says(answer(DATA))) as elsewhere:
        rule = logged_in(on("GET", "/blobs/", redirect(f"{elsewhere.url}/data?signed=yes", status)))
        with FakeRegistry(rule) as server:
            fetch(registry(server, USER), tmp_path / "f")
        assert elsewhere.lines == ["GET /data?signed=yes HTTP/1.1"]
        assert not [secret for secret in SECRETS if secret in told(elsewhere)]
    assert (tmp_path / "f").read_bytes() == DATA


def test_registry_redirects_to_a_server_that_asks_for_a_login(tmp_path: Path) -> None:
    challenge = answer(status="401 Unauthorized", WWW_Authenticate='Basic realm="x"')
    with (
        Server(says(challenge)) as elsewhere,
        FakeRegistry(logged_in(on("GET", "/blobs/", redirect(elsewhere.url)))) as server,
    ):
        with pytest.raises(RemoteError):
            fetch(registry(server, USER), tmp_path / "f")
        assert not [secret for secret in SECRETS if secret in told(elsewhere)]
        assert len(elsewhere.requests) == 1


def test_registry_redirects_to_another_blob(tmp_path: Path) -> None:
    with Server(says(answer(DATA[::-1]))) as elsewhere:
        with (
            FakeRegistry(on("GET", "/blobs/", redirect(elsewhere.url))) as server,
            pytest.raises(RemoteError, match="the registry sent something else; nothing of it is kept"),
        ):
            fetch(registry(server), tmp_path / "f")
        assert (tmp_path / "f").read_bytes() == b""


def test_registry_redirects_a_manifest(tmp_path: Path) -> None:
    with Server(says(answer(b"{}"))) as elsewhere, FakeRegistry(lambda _: redirect(elsewhere.url)) as server:
        with pytest.raises(RemoteError, match="redirects; that is followed for the content of blobs alone"):
            registry(server, USER).manifest("1")
        assert elsewhere.requests == []


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_registry_redirects_what_is_pushed(method: str) -> None:
    with Server(says(answer(status="201 Created"))) as elsewhere:
        with FakeRegistry(on(method, "/uploads/", redirect(elsewhere.url))) as server, pytest.raises(RemoteError):
            push_blob(registry(server, USER), BlobSource(digest_of(DATA), len(DATA), data=DATA), lambda _: None)
        assert elsewhere.requests == []


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_registry_redirects_an_upload_by_its_location(method: str) -> None:
    """The place to upload to is named by `Location`, with a status that is no redirect."""
    with Server(says(answer(status="202 Accepted"))) as elsewhere:
        reply = answer(status="202 Accepted", Location=f"{elsewhere.url}/v2/prod/app/blobs/uploads/1")
        with (
            FakeRegistry(logged_in(on(method, "/uploads/", reply))) as server,
            pytest.raises(RemoteError, match="nothing is sent to others than the registry"),
        ):
            push_blob(registry(server, USER), BlobSource(digest_of(DATA), len(DATA), data=DATA), lambda _: None)
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    "to",
    [
        "",
        "file:///etc/passwd",
        "ftp://x/",
        "http://u:p@localhost/",
        "//",
        "http://[",
        "http://x:99999999/",
        "x" * 20_000,
        f"http://{'a' * 64}.example/",
        "http://a..example/",
    ],
)
def test_registry_redirects_to_what_is_no_url(tmp_path: Path, to: str) -> None:
    with FakeRegistry(on("GET", "/blobs/", redirect(to))) as server, pytest.raises(RemoteError):
        fetch(registry(server), tmp_path / "f")


def test_registry_redirects_with_a_body_without_end(tmp_path: Path) -> None:
    """The body of a redirect is not needed, and is not read."""
    with Server(says(answer(DATA))) as elsewhere:
        head = f"HTTP/1.1 307 x\r\nLocation: {elsewhere.url}/\r\n\r\n".encode()
        with Server(forever(head, b"x" * 65536)) as server:
            fetch(asked_at(server, 20.0), tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == DATA


def test_registry_redirects_in_a_circle(tmp_path: Path) -> None:
    with FakeRegistry() as server:
        server.rules.append(lambda _: redirect(f"{server.url}/again"))
        with pytest.raises(RemoteError, match="once more after 3 redirects"):
            fetch(registry(server), tmp_path / "f")
        assert len(server.asked) == limits.MAX_REDIRECTS + 1


def test_registry_redirects_from_https_to_http(tmp_path: Path, tls: tuple[ssl.SSLContext, Path]) -> None:
    with Server(says(answer(DATA))) as elsewhere:
        with (
            FakeRegistry(on("GET", "/blobs/", redirect(elsewhere.url)), tls=tls[0]) as server,
            pytest.raises(RemoteError, match="it has no TLS"),
        ):
            fetch(registry(server, roots=tls[1]), tmp_path / "f")
        assert elsewhere.requests == []


@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "[fe80::1]", "[::ffff:169.254.169.254]"])
def test_registry_redirects_to_an_address_near_us(tmp_path: Path, address: str) -> None:
    """Not even a registry on this host leads to where a cloud keeps a machine's secrets."""
    with (
        FakeRegistry(on("GET", "/blobs/", redirect(f"http://{address}:1/latest"))) as server,
        pytest.raises(RemoteError),
    ):
        fetch(registry(server, seconds=2.0), tmp_path / "f")


@pytest.mark.parametrize("addresses", [{"192.0.2.1"}, {"192.0.2.1", "127.0.0.1"}], ids=["one", "two"])
def test_registry_redirects_from_afar_to_this_host(tmp_path: Path, addresses: set[str]) -> None:
    """What a registry on another host may not do, nor one whose name has also an address of this host."""
    with Server(says(answer(DATA))) as here, FakeRegistry(on("GET", "/blobs/", redirect(here.url))) as server:
        asking = registry(server)
        asking._remember = lambda _: asking._addresses.update(addresses)  # type: ignore[method-assign]
        with pytest.raises(RemoteError, match=r"127\.0\.0\.1 is a loopback address"):
            fetch(asking, tmp_path / "f")
        assert here.requests == []


# -- logging in


def challenge(realm: str, more: str = "") -> Rule:
    kind = f'Bearer realm="{realm}",service="registry.test"{more}'
    return lambda ask: None if "/token" in ask.path else answer(status="401 Unauthorized", WWW_Authenticate=kind)


@pytest.mark.parametrize(
    "credentials", [USER, RegistryCredentials(identity="secret-refresh")], ids=["password", "refresh"]
)
def test_registry_login_elsewhere_learnt_without_tls(credentials: RegistryCredentials) -> None:
    with Server(says(answer(b'{"token":"t"}'))) as elsewhere, FakeRegistry(challenge(elsewhere.url)) as server:
        with pytest.raises(RemoteError, match="may be an attacker's answer, so no credentials are sent there"):
            registry(server, credentials).manifest("1")
        assert elsewhere.requests == []


def test_registry_login_learnt_by_tls_and_without_tls_itself(tls: tuple[ssl.SSLContext, Path]) -> None:
    with Server(says(answer(b'{"token":"t"}'))) as elsewhere:
        with (
            FakeRegistry(challenge(elsewhere.url), tls=tls[0]) as server,
            pytest.raises(RemoteError, match=r"to log in at http://127\.0\.0\.1:[0-9]+, which has no TLS"),
        ):
            registry(server, USER, roots=tls[1]).manifest("1")
        assert elsewhere.requests == []


def test_registry_login_that_redirects(tls: tuple[ssl.SSLContext, Path]) -> None:
    with (
        Server(says(answer(b'{"token":"t"}'))) as elsewhere,
        Server(says(redirect(elsewhere.url)), tls=tls[0]) as tokens,
        FakeRegistry(challenge(f"https://localhost:{tokens.port}"), tls=tls[0]) as server,
    ):
        with pytest.raises(RemoteError, match="answered with status 307"):
            registry(server, USER, roots=tls[1]).manifest("1")
        assert elsewhere.requests == []


def test_registry_login_for_another_users_repository(tls: tuple[ssl.SSLContext, Path]) -> None:
    """A registry that could choose the scope would have us fetch a token for another one, and hand it over."""
    scope = ',scope="repository:victim/crown:pull,push,delete"'
    with (
        Server(says(answer(b'{"token":"t0ken"}')), tls=tls[0]) as tokens,
        FakeRegistry(challenge(f"https://localhost:{tokens.port}/t", scope), tls=tls[0]) as server,
    ):
        with pytest.raises(RemoteError):
            registry(server, USER, roots=tls[1]).manifest("1")
        assert b"victim" not in told(tokens)
        assert b"scope=repository%3Aprod%2Fapp%3Apull%2Cpush" in told(tokens)


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "x",
        "file:///etc/passwd",
        "http://u:p@localhost/",
        "http://",
        "http://[",
        "http://a b/",
        "http://" + "x" * 5000,
    ],
)
def test_registry_login_at_what_is_no_url(realm: str) -> None:
    with FakeRegistry(challenge(realm)) as server, pytest.raises(RemoteError):
        registry(server).manifest("1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token":7}',
        b'{"token":"a b"}',
        b'{"token":"a\\r\\nX: y"}',
        b"[" * 100_000,
        b'{"token":"' + b"x" * (limits.MAX_TOKEN + 1) + b'"}',
        b'{"token":"' + b"x" * limits.MAX_TOKEN_ANSWER + b'"}',
    ],
    ids=range(9),
)
def test_registry_login_that_gives_no_token(body: bytes) -> None:
    with FakeRegistry() as server:
        server.rules.append(challenge(f"{server.url}/token"))
        server.rules.append(on("GET", "/token", answer(body)))
        with pytest.raises(RemoteError):
            registry(server).manifest("1")


def test_registry_login_without_end() -> None:
    """A registry that refuses every token is asked once more, and not again."""
    with FakeRegistry() as server:
        server.rules.append(challenge(f"{server.url}/token"))
        server.rules.append(on("GET", "/token", answer(b'{"token":"t"}')))
        with pytest.raises(RemoteError, match="refuses"):
            registry(server).manifest("1")
        assert len(server.asked) == 3


# -- digests


def test_registry_digests_a_manifest_that_is_another_than_the_digest_asked_for() -> None:
    with FakeRegistry() as server:
        server.store.add_image(IMAGE)
        other = server.store.add_image(OCI / "layers-ci.oci.sif", "2")
        wanted = digest_of(b"wanted")
        server.store.manifests[wanted] = server.store.manifests[other]
        with pytest.raises(RemoteError, match=f"something else, whose digest is {other}"):
            registry(server).manifest(wanted)


def test_registry_digests_a_header_that_lies() -> None:
    with FakeRegistry() as server:
        server.store.add_image(IMAGE)
        _, raw = server.store.manifests["1"]
        lie = answer(raw, Content_Type=MANIFEST_TYPE, Docker_Content_Digest="sha256:" + "0" * 64)
        server.rules.append(on("GET", "/manifests/", lie))
        with pytest.raises(RemoteError, match="the registry says sha256:0000"):
            registry(server).manifest("1")


@pytest.mark.parametrize("name", ["Content-Type", "Docker-Content-Digest"])
def test_registry_digests_and_types_of_which_there_are_two(name: str) -> None:
    """Two readers would believe two of them; one that is said twice is no harm."""
    with FakeRegistry() as server:
        digest = server.store.add_image(IMAGE)
        _, raw = server.store.manifests["1"]
        true = {"Content-Type": MANIFEST_TYPE, "Docker-Content-Digest": digest}[name]
        for more in (true, "other"):
            reply = answer(raw, Content_Type=MANIFEST_TYPE, Docker_Content_Digest=digest)
            server.rules[:] = [on("GET", "/manifests/", reply.replace(b"\r\n", f"\r\n{name}: {more}\r\n".encode(), 1))]
            if more == true:
                assert registry(server).manifest("1").digest == digest
        with pytest.raises(RemoteError, match=f"several headers {name.lower()}, which differ"):
            registry(server).manifest("1")


def test_registry_digests_after_a_push_that_are_others() -> None:
    lie = answer(status="201 Created", Docker_Content_Digest="sha256:" + "0" * 64)
    with FakeRegistry(on("PUT", "/", lie)) as server:
        with pytest.raises(RemoteError, match="the registry says"):
            registry(server).put_manifest(b"{}", MANIFEST_TYPE, "1")
        with pytest.raises(RemoteError, match="the registry says"):
            push_blob(registry(server), BlobSource(digest_of(DATA), len(DATA), data=DATA), lambda _: None)


def test_registry_digests_a_tag_that_means_another_image_the_second_time(tmp_path: Path) -> None:
    """What a tag means is asked once: everything else of the image is asked for by digest."""
    with FakeRegistry() as server:
        first = server.store.add_image(IMAGE)
        status = pull.run(
            ["--no-https", "--with-cosign", str(tmp_path / "a.sif"), f"docker://{server.host}/prod/app:1"]
        )
        assert status == 0
        names = [ask.path.rpartition("/")[2] for ask in server.asked if "/manifests/" in ask.path]
        assert names == ["1", f"{first.replace(':', '-')}.sig"]


@pytest.mark.parametrize("change", ["size", "type", "nested"])
def test_registry_digests_an_index_that_says_something_else(change: str) -> None:
    with FakeRegistry() as server:
        digest = server.store.add_image(IMAGE)
        raw = server.store.blobs[digest]
        entry = {"mediaType": MANIFEST_TYPE, "size": len(raw), "digest": digest, "platform": {"architecture": "amd64"}}
        if change == "size":
            entry["size"] = len(raw) + 1
        elif change == "type":
            entry["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json"
        else:
            inner = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}).encode()
            inside = server.store.add_manifest(inner, "inner", INDEX_TYPE)
            entry |= {"mediaType": INDEX_TYPE, "size": len(inner), "digest": inside}
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]}).encode()
        server.store.add_manifest(index, "1", INDEX_TYPE)
        with pytest.raises(RemoteError):
            find_image(registry(server), "1", "amd64")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"schemaVersion":2,"mediaType":"%s","layers":[],"Layers":[],"config":{}}' % MANIFEST_TYPE.encode(),
        b'{"schemaVersion":2,"mediaType":"%s","layers":[],"layers":[],"config":{}}' % MANIFEST_TYPE.encode(),
        b'{"schemaVersion":2,"mediaType":"%s","layers":[],"manifests":[],"config":{}}' % MANIFEST_TYPE.encode(),
        b'{"schemaVersion":2,"mediaType":"%s","manifests":[]}' % INDEX_TYPE.encode(),
        b'{"schemaVersion":2}' + b" " * limits.MAX_MANIFEST,
        b"[" * 100_000,
        b"",
        b"<html>",
        b'{"schemaVersion":2,"mediaType":[],"layers":[],"config":{}}',
        b'{"schemaVersion":2,"mediaType":{},"layers":[],"config":{}}',
    ],
    ids=range(10),
)
def test_registry_digests_a_manifest_that_two_would_read_in_two_ways(raw: bytes) -> None:
    with FakeRegistry() as server:
        server.store.add_manifest(raw, "1")
        with pytest.raises(RemoteError):
            find_image(registry(server), "1", "amd64")


# -- without end


def forever(start: bytes, part: bytes, pause: float = 0.0) -> Callable[[socket.socket, bytes], None]:
    def behave(sock: socket.socket, _: bytes) -> None:
        sock.sendall(start)
        while True:
            sock.sendall(part)
            time.sleep(pause)

    return behave


def asked_at(server: Server, seconds: float = 0.5) -> Registry:
    way = Access({}, plain=True, seconds=seconds, sleep=lambda _: None)
    return Registry(parse_reference(f"docker://127.0.0.1:{server.port}/prod/app:1"), way)


ENDLESS = {
    "silence": (b"", b""),
    "status": (b"HTTP/1.1 200 ", b"x"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
    "one header": (b"HTTP/1.1 200 OK\r\nA: ", b"b"),
    "body": (b"HTTP/1.1 200 OK\r\n\r\n", b"{"),
}


@pytest.mark.parametrize("kind", sorted(ENDLESS))
def test_registry_endless_drips_end_at_the_deadline(kind: str) -> None:
    """A byte now and then keeps every time-out of a socket from running out, and not ours."""
    start, part = ENDLESS[kind]
    with Server(forever(start, part, 0.05)) as server:
        with pytest.raises(RemoteError, match=r"did not answer in full within 0\.5 s|nothing came for too long"):
            asked_at(server).manifest("1")
        assert len(server.requests) <= 2, "what hangs is not waited for over and over"


def test_registry_endless_headers_are_bounded() -> None:
    with Server(forever(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 1000)) as server, pytest.raises(RemoteError):
        asked_at(server, 20.0).manifest("1")


def test_registry_endless_bodies_are_bounded(tmp_path: Path) -> None:
    with Server(forever(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536)) as server:
        with pytest.raises(RemoteError, match=f"more than {limits.MAX_MANIFEST} bytes"):
            asked_at(server, 20.0).manifest("1")
        with pytest.raises(RemoteError, match=f"more than the {len(DATA)} bytes"):
            fetch(asked_at(server, 20.0), tmp_path / "f")
    assert (tmp_path / "f").stat().st_size <= len(DATA)


def test_registry_endless_chunks_of_less_than_nothing(tmp_path: Path) -> None:
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nx"
    with FakeRegistry(on("GET", "/blobs/", reply)) as server, pytest.raises(RemoteError, match="no proper HTTP"):
        fetch(registry(server), tmp_path / "f")


def test_registry_endless_errors_are_bounded() -> None:
    with (
        Server(forever(b"HTTP/1.1 400 Bad\r\n\r\n", b"x" * 65536)) as server,
        pytest.raises(RemoteError, match=r"sent more than"),
    ):
        asked_at(server, 20.0).manifest("1")


def test_registry_endless_when_unpacked(tmp_path: Path) -> None:
    """Nothing is unpacked that was not asked for packed: neither a manifest nor a blob."""
    bomb = gzip.compress(bytes(100 << 20))
    reply = answer(bomb, Content_Encoding="gzip", Content_Type=MANIFEST_TYPE)
    with FakeRegistry(lambda _: reply) as server:
        with pytest.raises(RemoteError, match="compressed answer, which was not asked for"):
            registry(server).manifest("1")
        with pytest.raises(RemoteError, match="compressed answer, which was not asked for"):
            fetch(registry(server), tmp_path / "f")
        assert set(server.sent("accept-encoding")) == {"identity"}


def test_registry_endless_sizes_in_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest may claim any size; no byte of it is waited for where there is no room."""
    with FakeRegistry() as server:
        digest = server.store.add_image(IMAGE)
        manifest = json.loads(server.store.blobs[digest])
        manifest["layers"][0]["size"] = 1 << 55
        server.store.add_manifest(json.dumps(manifest).encode(), "1")
        assert pull.run(["--no-https", str(tmp_path / "a.sif"), f"docker://{server.host}/prod/app:1"]) == 1
        assert manifest["layers"][0]["digest"] not in {ask.path.rpartition("/")[2] for ask in server.asked}
    assert "bytes are needed, and the file system has" in capsys.readouterr().err
    assert not (tmp_path / "a.sif").exists()


# -- what is shown, and where it lands


def test_registry_words_reach_no_terminal_unescaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = json.dumps({"errors": [{"code": "X", "message": "\x1b]0;owned\x07\u202e\n"}]}).encode()
    with FakeRegistry(lambda _: answer(evil, "400 Bad Request")) as server:
        assert pull.run(["--no-https", str(tmp_path / "a"), f"docker://{server.host}/prod/app:1"]) == 1
    said = capsys.readouterr().err
    assert "owned" in said
    assert said.rstrip("\n").isprintable()


def test_registry_names_in_annotations_choose_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The title of a layer is what its pusher liked: the file is where the user says."""
    monkeypatch.chdir(tmp_path)
    data = (CORPUS / "images" / "one-builder.sif").read_bytes()
    with FakeRegistry() as server:
        layer = {
            "mediaType": "application/vnd.sylabs.sif.layer.v1.sif",
            "size": len(data),
            "digest": server.store.add_blob(data),
            "annotations": {"org.opencontainers.image.title": "../../evil.sif"},
        }
        config = {"mediaType": "application/vnd.sylabs.sif.config.v1+json", "size": 2, "digest": digest_of(b"{}")}
        raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": [layer]}).encode()
        server.store.add_manifest(raw, "1")
        assert pull.run(["--no-https", f"oras://{server.host}/prod/app:1"]) == 0
    assert os.listdir(tmp_path) == ["app_1.sif"]


def test_registry_images_that_may_not_run_never_have_their_name(capsys: pytest.CaptureFixture[str]) -> None:
    """An image directory shows no unapproved file, for any content of the registry."""
    site = Site()
    try:
        with FakeRegistry() as server:
            where = f"oras://{server.host}/app"
            for tag, name in (("half", "one-builder.sif"), ("whole", "one-builder+scanner.sif")):
                assert push.run(["--no-https", str(CORPUS / "images" / name), f"{where}:{tag}"]) == 0
            arguments = ["--no-https", "--require-allow", "--config", str(site.config)]
            target = site.image("new.sif")
            before = sorted(os.listdir(site.root / "images"))
            assert pull.run([*arguments, target, f"{where}:half"]) == 1
            assert sorted(os.listdir(site.root / "images")) == before
            assert "not allowed" in capsys.readouterr().err
            assert pull.run([*arguments, target, f"{where}:whole"]) == 0
            assert sorted(os.listdir(site.root / "images")) == sorted([*before, "new.sif"])
    finally:
        site.close()


def test_registry_redirects_all_that_is_asked_of_another_server(tls: tuple[ssl.SSLContext, Path]) -> None:
    """All that the client does goes through one place, and that speaks to the registry alone."""
    with Server(says(answer(b"{}"))) as elsewhere, FakeRegistry() as server:
        for asking in (registry(server, USER), registry(server, USER, roots=tls[1])):
            for work in (
                lambda asking=asking: asking.ask("POST", f"{elsewhere.url}/v2/", body=b"secret"),
                lambda asking=asking: asking.send(f"{elsewhere.url}/v2/", [b"secret"], 6),
                lambda asking=asking: asking.end_upload(f"{elsewhere.url}/v2/", digest_of(b"secret")),
            ):
                with pytest.raises(RemoteError, match=r"is not the registry .*, so nothing is sent there"):
                    work()
        assert elsewhere.requests == []
