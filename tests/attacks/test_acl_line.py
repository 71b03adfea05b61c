"""attacks.md: names in directories that an ACL closes to one user."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

from tests.helpers.site import UNSIGNED
from tests.helpers.support import CORPUS
from tests.places.arena import ALICE, BOB, Arena, needs_arena
from tests.places.inside import User
from tests.places.policies import HOMES

pytestmark = needs_arena


def closed_to(path: Path, user: User) -> None:
    """Take all rights from one user by a POSIX ACL; the mode still shows 0755."""
    anyone = 0xFFFFFFFF
    entries = [(1, 7, anyone), (2, 0, user.uid), (4, 5, anyone), (16, 5, anyone), (32, 5, anyone)]
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)


def test_a_name_in_a_directory_that_an_acl_closes_to_the_asker_tells_nothing(arena: Arena) -> None:
    """Whether it leads to a file that the asker has, by a hard link, shows in the path that an answer gives."""
    closed = arena.folder("bob", owner=BOB)
    own = arena.folder("home", owner=ALICE) / "own.sif"
    shutil.copyfile(CORPUS / "images" / UNSIGNED, own)
    os.link(own, closed / "there.sif")
    closed_to(closed, ALICE)
    assert os.stat(closed).st_mode & 0o777 == 0o755
    assert arena.run("ls", closed, who=ALICE).status != 0
    arena.start_daemon(HOMES)
    answers = []
    for name in ("there.sif", "missing.sif"):
        answer = arena.ask_as(ALICE, own, name=closed / name, method="explain")
        answers.append((answer["decision"], answer["code"], answer["rule"], answer["path"], answer["reason"]))
    assert answers[0] == answers[1]
