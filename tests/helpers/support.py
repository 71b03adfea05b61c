"""What every test may use: where the corpora are, and the corpus date."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "corpus" / "data"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
"""After the newest signature in the corpus, which GnuPG dated 2026-11-22 16:37."""


def peak() -> int:
    """The most memory that this process has had, in bytes. Not ru_maxrss, which is also its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def own_copy(source: Path, folder: Path) -> Path:
    """Copy a file so that it is the tests' own and no other user can write it, also in another user's clone."""
    return Path(shutil.copyfile(source, folder / source.name))


def _upstream() -> Path | None:
    """Return the folder of upstream's own test images: named by the environment, or in a folder beside the project."""
    named = os.environ.get("ECLCTL_UPSTREAM_CORPUS")
    path = Path(named) if named else ROOT.parent / "shared" / "corpus" / "upstream"
    return path if path.is_dir() else None


UPSTREAM = _upstream()
needs_upstream = pytest.mark.skipif(UPSTREAM is None, reason="needs the upstream corpus beside the project")
