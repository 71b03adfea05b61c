"""What will be decided on a file once it has its name, before it has it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from eclctl.cli.offline import decide, load_site, opened_engine
from eclctl.client import open_image, wire_path
from eclctl.decide.identify import calling_user
from eclctl.decide.questions import Decision, Question
from eclctl.image.identity import Located, Locator, Memo

__all__ = ["foretell"]


@dataclass(frozen=True, slots=True)
class _Elsewhere(Locator):
    """Finds the file where it is, and says that it is where it will be: in the same directory, under another name."""

    here: str
    there: str

    def by_descriptor(self, name: str, fd: int, *, anywhere: bool, memo: Memo | None = None) -> Located:
        """Locate the file; what its identity is worth follows from where it is."""
        del name
        located = Locator.by_descriptor(self, self.here, fd, anywhere=anywhere, memo=memo)
        return located if located.path is None else located._replace(path=self.there)

    def still_there(self, located: Located) -> bool:
        """Whether the name that it has now still reaches it."""
        return located.path is None or Locator.still_there(self, located._replace(path=self.here))


def foretell(config: str, here: str, there: str) -> Decision:
    """Decide on the file `here` as if its name were `there`, both absolute, without links, in one directory.

    Decided is for the user who calls, by the configuration that a file names, without the daemon: it decides on what
    names lead to, and that name leads to nothing yet.

    Raises:
        ConfigError: the configuration or a policy does not load.
        OSError: the file cannot be opened.
    """
    settings, snapshot = load_site(config)
    descriptor = open_image(here)
    try:
        with opened_engine(settings, snapshot, 1) as engine:
            known = engine.locator
            engine.locator = _Elsewhere(known.mounts, known.owners, here, there)
            return decide(engine, Question(wire_path(there), calling_user(), descriptor))
    finally:
        os.close(descriptor)
