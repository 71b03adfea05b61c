"""What is asked of the engine, and what it answers: the types, without any deciding."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, NamedTuple

from eclctl.dataclass import dataclass, field
from eclctl.decide.key_reports import KeyReport
from eclctl.decide.snapshot import Snapshot
from eclctl.files.locating import Located
from eclctl.files.lookup_rights import OWN_RIGHTS, LookupRights
from eclctl.files.mounts import Mounts
from eclctl.files.sandbox_walk import WalkResult
from eclctl.files.trusted_path import Weakness
from eclctl.files.writers import Writers
from eclctl.model import Alias, Caller, Code, Missing, Outcome, SignatureReport
from eclctl.terms import Assurance, Kind, Verdict
from eclctl.trust.revocation import Link


class Question(NamedTuple):
    """May this caller run this image?

    image: its absolute name as the caller wrote it (bytes decoded with surrogateescape).
    caller: who asks.
    descriptor: the image as the caller opened it; the asker closes it. None when the name alone is given.
    role: what the image is in the launch, a lower-case word: `rootfs`, `overlay`.
    explain: whether the report on each requirement is asked for.
    asker: the rights that the name is looked up with.
    """

    image: str
    caller: Caller
    descriptor: int | None = None
    role: str = "rootfs"
    explain: bool = False
    asker: LookupRights = OWN_RIGHTS


@dataclass(slots=True)
class Turn:
    """What was answered of one batch of questions, all of which were asked before the first is answered.

    When many ask the same in one moment, as the tasks of a parallel job do, one look at the image is an answer to each
    of them that is younger than the question. `answers` are decisions by what was asked and by the state of the file
    that was passed. Not kept any longer.
    """

    answers: dict[Hashable, Given] = field(default_factory=dict)


class Given(NamedTuple):
    """A decision that serves others who ask the same: only while the same is mounted, and for a moment."""

    decision: Decision
    mounts: Mounts
    until: float

    def serves(self, generation: int, mounts: Mounts, time: float) -> bool:
        """Tell whether it answers a question to a policy's generation, with what is mounted now, at a time."""
        return self.decision.generation == generation and self.mounts is mounts and time < self.until


class Decision(NamedTuple):
    """The answer, with everything that a wrapper, a user, a log record or a metric needs to know of it.

    id: unique among all decisions of all daemons.
    question: what was asked.
    outcome: what the policy says; with a report on each requirement when it was asked for.
    kind: of the image, None when it is not known.
    path: its resolved name, None when its name does not lead to it or it was not found.
    assurance: its assurance level; `weak` says why that is not `trusted-path`.
    cached: whether the facts were at hand.
    generation, policy: number and digest of the snapshot that was in force.
    signatures: what became of each signature, when that was asked for; `keys`, in the same order, who made them.
    writers: whether a process has the image open for writing.
    aliases: its other names.
    """

    id: str
    question: Question
    outcome: Outcome
    kind: Kind | None
    path: str | None
    assurance: Assurance | None
    cached: bool
    generation: int
    policy: str | None
    signatures: tuple[SignatureReport, ...] = ()
    keys: tuple[KeyReport | None, ...] = ()
    weak: Weakness | None = None
    writers: Writers = Writers.NOT_KNOWN
    aliases: tuple[Alias, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Allow or deny."""
        return self.outcome.verdict

    @property
    def code(self) -> Code:
        """The reason, from the closed list."""
        return self.outcome.code

    @property
    def reason(self) -> str:
        """One sentence for the user."""
        return self.outcome.reason

    @property
    def rule(self) -> str | None:
        """The name of the deciding rule."""
        return self.outcome.rule

    @property
    def mode(self) -> str:
        """`enforce` or `permissive`."""
        return self.outcome.mode

    @property
    def signers(self) -> tuple[str, ...]:
        """Who signed, of those that the policy knows."""
        return self.outcome.signers

    @property
    def missing(self) -> tuple[Missing, ...]:
        """Each unmet requirement."""
        return self.outcome.missing

    @property
    def would(self) -> Code | None:
        """What a permissive rule turned into allow."""
        return self.outcome.would

    @property
    def message(self) -> str | None:
        """What the rule tells a user who is denied."""
        return self.outcome.message


@dataclass(slots=True)
class Pending:
    """A question whose answer needs work that may wait, which is the work of a stage: each stage is a type of its own.

    `status_asked`: what could be asked about certificates was asked.
    """

    question: Question
    snapshot: Snapshot
    status_asked: bool = field(default=False, kw_only=True)

    def close(self) -> None:
        """Give back what is held open. May be called twice."""


class Opening(Pending):
    """Stage `open`: finding the image may wait for a file system. Call `begin` with `anywhere` in a worker thread."""

    __slots__ = ()


@dataclass(slots=True)
class StatusNeeded(Pending):
    """Stage `status`: nothing is known of certificates. Ask about `links`, then call `begin` with `status_asked`."""

    links: tuple[Link, ...]


@dataclass(slots=True)
class Lookup(Pending):
    """Stage `lookup`: the image's facts are not at hand. Call `look_up` in a worker thread, then `conclude`.

    located: the image as it was found, None once it is closed.
    content: whether signatures and content matter, and not the kind of the file alone.
    key: look-ups with equal keys may share one result; None is never shared.
    checked: after reading, it was seen that the image is what it was before.
    look: what was found in a directory, where that is kept for no other question.
    """

    located: Located | None
    content: bool = True
    key: Hashable | None = None
    checked: bool = False
    look: WalkResult | None = None

    def close(self) -> None:
        """Give back the descriptor. May be called twice."""
        located, self.located = self.located, None
        if located is not None:
            located.close()


@dataclass(frozen=True, slots=True)
class Prefetched:
    """What came of verifying an image ahead of time. Never a verdict."""

    status: Literal["kept", "known", "not-kept", "failed"]
    reason: str = ""
