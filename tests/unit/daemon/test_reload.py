"""What a load leaves behind when the loading itself fails."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from eclctl.daemon.audit import AuditLog
from eclctl.daemon.metrics import Metrics
from eclctl.daemon.reload import Reloader, Report
from eclctl.decide.cache import FactCache
from eclctl.decide.engine import Engine
from eclctl.decide.settings import Settings
from eclctl.decide.snapshot import Names, Snapshot
from eclctl.image.identity import Locator
from eclctl.image.mounts import MountTable
from eclctl.verify import HashPool

POLICY = "version: 1\nrules:\n  - name: it\n    match: {users: [somebody]}\n    decision: deny\ndefault: deny\n"


def broken_name_service(name: str) -> int | None:
    raise RuntimeError(f"the name service fell over {name}")


def test_a_bug_in_the_first_load_leaves_a_daemon_without_a_policy(tmp_path: Path) -> None:
    """It answers, and denies everything: a start that fails would leave the socket to nobody."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    policy.chmod(0o644)
    settings = Settings("", "", str(tmp_path), policies=(str(policy),), keyrings=())

    async def load() -> tuple[Report, Snapshot]:
        mounts = MountTable()
        engine = Engine(Locator(mounts, frozenset({0})), HashPool(1), FactCache(1), Snapshot.empty())
        reloader = Reloader(
            engine,
            path=str(tmp_path / "config.yaml"),
            settings=settings,
            names=Names(broken_name_service, broken_name_service),
            audit=AuditLog(None),
            metrics=Metrics(),
            clock=lambda: datetime(2026, 11, 22, tzinfo=UTC),
        )
        report = reloader.load_first()
        mounts.close()
        return report, engine.snapshot

    report, snapshot = asyncio.run(load())
    assert not report.ok
    assert snapshot.policy is None
    assert "internal error (RuntimeError)" in str(report.errors[0])
