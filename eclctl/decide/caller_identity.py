"""Whose rules apply to a caller: the person behind subordinate uids and gids.

A process in a user namespace can connect with any uid and gid of its user's ranges in /etc/subuid and /etc/subgid.
Rules:

1. A uid outside all ranges is itself. So is the uid of an account; where ranges hold it too, the deny rules of their
   owners apply as well.
2. Any other uid in the ranges of one owner is that owner: all rules for the owner, and for the owner's groups, apply.
3. Any other uid in ranges of several owners is none of them: no rule that names users is for it, but deny rules of
   each owner.
4. A gid outside all ranges is itself, and the gid of a group is that group. Any other gid stands for its one owner's
   groups, in rules that allow only if that owner is the user whose rules apply: a program that is setgid to a
   subordinate gid must not make its callers another user. Deny rules of all owners of gids apply.
5. Deny rules that name the caller's own numbers always apply.
6. A user with subordinate gids can leave their groups behind: deny rules of all groups that the host's databases give
   such a user apply.
7. An owner that this host does not know may be any user: every deny rule that names users or groups applies.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Protocol

from eclctl.config.subordinate_ids import (
    MANY,
    NOT_READ,
    SYSTEM,
    Granted,
    SubordinateIds,
    read_subordinate_ids,
)
from eclctl.dataclass import replace
from eclctl.model import Caller, Identity
from eclctl.text import quoted

MOST_GIDS: Final = 256
"""Gids of one caller in ranges that are looked up; with more, nothing is known of any of them."""

_SHOWN: Final = 3


class Owner(NamedTuple):
    """A user, with all groups that the host's databases give them."""

    uid: int
    groups: frozenset[int]


class Accounts(Protocol):
    """What the host knows of users and groups. Every method may block for as long as a name service takes."""

    def is_user(self, uid: int) -> bool:
        """Whether a uid is an account's."""

    def is_group(self, gid: int) -> bool:
        """Whether a gid is a group's."""

    def owner(self, word: str) -> Owner | None:
        """Return the user that a name or a number means, None when the host knows none."""


class NameService:
    """The host's own databases (nsswitch.conf)."""

    def is_user(self, uid: int) -> bool:
        """As `Accounts` has it."""
        try:
            pwd.getpwuid(uid)
        except (KeyError, OSError):
            return False
        return True

    def is_group(self, gid: int) -> bool:
        """As `Accounts` has it."""
        try:
            grp.getgrgid(gid)
        except (KeyError, OSError):
            return False
        return True

    def owner(self, word: str) -> Owner | None:
        """As `Accounts` has it."""
        try:
            entry = pwd.getpwuid(int(word)) if word.isascii() and word.isdigit() else pwd.getpwnam(word)
            groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        except (KeyError, ValueError, OverflowError, OSError):
            return None
        return Owner(entry.pw_uid, frozenset(groups) | {entry.pw_gid})


def has_subordinate_ids(caller: Caller, known: SubordinateIds) -> bool:
    """Tell whether any ID of a caller lies in a range, so that `identify` has something to find out."""
    if known.uids.ranges.owners_of(caller.uid) or _has_gids(caller.uid, known):
        return True
    inside = known.gids.ranges.owners_of
    return bool(known.gids.ranges.starts) and any(inside(gid) for gid in (caller.gid, *caller.groups))


def _has_gids(uid: int, known: SubordinateIds) -> bool:
    """Whether a user has subordinate gids, or may have: only the name service knows all names."""
    holders, strangers = known.gids.holders, known.gids.strangers
    return uid != 0 and (uid in holders or (strangers and uid not in known.uids.local))


def identify(caller: Caller, known: SubordinateIds, accounts: Accounts) -> Caller:
    """Return a caller with the identity that rules know them by. Blocks where `accounts` does.

    Args:
        caller: the numbers that the kernel says, or that a user is known to have.
        known: the ranges.
        accounts: tells accounts from subordinate IDs, and who the owners are.
    """
    if not has_subordinate_ids(caller, known):
        return caller
    user = _user(caller, known.uids, accounts)
    groups = _groups(caller, known.gids, accounts, user.uid)
    left = accounts.owner(str(caller.uid)) if user.account and _has_gids(caller.uid, known) else None
    named = groups.own | user.groups
    behind = user.owners.people | groups.owners.people
    uids = frozenset({caller.uid, *(each.uid for each in behind)}) - {user.uid}
    gids = frozenset({caller.gid, *caller.groups}.union(*(each.groups for each in behind))) - named
    behind_gids = frozenset() if left is None else left.groups - named - gids
    gids |= behind_gids
    unknown = not (user.owners.known and groups.owners.known)
    if user.uid == caller.uid and not (uids or gids or unknown) and named == {caller.gid, *caller.groups}:
        return caller
    if unknown:
        uids = gids = frozenset()  # every deny rule is for them, and a caller can have 65,536 gids
    person = _crowd(user.owners.words) if user.uid is None else user.uid
    notes = _user_note(caller.uid, user, known.uids), _group_note(groups, known.gids), _left_note(behind_gids)
    note = "; ".join(filter(None, notes))
    return replace(caller, identity=Identity(user.uid, named, uids, gids, unknown, person, note))


def unidentified(caller: Caller, known: SubordinateIds) -> Caller:
    """Return what a caller counts as while the name service does not answer: only local accounts are known."""
    found = identify(caller, known, _Silent())
    if _has_gids(caller.uid, known):
        own = found.identity or Identity(caller.uid, frozenset({caller.gid, *caller.groups}), person=caller.uid)
        found = replace(caller, identity=replace(own, unknown=True))
    if found.identity is None:
        return caller
    note = f"who uid {caller.uid} is cannot be looked up now: every rule that denies some users or groups applies"
    return replace(found, identity=replace(found.identity, note=note))


class _Silent:
    """Knows no account."""

    def is_user(self, uid: int) -> bool:
        del uid
        return False

    def is_group(self, gid: int) -> bool:
        del gid
        return False

    def owner(self, word: str) -> Owner | None:
        del word
        return None


class _Owners(NamedTuple):
    """The owners of IDs: the people who are known, whether these are all, and the words of the ranges."""

    people: frozenset[Owner] = frozenset()
    known: bool = True
    words: tuple[str, ...] = ()

    @property
    def only(self) -> Owner | None:
        """The one owner."""
        return next(iter(self.people)) if self.known and len(self.people) == 1 else None


class _User(NamedTuple):
    """The user whose rules apply, None for none; groups that come with the user; who else owns the uid."""

    uid: int | None
    groups: frozenset[int]
    owners: _Owners
    account: bool


class _Groups(NamedTuple):
    """The groups whose rules apply, and the owners of those gids that lie in ranges, as `first` does."""

    own: frozenset[int]
    owners: _Owners
    first: int | None


def _owners(words: tuple[str, ...], accounts: Accounts) -> _Owners:
    if words in {MANY, NOT_READ}:
        return _Owners(known=False, words=words)
    people = [accounts.owner(word) for word in words]
    return _Owners(frozenset(each for each in people if each is not None), None not in people, words)


def _user(caller: Caller, granted: Granted, accounts: Accounts) -> _User:
    words = granted.ranges.owners_of(caller.uid)
    account = not words or caller.uid in granted.local or accounts.is_user(caller.uid)
    owners = _Owners() if account and words == NOT_READ else _owners(words, accounts)
    if account or owners.only is None:
        return _User(caller.uid if account else None, frozenset(), owners, account)
    return _User(owners.only.uid, owners.only.groups, owners, account)


def _groups(caller: Caller, granted: Granted, accounts: Accounts, uid: int | None) -> _Groups:
    every = {caller.gid, *caller.groups}
    inside = {gid: words for gid in sorted(every) if (words := granted.ranges.owners_of(gid))}
    own = every - inside.keys()
    first = next(iter(inside), None)
    if len(inside) > MOST_GIDS:
        return _Groups(frozenset(own), _Owners(known=False), first)
    owners = {words: _owners(words, accounts) for words in set(inside.values())}
    concerned: list[_Owners] = []
    for gid, words in inside.items():
        group = gid in granted.local or accounts.is_group(gid)
        only = owners[words].only
        if group:
            own.add(gid)
        elif only is not None and only.uid == uid:
            own |= only.groups
        if not (group and words == NOT_READ):
            concerned.append(owners[words])
    people = frozenset[Owner]().union(*(each.people for each in concerned))
    words = () if first is None else inside[first]
    return _Groups(frozenset(own), _Owners(people, all(each.known for each in concerned), words), first)


def _crowd(words: tuple[str, ...]) -> str:
    """Return what those who share a uid have their limits under; no uid looks like it."""
    return {MANY: "many", NOT_READ: "unknown"}.get(words, "owners " + ":".join(words))


def _user_note(uid: int, user: _User, granted: Granted) -> str:
    owners = user.owners
    if not owners.words or (user.account and {each.uid for each in owners.people} == {uid}):
        return ""
    who, where = _whose(owners.words), f"({granted.file})"
    if user.account:
        text = f"uid {uid} is an account, and lies in {who} {where}: rules that deny an owner apply as well"
    elif owners.only is not None:
        text = f"uid {uid} is no account, and lies in {who} {where}: it counts as uid {owners.only.uid}"
    else:
        text = f"uid {uid} is no account, and lies in {who} {where}: only rules that deny users or groups are for it"
    rest = "; not every owner is known, so all rules that deny some users or groups apply"
    return text if owners.known else text + rest


def _group_note(groups: _Groups, granted: Granted) -> str:
    if groups.first is None:
        return ""
    text = f"gid {groups.first} lies in {_whose(groups.owners.words)} ({granted.file}): rules that deny an owner apply"
    return text if groups.owners.known else f"{text}, and as not every owner is known, all that deny users or groups"


def _left_note(gids: frozenset[int]) -> str:
    if not gids:
        return ""
    return f"this host gives the user groups that the process is not in ({min(gids)}): rules that deny these apply"


def _whose(words: tuple[str, ...]) -> str:
    if words == NOT_READ or not words:
        return "a range that cannot be read"
    if words == MANY:
        return "ranges of very many owners"
    names = [quoted(word) for word in words[:_SHOWN]] + ["others"] * (len(words) > _SHOWN)
    return f"a range of {names[0]}" if len(names) == 1 else f"ranges of {', '.join(names[:-1])} and {names[-1]}"


def identifier() -> Callable[[Caller], Caller]:
    """Return what identifies callers by the files as they are now and the host's databases; it blocks."""
    return partial(identify, known=read_subordinate_ids(SYSTEM), accounts=NameService())


def calling_user() -> Caller:
    """Return the user of this process, as a daemon on this host would know them."""
    return identifier()(Caller(os.getuid(), os.getgid(), frozenset(os.getgroups())))
