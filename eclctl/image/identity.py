"""Which file an image is, which name rules know it by, and its assurance level (DESIGN sections 1.8 and 6).

An image is located as a descriptor, and everything that is said of it are facts of descriptors: its name (`naming`),
its mount (`mounts`), the directories above, its owner, and whether somebody has it open for writing. That is looked for
last: a file that changes while it is located is `busy`.

Facts of its content are kept under a `FileKey`, which names one state of one file: the handle guards against reused
inode numbers, the change time against rewriting (utimensat cannot reset it), and the look for writers against the one
change that leaves no trace, a store into a page of a shared mapping that was dirty before.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from eclctl.errors import BusyImageError, UnreadableImageError, UnsupportedFileError
from eclctl.image import naming, system
from eclctl.image.mounts import Mount, MountTable, Spelling
from eclctl.image.naming import Named, Surroundings, Weakness
from eclctl.image.sandboxes import Sandboxes, Top
from eclctl.image.system import Attributes, Credentials, assumed
from eclctl.image.writers import READ, Writers, leased, look_for_writers
from eclctl.model import Alias, Assurance

_IMAGE_TYPES = frozenset({stat.S_IFREG, stat.S_IFDIR})
_SETTLED_NS = 20_000_000  # two ticks of a 100 Hz kernel, the coarsest change time there is
_SEALED = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK
_FOREIGN = Weakness("it was opened in another mount namespace, where other things may be mounted in it")
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


class Unnamed(Enum):
    """Why no name is known for a file."""

    OTHER_FILE = "the name does not lead to the same file on this host"
    MAY_NOT_LOOK = (
        "eclctl may not look at the path, neither as root nor with your rights "
        "(a server that squashes root, or a FUSE file system of one user)"
    )
    NO_NAME = "the file has no name on this host: it was removed, or its file system is not mounted here"


class Located(NamedTuple):
    """An image as it was found.

    `fd` is what is decided on: a descriptor that the holder closes, or the caller's own when `owned` is false. `path`
    is the file's one name when a name in this process's namespace reaches it, else None, and `unnamed` says why.
    `aliases` are its other names. `key` is None where the file system cannot tell one state of a file from another.
    `weak` says why its assurance is not `trusted-path`. `local`: nothing that is asked of the file waits for another
    machine. `unwalked`: a directory that is on a trusted path itself, but what is in it has not been looked at.
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

    def close(self) -> None:
        """Close the descriptor if it is ours."""
        if self.owned:
            os.close(self.fd)


class _StaleError(Exception):
    """The table of mounts has names from before a directory was renamed: the kernel does not report that."""


class NotLocalError(Exception):
    """The name leads, or may lead, over a file system that can stall: locate it again in a worker thread."""


@dataclass(frozen=True, slots=True)
class Asker:
    """With whose rights names are looked up: those who asked, and, when they are root, those whom they ask for.

    None stands for this process itself. `opens`: whether O_PATH descriptors are opened for them; where this process
    cannot take over their rights, it would do so with its own.
    """

    own: Credentials | None = None
    subject: Credentials | None = None
    opens: bool = True

    def rights(self) -> tuple[Credentials | None, ...]:
        """Return the rights to try, in order."""
        return (self.own,) if self.subject is None else (self.own, self.subject)


ITSELF = Asker()


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
            named = _first(name, asker, around, anywhere=anywhere)
        except OSError as error:
            raise _not_opened(name, error) from error
        try:
            _check_type(named.attributes)
            given = os.dup(named.fd) if asker == ITSELF else _opened(name, named.fd, asker)
        finally:
            os.close(named.fd)
        try:
            return self._found(name, given, system.attributes(given), asker, anywhere=anywhere, owned=True)
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
        shows, if somebody has looked.
        """
        try:
            found = found or system.attributes(fd)
        except PermissionError as error:  # a FUSE file system of one user tells others not even what a file is
            raise UnreadableImageError(Unnamed.MAY_NOT_LOOK.value) from error
        _check_type(found)
        if not anywhere and not self.mounts.local_descriptor(found):
            raise NotLocalError
        given, owned = _readable(fd, found, asker)
        try:
            return self._found(name, given, found, asker, anywhere=anywhere, owned=owned)
        except BaseException:
            if owned:
                os.close(given)
            raise

    def again(self, located: Located, name: str, *, anywhere: bool = True, asker: Asker = ITSELF) -> Located:
        """Look anew at an image that was read meanwhile; the result has the same descriptor.

        Raises BusyImageError when it is no longer the same state of the same file under the same name. Blocks where the
        file is not `local`. Raises NotLocalError unless `anywhere`: a link may have come to lead elsewhere.
        """
        found = system.attributes(located.fd, fresh=not located.local)
        anew = self._found(name, located.fd, found, asker, anywhere=anywhere, owned=located.owned)
        if anew.path != located.path or _state(found) != _state(located.attributes):
            raise _changing()
        return anew

    def look_for_writers(self, fd: int) -> Writers:
        """Say whether somebody has a file open for writing; see `look_for_writers`."""
        return look_for_writers(fd)

    def walk(self, located: Located) -> None:
        """Look through a sandbox, so that `again` knows what is in it. Blocks. Raises OSError."""
        if self.sandboxes is None or located.path is None:
            return
        top = Top(located.key, (located.path, *(alias.path for alias in located.aliases)))
        around = self._around()
        try:
            named = naming.descend(located.path, around, public=False, cached=False)
        except naming.NotPlainError:
            return  # it is another file's name by now, which is seen when it is looked at again
        try:
            # Not the descriptor that was passed: where it is from, other things may be mounted in the directory.
            if naming.same_file(named.attributes, located.attributes):
                self.sandboxes.look(named.fd, top, self.owners, around.mounts)
        finally:
            os.close(named.fd)

    def _sandbox(self, top: Top, around: Surroundings) -> tuple[Weakness | None, bool]:
        """Say what is weak in a sandbox, and whether that is only because nothing is known of it."""
        look = None if self.sandboxes is None else self.sandboxes.kept(top, around.owners, around.mounts)
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

    def _found(self, name: str, fd: int, found: Attributes, asker: Asker, *, anywhere: bool, owned: bool) -> Located:
        """Name an open file and judge it, both by one state of the mount table, read after all was opened."""
        fresh = False
        for _ in range(_TRIES):
            around = self._around()
            named = _named(name, fd, found, asker, around, anywhere=anywhere)
            if isinstance(named, Unnamed):
                return self._unnamed(fd, found, named, owned=owned)
            try:
                if self.mounts.current()[0] is around.mounts:
                    return self._assessed(fd, named, around, anywhere=anywhere, owned=owned, fresh=fresh)
            except _StaleError:
                self.mounts.forget()
                fresh = True
            finally:
                os.close(named.fd)
        raise BusyImageError("file systems are being mounted and unmounted all the time; ask again later")

    def _unnamed(self, fd: int, found: Attributes, why: Unnamed, *, owned: bool) -> Located:
        local = self.mounts.local_descriptor(found)
        return Located(fd, owned, None, found, _key(fd, found), _NONE, Weakness(why.value), unnamed=why, local=local)

    def _assessed(
        self, fd: int, named: Named, around: Surroundings, *, anywhere: bool, owned: bool, fresh: bool
    ) -> Located:
        """Judge a file by its name. Raises _StaleError unless `fresh`: the table was read for this question."""
        found = named.attributes
        mount = around.mounts.of(found.mount)
        spellings = None if mount is None else around.mounts.names(mount, named.path)
        if mount is None or spellings is None:
            if mount is not None and not fresh:
                raise _StaleError
            return self._unnamed(fd, found, Unnamed.NO_NAME, owned=owned)
        path, weak = named.path, named.weak
        if spellings[0].path != path:
            path, weak = _first_name(spellings, named, around, anywhere=anywhere, fresh=fresh)
        vouched = mount.superblock in around.belief.vouched
        weak = weak or (None if vouched else _not_trusted(named, mount, around))
        aliases = _aliases(named, spellings, path)
        key = _key(fd, found)
        unwalked, writers = False, Writers.NOT_KNOWN
        if weak is None and found.is_directory and not vouched and not mount.read_only:
            top = Top(key, (path, *(alias.path for alias in aliases)))
            weak, unwalked = (_FOREIGN, False) if _is_foreign(fd, around) else self._sandbox(top, around)
        if weak is None and found.is_file and mount.local and not vouched:
            writers = self.look_for_writers(named.fd)
            if writers is Writers.SOME:
                weak = Weakness("somebody has it open for writing, or mapped")
            if changed(named.fd, found):  # checked last: a writer from before the look for them has left a change time
                raise _changing()
        return Located(
            fd,
            owned,
            path,
            found,
            key,
            _TRUSTED_PATH if weak is None else _NONE,
            weak,
            aliases,
            writers=writers,
            local=mount.local,
            unwalked=unwalked,
        )


def _named(
    name: str, fd: int, found: Attributes, asker: Asker, around: Surroundings, *, anywhere: bool
) -> Named | Unnamed:
    """Return the file behind a passed descriptor as a name in this namespace leads to it, or why none does.

    Tried are the name that came with it, and what the kernel calls the descriptor: what its opener saw.
    """
    led, why = _led(name, found, asker, around, anywhere=anywhere)
    if led is not None and found.links == 1:
        return led
    own = naming.kernel_name(fd)
    if own is None or own == name or not naming.is_plain(own):
        return led or (Unnamed.NO_NAME if own is None else why)
    try:
        other, why = _led(own, found, asker, around, anywhere=anywhere)
    except BaseException:
        if led is not None:
            os.close(led.fd)
        raise
    if led is None:
        return other or (Unnamed.NO_NAME if found.links == 0 else why)
    if other is None:
        return led
    os.close(other.fd)
    return led._replace(also=(other.path,))  # two hard links


def _led(
    name: str, found: Attributes, asker: Asker, around: Surroundings, *, anywhere: bool
) -> tuple[Named | None, Unnamed]:
    """Return where a name leads if that is the file that was found; else None, and why not."""
    if not anywhere and not around.mounts.local(tidy(name)):
        raise NotLocalError
    try:
        named = _first(name, asker, around, anywhere=anywhere)
    except OSError as error:
        if error.errno in _NO_DESCRIPTORS:
            raise _not_opened(name, error) from error
        return None, Unnamed.MAY_NOT_LOOK if naming.may_not_look(error) else Unnamed.OTHER_FILE
    if naming.same_file(named.attributes, found):
        return named, Unnamed.OTHER_FILE
    os.close(named.fd)
    return None, Unnamed.OTHER_FILE


def _first(name: str, asker: Asker, around: Surroundings, *, anywhere: bool) -> Named:
    """Follow a name with the first rights that are let in. Raises OSError, and NotLocalError unless `anywhere`."""
    refused: OSError = FileNotFoundError(errno.ENOENT, "is no absolute path")
    for rights in asker.rights():
        try:
            return naming.reach(name, rights, around, cached=not anywhere)
        except BlockingIOError as error:
            raise NotLocalError from error
        except OSError as error:
            if not naming.may_not_look(error):
                raise
            refused = error
    raise refused


def tidy(name: str) -> str:
    """Return a name without empty, `.` and `..` components, for a look into the table of mounts alone."""
    return name if naming.is_plain(name) else "/" + os.path.normpath(name).lstrip("/")


def _first_name(
    spellings: tuple[Spelling, ...], named: Named, around: Surroundings, *, anywhere: bool, fresh: bool
) -> tuple[str, Weakness | None]:
    """Return the first of a file's names that leads to it, and what is weak on the way there or on the way taken."""
    for each in spellings:
        if each.path == named.path:
            break
        try:
            other = naming.descend(each.path, around, public=False, cached=not anywhere)
        except BlockingIOError as error:
            raise NotLocalError from error
        except (OSError, naming.NotPlainError) as error:
            if isinstance(error, OSError) and error.errno in _NO_DESCRIPTORS:
                raise _not_opened(each.path, error) from error
            if isinstance(error, OSError) and naming.may_not_look(error):
                continue
        else:
            os.close(other.fd)
            if naming.same_file(other.attributes, named.attributes):
                weak = other.weak and other.weak._replace(shown=other.searchable)
                return each.path, named.weak or weak
        if not fresh:
            raise _StaleError  # no mount hides it, but it is not there
    return named.path, named.weak


def _aliases(named: Named, spellings: tuple[Spelling, ...], path: str) -> tuple[Alias, ...]:
    if len(spellings) == 1 and not named.also:
        return ()
    through = [Alias(each.path, each.point) for each in spellings if each.path != path]
    return (*through, *(Alias(each) for each in named.also))


def _is_foreign(fd: int, around: Surroundings) -> bool:
    return around.mounts.of(system.attributes(fd).mount) is None


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


def _readable(fd: int, found: Attributes, asker: Asker) -> tuple[int, bool]:
    """Return a descriptor that the image can be read from, and whether it is a new one.

    An O_PATH descriptor is opened with the rights of whoever passed it. Refused are descriptors for writing alone, and
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


def _open_as(fd: int, asker: Asker) -> int:
    """Open what an O_PATH descriptor is of, as modes and ACLs let those who ask."""
    refused = OSError(errno.EACCES, os.strerror(errno.EACCES))
    for rights in asker.rights():
        try:
            with assumed(rights):
                return os.open(f"/proc/self/fd/{fd}", READ)
        except BlockingIOError as error:
            raise leased() from error
        except OSError as error:
            refused = error
            if error.errno in _NO_DESCRIPTORS:
                raise _not_opened("", error) from error
    raise UnreadableImageError(f"you may not read it: {refused.strerror}") from refused


def _opened(name: str, fd: int, asker: Asker) -> int:
    """Open what those who ask by name could read; else raise what is said of a file that is not there."""
    try:
        return _open_as(fd, asker)
    except UnreadableImageError as error:
        raise _unreadable(name) from error


def _is_sealed(fd: int) -> bool:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALED == _SEALED
    except OSError:
        return False


def _unreadable(name: str) -> UnreadableImageError:
    return UnreadableImageError(
        f"{name}: there is no such image, or you may not read it; name an absolute path, or ask with an open "
        "descriptor, as `eclctl check` does"
    )


def _changing() -> BusyImageError:
    return BusyImageError("the image changed while it was looked at; ask again when it is complete")


_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


def _not_opened(name: str, error: OSError) -> UnreadableImageError | BusyImageError:
    """Tell a file that is not there from a process that can open no more files."""
    if error.errno in _NO_DESCRIPTORS:
        return BusyImageError("too many files are open here; ask again later")
    return _unreadable(name)


def _check_type(found: Attributes) -> None:
    if stat.S_IFMT(found.mode) not in _IMAGE_TYPES:
        raise UnsupportedFileError("neither a regular file nor a directory; an image is one of these")


def _key(fd: int, found: Attributes) -> FileKey | None:
    handle = system.handle(fd)
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
    return _state(system.attributes(fd, fresh=True)) == _state(before)


def _state(found: Attributes) -> tuple[int, int, int]:
    return found.size, found.ctime_ns, found.mtime_ns
