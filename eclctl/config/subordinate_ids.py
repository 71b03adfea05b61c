"""Ranges of subordinate IDs: what /etc/subuid and /etc/subgid grant, as a frozen table that answers by bisection.

A line is `owner:first:count` (subuid(5)). Lines are read as newuidmap(1) reads them, so that no range counts there and
not here: numbers may be octal (0…) or hexadecimal (0x…), and what follows a fourth colon is ignored. A line that grants
nothing is reported and skipped. Nothing here does I/O.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

__all__ = [
    "MANY",
    "MOST_LINES",
    "MOST_OWNERS",
    "NOT_READ",
    "NO_RANGES",
    "Overlap",
    "ParsedRanges",
    "Range",
    "Ranges",
    "TooManyLinesError",
    "other_sources",
    "parse_ids",
    "parse_ranges",
    "person_of",
    "table",
]

MOST_LINES: Final = 200_000
"""Lines of one file; a file with more is not read at all."""

MOST_OWNERS: Final = 16
"""Owners of one ID who are told apart."""

MANY: Final = ("",)
"""Stands for the owners of an ID that lies in ranges of more than `MOST_OWNERS`; no owner has an empty name."""

NOT_READ: Final = ("", "")
"""Stands for the owners of any ID when the file could not be read."""

_HIGHEST: Final = 2**32 - 2  # 2**32 - 1 is no ID (chown(2))
_LONGEST_LINE: Final = 1023  # bytes; longer lines grant nothing (shadow, subordinateio.c)
_FIELDS: Final = 3
_NUMBER: Final = re.compile(rb"[ \t\v\f\r]*\+?(?:(0[xX][0-9a-fA-F]{1,16})|(0[0-7]{0,22})|([1-9][0-9]{0,19}))")
_MOST_MALFORMED: Final = 20


class TooManyLinesError(ValueError):
    """A file has more than `MOST_LINES`."""


class Range(NamedTuple):
    """IDs from `first` to `last`, both inclusive, and the word that names their owner: a user name or a uid."""

    owner: str
    first: int
    last: int


class Overlap(NamedTuple):
    """IDs that lie in ranges of several owners; `owners` is `MANY` when there are too many to name."""

    first: int
    last: int
    owners: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ranges:
    """Who owns each ID.

    starts: the IDs at which the owners change, ascending.
    owners: for each of these, the owners from there to the next: sorted words, `MANY` or `NOT_READ`.
    count: ranges in the file.
    """

    starts: tuple[int, ...] = ()
    owners: tuple[tuple[str, ...], ...] = ()
    count: int = 0

    def owners_of(self, number: int) -> tuple[str, ...]:
        """Return the owners of an ID: none, sorted words, `MANY` or `NOT_READ`."""
        at = bisect_right(self.starts, number)
        return self.owners[at - 1] if at else ()

    def overlaps(self, numbers: Mapping[str, int]) -> Iterator[Overlap]:
        """Yield what lies in ranges of several owners, ascending; `numbers` has the uids of names, as far as known.

        A name and the number of the same user are one owner.
        """
        for at, (first, owners) in enumerate(zip(self.starts, self.owners, strict=True), 1):
            end = self.starts[at] if at < len(self.starts) else _HIGHEST + 1
            if owners is MANY or len({person_of(owner, numbers) for owner in owners}) > 1:
                yield Overlap(first, end - 1, owners)


NO_RANGES: Final = Ranges()


@dataclass(frozen=True, slots=True)
class ParsedRanges:
    """What a file holds; `malformed` are the numbers of the first lines that grant nothing though they seem to."""

    ranges: Ranges
    malformed: tuple[int, ...] = ()
    malformed_count: int = 0


def parse_ranges(data: bytes) -> ParsedRanges:
    """Read the text of /etc/subuid or /etc/subgid.

    Raises TooManyLinesError when it has more than `MOST_LINES`.
    """
    found: list[Range] = []
    malformed: list[int] = []
    wrong = 0
    if data.count(b"\n") > MOST_LINES:
        raise TooManyLinesError
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        parsed = _range(line)
        if parsed is None:
            wrong += 1
            if len(malformed) < _MOST_MALFORMED:
                malformed.append(number)
        elif parsed.first <= parsed.last:
            found.append(parsed)
    return ParsedRanges(table(found), tuple(malformed), wrong)


def _range(line: bytes) -> Range | None:
    """Return the range of a line, empty when it has no IDs; None when the line is malformed."""
    fields = line.split(b":")  # what follows the third field is ignored
    if len(line) > _LONGEST_LINE or len(fields) < _FIELDS or not fields[0] or line.startswith((b"+", b"-")):
        return None
    first, count = _number(fields[1]), _number(fields[2])
    if first is None or count is None or first > _HIGHEST:
        return None
    return Range(fields[0].decode("utf-8", "surrogateescape"), first, min(first + count - 1, _HIGHEST))


def _number(text: bytes) -> int | None:
    """Read a number as strtoul(3) with base 0 does."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    return int(match[0], 16) if match[1] else int(match[0], 8) if match[2] else int(match[0])


def person_of(owner: str, numbers: Mapping[str, int]) -> str | int:
    """Return the uid of an owner, as far as it is a number or among the uids of names, else the word."""
    return int(owner) if owner.isascii() and owner.isdigit() else numbers.get(owner, owner)


def table(ranges: Sequence[Range]) -> Ranges:
    """Make the table of ranges, which come in any order and may overlap."""
    edges = [(each.first, 1, each.owner) for each in ranges]
    edges += [(each.last + 1, -1, each.owner) for each in ranges]
    edges.sort(key=itemgetter(0))
    active: Counter[str] = Counter()
    starts: list[int] = []
    owners: list[tuple[str, ...]] = []
    for at, changes in groupby(edges, key=itemgetter(0)):
        for _, step, owner in changes:
            active[owner] += step
            if not active[owner]:
                del active[owner]
        now = MANY if len(active) > MOST_OWNERS else tuple(sorted(active))
        if now != (owners[-1] if owners else ()):
            starts.append(at)
            owners.append(now)
    return Ranges(tuple(starts), tuple(owners), len(ranges))


def parse_ids(data: bytes) -> dict[str, int]:
    """Return the ID of each name in the text of /etc/passwd or /etc/group; lines without one are skipped."""
    found: dict[str, int] = {}
    for line in data.split(b"\n"):
        fields = line.split(b":", _FIELDS)
        if len(fields) > _FIELDS - 1 and fields[0] and fields[2].isdigit() and int(fields[2]) <= _HIGHEST:
            found.setdefault(fields[0].decode("utf-8", "surrogateescape"), int(fields[2]))
    return found


def other_sources(data: bytes) -> str | None:
    """Return what `subid:` in the text of /etc/nsswitch.conf names when that is not `files` alone, else None."""
    for line in data.split(b"\n"):
        name, colon, rest = line.partition(b"#")[0].partition(b":")
        if colon and name.strip().lower() == b"subid":
            words = rest.split()
            return None if words == [b"files"] else b" ".join(words).decode("utf-8", "replace") or "nothing"
    return None
