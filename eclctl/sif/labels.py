"""The meanings of the numbers in a SIF image, in the reference's words (sylabs/sif, pkg/sif)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final, NamedTuple

from eclctl.sif.layout import DESCRIPTOR_FIELDS
from eclctl.sif.reader import DataType, Descriptor

UNKNOWN: Final = "Unknown"

DATA_TYPES: Final[Mapping[int, str]] = {
    DataType.DEFFILE: "Def.FILE",
    DataType.ENVVAR: "Env.Vars",
    DataType.LABELS: "JSON.Labels",
    DataType.PARTITION: "FS",
    DataType.SIGNATURE: "Signature",
    DataType.GENERIC_JSON: "JSON.Generic",
    DataType.GENERIC: "Generic/Raw",
    DataType.CRYPT_MESSAGE: "Cryptographic Message",
    DataType.SBOM: "SBOM",
    DataType.OCI_ROOT_INDEX: "OCI.RootIndex",
    DataType.OCI_BLOB: "OCI.Blob",
}

_FILE_SYSTEMS: Final = {1: "Squashfs", 2: "Ext3", 3: "Archive", 4: "Raw", 5: "Encrypted squashfs"}
_PARTITIONS: Final = {1: "System", 2: "*System", 3: "Data", 4: "Overlay"}
_HASHES: Final = {1: "SHA-256", 2: "SHA-384", 3: "SHA-512", 4: "BLAKE2s-256", 5: "BLAKE2b-256"}
_FORMATS: Final = {1: "OpenPGP", 2: "PEM"}
_MESSAGES: Final = {0x100: "Clear Signature", 0x200: "RSA-OAEP"}
_BILLS: Final = {
    1: "cyclonedx-json",
    2: "cyclonedx-xml",
    3: "github-json",
    4: "spdx-json",
    5: "spdx-rdf",
    6: "spdx-tag-value",
    7: "spdx-yaml",
    8: "syft-json",
}
_ARCHITECTURES: Final = {
    b"01\0": "386",
    b"02\0": "amd64",
    b"03\0": "arm",
    b"04\0": "arm64",
    b"05\0": "ppc64",
    b"06\0": "ppc64le",
    b"07\0": "mips",
    b"08\0": "mipsle",
    b"09\0": "mips64",
    b"10\0": "mips64le",
    b"11\0": "s390x",
    b"12\0": "riscv64",
    b"13\0": "loong64",
}
_NO_ARCHITECTURE: Final = "unknown"
_UNKNOWN_BILL: Final = "unknown"


class Meaning(NamedTuple):
    """A part of a descriptor's extra field: its name, what it says, and where it begins in the descriptor.

    `raw` is the value as text; `known` is false when its meaning is not known.
    """

    name: str
    text: str
    at: int
    raw: str
    known: bool


class _Part(NamedTuple):
    name: str
    at: int
    words: Mapping[int, str]
    unknown: str = UNKNOWN


_PARTS: Final[Mapping[int, tuple[_Part, ...]]] = {
    DataType.PARTITION: (_Part("Filesystem Type", 0, _FILE_SYSTEMS), _Part("Partition Type", 4, _PARTITIONS)),
    DataType.SIGNATURE: (_Part("Hash Type", 0, _HASHES),),
    DataType.CRYPT_MESSAGE: (_Part("Format Type", 0, _FORMATS), _Part("Message Type", 4, _MESSAGES)),
    DataType.SBOM: (_Part("Format", 0, _BILLS, _UNKNOWN_BILL),),
}
_NUMBER: Final = struct.Struct("<i")
_ARCHITECTURE_AT: Final = 8
_EXTRA_AT: Final = DESCRIPTOR_FIELDS["extra"]


def data_type(descriptor: Descriptor) -> str:
    """Return what a data object is."""
    return DATA_TYPES.get(descriptor.type, UNKNOWN)


def group(descriptor: Descriptor) -> str:
    """Return the object group, or NONE."""
    return str(descriptor.group) if descriptor.group else "NONE"


def link(descriptor: Descriptor, *, wide: bool = False) -> str:
    """Return what the object is linked to: an object, a group, or NONE. `wide` is how a table has a group."""
    if not descriptor.link:
        return "NONE"
    number = f"{descriptor.link:<3}" if wide and descriptor.links_group else str(descriptor.link)
    return f"{number} (G)" if descriptor.links_group else number


def architecture(raw: bytes) -> str:
    """Return the architecture that three raw bytes name, as Go calls it; `unknown` when they name none."""
    return _ARCHITECTURES.get(raw, _NO_ARCHITECTURE)


def meanings(descriptor: Descriptor) -> tuple[Meaning, ...]:
    """Return what the extra field says, in order, for the data types that have numbers in it."""
    extra = descriptor.extra
    found = []
    for part in _PARTS.get(descriptor.type, ()):
        (number,) = _NUMBER.unpack_from(extra, part.at)
        text = part.words.get(number, part.unknown)
        found.append(Meaning(part.name, text, _EXTRA_AT + part.at, str(number), number in part.words))
    if descriptor.type == DataType.PARTITION:
        raw = extra[_ARCHITECTURE_AT : _ARCHITECTURE_AT + 3]
        known = raw in _ARCHITECTURES
        found.append(Meaning("Architecture", architecture(raw), _EXTRA_AT + _ARCHITECTURE_AT, repr(raw), known))
    return tuple(found)
