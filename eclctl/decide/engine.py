"""The engine: an image, a caller and a snapshot make a decision.

In steps, so that a server with an event loop can take those that never block at once and hand the others to threads:

1. `begin` locates the image and answers from kept facts. When the image lies on a file system that may stall, has to be
   read, or a certificate's responder has to be asked first, it returns a `Pending` instead.
2. `examine` reads the image in a worker thread. Callers whose `Pending` has the same key share one examination.
3. `conclude` judges the facts at the given time and evaluates the policy.

The engine never asks a responder: `statuses` is what others were told. When nothing is known of a certificate that must
be good, it says so once; begun again with `waited`, it takes what there is, and what is not known is not good.

Everything that goes wrong in any step becomes a deny here and nowhere else. The engine reads no clock: `now` is an
argument, and never runs backwards nor slower than time goes by, so that setting the clock back neither revives an
expired key nor gives anything that is about to end a longer life.
"""

from __future__ import annotations

import fcntl
import itertools
import math
import os
import secrets
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from eclctl.decide.breakglass_apply import SOFTENED, soften
from eclctl.decide.cache import FactCache, Facts
from eclctl.decide.evidence import keys_behind
from eclctl.decide.questions import Decision, Given, Pending, Prefetched, Question, Turn
from eclctl.decide.refusals import NO_RULE, before_reading, no_rule, too_low
from eclctl.decide.snapshot import Snapshot
from eclctl.errors import BusyImageError, EclctlError, UnreadableImageError
from eclctl.files import locating
from eclctl.files.canonical_name import NotLocalError
from eclctl.files.locating import Located, Locator, Recheck
from eclctl.files.syscalls import Attributes, attributes
from eclctl.model import (
    Assurance,
    Caller,
    Code,
    DataObject,
    Finding,
    Kind,
    Outcome,
    Verification,
)
from eclctl.policy.ages import too_old
from eclctl.policy.evaluate import evaluate, withdrawn
from eclctl.policy.language import Policy, Rule
from eclctl.policy.messages import Said
from eclctl.policy.report import signatures
from eclctl.policy.select import select_rule
from eclctl.sif.kind import sniff
from eclctl.trust.keyring import unasked
from eclctl.trust.revocation import NO_STATUS, StatusSource
from eclctl.verify import HashPool, examine, hash_file, kind_of

_FILE_KINDS = (Kind.SIF, Kind.OCI_SIF, Kind.SQUASHFS, Kind.EXT3, Kind.OTHER)
_TRUSTED_PATH = Assurance.TRUSTED_PATH
_SHARED_SECONDS = 0.002  # for so long a look at an image serves those who asked the same in the same turn
_CORRECTION = 1.0  # seconds by which a clock may be behind without having been set back: it is read before `elapsed`


@dataclass(slots=True)
class Engine:
    """Decides. One for each daemon; safe for use from several threads.

    `elapsed` tells in seconds how much time has gone by, whatever is done to the clock. Without it, time stands still
    while the clock is behind the newest time seen, which is enough for a process that ends at once. `file_time` tells
    in nanoseconds since the epoch what time it is for files: by the clock that their change times come from, and not
    the time that decisions are made at. Without it, no facts are kept. `on_bug` is told every error that becomes the
    code `internal-error`, in whichever thread that is; it must not raise.
    """

    locator: Locator
    pool: HashPool
    cache: FactCache
    snapshot: Snapshot
    statuses: StatusSource = NO_STATUS
    elapsed: Callable[[], float] = lambda: 0.0
    file_time: Callable[[], int] = lambda: 0
    on_bug: Callable[[BaseException], None] = lambda _: None
    _latest: datetime = field(default=datetime.min.replace(tzinfo=UTC), init=False)
    _lead: float = field(default=-math.inf, init=False)  # the most that the clock was ahead of `elapsed`, in seconds
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _run: str = field(default_factory=lambda: secrets.token_hex(6), init=False)
    _count: itertools.count[int] = field(default_factory=lambda: itertools.count(1), init=False)

    def install(self, snapshot: Snapshot) -> None:
        """Swap in a whole new snapshot. Decisions that have begun finish under the one that they began with."""
        self.snapshot = snapshot

    def begin(
        self,
        question: Question,
        snapshot: Snapshot,
        now: datetime,
        *,
        anywhere: bool = False,
        waited: bool = False,
        turn: Turn | None = None,
    ) -> Decision | Pending:
        """Answer at once, or say what is needed first.

        Unless `anywhere`, only local file systems are touched, and nothing is read. `waited`: what could be asked about
        certificates was asked. Never raises.
        """
        if turn is None:
            return self._begin(question, snapshot, now, anywhere, waited=waited)
        try:
            found = None if question.descriptor is None else attributes(question.descriptor)
            asked, mounts = _asked(question, found), self.locator.mounts.current()[0]
        except OSError:  # of a descriptor that shows nothing, or without a descriptor for the table of mounts
            return self._begin(question, snapshot, now, anywhere, waited=waited)
        time, given = self.elapsed(), turn.answers.get(asked)
        if given is not None and given.serves(snapshot.generation, mounts, time):
            return self._again(given.decision, question)
        answer = self._begin(question, snapshot, now, anywhere, waited=waited, found=found)
        # Of two names of a file, only what the kernel calls its descriptor tells by which it was opened.
        if isinstance(answer, Decision) and (found is None or found.is_directory or found.links == 1):
            turn.answers[asked] = Given(answer, mounts, time + _SHARED_SECONDS)
        return answer

    def _begin(
        self,
        question: Question,
        snapshot: Snapshot,
        now: datetime,
        anywhere: bool,  # noqa: FBT001 - as begin's
        *,
        waited: bool,
        found: Attributes | None = None,
    ) -> Decision | Pending:
        now = self.not_before(now)
        policy = snapshot.policy
        if policy is None:
            return self.deny(question, snapshot, Code.NO_POLICY, "no policy is loaded, so nothing may run")
        try:
            located = self._locate(question, anywhere, found)
        except NotLocalError:
            return Pending(question, snapshot, "open", waited=waited)
        except Exception as error:  # noqa: BLE001 - the one place where every error is a deny
            return self._refuse(question, snapshot, self._finding(error))
        try:
            answer = self._from_kept_facts(question, snapshot, policy, located, now, waited=waited)
        except Exception as error:  # noqa: BLE001 - likewise
            answer = self._refuse(question, snapshot, self._finding(error), located)
        if isinstance(answer, Decision) or answer.located is None:
            located.close()
        return answer

    def examine(self, pending: Pending) -> Facts:
        """Read the image and find out who signed what. Blocks; never raises: an error is part of the facts."""
        located = pending.located
        try:
            if located is None:
                raise RuntimeError("the image was closed before it was examined")  # noqa: TRY301
            return self._examined(pending, located)
        except Exception as error:  # noqa: BLE001 - every error is a deny
            return Facts(pending.snapshot.store.digest, None, self._finding(error))

    def conclude(self, pending: Pending, facts: Facts, now: datetime) -> Decision | Pending:
        """Judge facts at `now` and decide, unless something must be asked first. Closes `pending`; never raises."""
        question, snapshot, waited = pending.question, pending.snapshot, pending.waited
        try:
            if pending.located is None:
                raise RuntimeError("the question was closed before it was answered")  # noqa: TRY301
            if facts.error is None and not pending.located.local and not pending.checked:
                return Pending(question, snapshot, "open", waited=waited)  # looking again may block
            located = pending.located
            if facts.error is None and located.local:
                try:
                    located = self._look_again(pending, anywhere=False)
                except NotLocalError:  # the name, or another name of the file, leads where looking may block
                    if not pending.checked:
                        return Pending(question, snapshot, "open", waited=waited)
            return self._decided(question, snapshot, located, facts, self.not_before(now), waited=waited)
        except Exception as error:  # noqa: BLE001 - every error is a deny
            return self._refuse(pending.question, pending.snapshot, self._finding(error))
        finally:
            pending.close()

    def decide(self, question: Question, now: datetime) -> Decision:
        """Decide in one call that may block, from what is known of certificates without asking."""
        answer = self.begin(question, self.snapshot, now, anywhere=True, waited=True)
        while isinstance(answer, Pending):
            answer = self.conclude(answer, self.examine(answer), now)
        return answer

    def deny(self, question: Question, snapshot: Snapshot, code: Code, reason: str) -> Decision:
        """Return a deny for a reason that no policy gave: a time-out, a limit, a failed audit log."""
        return self._decision(question, snapshot, Outcome(code, reason))

    def prefetch(self, path: str) -> Prefetched:
        """Verify an image ahead of time and keep the facts. Blocks; never raises, and never decides."""
        question = Question(path, Caller(os.getuid(), os.getgid()))
        snapshot = self.snapshot
        if snapshot.policy is None:
            return Prefetched("not-kept", "no policy is loaded")
        try:
            located = self.locator.by_name(path, anywhere=True)
        except EclctlError as error:
            return Prefetched("failed", str(error))
        pending = Pending(question, snapshot, "examine", located)
        try:
            return self._prefetched(pending, snapshot.policy, located)
        finally:
            pending.close()

    def known(self, status: os.stat_result) -> bool:
        """Whether facts are kept for a file in the state that stat shows. Only saves work; decides nothing."""
        return self.cache.holds(
            device=status.st_dev,
            inode=status.st_ino,
            size=status.st_size,
            ctime_ns=status.st_ctime_ns,
            store=self.snapshot.store.digest,
        )

    def not_before(self, now: datetime) -> datetime:
        """Return the time that counts: `now`, or where the clock was set back, the newest seen and what has gone by.

        A time that merely stood still would let an exception, or an open window, last for as long as the clock is back.
        """
        with self._lock:
            lead = now.timestamp() - self.elapsed()
            if lead > self._lead:
                self._lead = lead
            elif self._lead - lead > _CORRECTION:
                now += timedelta(seconds=self._lead - lead)
            self._latest = max(self._latest, now)
            return self._latest

    def flush(self) -> int:
        """Forget all kept facts, and what was found in sandboxes; return how many images were known."""
        if self.locator.sandboxes is not None:
            self.locator.sandboxes.forget()
        return self.cache.flush()

    def _locate(self, question: Question, anywhere: bool, found: Attributes | None) -> Located:  # noqa: FBT001 - as begin's
        name, descriptor, asker = question.image, question.descriptor, question.asker
        if descriptor is None:
            return self.locator.by_name(name, anywhere=anywhere, asker=asker)
        return self.locator.by_descriptor(name, descriptor, anywhere=anywhere, asker=asker, found=found)

    def _look_again(self, pending: Pending, *, anywhere: bool = True) -> Located:
        """Locate an image that was read anew: what must be true when it is answered is looked at last."""
        located, question = pending.located, pending.question
        assert located is not None
        second = Recheck(question.image, question.asker, anywhere, pending.look)
        pending.located = anew = self.locator.again(located, second)
        return anew

    def _from_kept_facts(
        self,
        question: Question,
        snapshot: Snapshot,
        policy: Policy,
        located: Located,
        now: datetime,
        *,
        waited: bool,
    ) -> Decision | Pending:
        digest = snapshot.store.digest
        key = located.key if located.assurance is _TRUSTED_PATH else None
        if key is not None:
            whole = located.attributes.size in snapshot.exceptions.sizes
            kept = self.cache.get(key, store=digest, digested=policy.withdraws_objects, whole=whole)
            if kept is not None:
                return self._decided(question, snapshot, located, kept, now, waited=waited, cached=True)
        if located.attributes.is_directory:
            rule = _rule(policy, located, Kind.SANDBOX, question.caller, now)
            if located.unwalked and rule is not None and rule.assurance is _TRUSTED_PATH:
                walk = located.top and (located.top, Kind.SANDBOX)
                return Pending(question, snapshot, "examine", located, content=False, key=walk, waited=waited)
            return self._decided(question, snapshot, located, _sandbox(digest), now, waited=waited)
        rules = [_rule(policy, located, kind, question.caller, now) for kind in _FILE_KINDS]
        if (early := before_reading(rules, located)) is not None:
            return self._decision(question, snapshot, early, located)
        # With windows, another rule may decide once the image has been read: nothing that it could ask for is left out.
        content = policy.withdraws or policy.timed or any(rule is not None and rule.requires for rule in rules[:2])
        shared = None if key is None else (key, digest, content, policy.withdraws_objects, snapshot.exceptions.sizes)
        return Pending(question, snapshot, "examine", located, content, shared, waited=waited)

    def _examined(self, pending: Pending, located: Located) -> Facts:
        snapshot = pending.snapshot
        if located.attributes.is_directory:
            pending.look = self.locator.walk(located)
            self._look_again(pending)
            pending.checked = True
            return _sandbox(snapshot.store.digest)
        digests = snapshot.policy is not None and snapshot.policy.withdraws_objects
        fd = locating.open_for_reading(located)
        try:
            settled = locating.settled(located.attributes, now_ns=self.file_time())
            # A file system that hangs must not take the threads that hash for everybody.
            pool = self.pool if located.local else None
            facts = self._read(fd, snapshot, pool, content=pending.content, digests=digests)
            if pending.content and facts.error is None and located.attributes.size in snapshot.exceptions.sizes:
                facts = replace(facts, whole=hash_file(fd)[1])
            if not locating.unchanged(fd, located.attributes):
                raise BusyImageError("the image changed while it was read; ask again when it is complete")
            trusted = located.assurance is _TRUSTED_PATH is self._look_again(pending).assurance
            pending.checked = True
        finally:
            os.close(fd)
        if trusted and settled and pending.content and located.key is not None:
            self.cache.put(located.key, facts, located.path, located.aliases)
        return facts

    def _read(self, fd: int, snapshot: Snapshot, pool: HashPool | None, *, content: bool, digests: bool) -> Facts:
        store = snapshot.store
        try:
            kind = sniff(fd)
            if kind is not Kind.SIF:
                return Facts(store.digest, _plain(fd, kind, digests=digests), digested=digests)
            if not content:
                return Facts(store.digest, Verification(kind_of(fd), (), {}, tied=False))
            found = examine(fd, store, pool=pool, digests=digests)
            return Facts(store.digest, found, digested=digests)
        except OSError as error:
            raise UnreadableImageError(f"the image cannot be read: {error.strerror}") from error
        except EclctlError as error:
            if isinstance(error, BusyImageError | UnreadableImageError):
                raise
            return Facts(store.digest, None, self._finding(error), digested=True)

    def _prefetched(self, pending: Pending, policy: Policy, located: Located) -> Prefetched:
        if located.assurance is not Assurance.TRUSTED_PATH or located.key is None or located.attributes.is_directory:
            return Prefetched(
                "not-kept", "others than the trusted owners can change it, so it is read when it is asked for"
            )
        digest = pending.snapshot.store.digest
        whole = located.attributes.size in pending.snapshot.exceptions.sizes
        if self.cache.get(located.key, store=digest, digested=policy.withdraws_objects, whole=whole) is not None:
            return Prefetched("known")
        facts = self.examine(pending)
        if facts.error is not None:
            return Prefetched("failed", facts.error.message)
        kept = self.cache.holds(
            device=located.key.device,
            inode=located.key.inode,
            size=located.key.size,
            ctime_ns=located.key.ctime_ns,
            store=digest,
        )
        return Prefetched("kept") if kept else Prefetched("not-kept", "a process has it open for writing, or it is new")

    def _decided(
        self,
        question: Question,
        snapshot: Snapshot,
        located: Located,
        facts: Facts,
        now: datetime,
        *,
        waited: bool,
        cached: bool = False,
    ) -> Decision | Pending:
        policy, found = snapshot.policy, facts.verification
        if facts.error is not None or found is None or policy is None:
            finding = facts.error or self._finding(RuntimeError("nothing is known of the image"))
            return self._refuse(question, snapshot, finding, located)
        store, statuses = snapshot.store, self.statuses
        rejected = facts.judgements.kept(store, now, statuses)
        if rejected is None:
            if not waited and (missing := unasked(store, found.claims, now, statuses)):
                return Pending(question, snapshot, "status", links=missing)
            rejected = facts.judgements.rejected(store, found.claims, now, statuses)
        rule = _rule(policy, located, found.kind, question.caller, now)
        rejected = too_old(rule, found.claims, rejected, now)
        outcome = facts.outcomes.find(policy, rule, rejected, explain=question.explain)
        if outcome is None:
            outcome = self._evaluated(policy, rule, found, rejected, explain=question.explain)
            facts.outcomes.keep(policy, rule, rejected, outcome, explain=question.explain)
        if outcome.code is not Code.WITHDRAWN:
            if rule is None:
                outcome = no_rule(located, found.kind)
            elif located.assurance.rank < rule.assurance.rank:
                outcome = too_low(rule, located)
            elif outcome.code in SOFTENED and snapshot.exceptions.candidates:
                outcome = soften(outcome, snapshot, located, facts.whole, question.caller, now)
        decision = self._decision(question, snapshot, outcome, located, kind=found.kind, cached=cached)
        if question.explain:
            made = keys_behind(snapshot, found, statuses, now)
            return decision._replace(signatures=signatures(policy, rule, found, rejected), keys=made)
        return decision

    def _evaluated(
        self, policy: Policy, rule: Rule | None, found: Verification, rejected: Mapping[int, Finding], *, explain: bool
    ) -> Outcome:
        """Return what the policy says of the image's content, for every caller and every place."""
        outcome = withdrawn(policy, found, rejected) if policy.withdraws else None
        if outcome is None:
            outcome = NO_RULE if rule is None else evaluate(policy, rule, found, rejected, explain=explain)
        if outcome.code is Code.INTERNAL_ERROR:
            self.on_bug(RuntimeError(outcome.reason))
        return outcome

    def _finding(self, error: Exception) -> Finding:
        """Return what a person may know of an error, and tell `on_bug` of one that is a bug."""
        finding = _finding(error)
        if finding.code not in _CODES or finding.code == Code.INTERNAL_ERROR:
            self.on_bug(error)
        return finding

    def _refuse(
        self, question: Question, snapshot: Snapshot, finding: Finding, located: Located | None = None
    ) -> Decision:
        code = Code(finding.code) if finding.code in _CODES else Code.INTERNAL_ERROR
        return self._decision(question, snapshot, Outcome(code, finding.message), located)

    def _decision(
        self,
        question: Question,
        snapshot: Snapshot,
        outcome: Outcome,
        located: Located | None = None,
        *,
        kind: Kind | None = None,
        cached: bool = False,
    ) -> Decision:
        if outcome.message is not None:
            outcome = _filled(question, snapshot, outcome)
        return Decision(
            f"{self._run}-{next(self._count)}",
            question,
            outcome,
            kind,
            located.path if located is not None else None,
            located.assurance if located is not None else None,
            cached,
            snapshot.generation,
            snapshot.digest,
            *(() if located is None else ((), (), located.weak, located.writers, located.aliases)),
        )

    def _again(self, decision: Decision, question: Question) -> Decision:
        """The same answer to another who asked the same, under an ID of its own."""
        return Decision(f"{self._run}-{next(self._count)}", question, *decision[2:])


def _asked(question: Question, found: Attributes | None) -> Hashable:
    """Return what is equal for questions that have the same answer: of a descriptor, what it shows of its file."""
    image, caller, descriptor, *rest = question
    return question if descriptor is None else (image, caller, found, fcntl.fcntl(descriptor, fcntl.F_GETFL), *rest)


_CODES = frozenset(Code)


def _finding(error: Exception) -> Finding:
    """Return what a person may know of an error: ours in full, of others only their type."""
    if isinstance(error, EclctlError):
        return Finding(error.code, str(error))
    if isinstance(error, OSError):
        return Finding("unreadable", f"the image cannot be read: {error.strerror}")
    return Finding("internal-error", f"an internal error ({type(error).__name__}); the daemon's log has more")


def _rule(policy: Policy, located: Located, kind: Kind, caller: Caller, now: datetime) -> Rule | None:
    return select_rule(policy, path=located.path, kind=kind, caller=caller, now=now, aliases=located.aliases)


def _filled(question: Question, snapshot: Snapshot, outcome: Outcome) -> Outcome:
    """Return an outcome whose message is about this image and caller; what is kept is about none."""
    policy = snapshot.policy
    template = None if policy is None or outcome.rule is None else policy.templates.get(outcome.rule)
    if policy is None or template is None:
        return outcome
    return replace(outcome, message=template.fill(Said(outcome, question.image, question.caller, policy.host)))


def _sandbox(store: str) -> Facts:
    return Facts(store, Verification(Kind.SANDBOX, (), {}, tied=False))


def _plain(fd: int, kind: Kind, *, digests: bool) -> Verification:
    """Return the facts of a file without signatures. What is withdrawn is withdrawn outside a SIF image too."""
    if not digests:
        return Verification(kind, (), {}, tied=False)
    size, digest = hash_file(fd)
    whole = DataObject(1, 0, frozenset(), size, "")
    return Verification(kind, (whole,), {}, tied=False, digests={whole.id: digest})
