"""Facts in memory, by the identity of the file."""

from __future__ import annotations

from eclctl.decide.cache import FactCache
from eclctl.decide.facts import Facts
from eclctl.files.locating import FileKey

KEY = FileKey(device=1, inode=2, handle=b"h", size=3, ctime_ns=4, btime_ns=5)
FACTS = Facts("store", None, digested=False)


def test_gives_back_what_was_kept_for_exactly_this_state() -> None:
    cache = FactCache(10)
    cache.put(KEY, FACTS)
    assert cache.get(KEY, store="store", digested=False) is FACTS


def test_every_part_of_the_identity_counts() -> None:
    cache = FactCache(10)
    cache.put(KEY, FACTS)
    others = [KEY._replace(**{field: None if field == "handle" else 99}) for field in KEY._fields]
    assert [cache.get(other, store="store", digested=False) for other in others] == [None] * len(others)


def test_facts_of_other_keys_are_a_miss() -> None:
    cache = FactCache(10)
    cache.put(KEY, FACTS)
    assert cache.get(KEY, store="another", digested=False) is None


def test_facts_without_digests_are_a_miss_where_digests_are_needed() -> None:
    cache = FactCache(10)
    cache.put(KEY, FACTS)
    assert cache.get(KEY, store="store", digested=True) is None


def test_a_new_state_of_a_file_replaces_the_old() -> None:
    cache = FactCache(10)
    cache.put(KEY, FACTS)
    cache.put(KEY._replace(ctime_ns=5), FACTS)
    assert cache.get(KEY, store="store", digested=False) is None
    assert cache.stats().entries == 1


def test_the_least_recently_used_goes_first() -> None:
    cache = FactCache(2)
    first, second, third = (KEY._replace(inode=number) for number in (1, 2, 3))
    cache.put(first, FACTS)
    cache.put(second, FACTS)
    cache.get(first, store="store", digested=False)
    cache.put(third, FACTS)
    found = [cache.get(key, store="store", digested=False) is not None for key in (first, second, third)]
    assert found == [True, False, True]
    assert cache.stats().evictions == 1


def test_flushing_forgets_everything_and_says_how_much() -> None:
    cache = FactCache(10)
    cache.put(KEY, FACTS)
    assert (cache.flush(), cache.flush()) == (1, 0)
    assert cache.get(KEY, store="store", digested=False) is None


def test_a_file_is_held_only_in_the_state_that_was_kept() -> None:
    cache = FactCache(10)
    cache.put(KEY, FACTS)
    assert cache.holds(device=1, inode=2, size=3, ctime_ns=4, store="store")
    assert not cache.holds(device=1, inode=2, size=3, ctime_ns=5, store="store")
    assert not cache.holds(device=1, inode=2, size=3, ctime_ns=4, store="another")
