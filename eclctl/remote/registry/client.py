"""A registry by the OCI distribution specification 1.1, through `oras`: what it is asked, and what it is believed.

Rules:

1. Everything goes through `_asking`, and so does whatever of `oras` is used (`do_request`). It speaks to the registry
   that the user named: scheme, host and port. To nobody else goes a credential, a token or a byte of an image.
2. A redirect is followed for the content of a blob alone, which its digest proves, without any credential, and never
   from https to http, nor to an address near us (`addresses`) unless the registry is as near. An upload is continued
   where the registry says only if that is the registry itself.
3. What comes back is what was asked for: manifests of at most 1 MiB by their digest, blobs by digest and size. What a
   tag means is asked once; a header that names another digest is an error.
4. Logging in is `registry_login`'s. No mounting from other repositories, no deleting, no listing.
5. What may get through the next time (no connection, 5xx, too many requests) is tried a few times, with pauses.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import oras.container
import oras.provider
import requests

from eclctl.errors import RemoteError
from eclctl.remote.http import proxies
from eclctl.remote.http.addresses import why_not
from eclctl.remote.http.client import shown
from eclctl.remote.http.limits import (
    EXCHANGE_SECONDS,
    MAX_ERROR,
    MAX_LOCATION,
    MAX_MANIFEST,
    MAX_PAUSE_SECONDS,
    MAX_REDIRECTS,
    PAUSE_SECONDS,
    SLOWEST,
    TRIES,
)
from eclctl.remote.registry.credentials import ANONYMOUS, Credentials
from eclctl.remote.registry.login import Login
from eclctl.remote.registry.names import Reference
from eclctl.remote.registry.session import Answer, Asked, Session, TransientError
from eclctl.sif.oci import INDEX_TYPES, MANIFEST_TYPES, is_digest

__all__ = ["Access", "Document", "MissingError", "NoRangeError", "Registry"]

_PORTS: Final = {"http": 80, "https": 443}
_ACCEPT: Final = {"Accept": ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BINARY: Final = {"Content-Type": "application/octet-stream"}
_OK, _CREATED, _ACCEPTED, _PARTIAL = 200, 201, 202, 206
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _NO_RANGE = 401, 403, 404, 416
_LATER: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_MOST_MESSAGES: Final = 3

_Result = TypeVar("_Result")


class MissingError(RemoteError):
    """The registry has no such thing."""


class NoRangeError(RemoteError):
    """The rest of a blob cannot be had alone; the whole of it may."""


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as it came. `digest` is of `raw`."""

    raw: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, slots=True)
class Access:
    """How a registry is reached.

    `plain` is http instead of https, `roots` a PEM file that is trusted instead of the system's roots. `environment`
    names proxies. `seconds` bounds a small exchange, and each standstill of a large one. `sleep` waits.
    """

    environment: Mapping[str, str]
    credentials: Credentials = ANONYMOUS
    plain: bool = False
    roots: str | None = None
    seconds: float = EXCHANGE_SECONDS
    sleep: Callable[[float], None] = time.sleep


class Registry(oras.provider.Registry):
    """One repository of one registry. Not for several threads.

    Args:
        reference: the repository, and where it is.
        access: how it is reached.
        push: ask for the right to write.
    """

    def __init__(self, reference: Reference, access: Access, *, push: bool = False) -> None:
        super().__init__(hostname=reference.host, insecure=access.plain)
        self._session = Session(access.roots)
        self.session = self._session
        self.container = oras.container.Container("name", registry=reference.host)
        namespace, _, name = reference.repository.rpartition("/")
        self.container.namespace, self.container.repository = namespace or None, name
        self._reference = reference
        self._access = access
        self._peer = ""
        self._origin = _origin(f"{self.prefix}://{reference.host}/")
        scope = f"repository:{reference.repository}:{'pull,push' if push else 'pull'}"
        self._login = Login(str(reference), self._origin, scope, access.credentials, self._ask_for_token)

    def do_request(  # noqa: PLR0917 - what oras itself calls for everything, as it calls it
        self,
        url: str,
        method: str = "GET",
        data: Any = None,
        headers: dict[str, str] | None = None,
        json: Any = None,
        stream: bool = False,  # noqa: FBT001, FBT002 - oras's own signature
    ) -> requests.Response:
        """Ask the registry, and read the whole of a small answer."""
        if json is not None or stream:
            raise RemoteError("what is sent to a registry are bytes, and what is large has a way of its own")

        def once() -> requests.Response:
            with self._asking(method, url, headers or {}, data) as answer:
                self._later(answer, url)
                body = b"" if method == "HEAD" else answer.read(MAX_MANIFEST)
            answer.response._content = body  # noqa: SLF001 - as requests does for an answer that is not streamed
            return answer.response

        return self.patiently(once)

    def patiently(self, work: Callable[[], _Result]) -> _Result:
        """Do something that may get through the next time, a few times, with pauses that grow."""
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

    def manifest(self, chosen: str) -> Document:
        """Return the manifest or index that a tag or a digest names.

        Raises:
            MissingError: there is none.
            RemoteError: it is not what was asked for, or there is no answer.
        """
        url = f"{self.prefix}://{self.container.manifest_url(chosen)}"
        response = self.do_request(url, "GET", headers=dict(_ACCEPT))
        if response.status_code == _NOT_FOUND:
            raise MissingError(f"{self._named(chosen)} does not exist")
        self._expect(response, url, _OK)
        raw = response.content
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        if is_digest(chosen) and digest != chosen:
            raise RemoteError(f"{self._named(chosen)}: the registry sent something else, whose digest is {digest}")
        self._same_digest(response.headers, digest, url)
        return Document(raw, _media_type(response, raw, url), digest)

    def put_manifest(self, raw: bytes, media_type: str, tag: str) -> None:
        """Write a manifest under a tag, byte by byte as it is."""
        url = f"{self.prefix}://{self.container.manifest_url(tag)}"
        response = self.do_request(url, "PUT", data=raw, headers={"Content-Type": media_type})
        self._expect(response, url, _CREATED)
        self._same_digest(response.headers, f"sha256:{hashlib.sha256(raw).hexdigest()}", url)

    def has_blob(self, digest: str, size: int) -> bool:
        """Return whether the repository has a blob. A registry sends us on only for what it has."""
        response = self.do_request(f"{self.prefix}://{self.container.get_blob_url(digest)}", "HEAD")
        if response.status_code in _REDIRECTS:
            return True
        return response.status_code == _OK and response.headers.get("Content-Length", str(size)) == str(size)

    def small_blob(self, digest: str, size: int) -> bytes:
        """Return a blob whose size the caller has found small enough for memory, once it has its digest."""
        data = self.patiently(lambda: b"".join(self.blob(digest, size)))
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise RemoteError(f"{self._named(digest)}: the registry sent something else")
        return data

    def blob(self, digest: str, size: int, start: int = 0) -> Generator[bytes]:
        """Yield a blob's bytes from `start` on, `size` of them counted from 0. The digest is for the caller to compare.

        Raises:
            TransientError: it ended before. NoRangeError: only the whole of it can be had. RemoteError: it is no blob.
        """
        url = first = f"{self.prefix}://{self.container.get_blob_url(digest)}"
        headers = {"Range": f"bytes={start}-"} if start else {}
        seconds = self._access.seconds + (size - start) / SLOWEST
        for _ in range(MAX_REDIRECTS + 1):
            with self._asking("GET", url, headers, seconds=seconds, sent_on=url != first) as answer:
                if answer.status not in _REDIRECTS:
                    yield from self._body(answer, url, start, size)
                    return
                url = self._sent_on(answer, url)
        raise RemoteError(f"{shown(first)} redirects once more after {MAX_REDIRECTS} redirects")

    def begin_upload(self) -> str:
        """Return the URL that a blob can be sent to."""
        url = f"{self.prefix}://{self.container.upload_blob_url()}"
        response = self.do_request(url, "POST", data=b"")
        self._expect(response, url, _ACCEPTED)
        return self._same_place(response.headers, url)

    def send(self, place: str, body: Any, size: int) -> str:
        """Send a blob; return the URL to end the upload at. `body` is bytes, or has `read` and `__len__`.

        Raises:
            TransientError: it did not arrive; the whole upload may be begun anew.
        """
        seconds = self._access.seconds + size / SLOWEST
        with self._asking("PATCH", place, _BINARY, body, seconds=seconds) as answer:
            self._later(answer, place)
            if answer.status == _UNAUTHORIZED:
                raise TransientError(f"{shown(place)}: the login ran out")
            if answer.status not in {_ACCEPTED, _CREATED, 204}:
                raise self._refused(answer.status, answer.read(MAX_ERROR), place)
            return self._same_place(answer.headers, place)

    def end_upload(self, place: str, digest: str) -> None:
        """Name what was sent by its digest, which the registry then compares."""
        url = f"{place}{'&' if '?' in place else '?'}{urlencode({'digest': digest})}"
        response = self.do_request(url, "PUT", data=b"", headers=dict(_BINARY))
        self._expect(response, url, _CREATED)
        self._same_digest(response.headers, digest, url)

    # What each exchange has in common.

    @contextmanager
    def _asking(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Any = None,
        *,
        seconds: float | None = None,
        sent_on: bool = False,
    ) -> Iterator[Answer]:
        """Do one exchange, logged in if the registry wants it. With `sent_on`, nothing says who we are."""
        if not sent_on and _origin(url) != self._origin:
            raise RemoteError(f"{shown(url)} is not the registry {self._reference.host}, so nothing is sent there")
        again = not sent_on and (body is None or isinstance(body, bytes))
        while True:
            authorization = {} if sent_on else self._login.headers
            refuse = self._near if sent_on else self._remember
            asked = self._asked(method, url, {**headers, **authorization}, body, seconds=seconds, refuse=refuse)
            with self._session.exchange(asked) as answer:
                if answer.status != _UNAUTHORIZED or not again:
                    yield answer
                    return
                challenges = answer.response.raw.headers.getlist("WWW-Authenticate")
            self._login.answer(challenges)
            again = False

    def _asked(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Any,
        *,
        refuse: Callable[[str], str | None],
        seconds: float | None = None,
    ) -> Asked:
        scheme, host, port = _origin(url)
        proxy = proxies.choose(scheme, host, port, self._access.environment)
        if proxy is not None and _numeric(host) and (why := refuse(host)) is not None:
            raise RemoteError(f"{shown(url)}: that is not followed: {why}")
        whole = self._access.seconds if seconds is None else seconds
        return Asked(method, url, headers, whole, self._access.seconds, body, proxy, refuse)

    def _ask_for_token(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limit: int
    ) -> tuple[int, bytes]:
        """Ask an authorization server, which is followed nowhere."""

        def once() -> tuple[int, bytes]:
            refuse = self._remember if _origin(url) == self._origin else self._near
            with self._session.exchange(self._asked(method, url, headers, body, refuse=refuse)) as answer:
                self._later(answer, url)
                return answer.status, answer.read(limit)

        return self.patiently(once)

    def _remember(self, address: str) -> None:
        self._peer = address

    def _near(self, address: str) -> str | None:
        """Why an address must not be connected to: it is near us, and the registry is not."""
        why = why_not(address)
        loopback = _numeric(self._peer) and ip_address(self._peer).is_loopback
        return None if why is not None and loopback and ip_address(address).is_loopback else why

    def _sent_on(self, answer: Answer, url: str) -> str:
        """Return where a blob's content is said to be."""
        place = _location(answer.headers, url)
        if urlsplit(place).scheme != "https" and not self._access.plain:
            raise RemoteError(f"{shown(url)} redirects to {shown(place)}, which is not followed: it has no TLS")
        return place

    def _same_place(self, headers: Mapping[str, str], url: str) -> str:
        place = _location(headers, url)
        if _origin(place) != self._origin:
            raise RemoteError(
                f"{shown(url)} wants the image sent to {shown(place)}; nothing is sent to others than the registry. "
                "If that is a registry behind a proxy, it has to know its own address (`http.relativeurls`)"
            )
        return place

    def _body(self, answer: Answer, url: str, start: int, size: int) -> Iterator[bytes]:
        self._later(answer, url)
        if start and answer.status in {_OK, _NO_RANGE}:
            raise NoRangeError(f"{shown(url)} has no parts of blobs")
        if answer.status == _NOT_FOUND:
            raise MissingError(f"{shown(url)} does not exist")
        if answer.status != (_PARTIAL if start else _OK):
            raise self._refused(answer.status, answer.read(MAX_ERROR), url)
        if start and answer.headers.get("Content-Range") != f"bytes {start}-{size - 1}/{size}":
            raise NoRangeError(f"{shown(url)} sent another part of the blob than was asked for")
        left = size - start
        for chunk in answer.chunks():
            left -= len(chunk)
            if left < 0:
                raise RemoteError(f"{shown(url)} sent more than the {size} bytes that the manifest says")
            yield chunk
        if left:
            raise TransientError(f"{shown(url)}: the answer ended {left} bytes before it was whole")

    def _later(self, answer: Answer, url: str) -> None:
        if answer.status in _LATER:
            after = answer.headers.get("Retry-After", "")
            pause = float(after) if after.isascii() and after.isdigit() and len(after) < len("100000") else 0.0
            raise TransientError(f"{shown(url)} answered with status {answer.status}", pause)

    def _expect(self, response: requests.Response, url: str, status: int) -> None:
        if response.status_code != status:
            raise self._refused(response.status_code, response.content, url)

    def _refused(self, status: int, body: bytes, url: str) -> RemoteError:
        said = _messages(body[:MAX_ERROR])
        if status == _NOT_FOUND:
            return MissingError(f"{shown(url)} does not exist{said}")
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            return RemoteError(f"{shown(url)}: the registry refuses {self._login.who}{said}")
        if status in _REDIRECTS:
            return RemoteError(f"{shown(url)} redirects; that is followed for the content of blobs alone")
        return RemoteError(f"{shown(url)} answered with status {status}{said}")

    def _same_digest(self, headers: Mapping[str, str], digest: str, url: str) -> None:
        stated = headers.get("Docker-Content-Digest", digest)
        if stated != digest:
            raise RemoteError(f"{shown(url)}: the registry says {shown(stated)} of what is {digest}")

    def _named(self, chosen: str) -> str:
        separator = "@" if is_digest(chosen) else ":"
        return f"{self._reference.host}/{self._reference.repository}{separator}{chosen}"


def _media_type(response: requests.Response, raw: bytes, url: str) -> str:
    """Return what a manifest is, if there are no two opinions of it."""
    stated = response.headers.get("Content-Type", "").partition(";")[0].strip()
    try:
        members = json.loads(raw)
    except (ValueError, RecursionError):
        members = None
    inside = members.get("mediaType", stated) if isinstance(members, dict) else None
    known = isinstance(inside, str) and inside in MANIFEST_TYPES | INDEX_TYPES
    if not known or stated not in {"", inside}:
        raise RemoteError(f"{shown(url)} sent {shown(str(inside))} as {shown(stated) or 'nothing'}: no manifest")
    return str(inside)


def _messages(body: bytes) -> str:
    """Return what a registry says of an error (distribution-spec, error codes), escaped; "" when that is nothing."""
    try:
        members = json.loads(body)
        errors = members["errors"][:_MOST_MESSAGES]
        said = [f"{each.get('code', '')} {each.get('message', '')}".strip() for each in errors]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return ""
    return f" ({shown('; '.join(said))})" if said else ""


def _location(headers: Mapping[str, str], url: str) -> str:
    location = headers.get("Location", "")
    try:
        place = urljoin(url, location)
        parts = urlsplit(place)
        _origin(place)
    except ValueError:
        parts = None
    plain = location.isascii() and location.isprintable() and " " not in location
    if not plain or not location or len(location) > MAX_LOCATION or parts is None or parts.scheme not in _PORTS:
        raise RemoteError(f"{shown(url)} does not say where it goes on")
    if not parts.hostname or "@" in parts.netloc:
        raise RemoteError(f"{shown(url)} says that it goes on at {shown(location)}, which is no URL that is asked")
    return place


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(parts.scheme, 0)


def _numeric(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
