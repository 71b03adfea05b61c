"""Keyservers for tests: Debian's onak behind a small CGI server, and one that answers as a test tells it to."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.helpers.servers import Server, answer

CGI = Path("/usr/lib/cgi-bin/pks")
BACKENDS = sorted(Path("/usr/lib").glob("*/onak/backends"))
needs_onak = pytest.mark.skipif(
    not (CGI / "lookup").exists() or not BACKENDS, reason="needs the keyserver onak (Debian's package)"
)

Reply = bytes | Callable[[socket.socket], None]
"""What is sent: a whole HTTP answer, or what does the sending."""


class Onak(Server):
    """A real keyserver of its own, with an empty database. Its programs are copied: Debian's run as another user."""

    def __init__(self, folder: Path, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._cgi, tls=tls)
        self._folder = folder / "onak"
        (self._folder / "db").mkdir(parents=True)
        for name in ("lookup", "add"):
            shutil.copyfile(CGI / name, self._folder / name)
            (self._folder / name).chmod(0o755)
        (self._folder / "onak.ini").write_text(
            f"[main]\nbackend=here\nbackends_dir={BACKENDS[0]}\nlogfile={self._folder}/log\nuse_keyd=false\n"
            "max_reply_keys=128\n[verification]\ncheck_sighash=true\ndrop_v3=true\n"
            f"[backend:here]\ntype=db4\nlocation={self._folder}/db\n"
        )

    def add(self, certificate: bytes) -> None:
        """Put an armored certificate into the database."""
        subprocess.run(
            ["onak", "-c", self._folder / "onak.ini", "add"], input=certificate, check=True, capture_output=True
        )

    def _cgi(self, sock: socket.socket, request: bytes) -> None:
        head, _, body = request.partition(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        path = urlsplit(target)
        program = {"/pks/lookup": "lookup", "/pks/add": "add"}.get(path.path)
        if program is None:
            sock.sendall(answer(b"no such page", "404 Not Found"))
            return
        done = subprocess.run(
            [self._folder / program],
            input=body,
            capture_output=True,
            check=False,
            env=os.environ
            | {
                "XDG_CONFIG_HOME": str(self._folder),
                "GATEWAY_INTERFACE": "CGI/1.1",
                "REQUEST_METHOD": method,
                "QUERY_STRING": path.query,
                "CONTENT_LENGTH": str(len(body)),
                "CONTENT_TYPE": "application/x-www-form-urlencoded",
            },
        )
        headers, _, content = done.stdout.partition(b"\n\n")
        kind = headers.decode().partition(":")[2].strip()
        sock.sendall(answer(content, Content_Type=kind))


class Keyserver(Server):
    """Answers `get` by what was searched for, everything else with 404. `log` has each operation and search."""

    def __init__(
        self, keys: Mapping[str, Reply] | None = None, *, index: Reply = b"", tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(self._reply, tls=tls)
        self.keys: dict[str, Reply] = dict(keys or {})
        self.index = index
        self.log: list[tuple[str, str]] = []

    def _reply(self, sock: socket.socket, request: bytes) -> None:
        target = urlsplit(request.split(b" ", 2)[1].decode())
        query = parse_qs(target.query)
        operation, search = query.get("op", [target.path])[0], query.get("search", [""])[0]
        self.log.append((operation, search))
        reply: Reply | None = self.keys.get(search.removeprefix("0x"))
        if operation == "index" and self.index:
            reply = self.index
        if reply is None:
            sock.sendall(answer(b"not here", "404 Not Found"))
        elif callable(reply):
            reply(sock)
        else:
            sock.sendall(reply)


def key_answer(blob: bytes, kind: str = "application/pgp-keys") -> bytes:
    """An HTTP answer with a certificate."""
    return answer(blob, Content_Type=kind)


def index_answer(text: str) -> bytes:
    """An HTTP answer with a machine-readable index."""
    return answer(text.encode(), Content_Type="text/plain")
