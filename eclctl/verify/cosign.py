"""cosign signatures of an OCI-SIF: what they prove, and the mirror of the reference's `verify --cosign`.

A signature counts for the one image of the file (`sif.oci_sif`):

1. Its payload is read, compared with the digest that the cosign manifest states, and tried with the keys. What no key
   verified is a `Failure`, and so is a payload that says nothing.
2. The payload must name the image's manifest, and the way from there to config and layers must be sound.
3. Only then config, layers and what carries the signatures are hashed, each object once.

A signature that a key verified and that fails in 2 or 3 is a claim over other content: a mismatch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from eclctl.model import Claim, Failure, OciContent
from eclctl.sif import oci_sif
from eclctl.sif.oci_sif import Attachment, AttachmentKind, Blob, Layout
from eclctl.sif.reader import DataType, Sif, read
from eclctl.signature import cosign
from eclctl.signature.dsse import Effort
from eclctl.signature.keys import PublicKey
from eclctl.terms import Finding, KeyRef, Kind, SignatureFormat, SignerKind
from eclctl.trust.signer_types.cosign_key import cosign_name
from eclctl.verify.content import Need, Plan
from eclctl.verify.hashing import HashPool, Want, hash_objects
from eclctl.verify.reference import ReferenceSignature

MAX_SIGNATURES = 256
"""The most cosign signatures of an image that are looked at."""

_COSIGN = SignatureFormat.COSIGN
_NO_VALID = Finding("no-valid-signatures", "no valid signatures found")
_NOT_OCI = Finding("not-oci-sif", "not an OCI-SIF")
_SEVERAL = Finding("several-manifests", "several cosign manifests for one image")
_TOO_MANY = Finding("too-many", f"only {MAX_SIGNATURES} cosign signatures are looked at")


class CosignSignature(NamedTuple):
    """A signature that is attached to the image. `object` is the ID of its payload, or of the manifest without one.

    `key` verified it and `payload` is what it says, unless `finding` says why it counts for nothing.
    """

    object: int
    key: PublicKey | None = None
    payload: cosign.Payload | None = None
    finding: Finding | None = None


class CosignInspection(NamedTuple):
    """What can be said of the cosign signatures of an OCI-SIF before config and layers are hashed.

    `plan` tells whether the image is what its manifest says; its objects are what a claim covers. `signatures` are
    those of the image, in the order of its cosign manifest; `failures` what counts for nothing.
    """

    layout: Layout
    plan: Plan
    signatures: tuple[CosignSignature, ...]
    failures: tuple[Failure, ...]

    @property
    def wants(self) -> tuple[Want, ...]:
        """The digests that are needed: none unless a key verified that the image is approved, and it can be."""
        if self.plan.finding is not None or not any(self._names_the_image(signature) for signature in self.signatures):
            return ()
        return (*(need.want for need in self.plan.needs), *(_want(identity) for identity in self._carried))

    def claims(self, hashed: Mapping[Want, bytes]) -> Iterator[Claim]:
        """Yield what each verified signature covers, once the wanted digests are there."""
        changed = self.plan.conclude(hashed) if self.wants else self.plan.finding
        covered = frozenset(self.plan.objects)
        for signature in self.signatures:
            if signature.key is None or signature.payload is None:
                continue
            mismatch = changed if self._names_the_image(signature) else _other_image(signature.payload)
            name = cosign_name(signature.key)
            yield Claim(
                signature=signature.object,
                format=_COSIGN,
                signer=KeyRef(SignerKind.COSIGN, name),
                key=name,
                group=None,
                objects=frozenset() if mismatch else covered,
                whole_group=False,
                header=False,
                mismatch=mismatch,
                annotations=signature.payload.annotations,
                repository=signature.payload.repository,
                purposes=signature.payload.purposes,
            )

    def content(self, hashed: Mapping[Want, bytes]) -> OciContent | None:
        """Return what the file runs; None when it is not exactly one sound image.

        A carrier whose digest is known and is not as stated carries nothing.
        """
        image = self.layout.image
        if image is None or image.problem is not None:
            return None
        carriers = {self.layout.root}
        for identity, digest in self._carried.items():
            found = hashed.get(_want(identity))
            if found is None or f"sha256:{found.hex()}" == digest:
                carriers.add(identity)
        subject = frozenset(self.plan.objects)
        return OciContent(image.digest, subject, frozenset(carriers) - subject)

    @property
    def _carried(self) -> Mapping[int, str]:
        return dict(each for attachment in self.layout.attachments for each in attachment.carries)

    def _names_the_image(self, signature: CosignSignature) -> bool:
        image = self.layout.image
        return signature.payload is not None and image is not None and signature.payload.digest == image.digest


class CosignReport(NamedTuple):
    """How an image came out. `error` is the reference's: the first thing wrong, or None.

    `blobs` is how many were hashed and `damaged` names those that are not what they state. `digest` is the image's,
    "" when it was not found, and `associated` how many signatures it has. `payloads` are the valid ones as JSON values,
    in file order; `signatures` are all that are attached to the image, and those in an unsupported format.
    """

    error: Finding | None
    blobs: int = 0
    damaged: tuple[Finding, ...] = ()
    digest: str = ""
    associated: int = 0
    payloads: tuple[dict[str, Any], ...] = ()
    signatures: tuple[ReferenceSignature, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether every blob is sound and a signature of the image is valid."""
        return self.error is None


def inspect_signatures(sif: Sif, keys: Sequence[PublicKey], effort: Effort) -> CosignInspection:
    """Find the cosign signatures of an OCI-SIF and try the keys.

    Args:
        sif: An open image of the kind OCI-SIF.
        keys: The keys that are listed for cosign signatures.
        effort: Shared by all signatures of the image.

    Raises:
        BusyImageError, UnreadableImageError: As `Sif.data`.
    """
    layout = oci_sif.read_layout(sif)
    attached = () if layout.image is None else layout.attached_to(layout.image.digest, AttachmentKind.SIGNATURES)
    signatures: tuple[CosignSignature, ...] = ()
    if len(attached) == 1:
        opener = _Opener(sif, keys, effort, attached[0].manifest)
        signatures = tuple(opener.open(layer) for layer in _simple(attached[0])[:MAX_SIGNATURES])
    unverified = (Failure(each.object, _COSIGN, each.finding) for each in signatures if each.finding is not None)
    return CosignInspection(layout, _plan(layout), signatures, (*_refused(layout, attached), *unverified))


def verify_cosign(fd: int, keys: Sequence[PublicKey], *, pool: HashPool | None = None) -> CosignReport:
    """Verify the OCI-SIF on an open descriptor as the reference's `verify --cosign` would.

    Every blob must be what its descriptor states, and one signature of the image valid with one of the keys.

    Args:
        fd: Open for reading.
        keys: At least one.
        pool: Threads that hash large blobs in parallel.

    Raises:
        MalformedImageError, BusyImageError, UnreadableImageError, UnsupportedFileError: As `sif.reader.read`.
    """
    sif = read(fd)
    if sif.kind is not Kind.OCI_SIF:
        return CosignReport(_NOT_OCI)
    blobs, damaged = _damaged(sif, pool)
    inspection = inspect_signatures(sif, keys, Effort())
    image = inspection.layout.image
    unsound = next(iter(damaged), None) or _not_fetched(inspection.layout) or inspection.plan.finding
    objects = tuple(sorted(inspection.plan.objects))
    reports = [(each, _report(each, image.digest, unsound, objects)) for each in inspection.signatures if image]
    payloads = tuple(each.payload.document for each, report in reports if report.valid and each.payload is not None)
    several = image is not None and len(inspection.layout.signatures_of(image.digest)) > 1
    error = unsound or (_SEVERAL if several else None) or (None if payloads else _NO_VALID)
    bundles = [ReferenceSignature(each, _COSIGN, None, (), cosign.UNSUPPORTED) for each in inspection.layout.bundles]
    signatures = (*(report for _, report in reports), *bundles)
    digest = image.digest if image else ""
    return CosignReport(error, blobs, damaged, digest, len(inspection.signatures), payloads, signatures)


def _plan(layout: Layout) -> Plan:
    image = layout.image
    if image is None or image.problem is not None or image.manifest.object is None:
        return Plan((), finding=layout.problem if image is None else image.problem)
    digests = {part.object.id: part.content.digest for part in image.parts if part.object is not None}
    needs = [
        Need(_want(each), bytes.fromhex(digest.removeprefix("sha256:")), _changed(each))
        for each, digest in digests.items()
    ]
    return Plan((image.manifest.object.id, *digests), tuple(needs))


class _Opener:
    """The signatures of one cosign manifest. Each payload is read and hashed once, however many sign it."""

    def __init__(self, sif: Sif, keys: Sequence[PublicKey], effort: Effort, manifest: Blob) -> None:
        self._sif = sif
        self._keys = keys
        self._effort = effort
        self._manifest = manifest
        self._payloads: dict[int, bytes | Finding] = {}

    def open(self, layer: Blob) -> CosignSignature:
        """Return what a layer's signature is worth by itself."""
        holder = layer.object or self._manifest.object
        identity = 0 if holder is None else holder.id
        payload = self._read(layer)
        if isinstance(payload, Finding):
            return CosignSignature(identity, finding=payload)
        key = cosign.verify_payload(payload, layer.content.annotations.get(cosign.ANNOTATION), self._keys, self._effort)
        if isinstance(key, Finding):
            return CosignSignature(identity, finding=key)
        said = cosign.parse_payload(payload)
        if isinstance(said, Finding):
            return CosignSignature(identity, finding=said)
        return CosignSignature(identity, key, said)

    def _read(self, layer: Blob) -> bytes | Finding:
        if layer.object is None or layer.problem is not None:
            return layer.problem or _NO_VALID
        if layer.object.size > oci_sif.MAX_PAYLOAD:
            return Finding("too-large", f"larger than the {oci_sif.MAX_PAYLOAD} bytes that a cosign payload may have")
        if layer.object.id not in self._payloads:
            data = bytes(self._sif.data(layer.object))
            sound = f"sha256:{hashlib.sha256(data).hexdigest()}" == layer.content.digest
            self._payloads[layer.object.id] = data if sound else _changed(layer.object.id)
        return self._payloads[layer.object.id]


def _simple(attachment: Attachment) -> list[Blob]:
    return [layer for layer in attachment.layers if layer.content.media_type == oci_sif.SIMPLE_SIGNING]


def _refused(layout: Layout, attached: Sequence[Attachment]) -> Iterator[Failure]:
    """Yield what is wrong with the file or with whole cosign manifests."""
    if layout.problem is not None:
        yield Failure(layout.root, _COSIGN, layout.problem)
    elif layout.image is not None and layout.image.problem is not None:
        yield Failure(_holder(layout, layout.image.manifest), _COSIGN, layout.image.problem)
    for identity in layout.bundles:
        yield Failure(identity, _COSIGN, cosign.UNSUPPORTED)
    for attachment in layout.attachments:
        finding = _refusal(attachment, attached)
        if finding is not None:
            yield Failure(_holder(layout, attachment.manifest), _COSIGN, finding)


def _refusal(attachment: Attachment, attached: Sequence[Attachment]) -> Finding | None:
    if attachment.problem is not None:
        return attachment.problem
    if attachment.kind is not AttachmentKind.SIGNATURES:
        return None
    if attachment not in attached:
        return Finding("other-image", f"{attachment.name[:96]!r} holds signatures of another image")
    if len(attached) > 1:
        return _SEVERAL
    return _TOO_MANY if len(_simple(attachment)) > MAX_SIGNATURES else None


def _holder(layout: Layout, blob: Blob) -> int:
    return layout.root if blob.object is None else blob.object.id


def _want(identity: int) -> Want:
    return Want("sha256", (identity,))


def _changed(identity: int) -> Finding:
    return Finding("data-changed", f"data object integrity compromised: {identity}")


def _other_image(payload: cosign.Payload) -> Finding:
    return Finding("other-image", f"the signature is over another image, {payload.digest}")


def _report(
    signature: CosignSignature, digest: str, unsound: Finding | None, objects: tuple[int, ...]
) -> ReferenceSignature:
    """Return how a signature came out on the command line, where a key goes by its own name."""
    signer = None if signature.key is None else KeyRef(SignerKind.COSIGN, signature.key.id)
    error = signature.finding
    if error is None and signature.payload is not None and signature.payload.digest != digest:
        error = _other_image(signature.payload)
    error = error or unsound
    return ReferenceSignature(signature.object, _COSIGN, signer, () if error else objects, error)


def _not_fetched(layout: Layout) -> Finding | None:
    """Return why the reference would not find the image; it looks for one without a name, though a named one runs."""
    problem = layout.problem
    if layout.image is not None and layout.image.name:
        problem = Finding("no-image", "no matching image / index found")
    return problem and Finding(problem.code, f"while fetching image from OCI-SIF: {problem.message}")


def _damaged(sif: Sif, pool: HashPool | None) -> tuple[int, tuple[Finding, ...]]:
    """Hash every blob; return how many there are, and what is wrong with each that is not what it states."""
    blobs = [descriptor for descriptor in sif.descriptors if descriptor.type == DataType.OCI_BLOB]
    hashed = hash_objects(sif, [_want(descriptor.id) for descriptor in blobs], pool=pool)
    findings = []
    for descriptor in blobs:
        stated, found = oci_sif.stated_digest(descriptor), f"sha256:{hashed[_want(descriptor.id)].hex()}"
        if stated is None:
            message = f"failed to fetch digest: object {descriptor.id} states none"
            findings.append(Finding("bad-digest", message))
        elif stated != found:
            message = f'OCI blob digest mismatch: expected "{stated}", found "{found}"'
            findings.append(Finding("data-changed", message))
    return len(blobs), tuple(findings)
