"""Facts by file state: which facts (`decide.facts`) are known of the state that a file of this host is in.

A file's state is its `FileKey`: device, inode or handle, size and times. Only for files on a trusted path does it vouch
for their content, so no others are kept, which `decide.lookup` sees to.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from eclctl.dataclass import dataclass
from eclctl.decide.facts import Facts
from eclctl.files.locating import FileKey
from eclctl.model import Alias


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start, but `entries`, which is now."""

    entries: int
    hits: int
    misses: int
    evictions: int


class Kept(NamedTuple):
    """Facts of one state of one file. `path` is where it was when it was read, None where no name led to it."""

    key: FileKey
    facts: Facts
    path: str | None
    aliases: tuple[Alias, ...] = ()


class FactCache:
    """At most `capacity` files, least recently used first out. Safe for use from several threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[int, int], Kept] = OrderedDict()
        self._hits = 0
        self._misses = 0
        self._evictions = 0
        self._revision = 0

    def get(self, key: FileKey, *, store: str, digested: bool, whole: bool = False) -> Facts | None:
        """Return the facts kept for exactly this state of this file, if they were found with this key store.

        With `digested`, or `whole`, only those that have the digests of all objects, or of the whole file.
        """
        name = (key.device, key.inode)
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or entry.key != key or not entry.facts.serve(store, digested=digested, whole=whole):
                self._misses += 1
                return None
            self._entries.move_to_end(name)
            self._hits += 1
            return entry.facts

    def put(self, key: FileKey, facts: Facts, path: str | None = None, aliases: tuple[Alias, ...] = ()) -> None:
        """Keep facts; those of an earlier state of the same file go."""
        name = (key.device, key.inode)
        with self._lock:
            self._revision += 1
            self._entries[name] = Kept(key, facts, path, aliases)
            self._entries.move_to_end(name)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
                self._evictions += 1

    def holds(self, *, device: int, inode: int, size: int, ctime_ns: int, store: str) -> bool:
        """Whether facts are kept for a file that looks like this, without opening it. Not a basis for a decision."""
        entry = self._entries.get((device, inode))
        return entry is not None and (entry.key.size, entry.key.ctime_ns, entry.facts.store) == (size, ctime_ns, store)

    def flush(self) -> int:
        """Forget everything; return how many files were known."""
        with self._lock:
            count = len(self._entries)
            self._revision += 1
            self._entries.clear()
            return count

    def kept(self) -> list[Kept]:
        """Return what is kept, most recently used first."""
        with self._lock:
            return list(reversed(self._entries.values()))

    @property
    def revision(self) -> int:
        """A number that changes whenever other facts are kept."""
        return self._revision

    def stats(self) -> CacheStats:
        """Return the counters."""
        with self._lock:
            return CacheStats(len(self._entries), self._hits, self._misses, self._evictions)
