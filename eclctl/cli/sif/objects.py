"""How a data object is shown: in the reference's words, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eclctl.cli.sif.inspection import utc
from eclctl.sif import labels
from eclctl.sif.inspect import Slot
from eclctl.sif.reader import DataType, Descriptor
from eclctl.text import printable

__all__ = ["FINGERPRINT", "NO_TIME", "claimed_entity", "group", "link", "object_shape", "time_shape"]

NO_TIME = -62_135_596_800
"""The first second of the year 1, which images that are made the same each time have for a time."""

FINGERPRINT = 20
_LONG_FINGERPRINT = 32
_OCI = frozenset({DataType.OCI_ROOT_INDEX, DataType.OCI_BLOB})


def group(descriptor: Descriptor) -> str:
    """Return the object group, or NONE."""
    return str(descriptor.group) if descriptor.group else "NONE"


def link(descriptor: Descriptor, *, wide: bool = False) -> str:
    """Return what the object is linked to: an object, a group, or NONE. `wide` is how the list has a group."""
    if not descriptor.link:
        return "NONE"
    number = f"{descriptor.link:<3}" if wide and descriptor.links_group else str(descriptor.link)
    return f"{number} (G)" if descriptor.links_group else number


def claimed_entity(descriptor: Descriptor) -> str:
    """Return the fingerprint that a signature's descriptor claims, in upper-case hex; "" when it claims none.

    That is 20 bytes, or 32 where there is more: they are not checked, and the author of the file chose them.
    """
    entity = descriptor.entity
    length = _LONG_FINGERPRINT if any(entity[FINGERPRINT:_LONG_FINGERPRINT]) else FINGERPRINT
    return entity[:length].hex().upper() if any(entity[:length]) else ""


def object_shape(slot: Slot) -> dict[str, Any]:
    """Return a data object as JSON has it. Times are seconds since 1970 and, within reason, text."""
    descriptor = slot.descriptor
    shape: dict[str, Any] = {
        "id": descriptor.id,
        "descriptor": slot.number,
        "type": labels.data_type(descriptor),
        "type_number": descriptor.type,
        "group": descriptor.group or None,
        "link": _link_shape(descriptor),
        "offset": descriptor.offset,
        "size": descriptor.size,
        "end": descriptor.offset + descriptor.size,
        "whole": slot.whole,
        "created": time_shape(descriptor.created),
        "modified": time_shape(descriptor.modified),
        "uid": descriptor.uid,
        "gid": descriptor.gid,
        "name": printable(descriptor.name),
    }
    for meaning in labels.meanings(descriptor):
        shape[meaning.name.lower().replace(" ", "_")] = meaning.text
    if descriptor.is_signature:
        shape["claimed_entity"] = claimed_entity(descriptor) or None
    if descriptor.type in _OCI:
        from eclctl.sif.oci_sif import stated_digest  # noqa: PLC0415 - only an OCI-SIF states digests

        shape["digest"] = stated_digest(descriptor)
    return shape


def time_shape(seconds: int) -> Mapping[str, Any] | None:
    """Return a time as JSON has it; None where there is none."""
    return None if seconds == NO_TIME else {"seconds": seconds, "utc": utc(seconds)}


def _link_shape(descriptor: Descriptor) -> Mapping[str, Any] | None:
    if not descriptor.link:
        return None
    return {"kind": "group" if descriptor.links_group else "object", "id": descriptor.link}
