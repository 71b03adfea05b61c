"""What responders said is kept, refreshed and given up as it must be. Time is the test's own."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from eclctl.remote.ocsp.cache import AT_ONCE, OcspCache
from eclctl.remote.ocsp.client import Asked, ResponderReply
from eclctl.trust.ocsp import OcspAnswer
from eclctl.trust.revocation import Known, Link, Status
from tests.helpers.ocsp import ready
from tests.helpers.pki import Authority
from tests.helpers.virtual_time import START, Loop, run

HOUR, DAY = 3600.0, 86400.0


@functools.cache
def links(count: int) -> tuple[Link, ...]:
    authority = Authority()
    return tuple(authority.leaf(f"leaf {number}").link for number in range(count))


class Site:
    """A keeper, and the responders that it asks, which say what the test says."""

    def __init__(self, loop: Loop, max_age: float = DAY) -> None:
        self.loop = loop
        self.asked: list[tuple[float, Link]] = []
        self.under_way = self.most = 0
        self.hang = asyncio.Event()
        self.hang.set()
        self.say(Status.GOOD)
        self.keeper = OcspCache(
            clock=loop.clock, max_age=timedelta(seconds=max_age), question=self.question, jitter=lambda: 1.0
        )

    def say(
        self, status: Status, *, since: datetime | None = None, life: float = 2 * HOUR, final: bool = False
    ) -> None:
        """What comes back from now on: `since` is thisUpdate, else the moment of the answer."""

        def reply() -> ResponderReply:
            now = self.loop.clock()
            asked = (Asked("http://a.example", OcspAnswer(status, "said", final=final), 0.1),)
            if status in {Status.INVALID, Status.UNAVAILABLE}:
                return ResponderReply(status, "said", now, answers=asked)
            return ResponderReply(status, "said", now + timedelta(seconds=life), since or now, asked)

        self.reply = reply

    async def question(self, link: Link) -> ResponderReply:
        self.asked.append((self.loop.now, link))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.hang.wait()
            await asyncio.sleep(0.1)  # of the loop's own time
            return self.reply()
        finally:
            self.under_way -= 1

    def known(self, link: Link) -> Known | None:
        return self.keeper.known(link, self.loop.clock())

    def status(self, link: Link) -> Status | None:
        known = self.known(link)
        return None if known is None else known.status

    def times(self) -> list[float]:
        """When questions were asked, in seconds from the start."""
        return [at - 1000.0 for at, _ in self.asked]


def scenario(max_age: float = DAY) -> Callable[[Callable[[Site, Link], Awaitable[None]]], Callable[[], None]]:
    """Make a test of a coroutine that is given a site and a certificate."""

    def decorate(test: Callable[[Site, Link], Awaitable[None]]) -> Callable[[], None]:
        async def main(loop: Loop) -> None:
            site = Site(loop, max_age)
            await test(site, links(1)[0])
            site.keeper.stop()

        def wrapped() -> None:
            loop = Loop()
            run(main(loop), loop)

        wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
        return wrapped

    return decorate


# -- cold


@scenario()
async def test_of_a_certificate_that_was_not_asked_about_nothing_is_known(site: Site, link: Link) -> None:
    assert site.known(link) is None
    assert site.asked == []


@scenario()
async def test_a_waiter_is_told_once_the_responder_was_asked(site: Site, link: Link) -> None:
    before = site.keeper.version
    await ready(site.keeper, [link])
    assert site.known(link) == Known(Status.GOOD, START + timedelta(seconds=0.1 + 2 * HOUR), "said")
    assert site.keeper.version != before


@scenario()
async def test_however_many_wait_for_one_certificate_it_is_asked_about_once(site: Site, link: Link) -> None:
    await asyncio.gather(*(ready(site.keeper, [link, link]) for _ in range(1000)))
    assert len(site.asked) == 1


@scenario()
async def test_what_is_known_is_not_asked_again(site: Site, link: Link) -> None:
    await ready(site.keeper, [link])
    await ready(site.keeper, [link])
    assert len(site.asked) == 1


@scenario()
async def test_waiting_has_an_end_and_the_question_goes_on(site: Site, link: Link) -> None:
    site.hang.clear()
    await ready(site.keeper, [link])
    assert site.loop.now == pytest.approx(1006)
    assert site.known(link) is None
    site.hang.set()
    await ready(site.keeper, [link])
    assert site.status(link) is Status.GOOD
    assert len(site.asked) == 1


@scenario()
async def test_a_wait_for_several_ends_when_the_last_has_been_asked_about(site: Site, link: Link) -> None:
    told: list[str] = []
    site.keeper.wait(links(5), lambda: told.append("all"))
    await ready(site.keeper, [link])
    await asyncio.sleep(1)
    assert told == ["all"]
    assert all(site.status(each) is Status.GOOD for each in links(5))


@scenario()
async def test_a_bug_in_asking_ends_the_wait(site: Site, link: Link) -> None:
    def bug() -> ResponderReply:
        raise ZeroDivisionError

    site.reply = bug
    await ready(site.keeper, [link])
    assert site.status(link) is Status.UNAVAILABLE
    assert site.loop.now < 1001


# -- failures


@scenario()
async def test_a_failure_is_known_until_the_next_try(site: Site, link: Link) -> None:
    for status in (Status.UNAVAILABLE, Status.INVALID):
        site.say(status)
        await ready(site.keeper, [link])
        assert site.status(link) is status
        asked = len(site.asked)
        await ready(site.keeper, [link])
        assert len(site.asked) == asked
        await asyncio.sleep(60)
        assert site.known(link) is None


@scenario()
async def test_a_dead_responder_is_asked_ever_less_often(site: Site, link: Link) -> None:
    site.say(Status.UNAVAILABLE)
    site.keeper.watch([link])
    await asyncio.sleep(HOUR)
    times = site.times()
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[:6] == pytest.approx([2.1, 4.1, 8.1, 16.1, 32.1, 60.1])
    assert max(gaps) < 61
    assert len(times) < 70


@scenario()
async def test_while_a_dead_responder_is_asked_again_no_caller_waits(site: Site, link: Link) -> None:
    site.say(Status.UNAVAILABLE)
    site.keeper.watch([link])
    await asyncio.sleep(1)
    site.hang.clear()
    await asyncio.sleep(3)  # the second question hangs
    assert site.under_way == 1
    assert site.status(link) is Status.UNAVAILABLE


@scenario()
async def test_a_responder_that_comes_back_is_heard_within_a_minute(site: Site, link: Link) -> None:
    site.say(Status.UNAVAILABLE)
    site.keeper.watch([link])
    await asyncio.sleep(HOUR)
    site.say(Status.GOOD)
    await asyncio.sleep(61)
    assert site.status(link) is Status.GOOD


# -- refreshing


@scenario()
async def test_what_is_watched_is_refreshed_at_half_of_its_life_and_never_runs_out(site: Site, link: Link) -> None:
    site.keeper.watch([link])
    for _ in range(1000):
        await asyncio.sleep(60)
        assert site.status(link) is Status.GOOD
    gaps = [later - earlier for earlier, later in pairwise(site.times())]
    assert gaps == pytest.approx([HOUR + 0.1] * len(gaps))


@scenario(max_age=600)
async def test_no_answer_is_kept_for_longer_than_the_site_wants(site: Site, link: Link) -> None:
    site.say(Status.GOOD, life=DAY)
    await ready(site.keeper, [link])
    await asyncio.sleep(599)
    assert site.status(link) is Status.GOOD
    await asyncio.sleep(2)
    assert site.known(link) is None


@scenario(max_age=600)
async def test_it_is_refreshed_at_least_twice_in_that_time(site: Site, link: Link) -> None:
    site.say(Status.GOOD, life=DAY)
    site.keeper.watch([link])
    await asyncio.sleep(HOUR)
    assert len(site.asked) == 12


@scenario()
async def test_answers_that_live_for_seconds_are_refreshed_every_five(site: Site, link: Link) -> None:
    site.say(Status.GOOD, life=2)
    site.keeper.watch([link])
    await asyncio.sleep(600)
    assert 115 < len(site.asked) <= 121


@scenario()
async def test_answers_that_live_for_a_minute_leave_no_gap(site: Site, link: Link) -> None:
    site.say(Status.GOOD, life=60)
    site.keeper.watch([link])
    await asyncio.sleep(1)
    for _ in range(600):
        assert site.status(link) is Status.GOOD
        await asyncio.sleep(1)
    assert len(site.asked) < 25


@scenario()
async def test_a_refresh_that_fails_leaves_the_answer_until_it_runs_out(site: Site, link: Link) -> None:
    site.keeper.watch([link])
    await asyncio.sleep(1)
    for status in (Status.UNAVAILABLE, Status.INVALID):
        site.say(status)
        await asyncio.sleep(HOUR - 5)
        assert site.status(link) is Status.GOOD
    await asyncio.sleep(20)
    assert site.status(link) is Status.INVALID
    assert len(site.asked) < 30


@scenario()
async def test_reloads_put_off_no_refresh(site: Site, link: Link) -> None:
    for _ in range(1000):
        site.keeper.watch([link])
        await asyncio.sleep(10)
    assert len(site.asked) == 3


@scenario()
async def test_what_is_no_longer_watched_is_left_to_run_out_and_then_forgotten(site: Site, link: Link) -> None:
    site.keeper.watch([link])
    await asyncio.sleep(1)
    site.keeper.watch([])
    assert site.status(link) is Status.GOOD
    await asyncio.sleep(2 * HOUR + 1)
    assert site.known(link) is None
    site.keeper.watch([])
    assert len(site.asked) == 1
    assert site.keeper._entries == {}


@scenario()
async def test_what_was_watched_until_a_moment_ago_is_not_forgotten(site: Site, link: Link) -> None:
    site.keeper.watch([link])
    await asyncio.sleep(HOUR + 10)
    site.keeper.watch([])
    assert site.status(link) is Status.GOOD


# -- news


@pytest.mark.parametrize("later", [Status.GOOD, Status.UNKNOWN])
def test_a_final_revocation_is_never_taken_back(later: Status) -> None:
    @scenario()
    async def check(site: Site, link: Link) -> None:
        site.say(Status.REVOKED, final=True)
        site.keeper.watch([link])
        await asyncio.sleep(1)
        site.say(later)
        for _ in range(10):
            await asyncio.sleep(HOUR)
            assert site.status(link) is Status.REVOKED

    check()


@scenario()
async def test_a_certificate_that_was_on_hold_can_be_good_again(site: Site, link: Link) -> None:
    site.say(Status.REVOKED)
    site.keeper.watch([link])
    await asyncio.sleep(1)
    site.say(Status.GOOD)
    await asyncio.sleep(3 * HOUR)
    assert site.status(link) is Status.GOOD


@pytest.mark.parametrize("news", [Status.REVOKED, Status.UNKNOWN])
def test_bad_news_replace_a_good_answer_at_once(news: Status) -> None:
    @scenario()
    async def check(site: Site, link: Link) -> None:
        site.keeper.watch([link])
        await asyncio.sleep(1)
        before = site.keeper.version
        site.say(news)
        await asyncio.sleep(HOUR)
        assert site.status(link) is news
        assert site.keeper.version > before

    check()


@pytest.mark.parametrize("news", [Status.REVOKED, Status.UNKNOWN])
@pytest.mark.parametrize("age", [0.0, 1.0, HOUR])
def test_a_good_answer_that_is_not_newer_undoes_no_bad_news(news: Status, age: float) -> None:
    @scenario()
    async def check(site: Site, link: Link) -> None:
        since = site.loop.clock()
        site.say(news, since=since)
        site.keeper.watch([link])
        await asyncio.sleep(1)
        site.say(Status.GOOD, since=since - timedelta(seconds=age), life=DAY)
        await asyncio.sleep(HOUR)
        assert site.status(link) is news
        await asyncio.sleep(HOUR)  # it has run out
        assert site.status(link) is Status.INVALID
        await asyncio.sleep(HOUR)
        assert site.status(link) is Status.INVALID

    check()


@scenario()
async def test_an_old_response_that_says_revoked_counts_and_is_then_not_undone_by_replay(
    site: Site, link: Link
) -> None:
    """Of two responders, one may lag behind. An attacker who sends old responses again can deny, never allow."""
    since = site.loop.clock()
    site.say(Status.GOOD, since=since)
    site.keeper.watch([link])
    await asyncio.sleep(1)
    site.say(Status.REVOKED, since=since - timedelta(hours=1))
    await asyncio.sleep(HOUR)
    assert site.status(link) is Status.REVOKED
    site.say(Status.GOOD, since=since, life=DAY)
    await asyncio.sleep(HOUR)
    assert site.status(link) is Status.REVOKED


@scenario()
async def test_a_newer_good_answer_ends_a_revocation(site: Site, link: Link) -> None:
    """As when a certificate was on hold."""
    site.say(Status.REVOKED)
    site.keeper.watch([link])
    await asyncio.sleep(1)
    site.say(Status.GOOD)
    await asyncio.sleep(HOUR)
    assert site.status(link) is Status.GOOD


@scenario()
async def test_an_older_good_answer_does_not_replace_a_newer_one(site: Site, link: Link) -> None:
    site.keeper.watch([link])
    await asyncio.sleep(1)
    until = site.known(link)
    site.say(Status.GOOD, since=START - timedelta(hours=1), life=DAY)
    await asyncio.sleep(HOUR + 10)
    assert site.known(link) == until


@scenario()
async def test_the_same_response_again_is_no_replay(site: Site, link: Link) -> None:
    """Most responders make theirs ahead of time."""
    site.say(Status.GOOD, since=START - timedelta(hours=1))
    site.keeper.watch([link])
    await asyncio.sleep(10 * HOUR)
    assert site.status(link) is Status.GOOD


# -- clocks


@scenario()
async def test_setting_the_clock_back_extends_no_answer(site: Site, link: Link) -> None:
    await ready(site.keeper, [link])
    site.loop.clock_set_by = timedelta(days=-365)
    await asyncio.sleep(2 * HOUR - 1)
    version = site.keeper.version
    assert site.status(link) is Status.GOOD
    await asyncio.sleep(2)
    assert site.known(link) is None
    assert site.keeper.version != version  # a judgement that was kept by the clock must be made again


@scenario()
async def test_nor_does_it_while_the_loop_is_too_busy_to_notice(site: Site, link: Link) -> None:
    await ready(site.keeper, [link])
    site.loop.clock_set_by = timedelta(days=-365)
    site.loop.now += 2 * HOUR + 1
    assert site.known(link) is None


@scenario()
async def test_an_answer_that_has_run_out_by_the_clock_does_not_revive(site: Site, link: Link) -> None:
    await ready(site.keeper, [link])
    site.loop.clock_set_by = timedelta(days=365)
    assert site.known(link) is None
    site.loop.clock_set_by = timedelta()
    assert site.known(link) is None


# -- many


@scenario()
async def test_few_are_asked_about_at_once_and_those_with_waiters_first(site: Site, link: Link) -> None:
    several = links(200)
    site.hang.clear()
    site.keeper.watch(several[:-1])
    await asyncio.sleep(1)
    assert 0 < site.under_way < AT_ONCE
    site.keeper.wait([several[-1]], lambda: None)
    site.keeper.wait([several[-2]], lambda: None)  # which waits in the queue already
    await asyncio.sleep(1)
    assert [asked for _, asked in site.asked[-2:]] == [several[-1], several[-2]]
    site.keeper.wait(several, lambda: None)
    await asyncio.sleep(1)
    assert site.under_way == AT_ONCE
    site.hang.set()
    await asyncio.sleep(60)
    assert site.most == AT_ONCE
    assert len(site.asked) == 200
    assert all(site.status(each) is Status.GOOD for each in several)


@scenario()
async def test_after_the_end_no_responder_is_asked_and_no_caller_waits(site: Site, link: Link) -> None:
    site.hang.clear()
    waiting = asyncio.ensure_future(ready(site.keeper, [link]))
    await asyncio.sleep(0.01)
    site.keeper.stop()
    await waiting
    await ready(site.keeper, links(3))
    assert len(site.asked) == 1
    assert site.loop.now < 1001


# -- what is shown


@scenario()
async def test_a_scrape_sees_what_is_known_of_watched_certificates(site: Site, link: Link) -> None:
    several = links(5)
    site.keeper.watch(several[:3])
    await asyncio.sleep(1000.1)
    site.say(Status.UNAVAILABLE)
    site.keeper.watch(several[:4])
    await asyncio.sleep(1)
    site.hang.clear()
    site.keeper.watch(several)
    stats = site.keeper.stats()
    assert stats.statuses == {"good": 3, "unavailable": 1, "none": 1, "revoked": 0, "unknown": 0, "invalid": 0}
    assert stats.requests == {"good": 3, "unavailable": 1, "revoked": 0, "unknown": 0, "invalid": 0}
    assert stats.failures == 1
    assert stats.oldest == pytest.approx(1001.0)
    assert stats.soonest == pytest.approx(2 * HOUR - 1001.0)


@scenario()
async def test_with_nothing_kept_there_is_no_age_and_no_end(site: Site, link: Link) -> None:
    stats = site.keeper.stats()
    assert (stats.oldest, stats.soonest) == (0.0, float("inf"))


def test_the_log_tells_of_changes_and_not_of_every_answer(caplog: pytest.LogCaptureFixture) -> None:
    @scenario()
    async def check(site: Site, link: Link) -> None:
        said: Sequence[Status] = (Status.GOOD, Status.UNAVAILABLE, Status.GOOD, Status.REVOKED)
        site.keeper.watch([link])
        for status in said:
            site.say(status)
            await asyncio.sleep(10 * HOUR)

    with caplog.at_level(logging.INFO, "eclctl"):
        check()
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [(level, text.partition("CN=leaf 0")[2]) for level, text in told] == [
        ("INFO", " is good (said)"),
        ("WARNING", ": unavailable (said); it is taken for good meanwhile"),
        ("INFO", " is good (said)"),
        ("WARNING", " is revoked (said)"),
    ]
