"""Which file systems are trusted on hosts whose mount tables are recorded: types that a test machine may lack."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eclctl.files.mounts import FilesystemTrust, Mount, Mounts
from eclctl.files.trusted_filesystems import Filesystems
from tests.helpers.file_systems import Host, mounts_of
from tests.places.arena import RECORDED, recorded

OWN_OWNERS = {"btrfs", "ext4", "squashfs", "tmpfs", "xfs"}  # of the types that are recorded
HOSTS = sorted(path.stem for path in RECORDED.glob("*.txt"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def lines_of(name: str) -> list[str]:
    return recorded(name).removesuffix("\n").split("\n")


def judged(host: Host, name: str, words: Filesystems | None = None) -> tuple[Mounts, FilesystemTrust]:
    root, *others = lines_of(name)
    return host.trust(*others, words=words, root=root)


@pytest.mark.parametrize("name", HOSTS)
def test_every_line_is_a_mount(name: str) -> None:
    assert len(mounts_of(*lines_of(name)).all) == len(lines_of(name))


@pytest.mark.parametrize("name", HOSTS)
def test_by_default_the_file_system_of_the_root_directory_alone_is_trusted(host: Host, name: str) -> None:
    mounts, trust = judged(host, name)
    assert trust.trusted == {mounts.root.superblock}
    assert trust.vouched == frozenset()


@pytest.mark.parametrize("name", HOSTS)
def test_no_entry_of_fstab_makes_a_file_system_trusted_whose_owners_are_not_its_own(host: Host, name: str) -> None:
    mounts = mounts_of(*lines_of(name))
    disks = {
        mount.source: mount.device
        for mount in mounts.all
        if mount.source.startswith("/dev/sd") and mount is not mounts.root
    }
    for source, device in disks.items():
        host.disk(os.path.basename(source), f"{os.major(device)}:{os.minor(device)}")
    host.fstab.write_bytes(b"".join(map(entry, mounts.all)).replace(b"/dev/sd", bytes(host.dev) + b"/sd"))
    _, trust = judged(host, name)
    for mount in mounts.all:
        if mount.superblock != mounts.root.superblock and mount.type not in OWN_OWNERS:
            assert not trust.trusts(mount), mount
            assert not trust.vouches_for(mount), mount
        elif mount.source in disks and mounts.at(mount.point) is mount and mount.root == "/":
            assert trust.trusts(mount), mount  # so that it is the type that makes the difference


@pytest.mark.parametrize("name", HOSTS)
def test_each_point_that_is_listed_is_trusted_with_any_name(host: Host, name: str) -> None:
    mounts = mounts_of(*lines_of(name))
    points = frozenset(mount.point for mount in mounts.all)
    _, trust = judged(host, name, words=Filesystems(trusted=points, fuse=points))
    for point in points:
        top = mounts.at(point)
        assert top is not None
        assert trust.trusts(top), point


def entry(mount: Mount) -> bytes:
    """The line of fstab that lists a mount, with what separates fields written as octal numbers."""
    fields = (mount.source, mount.point, mount.type, "defaults")
    text = " ".join("".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in field) for field in fields)
    return (text + " 0 0\n").encode("utf-8", "surrogateescape")
