"""What exceptions are worth at a given time. What an active one makes of a deny is in `breakglass_apply`.

Like facts, what an exception's file says and which keys signed it are found once, when it is loaded. Whether these
signatures still count and whether it is time is judged at each decision, so that a revoked key or the end of an
exception changes the very next answer. Nothing that came of it is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from eclctl.config.document import Problem
from eclctl.dataclass import dataclass, field
from eclctl.policy.breakglass import PolicyException, Standing, State, approvers
from eclctl.policy.language import ExceptionTerms, Policy
from eclctl.terms import Finding, KeyRef
from eclctl.text import counted, duration_as_written
from eclctl.trust.keyring import KeyStore, judge_claim

__all__ = [
    "NO_EXCEPTIONS",
    "PURPOSE",
    "Approval",
    "Candidate",
    "Exceptions",
    "Standing",
    "State",
    "exception_turning_points",
    "moment",
    "standing",
]


@dataclass(frozen=True, slots=True)
class Approval:
    """A signature that a key made over an exception's file; whether it counts is judged.

    `file` is where it lies, and `purposes` what it says that it is for.
    """

    signer: KeyRef
    key: str
    created: datetime | None
    expires: datetime | None
    file: str
    purposes: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An exception's file, as it was loaded.

    `name` is its file's without `.yaml`, unescaped. `digest` is `sha256:<hex>` of the file, "" when it could not be
    read. `exception` is None when anything is wrong with it: `problems` say what. `unusable` says the same of
    signatures beside it.
    """

    name: str
    file: str
    digest: str
    exception: PolicyException | None
    approvals: tuple[Approval, ...] = ()
    problems: tuple[Problem, ...] = ()
    unusable: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Exceptions:
    """All exceptions of a policy, in the order of their names.

    `digest` is `sha256:<hex>` over all that was read, "" where the policy knows no exceptions. `sizes` are those of the
    files that any of them names: only a file of such a size has to be hashed as a whole.
    """

    candidates: tuple[Candidate, ...] = ()
    digest: str = ""
    sizes: frozenset[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named = [candidate.exception for candidate in self.candidates if candidate.exception is not None]
        object.__setattr__(self, "sizes", frozenset(file.size for each in named for file in each.files))


PURPOSE = "exception"
"""What a signature that says what it is for must be for, to approve an exception. One that says nothing does."""

NO_EXCEPTIONS = Exceptions()


def standing(candidate: Candidate, policy: Policy, store: KeyStore, now: datetime) -> Standing:
    """Return how an exception stands at `now`, which must never run backwards."""
    found, terms = candidate.exception, policy.exceptions
    if found is None or terms is None:
        first = candidate.problems[0].message if candidate.problems else "the policy knows no exceptions"
        return Standing(State.REFUSED, f"its file is refused: {first}")
    judged = [(approval, _judge(approval, found, terms, store, now)) for approval in candidate.approvals]
    people = approvers(policy, terms, [approval.signer.id for approval, finding in judged if finding is None])
    discounted = tuple(
        [f"{_who(policy, approval)} does not count: {finding.message}" for approval, finding in judged if finding]
        + [f"{problem.file}: {problem.message}" for problem in candidate.unusable]
    )
    state, why = _state(found, terms, people, now)
    return Standing(state, why, people, discounted)


def _state(found: PolicyException, terms: ExceptionTerms, people: Sequence[str], now: datetime) -> tuple[State, str]:
    if now >= found.ends:
        return State.ENDED, f"it ended on {moment(found.ends)}"
    if len(people) < terms.count:
        have = f"{len(people)} ({', '.join(people)})" if people else "none"
        needed = counted(terms.count, "approval")
        return State.UNAPPROVED, f"it needs {needed} from {terms.role} and has {have}"
    by = f"approved by {', '.join(people)}"
    if now < found.starts:
        return State.WAITING, f"it starts on {moment(found.starts)}, {by}"
    return State.ACTIVE, f"until {moment(found.ends)}, {by}"


def _judge(
    approval: Approval, found: PolicyException, terms: ExceptionTerms, store: KeyStore, now: datetime
) -> Finding | None:
    finding = judge_claim(store, approval, now)
    if finding is not None:
        return finding
    if approval.purposes and PURPOSE not in approval.purposes:
        return Finding("other-purpose", f"it says that it is for something else, not for the purpose {PURPOSE}")
    longest = timedelta(seconds=terms.longest)
    if approval.created is None or found.ends - approval.created > longest:
        return Finding(
            "too-early", f"it was made more than {duration_as_written(terms.longest)} before the exception ends"
        )
    return None


def _who(policy: Policy, approval: Approval) -> str:
    holder = policy.holders.get(approval.signer.id)
    return f"the signature of {', '.join(holder.people) if holder is not None else approval.signer.id}"


def moment(time: datetime) -> str:
    """Write a time for people, in UTC and to the second: `2026-11-22 03:00:00Z`."""
    return f"{time:%Y-%m-%d %H:%M:%S}Z"


def exception_turning_points(exceptions: Exceptions) -> tuple[float, ...]:
    """Return when exceptions start and end, in seconds since the epoch."""
    named = [candidate.exception for candidate in exceptions.candidates if candidate.exception is not None]
    return tuple(time.timestamp() for each in named for time in (each.starts, each.ends))
