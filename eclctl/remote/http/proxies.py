"""Which proxy a URL is fetched through, as the environment says.

`http_proxy`, `https_proxy` and `no_proxy` count, and so do their names in capitals where those in small letters are not
set. `no_proxy` lists host names (with all names below them; a leading dot changes nothing), addresses, networks
(`10.0.0.0/8`), each optionally with `:port`, or `*`. The host itself (`localhost`, loopback addresses) is never asked
through a proxy: to the proxy, these names mean the proxy itself. A proxy of a kind that is not supported is an error,
never a reason to go without it.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from eclctl.dataclass import dataclass
from eclctl.errors import RemoteError
from eclctl.remote.http.addresses import is_loopback, parse_address


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL without credentials, and what its `Proxy-Authorization` header must say, if anything."""

    url: str
    authorization: str | None


def choose(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a URL's scheme, host (lower-case, IPv6 without brackets) and port; None for none.

    Raises:
        RemoteError: the proxy's own URL is not one that can be used.
    """
    named = _variable(environment, f"{scheme}_proxy")
    exempt = _variable(environment, "no_proxy").split(",")
    if not named or _is_self(host) or any(_matches(entry.strip().lower(), host, port) for entry in exempt):
        return None
    return _parse(named, f"{scheme}_proxy")


def _variable(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    return (environment.get(name.upper(), "") if value is None else value).strip()


def _parse(text: str, variable: str) -> Proxy:
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise RemoteError(f"the proxy in {variable} is no URL; correct it or unset it") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise RemoteError(f"the proxy in {variable} is neither http:// nor https://; only such proxies are supported")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    authorization = None
    if parts.username is not None:
        both = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        authorization = "Basic " + base64.b64encode(both).decode("ascii")
    return Proxy(f"{parts.scheme}://{host}" + (f":{port}" if port is not None else ""), authorization)


def _is_self(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or is_loopback(host)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*").removeprefix(".")
    if not entry:
        return False
    address = parse_address(host)
    if address is None:
        return host == entry or host.endswith("." + entry)
    try:
        return address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
