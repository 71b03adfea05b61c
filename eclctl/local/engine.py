"""What commands do without a daemon: load its configuration and policy, verify images, and decide, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from datetime import UTC, datetime
from itertools import islice
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

from eclctl.client import NoAnswerError, open_image, unreadable, wire_path
from eclctl.config import settings as configuration
from eclctl.config.accounts import NAMES
from eclctl.decide.cache import FactCache
from eclctl.decide.caller_identity import calling_user
from eclctl.decide.driving import drive
from eclctl.decide.engine import Engine
from eclctl.decide.host_mounts import trusted_file_systems
from eclctl.decide.questions import Decision, Question
from eclctl.decide.snapshot import Snapshot, build
from eclctl.errors import ConfigError
from eclctl.files.locating import Locator
from eclctl.files.mounts import MountTable
from eclctl.files.sandboxes import Sandboxes
from eclctl.files.writers import ignore_broken_leases
from eclctl.policy.select import nearly
from eclctl.remote.ocsp import client as ocsp_client
from eclctl.report.answers import explanation_fields
from eclctl.verify.hashing import HashPool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eclctl.config.settings import Settings
    from eclctl.trust.revocation import Known, Link, StatusSubject

_MOST_SHOWN = 5


class Responders:
    """What responders have said so far; a certificate that was not asked about is not known.

    `timeout` is for each request, in seconds.
    """

    def __init__(self, timeout: float) -> None:
        self.version = 0
        self._timeout = timeout
        self._known: dict[str, Known] = {}

    def known(self, subject: StatusSubject, now: datetime) -> Known | None:
        """Return what was answered."""
        del now
        return self._known.get(subject.id)

    def ask(self, links: Sequence[Link]) -> None:
        """Ask, and wait for the answers."""
        if not links:
            return
        told = asyncio.run(ocsp_client.ask_all(links, now=_now, timeout=self._timeout))
        found = ((link, told.known(link, _now())) for link in links)
        self._known.update({link.id: known for link, known in found if known is not None})
        self.version += 1


def _now() -> datetime:
    return datetime.now(UTC)


def load_site(config: str) -> tuple[Settings, Snapshot]:
    """Load a configuration, and the policy and keys that it names, as the daemon would.

    Raises:
        ConfigError: something in them is wrong; the message names each place, one a line.
    """
    loaded = configuration.load_settings(config, resolve_user=NAMES.user)
    if loaded.settings is None:
        raise ConfigError(_listed(loaded.errors))
    built = build(loaded.settings, NAMES, generation=1, now=_now())
    if built.snapshot is None:
        raise ConfigError(_listed(built.errors))
    return loaded.settings, built.snapshot


def _listed(problems: Sequence[object]) -> str:
    shown = [str(problem) for problem in problems[:_MOST_SHOWN]]
    more = [f"and {len(problems) - _MOST_SHOWN} more: `eclctl policy check`"] if len(problems) > _MOST_SHOWN else []
    return "; ".join([*shown, *more])


@contextlib.contextmanager
def opened_engine(settings: Settings, snapshot: Snapshot, capacity: int) -> Iterator[Engine]:
    """Make an engine that decides by a snapshot, and keeps the facts of at most `capacity` images."""
    ignore_broken_leases()
    mounts = MountTable(trusted_file_systems(settings))
    try:
        with HashPool.beside_caller() as pool:
            locator = Locator(mounts, settings.trusted_owners, sandboxes=Sandboxes(monotonic))
            statuses = Responders(settings.ocsp.timeout)
            yield Engine(locator, pool, FactCache(capacity), snapshot, statuses, file_time=time_ns)
    finally:
        mounts.close()


def explain_here(config: str, image: str, role: str) -> dict[str, Any] | NoAnswerError:
    """Decide on an image as the calling user, and explain; the shape is that of the daemon's answer.

    `config` is added, `generation` is None: there is no daemon that counts them.
    """
    try:
        settings, snapshot = load_site(config)
    except ConfigError as error:
        return NoAnswerError("config", str(error))
    try:
        name, descriptor = wire_path(image), open_image(image)
    except (OSError, ValueError) as error:
        return unreadable(error)
    try:
        with opened_engine(settings, snapshot, 1) as engine:
            decision = decide_here(engine, Question(name, calling_user(), descriptor, role, explain=True))
    finally:
        os.close(descriptor)
    near = _near(snapshot, decision) if decision.rule is None and decision.path is not None else []
    return explanation_fields(decision, admin=True) | {
        "generation": None,
        "config": os.path.abspath(config),
        "nearly": near,
    }


def _near(snapshot: Snapshot, decision: Decision) -> list[dict[str, str]]:
    """Return the first rules on the image's path that did not match, and why: who can read the policy may know it."""
    assert snapshot.policy is not None
    path, kind, caller = decision.path, decision.kind, decision.question.caller
    found = nearly(snapshot.policy, path=path, kind=kind, caller=caller, now=_now(), aliases=decision.aliases)
    return [{"rule": rule.name, "where": rule.where, "why": why} for rule, why in islice(found, _MOST_SHOWN)]


def decide_here(engine: Engine, question: Question) -> Decision:
    """Decide, asking responders where the policy wants it."""
    assert isinstance(engine.statuses, Responders)
    return drive(engine, question, engine.statuses.ask, _now)
