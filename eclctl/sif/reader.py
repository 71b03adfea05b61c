"""A bounded reader for SIF images (Singularity Image Format, version 01).

Rules of this module:

1. Everything is read from one open descriptor by `pread`, at explicit offsets; nothing is opened, nothing seeks.
2. No count, size or offset of the file is used before it has been compared with the size of the file and with
   the bounds below. Nothing is allocated by a number from the file.
3. An image whose structure contradicts itself is malformed as a whole, whichever part was asked for.

The numbers of the format are in `eclctl.sif.layout`. What is wrong with a malformed image, all of it, is for
`eclctl.sif.inspect` to say.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable, Mapping
from enum import IntEnum
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from eclctl.errors import BusyImageError, MalformedImageError, UnreadableImageError, UnsupportedFileError
from eclctl.sif.layout import DESCRIPTOR, DESCRIPTOR_SIZE, GROUP_MASK, HEADER, MAGIC, NAME_SIZE, VERSION

if TYPE_CHECKING:
    from eclctl.terms import Kind

MAX_SLOTS = 4096
"""The most descriptor slots that are read: 2.3 MiB of table, 30 ms of work. Images are made with 48."""

SPARSE_FROM = 64 << 30
SPARSE_RATIO = 64
# A file past SPARSE_FROM bytes that allocates less than 1/SPARSE_RATIO of its size is refused: no image looks like
# that, and hashing exabytes of holes would take years.

_SIGNED_FIELDS = struct.Struct("<iBIIqqqq")
_PARTITION = struct.Struct("<ii")
_SIGNATURE = struct.Struct("<i")

_NIL_UUID = bytes(16)

_PREFIX = 64 * 1024
"""How much is read at first: header, table and, of a small image, everything."""


class DataType(IntEnum):
    """What a data object is, by the numbers of the format."""

    DEFFILE = 0x4001
    ENVVAR = 0x4002
    LABELS = 0x4003
    PARTITION = 0x4004
    SIGNATURE = 0x4005
    GENERIC_JSON = 0x4006
    GENERIC = 0x4007
    CRYPT_MESSAGE = 0x4008
    SBOM = 0x4009
    OCI_ROOT_INDEX = 0x400A
    OCI_BLOB = 0x400B


_HOLDS = {
    DataType.DEFFILE: "deffile",
    DataType.ENVVAR: "envvar",
    DataType.LABELS: "labels",
    DataType.PARTITION: "partition",
    DataType.SIGNATURE: "signature",
    DataType.GENERIC_JSON: "generic-json",
    DataType.GENERIC: "generic",
    DataType.CRYPT_MESSAGE: "crypt-message",
    DataType.SBOM: "sbom",
    DataType.OCI_ROOT_INDEX: "oci-root-index",
    DataType.OCI_BLOB: "oci-blob",
}
_FILE_SYSTEMS = {1: ("squashfs",), 2: ("ext3",), 3: ("archive",), 4: ("raw",), 5: ("encrypted-squashfs",)}
_PARTITION_TYPES: dict[int, tuple[str, ...]] = {
    1: ("system",),
    2: ("system", "primary"),
    3: ("data",),
    4: ("overlay",),
}
_PRIMARY = 2


class Header(NamedTuple):
    """The global header.

    `launch_script`, `version` and `architecture` are raw bytes with their padding, `uuid` 16 bytes. Times are seconds
    since 1970; `free` and the data section's place are what the file says, and nothing here relies on them.
    """

    launch_script: bytes
    version: bytes
    architecture: bytes
    uuid: bytes
    created: int
    modified: int
    free: int
    total: int
    table_offset: int
    table_size: int
    data_offset: int
    data_size: int

    @property
    def tied(self) -> bool:
        """Whether the UUID is not nil, so that the header tells this image from others."""
        return self.uuid != _NIL_UUID

    @property
    def signed_bytes(self) -> bytes:
        """What a signature covers of the header: launch script, magic, version and UUID."""
        return self.launch_script + MAGIC + self.version + self.uuid


class Descriptor(NamedTuple):
    """One used slot of the descriptor table.

    `group` and `link` are numbers without the group bits; `links_group` says that `link` names a group. `relative` is
    the ID counted from the lowest ID of the group, as signatures count it. `tail` is name and extra, 512 raw bytes.
    """

    type: int
    id: int
    group: int
    link: int
    links_group: bool
    offset: int
    size: int
    created: int
    modified: int
    uid: int
    gid: int
    relative: int
    raw_link: int
    tail: bytes

    @property
    def is_signature(self) -> bool:
        """Whether the object is a signature."""
        return self.type == DataType.SIGNATURE

    @property
    def name(self) -> str:
        """The name as text, unescaped; bytes that are no UTF-8 are surrogate escapes."""
        return self.tail[:NAME_SIZE].rstrip(b"\0").decode("utf-8", "surrogateescape")

    @property
    def extra(self) -> bytes:
        """What the data type adds, 384 raw bytes."""
        return self.tail[NAME_SIZE:]

    @property
    def signed_bytes(self) -> bytes:
        """What a signature covers of the descriptor: neither the ID, the group, the offset nor the modification time.

        The used flag is signed as 1 for every non-zero byte in the file.
        """
        return (
            _SIGNED_FIELDS.pack(self.type, 1, self.relative, self.raw_link, self.size, self.created, self.uid, self.gid)
            + self.tail
        )

    @property
    def holds(self) -> frozenset[str]:
        """What the object is, in the words of a policy's `holds`."""
        if self.type == DataType.PARTITION:
            file_system, kind = _PARTITION.unpack_from(self.tail, NAME_SIZE)
            words = ("partition", *_PARTITION_TYPES.get(kind, ()), *_FILE_SYSTEMS.get(file_system, ()))
            return frozenset(words)
        return _HOLDS_SETS.get(self.type, frozenset())

    @property
    def is_primary_partition(self) -> bool:
        """Whether the object is the primary system partition."""
        return self.type == DataType.PARTITION and _PARTITION.unpack_from(self.tail, NAME_SIZE)[1] == _PRIMARY

    @property
    def hash_type(self) -> int:
        """The hash number of a signature's descriptor: 1, 2, 3 for SHA-256, SHA-384, SHA-512; others as written."""
        return int(_SIGNATURE.unpack_from(self.tail, NAME_SIZE)[0])

    @property
    def entity(self) -> bytes:
        """The 256 bytes of a signature's descriptor that claim a fingerprint. A hint, and never more."""
        return self.tail[NAME_SIZE + 4 : NAME_SIZE + 260]


_HOLDS_SETS = {int(kind): frozenset({word}) for kind, word in _HOLDS.items()}


class Sif(NamedTuple):
    """A SIF image that is open and whose structure is sound.

    `descriptors` are the used slots in table order. `size` is the file's size when it was opened. Data is read with
    `data` from the descriptor `fd`, which belongs to the caller. `pending` is the data of objects, by ID, that are not
    in the file yet (`read_as_edited`).
    """

    fd: int
    size: int
    header: Header
    descriptors: tuple[Descriptor, ...]
    prefix: bytes
    pending: Mapping[int, bytes] = MappingProxyType({})

    @property
    def kind(self) -> Kind:
        """OCI-SIF when an OCI root index is there, else SIF."""
        from eclctl.terms import Kind  # noqa: PLC0415 - who only looks at the parts of a file asks for no kind

        is_oci = any(descriptor.type == DataType.OCI_ROOT_INDEX for descriptor in self.descriptors)
        return Kind.OCI_SIF if is_oci else Kind.SIF

    def data(self, descriptor: Descriptor) -> bytes | memoryview:
        """Return the whole of a data object; the caller has looked at its size.

        Raises:
            BusyImageError: The file has become shorter.
            UnreadableImageError: Reading failed.
        """
        if descriptor.id in self.pending:
            return self.pending[descriptor.id]
        end = descriptor.offset + descriptor.size
        if end <= len(self.prefix):
            return memoryview(self.prefix)[descriptor.offset : end]
        return pread(self.fd, descriptor.size, descriptor.offset)


def read(fd: int) -> Sif:
    """Return the SIF image on an open descriptor.

    Raises:
        MalformedImageError: The file is no SIF image, or its structure contradicts itself.
        UnsupportedFileError: The descriptor is no regular file.
        BusyImageError: The file changed while it was read.
        UnreadableImageError: Reading failed, for instance on a descriptor that is not open for reading.
    """
    size = checked_size(fd)
    prefix = pread(fd, min(size, _PREFIX), 0)
    header = _header(prefix)
    return Sif(fd, size, header, _sound(header, _table(fd, header, prefix, size), size), prefix)


def read_as_edited(image: Sif, header: bytes, table: bytes, data: Mapping[tuple[int, int], bytes], size: int) -> Sif:
    """Return an image as it will be once it has been edited.

    Args:
        image: As it is, and stays open.
        header: The raw header that it will have.
        table: The raw descriptor table.
        data: What new objects will hold, by offset and size; all other data is where it is now.
        size: How large the file will be, in bytes.

    Raises:
        MalformedImageError: It will be no sound image.
    """
    becomes = _header(header)
    descriptors = _sound(becomes, table, size)
    pending = {each.id: data[each.offset, each.size] for each in descriptors if (each.offset, each.size) in data}
    return Sif(image.fd, size, becomes, descriptors, b"", pending)


def _sound(header: Header, table: bytes, size: int) -> tuple[Descriptor, ...]:
    """Return the descriptors of a raw table, once they agree with each other, the header and the file."""
    descriptors = unpack_table(table)
    _check_identities(descriptors)
    _check_extents(header, descriptors, size)
    return descriptors


def pread(fd: int, size: int, offset: int) -> bytes:
    """Return exactly `size` bytes from `offset`.

    Raises:
        BusyImageError: The file ends before; it was long enough when it was opened.
        UnreadableImageError: Reading failed.
    """
    try:
        data = os.pread(fd, size, offset)
        while len(data) < size:
            more = os.pread(fd, size - len(data), offset + len(data))
            if not more:
                raise BusyImageError("the image changed while it was read: it has become shorter")
            data += more
    except OSError as error:
        raise UnreadableImageError(f"cannot read the image: {error.strerror}") from error
    return data


def checked_size(fd: int) -> int:
    """Return the size of a regular file in bytes, unless it claims far more than it holds.

    Raises:
        UnsupportedFileError: It is no regular file.
        MalformedImageError: It is almost all holes: it costs its author nothing, and its reader much.
        UnreadableImageError: Its attributes cannot be had.
    """
    status = regular_status(fd)
    if is_sparse(status):
        raise MalformedImageError(f"the file claims {status.st_size} bytes and is almost all holes")
    return status.st_size


def is_sparse(status: os.stat_result) -> bool:
    """Return whether a file claims far more bytes than it holds."""
    return status.st_size > SPARSE_FROM and status.st_blocks * 512 * SPARSE_RATIO < status.st_size


def regular_status(fd: int) -> os.stat_result:
    """Return the attributes of a regular file.

    Raises:
        UnsupportedFileError: It is no regular file.
        UnreadableImageError: Its attributes cannot be had.
    """
    try:
        status = os.fstat(fd)
    except OSError as error:
        raise UnreadableImageError(f"cannot read the image: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise UnsupportedFileError("not a regular file")
    return status


def unpack_header(data: bytes) -> tuple[Header, bytes]:
    """Return the header that `data` begins with, as it stands, and the magic; nothing is checked."""
    launch_script, magic, version, architecture, uuid, *numbers = HEADER.unpack_from(data)
    return Header(launch_script, version, architecture, uuid, *numbers), magic


def _header(prefix: bytes) -> Header:
    if len(prefix) < HEADER.size:
        raise MalformedImageError(f"reading global header: the file ends after {len(prefix)} of {HEADER.size} bytes")
    header, magic = unpack_header(prefix)
    if magic != MAGIC:
        raise MalformedImageError("invalid SIF magic")
    if header.version != VERSION:
        raise MalformedImageError("incompatible SIF version")
    return header


def _table(fd: int, header: Header, prefix: bytes, size: int) -> bytes:
    """Return the raw descriptor table, once the header's numbers for it agree with each other and the file."""
    if not 0 <= header.total <= MAX_SLOTS:
        raise MalformedImageError(f"reading descriptors: {header.total} slots; at most {MAX_SLOTS} are read")
    if header.table_size != header.total * DESCRIPTOR_SIZE:
        raise MalformedImageError(
            f"reading descriptors: a table of {header.table_size} bytes for {header.total} slots of {DESCRIPTOR_SIZE}"
        )
    end = header.table_offset + header.table_size
    if header.table_offset < HEADER.size or end > size:
        raise MalformedImageError(f"reading descriptors: the table at {header.table_offset} is outside the file")
    if end <= len(prefix):
        return prefix[header.table_offset : end]
    return pread(fd, header.table_size, header.table_offset)


def used_slots(table: bytes) -> list[int]:
    """Return the indexes of the used slots in a raw table, from 0."""
    return [index for index, flag in enumerate(table[4::DESCRIPTOR_SIZE]) if flag]


def unpack_table(table: bytes) -> tuple[Descriptor, ...]:
    """Return the used slots of a raw table of whole slots, in table order, as they stand; nothing is checked."""
    slots = [index * DESCRIPTOR_SIZE for index in used_slots(table)]
    raw = [(DESCRIPTOR.unpack_from(table, slot), slot) for slot in slots]
    lowest: dict[int, int] = {}
    for (_, _, identity, group, *_), _ in raw:
        # By the group number with its bits, as signers count: the bits are not part of what other checks compare.
        lowest[group] = min(identity, lowest.get(group, identity))
    return tuple(_descriptor(fields, lowest, table[slot + 73 : slot + DESCRIPTOR_SIZE]) for fields, slot in raw)


def _descriptor(fields: tuple[int, ...], lowest: dict[int, int], tail: bytes) -> Descriptor:
    kind, _, identity, group, link, offset, size, _, created, modified, uid, gid = fields
    return Descriptor(
        kind,
        identity,
        group & ~GROUP_MASK,
        link & ~GROUP_MASK,
        link & GROUP_MASK == GROUP_MASK,
        offset,
        size,
        created,
        modified,
        uid,
        gid,
        identity - lowest[group],
        link,
        tail,
    )


def _check_identities(descriptors: tuple[Descriptor, ...]) -> None:
    seen: set[int] = set()
    for descriptor in descriptors:
        if descriptor.id == 0:
            raise MalformedImageError("a data object has ID 0")
        if descriptor.id in seen:
            raise MalformedImageError(f"two data objects have ID {descriptor.id}")
        seen.add(descriptor.id)


def _check_extents(header: Header, descriptors: Iterable[Descriptor], size: int) -> None:
    """Require that header, table and data objects lie in the file and apart from each other."""
    extents = [
        (0, HEADER.size, "the header"),
        (header.table_offset, header.table_offset + header.table_size, "the descriptor table"),
    ]
    for descriptor in descriptors:
        start, length = descriptor.offset, descriptor.size
        if start < 0 or length < 0 or start + length > size:
            raise MalformedImageError(
                f"data object {descriptor.id} ({length} bytes at {start}) is outside the file of {size} bytes"
            )
        if length:
            extents.append((start, start + length, f"data object {descriptor.id}"))
    extents.sort()
    for (_, end, one), (start, _, other) in pairwise(extents):
        if start < end:
            raise MalformedImageError(f"{one} and {other} overlap")
