"""Asking one keyserver, over HTTP or HTTPS (HKP, draft-gallagher-openpgp-hkp).

A keyserver is not trusted. What it sends under a fingerprint is read with our own parser. Of that, only the certificate
with that fingerprint is returned (`KeyReply`), as far as its own primary key vouches for what is in it
(`signature.openpgp.proven`). Redirects stay within the server's own scheme, host and port, and a token is sent
there alone.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from itertools import islice
from typing import Final, Generic, TypeVar
from urllib.parse import quote, urlencode

from eclctl.config.keyservers import Keyserver, Keyservers
from eclctl.dataclass import dataclass
from eclctl.errors import EclctlError, KeyMaterialError, RemoteError
from eclctl.remote.http import client as http
from eclctl.remote.keyservers.index import MAX_INDEX, SearchIndex, parse_search_index
from eclctl.signature.openpgp import Keyring
from eclctl.signature.openpgp.armor import split_blocks
from eclctl.signature.openpgp.packets import read_packets
from eclctl.signature.openpgp.proven import Proven, proven

_MAX_ANSWER: Final = 4 << 20  # bytes that a keyserver may send for one key
_MAX_PACKETS: Final = 20_000  # in an answer: a certificate that very many people certified has a few thousand
_MAX_SAID: Final = 64 << 10  # of what it says to a key that was sent
_MAX_TOKEN: Final = 4096
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_INDEX_TYPES: Final = frozenset({"text/plain", "application/octet-stream", ""})
_KEY_TYPES: Final = frozenset({"application/pgp-keys", "application/octet-stream", "text/plain", ""})
_NO_SUCH_KEY: Final = re.compile(rb"\A\s*(?:<[^>]*>\s*)*(?:Key not found|No results found|Not found)", re.IGNORECASE)
_FOUND, _NOT_FOUND = 200, 404
_SHOWN_STRANGERS: Final = 3

_Content = TypeVar("_Content")


class Result(StrEnum):
    """What came of a question about one key."""

    FOUND = "found"
    ABSENT = "absent"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class KeyReply:
    """What one server said of one fingerprint. `why` is one printable sentence about what was left out or went wrong.

    `found` is set with `Result.FOUND` alone.
    """

    url: str
    result: Result
    found: Proven | None = None
    why: str = ""

    @property
    def packets(self) -> bytes:
        """The certificate, b"" when there is none."""
        return b"" if self.found is None else self.found.packets


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of trying several servers. `answers` are in the order in which they were asked."""

    answers: tuple[KeyReply, ...]

    @property
    def found(self) -> KeyReply | None:
        """The answer with the key, None where no server had it."""
        return next(iter(self.having), None)

    @property
    def having(self) -> tuple[KeyReply, ...]:
        """Every answer with the key."""
        return tuple(answer for answer in self.answers if answer.result is Result.FOUND)

    @property
    def absent(self) -> bool:
        """Whether every server answered, and none knows the key."""
        return all(answer.result is Result.ABSENT for answer in self.answers)


async def fetch(keyservers: Keyservers, fingerprint: str, revokers: Keyring | None = None) -> Tried:
    """Ask keyservers for one certificate, in their order, until one has it. Never raises for what they say.

    Args:
        keyservers: The servers to ask.
        fingerprint: The primary fingerprint, whole, upper-case hex.
        revokers: Where designated revokers are looked for; left out, their revocations are not taken.
    """
    answers: list[KeyReply] = []
    for server in keyservers.servers:
        answers.append(await _get(server, fingerprint, keyservers.timeout, revokers))
        if answers[-1].result is Result.FOUND:
            break
    return Tried(tuple(answers))


async def fetch_all(keyservers: Keyservers, fingerprint: str, revokers: Keyring | None = None) -> Tried:
    """Ask all keyservers at once for one certificate, also when one has it: what it holds back another may show.

    Arguments are as for `fetch`. Never raises for what they say.
    """
    asked = (_get(each, fingerprint, keyservers.timeout, revokers) for each in keyservers.servers)
    return Tried(tuple(await asyncio.gather(*asked)))


async def _get(server: Keyserver, fingerprint: str, seconds: float, revokers: Keyring | None) -> KeyReply:
    """Ask one keyserver for the certificate with a primary fingerprint. Never raises for what it says."""
    try:
        response = await _request(server, _lookup("get", f"0x{fingerprint}"), seconds, _MAX_ANSWER)
        if response is None or _NO_SUCH_KEY.match(response.body):
            return KeyReply(server.url, Result.ABSENT)
        _require_type(response, _KEY_TYPES)
    except RemoteError as error:
        return KeyReply(server.url, Result.UNAVAILABLE, why=str(error))
    return await http.in_thread(lambda: _read(server.url, fingerprint, response.body, revokers))


def _read(url: str, fingerprint: str, body: bytes, revokers: Keyring | None) -> KeyReply:
    """Take the one certificate that was asked for out of an answer; in a thread, for that may take a while."""
    if b"-----BEGIN PGP" not in body and body[:1] < b"\x80":
        return KeyReply(url, Result.INVALID, why=f"{url} sent no OpenPGP certificate")
    try:
        _require_few_packets(body)
        ring = Keyring.parse(body)
    except EclctlError as error:
        return KeyReply(url, Result.INVALID, why=f"{url} sent no usable certificate: {error}")
    if fingerprint in ring.secret:
        return KeyReply(
            url, Result.INVALID, why=f"{url} sent the private key of {fingerprint}: it is in strangers' hands"
        )
    strangers = [each.fingerprint for each in ring.certificates if each.fingerprint != fingerprint]
    why = _left_out(url, strangers)
    found = proven(ring, fingerprint, revokers)
    if found is None:
        return KeyReply(url, Result.INVALID, why=why or f"{url} sent another certificate than {fingerprint}")
    if not found.user_ids and not found.material.direct:
        return KeyReply(
            url, Result.INVALID, why=f"{url} sent {fingerprint} with nothing in it that its key vouches for"
        )
    return KeyReply(url, Result.FOUND, found, why)


def _require_few_packets(body: bytes) -> None:
    """Refuse what would take seconds to read, before it does."""
    blocks = [body] if body[:1] >= b"\x80" else [data for _, data in split_blocks(body)]
    count = sum(1 for data in blocks for _ in islice(read_packets(data), _MAX_PACKETS + 1))
    if count > _MAX_PACKETS:
        raise KeyMaterialError(f"more than {_MAX_PACKETS} packets")


def _left_out(url: str, strangers: Sequence[str]) -> str:
    if not strangers:
        return ""
    more = len(strangers) - _SHOWN_STRANGERS
    names = ", ".join(strangers[:_SHOWN_STRANGERS]) + (f" and {more} more" if more > 0 else "")
    return f"{url} also sent keys that were not asked for: {names}"


@dataclass(frozen=True, slots=True)
class ServerReply(Generic[_Content]):
    """What one server of several answered. `failed` has a sentence for each that was asked before, and did not."""

    url: str
    content: _Content
    failed: tuple[str, ...]


async def search(keyservers: Keyservers, term: str) -> ServerReply[SearchIndex]:
    """Search the first keyserver that lists something; return that, else the last empty index.

    Args:
        keyservers: The servers to ask, in their order.
        term: A name, an address, or `0x` with a key ID or fingerprint.

    Raises:
        RemoteError: None answers.
    """

    async def index(server: Keyserver) -> SearchIndex:
        response = await _request(server, _lookup("index", term), keyservers.timeout, MAX_INDEX)
        if response is None or _NO_SUCH_KEY.match(response.body):
            return SearchIndex(())
        _require_type(response, _INDEX_TYPES)
        return parse_search_index(response.body, server.url)

    return await _first(keyservers, index, lambda found: bool(found.keys))


async def submit(keyservers: Keyservers, armored: bytes) -> ServerReply[None]:
    """Send a certificate to the first keyserver that takes it.

    Args:
        keyservers: The servers to send it to.
        armored: The certificate; the caller has made sure that it holds no secret key.

    Raises:
        RemoteError: None takes it.
    """
    body = urlencode({"keytext": armored.decode("ascii")}).encode("ascii")

    async def send(server: Keyserver) -> None:
        if await _request(server, "/pks/add", keyservers.timeout, _MAX_SAID, body) is None:
            raise RemoteError(f"{server.url} takes no keys: there is no {server.url}/pks/add")

    return await _first(keyservers, send, lambda _: True)


async def _first(
    keyservers: Keyservers,
    ask: Callable[[Keyserver], Awaitable[_Content]],
    good: Callable[[_Content], bool],
) -> ServerReply[_Content]:
    """Return the first good answer, else the last one there was."""
    errors: list[str] = []
    last: tuple[str, _Content] | None = None
    for server in keyservers.servers:
        try:
            reply = await ask(server)
        except RemoteError as error:
            errors.append(str(error))
            continue
        last = server.url, reply
        if good(reply):
            break
    if last is None:
        raise RemoteError("; ".join(errors) or "no keyserver is named")
    return ServerReply(*last, tuple(errors))


def _lookup(operation: str, search: str) -> str:
    return f"/pks/lookup?op={operation}&options=mr&search={quote(search, safe='')}"


async def _request(
    server: Keyserver, path: str, seconds: float, limit: int, body: bytes | None = None
) -> http.Response | None:
    """Send a body, or ask, and return the answer; None when the server knows nothing of the kind."""
    headers = {"Accept": "application/pgp-keys, text/plain;q=0.9"}
    if body is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    if server.token_file is not None:
        headers["Authorization"] = f"Bearer {_token(server.token_file)}"
    response = await http.request_url(
        "GET" if body is None else "POST",
        server.url + path,
        timeout=seconds,
        limit=limit,
        body=body,
        headers=headers,
        roots=server.ca,
        same_origin=True,
    )
    if response.status == _NOT_FOUND:
        return None
    if not _FOUND <= response.status < 300:  # noqa: PLR2004 - all that mean success
        raise RemoteError(f"{server.url} refused with status {response.status}{_hint(server, response.status)}")
    return response


def _hint(server: Keyserver, status: int) -> str:
    if status not in {401, 403}:
        return ""
    return "; it wants another token" if server.token_file else "; it wants a token (`token_file`)"


def _require_type(response: http.Response, accepted: frozenset[str]) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in accepted:
        raise RemoteError(f"{http.escaped(response.url)} answered with {http.escaped(kind)}; is it a keyserver?")


def _token(path: str) -> str:
    """Read a token out of a file that no other user can read."""
    name = f"the token file {http.escaped(path)}"
    try:
        with open(path, "rb", opener=lambda file, flags: os.open(file, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            text = file.read(_MAX_TOKEN + 1).decode("ascii", "replace").strip() if stat.S_ISREG(status.st_mode) else ""
    except OSError as error:
        raise RemoteError(f"{name}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise RemoteError(f"{name} is no regular file")
    if status.st_mode & _OTHERS or status.st_uid not in {0, os.geteuid()}:
        raise RemoteError(f"{name} is not yours alone; chmod 600 it")
    if len(text) > _MAX_TOKEN or _TOKEN.fullmatch(text) is None:
        raise RemoteError(f"{name} holds no bearer token")
    return text
