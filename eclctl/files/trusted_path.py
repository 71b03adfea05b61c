"""Which file an image is, which name rules know it by, and its assurance level (DESIGN sections 1.8 and 6).

An image is located as a descriptor, and everything that is said of it are facts of descriptors: its name (`naming`),
its mount (`mounts`), the directories above, its owner, and whether a process has it open for writing. That is looked
for last: a file that changes while it is located is `busy`.

Facts of its content are kept under a `FileKey`, which names one state of one file: the handle guards against reused
inode numbers, the change time against rewriting (utimensat cannot reset it), and the look for writers against the one
change that leaves no trace, a store into a page of a shared mapping that was dirty before.
"""

from __future__ import annotations

import fcntl
import os
import stat
from dataclasses import dataclass, field
from typing import NamedTuple

from eclctl.errors import BusyImageError, UnreadableImageError, UnsupportedFileError
from eclctl.files import naming, syscalls
from eclctl.files.askers import ITSELF, Asker, not_opened, open_named, readable
from eclctl.files.mounts import Mount, MountTable
from eclctl.files.naming import Named, Surroundings, Weakness
from eclctl.files.resolving import NotLocalError, StaleError, Unnamed, aliases_of, find, first_name, follow, tidy
from eclctl.files.sandbox_walk import Look
from eclctl.files.sandboxes import Sandboxes, Top
from eclctl.files.syscalls import Attributes
from eclctl.files.writers import READ, Writers, leased, look_for_writers
from eclctl.model import Alias
from eclctl.terms import Assurance

_IMAGE_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR})
_SETTLED_NS = 20_000_000  # two ticks of a 100 Hz kernel, the coarsest change time there is
_TRIES = 3
_LONGEST_SHOWN = 200
_TRUSTED_PATH = Assurance.TRUSTED_PATH
_NONE = Assurance.NONE


class FileKey(NamedTuple):
    """One state of one file. Equal keys mean the same content, as far as the tier `trusted-path` can tell."""

    device: int
    inode: int
    handle: bytes | None
    size: int
    ctime_ns: int
    btime_ns: int | None


class Located(NamedTuple):
    """An image as it was found.

    `fd` is what is decided on: a descriptor that the holder closes, or the caller's own when `owned` is false. `path`
    is the file's one name when a name in this process's namespace reaches it, else None, and `unnamed` says why.
    `aliases` are its other names. `key` is None where the file system cannot tell one state of a file from another.
    `weak` says why its assurance is not `trusted-path`. `local`: nothing that is asked of the file waits for another
    machine. `unwalked`: a directory that is on a trusted path itself, but what is in it has not been looked at; what a
    walk finds is kept under `top`, or for this question alone where that is None.
    """

    fd: int
    owned: bool
    path: str | None
    attributes: Attributes
    key: FileKey | None
    assurance: Assurance
    weak: Weakness | None = None
    aliases: tuple[Alias, ...] = ()
    unnamed: Unnamed | None = None
    writers: Writers = Writers.NOT_KNOWN
    local: bool = True
    unwalked: bool = False
    top: Top | None = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.attributes.size

    def close(self) -> None:
        """Close the descriptor if it is ours."""
        if self.owned:
            os.close(self.fd)


class Second(NamedTuple):
    """How an image is looked at anew: as at first, and with what a walk through a directory found (`Locator.walk`)."""

    name: str
    asker: Asker = ITSELF
    anywhere: bool = True
    look: Look | None = None


class _Passed(NamedTuple):
    """An open file that is to be named and judged, and how. `look` is what a walk through a directory found."""

    fd: int
    owned: bool
    found: Attributes
    name: str
    asker: Asker
    anywhere: bool
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class Locator:
    """Finds images by name or by descriptor.

    `owners` are the user IDs whose write access is no tampering. `sandboxes` looks through directories and keeps what
    it found; without it, no directory is on a trusted path, but on file systems that are vouched for.
    """

    mounts: MountTable
    owners: frozenset[int]
    sandboxes: Sandboxes | None = field(default=None, kw_only=True)

    def by_name(self, name: str, *, anywhere: bool, asker: Asker = ITSELF) -> Located:
        """Locate an image by an absolute name, if those who ask may read it.

        Raises UnreadableImageError with one and the same text for a file that is missing and one that they may not
        read, UnsupportedFileError for what is no file, NotLocalError unless `anywhere`.
        """
        around = self._around()
        if not anywhere and not around.mounts.local(tidy(name)):
            raise NotLocalError
        try:
            named = follow(name, asker, around, anywhere=anywhere)
        except OSError as error:
            raise not_opened(name, error) from error
        try:
            _check_type(named.attributes)
            given = os.dup(named.fd) if asker == ITSELF else open_named(name, named.fd, asker)
        finally:
            os.close(named.fd)
        try:
            passed = _Passed(given, True, syscalls.attributes(given), name, asker, anywhere)  # noqa: FBT003 - owned
            return self._found(passed, around)
        except BaseException:
            os.close(given)
            raise

    def by_descriptor(
        self, name: str, fd: int, *, anywhere: bool, asker: Asker = ITSELF, found: Attributes | None = None
    ) -> Located:
        """Locate an image that its caller opened and passed, together with the name they opened it by.

        The name is used if it reaches the same file here, else the kernel's own for the descriptor if that does. With
        neither, `path` is None and the tier `none`. An O_PATH descriptor is opened for reading here, if `asker` may.
        Raises UnsupportedFileError for a descriptor that nothing could be read or launched from. `found` is what it
        shows, if that is known.
        """
        try:
            found = found or syscalls.attributes(fd)
        except PermissionError as error:  # a FUSE file system of one user tells others not even what a file is
            raise UnreadableImageError(Unnamed.MAY_NOT_LOOK.value) from error
        _check_type(found)
        around = self._around()
        if not anywhere and not around.mounts.local_descriptor(found):
            raise NotLocalError
        given, owned = readable(fd, found, asker)
        try:
            return self._found(_Passed(given, owned, found, name, asker, anywhere), around)
        except BaseException:
            if owned:
                os.close(given)
            raise

    def again(self, located: Located, second: Second) -> Located:
        """Look anew at an image that was read meanwhile; the result has the same descriptor.

        Raises BusyImageError when it is no longer the same state of the same file under the same name. Blocks where the
        file is not `local`. Raises NotLocalError unless `anywhere`: a link may have come to lead elsewhere.
        """
        found = syscalls.attributes(located.fd, fresh=not located.local)
        anew = self._found(_Passed(located.fd, located.owned, found, *second), self._around())
        if anew.path != located.path or _state(found) != _state(located.attributes):
            raise _changing()
        return anew

    def look_for_writers(self, fd: int) -> Writers:
        """Say whether a process has a file open for writing; see `writers.look_for_writers`."""
        return look_for_writers(fd)

    def walk(self, located: Located) -> Look | None:
        """Look through a sandbox, so that `again` knows what is in it. Blocks. Raises OSError.

        Returns what was found where that is not kept, for `again`.
        """
        if self.sandboxes is None:
            return None
        if located.top is None:
            return self.sandboxes.look_once(located.fd, self.owners, probe=located.local)
        self.sandboxes.look(located.fd, located.top, self.owners, self.mounts.current()[0], probe=located.local)
        return None

    def _sandbox(self, look: Look | None, top: Top | None, around: Surroundings) -> tuple[Weakness | None, bool]:
        """Say what is weak in a sandbox, and whether that is only because nothing is known of it."""
        if look is None and top is not None and self.sandboxes is not None:
            look = self.sandboxes.kept(top, around.owners, around.mounts)
        if look is None:
            return Weakness("what is in the directory is not known, or changed while it was looked at"), True
        if look.weak is None:
            return None, False
        where = look.weak.path if len(look.weak.path) <= _LONGEST_SHOWN else f"…{look.weak.path[-_LONGEST_SHOWN:]}"
        text = f"in the directory, {where}: {look.weak.why} ({look.weak.advice})"
        return Weakness(text, shown=look.weak.public), False

    def _around(self) -> Surroundings:
        mounts, belief = self.mounts.current()
        return Surroundings(mounts, belief, self.owners)

    def _found(self, passed: _Passed, around: Surroundings) -> Located:
        """Name an open file and judge it, both by one state of the mount table, read after all was opened."""
        fresh = False
        for tries_left in reversed(range(_TRIES)):
            named = find(passed.name, passed.fd, passed.found, passed.asker, around, anywhere=passed.anywhere)
            if isinstance(named, Unnamed):
                return self._unnamed(passed, named)
            try:
                before, around = around, self._around()
                # A table that changed while it was read makes next to nothing believed: another may come off better.
                if before.same_for(named, around) and (around.mounts.settled or not tries_left):
                    return self._assessed(passed, named, around, fresh=fresh)
            except StaleError:
                self.mounts.forget()
                around, fresh = self._around(), True
            finally:
                os.close(named.fd)
        raise BusyImageError("file systems are being mounted and unmounted all the time; ask again later")

    def _unnamed(self, passed: _Passed, why: Unnamed) -> Located:
        fd, owned, found, *_ = passed
        local = self.mounts.local_descriptor(found)
        return Located(fd, owned, None, found, _key(fd, found), _NONE, Weakness(why.value), unnamed=why, local=local)

    def _assessed(self, passed: _Passed, named: Named, around: Surroundings, *, fresh: bool) -> Located:
        """Judge a file by its name. Raises StaleError unless `fresh`: the table was read for this question."""
        found = named.attributes
        mount = around.mounts.of(found.mount)
        spellings = None if mount is None else around.mounts.names(mount, named.path)
        if mount is None or spellings is None:
            if mount is not None and not fresh and not around.mounts.chrooted:
                raise StaleError
            return self._unnamed(passed, Unnamed.NO_NAME)
        path, weak = named.path, named.weak
        if spellings[0].path != path:
            path, weak = first_name(spellings, named, around, anywhere=passed.anywhere, fresh=fresh)
        vouched = around.belief.vouches_for(mount)
        weak = weak or (None if vouched else _not_trusted(named, mount, around))
        aliases = aliases_of(named, spellings, path)
        key = _key(passed.fd, found)
        top, unwalked, writers = None, False, Writers.NOT_KNOWN
        walked = found.is_directory and not vouched and not (mount.unchanging and self.mounts.is_unchanging(mount.id))
        if weak is None and walked:
            if key is not None and self.mounts.is_the_hosts(passed.found.mount):
                top = Top((key, syscalls.unique_mount(passed.fd)), (path, *(alias.path for alias in aliases)))
            weak, unwalked = self._sandbox(passed.look, top, around)
        if weak is None and found.is_file and mount.local and not vouched:
            writers = self.look_for_writers(named.fd)
            if writers is Writers.SOME:
                weak = Weakness("a process has it open for writing, or mapped")
            if changed(named.fd, found):  # checked last: a writer from before the look for them has left a change time
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


def _not_trusted(named: Named, mount: Mount, around: Surroundings) -> Weakness | None:
    """Say what is wrong with the file itself, on a file system that no one vouches for as a whole."""
    found = named.attributes
    if (weak := naming.why_not_believed(found, around)) is not None:
        return weak
    if (mapped := around.mounts.mapped(named.path)) is not None:
        return Weakness(f"the mount at {mapped.point} shows other owners than its file system has")
    if found.uid not in around.owners:
        return Weakness(f"it belongs to user {found.uid}")
    if found.mode & naming.OTHERS_WRITE:
        return Weakness(f"others can write it (mode {found.mode & 0o7777:04o})")
    if mount.local and around.mounts.is_fuse(mount, named.fd):
        return Weakness(f"its file system at {mount.point} is FUSE, and the mount table calls it {mount.type}")
    return None


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

    Raises BusyImageError at once when somebody holds a lease on it, UnreadableImageError when it cannot be opened.
    Falls back to the caller's own descriptor, duplicated, where this process may not open the file.
    """
    try:
        return os.open(f"/proc/self/fd/{located.fd}", READ)
    except BlockingIOError as error:
        raise leased() from error
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
