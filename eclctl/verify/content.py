"""Comparing what a signature says with what the image holds.

What costs nothing is compared first: the set of objects, the header, the descriptors. A plan then names the digests
that are still needed, so that all signatures of an image ask for them together and each object is read once. A
descriptor's digest covers the object's size: no one can make it hash more than was signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from eclctl.sif.reader import Descriptor, Sif
from eclctl.signature.metadata import Digest, Metadata
from eclctl.terms import Finding
from eclctl.verify.hashing import Want

_MAX_ID = 0xFFFFFFFF
_HEADER_CHANGED = Finding("header-changed", "header integrity compromised")


class Need(NamedTuple):
    """A digest that must come out as signed, else `finding` is what is wrong."""

    want: Want
    expected: bytes
    finding: Finding


class Plan(NamedTuple):
    """What a statement covers, and how to tell whether it is still true.

    `objects` are the IDs it covers. The `needs` are looked at in order; `finding` is what is wrong after them all, as
    far as can be told without reading data.
    """

    objects: tuple[int, ...]
    needs: tuple[Need, ...] = ()
    finding: Finding | None = None

    def conclude(self, digests: Mapping[Want, bytes]) -> Finding | None:
        """Return the first thing that is wrong, once the digests are there."""
        for need in self.needs:
            if digests[need.want] != need.expected:
                return need.finding
        return self.finding


Groups: TypeAlias = Mapping[int, Sequence[Descriptor]]
"""The object groups of an image: the descriptors of each in table order, signatures in a group included."""


def groups_of(sif: Sif) -> dict[int, list[Descriptor]]:
    """Return the object groups of an image."""
    groups: dict[int, list[Descriptor]] = {}
    for descriptor in sif.descriptors:
        if descriptor.group:
            groups.setdefault(descriptor.group, []).append(descriptor)
    return groups


def absolute_ids(statement: Metadata, members: Sequence[Descriptor]) -> list[int] | None:
    """Return the object IDs that metadata names, counted from the lowest of the group; None when one is no ID."""
    lowest = min(member.id for member in members)
    identities = [lowest + item.relative for item in statement.objects]
    return None if any(identity > _MAX_ID for identity in identities) else identities


def not_signed(identity: int) -> Finding:
    """Return the finding that a signature leaves out an object."""
    return Finding("object-not-signed", f"object {identity}: object not signed")


def signed_set(signed: Sequence[int], members: Sequence[Descriptor], *, exactly: bool) -> Finding | None:
    """Return what is wrong with the set of signed objects.

    Args:
        signed: IDs from `absolute_ids`.
        members: The group.
        exactly: Whether every member must be signed; else only every signed object must be a member.
    """
    if exactly:
        listed = frozenset(signed)
        for member in members:
            if member.id not in listed:
                return not_signed(member.id)
    present = {member.id for member in members}
    for identity in signed:
        if identity not in present:
            return Finding("object-missing", f"object {identity}: signed object not found")
    return None


def plan_objects(sif: Sif, statement: Metadata, signed: Sequence[int], objects: Sequence[Descriptor]) -> Plan:
    """Plan the checks of header and `objects`, each of which is among `signed`."""
    identities = tuple(descriptor.id for descriptor in objects)
    if not statement.header.matches(sif.header.signed_bytes):
        return Plan(identities, finding=_HEADER_CHANGED)
    by_id = dict(zip(signed, statement.objects, strict=True))
    needs: list[Need] = []
    for descriptor in objects:
        item = by_id[descriptor.id]
        if not item.descriptor.matches(descriptor.signed_bytes):
            message = f"data object descriptor integrity compromised: {descriptor.id}"
            return Plan(identities, tuple(needs), Finding("descriptor-changed", message))
        message = f"data object integrity compromised: {descriptor.id}"
        want = Want(item.data.algorithm, (descriptor.id,))
        needs.append(Need(want, item.data.value, Finding("data-changed", message)))
    return Plan(identities, tuple(needs))


def plan_legacy(statement: Digest, objects: Sequence[Descriptor], *, single: bool) -> Plan:
    """Plan the check of a legacy digest over the data of `objects`, one after the other in table order."""
    identities = tuple(descriptor.id for descriptor in objects)
    message = "data object integrity compromised" + (f": {identities[0]}" if single else "")
    need = Need(Want(statement.algorithm, identities), statement.value, Finding("data-changed", message))
    return Plan(identities, (need,))
