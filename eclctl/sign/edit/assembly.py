"""What to write where so that data objects leave and join a SIF image: bytes out of bytes, no files.

The format leaves freedom, and readers and other writers have grown used to what the reference's library makes of it
(github.com/sylabs/sif v2, `AddObject` and `DeleteObjects`). So here too:

1. Objects are removed before others are added.
2. A new object takes the first free slot of the table, and its ID is the number of that slot, counted from 1.
3. Its data begins behind the last data of any object, at the next multiple of its alignment. What may lie in the file
   behind that is overwritten, never moved.
4. A removed object's slot is zeroed. Its data stays unless `zero`; the file is cut behind the last data if `compact`.
5. The header's modification time and those of the new objects are the same moment, except in a deterministic image,
   whose times all stay at year 1.

Unlike the reference, it never gives out an ID that another object already has (slots of images that others wrote need
not be in the order of their IDs), and counts the free slots instead of trusting the header.
"""

from __future__ import annotations

import struct
from itertools import count

from eclctl.dataclass import dataclass
from eclctl.errors import MalformedImageError, SigningError
from eclctl.sif.layout import (
    DESCRIPTOR_FIELDS,
    DESCRIPTOR_SIZE,
    EXTRA_SIZE,
    GROUP_MASK,
    HEADER,
    MAGIC,
    NAME_SIZE,
    NO_ARCHITECTURE,
    SLOT,
)
from eclctl.sif.reader import DataType, Header, Sif

_PARTITION = struct.Struct("<ii3s")
_PRIMARY = 2
_MAX_OFFSET = (1 << 63) - 1
_NIL_UUID = bytes(16)
_EMPTY = bytes(DESCRIPTOR_SIZE)
_USED = DESCRIPTOR_FIELDS["used"]
_IDENTITY = struct.Struct("<I")

YEAR_ONE = -62_135_596_800
"""The time of deterministic images, in seconds since 1970: what the reference's language calls no time."""


@dataclass(frozen=True, slots=True)
class NewObject:
    """A data object to add.

    `group` and `link` are numbers without the group bits, 0 for none; `links_group` says that `link` names a group.
    The group bits are added, to "no group" too.
    `extra` is what the data type adds, at most 384 bytes; `name` at most 128 bytes of UTF-8. `alignment` is in bytes.
    It is created at the moment of the edit. User and group ID are 0, as the reference's.
    """

    data_type: int
    data: bytes
    group: int = 0
    link: int = 0
    links_group: bool = False
    name: str = ""
    extra: bytes = b""
    alignment: int = 1


@dataclass(frozen=True, slots=True)
class Edit:
    """What changes in an image: objects to remove, by ID, then objects to add, in order.

    `zero` overwrites the data of removed objects, `compact` cuts the file behind the last data that is left.
    """

    add: tuple[NewObject, ...] = ()
    remove: frozenset[int] = frozenset()
    zero: bool = False
    compact: bool = False


@dataclass(frozen=True, slots=True)
class EditPlan:
    """What the file will hold where it holds something else now.

    `zero` are offsets with numbers of bytes, over which `data` goes: what new objects hold, by offset. `table` and
    `header` are raw. `size` is how large the file will be, in bytes.
    """

    zero: tuple[tuple[int, int], ...]
    data: tuple[tuple[int, bytes], ...]
    table: tuple[int, bytes]
    header: bytes
    size: int


def plan_edit(image: Sif, table: bytes, edit: Edit, now: int) -> EditPlan:
    """Return what to write.

    Args:
        image: The image as it is; its descriptor is not used.
        table: Its raw descriptor table.
        edit: What is to change.
        now: Seconds since 1970.

    Raises:
        SigningError: An object is not there, does not fit its descriptor, or no slot is free.
        MalformedImageError: The header places the data section outside the file.
    """
    if not 0 <= image.header.data_offset <= image.size:
        raise MalformedImageError(
            f"the header places the data section at {image.header.data_offset}, outside the file of {image.size} "
            "bytes; nothing can be added behind it"
        )
    draft = _Draft(image, table, YEAR_ONE if _is_deterministic(image.header) else now)
    zero = draft.remove(edit.remove)
    size = draft.compact() if edit.compact and edit.remove else image.size
    for new in edit.add:
        draft.add(new)
    return draft.plan(zero if edit.zero else (), size)


def _is_deterministic(header: Header) -> bool:
    return header.uuid == _NIL_UUID and header.created == header.modified == YEAR_ONE


class _Draft:
    """An image between two states: the table and the header as they become, and the data that is new."""

    def __init__(self, image: Sif, table: bytes, when: int) -> None:
        self._header = image.header._replace(modified=when)
        self._slots = [table[at : at + DESCRIPTOR_SIZE] for at in range(0, len(table), DESCRIPTOR_SIZE)]
        self._left = {descriptor.id: descriptor for descriptor in image.descriptors}
        self._ids = set(self._left)
        self._last = max(self._header.data_offset, self._header.table_offset + self._header.table_size)
        self._data: list[tuple[int, bytes]] = []
        self._when = when

    @property
    def _end(self) -> int:
        """Where the data of the objects ends, in bytes from the start of the file."""
        return max([self._last, *(one.offset + one.size for one in self._left.values())])

    def remove(self, identities: frozenset[int]) -> tuple[tuple[int, int], ...]:
        """Free the slots of some objects; return where their data is."""
        extents = []
        for identity in sorted(identities):
            found = self._left.pop(identity, None)
            if found is None:
                raise SigningError(f"there is no data object {identity} to remove")
            extents.append((found.offset, found.size))
            if found.is_primary_partition:
                self._header = self._header._replace(architecture=NO_ARCHITECTURE)
        for index, slot in enumerate(self._slots):
            if slot[_USED] and _IDENTITY.unpack_from(slot, DESCRIPTOR_FIELDS["id"])[0] in identities:
                self._slots[index] = _EMPTY
        self._ids -= identities
        return tuple(extents)

    def compact(self) -> int:
        """Let the data section end behind the last data; return where that is."""
        self._header = self._header._replace(data_size=self._end - self._header.data_offset)
        return self._end

    def add(self, new: NewObject) -> None:
        """Give an object a slot, an ID and a place."""
        index, identity = self._free_slot()
        start = self._end
        offset = start + -start % max(1, new.alignment)
        self._last = offset + len(new.data)
        if self._last > _MAX_OFFSET:
            raise SigningError(f"a data object of {len(new.data)} bytes would end outside of what a file can hold")
        self._slots[index] = _slot(new, identity, offset, start, self._when)
        self._ids.add(identity)
        self._data.append((offset, new.data))
        self._header = self._header._replace(data_size=self._last - self._header.data_offset)
        self._note_architecture(new)

    def plan(self, zero: tuple[tuple[int, int], ...], size: int) -> EditPlan:
        """Return what to write so that the file is this, at least `size` bytes large."""
        free = sum(not slot[_USED] for slot in self._slots)
        table = self._header.table_offset, b"".join(self._slots)
        end = max((offset + len(data) for offset, data in self._data), default=0)
        launch_script, *others = self._header._replace(free=free)
        header = HEADER.pack(launch_script, MAGIC, *others)
        return EditPlan(zero, tuple(self._data), table, header, max(size, end))

    def _free_slot(self) -> tuple[int, int]:
        """Return the place of a slot that is free, and the ID that goes with it."""
        free = [index for index, slot in enumerate(self._slots) if not slot[_USED]]
        if not free:
            raise SigningError(
                f"all {len(self._slots)} descriptor slots of the image are taken; remove a signature that is no longer "
                "needed, or build the image anew with more slots"
            )
        index = next((index for index in free if index + 1 not in self._ids), None)
        if index is not None:
            return index, index + 1
        return free[0], next(identity for identity in count(1) if identity not in self._ids)

    def _note_architecture(self, new: NewObject) -> None:
        if new.data_type != DataType.PARTITION:
            return
        _, kind, architecture = _PARTITION.unpack_from(new.extra.ljust(_PARTITION.size, b"\0"))
        if kind == _PRIMARY:
            if any(one.is_primary_partition for one in self._left.values()):
                raise SigningError("the image has a primary partition already")
            self._header = self._header._replace(architecture=architecture)


def _slot(new: NewObject, identity: int, offset: int, start: int, when: int) -> bytes:
    name = new.name.encode("utf-8", "surrogateescape")
    if len(name) > NAME_SIZE or len(new.extra) > EXTRA_SIZE:
        raise SigningError(
            f"the name or the extra field of a new data object is too long: {len(name)}, {len(new.extra)}"
        )
    link = new.link | GROUP_MASK if new.links_group and new.link else new.link
    size = len(new.data)
    numbers = (new.data_type, 1, identity, new.group | GROUP_MASK, link, offset, size)
    return SLOT.pack(*numbers, offset - start + size, when, when, 0, 0, name, new.extra)
