"""The look-up of an image's facts: at once from memory (`facts_at_hand`), or in the stage `lookup` (`FactReader`).

The stage may wait: it reads the image. It runs in a worker thread and never on an event loop, and the engine asks for
it with a type of its own (`questions.Lookup`), so that every caller must give it a thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from eclctl.dataclass import dataclass, replace
from eclctl.decide.cache import FactCache
from eclctl.decide.facts import Facts
from eclctl.decide.questions import Lookup
from eclctl.decide.snapshot import Snapshot
from eclctl.errors import BusyImageError, EclctlError, UnreadableImageError
from eclctl.files import locating
from eclctl.files.locating import Located, Locator, Recheck
from eclctl.model import DataObject, Verification
from eclctl.sif.kind import sniff
from eclctl.sif.reader import read
from eclctl.terms import Assurance, Finding, Kind
from eclctl.trust.keyring import KeyStore
from eclctl.verify.examine import examine
from eclctl.verify.hashing import HashPool, hash_file

_TRUSTED_PATH = Assurance.TRUSTED_PATH


def facts_at_hand(cache: FactCache, located: Located, snapshot: Snapshot) -> Facts | None:
    """Return the facts that are kept of a file's state and say all that the snapshot asks for; never waits."""
    policy = snapshot.policy
    if located.key is None or located.assurance is not _TRUSTED_PATH or policy is None:
        return None
    whole = located.attributes.size in snapshot.exceptions.sizes
    return cache.get(located.key, store=snapshot.store.digest, digested=policy.withdraws_objects, whole=whole)


def locate_again(lookup: Lookup, locator: Locator, *, anywhere: bool = True) -> Located:
    """Locate an image that was read anew: what must be true when it is answered is looked at last."""
    located, question = lookup.located, lookup.question
    assert located is not None
    second = Recheck(question.image, question.asker, anywhere, lookup.look)
    lookup.located = anew = locator.again(located, second)
    return anew


def sandbox_facts(store: str) -> Facts:
    """Return the facts of a directory, which carries no signatures; `store` is the digest of the key store."""
    return Facts(store, Verification(Kind.SANDBOX, (), {}, tied=False))


@dataclass(frozen=True, slots=True)
class FactReader:
    """Reads images, and keeps the facts of those on a trusted path.

    locator: locates an image once more when it has been read.
    pool: hashes the content of images on local file systems.
    cache: where facts are kept.
    file_time: tells in nanoseconds since the epoch what time it is for files.
    finding: returns what a person may know of an error.
    """

    locator: Locator
    pool: HashPool
    cache: FactCache
    file_time: Callable[[], int]
    finding: Callable[[Exception], Finding]

    def look_up(self, lookup: Lookup) -> Facts:
        """Read an image and find out who signed what. Blocks.

        Raises:
            EclctlError: it cannot be read, or it changed while it was read.
            OSError: likewise.
        """
        located, snapshot = lookup.located, lookup.snapshot
        if located is None:
            raise RuntimeError("the image was closed before it was read")
        if located.attributes.is_directory:
            lookup.look = self.locator.walk(located)
            locate_again(lookup, self.locator)
            lookup.checked = True
            return sandbox_facts(snapshot.store.digest)
        fd = locating.open_for_reading(located)
        try:
            settled = locating.settled(located.attributes, now_ns=self.file_time())
            facts = self._facts(fd, lookup, located)
            if not locating.unchanged(fd, located.attributes):
                raise BusyImageError("the image changed while it was read; ask again when it is complete")
            trusted = located.assurance is _TRUSTED_PATH is locate_again(lookup, self.locator).assurance
            lookup.checked = True
        finally:
            os.close(fd)
        if trusted and settled and lookup.content and located.key is not None:
            self.cache.put(located.key, facts, located.path, located.aliases)
        return facts

    def _facts(self, fd: int, lookup: Lookup, located: Located) -> Facts:
        snapshot = lookup.snapshot
        digests = snapshot.policy is not None and snapshot.policy.withdraws_objects
        # A file system that hangs must not take the threads that hash for all users.
        pool = self.pool if located.local else None
        facts = self._of_content(fd, snapshot.store, pool, content=lookup.content, digests=digests)
        if lookup.content and facts.error is None and located.attributes.size in snapshot.exceptions.sizes:
            facts = replace(facts, whole=hash_file(fd)[1])
        return facts

    def _of_content(self, fd: int, store: KeyStore, pool: HashPool | None, *, content: bool, digests: bool) -> Facts:
        try:
            kind = sniff(fd)
            if kind is not Kind.SIF:
                return Facts(store.digest, _unsigned(fd, kind, digests=digests), digested=digests)
            if not content:
                return Facts(store.digest, Verification(read(fd).kind, (), {}, tied=False))
            found = examine(fd, store, pool=pool, digests=digests)
            return Facts(store.digest, found, digested=digests)
        except OSError as error:
            raise UnreadableImageError(f"the image cannot be read: {error.strerror}") from error
        except EclctlError as error:
            if isinstance(error, BusyImageError | UnreadableImageError):
                raise
            return Facts(store.digest, None, self.finding(error), digested=True)


def _unsigned(fd: int, kind: Kind, *, digests: bool) -> Verification:
    """Return the facts of a file without signatures. What is withdrawn is withdrawn outside a SIF image too."""
    if not digests:
        return Verification(kind, (), {}, tied=False)
    size, digest = hash_file(fd)
    whole = DataObject(1, 0, frozenset(), size, "")
    return Verification(kind, (whole,), {}, tied=False, digests={whole.id: digest})
