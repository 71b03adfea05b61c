"""A library of images under two policies, and an audit log that names them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller
from eclctl.preview.policy_pair import PolicyPair, Side
from eclctl.preview.records import History
from eclctl.preview.replay import ReplayResult, replay
from eclctl.trust.revocation import Known, Link
from eclctl.verify.hashing import HashPool
from tests.helpers.engines import Site

BUILDER, SCANNER, APPROVER = "builder", "scanner", "approver"
LENIENT = """\
rules:
  - name: lenient
    match: {paths: ["@LIBRARY@/**"]}
    require: [{any_of: [builder]}]
"""


class Silent:
    """Responders that say nothing; `asked` is what they were asked about."""

    version = 0

    def __init__(self) -> None:
        self.asked: list[Link] = []

    def known(self, link: Link, now: datetime) -> Known | None:
        return None

    def ask(self, links: Sequence[Link]) -> None:
        self.asked += links


def record(path: str | None, *, uid: int = 1000, number: int = 0, **more: object) -> bytes:
    """A line of an audit log, with what a daemon writes of it that matters here."""
    fields: dict[str, object] = {
        "time": f"2026-11-2{number}T12:00:00.000000Z",
        "event": "decision",
        "method": "check",
        "image": path,
        "path": path,
        "uid": uid,
        "gid": uid,
        "role": "rootfs",
        "decision": "allow",
        "code": "requirements-met",
    }
    return json.dumps(fields | more).encode() + b"\n"


def history(lines: Iterable[bytes] = (), since: datetime | None = None) -> History:
    made = History()
    made.read(lines, since)
    return made


@contextmanager
def looking(site: Site, old: Snapshot, new: Snapshot) -> Iterator[PolicyPair]:
    locator = site.engine.locator
    with HashPool(1) as pool:
        yield PolicyPair(Side(old, locator), Side(new, locator), pool, Silent(), site.now)


def simulate(
    site: Site,
    old: Snapshot,
    new: Snapshot,
    lines: Iterable[bytes] = (),
    paths: Iterable[Path | str] | None = None,
    **more: object,
) -> ReplayResult:
    """Replay the images of a site's library, or `paths`, and a log."""
    chosen = sorted(site.library.iterdir()) if paths is None else paths
    with looking(site, old, new) as looker:
        return replay(looker, [str(path) for path in chosen], history(lines), nobody_knows, **more)  # type: ignore[arg-type]


def nobody_knows(uid: int) -> Caller | None:
    return None
