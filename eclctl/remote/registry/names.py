"""What names an image in a registry: `docker://host:port/repository:tag` and `oras://…` (distribution's `reference`).

A name is read strictly, so that nothing in it can become another part of a URL.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import urlsplit

from eclctl.dataclass import dataclass
from eclctl.errors import RemoteError
from eclctl.sif.oci import is_digest

SCHEMES: Final = ("docker", "oras")

_HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_HUB_API: Final = "registry-1.docker.io"
_HUB_KEY: Final = "https://index.docker.io/v1/"
_MAX_NAME: Final = 255
_HOST: Final = re.compile(
    r"(?:(?!-)[A-Za-z0-9-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
)
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a registry.

    `host` is where its API is (with port, if any), `repository` the name below it. `digest` is `sha256:<hex>`, or ""
    where the tag chooses.
    """

    scheme: str
    host: str
    repository: str
    tag: str
    digest: str

    @property
    def chosen(self) -> str:
        """The digest, or else the tag: what is asked for."""
        return self.digest or self.tag

    @property
    def keys(self) -> tuple[str, ...]:
        """The names under which credential files know the registry, best first."""
        if self.host == _HUB_API:
            return (_HUB_KEY, "docker.io", "index.docker.io", _HUB_API)
        return (f"{self.host}/{self.repository}", self.host)

    def __str__(self) -> str:
        """The reference as people type it."""
        behind = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"{self.scheme}://{self.host}/{self.repository}{behind}"


def parse_reference(text: str) -> Reference:
    """Read a reference. Without a host it is Docker Hub's, without tag and digest its tag is `latest`, as everywhere.

    Raises:
        RemoteError: This is no reference; the message says what one looks like.
    """
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in SCHEMES:
        raise RemoteError(f"{text[:96]!r} begins neither with docker:// nor with oras://")
    name, at, digest = rest.removeprefix("//").partition("@")
    if at and not is_digest(digest):
        raise RemoteError(f"{digest[:96]!r} is no digest; one is sha256: and 64 hex digits in small letters")
    before, colon, last = name.rpartition(":")
    name, tag = (before, last) if colon and "/" not in last else (name, "latest")
    host, path = _host(name)
    if not _is_host(host) or _REPOSITORY.fullmatch(path) is None or len(path) > _MAX_NAME:
        raise RemoteError(
            f"{text[:96]!r} names no repository; a reference is {scheme}://HOST[:PORT]/NAME:TAG or …/NAME@sha256:…, "
            "and NAME is small letters and digits with . _ - / between them"
        )
    if _TAG.fullmatch(tag) is None:
        raise RemoteError(f"{tag[:96]!r} is no tag: up to 128 letters, digits, . _ and -")
    return Reference(scheme, host, path, tag, digest)


def _is_host(text: str) -> bool:
    """Whether this is a host, perhaps with a port, of which a URL can be made."""
    if _HOST.fullmatch(text) is None:
        return False
    try:
        parts = urlsplit(f"//{text}")
        if text.startswith("["):
            IPv6Address(parts.hostname or "")
        port = parts.port
    except ValueError:  # a port beyond 65535, or brackets around no address
        return False
    return port != 0


def _host(name: str) -> tuple[str, str]:
    first, slash, path = name.partition("/")
    if not slash or not (set(".:[") & set(first) or first == "localhost"):
        first, path = "docker.io", name
    if first in _HUB:
        return _HUB_API, path if "/" in path else f"library/{path}"
    return first.lower(), path
