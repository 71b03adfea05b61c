"""Timers: the last time that was set counts, a repeating one survives what it calls, and none calls after its end."""

import asyncio

from eclctl.daemon.background.timers import Repeating, Timer
from tests.helpers.virtual_time import Loop, run


def times_of(scenario, seconds):
    """Return at which times a function was called that `scenario` was given."""
    loop, called = Loop(), []

    async def main():
        scenario(lambda: called.append(loop.time() - 1000.0))
        await asyncio.sleep(seconds)

    run(main(), loop)
    return called


def test_a_timer_calls_once_at_the_time_that_was_set_last():
    def scenario(work):
        timer = Timer(work)
        timer.set(5.0)
        assert timer.due == 1005.0
        timer.set(3.0)

    assert times_of(scenario, 20.0) == [3.0]


def test_a_timer_without_a_time_is_due_never():
    def scenario(work):
        timer = Timer(work)
        timer.set(5.0)
        timer.cancel()
        assert timer.due is None

    assert times_of(scenario, 20.0) == []


def test_a_timer_that_was_stopped_calls_no_more_though_a_time_is_set():
    def scenario(work):
        timer = Timer(work)
        timer.set(5.0)
        timer.stop()
        timer.set(5.0)

    assert times_of(scenario, 20.0) == []


def test_a_timer_may_be_set_again_by_what_it_calls():
    def scenario(work):
        def again():
            assert timer.due is None
            work()
            timer.set(4.0)

        timer = Timer(again)
        timer.set(4.0)

    assert times_of(scenario, 10.0) == [4.0, 8.0]


def test_what_repeats_goes_on_after_a_failure_and_ends_when_stopped():
    def scenario(work):
        def fail():
            work()
            raise RuntimeError("a bug")

        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        repeating = Repeating(fail)
        repeating.start(2.0)
        asyncio.get_running_loop().call_later(7.0, repeating.stop)

    assert times_of(scenario, 20.0) == [2.0, 4.0, 6.0]
