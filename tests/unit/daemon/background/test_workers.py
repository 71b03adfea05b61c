"""Jobs of one lane or gate never keep the others from their turn."""

import asyncio
import threading

import pytest

from eclctl.daemon.background.workers import Workers

PATIENCE = 20.0


class Blocker:
    """A job that a test holds up."""

    def __init__(self):
        self.begun, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

    def __call__(self):
        self.begun.set()
        assert self.go.wait(PATIENCE)
        self.done.set()


def finished(workers, lane, gates=()):
    done = threading.Event()
    workers.submit(lane, done.set, gates)
    return done


def test_lanes_take_turns_however_many_jobs_one_has():
    workers = Workers("t", 1)
    first, order, last = Blocker(), [], threading.Event()
    workers.submit("busy", first)
    assert first.begun.wait(PATIENCE)
    for number in range(3):
        workers.submit("busy", lambda number=number: order.append(f"busy{number}"))
    workers.submit("other", lambda: order.append("other"))
    workers.submit("third", last.set)
    first.go.set()
    assert last.wait(PATIENCE)
    assert order.index("other") <= 1
    workers.stop()


def test_a_gate_that_hangs_leaves_threads_to_the_others():
    workers = Workers("t", 2, share=1)
    hung = [Blocker() for _ in range(3)]
    for number, job in enumerate(hung):
        workers.submit(("lane", number), job, gates=("mount",))
    assert hung[0].begun.wait(PATIENCE)
    assert finished(workers, "elsewhere", ("other mount",)).wait(PATIENCE)
    assert workers.waiting() == 2
    for job in hung:
        job.go.set()
    assert all(job.done.wait(PATIENCE) for job in hung)
    workers.stop()


def test_threads_are_reused():
    workers = Workers("t", 4)
    for _ in range(50):
        assert finished(workers, "lane").wait(PATIENCE)
    assert sum(thread.name.startswith("t-") for thread in threading.enumerate()) <= 4
    workers.stop()


def test_after_stop_no_job_begins():
    workers = Workers("t", 1)
    running = Blocker()
    workers.submit("lane", running)
    assert running.begun.wait(PATIENCE)
    late = finished(workers, "lane")
    workers.stop()
    running.go.set()
    assert running.done.wait(PATIENCE)
    assert workers.waiting() == 0
    assert not late.is_set()


def test_work_comes_back_to_the_loop_with_its_result_or_its_exception():
    async def main():
        workers, ends = Workers("t", 1), [asyncio.get_running_loop().create_future() for _ in range(2)]
        workers.run(None, threading.get_ident, ends[0].set_result)
        workers.run(None, lambda: 1 // 0, ends[1].set_result)
        async with asyncio.timeout(PATIENCE):
            thread, error = await asyncio.gather(*ends)
        workers.stop()
        return thread, error

    thread, error = asyncio.run(main())
    assert thread != threading.get_ident()
    assert isinstance(error, ZeroDivisionError)


def test_a_task_waits_for_a_result_and_gets_the_exception():
    async def main():
        workers = Workers("t", 1)
        async with asyncio.timeout(PATIENCE):
            assert await workers.result(lambda: 7) == 7
            with pytest.raises(ZeroDivisionError):
                await workers.result(lambda: 1 // 0)
        workers.stop()

    asyncio.run(main())


def test_nothing_comes_back_after_stop():
    async def main():
        workers, blocker, came = Workers("t", 1), Blocker(), []
        workers.run(None, blocker, came.append)
        assert blocker.begun.wait(PATIENCE)
        workers.stop()
        blocker.go.set()
        assert blocker.done.wait(PATIENCE)
        for thread in threading.enumerate():
            if thread.name.startswith("t-"):
                thread.join(PATIENCE)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return came

    assert asyncio.run(main()) == []


def test_a_loop_that_has_ended_is_told_nothing():
    workers, blocker = Workers("t", 1), Blocker()

    async def main():
        workers.run(None, blocker, lambda _: pytest.fail("called"))

    asyncio.run(main())
    blocker.go.set()
    assert blocker.done.wait(PATIENCE)
    assert finished(workers, None).wait(PATIENCE)  # the thread goes on
    workers.stop()
