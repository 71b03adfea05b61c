"""A registry by the OCI distribution specification 1.1: what it is asked, and what is accepted of its answers.

Rules:

1. Every exchange goes through `_open`. It speaks to the registry that the user named: scheme, host and port. No other
   server gets a credential, a token or a byte of an image.
2. A redirect is followed only for the content of a blob, which its digest proves: without any credential, never from
   https to http, and not to a loopback, link-local or reserved address (`addresses`). A registry that is itself on a
   loopback address may redirect to loopback. An upload continues only at the registry itself.
3. What comes back is what was asked for: manifests of at most 1 MiB by their digest, blobs by digest and size. What a
   tag means is asked once. A header that names another digest is an error.
4. Logging in is the part of `login`. No blob is mounted from another repository, deleted or listed.
5. What may succeed at the next try (no connection, 5xx, too many requests) is tried a few times, with pauses.

The methods block. Each exchange runs in an event loop of its own (`asyncio.run`), so Ctrl-C ends it at once. Pauses
between tries are outside of any loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from eclctl.dataclass import dataclass
from eclctl.errors import RemoteError
from eclctl.remote.http import client as http
from eclctl.remote.http import proxies
from eclctl.remote.http.addresses import is_loopback, is_numeric, why_refused
from eclctl.remote.http.client import REDIRECTS, IncomingResponse, Response, Target, TransientError, escaped
from eclctl.remote.http.limits import (
    EXCHANGE_SECONDS,
    MAX_ERROR,
    MAX_LOCATION,
    MAX_MANIFEST,
    MAX_PAUSE_SECONDS,
    MAX_REDIRECTS,
    MIN_BYTES_PER_SECOND,
    PAUSE_SECONDS,
    TRIES,
)
from eclctl.remote.registry.answers import (
    error_messages,
    location,
    media_type,
    require_not_transient,
    require_one_meaning,
    require_same_digest,
)
from eclctl.remote.registry.credentials import ANONYMOUS, RegistryCredentials
from eclctl.remote.registry.login import Login
from eclctl.remote.registry.names import Reference
from eclctl.sif.oci import INDEX_TYPES, MANIFEST_TYPES, is_digest

_ACCEPT: Final = {"Accept": ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))}
_BINARY: Final = {"Content-Type": "application/octet-stream"}
_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _PARTIAL = 200, 201, 202, 204, 206
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _NO_RANGE = 401, 403, 404, 416
_URL_LIMIT: Final = MAX_LOCATION + 1024  # a place to upload to, with the digest behind it; also of a header line

_Result = TypeVar("_Result")


class MissingError(RemoteError):
    """The registry has no such manifest or blob."""


class NoRangeError(RemoteError):
    """The registry does not give the rest of a blob alone; it may give the whole blob."""


class _LoginWantedError(Exception):
    """The registry wants a login before it answers. `args` are its `WWW-Authenticate` headers."""


@dataclass(frozen=True, slots=True)
class ManifestDocument:
    """A manifest or index as it came. `digest` is of `raw`."""

    raw: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is reached.

    Attributes:
        environment: Names the proxies.
        credentials: What there is to log in with.
        plain: http instead of https.
        roots: A PEM file that is trusted instead of the system's roots.
        seconds: Bounds a small exchange, and each time without progress in a large one.
        sleep: Waits for so many seconds.
    """

    environment: Mapping[str, str]
    credentials: RegistryCredentials = ANONYMOUS
    plain: bool = False
    roots: str | None = None
    seconds: float = EXCHANGE_SECONDS
    sleep: Callable[[float], None] = time.sleep


class Registry:
    """One repository of one registry. Not for several threads, nor for use in an event loop.

    Args:
        reference: The repository, and where it is.
        access: How it is reached.
        push: Ask for the right to write.
    """

    def __init__(self, reference: Reference, access: Access, *, push: bool = False) -> None:
        self._reference = reference
        self._access = access
        self._base = f"{'http' if access.plain else 'https'}://{reference.host}/v2/{reference.repository}"
        self._origin = http.parse_url(self._base).origin
        self._addresses: set[str] = set()
        """Every address at which the registry was asked, or tried to be."""
        scope = f"repository:{reference.repository}:{'pull,push' if push else 'pull'}"
        self._login = Login(str(reference), self._origin, scope, access.credentials, self._ask_for_token)

    def ask(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Response:
        """Ask the registry for something small, and return the whole answer, of any status.

        Raises:
            TransientError: There is no answer, also after some tries.
            RemoteError: There will be none, or the URL is not the registry's.
        """

        async def once(*, may_log_in: bool) -> Response:
            async with self._open_at_registry(method, url, headers, body, may_log_in=may_log_in) as answer:
                require_not_transient(answer)
                read = b"" if method == "HEAD" else await answer.read(MAX_MANIFEST)
                return Response(answer.status, answer.headers, read, answer.url)

        return self.retry(lambda: self._logged_in(once))

    def retry(self, work: Callable[[], _Result]) -> _Result:
        """Do what may succeed at the next try, up to a few times, with pauses that grow; return what it returns."""
        for attempt in range(TRIES - 1):
            try:
                return work()
            except TransientError as error:
                if error.slow and attempt:
                    raise
                self.pause(attempt, error)
        return work()

    def pause(self, attempt: int, error: TransientError) -> None:
        """Wait before the next try; the first attempt is 0."""
        self._access.sleep(min(max(PAUSE_SECONDS * 2**attempt, error.pause), MAX_PAUSE_SECONDS))

    def manifest(self, chosen: str) -> ManifestDocument:
        """Return the manifest or index that a tag or a digest names.

        Raises:
            MissingError: There is none.
            RemoteError: It is not what was asked for, or there is no answer.
        """
        response = self.ask("GET", f"{self._base}/manifests/{chosen}", _ACCEPT)
        if response.status == _NOT_FOUND:
            raise MissingError(f"{self._named(chosen)} does not exist")
        self._require_status(response, _OK)
        raw = response.body
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if is_digest(chosen) and digest != chosen:
            raise RemoteError(f"{self._named(chosen)}: the registry sent something else, whose digest is {digest}")
        require_same_digest(response, digest)
        return ManifestDocument(raw, media_type(response), digest)

    def put_manifest(self, raw: bytes, media_type: str, tag: str) -> None:
        """Write a manifest under a tag, byte by byte as it is."""
        response = self.ask("PUT", f"{self._base}/manifests/{tag}", {"Content-Type": media_type}, raw)
        self._require_status(response, _CREATED)
        require_same_digest(response, f"sha256:{hashlib.sha256(raw).hexdigest()}")

    def has_blob(self, digest: str, size: int) -> bool:
        """Return whether the repository has a blob. A registry redirects only for a blob that it has."""
        response = self.ask("HEAD", self._blob_url(digest))
        if response.status in REDIRECTS:
            return True
        return response.status == _OK and response.headers.get("content-length", str(size)) == str(size)

    def small_blob(self, digest: str, size: int) -> bytes:
        """Return a blob whose size the caller has found small enough for memory. Its digest is compared."""

        def once() -> bytes:
            data = bytearray()
            self.fetch_blob(digest, size, data.extend)
            return bytes(data)

        data = self.retry(once)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise RemoteError(f"{self._named(digest)}: the registry sent something else")
        return data

    def fetch_blob(self, digest: str, size: int, take: Callable[[bytes], None], start: int = 0) -> None:
        """Fetch a blob from byte `start` on. The digest is for the caller to compare.

        Args:
            digest: The blob.
            size: Its bytes, counted from 0.
            take: Is called with each part, in order. What it raises ends the exchange, and is raised.
            start: How many bytes the caller has already.

        Raises:
            TransientError: It ended before it was whole; what `take` was called with is good.
            NoRangeError: The registry gives only the whole of it.
            RemoteError: It is no blob, or another one.
        """
        self._logged_in(partial(self._fetch_blob, digest, size, take, start))

    def begin_upload(self) -> str:
        """Return the URL that a blob can be sent to."""
        response = self.ask("POST", f"{self._base}/blobs/uploads/", body=b"")
        self._require_status(response, _ACCEPTED)
        return self._upload_url(response)

    def send(self, url: str, parts: Iterable[bytes], size: int) -> str:
        """Send a blob of `size` bytes to an upload's URL; return the URL at which the upload ends.

        Raises:
            TransientError: It did not arrive; the whole upload may be begun anew.
            RemoteError: The registry refuses it. Else what `parts` raises.
        """
        return asyncio.run(self._send(url, http.Upload(size, parts)))

    def end_upload(self, url: str, digest: str) -> None:
        """Name what was sent by its digest, which the registry then compares."""
        url = f"{url}{'&' if '?' in url else '?'}{urlencode({'digest': digest})}"
        response = self.ask("PUT", url, _BINARY, b"")
        self._require_status(response, _CREATED)
        require_same_digest(response, digest)

    async def _fetch_blob(
        self, digest: str, size: int, take: Callable[[bytes], None], start: int, *, may_log_in: bool
    ) -> None:
        url = self._blob_url(digest)
        headers = {"Range": f"bytes={start}-"} if start else {}
        seconds = self._access.seconds + (size - start) / MIN_BYTES_PER_SECOND
        opened = self._open_at_registry("GET", url, headers, seconds=seconds, may_log_in=may_log_in)
        for _ in range(MAX_REDIRECTS + 1):
            async with opened as answer:
                if answer.status not in REDIRECTS:
                    return await self._receive_blob(answer, size, take, start)
                target = self._redirect_target(answer)
            opened = self._open("GET", target, headers, refuse=self._why_refused, seconds=seconds)
        raise RemoteError(f"{escaped(url)} redirects once more after {MAX_REDIRECTS} redirects")

    async def _receive_blob(
        self, answer: IncomingResponse, size: int, take: Callable[[bytes], None], start: int
    ) -> None:
        require_not_transient(answer)
        url = escaped(answer.url)
        if start and answer.status in {_OK, _NO_RANGE}:
            raise NoRangeError(f"{url} has no parts of blobs")
        if answer.status == _NOT_FOUND:
            raise MissingError(f"{url} does not exist")
        if answer.status != (_PARTIAL if start else _OK):
            raise self._refused(answer.status, await answer.read(MAX_ERROR), answer.url)
        if start and answer.headers.get("content-range") != f"bytes {start}-{size - 1}/{size}":
            raise NoRangeError(f"{url} sent another part of the blob than was asked for")
        left = size - start
        while part := await answer.next_part():
            left -= len(part)
            if left < 0:
                raise RemoteError(f"{url} sent more than the {size} bytes that the manifest says")
            take(part)
        if left:
            raise TransientError(f"{url}: the answer ended {left} bytes before it was whole")

    async def _send(self, url: str, body: http.Upload) -> str:
        seconds = self._access.seconds + body.size / MIN_BYTES_PER_SECOND
        async with self._open_at_registry("PATCH", url, _BINARY, body, seconds=seconds) as answer:
            require_not_transient(answer)
            if answer.status == _UNAUTHORIZED:
                raise TransientError(f"{escaped(url)}: the login ran out")
            if answer.status not in {_ACCEPTED, _CREATED, _NO_CONTENT}:
                raise self._refused(answer.status, await answer.read(MAX_ERROR), url)
            return self._upload_url(answer)

    # What the exchanges have in common.

    def _logged_in(self, once: Callable[..., Coroutine[Any, Any, _Result]]) -> _Result:
        """Do an exchange. Where the registry wants a login, log in and do it a second time."""
        try:
            return asyncio.run(once(may_log_in=True))
        except _LoginWantedError as wanted:
            self._login.respond(wanted.args)
        return asyncio.run(once(may_log_in=False))

    @asynccontextmanager
    async def _open_at_registry(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | http.Upload | None = None,
        *,
        seconds: float | None = None,
        may_log_in: bool = False,
    ) -> AsyncIterator[IncomingResponse]:
        """Ask the registry, with what logs in there.

        Raises:
            _LoginWantedError: It wants a login first, and `may_log_in` is true.
        """
        target = http.parse_url(url, _URL_LIMIT)
        if target.origin != self._origin:
            raise RemoteError(f"{escaped(url)} is not the registry {self._reference.host}, so nothing is sent there")
        headers = {**(headers or {}), **self._login.headers}
        async with self._open(method, target, headers, body, refuse=self._remember, seconds=seconds) as answer:
            if answer.status == _UNAUTHORIZED and may_log_in:
                raise _LoginWantedError(*answer.values("www-authenticate"))
            yield answer

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        target: Target,
        headers: Mapping[str, str],
        body: bytes | http.Upload | None = None,
        *,
        refuse: Callable[[str], str | None],
        seconds: float | None = None,
    ) -> AsyncIterator[IncomingResponse]:
        """Do one exchange with any server; `headers` are all that it is told of who asks."""
        proxy = proxies.choose(*target.origin, self._access.environment)
        if proxy is not None and is_numeric(target.host) and (why := refuse(target.host)) is not None:
            raise RemoteError(f"{escaped(target.url)}: that is not followed: {why}")
        wanted = http.Exchange(
            method,
            target,
            body,
            headers,
            proxy,
            refuse=refuse if proxy is None else http.allow_any_address,
            roots=self._access.roots,
            line_limit=_URL_LIMIT,
        )
        stall = self._access.seconds
        try:
            async with http.exchange(wanted, seconds=stall if seconds is None else seconds, stall=stall) as answer:
                require_one_meaning(answer)
                yield answer
        except http.UntrustedServerError as error:
            raise RemoteError(f"{error}; --tls-ca names other roots") from error
        except http.NoTlsError as error:
            raise RemoteError(f"{error}; if that is as it should be, give --no-https") from error

    def _ask_for_token(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit: int
    ) -> tuple[int, bytes]:
        """Ask an authorization server, whose redirects are not followed."""
        target = http.parse_url(url, _URL_LIMIT)
        refuse = self._remember if target.origin == self._origin else self._why_refused

        async def once() -> tuple[int, bytes]:
            async with self._open(method, target, headers, body, refuse=refuse) as answer:
                require_not_transient(answer)
                return answer.status, await answer.read(limit)

        return self.retry(lambda: asyncio.run(once()))

    def _remember(self, address: str) -> None:
        """Allow an address of the registry itself, and keep it."""
        self._addresses.add(address)

    def _why_refused(self, address: str) -> str | None:
        """Return why a server that the registry names must not be at an address, None if it may."""
        why = why_refused(address)
        if why is not None and self._addresses and all(map(is_loopback, {*self._addresses, address})):
            return None
        return why

    def _redirect_target(self, answer: IncomingResponse) -> Target:
        """Return the URL that a blob's content is said to be at."""
        target = location(answer)
        if target.scheme != "https" and not self._access.plain:
            raise RemoteError(
                f"{escaped(answer.url)} redirects to {escaped(target.url)}, which is not followed: it has no TLS"
            )
        return target

    def _upload_url(self, answer: IncomingResponse | Response) -> str:
        """Return the URL at which an upload continues, which is at the registry itself."""
        target = location(answer)
        if target.origin != self._origin:
            raise RemoteError(
                f"{escaped(answer.url)} wants the image sent to {escaped(target.url)}; nothing is sent to others than "
                "the registry. A registry behind a proxy has to know its own address (`http.relativeurls`)"
            )
        return target.url

    def _require_status(self, response: Response, status: int) -> None:
        if response.status != status:
            raise self._refused(response.status, response.body, response.url)

    def _refused(self, status: int, body: bytes, url: str) -> RemoteError:
        said = error_messages(body[:MAX_ERROR])
        if status == _NOT_FOUND:
            return MissingError(f"{escaped(url)} does not exist{said}")
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            return RemoteError(f"{escaped(url)}: the registry refuses {self._login.who}{said}")
        if status in REDIRECTS:
            return RemoteError(f"{escaped(url)} redirects; that is followed for the content of blobs alone")
        return RemoteError(f"{escaped(url)} answered with status {status}{said}")

    def _blob_url(self, digest: str) -> str:
        return f"{self._base}/blobs/{digest}"

    def _named(self, chosen: str) -> str:
        separator = "@" if is_digest(chosen) else ":"
        return f"{self._reference.host}/{self._reference.repository}{separator}{chosen}"
