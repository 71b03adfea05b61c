"""What a load leaves behind when the loading itself fails."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eclctl.config.accounts import Names
from eclctl.config.settings import Settings
from eclctl.daemon.lifecycle.reload import Reloader, ReloadReport
from eclctl.daemon.observing.audit_log import AuditLog
from eclctl.daemon.observing.metrics import Metrics
from eclctl.decide.cache import FactCache
from eclctl.decide.engine import Engine
from eclctl.decide.snapshot import Snapshot
from eclctl.files.locating import Locator
from eclctl.files.mounts import MountTable
from eclctl.signature.openpgp import Keyring
from eclctl.verify.hashing import HashPool
from tests.helpers.support import CORPUS

POLICY = "version: 1\nrules:\n  - name: it\n    match: {users: [alice]}\n    decision: deny\ndefault: deny\n"


def broken_name_service(name: str) -> int | None:
    raise RuntimeError(f"the name service fell over {name}")


def test_a_bug_in_the_first_load_leaves_a_daemon_without_a_policy(tmp_path: Path) -> None:
    """It answers, and denies everything: after a failed start nothing would answer."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    policy.chmod(0o644)
    settings = Settings("", "", str(tmp_path), policies=(str(policy),), keyrings=())

    async def load() -> tuple[ReloadReport, Snapshot]:
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


REVOKED = "F5A4C20B8C7054A68A09D71A88B82E9124DD2498"
OWNED = (
    f"version: 1\nsigners:\n  owner: {{pgp: [{REVOKED}]}}\n"
    "rules:\n  - {name: it, match: {paths: [/srv/**]}, require: [{any_of: [owner]}]}\n"
)


def certificates(name: str) -> Keyring:
    return Keyring.parse((CORPUS / "keys" / "pgp" / name).read_bytes())


@pytest.mark.parametrize("loads", [True, False], ids=["a policy that loads", "one that does not"])
def test_what_is_learnt_while_a_policy_loads_counts_after_it_whether_it_does(tmp_path: Path, loads: bool) -> None:
    """Both are asked for at once, as when SIGHUP comes with a keyserver's answer."""
    policy, ring, learnt = tmp_path / "policy.yaml", tmp_path / "ring.asc", list[Keyring]()
    policy.write_text(OWNED)
    ring.write_bytes((CORPUS / "keys" / "pgp" / "revoked-before.asc").read_bytes())
    (tmp_path / "config.yaml").write_text(
        f"version: 1\nsockets: {{check: c, admin: a}}\nstate_dir: s\npolicies: [{policy}]\nkeyrings: [{ring}]\n"
    )
    for path in tmp_path.iterdir():
        path.chmod(0o644)
    settings = Settings("", "", str(tmp_path), policies=(str(policy),), keyrings=(str(ring),))

    async def main() -> Snapshot:
        mounts = MountTable()
        engine = Engine(Locator(mounts, frozenset({0})), HashPool(1), FactCache(1), Snapshot.empty())
        reloader = Reloader(
            engine,
            path=str(tmp_path / "config.yaml"),
            settings=settings,
            names=Names(lambda _: None, lambda _: None),
            audit=AuditLog(None),
            metrics=Metrics(),
            clock=lambda: datetime(2026, 11, 22, tzinfo=UTC),
            learnt=lambda: learnt[0] if learnt else None,
        )
        assert reloader.load_first().ok
        if not loads:
            policy.write_text("nonsense")
        ends = [asyncio.get_running_loop().create_future() for _ in range(2)]
        reloader.request(lambda _: None)  # while it runs, the others wait together
        reloader.request(ends[0].set_result)
        learnt.append(certificates("revoked.asc"))
        reloader.learn(lambda: ends[1].set_result(None))
        async with asyncio.timeout(60):
            report, _ = await asyncio.gather(*ends)
        assert report.ok is loads
        reloader.stop()
        mounts.close()
        return engine.snapshot

    snapshot = asyncio.run(main())
    assert snapshot.generation > 1
    status = snapshot.store.pgp.status(REVOKED, REVOKED)
    assert status is not None
    assert status.fault is not None
    assert status.fault.code == "key-revoked"
