"""The engine: an image, a caller and a snapshot make a decision.

In steps, so that a server with an event loop can take those that never block at once and hand the others to threads:

1. `begin` locates the image and answers from facts at hand. Where work that may wait comes first, it returns a
   `Pending`, whose type is the stage: `Opening` where the image lies on a file system that may stall, `Lookup` where
   its facts have to be found, `StatusNeeded` where a certificate's responder has to be asked.
2. `look_up` finds the facts in a worker thread. Callers whose `Lookup` has the same key share one.
3. `conclude` judges the facts at the given time (`decide.judgement`).

`decide.driving` takes a question through these steps for a caller that may wait.

The engine never asks a responder: `statuses` is what others were told. When nothing is known of a certificate that must
be good, it says so once; begun again with `status_asked`, it takes what there is, and what is not known is not good.

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
from collections.abc import Callable, Hashable
from datetime import UTC, datetime, timedelta

from eclctl.dataclass import dataclass, field, replace
from eclctl.decide.cache import FactCache
from eclctl.decide.facts import Facts
from eclctl.decide.judgement import NO_POLICY, before_reading, judge_image, refused, rule_at
from eclctl.decide.key_reports import keys_behind
from eclctl.decide.lookup import FactReader, facts_at_hand, locate_again, sandbox_facts
from eclctl.decide.questions import (
    Decision,
    Given,
    Lookup,
    Opening,
    Pending,
    Prefetched,
    Question,
    StatusNeeded,
    Turn,
)
from eclctl.decide.snapshot import Snapshot
from eclctl.errors import EclctlError
from eclctl.files.canonical_name import NotLocalError
from eclctl.files.locating import Located, Locator
from eclctl.files.syscalls import Attributes, attributes
from eclctl.model import Caller, Code, Outcome
from eclctl.policy.language import Policy
from eclctl.policy.messages import Said
from eclctl.policy.outcome import denied
from eclctl.policy.report import signatures
from eclctl.terms import Assurance, Finding, Kind
from eclctl.trust.keyring import unasked
from eclctl.trust.revocation import NO_STATUS, StatusSource
from eclctl.verify.hashing import HashPool

_FILE_KINDS = (Kind.SIF, Kind.OCI_SIF, Kind.SQUASHFS, Kind.EXT3, Kind.OTHER)
_TRUSTED_PATH = Assurance.TRUSTED_PATH
_SHARED_SECONDS = 0.002  # for so long a look at an image serves those who asked the same in the same turn
_CORRECTION = 1.0  # seconds by which a clock may be behind without having been set back: it is read before `elapsed`


@dataclass(slots=True)
class Engine:
    """Decides. One for each daemon; safe for use from several threads.

    locator: finds images and judges where they lie.
    pool: hashes the content of images on local file systems.
    cache: the facts that are kept.
    snapshot: the policy and keys in force.
    statuses: what responders have said of certificates.
    elapsed: tells in seconds how much time has gone by, and does not follow the clock. Without it, time stands still
        while the clock is behind the newest time seen, which is enough for a process that ends at once.
    file_time: tells in nanoseconds since the epoch what time it is for files: by the clock that their change times come
        from, and not the time that decisions are made at. Without it, no facts are kept.
    on_bug: is told every error that becomes the code `internal-error`, in the thread where it happens; it must not
        raise.
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
        status_asked: bool = False,
        turn: Turn | None = None,
    ) -> Decision | Pending:
        """Answer at once, or say what is needed first.

        Unless `anywhere`, only local file systems are touched, and nothing is read. `status_asked`: what could be asked
        about certificates was asked. Never raises.
        """
        if turn is None:
            return self._begin(question, snapshot, now, anywhere, status_asked=status_asked)
        try:
            found = None if question.descriptor is None else attributes(question.descriptor)
            asked, mounts = _asked(question, found), self.locator.mounts.current()[0]
        except OSError:  # of a descriptor that shows nothing, or without a descriptor for the table of mounts
            return self._begin(question, snapshot, now, anywhere, status_asked=status_asked)
        time, given = self.elapsed(), turn.answers.get(asked)
        if given is not None and given.serves(snapshot.generation, mounts, time):
            return Decision(f"{self._run}-{next(self._count)}", question, *given.decision[2:])  # under its own ID
        answer = self._begin(question, snapshot, now, anywhere, status_asked=status_asked, found=found)
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
        status_asked: bool,
        found: Attributes | None = None,
    ) -> Decision | Pending:
        now = self.not_before(now)
        policy = snapshot.policy
        if policy is None:
            return self._decision(question, snapshot, NO_POLICY)
        try:
            located = self._locate(question, anywhere, found)
        except NotLocalError:
            return Opening(question, snapshot, status_asked=status_asked)
        except Exception as error:  # noqa: BLE001 - the one place where every error is a deny
            return self._refuse(question, snapshot, error)
        try:
            answer = self._from_kept_facts(question, snapshot, policy, located, now, status_asked=status_asked)
        except Exception as error:  # noqa: BLE001 - likewise
            answer = self._refuse(question, snapshot, error, located)
        if not isinstance(answer, Lookup):
            located.close()
        return answer

    def look_up(self, lookup: Lookup) -> Facts:
        """Find out the facts of an image. Blocks; never raises: an error is part of the facts."""
        reader = FactReader(self.locator, self.pool, self.cache, self.file_time, self._finding)
        try:
            return reader.look_up(lookup)
        except Exception as error:  # noqa: BLE001 - every error is a deny
            return Facts(lookup.snapshot.store.digest, None, self._finding(error))

    def conclude(self, lookup: Lookup, facts: Facts, now: datetime) -> Decision | Pending:
        """Judge facts at `now` and decide, unless something must be asked first. Closes `lookup`; never raises."""
        question, snapshot, status_asked = lookup.question, lookup.snapshot, lookup.status_asked
        try:
            located = lookup.located
            if located is None:
                raise RuntimeError("the question was closed before it was answered")  # noqa: TRY301
            if facts.error is None and not located.local and not lookup.checked:
                return Opening(question, snapshot, status_asked=status_asked)  # looking again may block
            if facts.error is None and located.local:
                try:
                    located = locate_again(lookup, self.locator, anywhere=False)
                except NotLocalError:  # the name, or another name of the file, leads where looking may block
                    if not lookup.checked:
                        return Opening(question, snapshot, status_asked=status_asked)
            return self._decided(question, snapshot, located, facts, self.not_before(now), status_asked=status_asked)
        except Exception as error:  # noqa: BLE001 - every error is a deny
            return self._refuse(question, snapshot, error)
        finally:
            lookup.close()

    def deny(self, question: Question, snapshot: Snapshot, code: Code, reason: str) -> Decision:
        """Return a deny for a reason that no policy gave: a time-out, a limit, a failed audit log."""
        return self._decision(question, snapshot, denied(code, reason))

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
        lookup = Lookup(question, snapshot, located)
        try:
            return self._prefetched(lookup, located)
        finally:
            lookup.close()

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

    def _from_kept_facts(
        self,
        question: Question,
        snapshot: Snapshot,
        policy: Policy,
        located: Located,
        now: datetime,
        *,
        status_asked: bool,
    ) -> Decision | Pending:
        kept = facts_at_hand(self.cache, located, snapshot)
        if kept is not None:
            return self._decided(question, snapshot, located, kept, now, status_asked=status_asked, cached=True)
        digest = snapshot.store.digest
        if located.attributes.is_directory:
            rule = rule_at(policy, located, Kind.SANDBOX, question.caller, now)
            if located.unwalked and rule is not None and rule.assurance is _TRUSTED_PATH:
                walk = located.top and (located.top, Kind.SANDBOX)
                return Lookup(question, snapshot, located, content=False, key=walk, status_asked=status_asked)
            return self._decided(question, snapshot, located, sandbox_facts(digest), now, status_asked=status_asked)
        rules = [rule_at(policy, located, kind, question.caller, now) for kind in _FILE_KINDS]
        if (early := before_reading(rules, located)) is not None:
            return self._decision(question, snapshot, early, located)
        # With windows, another rule may decide once the image has been read: nothing that it could ask for is left out.
        content = policy.withdraws or policy.timed or any(rule is not None and rule.requires for rule in rules[:2])
        key = located.key if located.assurance is _TRUSTED_PATH else None
        shared = None if key is None else (key, digest, content, policy.withdraws_objects, snapshot.exceptions.sizes)
        return Lookup(question, snapshot, located, content, shared, status_asked=status_asked)

    def _prefetched(self, lookup: Lookup, located: Located) -> Prefetched:
        if located.assurance is not _TRUSTED_PATH or located.key is None or located.attributes.is_directory:
            return Prefetched(
                "not-kept", "others than the trusted owners can change it, so it is read when it is asked for"
            )
        if facts_at_hand(self.cache, located, lookup.snapshot) is not None:
            return Prefetched("known")
        facts = self.look_up(lookup)
        if facts.error is not None:
            return Prefetched("failed", facts.error.message)
        kept = self.cache.holds(
            device=located.key.device,
            inode=located.key.inode,
            size=located.key.size,
            ctime_ns=located.key.ctime_ns,
            store=lookup.snapshot.store.digest,
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
        status_asked: bool,
        cached: bool = False,
    ) -> Decision | Pending:
        store, found = snapshot.store, facts.verification
        if (
            not status_asked
            and found is not None
            and facts.judgements.kept(store, now, self.statuses) is None
            and (links := unasked(store, found.claims, now, self.statuses))
        ):
            return StatusNeeded(question, snapshot, links)
        outcome, rule, rejected = judge_image(
            snapshot, facts, located, question.caller, now, statuses=self.statuses, explain=question.explain
        )
        if outcome.code is Code.INTERNAL_ERROR and facts.error is None:  # an error was told when it happened
            self.on_bug(RuntimeError(outcome.reason))
        if found is None or snapshot.policy is None:
            return self._decision(question, snapshot, outcome, located)
        decision = self._decision(question, snapshot, outcome, located, kind=found.kind, cached=cached)
        if question.explain:
            made = keys_behind(snapshot, found, self.statuses, now)
            return decision._replace(signatures=signatures(snapshot.policy, rule, found, rejected), keys=made)
        return decision

    def _finding(self, error: Exception) -> Finding:
        """Return what a person may know of an error, and tell `on_bug` of one that is a bug."""
        finding = _finding(error)
        if finding.code not in _CODES or finding.code == Code.INTERNAL_ERROR:
            self.on_bug(error)
        return finding

    def _refuse(
        self, question: Question, snapshot: Snapshot, error: Exception, located: Located | None = None
    ) -> Decision:
        return self._decision(question, snapshot, refused(self._finding(error)), located)

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


def _filled(question: Question, snapshot: Snapshot, outcome: Outcome) -> Outcome:
    """Return an outcome whose message is about this image and caller; what is kept is about none."""
    policy = snapshot.policy
    template = None if policy is None or outcome.rule is None else policy.templates.get(outcome.rule)
    if policy is None or template is None:
        return outcome
    return replace(outcome, message=template.fill(Said(outcome, question.image, question.caller, policy.host)))
