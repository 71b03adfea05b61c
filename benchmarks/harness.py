"""Interleaved runs, medians, ratios: a measurement is always against a floor that was measured in the same run."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of the report. `limit` bounds `value` from above, or from below when `at_least`."""

    name: str
    value: float
    limit: float
    at_least: bool
    detail: str

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def line(self) -> str:
        sign = "≥" if self.at_least else "≤"
        value, limit = (f"{number:,.0f}" if number >= 100 else f"{number:.2f}" for number in (self.value, self.limit))
        return f"{'ok  ' if self.met else 'MISS'}  {self.name}: {value} ({sign} {limit})  {self.detail}"


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(runs: int, *works: Callable[[], float]) -> list[list[float]]:
    """Run each work in turn, `runs` times after one warm-up; return each one's figures."""
    for work in works:
        work()
    figures: list[list[float]] = [[] for _ in works]
    for _ in range(runs):
        for mine, work in zip(figures, works, strict=True):
            mine.append(work())
    return figures


def ratio(above: list[float], below: list[float]) -> float:
    """Return the median of the ratios of paired runs, so that a drift of the machine's speed cancels out."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def median(figures: list[float]) -> float:
    return statistics.median(figures)


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Keep this process on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
