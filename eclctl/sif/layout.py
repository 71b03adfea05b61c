"""The numbers of the SIF format (version 01), for readers and writers.

All little-endian: a global header of 128 bytes, a table of descriptors of 585 bytes each, and the data objects anywhere
behind. A descriptor is a fixed part, a name of 128 bytes and 384 bytes that depend on the data type.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import accumulate
from types import MappingProxyType

MAGIC = b"SIF_MAGIC\0"
VERSION = b"01\0"

NO_ARCHITECTURE = b"00\0"
"""The architecture of an image without a primary partition."""

GROUP_MASK = 0xF0000000
"""The bits that a group number has in a descriptor, and a link that names a group."""

USUAL_TABLE = 4096
"""Where every known writer puts the descriptor table, in bytes from the start of the file."""

USUAL_SLOTS = 48
"""How many slots a table mostly has."""

_HEADER_PARTS = {
    "launch_script": "32s",
    "magic": "10s",
    "version": "3s",
    "architecture": "3s",
    "uuid": "16s",
    "created": "q",
    "modified": "q",
    "free": "q",
    "total": "q",
    "table_offset": "q",
    "table_size": "q",
    "data_offset": "q",
    "data_size": "q",
}
_FIXED_PARTS = {
    "type": "i",
    "used": "B",
    "id": "I",
    "group": "I",
    "link": "I",
    "offset": "q",
    "size": "q",
    "padded": "q",
    "created": "q",
    "modified": "q",
    "uid": "q",
    "gid": "q",
}
_TAIL_PARTS = {"name": "128s", "extra": "384s"}


def _struct(parts: Mapping[str, str]) -> struct.Struct:
    return struct.Struct("<" + "".join(parts.values()))


def _offsets(parts: Mapping[str, str]) -> Mapping[str, int]:
    """Return where each part begins, in bytes from the start of the first."""
    starts = accumulate((struct.calcsize(f"<{code}") for code in parts.values()), initial=0)
    return MappingProxyType(dict(zip(parts, starts, strict=False)))  # the last start is the end


HEADER = _struct(_HEADER_PARTS)
"""The global header; HEADER_FIELDS names its parts."""

DESCRIPTOR = _struct(_FIXED_PARTS)
"""The fixed part of a descriptor; name and extra follow."""

HEADER_FIELDS = _offsets(_HEADER_PARTS)
"""Where the header's fields begin, in bytes from the start of the file."""

DESCRIPTOR_FIELDS = _offsets(_FIXED_PARTS | _TAIL_PARTS)
"""Where a descriptor's fields begin, in bytes from its start."""

SLOT = _struct(_FIXED_PARTS | _TAIL_PARTS)
"""A whole descriptor, for writers: the fixed part, name and extra."""

NAME_SIZE, EXTRA_SIZE = 128, 384
DESCRIPTOR_SIZE = SLOT.size
