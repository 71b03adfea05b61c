"""Leases that are broken while they are held: the kernel's SIGIO ends no process that takes them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.helpers.site import BREAKING_LEASES, PATIENCE, Site

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files are trusted")


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site(folder="/srv" if os.stat("/srv").st_dev == os.stat("/").st_dev else "/tmp")
    made.configure(more="watch: [{path: images}]\n")
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("command", ["explain", "report", "policy simulate"])
def test_no_command_that_decides_is_ended_by_a_lease_that_is_broken(site: Site, command: str) -> None:
    arguments = {
        "explain": [site.image("one-builder+scanner.sif")],
        "report": ["--html", str(site.root / "page.html")],
        "policy simulate": [str(site.root / "policies.d")],
    }[command]
    done = subprocess.run(
        [*BREAKING_LEASES, *command.split(), "--config", str(site.config), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert "a lease is broken" in done.stderr  # else nothing was tested


def test_without_that_care_a_process_is_ended() -> None:
    """What the other tests rest on."""
    code = BREAKING_LEASES[2].partition("from eclctl")[0] + (
        "import fcntl, os\nfcntl.fcntl(os.open('/etc/passwd', os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -29
