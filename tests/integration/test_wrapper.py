"""The example wrapper runs the launcher when the answer is allow, and in no other case."""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from tests.helpers.site import APPROVED, ECLCTL, HALF, Site
from tests.helpers.support import ROOT


@pytest.fixture
def wrapper(tmp_path: Path, site: Site) -> Path:
    """The example with a launcher that tells its arguments, and `eclctl` asking the site's daemon."""
    launcher = script(tmp_path / "launcher", 'printf "%s\\n" "$@"')
    return placed(tmp_path, asking(tmp_path, site), launcher)


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def asking(folder: Path, site: Site) -> Path:
    command = shlex.join(ECLCTL)
    return script(folder / "eclctl", f'cd {ROOT}; shift; exec {command} check --socket {site.check_socket} "$@"')


def placed(folder: Path, eclctl: Path, launcher: Path) -> Path:
    text = (ROOT / "examples" / "wrapper.sh").read_text()
    assert "/usr/bin/eclctl\n" in text
    assert "/usr/bin/singularity\n" in text
    text = text.replace("/usr/bin/eclctl\n", f"{eclctl}\n").replace("/usr/bin/singularity\n", f"{launcher}\n")
    path = folder / "wrapper.sh"
    path.write_text(text)
    path.chmod(0o755)
    return path


def run(wrapper: Path, *arguments: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([wrapper, *arguments], capture_output=True, text=True, check=False, cwd=cwd)


def test_the_launcher_gets_an_allowed_image_by_its_absolute_name_and_the_arguments(wrapper: Path, site: Site) -> None:
    done = run(wrapper, APPROVED, "a b", "--c", cwd=os.path.dirname(site.image(APPROVED)))
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["run", site.image(APPROVED), "a b", "--c"]


@pytest.mark.parametrize("image", [HALF, "missing.sif", "docker://alpine", "--help", "-q", ""])
def test_what_is_denied_is_not_run(wrapper: Path, site: Site, image: str) -> None:
    done = run(wrapper, image, cwd=os.path.dirname(site.image(HALF)))
    assert (done.returncode, done.stdout) == (1, "")
    assert "eclctl explain" in done.stderr


def test_without_an_image_nothing_is_run(wrapper: Path) -> None:
    done = run(wrapper)
    assert (done.returncode, done.stdout) == (2, "")


def test_without_a_daemon_nothing_is_run(wrapper: Path, site: Site) -> None:
    site.stop()
    done = run(wrapper, site.image(APPROVED))
    assert (done.returncode, done.stdout) == (1, "")
    assert "no decision" in done.stderr


@pytest.mark.parametrize("body", ["exit 2", "exit 3", "exit 255", "kill -9 $$"])
def test_every_exit_status_but_0_is_deny(tmp_path: Path, body: str) -> None:
    launcher = script(tmp_path / "launcher", "echo ran")
    done = run(placed(tmp_path, script(tmp_path / "eclctl", body), launcher), "/a.sif")
    assert (done.returncode, done.stdout) == (1, "")


def test_without_eclctl_nothing_is_run(tmp_path: Path) -> None:
    launcher = script(tmp_path / "launcher", "echo ran")
    done = run(placed(tmp_path, tmp_path / "no-such-program", launcher), "/a.sif")
    assert (done.returncode, done.stdout) == (1, "")
