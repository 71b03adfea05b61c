"""Runs tests through the daemon's own engine, and compares its decisions with what was expected.

The engine decides as it does for a caller, in its own order, under a generation of its own making. Only what surrounds
it is the test's: where the image lies and what that place is worth (`_Placed`), what reading a described image showed
(`Facts`), and what responders say (`_Told`). Each test has an engine of its own: an engine's time never goes back.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

from eclctl.dataclass import dataclass, field, replace
from eclctl.decide.cache import FactCache
from eclctl.decide.driving import drive
from eclctl.decide.engine import Engine
from eclctl.decide.facts import Facts, Judgements
from eclctl.decide.questions import Decision, Lookup, Question
from eclctl.decide.snapshot import Snapshot
from eclctl.files.locating import Located, Locator, Recheck
from eclctl.files.lookup_rights import OWN_RIGHTS, LookupRights
from eclctl.files.mounts import MountTable
from eclctl.files.syscalls import Attributes
from eclctl.files.trusted_path import Weakness
from eclctl.model import Claim
from eclctl.policytest.cases import Case, Expectation, Supposed
from eclctl.terms import Assurance, Finding, Kind
from eclctl.trust.keyring import KeyStore
from eclctl.trust.revocation import NO_STATUS, Known, Status, StatusSource, StatusSubject
from eclctl.verify.hashing import HashPool

_REVOKED = Finding("revoked", "it is revoked, as the test supposes")
_HOUR = timedelta(hours=1)
_NOT_OPEN = -1


@dataclass(frozen=True, slots=True)
class AnswerDifference:
    """Something that was answered otherwise than expected; both sides are text for people."""

    what: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of a test. It passed when nothing differs."""

    case: Case
    decision: Decision
    differences: tuple[AnswerDifference, ...]

    @property
    def passed(self) -> bool:
        """Whether the answer was as expected."""
        return not self.differences


@dataclass(slots=True)
class Runner:
    """Runs the tests of one policy. Each image file is read once for all tests; `close` ends its threads.

    `elsewhere` are the snapshots of the same policy on other hosts, by name.
    """

    snapshot: Snapshot
    elsewhere: Mapping[str, Snapshot] = field(default_factory=dict)
    _mounts: MountTable = field(default_factory=MountTable)
    _pool: HashPool = field(default_factory=lambda: HashPool(1))
    _known: dict[tuple[str, bool], Facts] = field(default_factory=dict)

    def close(self) -> None:
        """End the threads."""
        self._pool.close()
        self._mounts.close()

    def run(self, case: Case) -> CaseResult:
        """Put a test to the engine. Never raises for what an image or a policy holds: that is a deny."""
        locator = _Placed(self._mounts, frozenset(), case)
        snapshot = self.snapshot if case.host is None else self.elsewhere[case.host]
        engine = Engine(locator, self._pool, FactCache(1), snapshot, _Told(case.ocsp))
        question = Question(case.path or "", case.caller, role=case.role)
        look_up = partial(self._facts, engine, case)
        decision = drive(engine, question, None, lambda: case.now, look_up=look_up)
        return CaseResult(case, decision, differences(case.expect, decision))

    def _facts(self, engine: Engine, case: Case, lookup: Lookup) -> Facts:
        store = self.snapshot.store
        if isinstance(case.image, Supposed):
            revoked = dict.fromkeys(case.image.revoked, _REVOKED)
            return Facts(store.digest, case.image.verification, digested=True, judgements=_Supposing(revoked))
        key = (case.image, lookup.content)
        if key not in self._known:
            self._known[key] = engine.look_up(lookup)
        lookup.checked = True
        return replace(self._known[key], judgements=Judgements())  # what was judged is a test's own


_AS_TESTED = Weakness("the test says so")


@dataclass(frozen=True, slots=True)
class _Placed(Locator):
    """Finds the image of one test, and says that it lies where the test has it."""

    case: Case

    def by_name(self, name: str, *, anywhere: bool, asker: LookupRights = OWN_RIGHTS) -> Located:
        """Return the test's image under the test's path, with no identity that anything could be kept under."""
        del name, anywhere, asker
        case = self.case
        worth = Assurance.NONE if case.path is None else case.assurance
        if isinstance(case.image, Supposed):
            found = Located(_NOT_OPEN, False, case.path, _attributes(case.image), None, worth)  # noqa: FBT003 - owned
            return found._replace(weak=_AS_TESTED)
        found = Locator.by_name(self, case.image, anywhere=True)
        return found._replace(path=case.path, key=None, assurance=worth, aliases=(), weak=_AS_TESTED, unnamed=None)

    def again(self, located: Located, second: Recheck) -> Located:
        """Return it as it was: the file lies elsewhere than the test says, and that it did not change is asked."""
        del second
        return located


def _attributes(image: Supposed) -> Attributes:
    sandbox = image.verification.kind is Kind.SANDBOX
    mode = (stat.S_IFDIR | 0o755) if sandbox else (stat.S_IFREG | 0o644)
    return Attributes(mode, 0, 0, 1, 1, 0, 0, 0, None, 0, 0)


@dataclass(frozen=True, slots=True)
class _Told:
    """What responders say in a test: of every certificate the same."""

    status: Status
    version: int = 0  # nothing else becomes known, and what was judged is kept for no other test

    def known(self, subject: StatusSubject, now: datetime) -> Known:
        """Return what the test says of a certificate."""
        del subject
        return Known(self.status, now + _HOUR, "as the test says")


class _Supposing(Judgements):
    """Judges as always, and rejects besides what a test supposes to be revoked. Keeps nothing."""

    __slots__ = ("_revoked",)

    def __init__(self, revoked: Mapping[int, Finding]) -> None:
        super().__init__()
        self._revoked = revoked

    def kept(self, store: KeyStore, now: datetime, statuses: StatusSource = NO_STATUS) -> None:
        """Return nothing: each test is judged afresh."""

    def rejected(
        self, store: KeyStore, claims: Sequence[Claim], now: datetime, statuses: StatusSource = NO_STATUS
    ) -> Mapping[int, Finding]:
        """Return what does not count at `now`, and what is supposed not to; what judging finds goes first."""
        return {**self._revoked, **super().rejected(store, claims, now, statuses)}


def differences(expect: Expectation, decision: Decision) -> tuple[AnswerDifference, ...]:
    """Return everything in which a decision is not as expected; what a test does not ask about may be anything."""
    missing = tuple(each.requirement for each in decision.missing)
    stages = tuple(each.stage for each in decision.missing if each.stage is not None)
    answer = f"{decision.verdict} {decision.code}"
    wanted = f"{expect.verdict} {expect.code}"
    found = [AnswerDifference("decision", wanted, answer)] if answer != wanted else []
    for what, expected, got in (
        ("rule", expect.rule, decision.rule),
        ("would", expect.would, decision.would),
        ("message", expect.message, decision.message),
        ("exception", expect.exception, decision.outcome.exception),
    ):
        if expected is not None and expected != got:
            found.append(AnswerDifference(what, str(expected), "none" if got is None else str(got)))
    for what, names, there in (
        ("missing", expect.missing, missing),
        ("stages", expect.stages, stages),
        ("signers", expect.signers, decision.signers),
    ):
        if names is not None and set(names) != set(there):
            found.append(AnswerDifference(what, _listed(names), _listed(tuple(dict.fromkeys(there)))))
    return tuple(found)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
