"""What is mounted where."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from eclctl.image.mounts import Mount, MountTable, parse_mountinfo

LINES = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /home rw,relatime - nfs4 server:/home rw,vers=4.2
31 22 0:26 / /cvmfs/repo.example ro,nosuid - fuse cvmfs2 ro,user_id=990,group_id=990
32 22 0:27 / /home/joe/mnt rw - fuse.sshfs host: rw,user_id=1000,group_id=1000
35 22 8:1 /srv /bound ro - ext4 /dev/sda1 rw
33 22 0:28 / /with\\040space rw - tmpfs tmpfs rw
34 22 0:29 / /odd
"""


@pytest.fixture
def table() -> Iterator[MountTable]:
    table = MountTable()
    yield table
    table.close()


def by_point(text: str = LINES) -> dict[str, Mount]:
    return {mount.point: mount for mount in parse_mountinfo(text)}


def test_reads_device_type_and_options() -> None:
    mounts = by_point()
    assert mounts["/"] == Mount("/", os.makedev(8, 1), "ext4", read_only=False)
    assert mounts["/cvmfs/repo.example"].read_only


def test_unescapes_mount_points() -> None:
    assert "/with space" in by_point()


def test_leaves_out_lines_of_another_shape() -> None:
    assert "/odd" not in by_point()


def test_only_a_kernels_own_file_systems_are_honest() -> None:
    mounts = by_point()
    assert mounts["/"].honest
    assert mounts["/home"].honest
    assert not mounts["/home/joe/mnt"].honest
    assert not mounts["/cvmfs/repo.example"].honest


def test_only_file_systems_of_this_host_are_local() -> None:
    mounts = by_point()
    assert mounts["/"].local
    assert not mounts["/home"].local
    assert not mounts["/cvmfs/repo.example"].local


def test_a_path_crosses_the_mounts_above_it(table: MountTable) -> None:
    crossed = table.covering("/proc/self/status").mounts
    assert [mount.point for mount in crossed] == ["/", "/proc"]
    assert not table.local("/proc/self/status")


def test_a_component_is_not_a_prefix(table: MountTable) -> None:
    assert "/proc" not in [mount.point for mount in table.covering("/process/x").mounts]


def test_a_read_only_mount_below_a_trusted_point_is_vouched_for() -> None:
    table = MountTable(frozenset({"/cvmfs"}))
    mounts = by_point()
    assert table.vouched(mounts["/cvmfs/repo.example"])
    assert not table.vouched(mounts["/home/joe/mnt"])
    table.close()


def test_a_read_only_mount_of_a_file_system_that_can_be_written_elsewhere_is_not_read_only() -> None:
    assert not by_point()["/bound"].read_only


def test_a_trusted_point_vouches_for_nothing_that_can_be_written() -> None:
    table = MountTable(frozenset({"/home"}))
    assert not table.vouched(by_point()["/home"])
    table.close()
