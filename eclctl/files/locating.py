"""Locates images: opens the file, finds the one name that rules use for it, and has its assurance decided.

1. An image is located as a descriptor, and all that is found out are facts of descriptors: its name
   (`canonical_name`), its mount (`mounts`), the directories above it, its owner, and its writers. `trusted_path`
   decides whether they make it trusted.
2. Writers are looked for last. A file that changes while it is located is `busy`.
3. Facts about its content are kept under a `FileKey`, which names one state of one file. The handle guards against
   reused inode numbers, the change time against rewriting (utimensat cannot reset it). The look for writers guards
   against the one change that leaves no trace: a store into a page of a shared mapping that was dirty before.
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import NamedTuple

from eclctl.dataclass import dataclass, field
from eclctl.errors import BusyImageError, UnreadableImageError, UnsupportedFileError
from eclctl.files import syscalls
from eclctl.files.canonical_name import (
    NoName,
    NotLocalError,
    StaleError,
    aliases_of,
    find_named_file,
    first_name_that_leads,
    follow,
    normalised,
)
from eclctl.files.lookup_rights import OWN_RIGHTS, LookupRights, not_opened, open_named, readable
from eclctl.files.mounts import MountTable
from eclctl.files.path_lookup import Named
from eclctl.files.sandbox_walk import WalkResult
from eclctl.files.sandboxes import Sandboxes, SandboxKey
from eclctl.files.syscalls import Attributes
from eclctl.files.trusted_path import TrustBasis, Weakness, file_weakness, sandbox_weakness, writers_weakness
from eclctl.files.writers import READ, Writers, lease_error, look_for_writers
from eclctl.model import Alias
from eclctl.terms import Assurance

_IMAGE_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR})
_SETTLED_NS = 20_000_000  # two ticks of a 100 Hz kernel, the coarsest change time there is
_TRIES = 3
_TRUSTED_PATH = Assurance.TRUSTED_PATH
_NONE = Assurance.NONE


class FileKey(NamedTuple):
    """One state of one file. Equal keys mean the same content, as far as the assurance `trusted-path` can tell."""

    device: int
    inode: int
    handle: bytes | None
    size: int
    ctime_ns: int
    btime_ns: int | None


class Located(NamedTuple):
    """An image as it was found.

    fd: The descriptor that is decided on. The holder closes it, unless it is the caller's own.
    owned: Whether it is not the caller's own.
    path: The file's one name, when a name in this process's namespace reaches it, else None.
    attributes: What statx(2) says of it.
    key: The state of the file; None where the file system cannot tell one state from another.
    assurance: Its assurance level.
    weak: Why that is not `trusted-path`.
    aliases: Its other names.
    unnamed: Why `path` is None.
    writers: Whether a process has it open for writing.
    local: Whether nothing that is asked of the file waits for another machine.
    unwalked: Whether it is a directory that is on a trusted path itself, but its content has not been walked.
    top: Under which key the result of the walk is kept; None where it serves this question alone.
    """

    fd: int
    owned: bool
    path: str | None
    attributes: Attributes
    key: FileKey | None
    assurance: Assurance
    weak: Weakness | None = None
    aliases: tuple[Alias, ...] = ()
    unnamed: NoName | None = None
    writers: Writers = Writers.NOT_KNOWN
    local: bool = True
    unwalked: bool = False
    top: SandboxKey | None = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.attributes.size

    def close(self) -> None:
        """Close the descriptor if it is ours."""
        if self.owned:
            os.close(self.fd)


class Recheck(NamedTuple):
    """How an image is located again: as at first, with the result of a walk through a directory (`Locator.walk`)."""

    name: str
    asker: LookupRights = OWN_RIGHTS
    anywhere: bool = True
    look: WalkResult | None = None


class _Passed(NamedTuple):
    """An open file that is to be named and judged, and how. `look` is the result of a walk through a directory."""

    fd: int
    owned: bool
    found: Attributes
    name: str
    asker: LookupRights
    anywhere: bool
    look: WalkResult | None = None


@dataclass(frozen=True, slots=True)
class Locator:
    """Finds images by name or by descriptor.

    mounts: The mount table of this host.
    owners: The trusted owners, as user IDs: their write access is no tampering.
    sandboxes: Walks directories and keeps the results. Without it, a directory is on a trusted path only on a file
        system for whose content the configuration vouches.
    """

    mounts: MountTable
    owners: frozenset[int]
    sandboxes: Sandboxes | None = field(default=None, kw_only=True)

    def by_name(self, name: str, *, anywhere: bool, asker: LookupRights = OWN_RIGHTS) -> Located:
        """Locate an image by an absolute name, if the asker may read it.

        Args:
            name: The name, absolute.
            anywhere: Whether the look-up may wait for another machine.
            asker: The rights that the name is looked up with.

        Raises:
            UnreadableImageError: The file is missing, or the asker may not read it. The text is the same for both.
            UnsupportedFileError: It is neither a regular file nor a directory.
            NotLocalError: The look-up may wait, and `anywhere` is false.
        """
        basis = self._basis()
        if not anywhere and not basis.mounts.local(normalised(name)):
            raise NotLocalError
        try:
            named = follow(name, asker, basis, anywhere=anywhere)
        except OSError as error:
            raise not_opened(name, error) from error
        try:
            _check_type(named.attributes)
            given = os.dup(named.fd) if asker == OWN_RIGHTS else open_named(name, named.fd, asker)
        finally:
            os.close(named.fd)
        try:
            passed = _Passed(given, True, syscalls.attributes(given), name, asker, anywhere)  # noqa: FBT003 - owned
            return self._found(passed, basis)
        except BaseException:
            os.close(given)
            raise

    def by_descriptor(
        self, name: str, fd: int, *, anywhere: bool, asker: LookupRights = OWN_RIGHTS, found: Attributes | None = None
    ) -> Located:
        """Locate an image that the caller opened and passed, together with the name that it was opened by.

        The name is used if it reaches the same file here, else the kernel's own for the descriptor if that does. With
        neither, `path` is None and the assurance `none`. An O_PATH descriptor is opened for reading here, if `asker`
        may.

        Args:
            name: The name that the caller sent.
            fd: The caller's descriptor.
            anywhere: Whether the look-up may wait for another machine.
            asker: The rights that names are looked up with.
            found: The attributes of the descriptor, if they are known.

        Raises:
            UnreadableImageError: The file may not be looked at.
            UnsupportedFileError: Nothing can be read or launched from the descriptor.
            NotLocalError: The look-up may wait, and `anywhere` is false.
        """
        try:
            found = found or syscalls.attributes(fd)
        except PermissionError as error:  # a FUSE file system of one user tells others not even what a file is
            raise UnreadableImageError(NoName.MAY_NOT_LOOK.value) from error
        _check_type(found)
        basis = self._basis()
        if not anywhere and not basis.mounts.local_descriptor(found):
            raise NotLocalError
        given, owned = readable(fd, found, asker)
        try:
            return self._found(_Passed(given, owned, found, name, asker, anywhere), basis)
        except BaseException:
            if owned:
                os.close(given)
            raise

    def again(self, located: Located, second: Recheck) -> Located:
        """Locate an image again after it was read; the result has the same descriptor. Blocks unless it is `local`.

        Raises:
            BusyImageError: It is no longer the same state of the same file under the same name.
            NotLocalError: A link leads elsewhere now, and `Recheck.anywhere` is false.
        """
        found = syscalls.attributes(located.fd, fresh=not located.local)
        anew = self._found(_Passed(located.fd, located.owned, found, *second), self._basis())
        if anew.path != located.path or _state(found) != _state(located.attributes):
            raise _changing()
        return anew

    def look_for_writers(self, fd: int) -> Writers:
        """Say whether a process has a file open for writing; see `writers.look_for_writers`."""
        return look_for_writers(fd)

    def walk(self, located: Located) -> WalkResult | None:
        """Walk through a sandbox, so that `again` knows its content. Blocks. Raises OSError.

        Returns the result where it is not kept, for `again`.
        """
        if self.sandboxes is None:
            return None
        if located.top is None:
            return self.sandboxes.walk_once(located.fd, self.owners, probe=located.local)
        self.sandboxes.look(located.fd, located.top, self.owners, self.mounts.current()[0], probe=located.local)
        return None

    def _basis(self) -> TrustBasis:
        mounts, trust = self.mounts.current()
        return TrustBasis(mounts, trust, self.owners)

    def _found(self, passed: _Passed, basis: TrustBasis) -> Located:
        """Name an open file and judge it, both by one state of the mount table, read after all was opened."""
        fresh = False
        for tries_left in reversed(range(_TRIES)):
            named = find_named_file(passed.name, passed.fd, passed.found, passed.asker, basis, anywhere=passed.anywhere)
            if isinstance(named, NoName):
                return self._unnamed(passed, named)
            try:
                before, basis = basis, self._basis()
                # A table that changed while it was read makes next to nothing trusted: the next reading may find more.
                if before.same_for(named.attributes.mount, named.path, basis) and (
                    basis.mounts.settled or not tries_left
                ):
                    return self._assessed(passed, named, basis, fresh=fresh)
            except StaleError:
                self.mounts.forget()
                basis, fresh = self._basis(), True
            finally:
                os.close(named.fd)
        raise BusyImageError("file systems are being mounted and unmounted all the time; ask again later")

    def _unnamed(self, passed: _Passed, why: NoName) -> Located:
        fd, owned, found, *_ = passed
        local = self.mounts.local_descriptor(found)
        return Located(fd, owned, None, found, _key(fd, found), _NONE, Weakness(why.value), unnamed=why, local=local)

    def _assessed(self, passed: _Passed, named: Named, basis: TrustBasis, *, fresh: bool) -> Located:
        """Judge a file by its name. Raises StaleError unless `fresh`: the table was read for this question."""
        found = named.attributes
        mount = basis.mounts.of(found.mount)
        spellings = None if mount is None else basis.mounts.names(mount, named.path)
        if mount is None or spellings is None:
            if mount is not None and not fresh and not basis.mounts.chrooted:
                raise StaleError
            return self._unnamed(passed, NoName.NO_NAME)
        path, weak = named.path, named.weak
        if spellings[0].path != path:
            path, weak = first_name_that_leads(spellings, named, basis, anywhere=passed.anywhere, fresh=fresh)
        vouched = basis.trust.vouches_for(mount)
        weak = weak or file_weakness(named.fd, named.path, found, mount, basis)
        aliases = aliases_of(named, spellings, path)
        key = _key(passed.fd, found)
        top, unwalked, writers = None, False, Writers.NOT_KNOWN
        walked = found.is_directory and not vouched and not (mount.unchanging and self.mounts.is_unchanging(mount.id))
        if weak is None and walked:
            if key is not None and self.mounts.is_the_hosts(passed.found.mount):
                top = SandboxKey((key, syscalls.unique_mount(passed.fd)), (path, *(alias.path for alias in aliases)))
            look = passed.look
            if look is None and top is not None and self.sandboxes is not None:
                look = self.sandboxes.kept(top, basis.owners, basis.mounts)
            weak, unwalked = sandbox_weakness(look), look is None
        if weak is None and found.is_file and mount.local and not vouched:
            writers = self.look_for_writers(named.fd)
            weak = writers_weakness(writers)
            # Checked last: a writer from before the look for writers has left a change time.
            if changed(named.fd, found):
                raise _changing()
        return Located(
            passed.fd,
            passed.owned,
            path,
            found,
            key,
            _TRUSTED_PATH if weak is None else _NONE,
            weak,
            aliases,
            writers=writers,
            local=mount.local,
            unwalked=unwalked,
            top=top,
        )


def _changing() -> BusyImageError:
    return BusyImageError("the image changed while it was looked at; ask again when it is complete")


def _check_type(found: Attributes) -> None:
    if stat.S_IFMT(found.mode) not in _IMAGE_TYPES:
        raise UnsupportedFileError("neither a regular file nor a directory; an image is one of these")


def _key(fd: int, found: Attributes) -> FileKey | None:
    handle = syscalls.handle(fd)
    if handle is None and found.btime_ns is None:
        return None  # nothing would show that the inode number was given to another file
    return FileKey(found.device, found.inode, handle, found.size, found.ctime_ns, found.btime_ns)


def open_for_reading(located: Located) -> int:
    """Open the located file itself, not its name, for reading.

    Falls back to the caller's own descriptor, duplicated, where this process may not open the file.

    Raises:
        BusyImageError: Another process holds a lease on it.
        UnreadableImageError: It cannot be opened.
    """
    try:
        return os.open(f"/proc/self/fd/{located.fd}", READ)
    except BlockingIOError as error:
        raise lease_error() from error
    except OSError as error:
        if fcntl.fcntl(located.fd, fcntl.F_GETFL) & os.O_PATH:
            raise UnreadableImageError(f"the image cannot be opened: {error.strerror}") from error
        return os.dup(located.fd)


def settled(attributes: Attributes, *, now_ns: int) -> bool:
    """Whether a file's last change is so long ago that the next one gets another change time."""
    return 0 <= attributes.ctime_ns <= now_ns - _SETTLED_NS


def changed(fd: int, before: Attributes) -> bool:
    """Whether a file on a local file system is in another state, or another's, than it was."""
    after = os.fstat(fd)
    now = (after.st_ctime_ns, after.st_mtime_ns, after.st_size, after.st_mode, after.st_uid, after.st_nlink)
    return now != (before.ctime_ns, before.mtime_ns, before.size, before.mode, before.uid, before.links)


def unchanged(fd: int, before: Attributes) -> bool:
    """Whether the file is as it was: same size, change time and modification time. Asks a network file system."""
    return _state(syscalls.attributes(fd, fresh=True)) == _state(before)


def _state(found: Attributes) -> tuple[int, int, int]:
    return found.size, found.ctime_ns, found.mtime_ns
