"""Signing that is cut short: killed at any point, or on a disk that is full at any point."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from eclctl.errors import SigningError
from tests.helpers.signing import BIG, edit, second_signature, signed_once, signers
from tests.helpers.support import ROOT

POINTS = 200


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "before.sif"
    path.write_bytes(signed_once(BIG).build())
    return path


def killed(image: Path, folder: Path, victim: str) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.helpers.killing", image, folder, str(POINTS), victim]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=600).stdout)
    assert found["other"] == found["wrong"] == 0
    assert found["old"] + found["new"] == POINTS
    assert min(found["old"], found["new"]) > 0
    return found


def test_signing_killed_at_any_point_leaves_the_old_file_or_the_new_one(image: Path, tmp_path: Path) -> None:
    """signing: disk full or crash in the middle. After a kill the file is one of the two, byte for byte."""
    found = killed(image, tmp_path, "command")
    assert found["residue"] == 0
    assert found["killed"] > 0.9 * POINTS  # a line more or less moves the last


def test_signing_survives_the_end_of_the_process_that_writes(image: Path, tmp_path: Path) -> None:
    """signing: disk full or crash in the middle. The command makes up for it, and says truly what became of it."""
    found = killed(image, tmp_path, "writer")
    assert found["residue"] == 0
    assert found["survived"] == POINTS


def test_signing_that_no_process_survives_leaves_the_old_image_or_the_new_one(image: Path, tmp_path: Path) -> None:
    """signing: disk full or crash in the middle. What lies behind the image goes with the next signature."""
    found = killed(image, tmp_path, "both")
    assert found["residue"] > 0
    assert found["killed"] > 0.9 * POINTS


def test_signing_takes_a_good_image_to_a_good_image(image: Path) -> None:
    """signing: both states between which a crash decides verify, with one signer and with two."""
    assert signers(image) == 1
    edit(image, second_signature(signed_once(BIG)))
    assert signers(image) == 2


FULL = """
import errno, os, shutil, sys
from pathlib import Path
from eclctl.errors import SigningError
from tests.helpers.signing import BIG, edit, second_signature, signed_once
source, disk = Path(sys.argv[1]), Path(sys.argv[2])
change = second_signature(signed_once(BIG))
page, before = 4096, source.read_bytes()
image = Path(shutil.copyfile(source, disk / "image.sif"))
filler, failed = disk / "filler", []
for pages in range(20):
    free = os.statvfs(disk).f_bavail
    with filler.open("wb") as file:
        if free > pages:
            os.posix_fallocate(file.fileno(), 0, (free - pages) * page)
    try:
        edit(image, change)
    except SigningError as error:
        assert "No space left on device" in str(error), error
        assert image.read_bytes() == before
        failed.append(pages)
    else:
        assert len(image.read_bytes()) > len(before)
        os.truncate(image, len(before))
        with image.open("r+b") as file:
            file.write(before)
    filler.unlink()
    assert os.listdir(disk) == ["image.sif"], os.listdir(disk)
print(len(failed), max(failed))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a disk that is full")
def test_signing_on_a_full_disk_leaves_the_image_as_it_was(image: Path, tmp_path: Path) -> None:
    """signing: disk full, from the first page of the record to the last of the signature."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=12m full {disk} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", FULL, image, disk]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    count, most = map(int, done.stdout.split())
    assert 10 < count < 20
    assert most == count - 1


def test_signing_beyond_the_largest_size_that_is_allowed_leaves_the_image_as_it_was(image: Path) -> None:
    """signing: disk full, where it is not the disk but a limit (ulimit -f) that ends writing."""
    before = image.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 4096, len(before) - 1, len(before), len(before) + 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(SigningError, match="File too large"):
                edit(image, second_signature(signed_once(BIG)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert image.read_bytes() == before
        assert os.listdir(image.parent) == [image.name]
