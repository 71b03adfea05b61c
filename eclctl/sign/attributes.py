"""Owner, mode, access control list and extended attributes: a file's successor has those of the file."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from eclctl.errors import SigningError

__all__ = ["give_attributes", "give_owner"]

_ACL = "system.posix_acl_access"
_REQUIRED = ("user.", "system.posix_acl_access", "system.nfs4_acl")
"""What must be kept: the users' own, and what decides who may do what. By prefix."""

_WANTED = ("security.capability", "security.selinux", "security.SMACK64")
"""What is kept where the kernel permits it."""

_OF_CONTENT = ("security.ima", "security.evm")
"""What speaks of the content that was, and would be a lie about the new one."""

_NAMESPACES = ("user.", "security.", "system.", "trusted.")
# Of other names (`lustre.`, `btrfs.`, `ceph.`) none is a property of the file: they say how its blocks are laid out.
# So do these, which Lustre shows to root.
_LAYOUT = ("trusted.lov", "trusted.lma", "trusted.link", "trusted.som", "trusted.hsm", "trusted.fid", "trusted.dataver")


def give_owner(target: int, status: os.stat_result) -> None:
    """Give a new file the owner and group of another, if they differ.

    Raises SigningError when this process may not: the file would change hands by being replaced.
    """
    now = os.fstat(target)
    if (now.st_uid, now.st_gid) == (status.st_uid, status.st_gid):
        return
    try:
        os.fchown(target, status.st_uid, status.st_gid)
    except OSError as error:
        raise SigningError(
            f"the image belongs to user {status.st_uid}, group {status.st_gid}, and a new file cannot be given to them "
            f"here ({error.strerror}); let its owner, a member of that group, or root do it"
        ) from error


def give_attributes(source: int, target: int, status: os.stat_result) -> list[str]:
    """Give a new file the mode, the access control list and the extended attributes of the old one.

    Returns sentences about what could not be kept. What must be kept and cannot is a SigningError.
    """
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    if not _supported(source):
        return []
    theirs, ours = set(os.listxattr(source)), set(os.listxattr(target))
    if _ACL in ours - theirs:
        os.removexattr(target, _ACL)  # from the directory's default
        os.fchmod(target, stat.S_IMODE(status.st_mode))
    return [note for name in sorted(theirs) for note in _carry(source, target, name)]


def _supported(fd: int) -> bool:
    try:
        os.listxattr(fd)
    except OSError as error:
        if error.errno in {errno.ENOTSUP, errno.ENOSYS}:
            return False
        raise
    return True


def _carry(source: int, target: int, name: str) -> Iterator[str]:
    if name.startswith(_OF_CONTENT):
        yield f"the attribute {name} spoke of the content before and is gone; have it made again"
        return
    if not name.startswith(_REQUIRED + _WANTED):
        if name.startswith(_NAMESPACES) and not name.startswith(_LAYOUT):
            yield f"the attribute {name} was not carried over"
        return
    try:
        value = os.getxattr(source, name)
        if _value(target, name) != value:
            os.setxattr(target, name, value)
    except OSError as error:
        if name.startswith(_REQUIRED):
            raise SigningError(f"the image's attribute {name} cannot be kept: {error.strerror}") from error
        yield f"the attribute {name} could not be kept: {error.strerror}"


def _value(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError:
        return None
