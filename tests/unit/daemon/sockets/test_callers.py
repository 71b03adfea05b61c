"""Who callers are is found out beside the event loop, in bounded time, and kept for a while."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from eclctl.config.subordinate_ids import Files
from eclctl.daemon.sockets import callers as module
from eclctl.daemon.sockets.callers import CallerLookup
from eclctl.decide.caller_identity import Owner
from eclctl.model import Caller

PATIENCE = 20.0
BEHIND = Caller(100001, 100001, frozenset({100001}))


class Host:
    """A name service that can hang, or be down."""

    def __init__(self):
        self.asked, self.door, self.users, self.accounts = [], threading.Event(), {"alice": 1000, "bob": 1001}, set()
        self.door.set()

    def is_user(self, uid):
        self.asked.append(uid)
        assert self.door.wait(PATIENCE)
        return uid in self.accounts

    def is_group(self, gid):
        return False

    def owner(self, word):
        self.asked.append(word)
        return Owner(self.users[word], frozenset({50})) if word in self.users else None


class Desk:
    """Callers of a host, with a clock that the test turns."""

    def __init__(self, directory):
        self.files = Files(*(str(directory / name) for name in Files._fields))
        self.grant("alice:100000:65536\nbob:300000:65536\n")
        self.host, self.time = Host(), 0.0
        self.wall = os.stat(self.files.subuid).st_ctime + 100.0
        self.callers = CallerLookup(self.files, clock=lambda: self.time, wall=lambda: self.wall, service=self.host)

    def grant(self, text, file=None):
        path = Path(file or self.files.subuid)
        path.write_text(text)
        path.chmod(0o644)

    async def find(self, caller):
        found = asyncio.get_running_loop().create_future()
        self.callers.find(caller, found.set_result)
        async with asyncio.timeout(PATIENCE):
            return await found

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110 - threads do not report when they are done
                await asyncio.sleep(0.001)


def run(directory, scenario):
    async def main():
        directory.chmod(0o755)
        desk = Desk(directory)
        try:
            await scenario(desk)
        finally:
            desk.host.door.set()
            desk.callers.stop()

    asyncio.run(main())


def test_a_caller_outside_all_ranges_is_known_at_once(tmp_path):
    async def scenario(desk):
        plain = Caller(1000, 1000)
        assert desk.callers.known(plain) is plain
        assert desk.host.asked == []

    run(tmp_path, scenario)


def test_a_caller_in_a_range_is_looked_up_once_and_kept_for_a_minute(tmp_path):
    async def scenario(desk):
        assert desk.callers.known(BEHIND) is None
        found = await desk.find(BEHIND)
        assert (found.uid, found.person, found.identity.groups) == (100001, 1000, {50, 100001})
        assert desk.callers.known(BEHIND) == found
        desk.time = 61.0
        assert desk.callers.known(BEHIND) is None
        assert desk.host.asked == [100001, "alice"]

    run(tmp_path, scenario)


def test_all_who_wait_for_one_caller_share_one_look_up(tmp_path):
    async def scenario(desk):
        desk.host.door.clear()
        tasks = [asyncio.ensure_future(desk.find(BEHIND)) for _ in range(50)]
        await desk.until(lambda: desk.host.asked)
        desk.host.door.set()
        assert {found.person for found in await asyncio.gather(*tasks)} == {1000}
        assert desk.host.asked == [100001, "alice"]

    run(tmp_path, scenario)


def test_a_name_service_that_hangs_makes_no_caller_wait_long_and_none_an_owner(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.05)

    async def scenario(desk):
        desk.host.door.clear()
        found = await desk.find(BEHIND)
        assert (found.identity.uid, found.identity.unknown) == (None, True)
        assert desk.callers.known(BEHIND) is None
        desk.host.door.set()
        await desk.until(lambda: desk.callers.known(BEHIND))
        assert desk.callers.known(BEHIND).person == 1000

    run(tmp_path, scenario)


def test_one_owner_with_many_uids_takes_one_thread_and_the_others_are_served(tmp_path):
    async def scenario(desk):
        desk.host.door.clear()
        for number in range(20):
            desk.callers.find(Caller(100000 + number, 1), lambda _: None)
        await desk.until(lambda: desk.host.asked)
        other = asyncio.ensure_future(desk.find(Caller(300001, 1)))
        await desk.until(lambda: 300001 in desk.host.asked)
        assert len(desk.host.asked) == 2
        desk.host.door.set()
        assert (await other).person == 1001

    run(tmp_path, scenario)


def test_one_owner_with_many_uids_does_not_push_others_out(tmp_path):
    async def scenario(desk):
        other = Caller(300001, 1)
        await desk.find(other)
        for number in range(2 * module._KEPT_EACH):
            await desk.find(Caller(100000 + number, 1))
        assert desk.callers.known(other) is not None
        assert sum(map(len, desk.callers._kept.values())) <= module._KEPT_EACH + 1

    run(tmp_path, scenario)


def test_of_an_account_that_a_name_service_has_told_of_no_outage_makes_a_subordinate_uid(tmp_path):
    async def scenario(desk):
        desk.host.accounts = {100001}
        assert (await desk.find(BEHIND)).person == 100001
        desk.time, desk.host.accounts = 61.0, set()
        assert (await desk.find(BEHIND)).person == 100001
        assert desk.callers.status()["seen"] == {"count": 1, "uids": [100001]}
        desk.callers.refresh()
        assert (await desk.find(BEHIND)).person == 1000

    run(tmp_path, scenario)


def test_callers_in_very_many_groups_are_looked_up_and_not_kept(tmp_path):
    async def scenario(desk):
        crowd = Caller(1000, 1000, frozenset(range(2000, 2000 + module._MANY_GROUPS + 1)))
        assert desk.callers.known(crowd) is None
        assert await desk.find(crowd) == crowd
        assert desk.callers._kept == {}

    run(tmp_path, scenario)


def test_a_bug_in_a_look_up_is_no_identity(tmp_path):
    async def scenario(desk):
        desk.host.users = None
        assert (await desk.find(BEHIND)).identity.unknown

    run(tmp_path, scenario)


def test_a_file_that_changes_is_read_again_without_a_reload(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.01)

    async def scenario(desk):
        assert (await desk.find(BEHIND)).person == 1000
        desk.callers.watch()
        desk.grant("bob:100000:65536\n")
        await desk.until(lambda: desk.callers._ids.uids.ranges.owners_of(100001) == ("bob",))
        assert desk.callers.known(BEHIND) is None
        assert (await desk.find(BEHIND)).person == 1001

    run(tmp_path, scenario)


def test_what_was_kept_of_a_caller_goes_with_the_ranges_that_it_came_of(tmp_path):
    async def scenario(desk):
        await desk.find(BEHIND)
        desk.grant("bob:100000:10\n", desk.files.subgid)
        desk.callers._look_at_files()
        await desk.until(lambda: desk.callers._ids.gids.ranges.count)
        assert desk.callers.known(BEHIND) is None
        assert 1001 in (await desk.find(BEHIND)).identity.denied_uids

    run(tmp_path, scenario)


def test_a_file_that_does_not_change_is_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "INTERVAL", 0.001)

    async def scenario(desk):
        ids = desk.callers._ids
        reads, read = [], module.subordinate_ids.read_subordinate_ids
        counted = lambda *arguments: reads.append(1) or read(*arguments)  # noqa: E731
        monkeypatch.setattr(module.subordinate_ids, "read_subordinate_ids", counted)
        looks, look = [], module.subordinate_ids.state_of
        monkeypatch.setattr(module.subordinate_ids, "state_of", lambda *a: looks.append(1) or look(*a))
        desk.callers.watch()
        await desk.until(lambda: len(looks) > 5)
        assert (reads, desk.callers._ids) == ([], ids)

    run(tmp_path, scenario)


def test_what_is_wrong_with_a_file_is_logged_once(tmp_path, caplog):
    async def scenario(desk):
        os.unlink(desk.files.subuid)
        os.mkdir(desk.files.subuid)
        for count in (1, 2):
            desk.callers.refresh()
            await desk.until(lambda: desk.callers._ids.uids.problem is not None)
            await desk.find(Caller(100000 + count, 1))
        assert [record.getMessage().split(" ", 1)[1] for record in caplog.records] == [
            "is not a regular file; the ranges read before stay in force"
        ]

    run(tmp_path, scenario)


@pytest.mark.parametrize("uids", [range(100000, 100100), range(77, 78)])
def test_uids_that_may_be_one_person_have_one_household(tmp_path, uids):
    async def scenario(desk):
        assert len({desk.callers.person_key(Caller(uid, 1)) for uid in uids}) == 1
        assert desk.callers.person_key(Caller(77, 1)) != desk.callers.person_key(Caller(78, 1))

    run(tmp_path, scenario)
