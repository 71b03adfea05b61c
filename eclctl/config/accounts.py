"""The users and groups of this host, as its name service knows them."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eclctl.model import Caller

__all__ = ["NAMES", "Names", "subject"]


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
