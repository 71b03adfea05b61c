"""The mirror of the reference's `verify`: every signature in scope must pass, now.

Checks come in the reference's order, and their messages are its words, so that an administrator who knows one knows
the other. One thing differs: all failing signatures are reported, not the first alone.

1. The certificates given: each has a path to a trusted root at the time given, and is not revoked. Otherwise nothing
   else is looked at.
2. The scope: groups and objects that exist, and nothing outside every group.
3. For each group or object its signatures: at least one.
4. For each signature: format, key material, cryptography at the time given, statement, fingerprint in the descriptor.
5. The signed set (the group's, exactly, unless an object was asked for), the header, each descriptor and its data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from eclctl.sif.reader import Descriptor, Sif, read
from eclctl.signature.dsse import Effort
from eclctl.signature.metadata import Digest
from eclctl.terms import Finding, KeyRef, SignatureFormat
from eclctl.trust.keyring import KeyStore, judge_claim
from eclctl.trust.revocation import NO_STATUS, StatusSource
from eclctl.trust.signer_types import SIGNER_TYPES
from eclctl.verify.content import (
    Groups,
    Plan,
    absolute_ids,
    groups_of,
    not_signed,
    plan_legacy,
    plan_objects,
    signed_set,
)
from eclctl.verify.hashing import HashPool, hash_objects
from eclctl.verify.opening import (
    NOT_RECOGNIZED,
    OTHER_FINGERPRINT,
    Opened,
    SignatureData,
    SigningKey,
    open_signature,
    read_signatures,
)

_V4_BYTES = 20
_REVOCATION = frozenset({"revoked", "ocsp"})

OCSP_FAILED = "OCSP verification has failed"
"""What the reference says of a certificate that is not known to be good."""


class CheckedObjects(NamedTuple):
    """What to verify. Without groups and objects: every group, or with `legacy` the primary system partition.

    `groups` and `objects` are numbers above 0. `legacy` looks at legacy signatures instead of modern ones, and
    `every_object` then at one signature for each object.
    """

    groups: frozenset[int] = frozenset()
    objects: frozenset[int] = frozenset()
    legacy: bool = False
    every_object: bool = False


class GivenKeys(NamedTuple):
    """The keys, and which sorts of keys were given at all: a signature of another sort fails for want of them.

    `has_keys` is for keys that verify DSSE envelopes, PEM keys and certificates. `statuses` is what is known of whether
    the certificates of the store were revoked; no responder is asked here.
    """

    store: KeyStore
    has_keyring: bool
    has_keys: bool
    statuses: StatusSource = NO_STATUS


class ReferenceSignature(NamedTuple):
    """How one signature object came out. `signer` is the key that made it, known also when it does not count.

    `objects` are the IDs of the data objects that a valid signature verified in this scope. `error` is None when valid.
    """

    id: int
    format: SignatureFormat
    signer: KeyRef | None
    objects: tuple[int, ...]
    error: Finding | None

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.error is None


class ReferenceReport(NamedTuple):
    """How an image came out. `error` is the reference's: the first thing wrong, or None.

    `signatures` holds every signature in scope, once, in the order of groups and objects; `descriptors` the image's,
    for tables. `note` is a sentence that says more than the reference's words do, or "".
    """

    error: Finding | None
    signatures: tuple[ReferenceSignature, ...] = ()
    descriptors: tuple[Descriptor, ...] = ()
    note: str = ""

    @property
    def verified(self) -> bool:
        """Whether everything in scope is signed and every signature valid."""
        return self.error is None


class _Task(NamedTuple):
    """A group or an object that must be signed. `objects` are what its signatures must cover."""

    group: int
    objects: tuple[Descriptor, ...]
    single: bool
    legacy: bool


class _Check(NamedTuple):
    """One signature of one task. `plan` is what is left to check of it, None when `error` came first."""

    signature: SignatureData
    signer: KeyRef | None
    plan: Plan | None = None
    error: Finding | None = None


def verify_scope(
    fd: int, material: GivenKeys, scope: CheckedObjects, now: datetime, *, pool: HashPool | None = None
) -> ReferenceReport:
    """Verify the SIF image on an open descriptor as the reference would.

    Args:
        fd: Open for reading.
        material: The keys.
        scope: What to verify.
        now: Aware, UTC.
        pool: Threads that hash large objects in parallel.

    Raises:
        MalformedImageError, BusyImageError, UnreadableImageError, UnsupportedFileError: As `sif.reader.read`.
    """
    sif = read(fd)
    refused_key = _refused_key(sif, material, now)
    if refused_key is not None:
        return refused_key
    groups = groups_of(sif)
    tasks = _tasks(sif, groups, scope)
    if isinstance(tasks, Finding):
        return ReferenceReport(tasks, (), sif.descriptors)
    if any(not descriptor.group and not descriptor.is_signature for descriptor in sif.descriptors):
        loose = _integrity("ungrouped-object", "non-signature object not associated with object group")
        return ReferenceReport(loose, (), sif.descriptors)
    session = _Session(sif, groups, material, now)
    steps: list[Finding | _Check] = []
    for task in tasks:
        signatures = session.signatures(task)
        steps += [session.check(task, signature) for signature in signatures]
        if not signatures:
            steps.append(_signature_not_found(task))
    return _report(sif, steps, pool)


def _refused_key(sif: Sif, material: GivenKeys, now: datetime) -> ReferenceReport | None:
    """Return what is reported when a certificate that was given does not count now; None when all do."""
    given = (KeyRef(kind, name) for kind, listed in material.store.listed.items() for name in listed)
    judged = (judge_claim(material.store, SigningKey(ref, ref.id), now, material.statuses) for ref in given)
    finding = next((each for each in judged if each is not None), None)
    if finding is None:
        return None
    if finding.code in _REVOCATION:
        return ReferenceReport(Finding(finding.code, OCSP_FAILED), (), sif.descriptors, finding.message)
    return ReferenceReport(finding, (), sif.descriptors)


def _tasks(sif: Sif, groups: Groups, scope: CheckedObjects) -> list[_Task] | Finding:
    """Return what must be signed, groups before objects, each in order; or why the scope is empty."""
    identities = set(scope.objects)
    if scope.legacy and scope.every_object:
        identities |= {item.id for item in sif.descriptors if item.group and not item.is_signature}
    elif scope.legacy and not scope.groups and not identities:
        identities = {descriptor.id for descriptor in sif.descriptors if descriptor.is_primary_partition}
        if len(identities) != 1:
            return Finding("object-not-found", "multiple objects found" if identities else "object not found")
    wanted = sorted(scope.groups)
    if not wanted and not identities:
        wanted = sorted(groups)
        if not wanted:
            return _integrity("no-groups", "no groups found")
    if sif.header.free == sif.header.total:
        return _integrity("no-objects", "no objects in image")
    return _selected(sif, groups, wanted, sorted(identities), legacy=scope.legacy)


def _selected(
    sif: Sif, groups: Groups, wanted: Iterable[int], identities: Iterable[int], *, legacy: bool
) -> list[_Task] | Finding:
    tasks = []
    for group in wanted:
        if not groups.get(group, ()):
            return _integrity("group-not-found", "group not found")
        tasks.append(_Task(group, tuple(groups.get(group, ())), single=False, legacy=legacy))
    by_id = {descriptor.id: descriptor for descriptor in sif.descriptors}
    for identity in identities:
        if identity not in by_id:
            return _integrity("object-not-found", "object not found")
        tasks.append(_Task(by_id[identity].group, (by_id[identity],), single=True, legacy=legacy))
    return tasks


def _signature_not_found(task: _Task) -> Finding:
    if not task.legacy or not task.single:
        if not task.group:  # a signature was asked for by its ID
            return Finding("group-not-found", "invalid group ID")
        return Finding("signature-not-found", f"signature not found for object group {task.group}")
    return Finding("signature-not-found", f"signature not found for object {task.objects[0].id}")


def _integrity(code: str, message: str) -> Finding:
    return Finding(code, f"integrity: {message}")


class _Session:
    """The signature objects of one image, each read and verified once, when a task needs it."""

    def __init__(self, sif: Sif, groups: Groups, material: GivenKeys, now: datetime) -> None:
        self._sif = sif
        self._groups = groups
        self._material = material
        self._now = now
        self._loaded = read_signatures(sif, (descriptor for descriptor in sif.descriptors if descriptor.is_signature))
        self._opened: dict[int, Opened] = {}
        self._effort = Effort()

    def signatures(self, task: _Task) -> list[SignatureData]:
        """Return the signatures that a task selects, in table order."""
        return [signature for signature in self._loaded if _selects(task, signature)]

    def check(self, task: _Task, signature: SignatureData) -> _Check:
        """Do everything for one signature of a task but hashing data."""
        opened = self._open(signature, legacy=task.legacy)
        signer = opened.keys[0].signer if opened.keys else None
        store, statuses = self._material.store, self._material.statuses
        judged = (judge_claim(store, key, self._now, statuses) for key in opened.keys)
        refused = next((finding for finding in judged if finding is not None), None)
        error = _failure(opened, refused, legacy=task.legacy)
        if error is not None or opened.statement is None:
            return _Check(signature, signer, error=error or NOT_RECOGNIZED)
        if isinstance(opened.statement, Digest):
            return _Check(signature, signer, plan_legacy(opened.statement, task.objects, single=task.single))
        signed = absolute_ids(opened.statement, self._groups.get(task.group, ()))
        if signed is None:
            return _Check(signature, signer, error=_not_valid(signature, _PAST_LAST_ID))
        if task.single:
            error = None if task.objects[0].id in signed else not_signed(task.objects[0].id)
        else:
            error = signed_set(signed, task.objects, exactly=True)
        plan = None if error is not None else plan_objects(self._sif, opened.statement, signed, task.objects)
        return _Check(signature, signer, plan, error)

    def _open(self, signature: SignatureData, *, legacy: bool) -> Opened:
        missing = self._missing_material(signature.format)
        if missing is not None:
            return Opened(signature, missing)
        identity = signature.descriptor.id
        if identity not in self._opened:
            store = self._material.store
            self._opened[identity] = open_signature(signature, store, self._effort, legacy_statement=legacy)
        return self._opened[identity]

    def _missing_material(self, kind: SignatureFormat) -> Finding | None:
        if kind is SignatureFormat.DSSE and not self._material.has_keys:
            return Finding("no-key-material", "key material not provided for DSSE envelope signature")
        if kind in {SignatureFormat.PGP, SignatureFormat.LEGACY} and not self._material.has_keyring:
            return Finding("no-key-material", "key material not provided for PGP clear-sign signature")
        return None


def _selects(task: _Task, signature: SignatureData) -> bool:
    descriptor = signature.descriptor
    if task.legacy and task.single:
        return not descriptor.links_group and descriptor.link == task.objects[0].id
    if not descriptor.links_group or descriptor.link != task.group or not task.group:
        return False
    return (signature.format is SignatureFormat.LEGACY) == task.legacy


_PAST_LAST_ID = Finding("bad-metadata", "relativeId leads past the last object ID")
_BARE = frozenset({"unrecognized", "unsupported-hash", "no-key-material"})


def _failure(opened: Opened, judged: Finding | None, *, legacy: bool) -> Finding | None:
    """Return the first thing wrong with a signature by itself, in the reference's order and words."""
    signature = opened.signature
    if opened.failure is not None:
        return opened.failure if opened.failure.code in _BARE else _not_valid(signature, opened.failure)
    if judged is not None:
        return _not_valid(signature, judged)
    if opened.defect is not None and not legacy:
        return _not_valid(signature, opened.defect)
    named = (SIGNER_TYPES[key.signer.kind].descriptor_fingerprint(key.signer.id) for key in opened.keys)
    # The reference compares 20 bytes of fingerprint, so a key whose fingerprint has 32 never matches there.
    too_long = OTHER_FINGERPRINT if any(each is not None and len(each) != _V4_BYTES for each in named) else None
    return opened.fingerprint or too_long or opened.defect


def _not_valid(signature: SignatureData, finding: Finding) -> Finding:
    return Finding(finding.code, f"signature object {signature.descriptor.id} not valid: {finding.message}")


def _report(sif: Sif, steps: Sequence[Finding | _Check], pool: HashPool | None) -> ReferenceReport:
    """Hash what is still needed and put the results together, the first error first."""
    checks = [step for step in steps if isinstance(step, _Check)]
    wants = [need.want for check in checks if check.plan for need in check.plan.needs]
    digests = hash_objects(sif, wants, pool=pool)
    reports: dict[int, ReferenceSignature] = {}
    first: Finding | None = None
    for step in steps:
        if isinstance(step, Finding):
            first = first or step
            continue
        error = step.error if step.plan is None else step.plan.conclude(digests)
        first = first or error
        objects = step.plan.objects if step.plan is not None and error is None else ()
        found = step.signature
        report = ReferenceSignature(found.descriptor.id, found.format, step.signer, objects, error)
        reports[report.id] = _merged(reports.get(report.id), report)
    if first is not None:
        first = _integrity(first.code, first.message)
    return ReferenceReport(first, tuple(reports.values()), sif.descriptors)


def _merged(before: ReferenceSignature | None, report: ReferenceSignature) -> ReferenceSignature:
    """Put together what a signature is worth for several tasks."""
    if before is None:
        return report
    error = before.error or report.error
    objects = () if error else tuple(sorted({*before.objects, *report.objects}))
    return ReferenceSignature(report.id, report.format, before.signer or report.signer, objects, error)
