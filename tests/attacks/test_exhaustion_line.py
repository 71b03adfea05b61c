"""attacks.md: a process that can open hardly any more files."""

from __future__ import annotations

import contextlib
import os
import resource

from eclctl.errors import BusyImageError
from eclctl.files.locating import Locator
from eclctl.files.mounts import MountTable
from tests.helpers.site import APPROVED
from tests.places.arena import Arena, needs_arena

pytestmark = needs_arena


def names_with_few_descriptors(path: str) -> set[str | None]:
    """Locate a file while one, two, and so on descriptors can be opened; return the names that were given."""
    locator = Locator(MountTable(), frozenset({0}))
    descriptor = os.open(path, os.O_RDONLY)
    free = os.dup(descriptor)
    os.close(free)
    found: set[str | None] = set()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in range(free + 1, free + 9):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        with contextlib.suppress(BusyImageError):
            found.add(locator.by_descriptor(path, descriptor, anywhere=True).path)
    return found


def test_a_file_on_a_bind_mount_has_its_one_name_or_none_where_descriptors_run_out(arena: Arena) -> None:
    arena.bind(arena.root / "images", arena.root / "bound")
    found = arena.call(names_with_few_descriptors, str(arena.root / "bound" / APPROVED))
    assert found == {arena.site.image(APPROVED)}
