"""The machine-readable index of a keyserver, read strictly (draft-gallagher-openpgp-hkp section 3.2.1).

    info:1:<number of keys>
    pub:<fingerprint or key ID>:<algorithm>:<bits>:<created>:<expires>:<flags>
    uid:<percent-encoded user ID>:<created>:<expires>:<flags>

What is read here is what somebody says about keys, never a key: it is shown, and chooses what may be asked for by its
full fingerprint. Lines of other sorts are passed over, as the draft demands; a field that is not what it must be is an
error, for a server that writes one is none that can be relied on in the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import unquote_to_bytes

from eclctl.errors import RemoteError
from eclctl.signature.openpgp.algorithms import KEY_ALGORITHMS

__all__ = ["MAX_INDEX", "MAX_KEYS", "MAX_USER_IDS", "IndexedKey", "SearchIndex", "parse_search_index"]

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
    """A key as a keyserver's index describes it. All of it is hearsay; texts are unescaped.

    `id` is upper-case hex: the primary fingerprint, or from servers that know no better a key ID. `algorithm` and
    `bits` are None where the server does not say, times where they are not given or cannot be.
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


@dataclass(slots=True)
class _Entry:
    """A key whose user IDs are being read."""

    key: IndexedKey
    user_ids: list[str] = field(default_factory=list)
    more: int = 0

    def done(self) -> IndexedKey:
        key = self.key
        return IndexedKey(
            key.id, key.algorithm, key.bits, key.created, key.expires, key.flags, tuple(self.user_ids), self.more
        )


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
    return _Reader(url).read(lines, int(info[1]))


class _Reader:
    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, lines: list[str], announced: int) -> SearchIndex:
        entries: list[_Entry] = []
        count, kept = 0, True
        for line in lines:
            sort, _, rest = line.rstrip(" \t").partition(":")
            if sort == "pub":
                count += 1
                kept = len(entries) < MAX_KEYS
                if kept:
                    entries.append(_Entry(self._key(rest.split(":"))))
            elif sort == "uid" and kept:
                if not entries:
                    raise RemoteError(f"{self._url} sent a damaged index: a user ID before any key")
                self._user_id(entries[-1], rest.split(":", 1)[0])
        if count != announced:
            raise RemoteError(f"{self._url} sent a damaged index: it announces {announced} keys and lists {count}")
        return SearchIndex(tuple(entry.done() for entry in entries), count - len(entries))

    def _key(self, fields: list[str]) -> IndexedKey:
        name, algorithm, bits, created, expires, flags = (fields + [""] * 6)[:6]
        name = name.upper()
        if _KEY.fullmatch(name) is None:
            raise RemoteError(f"{self._url} sent a damaged index: a key without a fingerprint")
        if _FLAGS.fullmatch(flags) is None:
            raise RemoteError(f"{self._url} sent a damaged index: unknown flags of the key {name}")
        return IndexedKey(
            name,
            self._number(algorithm, name),
            self._number(bits, name),
            self._time(created, name),
            self._time(expires, name),
            frozenset(flags),
        )

    def _number(self, text: str, name: str) -> int | None:
        if text and _NUMBER.fullmatch(text) is None:
            raise RemoteError(f"{self._url} sent a damaged index: a number of the key {name} is none")
        return int(text) if text else None

    def _time(self, text: str, name: str) -> datetime | None:
        """Read seconds since 1970; what lies outside of the calendar is unknown, like what is before OpenPGP's time."""
        if text in {"", "none"}:
            return None
        if _TIME.fullmatch(text) is None:
            raise RemoteError(f"{self._url} sent a damaged index: a time of the key {name} is none")
        seconds = int(text)
        try:
            return _EPOCH + timedelta(seconds=seconds) if seconds > 0 else None
        except OverflowError:
            return None

    @staticmethod
    def _user_id(entry: _Entry, text: str) -> None:
        decoded = unquote_to_bytes(text)
        if len(entry.user_ids) >= MAX_USER_IDS or len(decoded) > _MAX_USER_ID:
            entry.more += 1
        else:
            entry.user_ids.append(decoded.decode("utf-8", "replace"))
