"""Subordinate IDs: what /etc/subuid and /etc/subgid grant, as a frozen table that answers by bisection.

A line is `owner:first:count` (subuid(5)). Lines are read as newuidmap(1) reads them, so that no range counts there and
not here: numbers may be octal (0…) or hexadecimal (0x…), and what follows a fourth colon is ignored. A line that grants
nothing is reported and skipped. What reads text is pure; `read_subordinate_ids` reads the files.

A file that is missing grants nothing. One that cannot be read, that others than root can write, or that is too large
is not trusted: the ranges that were read before stay, and where there are none, `NOT_READ` stands for all owners.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Final, NamedTuple

from eclctl.dataclass import dataclass
from eclctl.errors import ConfigError
from eclctl.files.guarded import Reader, read_guarded

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
_LIMIT: Final = 16 * 1024 * 1024
_SHOWN: Final = 20
_SETTLED: Final = 2.0  # seconds after which a file's clock has moved on
_COUNTED: Final = 10_000  # overlaps and accounts in ranges are counted up to here


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

    Raises ConfigError when it has more than `MOST_LINES`.
    """
    found: list[Range] = []
    malformed: list[int] = []
    wrong = 0
    if data.count(b"\n") > MOST_LINES:
        raise ConfigError(f"has more than {MOST_LINES} lines")
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


class Files(NamedTuple):
    """Where the files are."""

    subuid: str = "/etc/subuid"
    subgid: str = "/etc/subgid"
    passwd: str = "/etc/passwd"  # noqa: S105 - a file name
    group: str = "/etc/group"
    nsswitch: str = "/etc/nsswitch.conf"


SYSTEM: Final = Files()


@dataclass(frozen=True, slots=True)
class Granted:
    """What one file grants.

    ranges: in force.
    problem: why the file was not trusted, in one sentence, else None.
    malformed: numbers of the first lines that grant nothing though they seem to; `malformed_count` counts all.
    local: the IDs of the accounts, or groups, of this host's own file.
    overlaps: IDs in ranges of several owners, the first of `overlap_count`.
    accounts: local IDs in ranges of others, the first of `account_count`, with the owners.
    holders: the uids of owners, as far as they are numbers or accounts of this host's own file; `strangers` tells
        whether there are others.
    """

    file: str
    ranges: Ranges = NO_RANGES
    problem: str | None = None
    malformed: tuple[int, ...] = ()
    malformed_count: int = 0
    local: frozenset[int] = frozenset()
    overlaps: tuple[Overlap, ...] = ()
    overlap_count: int = 0
    accounts: tuple[Overlap, ...] = ()
    account_count: int = 0
    holders: frozenset[int] = frozenset()
    strangers: bool = False


_OWNERS_UNKNOWN: Final = Ranges((0,), (NOT_READ,))


@dataclass(frozen=True, slots=True)
class SubordinateIds:
    """What all files say; `not_read` is what `subid:` in nsswitch.conf names beside files, else None."""

    uids: Granted
    gids: Granted
    not_read: str | None = None


def read_subordinate_ids(
    files: Files, before: SubordinateIds | None = None, reader: Reader = read_guarded
) -> SubordinateIds:
    """Read all files; `before` is what was read of them the last time. Blocks; never raises for what it reads."""
    users, groups = (parse_ids(_content(path, reader)) for path in (files.passwd, files.group))
    grant = partial(_granted, reader=reader, names=users)
    return SubordinateIds(
        grant(files.subuid, None if before is None else before.uids, frozenset(users.values()), users=True),
        grant(files.subgid, None if before is None else before.gids, frozenset(groups.values()), users=False),
        other_sources(_content(files.nsswitch, reader)),
    )


def _granted(
    path: str, before: Granted | None, local: frozenset[int], *, reader: Reader, names: Mapping[str, int], users: bool
) -> Granted:
    try:
        parsed = parse_ranges(reader(path, limit=_LIMIT))
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Granted(path, local=local)
        problem = str(error)
    else:
        overlaps = list(islice(parsed.ranges.overlaps(names), _COUNTED))
        held = list(islice(_accounts(parsed.ranges, local, names if users else None), _COUNTED))
        people = {person_of(word, names) for words in parsed.ranges.owners for word in words}
        holders = frozenset(each for each in people if isinstance(each, int))
        return Granted(
            path,
            parsed.ranges,
            None,
            parsed.malformed,
            parsed.malformed_count,
            local,
            tuple(overlaps[:_SHOWN]),
            len(overlaps),
            tuple(held[:_SHOWN]),
            len(held),
            holders,
            len(holders) < len(people),  # of `MANY`, the one word is no number
        )
    if before is None or before.ranges is _OWNERS_UNKNOWN:
        return Granted(path, _OWNERS_UNKNOWN, f"{problem}; whose a subordinate ID is cannot be told", local=local)
    return Granted(path, before.ranges, f"{problem}; the ranges read before stay in force", local=local)


def _accounts(ranges: Ranges, local: frozenset[int], names: Mapping[str, int] | None) -> Iterator[Overlap]:
    """Yield the accounts in ranges of others than themselves, or without `names` the groups in any range."""
    for number in sorted(local):
        owners = ranges.owners_of(number)
        if owners and (owners is MANY or names is None or any(person_of(each, names) != number for each in owners)):
            yield Overlap(number, number, owners)


def _content(path: str, reader: Reader) -> bytes:
    """Return what a file holds; nothing when it cannot be read: then the name service is asked about each account."""
    try:
        return reader(path, limit=_LIMIT)
    except ConfigError:
        return b""


def state_of(files: Files, now: float) -> tuple[object, ...]:
    """Return what differs when one of the files has changed; `now` is in seconds since the epoch.

    The state of a file that changed just now equals no other: it may change again within the same tick of its clock.
    """
    return tuple(_state(path, now) for path in files)


def _state(path: str, now: float) -> object:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno
    if found.st_ctime > now - _SETTLED:
        return object()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def status_fields(found: SubordinateIds) -> dict[str, Any]:
    """Return what `status` shows, as plain JSON."""
    return {"uids": _shown(found.uids), "gids": _shown(found.gids), "not_read": found.not_read}


def _shown(granted: Granted) -> dict[str, Any]:
    return {
        "file": granted.file,
        "ranges": granted.ranges.count,
        "problem": granted.problem,
        "malformed": granted.malformed_count,
        "malformed_lines": list(granted.malformed),
        "overlaps": granted.overlap_count,
        "overlapping": _listed(granted.overlaps),
        "accounts": granted.account_count,
        "holding": _listed(granted.accounts),
    }


def _listed(overlaps: Iterable[Overlap]) -> list[dict[str, Any]]:
    return [
        {"first": each.first, "last": each.last, "owners": None if each.owners is MANY else list(each.owners)}
        for each in overlaps
    ]
