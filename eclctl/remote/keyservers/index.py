"""The machine-readable index of a keyserver, read strictly (draft-gallagher-openpgp-hkp section 3.2.1).

    info:1:<number of keys>
    pub:<fingerprint or key ID>:<algorithm>:<bits>:<created>:<expires>:<flags>
    uid:<percent-encoded user ID>:<created>:<expires>:<flags>

An index holds statements about keys, never a key. It is shown, and chooses what may be asked for by its full
fingerprint. Lines of other sorts are passed over, as the draft demands. A field that is not what it must be is an
error: the rest of such an index cannot be relied on either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import unquote_to_bytes

from eclctl.dataclass import dataclass
from eclctl.errors import RemoteError
from eclctl.signature.openpgp.algorithms import KEY_ALGORITHMS

MAX_INDEX: Final = 1 << 20
"""Bytes of an index that are read."""

MAX_KEYS: Final = 500
"""Keys of an index that are kept; `SearchIndex.more` counts the others."""

MAX_USER_IDS: Final = 32
"""User IDs of one key that are kept; `IndexedKey.more` counts the others."""

_MAX_USER_ID: Final = 2048  # as GnuPG's own limit on user IDs, in bytes
_INFO: Final = re.compile(r"info:1:([0-9]{1,9})")
_KEY: Final = re.compile(r"(?:[0-9A-F]{8}|[0-9A-F]{16}|[0-9A-F]{32}|[0-9A-F]{40}|[0-9A-F]{64})")
_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_TIME: Final = re.compile(r"-?[0-9]{1,12}")
_FLAGS: Final = re.compile(r"[rde]*")
_FULL: Final = frozenset({40, 64})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class IndexedKey:
    """A key as a keyserver's index describes it. Nothing of it is proven; texts are unescaped.

    Attributes:
        id: The primary fingerprint in upper-case hex; from some servers only a key ID.
        algorithm: Its number (RFC 9580 section 9.1), None where the server does not say.
        bits: Its length, None where the server does not say.
        created: None where the server gives no time, or one outside of the calendar.
        expires: As `created`; also None for never.
        flags: `r` for revoked, `d` for disabled, `e` for expired.
        user_ids: The first of them.
        more: How many user IDs were left out.
    """

    id: str
    algorithm: int | None
    bits: int | None
    created: datetime | None
    expires: datetime | None
    flags: frozenset[str]
    user_ids: tuple[str, ...] = ()
    more: int = 0

    @property
    def fingerprint(self) -> str | None:
        """The whole fingerprint, None where the server named less."""
        return self.id if len(self.id) in _FULL else None

    @property
    def short(self) -> str:
        """The key ID of 8 digits (RFC 9580 section 5.5.4: the end of a version 4 fingerprint, the front of a later)."""
        return self.id[:8] if len(self.id) == 64 else self.id[-8:]  # noqa: PLR2004 - digits of a V6 fingerprint

    @property
    def algorithm_name(self) -> str:
        """The algorithm in a word."""
        return "unknown" if self.algorithm is None else KEY_ALGORITHMS.get(self.algorithm, "unknown")

    @property
    def status(self) -> str:
        """What the server says of the key: revoked, disabled, expired or enabled."""
        words = {"r": "revoked", "d": "disabled", "e": "expired"}
        return next((word for flag, word in words.items() if flag in self.flags), "enabled")


@dataclass(frozen=True, slots=True)
class SearchIndex:
    """What a keyserver lists, in its order. `more` counts the keys that were left out."""

    keys: tuple[IndexedKey, ...]
    more: int = 0


class _DamagedError(Exception):
    """A line or a field of an index is not what it must be."""


def parse_search_index(body: bytes, url: str) -> SearchIndex:
    """Read an index.

    Args:
        body: What the server sent, of at most `MAX_INDEX` bytes.
        url: For messages; printable.

    Raises:
        RemoteError: It is no such index.
    """
    lines = body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    info = next((match for line in lines if (match := _INFO.fullmatch(line.rstrip()))), None)
    if info is None:
        raise RemoteError(f"{url} sent no machine-readable index; is it a keyserver?")
    try:
        return _read(lines, int(info[1]))
    except _DamagedError as error:
        raise RemoteError(f"{url} sent a damaged index: {error}") from None


def _read(lines: Sequence[str], announced: int) -> SearchIndex:
    listed: list[tuple[str, list[str]]] = []  # a key's line, and its user IDs
    for line in lines:
        sort, _, rest = line.rstrip(" \t").partition(":")
        if sort == "pub":
            listed.append((rest, []))
        elif sort == "uid":
            if not listed:
                raise _DamagedError("a user ID before any key")
            listed[-1][1].append(rest.partition(":")[0])
    if len(listed) != announced:
        raise _DamagedError(f"it announces {announced} keys and lists {len(listed)}")
    keys = tuple(_key(rest.split(":"), user_ids) for rest, user_ids in listed[:MAX_KEYS])
    return SearchIndex(keys, len(listed) - len(keys))


def _key(fields: Sequence[str], user_ids: Sequence[str]) -> IndexedKey:
    name, algorithm, bits, created, expires, flags = (*fields, *[""] * 6)[:6]
    name = name.upper()
    if _KEY.fullmatch(name) is None:
        raise _DamagedError("a key without a fingerprint")
    if _FLAGS.fullmatch(flags) is None:
        raise _DamagedError(f"unknown flags of the key {name}")
    decoded = [data for data in map(unquote_to_bytes, user_ids) if len(data) <= _MAX_USER_ID][:MAX_USER_IDS]
    return IndexedKey(
        name,
        _number(algorithm, name),
        _number(bits, name),
        _time(created, name),
        _time(expires, name),
        frozenset(flags),
        tuple(data.decode("utf-8", "replace") for data in decoded),
        len(user_ids) - len(decoded),
    )


def _number(text: str, name: str) -> int | None:
    if text and _NUMBER.fullmatch(text) is None:
        raise _DamagedError(f"the key {name} has a length or algorithm that is not a number")
    return int(text) if text else None


def _time(text: str, name: str) -> datetime | None:
    """Read seconds since 1970; what lies outside of the calendar is unknown, like what is before OpenPGP's time."""
    if text in {"", "none"}:
        return None
    if _TIME.fullmatch(text) is None:
        raise _DamagedError(f"the key {name} has a time that is not a number of seconds")
    seconds = int(text)
    try:
        return _EPOCH + timedelta(seconds=seconds) if seconds > 0 else None
    except OverflowError:
        return None
