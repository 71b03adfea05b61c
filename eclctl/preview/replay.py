"""Goes through images and recorded decisions, and adds up what would change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TypeAlias

from eclctl.dataclass import dataclass, field
from eclctl.decide.questions import Decision
from eclctl.errors import EclctlError
from eclctl.model import Caller, Code
from eclctl.preview.callers import Callers, Probe
from eclctl.preview.changes import FLIPS, AnswerChange, ChangedImage, FirstChanges, compare, describe_answer
from eclctl.preview.policy_pair import ImageUnderBoth, PolicyPair, exists_at
from eclctl.preview.records import History, Launches, RecordedCaller
from eclctl.terms import Kind, Verdict

_UNJUDGED = frozenset({Code.UNREADABLE, Code.BUSY, Code.TIMEOUT, Code.INTERNAL_ERROR})
_NO_IMAGE = frozenset({None, Kind.OTHER})
_ROLE = "rootfs"
_Pair: TypeAlias = tuple[Decision, Decision]


@dataclass(slots=True)
class ReplayResult:
    """What changes.

    `images` counts each image once, by the weightiest change for any caller, `decisions` each recorded one, and `users`
    has those of the latter. `gone` are decisions on `gone_images` that are no more. `unjudged_images` could not be read
    now, so that nothing is known of them nor of `unjudged_decisions`; `unjudged` says why of the first. `files` are
    those that are no image and that no rule is about. `drifted` are decisions that today's policy would already answer
    otherwise. `unknown_users` are in records, and this host does not know them. `coarse_images` have rules for so many
    groups that not all who are in several of them were asked for.
    """

    top: FirstChanges
    images: Counter[AnswerChange] = field(default_factory=Counter)
    decisions: Counter[AnswerChange] = field(default_factory=Counter)
    users: dict[AnswerChange, set[int]] = field(default_factory=dict)
    gone: int = 0
    gone_images: int = 0
    unjudged: dict[str, str] = field(default_factory=dict)
    unjudged_images: int = 0
    unjudged_decisions: int = 0
    files: int = 0
    drifted: int = 0
    unknown_users: set[int] = field(default_factory=set)
    coarse_images: int = 0

    @property
    def flips(self) -> bool:
        """Whether any answer turns from allow to deny or back."""
        return any(self.images[change] or self.decisions[change] for change in FLIPS)


_MOST_NAMED = 20


@dataclass(slots=True)
class _Replay:
    looker: PolicyPair
    callers: Callers
    history: History
    result: ReplayResult
    identify: Callable[[Caller], Caller]
    users: dict[int, Caller | None] = field(default_factory=dict)

    def path(self, path: str) -> None:
        """Look at what is at a path, under both policies and for all callers."""
        try:
            image = self.looker.look(path)
        except EclctlError as error:
            self._missing(path, str(error))
            return
        try:
            self._image(path, image)
        finally:
            image.close()

    def _missing(self, path: str, why: str) -> None:
        decisions = sum(launches.count for _, launches in self.history.askers(path))
        if exists_at(path) is False:
            self.result.gone += decisions
            self.result.gone_images += decisions > 0  # else it went while the tree was walked
        else:
            self._unjudged(path, why, decisions)

    def _unjudged(self, path: str, why: str, decisions: int) -> None:
        result = self.result
        result.unjudged_images += 1
        result.unjudged_decisions += decisions
        if len(result.unjudged) < _MOST_NAMED:
            result.unjudged[path] = why

    def _image(self, path: str, image: ImageUnderBoth) -> None:
        recorded = list(self.history.askers(path))
        as_root = image.ask(Caller(0, 0), _ROLE)  # only to find out what kind of image it is
        kind = as_root[0].kind or as_root[1].kind
        probed = [(probe, image.ask(probe.caller, _ROLE)) for probe in self.callers.of(image.path or path, kind)]
        replayed = [(asker, launches, image.ask(self._caller(asker), asker.role)) for asker, launches in recorded]
        answers = [as_root, *(each for _, each in probed), *(each for _, _, each in replayed)]
        failed = next((each for pair in answers for each in pair if each.code in _UNJUDGED), None)
        if failed is not None:
            self._unjudged(path, failed.reason, sum(launches.count for _, launches in recorded))
        elif not recorded and kind in _NO_IMAGE and all(each.code is Code.NO_RULE for pair in answers for each in pair):
            self.result.files += 1
        else:
            self._count(image, probed, replayed)

    def _count(
        self,
        image: ImageUnderBoth,
        probed: Sequence[tuple[Probe, _Pair]],
        replayed: Sequence[tuple[RecordedCaller, Launches, _Pair]],
    ) -> None:
        entries: dict[tuple[object, ...], ChangedImage] = {}

        def entry(caller: Caller, role: str, answers: _Pair) -> ChangedImage:
            key = tuple((each.code, each.would, each.rule, each.outcome.rule_where) for each in answers)
            if key not in entries:
                old, new = image.ask(caller, role, explain=True)
                change = compare(old, new)
                told = describe_answer(old), describe_answer(new)
                entries[key] = ChangedImage(image.path or "", old.kind or new.kind, change, *told)
            return entries[key]

        self.result.coarse_images += any(probe.coarse for probe, _ in probed)
        for probe, answers in probed:
            if compare(*answers) is not AnswerChange.SAME:
                entry(probe.caller, _ROLE, answers).probes.append(probe)
        for asker, launches, answers in replayed:
            change = compare(*answers)
            self.result.decisions[change] += launches.count
            self.result.users.setdefault(change, set()).add(asker.uid)
            if (answers[0].verdict is Verdict.ALLOW) is not launches.allowed:
                self.result.drifted += launches.count
            if change is not AnswerChange.SAME:
                entry(self._caller(asker), asker.role, answers).add(asker.uid, launches)
        changes = (each.change for each in entries.values())
        self.result.images[min(changes, key=lambda change: change.weight, default=AnswerChange.SAME)] += 1
        for each in entries.values():
            self.result.top.add(each)

    def _caller(self, asker: RecordedCaller) -> Caller:
        if asker.uid not in self.users:
            self.users[asker.uid] = self.callers.resolve(asker.uid)
        user = self.users[asker.uid]
        groups = frozenset({asker.gid}) if user is None else user.groups | {asker.gid}
        caller = self.identify(Caller(asker.uid, asker.gid, groups))
        if user is None and caller.identity is None:
            self.result.unknown_users.add(asker.uid)
        return caller


def replay(
    looker: PolicyPair,
    paths: Iterable[str],
    history: History,
    resolve: Callable[[int], Caller | None],
    *,
    identify: Callable[[Caller], Caller] = lambda caller: caller,
    limit: int | None = None,
    tick: Callable[[str], None] = lambda _: None,
) -> ReplayResult:
    """Put images and recorded decisions to two policies.

    Args:
        looker: the policies.
        paths: absolute paths of images; each is looked at once, also when it is there twice.
        history: recorded decisions; those on other images are asked again after `paths`.
        resolve: returns a user with the groups that they are in now, None for one that the host does not know.
        identify: returns a recorded caller with the identity that rules know them by.
        limit: how many entries the result keeps; None keeps all.
        tick: is called with each path before it is looked at.
    """
    callers = Callers((looker.old.snapshot, looker.new.snapshot), resolve)
    work = _Replay(looker, callers, history, ReplayResult(FirstChanges(limit)), identify)
    seen: set[str] = set()
    for path in chain(paths, history.questions):
        if path not in seen:
            seen.add(path)
            tick(path)
            work.path(path)
    return work.result
