"""Bipartite matching: how many things can each have something of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

Right = TypeVar("Right", bound=Hashable)


def match(wishes: Sequence[Collection[Right]]) -> list[Right | None]:
    """Give as many as possible of the left side one of their wishes each, and nothing to two of them.

    Args:
        wishes: for each on the left, what it could have. Order decides between equally large matchings.

    Returns:
        What each got, or None. The number that got something is the largest possible (Berge: no augmenting path is
        left). Iterative, so that no input exhausts the stack.
    """
    got: list[Right | None] = [None] * len(wishes)
    owner: dict[Right, int] = {}
    for start in range(len(wishes)):
        _augment(start, wishes, got, owner)
    return got


def _augment(start: int, wishes: Sequence[Collection[Right]], got: list[Right | None], owner: dict[Right, int]) -> None:
    """Search breadth-first for something free that `start` can have when others move, and move them."""
    came_from: dict[Right, int] = {}
    queue = deque([start])
    while queue:
        left = queue.popleft()
        for wish in wishes[left]:
            if wish in came_from:
                continue
            came_from[wish] = left
            if wish not in owner:
                _move(wish, came_from, got, owner)
                return
            queue.append(owner[wish])


def _move(free: Right, came_from: dict[Right, int], got: list[Right | None], owner: dict[Right, int]) -> None:
    """Walk back along the path: each takes what was found for it and leaves what it had to the one before."""
    take: Right | None = free
    while take is not None:
        left = came_from[take]
        before = got[left]
        got[left] = take
        owner[take] = left
        take = before
