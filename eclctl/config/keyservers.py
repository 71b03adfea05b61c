"""Reads which keyservers are asked: the `keyservers` of config.yaml, and a user's own keys.yaml, as frozen types.

Both say it in the same words. Nothing is asked here; `remote.keyservers.hkp` does that.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from eclctl.config import document
from eclctl.config.document import Mark, Node, Problem, Report
from eclctl.errors import ConfigError
from eclctl.files.guarded import Reader, read_unguarded
from eclctl.text import quoted

MAX_SERVERS: Final = 16
_MAX_URL: Final = 512
_HKP_PORT: Final = 11371
# As `remote.http.client` asks URLs: a host that has one reading, and a path without a query.
_URL: Final = re.compile(
    r"(?P<scheme>hkps?|https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>(?:/[A-Za-z0-9._~%-]+)*)/?"
)
_OWN_HOST: Final = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]", re.IGNORECASE)
_HIGHEST_PORT: Final = 65535


class Keyserver(NamedTuple):
    """One keyserver. `url` is http or https and has no slash at its end; `/pks/…` is put behind it.

    `ca` is a file of PEM certificates that are trusted for its TLS instead of the system's. `token_file` holds a token
    that it alone is sent. Both are paths, or None.
    """

    url: str
    ca: str | None = None
    token_file: str | None = None


class Keyservers(NamedTuple):
    """Keyservers, in the order in which they are asked.

    `refresh` is after how many seconds the daemon asks again about each key that the policy uses; None for never.
    `timeout` is in seconds, for each request.
    """

    servers: tuple[Keyserver, ...] = ()
    refresh: float | None = 6 * 3600.0
    timeout: float = 10.0


def parse_keyserver_url(text: str) -> str:
    """Return a keyserver's URL as http or https; `hkp://` is http on port 11371, `hkps://` is https.

    Raises:
        ConfigError: It is no such URL; one sentence that says what one looks like.
    """
    match = _URL.fullmatch(text) if len(text) <= _MAX_URL else None
    if match is None or (match["port"] is not None and not 0 < int(match["port"]) <= _HIGHEST_PORT):
        raise ConfigError(f"{quoted(text)} is no keyserver; write for instance hkps://keys.example.org")
    scheme, host = match["scheme"], match["host"].lower()
    port = match["port"] or (str(_HKP_PORT) if scheme == "hkp" else None)
    secure = scheme in {"hkps", "https"}
    return f"{'https' if secure else 'http'}://{host}{'' if port is None else f':{int(port)}'}{match['path']}"


def read_user_file(path: str, *, read: Reader = read_unguarded) -> tuple[Keyservers, tuple[Problem, ...]]:
    """Read a user's keys.yaml, `version: 1` and `keyservers`; relative paths in it are relative to its directory.

    Returns:
        The keyservers, and every error. With errors, the keyservers must not be used.
    """
    path = os.path.abspath(path)
    report = Report()
    found = Keyservers()
    try:
        text = read(path, limit=document.MAX_BYTES)
    except ConfigError as error:
        report.error(Mark(path, 0, 0), f"the file {error}")
    else:
        root = document.read_document(path, text, report)
        keys = ("version", "keyservers")
        fields = (None if root is None else document.mapping(root, report, "the file", keys, keys)) or {}
        if "version" in fields:
            document.integer(fields["version"], report, "version", 1, 1)
        if "keyservers" in fields:
            found = read_keyservers(fields["keyservers"], report, os.path.dirname(path))
    return found, tuple(report.errors)


def read_keyservers(node: Node | None, report: Report, base: str) -> Keyservers:
    """Take the mapping `keyservers`; relative paths in it are relative to `base`. Left out, there are none."""
    if node is None:
        return Keyservers()
    found = document.mapping(node, report, "keyservers", ("servers", "refresh", "timeout"), ("servers",)) or {}
    listed = document.items(found["servers"], report, "keyservers.servers") if "servers" in found else None
    if listed is not None and len(listed) > MAX_SERVERS:
        report.error(found["servers"], f"keyservers.servers lists more than {MAX_SERVERS}")
    servers = [server for item in listed or () if (server := _server(item, report, base)) is not None]
    timeout = found.get("timeout")
    seconds = None if timeout is None else document.duration(timeout, report, "keyservers.timeout", low=1.0, high=120.0)
    return Keyservers(
        tuple(dict.fromkeys(servers)), _refresh(found.get("refresh"), report), 10.0 if seconds is None else seconds
    )


def _refresh(node: Node | None, report: Report) -> float | None:
    if node is None:
        return Keyservers().refresh
    if document.is_null(node):
        return None
    return document.duration(node, report, "keyservers.refresh", low=60.0, high=30 * 86400.0)


def _server(node: Node, report: Report, base: str) -> Keyserver | None:
    """Take a URL, or a mapping with one."""
    fields: dict[str, Node] | None = {"url": node}
    if isinstance(node, document.MapNode):
        fields = document.mapping(node, report, "a keyserver", ("url", "ca", "token_file"), ("url",))
    text = None if not fields or "url" not in fields else document.text(fields["url"], report, "a keyserver's url")
    if fields is None or text is None:
        return None
    try:
        url = parse_keyserver_url(text)
    except ConfigError as error:
        report.error(fields["url"], str(error))
        return None
    token_file = _path(fields.get("token_file"), report, "token_file", base)
    if token_file is not None and not _is_read_by_no_other(url):
        report.error(fields["token_file"], "a token would be sent in the clear", "write hkps:// or https:// as the url")
    return Keyserver(url, _path(fields.get("ca"), report, "ca", base), token_file)


def _is_read_by_no_other(url: str) -> bool:
    """Return whether what is sent cannot be read on the way."""
    match = _URL.fullmatch(url)
    return match is not None and (match["scheme"] == "https" or _OWN_HOST.fullmatch(match["host"]) is not None)


def _path(node: Node | None, report: Report, what: str, base: str) -> str | None:
    text = None if node is None else document.text(node, report, f"{what} of a keyserver")
    return None if text is None else os.path.normpath(os.path.join(base, os.path.expanduser(text)))
