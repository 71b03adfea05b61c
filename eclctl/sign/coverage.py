"""Plans what signatures will cover: one for each object group, or for chosen groups and objects.

Nothing here needs a key. What is worth knowing before signing is returned as findings; what cannot be signed raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from eclctl.dataclass import dataclass
from eclctl.errors import SigningError
from eclctl.sif.reader import Descriptor, Sif
from eclctl.signature import dsse
from eclctl.signature.metadata import Metadata
from eclctl.terms import Finding, Kind
from eclctl.trust.keyring import KeyStore
from eclctl.verify.content import Groups, absolute_ids, groups_of
from eclctl.verify.opening import Opened, open_signature, read_signatures


@dataclass(frozen=True, slots=True)
class Part:
    """What one signature will cover: data objects of one group, in the order of their IDs.

    `whole` is true when these are all objects of the group, as a signature that approves the group must cover.
    """

    group: int
    objects: tuple[Descriptor, ...]
    whole: bool

    @property
    def ids(self) -> tuple[int, ...]:
        """The IDs of the objects."""
        return tuple(each.id for each in self.objects)


def plan_coverage(image: Sif, groups: Sequence[int] = (), objects: Sequence[int] = ()) -> tuple[Part, ...]:
    """Return the signatures to make: by default one for each group, in the order of their numbers.

    Args:
        image: The image.
        groups: Sign these groups whole.
        objects: Sign these data objects by themselves, those of one group together.

    Raises:
        SigningError: A group or object is not there, or nothing can be signed.
    """
    members = {number: tuple(sorted(found, key=lambda each: each.id)) for number, found in groups_of(image).items()}
    if not members:
        raise SigningError("integrity: no groups found; a signature covers an object group, and this image has none")
    wanted = dict.fromkeys(groups) if groups or objects else sorted(members)
    for number in wanted:
        if number not in members:
            raise SigningError(f"integrity: group not found: {number}; there are: {_listed(members)}")
    parts = [Part(number, members[number], whole=True) for number in wanted]
    return (*parts, *_single(image, members, objects))


def signing_warnings(image: Sif, parts: Sequence[Part]) -> Iterator[Finding]:
    """Yield warnings for the signer of these parts: what such signatures do not do."""
    members = groups_of(image)
    if partial := [identity for part in parts if not part.whole for identity in part.ids]:
        ids = _listed(partial)
        message = (
            f"a signature over single objects ({ids}) approves nothing by itself: only a requirement that names them"
        )
        yield Finding("single-objects", message)
    left_out = members.keys() - {part.group for part in parts}
    if left_out and any(part.whole for part in parts):
        message = f"nothing is signed of group {_listed(left_out)}: who approves an image signs all of its groups"
        yield Finding("groups-left-out", message)
    if not image.header.tied and len(members) != 1:
        message = (
            "the image has several groups and no UUID, so that groups of other images could be put in their place: its"
            " signatures never approve the whole image. Build it again with a UUID"
        )
        yield Finding("not-tied", message)
    if loose := [each.id for each in image.descriptors if not each.group and not each.is_signature]:
        message = (
            f"non-signature object not associated with object group: {_listed(loose)}; no signature covers it, and"
            " neither the image nor any part of it will verify"
        )
        yield Finding("ungrouped-object", message)
    if image.kind is Kind.OCI_SIF:
        lost = "a push to a registry leaves native signatures behind; sign with --cosign what is to be pushed"
        yield Finding("lost-by-push", lost)
        last = "a cosign signature that is added later breaks this one: cosign first, native last"
        yield Finding("cosign-first", last)


def already_signed(image: Sif, parts: Sequence[Part], store: KeyStore, purposes: frozenset[str]) -> tuple[Finding, ...]:
    """Return which of these parts a key of `store` has signed before, with just the same objects and purposes.

    Whether what was signed then is still what the image holds is not looked at: that would read all of it.
    """
    effort = dsse.Effort()
    members = groups_of(image)
    signatures = read_signatures(image, tuple(each for each in image.descriptors if each.is_signature))
    opened = [open_signature(signature, store, effort) for signature in signatures]
    found: list[Finding] = []
    for part in parts:
        again = [each.signature.descriptor.id for each in opened if _covers(each, part, members, purposes)]
        if again:
            what = f"group {part.group}" if part.whole else f"objects {_listed(part.ids)}"
            message = f"this key has signed {what} before (signature {_listed(again)}); one key counts once"
            found.append(Finding("signed-before", message))
    return tuple(found)


def _single(image: Sif, members: dict[int, tuple[Descriptor, ...]], objects: Sequence[int]) -> list[Part]:
    by_id = {each.id: each for each in image.descriptors}
    chosen: dict[int, set[int]] = {}
    for identity in objects:
        if identity not in by_id:
            raise SigningError(f"integrity: object not found: {identity}; there are: {_listed(by_id)}")
        if by_id[identity].group not in members:
            raise SigningError(f"integrity: invalid group ID: object {identity} is in no object group")
        chosen.setdefault(by_id[identity].group, set()).add(identity)
    return [
        Part(group, tuple(each for each in members[group] if each.id in ids), whole=len(ids) == len(members[group]))
        for group, ids in sorted(chosen.items())
    ]


def _covers(opened: Opened, part: Part, members: Groups, purposes: frozenset[str]) -> bool:
    """Return whether a signature by one of the keys says just what a new one would."""
    descriptor = opened.signature.descriptor
    if opened.failure is not None or not descriptor.links_group or descriptor.link != part.group:
        return False
    if not isinstance(opened.statement, Metadata) or all(key.purposes != purposes for key in opened.keys):
        return False
    listed = absolute_ids(opened.statement, members.get(part.group, ()))
    return listed is not None and set(listed) == set(part.ids)


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
