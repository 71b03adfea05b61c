"""Registries for tests: Debian's `docker-registry`, and one in memory that lies as a test tells it to."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from eclctl.sif import oci_sif, reader
from tests.helpers.servers import PATIENCE, Server, answer, free_port
from tests.helpers.sifbuilder import opened
from tests.helpers.support import CORPUS

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
OCI = CORPUS / "oci"

needs_registry = pytest.mark.skipif(shutil.which("docker-registry") is None, reason="needs docker-registry")
needs_skopeo = pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class RealRegistry:
    """`docker-registry` on a loopback port, with a directory of its own; with users and TLS if they are given."""

    def __init__(
        self, folder: Path, *, users: Path | None = None, tls: tuple[Path, Path] | None = None, host: str = "127.0.0.1"
    ) -> None:
        self.folder = folder
        port = free_port()
        self.host = f"{host}:{port}"
        http = {"addr": f"127.0.0.1:{port}", "secret": "test"}
        if tls is not None:
            http["tls"] = {"certificate": str(tls[0]), "key": str(tls[1])}
        config = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": http,
        }
        if users is not None:
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(users)}}
        (folder / "config.yml").write_text(json.dumps(config))
        self._log = (folder / "registry.log").open("w")
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=self._log, stderr=self._log
        )
        self._wait(port)

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self.folder / "registry.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the registry did not begin to listen")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._log.close()

    def raw(self, repository: str, tag: str) -> bytes:
        """The manifest as the registry has it, asked for without the code under test."""
        url = f"http://{self.host}/v2/{repository}/manifests/{tag}"
        request = urllib.request.Request(url, headers={"Accept": f"{MANIFEST_TYPE}, {INDEX_TYPE}"})
        with urllib.request.urlopen(request, timeout=PATIENCE) as found:
            return found.read()

    def has(self, repository: str, tag: str) -> bool:
        try:
            self.raw(repository, tag)
        except urllib.error.HTTPError:
            return False
        return True


@dataclass(frozen=True)
class Ask:
    """A request as it came."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


Reply = bytes | None
Rule = Callable[[Ask], Reply]


@dataclass
class Store:
    """What a registry in memory holds: blobs by digest, manifests by tag and digest, each with its media type."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def add_blob(self, data: bytes) -> str:
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def add_manifest(self, data: bytes, tag: str, media_type: str = MANIFEST_TYPE) -> str:
        self.manifests[tag] = self.manifests[digest_of(data)] = (media_type, data)
        return digest_of(data)

    def add_image(self, image: Path, tag: str = "1", *, signatures: bool = True) -> str:
        """Add what an OCI-SIF holds; return the digest of its image."""
        with opened(image) as fd:
            file = reader.read(fd)
            layout = oci_sif.read_layout(file)
            for descriptor in file.descriptors:
                self.add_blob(bytes(file.data(descriptor)))
        assert layout.image is not None
        self.add_manifest(self.blobs[layout.image.digest], tag)
        for attachment in layout.signatures_of(layout.image.digest) if signatures else ():
            name = attachment.name.removeprefix("_cosign:")
            self.add_manifest(self.blobs[attachment.manifest.content.digest], name)
        return layout.image.digest


class FakeRegistry:
    """A registry in memory that answers each request by the first rule that has an answer, else honestly.

    `asked` are the requests, in order. It keeps what is uploaded.
    """

    def __init__(self, *rules: Rule, tls: ssl.SSLContext | None = None) -> None:
        self.store = Store()
        self.rules = list(rules)
        self.asked: list[Ask] = []
        self._uploads: dict[str, bytes] = {}
        self._server = Server(self._behave, tls=tls)

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return self._server.url

    def sent(self, name: str) -> list[str]:
        """What came in a header, of the requests that had it."""
        return [ask.headers[name] for ask in self.asked if name in ask.headers]

    def _behave(self, sock: socket.socket, request: bytes) -> None:
        if not request:
            return
        ask = _parse(request)
        self.asked.append(ask)
        for rule in self.rules:
            reply = rule(ask)
            if reply is not None:
                sock.sendall(_for_method(ask, reply))
                return
        sock.sendall(_for_method(ask, self._honest(ask)))

    def _honest(self, ask: Ask) -> bytes:
        if "/blobs/uploads/" in ask.path:
            return self._upload(ask)
        name = ask.path.rpartition("/")[2]
        if "/manifests/" in ask.path and ask.method == "PUT":
            self.store.add_manifest(ask.body, name, ask.headers["content-type"])
            return answer(status="201 Created", Docker_Content_Digest=digest_of(ask.body))
        if "/manifests/" in ask.path and name in self.store.manifests:
            media_type, data = self.store.manifests[name]
            return answer(data, Content_Type=media_type, Docker_Content_Digest=digest_of(data))
        if "/blobs/" in ask.path and name in self.store.blobs:
            return blob_answer(self.store.blobs[name], ask)
        return answer(b'{"errors":[{"code":"NAME_UNKNOWN","message":"no such thing"}]}', "404 Not Found")

    def _upload(self, ask: Ask) -> bytes:
        if ask.method == "POST":
            name = f"{ask.path}{len(self._uploads)}"
            self._uploads[name] = b""
            return answer(status="202 Accepted", Location=f"{name}?state=x")
        if ask.method == "PATCH":
            self._uploads[ask.path] += ask.body
            return answer(status="202 Accepted", Location=f"{ask.path}?state=y")
        data = self._uploads[ask.path]
        digest = ask.query.rpartition("digest=")[2].replace("%3A", ":")
        if digest_of(data) != digest:
            return answer(b'{"errors":[{"code":"DIGEST_INVALID"}]}', "400 Bad Request")
        self.store.blobs[digest] = data
        return answer(status="201 Created", Docker_Content_Digest=digest)


def _for_method(ask: Ask, reply: bytes) -> bytes:
    """An answer to HEAD has no body (RFC 9110 section 9.3.2)."""
    return reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if ask.method == "HEAD" else reply


def blob_answer(data: bytes, ask: Ask) -> bytes:
    """A blob, or the part of it that is asked for."""
    found = re.fullmatch(r"bytes=(\d+)-", ask.headers.get("range", ""))
    if found is None:
        return answer(data, Content_Type="application/octet-stream")
    start = int(found[1])
    return answer(data[start:], "206 Partial Content", Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")


def _parse(request: bytes) -> Ask:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    path, _, query = target.partition("?")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Ask(method, path, query, headers, body)


def on(method: str, part: str, reply: bytes | Callable[[Ask], Reply]) -> Rule:
    """Rule: answer so each request by this method for a path with this in it."""

    def rule(ask: Ask) -> Reply:
        if ask.method != method or part not in ask.path:
            return None
        return reply if isinstance(reply, bytes) else reply(ask)

    return rule


def in_turn(method: str, part: str, *replies: Reply) -> Rule:
    """Rule: answer the first such request so, the next so, and then honestly; None is honest too."""
    left = list(replies)
    return on(method, part, lambda _: left.pop(0) if left else None)
