"""Which keyservers a command asks: those of `--url`, else the user's keys.yaml, else the site's configuration."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from eclctl.cli.inputs.policies import SYSTEM_CONFIG, named_settings
from eclctl.cli.terminal.parser import add_repeatable
from eclctl.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from eclctl.config.keyservers import Keyservers
    from eclctl.remote.keyservers import hkp
    from eclctl.remote.keyservers.index import IndexedKey

FULL: Final = frozenset({40, 64})
"""Digits of whole fingerprints."""

_DIGITS: Final = re.compile(r"[0-9A-F]{8}|[0-9A-F]{16}|[0-9A-F]{40}|[0-9A-F]{64}")


def add_keyserver_options(parser: argparse._ActionsContainer) -> None:
    """Add the option that names keyservers."""
    text = "ask this keyserver (hkps://HOST, hkp://HOST, https://…), in the order given"
    add_repeatable(parser, "-u", "--url", metavar="URL", text=text)


def user_file(environ: Mapping[str, str]) -> str:
    """Return where a user says which keyservers to ask: eclctl/keys.yaml in $XDG_CONFIG_HOME, by default ~/.config."""
    folder = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):  # the XDG base directory specification: a relative path is ignored
        folder = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return os.path.join(folder, "eclctl", "keys.yaml")


def chosen_keyservers(options: argparse.Namespace) -> Keyservers:
    """Return the keyservers to ask.

    Raises:
        ConfigError: None is named, or what names them is wrong.
    """
    site = getattr(options, "site", False)
    config = getattr(options, "config", None) if site else None
    from eclctl.config.keyservers import Keyservers  # noqa: PLC0415 - as in `configured`

    known = configured(os.environ, config=config, site=site) or Keyservers()
    if options.url:
        return _named(options.url, known)
    if not known.servers:
        file = (config or SYSTEM_CONFIG) if site else user_file(os.environ)
        raise ConfigError(f"no keyserver is named: give --url URL, or list some in {file}")
    return known


def _named(urls: Iterable[str], known: Keyservers) -> Keyservers:
    """Return the servers with these URLs. One that is configured keeps what is configured for it, such as its token."""
    from eclctl.config.keyservers import Keyserver, parse_keyserver_url  # noqa: PLC0415 - as in `configured`

    by_url = {server.url: server for server in known.servers}
    parsed = dict.fromkeys(parse_keyserver_url(url) for url in urls)
    return known._replace(servers=tuple(by_url.get(url, Keyserver(url)) for url in parsed))


def configured(environ: Mapping[str, str], *, config: str | None = None, site: bool = False) -> Keyservers | None:
    """Return the keyservers of the user's file, or of the site's configuration where there is none or `site`.

    Without either file, it returns None.

    Raises:
        ConfigError: The file is wrong.
    """
    own = user_file(environ)
    if not site and os.path.lexists(own):
        from eclctl.config.keyservers import read_user_file  # noqa: PLC0415 - many users have no such file

        found, problems = read_user_file(own)
        if problems:
            raise ConfigError("; ".join(str(problem) for problem in problems[:3]))
        return found
    path = config or SYSTEM_CONFIG
    if config is None and not os.access(path, os.R_OK):
        return None
    return named_settings(path, ConfigError).keyservers


def hex_digits(text: str) -> str | None:
    """Return the upper-case digits of a fingerprint or key ID, with or without 0x and spaces; None for other words."""
    digits = re.sub(r"\s", "", text).upper().removeprefix("0X")
    return digits if _DIGITS.fullmatch(digits) else None


def why_not_received(tried: hkp.Tried, fingerprint: str) -> str:
    """Warn of what servers did wrong beside an answer that counts; return why there is none, "" when there is one."""
    from eclctl.remote.keyservers import hkp  # noqa: PLC0415 - only who asked a keyserver has something to explain

    if tried.found is not None:
        from eclctl.cli.inputs.keyrings import print_warnings  # noqa: PLC0415 - likewise

        print_warnings([answer.why for answer in tried.answers if answer.why])
        return ""
    reasons = [answer.why or f"{answer.url} has no such key" for answer in tried.answers]
    verb = "has" if all(answer.result is hkp.Result.ABSENT for answer in tried.answers) else "gave"
    return f"no keyserver {verb} the key {fingerprint}: {'; '.join(reasons)}"


def index_as_json(key: IndexedKey) -> dict[str, Any]:
    """Return the shape of a key in an index, in JSON."""
    return {
        "id": key.id,
        "fingerprint": key.fingerprint,
        "algorithm": key.algorithm_name,
        "bits": key.bits,
        "created": None if key.created is None else key.created.isoformat(),
        "expires": None if key.expires is None else key.expires.isoformat(),
        "status": key.status,
        "users": list(key.user_ids),
        "more_users": key.more,
    }
