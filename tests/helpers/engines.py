"""A whole site in a directory, and an engine over it, without a daemon."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path
from time import time_ns

from eclctl.config.accounts import Names
from eclctl.config.settings import Settings
from eclctl.decide.cache import FactCache
from eclctl.decide.driving import drive
from eclctl.decide.engine import Engine
from eclctl.decide.questions import Decision, Question
from eclctl.decide.snapshot import Snapshot, build
from eclctl.files.locating import Locator
from eclctl.files.lookup_rights import LookupRights
from eclctl.files.mounts import MountTable
from eclctl.files.sandboxes import Sandboxes
from eclctl.files.syscalls import Credentials, can_assume
from eclctl.model import Caller
from eclctl.verify.hashing import HashPool
from tests.helpers.support import CORPUS, NOW

CALLER = Caller(4242, 4242, frozenset({4242}))

SIGNERS = """\
version: 1
signers:
  builder:  {pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}
  scanner:  {pgp: [F69053E5830DBDBA72B3D8F61BDDA97D14902F26]}
  approver: {pgp: [25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4]}
roles:
  security: [scanner, approver]
"""
RULES = """\
rules:
  - name: production
    match: {paths: ["@LIBRARY@/**"]}
    require:
      - any_of: [builder]
      - approvals: {count: 2, of: security}
"""


class Site:
    """A library with images of the corpus, a policy, a keyring of the corpus, and an engine."""

    def __init__(self, root: Path, rules: str = RULES, ring: str = "site-ring.asc", signers: str = SIGNERS) -> None:
        self.root = root
        self.library = root / "library"
        self.now = NOW
        self.elapsed = 0.0
        self._generation = 0
        for name in ("library", "policies.d", "keys.d"):
            (root / name).mkdir()
        for directory in (root, *root.parents):
            if directory.stat().st_uid == os.getuid() and str(directory) not in {"/", "/tmp"}:
                directory.chmod(0o755)
        self.use_keyring(ring)
        self.mounts = MountTable()
        sandboxes = Sandboxes(lambda: self.elapsed)
        locator = Locator(self.mounts, frozenset({0, os.getuid()}), sandboxes=sandboxes)
        self.engine = Engine(
            locator,
            HashPool(1),
            FactCache(100),
            Snapshot.empty(),
            elapsed=lambda: self.elapsed,
            file_time=lambda: time_ns() + 10**9,  # its files have been there for a while
        )
        self.use_policy(rules, signers)

    def close(self) -> None:
        self.mounts.close()

    def use_keyring(self, ring: str) -> None:
        shutil.copyfile(CORPUS / "keys" / "pgp" / ring, self.root / "keys.d" / "ring.asc")

    def use_policy(self, rules: str, signers: str = SIGNERS) -> Snapshot:
        text = (signers + rules).replace("@LIBRARY@", str(self.library))
        (self.root / "policies.d" / "policy.yaml").write_text(text)
        return self.reload()

    def reload(self) -> Snapshot:
        self._generation += 1
        built = build(self.settings(), Names(lambda _: None, lambda _: None), generation=self._generation, now=self.now)
        assert built.errors == ()
        assert built.snapshot is not None
        self.engine.install(built.snapshot)
        return built.snapshot

    def settings(self) -> Settings:
        return Settings(
            check_socket="",
            admin_socket="",
            state_dir=str(self.root),
            policies=(str(self.root / "policies.d"),),
            keyrings=(str(self.root / "keys.d"),),
        )

    def image(self, name: str, source: str = "one-builder+scanner+approver.sif") -> Path:
        """Copy an image of the corpus into the library, as a file that has been there for a while."""
        path = self.library / name
        shutil.copyfile(CORPUS / "images" / source, path)
        return path

    def ask(self, path: Path | str, caller: Caller = CALLER, descriptor: int | None = None, **more: object) -> Decision:
        rights = Credentials(caller.uid, caller.gid, caller.groups) if can_assume() else None
        question = replace_question(Question(str(path), caller, descriptor, asker=LookupRights(rights)), **more)
        return drive(self.engine, question, None, lambda: self.now)


def replace_question(question: Question, **more: object) -> Question:
    return question._replace(**more)  # type: ignore[arg-type]


def at(now: datetime, site: Site) -> Site:
    site.now = now
    return site
