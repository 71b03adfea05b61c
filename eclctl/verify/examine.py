"""What an image's signatures prove, for the policy engine: facts, which hold at all times.

For every signature object of the image:

1. Read and recognize it, within bounds; open it with the keys of the store. What no key verified is a `Failure`.
2. Find what it is linked to. A link to nothing, a statement that is none, and a PGP signature whose descriptor names
   another key are failures too.
3. Compare the statement with header and descriptors, and only where those agree ask for digests of data.
4. Hash every object that was asked for once, then say for each key what its signature covers: a `Claim`. When
   anything it covers is not as signed, the claim is a mismatch and covers nothing.

A legacy signature always gives claims of its own format; the policy decides whether they count. The cosign signatures
of an OCI-SIF are claims and failures beside the others (`verify.cosign`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from eclctl.model import Claim, DataObject, Failure, Verification
from eclctl.sif.reader import Descriptor, Sif, read
from eclctl.signature.dsse import Effort
from eclctl.signature.metadata import Digest, Metadata
from eclctl.terms import Finding, Kind
from eclctl.trust.keyring import KeyStore
from eclctl.verify import cosign
from eclctl.verify.content import Groups, Plan, absolute_ids, groups_of, plan_legacy, plan_objects, signed_set
from eclctl.verify.hashing import DigestCache, HashPool, Want, hash_objects
from eclctl.verify.opening import Opened, open_signature, read_signatures


class _Candidate(NamedTuple):
    """A signature that some key made, and what is left to check of it."""

    opened: Opened
    plan: Plan
    group: int | None
    whole_group: bool
    header: bool


def examine(
    image: int | Sif,
    store: KeyStore,
    *,
    pool: HashPool | None = None,
    digests: bool = False,
    known: DigestCache | None = None,
) -> Verification:
    """Return everything that the signatures of a SIF image prove.

    Args:
        image: A descriptor open for reading, which stays open and whose position is not moved; or an image that has
            been read, or that is as it will be once it has been edited.
        store: The keys that may verify a signature. The facts hold for every store with the same digest.
        pool: Threads that hash large objects in parallel.
        digests: Whether to find the SHA-256 of every data object, needed by a signature or not.
        known: Digests found before in exactly this content.

    Raises:
        MalformedImageError: The image's structure contradicts itself.
        BusyImageError: The image changed while it was read.
        UnreadableImageError, UnsupportedFileError: It cannot be read.
    """
    sif = read(image) if isinstance(image, int) else image
    groups = groups_of(sif)
    objects = _objects(sif)
    effort = Effort()
    signatures = read_signatures(sif, (descriptor for descriptor in sif.descriptors if descriptor.is_signature))
    opened = [open_signature(signature, store, effort) for signature in signatures]
    candidates, failures = _sorted_out(sif, groups, opened)
    oci = cosign.inspect_signatures(sif, store.cosign, effort) if sif.kind is Kind.OCI_SIF else None
    wants = [need.want for candidate in candidates for need in candidate.plan.needs]
    wants += oci.wants if oci is not None else ()
    if digests:
        wants += [Want("sha256", (item.id,)) for item in objects]
    hashed = hash_objects(sif, wants, pool=pool, known=known) if wants else {}
    native = (claim for candidate in candidates for claim in _claims(candidate, hashed))
    return Verification(
        kind=sif.kind,
        objects=objects,
        groups={group: frozenset(item.id for item in members) for group, members in groups.items()},
        tied=sif.header.tied,
        claims=(*native, *(oci.claims(hashed) if oci is not None else ())),
        failures=(*failures, *(oci.failures if oci is not None else ())),
        digests={
            want.objects[0]: f"sha256:{digest.hex()}"
            for want, digest in hashed.items()
            if want.algorithm == "sha256" and len(want.objects) == 1
        },
        oci=oci.content(hashed) if oci is not None else None,
    )


def _objects(sif: Sif) -> tuple[DataObject, ...]:
    """Return the data objects. A signature inside a group is one of them: the group's signers must cover it."""
    return tuple(
        DataObject(item.id, item.group, item.holds, item.size, item.name)
        for item in sif.descriptors
        if item.group or not item.is_signature
    )


def _sorted_out(sif: Sif, groups: Groups, signatures: Iterable[Opened]) -> tuple[list[_Candidate], list[Failure]]:
    """Part the signatures that some key made from those that count for nothing."""
    candidates: list[_Candidate] = []
    failures: list[Failure] = []
    for opened in signatures:
        found = _candidate(sif, groups, opened)
        if isinstance(found, Finding):
            failures.append(Failure(opened.signature.descriptor.id, opened.signature.format, found))
        else:
            candidates.append(found)
    return candidates, failures


def _candidate(sif: Sif, groups: Groups, opened: Opened) -> _Candidate | Finding:
    if opened.failure is not None or opened.statement is None:
        return opened.failure or opened.defect or Finding("unrecognized", "the signature says nothing")
    if opened.fingerprint is not None:
        return opened.fingerprint
    descriptor = opened.signature.descriptor
    if isinstance(opened.statement, Digest):
        return _legacy_candidate(sif, groups, opened, opened.statement)
    members = groups.get(descriptor.link, ()) if descriptor.links_group else ()
    if not members:
        return _linked_to_nothing(descriptor)
    return _modern_candidate(sif, members, opened, opened.statement)


def _modern_candidate(
    sif: Sif, members: Sequence[Descriptor], opened: Opened, statement: Metadata
) -> _Candidate | Finding:
    """A signature over a group, or over some of its objects (`sign --sif-id`)."""
    signed = absolute_ids(statement, members)
    if signed is None:
        return Finding("bad-metadata", "relativeId leads past the last object ID")
    listed = frozenset(signed)
    covered = tuple(member for member in members if member.id in listed)
    missing = signed_set(signed, members, exactly=False)
    plan = Plan((), finding=missing) if missing else plan_objects(sif, statement, signed, covered)
    if plan.finding is not None:  # header or descriptors differ already: no data need be read
        plan = Plan(plan.objects, (), plan.finding)
    whole = missing is None and len(covered) == len(members)
    return _Candidate(opened, plan, opened.signature.descriptor.link, whole, header=True)


def _legacy_candidate(sif: Sif, groups: Groups, opened: Opened, statement: Digest) -> _Candidate | Finding:
    descriptor = opened.signature.descriptor
    if descriptor.links_group:
        members = groups.get(descriptor.link, ())
        if not members:
            return _linked_to_nothing(descriptor)
        plan = plan_legacy(statement, members, single=False)
        return _Candidate(opened, plan, descriptor.link, whole_group=True, header=False)
    linked = [item for item in sif.descriptors if item.id == descriptor.link]
    if not linked:
        return _linked_to_nothing(descriptor)
    return _Candidate(opened, plan_legacy(statement, linked, single=True), None, whole_group=False, header=False)


def _linked_to_nothing(descriptor: Descriptor) -> Finding:
    what = "object group" if descriptor.links_group else "object"
    return Finding("wrong-link", f"linked to {what} {descriptor.link}, which it cannot sign")


def _claims(candidate: _Candidate, hashed: Mapping[Want, bytes]) -> Iterable[Claim]:
    mismatch = candidate.plan.conclude(hashed)
    signature = candidate.opened.signature
    for key in candidate.opened.keys:
        yield Claim(
            signature=signature.descriptor.id,
            format=signature.format,
            signer=key.signer,
            key=key.key,
            group=candidate.group,
            objects=frozenset() if mismatch else frozenset(candidate.plan.objects),
            whole_group=candidate.whole_group and mismatch is None,
            header=candidate.header and mismatch is None,
            created=key.created,
            expires=key.expires,
            mismatch=mismatch,
            purposes=key.purposes,
        )
