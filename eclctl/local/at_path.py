"""What will be decided on a file once it has its name, before it has it."""

from __future__ import annotations

import os

from eclctl.client import open_image, wire_path
from eclctl.dataclass import dataclass
from eclctl.decide.caller_identity import calling_user
from eclctl.decide.questions import Decision, Question
from eclctl.files.locating import Located, Locator, Recheck
from eclctl.files.lookup_rights import OWN_RIGHTS, LookupRights
from eclctl.files.syscalls import Attributes
from eclctl.files.writers import Writers
from eclctl.local.engine import decide_here, load_site, opened_engine


@dataclass(frozen=True, slots=True)
class _LocatorAtFinalPath(Locator):
    """Finds the file where it is, and says that it is where it will be: in the same directory, under another name."""

    temporary_path: str
    final_path: str

    def by_descriptor(
        self, name: str, fd: int, *, anywhere: bool, asker: LookupRights = OWN_RIGHTS, found: Attributes | None = None
    ) -> Located:
        """Locate the file; its assurance level follows from where it is."""
        del name
        return self._moved(
            Locator.by_descriptor(self, self.temporary_path, fd, anywhere=anywhere, asker=asker, found=found)
        )

    def again(self, located: Located, second: Recheck) -> Located:
        """Look at it anew under the name that it has now."""
        if located.path is not None:
            located = located._replace(path=f"{os.path.dirname(located.path)}/{os.path.basename(self.temporary_path)}")
        return self._moved(Locator.again(self, located, second._replace(name=self.temporary_path)))

    def look_for_writers(self, fd: int) -> Writers:
        """Say that there are none: the file is this process's own, which still has it open for writing."""
        del fd
        return Writers.NONE

    def _moved(self, located: Located) -> Located:
        """Return what was located, with the names that it will have."""
        if located.path is None:
            return located
        base = os.path.basename(self.final_path)
        path, *others = (
            f"{os.path.dirname(each)}/{base}" for each in (located.path, *(a.path for a in located.aliases))
        )
        aliases = tuple(alias._replace(path=other) for alias, other in zip(located.aliases, others, strict=True))
        return located._replace(path=path, aliases=aliases)


def decide_as_if_at(config: str, temporary_path: str, final_path: str) -> Decision:
    """Decide on the file `temporary_path` as if its name were `final_path`.

    The daemon cannot be asked: it decides on the file that a name leads to, and the final name leads to no file yet.
    The decision is for the user who calls.

    Args:
        config: the configuration's file, which names policies and keyrings.
        temporary_path: where the file is, absolute and without links.
        final_path: where it will be, in the same directory.

    Raises:
        ConfigError: the configuration or a policy does not load.
        OSError: the file cannot be opened.
    """
    settings, snapshot = load_site(config)
    descriptor = open_image(temporary_path)
    try:
        with opened_engine(settings, snapshot, 1) as engine:
            known = engine.locator
            engine.locator = _LocatorAtFinalPath(
                known.mounts, known.owners, temporary_path, final_path, sandboxes=known.sandboxes
            )
            return decide_here(engine, Question(wire_path(final_path), calling_user(), descriptor))
    finally:
        os.close(descriptor)
