"""What is under way while questions are decided: calls, their images, and the examinations that images wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eclctl.dataclass import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from eclctl.daemon.background.timers import Timer
    from eclctl.daemon.sockets.peers import Peer
    from eclctl.decide.questions import Decision, Lookup, Question
    from eclctl.decide.snapshot import Snapshot


@dataclass(slots=True, eq=False)
class ImageCheck:
    """One image of one call that could not be decided at once.

    * `in_thread`: a thread works with its descriptors.
    * `remote`: the image is on a file system that may hang.
    * `status_asked`: responders were asked about certificates for it.
    * `done`: it is decided.
    """

    call: CheckCall
    index: int
    question: Question
    pending: Lookup | None = None
    in_thread: bool = False
    remote: bool = False
    status_asked: bool = False
    done: bool = False


@dataclass(slots=True, eq=False)
class CheckCall:
    """Questions that are decided, recorded and answered together, under one snapshot.

    * `caller`: the process that asked.
    * `method`, `started`: how and when (`time.perf_counter`) it asked, for the audit record.
    * `answer`: takes the decisions once they are recorded, None when the daemon failed to decide.
    * `decisions`: one for each question, None until it is made; `left` of them are still to be made.
    * `checks`: the images that could not be decided at once.
    """

    caller: Peer
    method: str
    started: float
    answer: Callable[[Sequence[Decision] | None], None]
    snapshot: Snapshot
    decisions: list[Decision | None]
    left: int
    checks: list[ImageCheck] = field(default_factory=list)
    deadline: Timer | None = None

    def decided(self) -> list[Decision]:
        """Return the decisions that are made, in the order of the questions."""
        return [decision for decision in self.decisions if decision is not None]


@dataclass(slots=True, eq=False)
class Examination:
    """One look at an image's content, and the checks that wait for it. It works on the first one's pending answer.

    `seconds`: how long the look took.
    """

    key: Hashable | None
    checks: list[ImageCheck] = field(default_factory=list)
    seconds: float = 0.0
