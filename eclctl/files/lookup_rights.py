"""With whose rights files are looked up and opened, and the errors when that fails."""

from __future__ import annotations

import errno
import fcntl
import os

from eclctl.dataclass import dataclass
from eclctl.errors import BusyImageError, UnreadableImageError, UnsupportedFileError
from eclctl.files.syscalls import Attributes, Credentials, assumed
from eclctl.files.writers import READ, lease_error

NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
"""The errors of open(2) when this process, or the host, can open no more files."""

_SEALED = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK


@dataclass(frozen=True, slots=True)
class LookupRights:
    """The rights that names are looked up with.

    own: Those of the asker; None for those of this process itself.
    subject: Those of the user that a question of root's is about; None without such a user.
    opens: Whether O_PATH descriptors are opened. A process that cannot take over the rights would use its own.
    """

    own: Credentials | None = None
    subject: Credentials | None = None
    opens: bool = True

    def rights(self) -> tuple[Credentials | None, ...]:
        """Return the rights to try, in order."""
        return (self.own,) if self.subject is None else (self.own, self.subject)


OWN_RIGHTS = LookupRights()


def readable(fd: int, found: Attributes, asker: LookupRights) -> tuple[int, bool]:
    """Return a descriptor that the image can be read from, and whether it is a new one.

    An O_PATH descriptor is opened with the rights of its sender. Refused are descriptors for writing alone, and
    files without a name, whose content could still be changed.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if found.links == 0 and not _is_sealed(fd):
        raise UnsupportedFileError("the descriptor is of a file without a name (deleted, or an unsealed memfd)")
    if flags & os.O_PATH:
        if not asker.opens:
            raise UnsupportedFileError("eclctl does not run as root here; open the image with O_RDONLY, not O_PATH")
        return _open_as(fd, asker), True
    if flags & os.O_ACCMODE == os.O_WRONLY:
        raise UnsupportedFileError("the descriptor was not opened for reading; open the image with O_RDONLY")
    return fd, False


def _open_as(fd: int, asker: LookupRights) -> int:
    """Open the file of an O_PATH descriptor with the asker's rights."""
    refused = OSError(errno.EACCES, os.strerror(errno.EACCES))
    for rights in asker.rights():
        try:
            with assumed(rights):
                return os.open(f"/proc/self/fd/{fd}", READ)
        except BlockingIOError as error:
            raise lease_error() from error
        except OSError as error:
            refused = error
            if error.errno in NO_DESCRIPTORS:
                raise not_opened("", error) from error
    raise UnreadableImageError(f"you may not read it: {refused.strerror}") from refused


def open_named(name: str, fd: int, asker: LookupRights) -> int:
    """Open a file that the asker may read; otherwise raise the same error as for a file that is not there."""
    try:
        return _open_as(fd, asker)
    except UnreadableImageError as error:
        raise _unreadable(name) from error


def _is_sealed(fd: int) -> bool:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALED == _SEALED
    except OSError:
        return False


def not_opened(name: str, error: OSError) -> UnreadableImageError | BusyImageError:
    """Return the error for a file that is not there, or for a process that can open no more files."""
    if error.errno in NO_DESCRIPTORS:
        return BusyImageError("too many files are open here; ask again later")
    return _unreadable(name)


def _unreadable(name: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"{name}: there is no such image, or you may not read it; name an absolute path, or ask with an open "
        "descriptor, as `eclctl check` does"
    )
