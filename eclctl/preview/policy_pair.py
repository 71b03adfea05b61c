"""One image under two policies: located and examined once, and put to the daemon's engine under each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Protocol

from eclctl.dataclass import dataclass, field, replace
from eclctl.decide.breakglass import Exceptions
from eclctl.decide.cache import FactCache
from eclctl.decide.driving import drive
from eclctl.decide.engine import Engine
from eclctl.decide.facts import Facts, Judgements, Outcomes
from eclctl.decide.questions import Decision, Lookup, Question
from eclctl.decide.snapshot import Snapshot
from eclctl.files.locating import Located, Locator, Recheck
from eclctl.files.lookup_rights import OWN_RIGHTS, LookupRights
from eclctl.files.syscalls import Attributes
from eclctl.model import Caller
from eclctl.trust.revocation import Link, StatusSource
from eclctl.verify.hashing import HashPool


class AskableStatuses(StatusSource, Protocol):
    """What responders say of certificates, and the way to ask them."""

    def ask(self, links: Sequence[Link]) -> None:
        """Ask about certificates, and wait for the answers."""


@dataclass(frozen=True, slots=True)
class Side:
    """A policy with its keys, and what makes a file's identity worth something where it is in force."""

    snapshot: Snapshot
    locator: Locator


@dataclass(slots=True)
class PolicyPair:
    """Puts images to two policies at one time, `now`. Each responder is asked once about each certificate."""

    old: Side
    new: Side
    pool: HashPool
    statuses: AskableStatuses
    now: datetime
    _asked: set[str] = field(default_factory=set)

    def look(self, path: str) -> ImageUnderBoth:
        """Open an image by an absolute path, as this process may; close what is returned.

        Raises:
            EclctlError: there is none, it cannot be opened, or it is neither file nor directory.
        """
        shared: dict[_Read, Facts] = {}
        joint = _joint(self.old.snapshot, self.new.snapshot)
        with ExitStack() as opened:
            views = []
            for side in (self.old, self.new):
                located = side.locator.by_name(path, anywhere=True)
                opened.callback(located.close)
                views.append(_View(self, side, located, joint, shared))
            return ImageUnderBoth(opened.pop_all().close, *views)

    def ask_once(self, links: Sequence[Link]) -> None:
        """Ask responders about what they were not asked about yet."""
        fresh = [link for link in links if link.id not in self._asked]
        self._asked.update(link.id for link in fresh)
        if fresh:
            self.statuses.ask(fresh)


_Read = tuple[str, bool, Attributes]


@dataclass(slots=True)
class ImageUnderBoth:
    """An image that is open under two policies. `close` closes it."""

    close: Callable[[], None]
    _old: _View
    _new: _View

    @property
    def path(self) -> str | None:
        """Its path without symbolic links."""
        return self._old.located.path

    def ask(self, caller: Caller, role: str, *, explain: bool = False) -> tuple[Decision, Decision]:
        """Return what the old policy and the new one answer a caller."""
        return self._old.ask(caller, role, explain=explain), self._new.ask(caller, role, explain=explain)


class _View:
    """An image as one side sees it. What reading it shows is shared with the other side where it can be."""

    def __init__(
        self, looker: PolicyPair, side: Side, located: Located, joint: Snapshot | None, shared: dict[_Read, Facts]
    ) -> None:
        self.located = located
        self._looker = looker
        self._snapshot = side.snapshot
        self._joint = joint or side.snapshot
        self._shared = shared
        self._facts: dict[_Read, Facts] = {}
        locator = _Here(
            side.locator.mounts,
            side.locator.owners,
            located._replace(owned=False),
            sandboxes=side.locator.sandboxes,
        )
        # The engine keeps nothing: what was read for one caller must not change an answer to another on one side alone.
        self._engine = Engine(locator, looker.pool, FactCache(0), side.snapshot, looker.statuses)

    def ask(self, caller: Caller, role: str, *, explain: bool) -> Decision:
        """Decide as the daemon would for a caller who passes the open image."""
        question = Question(self.located.path or "", caller, role=role, explain=explain)
        looker = self._looker
        return drive(self._engine, question, looker.ask_once, lambda: looker.now, look_up=self._look_up)

    def _look_up(self, lookup: Lookup) -> Facts:
        key = (self._snapshot.store.digest, lookup.content, self.located.attributes)
        if key not in self._shared:
            self._shared[key] = self._engine.look_up(replace(lookup, snapshot=self._joint))
        lookup.checked = True
        if key not in self._facts:  # what is remembered with facts is of one policy
            self._facts[key] = replace(self._shared[key], outcomes=Outcomes(), judgements=Judgements())
        return self._facts[key]


@dataclass(frozen=True, slots=True)
class _Here(Locator):
    """Finds the one image that is open already."""

    found: Located

    def by_name(self, name: str, *, anywhere: bool, asker: LookupRights = OWN_RIGHTS) -> Located:
        """Return the image for every name."""
        del name, anywhere, asker
        return self.found

    def again(self, located: Located, second: Recheck) -> Located:
        """Return the image as it was found: that is what both policies are asked about."""
        return Locator.again(self, located, second) if self.found.unwalked else self.found


def _joint(old: Snapshot, new: Snapshot) -> Snapshot | None:
    """Return a snapshot by which one examination shows all that both ask about; None where their keys differ."""
    if old.store.digest != new.store.digest:
        return None
    demanding = new if new.policy is not None and new.policy.withdraws_objects else old
    return replace(demanding, exceptions=Exceptions((*old.exceptions.candidates, *new.exceptions.candidates)))


def exists_at(path: str) -> bool | None:
    """Return whether something is at a path; None when this process may not know."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return True
