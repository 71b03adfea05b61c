"""Reads the files that grant subordinate IDs, and says what is wrong with them.

A file that is missing grants nothing. One that cannot be read, that others than root can write, or that is too large
is not believed: the ranges that were read before stay, and where there are none, `NOT_READ` stands for all owners.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final, NamedTuple

from eclctl.config.subordinate_ids import (
    MANY,
    MOST_LINES,
    NO_RANGES,
    NOT_READ,
    Overlap,
    Ranges,
    TooManyLinesError,
    other_sources,
    parse_ids,
    parse_ranges,
    person_of,
)
from eclctl.errors import ConfigError
from eclctl.files.guarded import Reader, read_guarded

__all__ = [
    "NOTHING",
    "SYSTEM",
    "Files",
    "Granted",
    "SubordinateIds",
    "read_subordinate_ids",
    "state_of",
    "status_fields",
]

_MIB: Final = 1024 * 1024
_LIMIT: Final = 16 * _MIB
_SHOWN: Final = 20
_SETTLED: Final = 2.0  # seconds after which a file's clock has moved on
_COUNTED: Final = 10_000  # overlaps and accounts in ranges are counted up to here


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
    problem: why the file was not believed, in one sentence, else None.
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


_ANYBODYS: Final = Ranges((0,), (NOT_READ,))


@dataclass(frozen=True, slots=True)
class SubordinateIds:
    """What all files say; `not_read` is what `subid:` in nsswitch.conf names beside files, else None."""

    uids: Granted
    gids: Granted
    not_read: str | None = None


NOTHING: Final = SubordinateIds(Granted(SYSTEM.subuid), Granted(SYSTEM.subgid))


def read_subordinate_ids(
    files: Files, before: SubordinateIds | None = None, reader: Reader = read_guarded
) -> SubordinateIds:
    """Read all files; `before` is what was read of them the last time. Blocks; never raises for what it reads."""
    users, groups = (_local(path, reader) for path in (files.passwd, files.group))
    grant = partial(_granted, reader=reader, names=users)
    return SubordinateIds(
        grant(files.subuid, None if before is None else before.uids, frozenset(users.values()), people=True),
        grant(files.subgid, None if before is None else before.gids, frozenset(groups.values()), people=False),
        _not_read(files.nsswitch, reader),
    )


def _granted(
    path: str, before: Granted | None, local: frozenset[int], *, reader: Reader, names: Mapping[str, int], people: bool
) -> Granted:
    try:
        parsed = parse_ranges(reader(path, limit=_LIMIT))
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Granted(path, local=local)
        problem = str(error)
    except TooManyLinesError:
        problem = f"has more than {MOST_LINES} lines"
    else:
        overlaps = list(islice(parsed.ranges.overlaps(names), _COUNTED))
        held = list(islice(_accounts(parsed.ranges, local, names if people else None), _COUNTED))
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
            *_holders(parsed.ranges, names),
        )
    if before is None or before.ranges is _ANYBODYS:
        return Granted(path, _ANYBODYS, f"{problem}; whose a subordinate ID is cannot be told", local=local)
    return Granted(path, before.ranges, f"{problem}; the ranges read before stay in force", local=local)


def _accounts(ranges: Ranges, local: frozenset[int], names: Mapping[str, int] | None) -> Iterator[Overlap]:
    """Yield the accounts in ranges of others than themselves, or without `names` the groups in any range."""
    for number in sorted(local):
        owners = ranges.owners_of(number)
        if owners and (owners is MANY or names is None or any(person_of(each, names) != number for each in owners)):
            yield Overlap(number, number, owners)


def _holders(ranges: Ranges, names: Mapping[str, int]) -> tuple[frozenset[int], bool]:
    people = {person_of(word, names) for words in ranges.owners for word in words}
    numbers = frozenset(each for each in people if isinstance(each, int))
    return numbers, len(numbers) < len(people)  # of `MANY`, the one word is no number


def _local(path: str, reader: Reader) -> dict[str, int]:
    try:
        return parse_ids(reader(path, limit=_LIMIT))
    except ConfigError:
        return {}  # the name service is asked for each of them


def _not_read(path: str, reader: Reader) -> str | None:
    try:
        return other_sources(reader(path, limit=_MIB))
    except ConfigError:
        return None


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
