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
from tests.signing import BIG, edit, second_signature, signed_once, signers
from tests.support import ROOT

POINTS = 200


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "before.sif"
    path.write_bytes(signed_once(BIG).build())
    return path


@pytest.mark.parametrize("kind", ["nameless", "named", "plain"])
def test_signing_killed_at_any_point_leaves_the_old_image_or_the_new_one(
    image: Path, kind: str, tmp_path: Path
) -> None:
    """signing: disk full or crash in the middle.

    On a file system that has everything, on one whose files all have names, and on one where names cannot be traded.
    """
    folder = tmp_path / "images"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.killing", image, folder, str(POINTS), kind]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=600).stdout)
    assert found["other"] == 0
    assert found["old"] + found["new"] == POINTS
    assert min(found["old"], found["new"]) > 0
    assert found["killed"] > 0.9 * POINTS  # a thread that is waited for a little longer or shorter moves the last
    assert kind == "nameless" or found["leftovers"] > 0
    assert found["left"] == 0


def test_signing_takes_a_good_image_to_a_good_image(image: Path) -> None:
    """signing: both states between which a crash decides verify, with one signer and with two."""
    assert signers(image) == 1
    edit(image, second_signature(signed_once(BIG)))
    assert signers(image) == 2


FULL = """
import errno, os, shutil, sys
from pathlib import Path
from eclctl.errors import SigningError
from tests.signing import BIG, edit, no_nameless_files, second_signature, signed_once
source, disk, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
change = second_signature(signed_once(BIG))
if kind == "named":
    os.open = no_nameless_files
page, before = 4096, source.read_bytes()
image = Path(shutil.copyfile(source, disk / "image.sif"))
filler, failed = disk / "filler", []
for pages in [0, 1, 2, 5, 100, 500, 760, *range(772, 790)]:
    free = os.statvfs(disk).f_bavail
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - pages) * page)
    try:
        edit(image, change)
    except SigningError as error:
        assert "No space left on device" in str(error), error
        assert image.read_bytes() == before
        failed.append(pages)
    else:
        assert len(image.read_bytes()) > len(before)
        shutil.copyfile(source, image)
    filler.unlink()
    assert os.listdir(disk) == ["image.sif"], os.listdir(disk)
print(len(failed), max(failed))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a disk that is full")
@pytest.mark.parametrize("kind", ["nameless", "named"])
def test_signing_on_a_full_disk_leaves_the_image_as_it_was(image: Path, kind: str, tmp_path: Path) -> None:
    """signing: disk full, from the first page of the copy to the last of the signature."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=12m full {disk} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", FULL, image, disk, kind]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    count, most = map(int, done.stdout.split())
    assert 7 < count < 25
    assert 772 <= most < 789


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
