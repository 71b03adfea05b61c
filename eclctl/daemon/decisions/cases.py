"""What is under way while calls are decided: calls, their images, and the examinations that images wait for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable

    from eclctl.daemon.sockets.call import Call
    from eclctl.decide.questions import Decision, Lookup, Question
    from eclctl.decide.snapshot import Snapshot


@dataclass(slots=True, eq=False)
class Ask:
    """One image of one call.

    `held`: a thread works with its descriptors. `waited`: responders were asked about certificates for it.
    """

    case: Case
    index: int
    question: Question
    pending: Lookup | None = None
    held: bool = False
    remote: bool = False
    waited: bool = False
    settled: bool = False


@dataclass(slots=True, eq=False)
class Case:
    """One call that is being decided. `asks` are those of its images that could not be decided at once."""

    call: Call
    snapshot: Snapshot
    asks: list[Ask]
    decisions: list[Decision | None]
    left: int
    deadline: asyncio.TimerHandle | None = None

    def decided(self) -> list[Decision]:
        """All decisions, once there are all."""
        return [decision for decision in self.decisions if decision is not None]


@dataclass(slots=True, eq=False)
class Examination:
    """One look at an image's content, and everybody who waits for it. The first one's pending answer is worked on."""

    key: Hashable | None
    asks: list[Ask] = field(default_factory=list)

    def wanted(self) -> bool:
        """Whether anybody still waits."""
        return any(not ask.settled for ask in self.asks)
