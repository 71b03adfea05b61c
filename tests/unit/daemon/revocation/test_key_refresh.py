"""Which keys keyservers are asked about, when, and what is made of the answers."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from eclctl.config.keyservers import Keyserver, Keyservers
from eclctl.daemon.revocation.key_refresh import AT_ONCE, KeyRefresh, used
from eclctl.daemon.revocation.keyserver_cache import CachedKey, KeyChange, KeyserverCache
from eclctl.errors import ConfigError
from eclctl.remote.keyservers import hkp
from eclctl.remote.keyservers.hkp import KeyReply, Result, Tried
from eclctl.signature.openpgp import Keyring
from eclctl.signature.openpgp.proven import proven
from eclctl.trust.keyring import KeyStore
from tests.helpers.pgp import Key, certificate, packet, user_id

NOW = datetime(2026, 11, 22, tzinfo=UTC)
KEYS = sorted((Key() for _ in range(12)), key=lambda key: key.fingerprint)
RING = Keyring.parse(*map(certificate, KEYS))
SERVERS = Keyservers((Keyserver("https://keys.example"),), refresh=3600.0)
LIMIT = 20.0


def snapshot(*keys: str, anyone: bool = False) -> SimpleNamespace:
    signers = {"all": SimpleNamespace(keys=keys)}
    policy = SimpleNamespace(signers=signers, rules=[SimpleNamespace(asks_anyone=anyone)])
    return SimpleNamespace(policy=policy, store=KeyStore(RING))


def revoked(key: Key) -> bytes:
    return packet(6, key.body) + packet(2, key.sign(0x20, key.prefix)) + user_id(key)


def found(blob: bytes, key: Key) -> Tried:
    part = proven(Keyring.parse(blob), key.fingerprint)
    return Tried((KeyReply("https://keys.example", Result.FOUND, part),))


ABSENT = Tried((KeyReply("https://keys.example", Result.ABSENT),))
GONE = Tried((KeyReply("https://keys.example", Result.UNAVAILABLE, why="no server is there"),))
WRONG = Tried((KeyReply("https://keys.example", Result.INVALID, why="another key"),))


class Site:
    """A refresher with keyservers that answer as `reply` says, and a clock that stands."""

    def __init__(self, folder: Path, *keys: str, servers: Keyservers = SERVERS) -> None:
        self.now = NOW
        self.reply: Callable[[str], Tried] = lambda _: ABSENT
        self.asked: list[str] = []
        self.learnt = 0
        self.cache = KeyserverCache.load(folder / "keyservers.json")
        self.engine = SimpleNamespace(snapshot=snapshot(*keys))
        self.refresh = KeyRefresh(
            self.engine,  # type: ignore[arg-type]
            keyservers=servers,
            cache=self.cache,
            learn=self._learn,
            clock=lambda: self.now,
            jitter=lambda: 1.0,
            ask=self._ask,
        )
        self.ended = asyncio.Event()
        self._end = self.refresh._ended
        self.refresh._ended = self._note_end  # type: ignore[method-assign]

    def _learn(self) -> None:
        self.learnt += 1

    async def _ask(self, _: Keyservers, key: str, __: Keyring) -> Tried:
        self.asked.append(key)
        await asyncio.sleep(0)
        return self.reply(key)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._end(task)
        self.ended.set()

    async def round(self, *, again: bool = False) -> None:
        """One round, from its start to its end; `again`: now, even if nothing is due."""
        self.ended.clear()
        if again:
            self.refresh._due = dict.fromkeys(self.refresh._due, 0.0)
            self.refresh._begin()
        else:
            self.refresh.watch()
        async with asyncio.timeout(LIMIT):
            await self.ended.wait()

    def next_in(self) -> float:
        """In how many seconds the next round begins."""
        due = self.refresh._timer.due
        assert due is not None
        return due - asyncio.get_running_loop().time()


def names(*numbers: int) -> list[str]:
    return [KEYS[number].fingerprint for number in numbers]


def running(folder: Path, *keys: str, servers: Keyservers = SERVERS):
    """Decorate a test that runs on a loop: it gets a `Site`, which is stopped in the end."""

    def run(body) -> None:
        async def main() -> None:
            site = Site(folder, *keys, servers=servers)
            try:
                await body(site)
            finally:
                site.refresh.stop()

        asyncio.run(main())

    return run


def test_the_keys_that_a_policy_lists_and_the_ring_has_are_used() -> None:
    assert used(snapshot(*names(0, 1), "sha256:pem", "F" * 40)) == set(names(0, 1))  # type: ignore[arg-type]


def test_every_key_is_used_when_a_rule_asks_for_anyone() -> None:
    everything = {key.fingerprint for key in KEYS}
    assert used(snapshot(names(0)[0], anyone=True)) == everything  # type: ignore[arg-type]
    assert used(SimpleNamespace(policy=None, store=KeyStore(RING))) == frozenset()  # type: ignore[arg-type]


def test_each_key_is_asked_about_once_and_again_after_the_configured_time(tmp_path: Path) -> None:
    @running(tmp_path, *names(0, 1))
    async def _(site: Site) -> None:
        await site.round()
        assert sorted(site.asked) == names(0, 1)
        assert 3590 < site.next_in() <= 3600
        stats = site.refresh.stats()
        assert (stats.keys, stats.unasked, stats.failures, stats.requests["absent"]) == (2, 0, 0, 2)


def test_what_was_asked_before_a_restart_is_not_asked_again_at_once(tmp_path: Path) -> None:
    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        await site.round()

    @running(tmp_path, *names(0, 1))
    async def _(site: Site) -> None:
        site.now = NOW + timedelta(seconds=600)
        await site.round()
        assert site.asked == names(1)
        assert 2990 < site.next_in() <= 3000
        assert site.refresh.stats().oldest == 600.0


def test_a_clock_that_was_set_back_asks_again(tmp_path: Path) -> None:
    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        await site.round()

    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        site.now = NOW - timedelta(days=1)
        await site.round()
        assert site.asked == names(0)


def test_a_revocation_is_kept_taken_over_and_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        site.reply = lambda _: found(revoked(KEYS[0]), KEYS[0])
        await site.round()
        assert site.learnt == 1
        assert site.refresh.stats().updates == 1

    assert f"the key {KEYS[0].fingerprint} of Alice <alice@example.org> was revoked" in caplog.text
    kept = KeyserverCache.load(tmp_path / "keyservers.json").ring()
    assert kept is not None
    assert [each.fingerprint for each in kept.certificates] == names(0)


def test_a_revocation_that_the_first_server_holds_back_is_taken_from_the_second(tmp_path: Path) -> None:
    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        old, new = found(certificate(KEYS[0]), KEYS[0]), found(revoked(KEYS[0]), KEYS[0])
        site.reply = lambda _: Tried((*old.answers, *GONE.answers, *new.answers))
        await site.round()
        assert site.learnt == 1
        assert site.refresh.stats().requests == {"found": 2, "absent": 0, "invalid": 0, "unavailable": 1}
        assert site.refresh.stats().failures == 0


def test_the_daemon_asks_all_keyservers() -> None:
    assert inspect.signature(KeyRefresh).parameters["ask"].default is hkp.fetch_all


def test_what_the_ring_knows_already_is_no_news(tmp_path: Path) -> None:
    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        site.reply = lambda _: found(certificate(KEYS[0]), KEYS[0])
        await site.round()
        assert (site.learnt, site.refresh.stats().updates) == (0, 0)


def test_a_server_that_is_gone_is_tried_less_and_less_often_and_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        site.reply = lambda _: GONE
        await site.round()
        assert 50 < site.next_in() <= 60
        for _ in range(3):
            await site.round(again=True)
        assert 470 < site.next_in() <= 480
        assert site.refresh.stats().failures == 4
        site.reply = lambda _: ABSENT
        await site.round(again=True)
        assert 3590 < site.next_in() <= 3600

    assert caplog.text.count("no usable answer about 1 of 1 keys (no server is there)") == 1


def test_the_end_of_trouble_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        site.reply = lambda _: GONE
        await site.round()
        site.reply = lambda _: ABSENT
        await site.round(again=True)

    assert "keyservers answer again" in caplog.text


def test_no_server_is_asked_about_hundreds_of_keys_when_none_can_be_reached(tmp_path: Path) -> None:
    everything = [key.fingerprint for key in KEYS]

    @running(tmp_path, *everything)
    async def _(site: Site) -> None:
        site.reply = lambda _: GONE
        await site.round()
        assert AT_ONCE <= len(site.asked) < 2 * AT_ONCE


def test_keys_with_bad_answers_do_not_stop_questions_about_the_others(tmp_path: Path) -> None:
    everything = [key.fingerprint for key in KEYS]

    @running(tmp_path, *everything)
    async def _(site: Site) -> None:
        site.reply = lambda key: WRONG if key in names(*range(8)) else ABSENT
        await site.round()
        assert sorted(site.asked) == everything
        assert site.refresh.stats().unasked == 8


def test_without_servers_or_with_no_interval_no_server_is_asked(tmp_path: Path) -> None:
    for servers in (Keyservers(), Keyservers(SERVERS.servers, refresh=None)):

        @running(tmp_path, *names(0), servers=servers)
        async def _(site: Site) -> None:
            site.refresh.watch()
            assert site.refresh._timer.due is None
            assert not site.refresh.stats().enabled


def test_a_policy_that_uses_other_keys_changes_what_is_asked_about(tmp_path: Path) -> None:
    @running(tmp_path, *names(0))
    async def _(site: Site) -> None:
        await site.round()
        site.engine.snapshot = snapshot(*names(1))
        await site.round()
        assert site.asked == names(0, 1)
        assert site.refresh.stats().keys == 1


def test_a_full_disk_loses_nothing_but_the_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    @running(tmp_path / "gone", *names(0))
    async def _(site: Site) -> None:
        site.reply = lambda _: found(revoked(KEYS[0]), KEYS[0])
        await site.round()
        assert site.learnt == 1
        assert site.cache.ring() is not None

    assert "the answers of keyservers are lost with a restart" in caplog.text


# -- the cache


def test_what_was_known_stays_when_a_server_leaves_it_out(tmp_path: Path) -> None:
    cache = KeyserverCache(tmp_path / "keyservers.json")
    key = KEYS[0]
    assert cache.take(key.fingerprint, revoked(key), NOW, RING) is KeyChange.REVOKED
    assert cache.take(key.fingerprint, certificate(key), NOW, RING) is KeyChange.REVOKED
    assert cache.take(key.fingerprint, b"", NOW, RING) is KeyChange.REVOKED
    ring = cache.ring()
    assert ring is not None
    status = ring.status(key.fingerprint, key.fingerprint)
    assert status is not None
    assert status.fault is not None
    assert status.fault.code == "key-revoked"


def test_the_cache_survives_and_is_private_to_its_owner(tmp_path: Path) -> None:
    cache = KeyserverCache(tmp_path / "keyservers.json")
    cache.take(KEYS[0].fingerprint, revoked(KEYS[0]), NOW, RING)
    cache.take(KEYS[1].fingerprint, b"", NOW, RING)
    cache.save()
    assert (tmp_path / "keyservers.json").stat().st_mode & 0o777 == 0o600
    again = KeyserverCache.load(tmp_path / "keyservers.json")
    assert again.keys == cache.keys
    assert again.keys[KEYS[1].fingerprint] == CachedKey(NOW)
    assert [path.name for path in tmp_path.iterdir()] == ["keyservers.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"v": 2, "keys": {}}',
        '{"v": 1, "keys": []}',
        '{"v": 1, "keys": {"x": {}}}',
        json.dumps({"v": 1, "keys": {"F" * 40: {"asked": "yesterday", "certificate": ""}}}),
        json.dumps({"v": 1, "keys": {"F" * 40: {"asked": "2026-01-01T00:00:00+00:00", "certificate": "%"}}}),
        json.dumps({"v": 1, "keys": {"F" * 40: {"asked": "2026-01-01T00:00:00+00:00", "certificate": "eA=="}}}),
        "[" * 100_000,
    ],
)
def test_a_damaged_cache_is_begun_anew_and_logged(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "keyservers.json").write_text(text)
    cache = KeyserverCache.load(tmp_path / "keyservers.json")
    assert cache.keys == {}
    assert cache.ring() is None
    assert "the keyserver cache is lost" in caplog.text


def test_a_cache_that_is_a_link_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "keyservers.json").symlink_to("/etc/passwd")
    assert KeyserverCache.load(tmp_path / "keyservers.json").keys == {}
    assert "the keyserver cache is lost" in caplog.text


def test_a_cache_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*/gone/keyservers\.json: No such file or directory"):
        KeyserverCache(tmp_path / "gone" / "keyservers.json").save()
