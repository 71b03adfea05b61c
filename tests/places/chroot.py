"""A decision of an engine whose root directory is a plain directory, not a mount point."""

from __future__ import annotations

import os
from pathlib import Path

from tests.helpers.engines import RULES, Site

_BARE = RULES.replace("- approvals: {count: 2, of: security}", "- any_of: [scanner]")


def ask_in_bare_chroot(jail: str, by_name: bool) -> dict[str, tuple[str, str, str | None]]:
    """Make the directory this process's root, and a site in it; return decision, code and assurance of its images.

    The corpus must lie in it at its usual path, and /proc be mounted.
    """
    os.chroot(jail)
    os.chdir("/")
    root = Path("/site")
    root.mkdir()
    site = Site(root, rules=_BARE)
    answers = {}
    images = {"approved": "one-builder+scanner.sif", "half": "one-builder.sif", "open to others": "one-builder.sif"}
    for number, (what, source) in enumerate(images.items()):
        path = site.image(f"{number}.sif", source)
        path.chmod(0o666 if what == "open to others" else 0o644)
        descriptor = None if by_name else os.open(path, os.O_RDONLY)
        decision = site.ask(path, descriptor=descriptor)
        assurance = None if decision.assurance is None else decision.assurance.value
        answers[what] = (decision.verdict.value, decision.code.value, assurance)
    return answers
