"""Facts that are kept in memory, by the identity of the file that they were found in.

What is kept is what an examination found out, never a verdict: trust and policy are judged afresh at each decision.
Only files whose identity vouches for their content (`trusted-path`) are kept, which the engine sees to.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from eclctl.image.identity import FileKey
from eclctl.model import Finding, Verification


@dataclass(frozen=True, slots=True)
class Facts:
    """What reading one state of a file showed: its verification, or the error that stopped it.

    They hold for the key store with digest `store`. `digested` tells whether every data object's SHA-256 is there,
    which a policy that withdraws objects needs.
    """

    store: str
    verification: Verification | None
    error: Finding | None = None
    digested: bool = False


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counters since the start, but `entries`, which is now."""

    entries: int
    hits: int
    misses: int
    evictions: int


class FactCache:
    """At most `capacity` files, least recently used first out. Safe for use from several threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[int, int], tuple[FileKey, Facts]] = OrderedDict()
        self._hits = 0
        self._misses = 0
        self._evictions = 0

    def get(self, key: FileKey, *, store: str, digested: bool) -> Facts | None:
        """Return the facts kept for exactly this state of this file, if they were found with this key store."""
        name = (key.device, key.inode)
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or entry[0] != key or entry[1].store != store or (digested and not entry[1].digested):
                self._misses += 1
                return None
            self._entries.move_to_end(name)
            self._hits += 1
            return entry[1]

    def put(self, key: FileKey, facts: Facts) -> None:
        """Keep facts; those of an earlier state of the same file go."""
        name = (key.device, key.inode)
        with self._lock:
            self._entries[name] = (key, facts)
            self._entries.move_to_end(name)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
                self._evictions += 1

    def holds(self, *, device: int, inode: int, size: int, ctime_ns: int, store: str) -> bool:
        """Whether facts are kept for a file that looks like this, without opening it. Not a basis for a decision."""
        entry = self._entries.get((device, inode))
        return entry is not None and (entry[0].size, entry[0].ctime_ns, entry[1].store) == (size, ctime_ns, store)

    def flush(self) -> int:
        """Forget everything; return how many files were known."""
        with self._lock:
            count = len(self._entries)
            self._entries.clear()
            return count

    def stats(self) -> CacheStats:
        """Return the counters."""
        with self._lock:
            return CacheStats(len(self._entries), self._hits, self._misses, self._evictions)
