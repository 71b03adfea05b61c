"""Whose rules apply to a caller whose uid or gids lie in ranges of subordinate IDs."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from eclctl.config.subordinate_ids import (
    MOST_OWNERS,
    NOT_READ,
    Files,
    Granted,
    Ranges,
    SubordinateIds,
    parse_ranges,
    read_subordinate_ids,
)
from eclctl.decide import caller_identity as module
from eclctl.decide.caller_identity import NameService, Owner, calling_user, has_subordinate_ids, identify, unidentified
from eclctl.files.guarded import read_unguarded
from eclctl.model import Caller, Identity

ALICE, BOB, CAROL = Owner(1000, frozenset({100, 500})), Owner(1001, frozenset({101})), Owner(100007, frozenset({102}))


@dataclass
class Host:
    """The users and groups of a host; `asked` are the look-ups."""

    users: dict[str, Owner] = field(default_factory=lambda: {"alice": ALICE, "bob": BOB, "carol": CAROL, "1000": ALICE})
    groups: frozenset[int] = frozenset({100, 101, 102, 500, 200007})
    asked: list[object] = field(default_factory=list)

    def is_user(self, uid: int) -> bool:
        self.asked.append(uid)
        return uid in {owner.uid for owner in self.users.values()}

    def is_group(self, gid: int) -> bool:
        self.asked.append(gid)
        return gid in self.groups

    def owner(self, word: str) -> Owner | None:
        self.asked.append(word)
        return self.users.get(word)


UIDS = "alice:100000:10\nbob:100005:10\n1000:100020:5\nghost:100030:5\nalice:100040:5\n1000:100040:5\n"
GIDS = "alice:200000:10\nbob:200005:10\nghost:200030:5\n"


def ids(uids: str = UIDS, gids: str = GIDS, local: frozenset[int] = frozenset()) -> SubordinateIds:
    ranges = [parse_ranges(text.encode()).ranges for text in (uids, gids)]
    return SubordinateIds(Granted("/etc/subuid", ranges[0], local=local), Granted("/etc/subgid", ranges[1]))


def identity(uid: int, *groups: int, known: SubordinateIds | None = None, host: Host | None = None) -> Identity | None:
    gid, *more = groups or (uid,)
    asked = Caller(uid, gid, frozenset(more))
    found = identify(asked, known or ids(), host or Host())
    assert (found.uid, found.gid, found.groups) == (asked.uid, asked.gid, asked.groups)
    return found.identity


def test_a_caller_outside_all_ranges_is_themselves_and_nothing_is_looked_up() -> None:
    host = Host()
    assert identity(1000, 100, 500, host=host) is None
    assert identity(4242, 4242, host=host) is None
    assert host.asked == []


def test_a_uid_in_a_range_of_one_owner_is_that_owner_with_all_their_groups() -> None:
    found = identity(100001, 200001)
    assert found is not None
    assert (found.uid, found.person, found.unknown) == (1000, 1000, False)
    assert found.groups == {100, 500}
    assert (found.denied_uids, found.denied_groups) == ({100001}, {200001})
    assert "uid 100001 is no account, and lies in a range of 'alice' (/etc/subuid)" in found.note


@pytest.mark.parametrize("uid", [100021, 100041], ids=["by number", "by name and number"])
def test_a_name_and_a_number_may_be_the_same_owner(uid: int) -> None:
    found = identity(uid)
    assert found is not None
    assert (found.uid, found.unknown) == (1000, False)


def test_a_uid_in_ranges_of_several_owners_is_no_user_and_denied_what_each_is() -> None:
    found = identity(100006, 77)
    assert found is not None
    assert (found.uid, found.groups, found.unknown) == (None, {77}, False)
    assert found.denied_uids == {100006, 1000, 1001}
    assert found.denied_groups == {100, 101, 500}
    assert found.person == identity(100008, 78).person  # type: ignore[union-attr]
    assert not isinstance(found.person, int)


def test_an_account_in_ranges_is_itself_and_denied_what_the_owners_are() -> None:
    found = identity(100007, 102)
    assert found is not None
    assert (found.uid, found.groups, found.person) == (100007, {102}, 100007)
    assert (found.denied_uids, found.denied_groups) == ({1000, 1001}, {100, 101, 500})


def test_a_local_account_is_known_without_asking() -> None:
    host = Host()
    found = identity(100001, known=ids(local=frozenset({100001})), host=host)
    assert found is not None
    assert found.uid == 100001
    assert 100001 not in host.asked


def test_an_account_in_a_range_of_its_own_is_itself() -> None:
    assert identity(1000, 100, 500, known=ids(uids="alice:1000:1\n")) is None


def test_an_owner_whom_the_host_does_not_know_may_be_anybody() -> None:
    found = identity(100031)
    assert found is not None
    assert (found.uid, found.unknown) == (None, True)
    assert "'ghost'" in found.note


def test_of_very_many_owners_any_may_be_anybody() -> None:
    crowd = "".join(f"u{number}:100000:10\n" for number in range(MOST_OWNERS + 1))
    host = Host()
    found = identity(100001, 77, known=ids(uids=crowd), host=host)
    assert found is not None
    assert (found.uid, found.unknown) == (None, True)
    assert host.asked == [100001]


def test_where_the_file_cannot_be_read_accounts_are_themselves_and_others_may_be_anybody() -> None:
    unread = Granted("/etc/subuid", Ranges((0,), (NOT_READ,)))
    known = SubordinateIds(unread, Granted("/etc/subgid", Ranges((0,), (NOT_READ,))))
    assert identity(1000, 100, 500, known=known) is None
    found = identity(4242, 100, known=known)
    assert found is not None
    assert (found.uid, found.groups, found.unknown) == (None, {100}, True)


def test_a_gid_of_an_owner_stands_for_their_groups_where_the_uid_is_theirs() -> None:
    """A user with subordinate gids can leave their own groups behind."""
    found = identity(1000, 200001)
    assert found is not None
    assert (found.uid, found.groups, found.person) == (1000, {100, 500}, 1000)
    assert found.denied_groups == {200001}


def test_a_gid_of_an_owner_makes_no_other_user_the_owner_and_denies_as_them() -> None:
    """Who runs a program that is setgid to it has not become its owner."""
    found = identity(4242, 77, 200001)
    assert found is not None
    assert (found.uid, found.groups, found.person) == (4242, {77}, 4242)
    assert (found.denied_uids, found.denied_groups) == ({1000}, {200001, 100, 500})
    assert "gid 200001 lies in a range of 'alice' (/etc/subgid)" in found.note


def test_a_group_in_ranges_is_itself_and_denied_what_the_owners_are() -> None:
    found = identity(4242, 200007)
    assert found is not None
    assert found.groups == {200007}
    assert (found.denied_uids, found.denied_groups) == ({1000, 1001}, {100, 101, 500})


def test_a_gid_in_ranges_of_several_owners_is_none_of_their_groups() -> None:
    found = identity(1000, 200006)
    assert found is not None
    assert found.groups == frozenset()
    assert found.denied_groups == {200006, 100, 101, 500}


def test_real_groups_of_a_subordinate_uid_stay() -> None:
    found = identity(100001, 200001, 777)
    assert found is not None
    assert found.groups == {100, 500, 777}


def test_with_very_many_gids_in_ranges_none_is_looked_up() -> None:
    host = Host()
    known = ids(gids="alice:200000:65536\n")
    many = range(200000, 200000 + module.MOST_GIDS + 1)
    found = identity(4242, 77, *many, known=known, host=host)
    assert found is not None
    assert (found.groups, found.unknown, host.asked) == ({77}, True, [])


def test_while_nothing_is_known_a_caller_is_no_user_and_every_deny_is_for_them() -> None:
    asked = Caller(100001, 77)
    found = unidentified(asked, ids()).identity
    assert found is not None
    assert (found.uid, found.groups, found.unknown) == (None, {77}, True)
    assert "cannot be looked up" in found.note
    assert unidentified(Caller(4242, 77), ids()) == Caller(4242, 77)


def test_while_nothing_is_known_a_local_account_keeps_its_own_uid() -> None:
    found = unidentified(Caller(100001, 77), ids(local=frozenset({100001}))).identity
    assert found is not None
    assert (found.uid, found.unknown) == (100001, True)


def test_whether_anything_must_be_found_out_is_told_without_looking_up() -> None:
    assert [has_subordinate_ids(Caller(uid, gid), ids()) for uid, gid in ((1, 1), (100001, 1), (1, 200001))] == [
        False,
        True,
        True,
    ]


def test_the_hosts_own_databases_know_root_and_its_groups() -> None:
    service, root = NameService(), pwd.getpwuid(0)
    assert service.is_user(0)
    assert not service.is_user(3_999_999_999)
    assert service.is_group(root.pw_gid)
    assert not service.is_group(3_999_999_999)
    assert service.owner("0") == service.owner(root.pw_name)
    assert [service.owner(word) for word in ("no-such-user", "3999999999", "9" * 30, "a\0b")] == [None] * 4


def test_the_calling_user_is_the_user_of_this_process() -> None:
    found = calling_user()
    assert (found.uid, found.gid, found.groups) == (os.getuid(), os.getgid(), frozenset(os.getgroups()))


@pytest.mark.parametrize("granted", ["alice:200000:10", "1000:200000:10", "ldap-user:200000:10"])
def test_who_has_subordinate_gids_leaves_no_group_behind_for_rules_that_deny(tmp_path: Path, granted: str) -> None:
    passwd = "alice:x:1000:100::/:/bin/sh\n" * (not granted.startswith("ldap"))
    for name, text in (("subuid", ""), ("subgid", granted + "\n"), ("passwd", passwd), ("group", ""), ("nss", "")):
        (tmp_path / name).write_text(text)
    files = Files(*(str(tmp_path / name) for name in ("subuid", "subgid", "passwd", "group", "nss")))
    known = read_subordinate_ids(files, reader=read_unguarded)
    found = identity(1000, 100, known=known)
    assert found is not None
    assert (found.uid, found.groups, found.denied_groups, found.person) == (1000, {100}, {500}, 1000)
    assert "500" in found.note
    assert identity(1000, 100, 500, known=known) is None
    assert unidentified(Caller(1000, 100), known).matches(None, frozenset({500}), denies=True)
    assert identity(0, 0, known=known) is None


def test_who_has_no_subordinate_gids_is_not_looked_up(tmp_path: Path) -> None:
    texts = ("", "bob:200000:10\n", "alice:x:1000:100::/:/bin/sh\nbob:x:1001:101::/:/bin/sh\n", "", "")
    names = ("subuid", "subgid", "passwd", "group", "nss")
    for name, text in zip(names, texts, strict=True):
        (tmp_path / name).write_text(text)
    known = read_subordinate_ids(Files(*(str(tmp_path / name) for name in names)), reader=read_unguarded)
    assert not has_subordinate_ids(Caller(1000, 100), known)
    assert has_subordinate_ids(Caller(1001, 101), known)
