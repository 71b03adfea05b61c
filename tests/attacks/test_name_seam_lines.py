"""attacks.md: names that bind mounts, moved mounts and renamed directories give a file."""

from __future__ import annotations

import os
import shutil

from tests.helpers.site import APPROVED
from tests.helpers.support import CORPUS
from tests.places import linux
from tests.places.arena import ALICE, Arena, needs_arena
from tests.places.policies import PRODUCTION, SPELLINGS

pytestmark = needs_arena

IMAGES = CORPUS / "images"


def test_a_file_that_a_mount_hides_has_not_the_rule_of_the_name(arena: Arena) -> None:
    """Its name leads elsewhere; it is reached by a bind mount of the root."""
    shutil.copyfile(IMAGES / APPROVED, arena.site.image("old.sif"))
    arena.bind("/", arena.folder("elsewhere") / "root")
    path = arena.site.image("old.sif")
    arena.mount("tmpfs", arena.root / "images", "tmpfs")
    arena.start_daemon(PRODUCTION)
    answer = arena.ask_as(ALICE, f"{arena.root}/elsewhere/root{path}", method="explain")
    assert (answer["decision"], answer["rule"]) == ("deny", None), answer


def test_a_mount_that_was_moved_over_another_is_seen_on_top(arena: Arena) -> None:
    """The deny rule of the name decides, by any bind mount that reaches the file."""
    for name in ("first", "elsewhere", "images/secret"):
        arena.folder(name)
    arena.mount("tmpfs", arena.root / "first", "tmpfs", data="mode=755")
    arena.run("mkdir", arena.root / "first/sub")
    arena.call(shutil.copyfile, str(IMAGES / APPROVED), str(arena.root / "first/sub/a.sif"))
    arena.mount("tmpfs", arena.root / "images/secret", "tmpfs")
    arena.mount(str(arena.root / "first"), arena.root / "images/secret", flags=linux.MS_MOVE)
    arena.bind(arena.root / "images/secret/sub", arena.root / "elsewhere")
    arena.start_daemon(SPELLINGS)
    plain = arena.ask_as(ALICE, arena.root / "images/secret/sub/a.sif")
    assert (plain["decision"], plain["rule"]) == ("deny", "secret")
    answer = arena.ask_as(ALICE, arena.root / "elsewhere/a.sif")
    assert (answer["decision"], answer["rule"]) == ("deny", "secret")


def test_a_mount_below_a_renamed_directory_has_its_new_name(arena: Arena) -> None:
    arena.folder("images/a/mnt")
    arena.mount("tmpfs", arena.root / "images/a/mnt", "tmpfs", data="mode=755")
    arena.call(shutil.copyfile, str(IMAGES / APPROVED), str(arena.root / "images/a/mnt/a.sif"))
    arena.start_daemon(PRODUCTION)
    before = arena.ask_as(ALICE, arena.root / "images/a/mnt/a.sif", method="explain")
    os.rename(arena.root / "images/a", arena.root / "images/b")
    after = arena.ask_as(ALICE, arena.root / "images/b/mnt/a.sif", method="explain")
    assert (before["rule"], after["rule"]) == ("production", "production"), after


def test_a_bind_mount_whose_source_was_renamed_has_the_rule_of_its_new_name(arena: Arena) -> None:
    arena.folder("images/old")
    shutil.copyfile(IMAGES / APPROVED, arena.site.image("old/a.sif"))
    arena.bind(arena.root / "images/old", arena.folder("elsewhere") / "tree")
    arena.start_daemon(SPELLINGS)
    os.rename(arena.root / "images/old", arena.root / "images/secret")
    answer = arena.ask_as(ALICE, arena.root / "elsewhere/tree/a.sif")
    assert (answer["decision"], answer["rule"]) == ("deny", "secret")
