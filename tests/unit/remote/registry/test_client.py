"""The registry client: what it asks, what it accepts, what it tries again, and where it logs in."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from eclctl.errors import RemoteError
from eclctl.remote.http import limits
from eclctl.remote.http.client import TransientError
from eclctl.remote.registry.client import Access, MissingError, Registry
from eclctl.remote.registry.credentials import ANONYMOUS, RegistryCredentials
from eclctl.remote.registry.images import find_image
from eclctl.remote.registry.names import parse_reference
from eclctl.remote.registry.transfer import BlobSource, fill, push_blob
from eclctl.sign.new_oci_sif import PlacedBlob
from tests.helpers.registries import INDEX_TYPE, MANIFEST_TYPE, OCI, Ask, FakeRegistry, answer, digest_of, in_turn, on
from tests.helpers.servers import Server, free_port, says

USER = RegistryCredentials("joe", "secret", source="a file")
BASIC = "Basic " + base64.b64encode(b"joe:secret").decode()
DATA = bytes(range(256)) * 8192


def registry(
    server: FakeRegistry,
    credentials: RegistryCredentials = ANONYMOUS,
    *,
    push: bool = False,
    paused: list[float] | None = None,
    **access: object,
) -> Registry:
    pauses = [] if paused is None else paused
    way = Access({}, credentials, sleep=pauses.append, **{"plain": True, "seconds": 20.0, **access})  # type: ignore[arg-type]
    return Registry(parse_reference(f"docker://{server.host}/prod/app:1"), way, push=push)


def download(server: FakeRegistry, path: Path, data: bytes = DATA, **options: object) -> int:
    """Fill a file with one blob, behind a head of 10 bytes; return how many bytes of it were kept."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        piece = PlacedBlob(digest_of(data), len(data), 10, None)
        return fill(registry(server, **options), fd, [piece], b"HEADHEAD..", lambda _: None)  # type: ignore[arg-type]
    finally:
        os.close(fd)


def test_a_manifest_comes_as_it_is_in_the_registry() -> None:
    with FakeRegistry() as server:
        digest = server.store.add_image(OCI / "app-ci.oci.sif")
        found = registry(server).manifest("1")
        assert (found.digest, found.media_type) == (digest, MANIFEST_TYPE)
        assert found.raw == server.store.blobs[digest]
        assert registry(server).manifest(digest) == found


def test_what_does_not_exist_is_said_not_to() -> None:
    with FakeRegistry() as server, pytest.raises(MissingError, match="prod/app:2 does not exist"):
        registry(server).manifest("2")


def test_a_blob_is_written_behind_a_head_that_is_written_last(tmp_path: Path) -> None:
    with FakeRegistry() as server:
        server.store.add_blob(DATA)
        assert download(server, tmp_path / "f") == 0
    assert (tmp_path / "f").read_bytes() == b"HEADHEAD.." + DATA


def test_until_all_is_there_the_head_is_not(tmp_path: Path) -> None:
    with FakeRegistry() as server, pytest.raises(RemoteError):
        download(server, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == bytes(10)


def test_a_download_goes_on_where_it_stopped_and_asks_for_the_rest_alone(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(10) + DATA[:1_500_000])
    with FakeRegistry() as server:
        server.store.add_blob(DATA)
        assert download(server, tmp_path / "f") == 1_500_000
        assert server.sent("range") == ["bytes=1500000-"]
    assert (tmp_path / "f").read_bytes() == b"HEADHEAD.." + DATA


def test_what_is_there_whole_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"HEADHEAD.." + DATA)
    with FakeRegistry() as server:
        assert download(server, tmp_path / "f") == len(DATA)
        assert server.asked == []


@pytest.mark.parametrize("there", [len(DATA), 1_500_000], ids=["whole", "part"])
def test_what_is_there_and_is_something_else_is_fetched_anew(tmp_path: Path, there: int) -> None:
    (tmp_path / "f").write_bytes(bytes(10 + there))
    with FakeRegistry() as server:
        server.store.add_blob(DATA)
        assert download(server, tmp_path / "f") == 0
    assert (tmp_path / "f").read_bytes() == b"HEADHEAD.." + DATA


@pytest.mark.parametrize(
    "reply",
    [
        answer(DATA),
        answer(status="416 Range Not Satisfiable"),
        answer(DATA[7:], "206 Partial Content", Content_Range=f"bytes 7-{len(DATA) - 1}/{len(DATA)}"),
    ],
    ids=["whole", "refused", "another"],
)
def test_a_registry_without_ranges_is_asked_for_the_whole(tmp_path: Path, reply: bytes) -> None:
    (tmp_path / "f").write_bytes(bytes(10) + DATA[:1000])
    with FakeRegistry(in_turn("GET", "/blobs/", reply)) as server:
        server.store.add_blob(DATA)
        assert download(server, tmp_path / "f") == 0, "nothing that was there was kept"
    assert (tmp_path / "f").read_bytes() == b"HEADHEAD.." + DATA


def test_a_connection_that_breaks_is_continued(tmp_path: Path) -> None:
    whole = answer(DATA)
    paused: list[float] = []
    with FakeRegistry(in_turn("GET", "/blobs/", whole[:-500_000], answer(status="503 Busy"))) as server:
        server.store.add_blob(DATA)
        download(server, tmp_path / "f", paused=paused)
        assert len(server.asked) == 3
        assert server.sent("range")[-1] == f"bytes={len(DATA) - 500_000}-"
    assert (tmp_path / "f").read_bytes() == b"HEADHEAD.." + DATA
    assert paused == [1.0, 2.0]


def test_what_does_not_get_better_is_given_up_after_a_few_tries_with_longer_pauses(tmp_path: Path) -> None:
    paused: list[float] = []
    with FakeRegistry(on("GET", "/blobs/", answer(status="503 Busy"))) as server:
        with pytest.raises(TransientError, match="status 503"):
            download(server, tmp_path / "f", paused=paused)
        assert len(server.asked) == limits.TRIES
    assert paused == [1.0, 2.0, 4.0, 8.0]


def test_a_registry_may_say_how_long_to_wait_but_not_for_ever() -> None:
    paused: list[float] = []
    busy = [answer(status="429 Too Many", Retry_After=after) for after in ("7", "999", "x")]
    with FakeRegistry(in_turn("GET", "/manifests/", *busy)) as server:
        server.store.add_image(OCI / "app-ci.oci.sif")
        registry(server, paused=paused).manifest("1")
    assert paused == [7.0, limits.MAX_PAUSE_SECONDS, 4.0]


def test_a_blob_is_sent_once(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"xx" + DATA)
    done: list[int] = []
    with FakeRegistry() as server, (tmp_path / "f").open("rb") as file:
        source = BlobSource(digest_of(DATA), len(DATA), file.fileno(), 2)
        assert push_blob(registry(server, push=True), source, done.append) is True
        assert server.store.blobs[digest_of(DATA)] == DATA
        assert push_blob(registry(server, push=True), source, done.append) is False
        assert [ask.method for ask in server.asked] == ["HEAD", "POST", "PATCH", "PUT", "HEAD"]
    assert sum(done) == 2 * len(DATA)


def test_an_empty_blob_is_sent_too() -> None:
    with FakeRegistry() as server:
        push_blob(registry(server, push=True), BlobSource(digest_of(b""), 0, data=b""), lambda _: None)
        assert server.store.blobs == {digest_of(b""): b""}


def test_an_upload_that_breaks_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    done: list[int] = []
    with FakeRegistry(in_turn("PATCH", "/uploads/", answer(status="502 Bad Gateway"))) as server:
        with (tmp_path / "f").open("rb") as file:
            push_blob(registry(server, push=True), BlobSource(digest_of(DATA), len(DATA), file.fileno()), done.append)
        assert server.store.blobs == {digest_of(DATA): DATA}
    assert sum(done) == len(DATA)


def test_what_is_not_what_its_digest_says_is_not_pushed() -> None:
    with FakeRegistry() as server:
        with pytest.raises(RemoteError, match="has another digest, and is not pushed"):
            push_blob(registry(server, push=True), BlobSource(digest_of(b"other"), 4, data=b"data"), lambda _: None)
        assert server.store.blobs == {}
        assert "PUT" not in {ask.method for ask in server.asked}


def test_a_name_that_does_not_resolve_and_a_port_without_a_server_are_not_tried_for_long() -> None:
    paused: list[float] = []
    way = Access({}, plain=True, seconds=20.0, sleep=paused.append)
    with pytest.raises(RemoteError, match="the name does not resolve"):
        Registry(parse_reference("docker://does-not-exist.invalid/prod/app:1"), way).manifest("1")
    with pytest.raises(RemoteError, match="Connection refused"):
        Registry(parse_reference(f"docker://127.0.0.1:{free_port()}/prod/app:1"), way).manifest("1")
    assert len(paused) <= limits.TRIES, "a resolver that is not there itself may say that it could be, later"


# -- platforms


def index(*entries: tuple[str, str, bytes]) -> bytes:
    manifests = [
        {
            "mediaType": MANIFEST_TYPE,
            "size": len(data),
            "digest": digest_of(data),
            "platform": {"os": system, "architecture": architecture},
        }
        for system, architecture, data in entries
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}).encode()


def test_an_index_leads_to_the_image_for_an_architecture() -> None:
    with FakeRegistry() as server:
        wanted = server.store.add_image(OCI / "app-ci.oci.sif", "a")
        other = server.store.add_image(OCI / "layers-ci.oci.sif", "b")
        both = index(
            ("windows", "arm64", server.store.blobs[other]),
            ("linux", "amd64", server.store.blobs[other]),
            ("linux", "arm64", server.store.blobs[wanted]),
        )
        root = server.store.add_manifest(both, "1", INDEX_TYPE)
        found = find_image(registry(server), "1", "arm64")
        assert (found.document.digest, found.root) == (wanted, root)
        with pytest.raises(RemoteError, match="no image for linux on s390x; there are: amd64, arm64; choose one with"):
            find_image(registry(server), "1", "s390x")


# -- logging in


def wants(kind: str) -> bytes:
    return answer(status="401 Unauthorized", WWW_Authenticate=kind)


def asks_for_a_token(ask: Ask, realm: str) -> bytes | None:
    if ask.headers.get("authorization") == "Bearer t0ken":
        return None
    return wants(f'Bearer realm="{realm}",service="registry.test",scope="repository:prod/app:pull"')


def test_a_registry_that_asks_for_name_and_password_gets_them() -> None:
    def rule(ask: Ask) -> bytes | None:
        return None if ask.headers.get("authorization") == BASIC else wants('Basic realm="test"')

    with FakeRegistry(rule) as server:
        server.store.add_image(OCI / "app-ci.oci.sif")
        registry(server, USER).manifest("1")
        assert server.sent("authorization") == [BASIC], "and only once it has asked"


def test_a_token_is_asked_for_with_our_own_scope_and_sent_from_then_on() -> None:
    with FakeRegistry() as server:
        server.rules.append(on("GET", "/token", answer(b'{"token":"t0ken"}')))
        server.rules.append(lambda ask: asks_for_a_token(ask, f"{server.url}/token"))
        server.store.add_image(OCI / "app-ci.oci.sif")
        asking = registry(server, USER, push=True)
        asking.manifest("1")
        asking.manifest("1")
        assert server.sent("authorization") == [BASIC, "Bearer t0ken", "Bearer t0ken"]
        token = next(ask for ask in server.asked if ask.path == "/token")
        assert parse_qs(token.query) == {"service": ["registry.test"], "scope": ["repository:prod/app:pull,push"]}


def test_without_credentials_a_token_for_everybody_is_asked_for() -> None:
    with FakeRegistry() as server, Server(says(answer(b'{"access_token":"t0ken"}'))) as tokens:
        server.rules.append(lambda ask: asks_for_a_token(ask, f"{tokens.url}/token"))
        server.store.add_image(OCI / "app-ci.oci.sif")
        registry(server).manifest("1")
        assert b"uthorization" not in tokens.requests[0]


def test_a_refresh_token_is_posted() -> None:
    with FakeRegistry() as server:
        server.rules.append(on("POST", "/token", answer(b'{"access_token":"t0ken"}')))
        server.rules.append(lambda ask: asks_for_a_token(ask, f"{server.url}/token"))
        server.store.add_image(OCI / "app-ci.oci.sif")
        registry(server, RegistryCredentials(identity="refresh-me")).manifest("1")
        form = parse_qs(next(ask for ask in server.asked if ask.path == "/token").body.decode())
        assert (form["grant_type"], form["refresh_token"]) == (["refresh_token"], ["refresh-me"])


def test_who_is_refused_is_told_as_whom_and_how_to_log_in() -> None:
    denied = answer(b'{"errors":[{"code":"DENIED","message":"no \\u001b[2J"}]}', "403 Forbidden")
    with FakeRegistry(lambda _: denied) as server:
        with pytest.raises(RemoteError, match=r"refuses joe, whose credentials are from a file \(DENIED no \\x1b"):
            registry(server, USER).manifest("1")
        with pytest.raises(RemoteError, match="log in"):
            registry(server).manifest("1")


# -- TLS


def by_tls(server: FakeRegistry, root: Path | None, credentials: RegistryCredentials = ANONYMOUS) -> Registry:
    way = Access({}, credentials, roots=None if root is None else str(root), seconds=20.0, sleep=lambda _: None)
    return Registry(parse_reference(f"docker://localhost:{server.port}/prod/app:1"), way)


def test_a_server_is_trusted_for_its_certificate_alone(tls: tuple[ssl.SSLContext, Path]) -> None:
    with FakeRegistry(tls=tls[0]) as server:
        server.store.add_image(OCI / "app-ci.oci.sif")
        with pytest.raises(RemoteError, match="certificate is not trusted"):
            by_tls(server, None).manifest("1")
        assert server.asked == []
        by_tls(server, tls[1]).manifest("1")


def test_roots_come_from_the_system_and_not_from_a_list_of_a_library(
    tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRegistry(tls=tls[0]) as server:
        server.store.add_image(OCI / "app-ci.oci.sif")
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.setenv(name, str(tls[1]))
        with pytest.raises(RemoteError, match="certificate is not trusted"):
            by_tls(server, None).manifest("1")
        monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
        by_tls(server, None).manifest("1")


def test_a_certificate_for_another_name_is_not_accepted(tls: tuple[ssl.SSLContext, Path]) -> None:
    with FakeRegistry(tls=tls[0]) as server:
        with pytest.raises(RemoteError, match="not trusted"):
            registry(server, plain=False, roots=str(tls[1])).manifest("1")
        assert server.asked == []


def test_over_tls_the_authorization_server_may_be_another_host(tls: tuple[ssl.SSLContext, Path]) -> None:
    with FakeRegistry(tls=tls[0]) as server, Server(says(answer(b'{"token":"t0ken"}')), tls=tls[0]) as tokens:
        server.rules.append(lambda ask: asks_for_a_token(ask, f"https://localhost:{tokens.port}/token"))
        server.store.add_image(OCI / "app-ci.oci.sif")
        by_tls(server, tls[1], USER).manifest("1")
        assert BASIC.encode() in tokens.requests[0]
        assert BASIC not in server.sent("authorization")


# -- proxies and the environment


def test_a_proxy_of_the_environment_is_used() -> None:
    manifest = (OCI / "app-ci.oci.sif").read_bytes()[15640 : 15640 + 405]
    with Server(says(answer(manifest, Content_Type=MANIFEST_TYPE))) as proxy:
        way = Access({"http_proxy": f"http://u:p@127.0.0.1:{proxy.port}"}, plain=True, seconds=20.0)
        Registry(parse_reference("docker://registry.example/prod/app:1"), way).manifest("1")
        assert proxy.lines == ["GET http://registry.example/v2/prod/app/manifests/1 HTTP/1.1"]
        assert b"Proxy-Authorization: Basic dTpw" in proxy.requests[0]


def test_a_netrc_says_nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login joe password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with FakeRegistry() as server:
        server.store.add_image(OCI / "app-ci.oci.sif")
        registry(server).manifest("1")
        assert server.sent("authorization") == []


def test_nothing_is_imported_for_registries_before_something_is_asked() -> None:
    code = "import sys, eclctl.cli.entry, eclctl.cli.check, eclctl.cli.verify.command, eclctl.daemon.sockets.server\n"
    code += "import eclctl.cli.registry.pull, eclctl.cli.registry.push\n"
    code += "print({'aiohttp', 'yarl', 'oras', 'requests', 'urllib3'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
