"""The users and groups of this host, as its name service knows them."""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eclctl.dataclass import dataclass, field
from eclctl.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eclctl.config.document import Report, Scalar
    from eclctl.model import Caller

_HIGHEST_ID: Final = 0xFFFFFFFE  # uid_t and gid_t; the next one stands for "none"
_NUMBER: Final = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Names:
    """How names of users and groups become numbers, while a policy loads and never later; and this host's own name."""

    user: Callable[[str], int | None]
    group: Callable[[str], int | None]
    host: str = field(default_factory=lambda: os.uname().nodename)


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):
        return None


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None


NAMES: Final = Names(user=_uid, group=_gid)


def numbers_of(
    words: Iterable[Scalar], report: Report, sort: str, resolve: Callable[[str], int | None]
) -> frozenset[int]:
    """Return the numbers of users or groups that are given by name or number, and report those that there are not.

    Args:
        words: the names and numbers.
        report: takes what is wrong.
        sort: `user` or `group`.
        resolve: the number of a name, or None.
    """
    numbers: set[int] = set()
    for word in words:
        number = int(word.text) if _NUMBER.fullmatch(word.text) else resolve(word.text)
        if number is None or number > _HIGHEST_ID:
            report.error(word, f"there is no {sort} {quoted(word.text)} on this host")
        else:
            numbers.add(number)
    return frozenset(numbers)


def subject(uid: int) -> Caller | None:
    """The user that root asks for, with the groups that the system's databases give them; None when unknown.

    Blocking: a name service may sit on the network.
    """
    try:
        entry = pwd.getpwuid(uid)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except (KeyError, OSError):
        return None
    from eclctl.model import Caller  # noqa: PLC0415 - who only looks up names asks for no caller

    return Caller(uid, entry.pw_gid, frozenset(groups) | {entry.pw_gid})
