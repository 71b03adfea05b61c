"""The queue of files that settle before they are looked at."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eclctl.daemon.watching.settling import SettleQueue


def queue(limit: int = 10) -> SettleQueue:
    return SettleQueue(limit, settle=2.0, quick=0.5)


def test_a_closed_file_is_due_soon_and_another_later() -> None:
    waiting = queue()
    waiting.touch("open", 0.0, closed=False)
    waiting.touch("closed", 0.0, closed=True)
    assert waiting.next_due() == 0.5
    assert waiting.take(0.4) is None
    assert [waiting.take(0.5).path, waiting.take(1.9), waiting.take(2.0).path] == ["closed", None, "open"]  # type: ignore[union-attr]


def test_each_touch_starts_the_wait_anew() -> None:
    waiting = queue()
    for second in range(5):
        waiting.touch("a", float(second), closed=False)
    assert (len(waiting), waiting.take(5.9), waiting.next_due()) == (1, None, 6.0)


def test_closing_a_file_brings_its_turn_forward() -> None:
    waiting = queue()
    waiting.touch("a", 0.0, closed=False)
    waiting.touch("a", 0.1, closed=True)
    assert waiting.next_due() == 0.6
    assert waiting.take(0.6) is not None
    assert waiting.take(100.0) is None


def test_a_full_queue_refuses_new_paths_and_takes_touches_of_known_ones() -> None:
    waiting = queue(limit=2)
    assert [waiting.touch(path, 0.0, closed=True) for path in "abca"] == [True, True, False, True]
    assert len(waiting) == 2


def test_a_path_that_was_touched_meanwhile_is_not_put_back() -> None:
    waiting = queue()
    waiting.touch("a", 0.0, closed=True)
    taken = waiting.take(1.0)
    assert taken is not None
    waiting.touch("a", 1.0, closed=True)
    waiting.again(taken, 1.0, (1,))
    assert waiting.next_due() == 1.5


def test_a_path_that_is_put_back_remembers_what_was_seen() -> None:
    waiting = queue()
    waiting.touch("a", 0.0, closed=False)
    taken = waiting.take(2.0)
    assert taken is not None
    waiting.again(taken, 2.0, (7,))
    again = waiting.take(4.0)
    assert again is not None
    assert again.seen == (7,)


def test_clearing_forgets_all() -> None:
    waiting = queue()
    waiting.touch("a", 0.0, closed=True)
    waiting.clear()
    assert (len(waiting), waiting.next_due(), waiting.take(9.0)) == (0, None, None)


def test_a_path_touched_without_end_takes_no_more_room() -> None:
    waiting = queue()
    for number in range(50_000):
        waiting.touch("a", number / 10, closed=False)
    assert len(waiting._heap) < 2000


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 20), st.booleans()), max_size=40))
def test_every_path_comes_out_once_and_in_order(touches: list[tuple[str, int, bool]]) -> None:
    waiting, last = queue(), dict[str, float]()
    for path, second, closed in touches:
        waiting.touch(path, float(second), closed=closed)
        last[path] = second + (0.5 if closed else 2.0)
    taken = []
    while (item := waiting.take(100.0)) is not None:
        taken.append((item.due, item.path))
    assert sorted(taken) == sorted((due, path) for path, due in last.items())
    assert [due for due, _ in taken] == sorted(due for due, _ in taken)
