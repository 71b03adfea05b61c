"""Whether a file is open for writing, where that cannot be found out."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from eclctl.errors import BusyImageError
from eclctl.files.writers import look_for_writers


@pytest.fixture
def writing(tmp_path: Path) -> Iterator[int]:
    """A descriptor for writing, the last that this process can open."""
    fd = os.open(tmp_path / "image.sif", os.O_RDWR | os.O_CREAT)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    yield fd
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(fd)


def test_a_process_without_descriptors_does_not_say_that_no_writer_is_known(writing: int) -> None:
    with pytest.raises(BusyImageError):
        look_for_writers(writing)
