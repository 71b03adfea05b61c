"""Finds the one name by which rules know a file, from the name that was sent and the open file."""

from __future__ import annotations

import errno
import os
from enum import Enum

from eclctl.files import path_lookup
from eclctl.files.lookup_rights import NO_DESCRIPTORS, LookupRights, not_opened
from eclctl.files.mounts import Spelling
from eclctl.files.path_lookup import Named
from eclctl.files.syscalls import Attributes
from eclctl.files.trusted_path import TrustBasis, Weakness
from eclctl.model import Alias


class NoName(Enum):
    """Why no name is known for a file."""

    OTHER_FILE = "the name does not lead to the same file on this host"
    MAY_NOT_LOOK = (
        "eclctl may not look at the path, neither as root nor with your rights "
        "(a server that squashes root, or a FUSE file system of one user)"
    )
    NO_NAME = "the file has no name on this host: it was removed, or its file system is not mounted here"


class NotLocalError(Exception):
    """The name may lead over a file system that can stall: the image must be located in a worker thread."""


class StaleError(Exception):
    """The mount table has names from before a directory was renamed, which the kernel does not report."""


def find_named_file(
    name: str, fd: int, found: Attributes, asker: LookupRights, basis: TrustBasis, *, anywhere: bool
) -> Named | NoName:
    """Return the file of a passed descriptor as a name in this namespace leads to it, or why none does.

    Two names are tried: the one that came with the descriptor, and the one that the kernel has for it.

    Args:
        name: The name that came with it.
        fd: The descriptor.
        found: Its attributes.
        asker: The rights that names are looked up with.
        basis: What the directories above are judged by.
        anywhere: Whether the look-up may wait for another machine.

    Returns:
        The file, whose descriptor the caller closes, or why there is no name.

    Raises:
        NotLocalError: The look-up may wait, and `anywhere` is false.
        BusyImageError: There are no free descriptors.
    """
    led, why = _follow_to_same_file(name, found, asker, basis, anywhere=anywhere)
    if led is not None and found.links == 1:
        return led
    own = path_lookup.kernel_name(fd)
    if own is None or own == name or not path_lookup.is_plain(own):
        return led or (NoName.NO_NAME if own is None else why)
    try:
        other, why = _follow_to_same_file(own, found, asker, basis, anywhere=anywhere)
    except BaseException:
        if led is not None:
            os.close(led.fd)
        raise
    if led is None:
        return other or (NoName.NO_NAME if found.links == 0 else why)
    if other is None:
        return led
    os.close(other.fd)
    return led._replace(also=(other.path,))  # two hard links


def _follow_to_same_file(
    name: str, found: Attributes, asker: LookupRights, basis: TrustBasis, *, anywhere: bool
) -> tuple[Named | None, NoName]:
    """Return where a name leads if that is the file that was found; else None, and why not."""
    if not anywhere and not basis.mounts.local(normalised(name)):
        raise NotLocalError
    try:
        named = follow(name, asker, basis, anywhere=anywhere)
    except OSError as error:
        if error.errno in NO_DESCRIPTORS:
            raise not_opened(name, error) from error
        return None, NoName.MAY_NOT_LOOK if path_lookup.may_not_look(error) else NoName.OTHER_FILE
    if path_lookup.same_file(named.attributes, found):
        return named, NoName.OTHER_FILE
    os.close(named.fd)
    return None, NoName.OTHER_FILE


def follow(name: str, asker: LookupRights, basis: TrustBasis, *, anywhere: bool) -> Named:
    """Open a name with the first rights that suffice. Raises OSError, and NotLocalError unless `anywhere`."""
    refused: OSError = FileNotFoundError(errno.ENOENT, "is no absolute path")
    for rights in asker.rights():
        try:
            return path_lookup.open_by_name(name, rights, basis, cached=not anywhere)
        except BlockingIOError as error:
            raise NotLocalError from error
        except OSError as error:
            if not path_lookup.may_not_look(error):
                raise
            refused = error
    raise refused


def normalised(name: str) -> str:
    """Return a name without empty, `.` and `..` components. It serves only to search the mount table."""
    return name if path_lookup.is_plain(name) else "/" + os.path.normpath(name).lstrip("/")


def first_name_that_leads(
    spellings: tuple[Spelling, ...], named: Named, basis: TrustBasis, *, anywhere: bool, fresh: bool
) -> tuple[str, Weakness | None]:
    """Return the first of a file's names that leads to it, and the weakness of the directories above either name."""
    for each in spellings:
        if each.path == named.path:
            break
        try:
            other = path_lookup.open_by_components(each.path, basis, public=False, cached=not anywhere)
        except BlockingIOError as error:
            raise NotLocalError from error
        except (OSError, path_lookup.NotPlainError) as error:
            if isinstance(error, OSError) and error.errno in NO_DESCRIPTORS:
                raise not_opened(each.path, error) from error
            if isinstance(error, OSError) and path_lookup.may_not_look(error):
                continue
        else:
            os.close(other.fd)
            if path_lookup.same_file(other.attributes, named.attributes):
                weak = other.weak and other.weak._replace(shown=other.searchable)
                return each.path, named.weak or weak
        if not fresh:
            raise StaleError  # no mount hides it, but it is not there
    return named.path, named.weak


def aliases_of(named: Named, spellings: tuple[Spelling, ...], path: str) -> tuple[Alias, ...]:
    """Return the names of a file but `path`: through other mounts, and of other hard links."""
    if len(spellings) == 1 and not named.also:
        return ()
    through = [Alias(each.path, each.point) for each in spellings if each.path != path]
    return (*through, *(Alias(each) for each in named.also))
