"""Decides whether a file is on a trusted path: whether only trusted owners can change it or exchange it.

A file has the assurance `trusted-path` when `locating` finds no `Weakness`. Each rule is one function:

1. Each directory above it lies on a trusted file system, belongs to a trusted owner, and others cannot write it, or it
   is sticky (`directory_weakness`).
2. The file itself lies on a trusted file system (`file_system_weakness`), belongs to a trusted owner, and others cannot
   write it (`file_weakness`).
3. Of a directory that serves as an image, the same holds for all that is in it (`sandbox_weakness`).
4. No process of this host has the file open for writing, or mapped (`writers_weakness`).

A read-only file system for whose whole content the configuration vouches replaces rules 1 to 4 for what is on it.
POSIX ACLs need no rule: where there is one, the group bits of the mode show its mask, the most that it can grant.

Everything here is judged by attributes of open descriptors, and by one state of the mount table (`TrustBasis`).
"""

from __future__ import annotations

import stat
from typing import NamedTuple

from eclctl.files.mounts import FilesystemTrust, Mount, Mounts
from eclctl.files.sandbox_walk import WalkResult
from eclctl.files.syscalls import Attributes, DirectoryAttributes, attributes
from eclctl.files.writers import Writers

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LONGEST_SHOWN = 200


class Weakness(NamedTuple):
    """Why a file is not on a trusted path.

    text: Part of a sentence.
    shown: Whether the caller may know it. It names directories that the caller may not be able to see.
    """

    text: str
    shown: bool = True


class TrustBasis(NamedTuple):
    """What files are judged by.

    mounts: One state of the mount table.
    trust: Which of the mounted file systems are trusted.
    owners: The trusted owners, as user IDs.
    """

    mounts: Mounts
    trust: FilesystemTrust
    owners: frozenset[int]

    def same_for(self, mount_id: int, path: str, now: TrustBasis) -> bool:
        """Return whether the mounts of a file, found by its mount's ID and its path, are the same as now."""
        if self.mounts is now.mounts:
            return True
        mount, way = self.mounts.of(mount_id), self.mounts.above(path)
        return (
            mount is not None
            and mount == now.mounts.of(mount.id)
            and way == now.mounts.above(path)
            and self.mounts.names(mount, path) == now.mounts.names(mount, path)
            and all(self.trust.of(each) == now.trust.of(each) for each in way)
        )


def directory_weakness(fd: int, found: DirectoryAttributes, path: str, basis: TrustBasis) -> Weakness | None:
    """Return why others can change what is in a directory, or None.

    A sticky directory does not let others replace what trusted owners put there.

    Args:
        fd: The directory, open; O_PATH will do.
        found: Its attributes.
        path: Its name, for the message.
        basis: What it is judged by.
    """
    mount_id = attributes(fd).mount
    mount = basis.mounts.of(mount_id)
    if mount is not None and basis.trust.vouches_for(mount):
        return None
    if mount is None or not (basis.trust.trusts(mount) or mount.type == "autofs"):
        return Weakness(f"the directory {path}: {_why_not_trusted(basis, mount_id)}")
    if found.uid not in basis.owners:
        return Weakness(f"the directory {path} belongs to user {found.uid}")
    if found.mode & OTHERS_WRITE and not found.mode & stat.S_ISVTX:
        return Weakness(f"others can write the directory {path} (mode {found.mode & 0o7777:04o})")
    return None


def _why_not_trusted(basis: TrustBasis, mount_id: int) -> str:
    mount = basis.mounts.of(mount_id)
    return "its mount is not of this namespace" if mount is None else basis.trust.why_not(mount)


def file_system_weakness(found: Attributes, basis: TrustBasis) -> Weakness | None:
    """Return why the file system of a file is not trusted, or None."""
    mount = basis.mounts.of(found.mount)
    if mount is not None and (basis.trust.trusts(mount) or basis.trust.vouches_for(mount)):
        return None
    return Weakness(_why_not_trusted(basis, found.mount))


def file_weakness(fd: int, path: str, found: Attributes, mount: Mount, basis: TrustBasis) -> Weakness | None:
    """Return why a file itself is not trusted, or None.

    Args:
        fd: The file, open; O_PATH will do.
        path: Its name.
        found: Its attributes.
        mount: Its mount.
        basis: What it is judged by.
    """
    if basis.trust.vouches_for(mount):
        return None
    if (weak := file_system_weakness(found, basis)) is not None:
        return weak
    if (mapped := basis.mounts.mapped(path)) is not None:
        return Weakness(f"the mount at {mapped.point} shows other owners than its file system has")
    if found.uid not in basis.owners:
        return Weakness(f"it belongs to user {found.uid}")
    if found.mode & OTHERS_WRITE:
        return Weakness(f"others can write it (mode {found.mode & 0o7777:04o})")
    if mount.local and basis.mounts.is_fuse(mount, fd):
        return Weakness(f"its file system at {mount.point} is FUSE, and the mount table calls it {mount.type}")
    return None


def sandbox_weakness(result: WalkResult | None) -> Weakness | None:
    """Return why a directory that serves as an image is not trusted by what a walk through it found, or None.

    Args:
        result: What the walk found; None when there was no walk, or its result is out of date.
    """
    if result is None:
        return Weakness("what is in the directory is not known, or changed while it was looked at")
    if result.weak is None:
        return None
    where = result.weak.path if len(result.weak.path) <= _LONGEST_SHOWN else f"…{result.weak.path[-_LONGEST_SHOWN:]}"
    text = f"in the directory, {where}: {result.weak.why} ({result.weak.advice})"
    return Weakness(text, shown=result.weak.public)


def writers_weakness(writers: Writers) -> Weakness | None:
    """Return why a file that processes have open may still be changed, or None."""
    return Weakness("a process has it open for writing, or mapped") if writers is Writers.SOME else None
