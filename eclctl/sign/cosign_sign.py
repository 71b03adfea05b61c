"""cosign signatures inside an OCI-SIF, as SingularityCE makes them.

1. The image is the one that would run (`sif.oci_sif`); where there is not exactly one, nothing is signed.
2. Every blob is hashed, and must be what its descriptor states: damage is not signed.
3. A payload that names the image's manifest is signed by each key, and each signature is a layer of the one manifest
   that the root index calls `_cosign:sha256-….sig`: added to those that are there. That manifest, its config and the
   root index are written anew, and what they take the place of is removed, unless something else still names it.
4. Before anything is written, the file as it will be is verified with the public halves of the keys.

Payloads, config and manifest are OCI.Blob objects and the root index an OCI.RootIndex object, all of group 1, without
name or link, their digest in the extra field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from eclctl.dataclass import dataclass
from eclctl.errors import SigningError
from eclctl.sif import oci_sif
from eclctl.sif.oci import Manifest, parse_manifest
from eclctl.sif.oci_sif import Attachment, Image, Layout
from eclctl.sif.reader import DataType, Descriptor, Sif
from eclctl.sign.cosign_documents import MANIFEST_TYPE, config_with, layer, manifest_with, payload, root_with
from eclctl.sign.edit.editing import Edit, Editing, NewObject, Progress
from eclctl.sign.new_oci_sif import oci_digest
from eclctl.sign.pem import PrivateKey
from eclctl.signature.dsse import Effort
from eclctl.terms import Kind
from eclctl.verify.cosign import MAX_SIGNATURES, inspect_signatures
from eclctl.verify.hashing import DigestCache, Want, hash_objects

_GROUP = 1
_TYPES = frozenset({DataType.OCI_BLOB, DataType.OCI_ROOT_INDEX})


@dataclass(frozen=True, slots=True)
class Subject:
    """An image that can be signed.

    `digest` is of its manifest, `signatures` the number of its cosign signatures until now, and `breaks` are the IDs of
    native signatures that one more of them breaks. `objects` are the IDs of what a signature covers: the manifest, the
    config, then the layers. `removes` are those of what gets another version.
    """

    digest: str
    objects: tuple[int, ...]
    signatures: int
    breaks: tuple[int, ...]
    removes: frozenset[int]
    root: int
    held: Attachment | None


@dataclass(frozen=True, slots=True)
class CosignSigned:
    """What was made: `digest` names the image's manifest, and `signatures` is how many cosign signatures it has now.

    `payload` is the ID of the object with what was signed.
    """

    digest: str
    signatures: int
    payload: int


Witness: TypeAlias = Callable[[DigestCache, Sif, DigestCache], None]
"""Gets the digests of the file until now, the signed one as it will be, and its digests."""


def signing_subject(image: Sif) -> Subject:
    """Return what there is to sign in a file.

    Raises:
        SigningError: It is no OCI-SIF, not exactly one image would run, or its signatures cannot be added to.
    """
    if image.kind is not Kind.OCI_SIF:
        raise SigningError("not an OCI-SIF: cosign signs OCI images; sign a SIF image without --cosign")
    layout = oci_sif.read_layout(image)
    found = _the_image(layout)
    attached = layout.signatures_of(found.digest)
    if len(attached) > 1:
        raise SigningError("several cosign manifests for one image; remove all but one first")
    held = attached[0] if attached else None
    _require_sound(held)
    removes = _superseded(image, layout, found, held)
    count = 0 if held is None else len(held.layers)
    blobs = (found.manifest, *found.parts)
    objects = tuple(dict.fromkeys(each.object.id for each in blobs if each.object is not None))
    return Subject(found.digest, objects, count, _broken(image, removes), removes, layout.root, held)


def repeated(image: Sif, keys: Iterable[PrivateKey], purpose: str | None) -> tuple[PrivateKey, ...]:
    """Return those keys that have signed the image with this purpose, or with none, before: each counts once."""
    wanted = frozenset() if purpose is None else frozenset({purpose})
    return tuple(key for key in keys if any(claim == wanted for claim in _purposes(image, key)))


def sign_cosign(
    edited: Editing,
    keys: Sequence[PrivateKey],
    optional: Mapping[str, str | int],
    now: datetime,
    *,
    progress: Progress | None = None,
    witness: Witness | None = None,
) -> CosignSigned:
    """Sign the image in a file with each key; the file is as it was unless this returns.

    Args:
        edited: The file.
        keys: At least one, each once.
        optional: What the payload says beside the image: creator, timestamp, purpose and other annotations.
        now: The time of the edit.
        progress: Is told of what has been read.
        witness: Sees the signed file before it is written, and can raise to leave everything as it was.

    Raises:
        SigningError: As `subject`, or a blob is not what its descriptor states, or the result does not verify.
        BusyImageError, UnreadableImageError, MalformedImageError: As `sign.edit.editing`.
    """
    what = signing_subject(edited.image)
    if what.signatures + len(keys) > MAX_SIGNATURES:
        raise SigningError(f"it has {what.signatures} cosign signatures; at most {MAX_SIGNATURES} are looked at")
    signed = payload(what.digest, optional)
    if len(signed) > oci_sif.MAX_PAYLOAD:
        raise SigningError(f"a payload of {len(signed)} bytes; at most {oci_sif.MAX_PAYLOAD} are read. Annotate less")
    blobs = _blobs(edited.image)
    hashed = edited.digests([each.id for each in blobs], ("sha256",), progress)
    known = {each.id: hashed[each.id, "sha256"] for each in blobs}
    _require_intact(blobs, known)
    edit = _edit(edited.image, what, signed, [layer(signed, key.sign(signed)) for key in keys])
    result: list[CosignSigned] = []

    def check(after: Sif) -> None:
        cache = _cache(known, what.removes)
        result.append(_checked(after, what, signed, keys, cache))
        if witness is not None:
            witness(_cache(known, frozenset()), after, cache)

    edited.commit(edit, now, check)
    return result[0]


def blob_ids(image: Sif) -> tuple[int, ...]:
    """Return the IDs of what is hashed before an image is signed."""
    return tuple(each.id for each in _blobs(image))


def _the_image(layout: Layout) -> Image:
    """Return the image that would run."""
    if layout.image is None:
        message = "there is no image" if layout.problem is None else layout.problem.message
        raise SigningError(f"while fetching image from OCI-SIF: {message}")
    if layout.image.problem is not None:
        raise SigningError(f"the image is damaged: {layout.image.problem.message}")
    if layout.image.name:
        # The reference looks for an image without a name, and would find none to verify.
        raise SigningError("while fetching image from OCI-SIF: no matching image / index found: the only one is named")
    return layout.image


def _require_sound(held: Attachment | None) -> None:
    """Require that what holds the signatures can be added to."""
    problems = () if held is None else (held.problem, *(each.problem for each in held.layers))
    problem = next((each for each in problems if each is not None), None)
    if problem is not None:
        raise SigningError(f"the cosign signatures of the image are damaged: {problem.message}")


def _require_intact(blobs: Iterable[Descriptor], known: Mapping[int, bytes]) -> None:
    for blob in blobs:
        stated, found = oci_sif.stated_digest(blob), f"sha256:{known[blob.id].hex()}"
        if stated != found:
            raise SigningError(
                f'OCI blob digest mismatch: expected "{stated or "none"}", found "{found}" in data object {blob.id};'
                " what is damaged is not signed"
            )


def _superseded(image: Sif, layout: Layout, found: Image, held: Attachment | None) -> frozenset[int]:
    """Return the IDs of root index, cosign manifest and its config: of those that nothing else names."""
    if held is None or held.manifest.object is None:
        return frozenset({layout.root})
    named = {found.digest, *(part.content.digest for part in found.parts)}
    named.update(each.content.digest for each in held.layers)
    for other in layout.attachments:
        if other.problem is not None:
            return frozenset({layout.root})  # what it names cannot be known
        if other is not held:
            layers = (each.content.digest for each in other.layers)
            named.update((other.manifest.content.digest, *layers, _config(image, other)))
    old = (held.manifest.content.digest, _config(image, held))
    gone = {each.id for each in _blobs(image) if oci_sif.stated_digest(each) in set(old) - named}
    return frozenset({layout.root, *gone})


def _config(image: Sif, attachment: Attachment) -> str:
    manifest = parse_manifest(_manifest(image, attachment))
    return manifest.config.digest if isinstance(manifest, Manifest) else ""


def _manifest(image: Sif, attachment: Attachment) -> bytes:
    return b"" if attachment.manifest.object is None else bytes(image.data(attachment.manifest.object))


def _broken(image: Sif, removes: frozenset[int]) -> tuple[int, ...]:
    """Return the native signatures over groups that change, and over objects that go away."""
    groups = {_GROUP, *(each.group for each in image.descriptors if each.id in removes)}
    return tuple(
        each.id
        for each in image.descriptors
        if each.is_signature and each.link in (groups if each.links_group else removes)
    )


def _edit(image: Sif, what: Subject, signed: bytes, layers: Sequence[Mapping[str, object]]) -> Edit:
    """Return what changes in the file: the objects in the order in which the reference writes them."""
    there = {oci_sif.stated_digest(each) for each in _blobs(image) if each.id not in what.removes}
    root = next(each for each in image.descriptors if each.id == what.root)
    held = () if what.held is None else tuple(each.content.digest for each in what.held.layers)
    old = None if what.held is None else _manifest(image, what.held)
    config = config_with(_old_config(image, what.held), held, [oci_digest(signed)] * len(layers))
    manifest = manifest_with(old, config, layers)
    media_type = MANIFEST_TYPE if what.held is None else what.held.manifest.content.media_type
    index = root_with(bytes(image.data(root)), oci_sif.signatures_name(what.digest), manifest, media_type)
    added = [_object(DataType.OCI_BLOB, each) for each in (signed, config, manifest) if oci_digest(each) not in there]
    return Edit((*added, _object(DataType.OCI_ROOT_INDEX, index)), what.removes, zero=True, compact=True)


def _old_config(image: Sif, held: Attachment | None) -> bytes | None:
    """Return the config of the manifest that holds the signatures until now."""
    if held is None:
        return None
    wanted = _config(image, held)
    found = [each for each in _blobs(image) if oci_sif.stated_digest(each) == wanted]
    if len(found) != 1 or found[0].size > oci_sif.MAX_DOCUMENT:
        raise SigningError(f"the config of the cosign manifest, {wanted}, is not there once, or is too large")
    return bytes(image.data(found[0]))


def _object(kind: DataType, data: bytes) -> NewObject:
    return NewObject(kind, data, group=_GROUP, extra=oci_digest(data).encode("ascii"))


def _checked(image: Sif, what: Subject, signed: bytes, keys: Sequence[PrivateKey], cache: DigestCache) -> CosignSigned:
    """Require that a file holds what was to be made: the same image, intact, with one signature more by each key."""
    blobs = _blobs(image)
    hashed = hash_objects(image, [_want(each.id) for each in blobs], known=cache)
    _require_intact(blobs, {each.id: hashed[_want(each.id)] for each in blobs})
    after = signing_subject(image)
    if (after.digest, after.signatures) != (what.digest, what.signatures + len(keys)):
        raise SigningError("the signed file does not hold what was to be signed; nothing was changed")
    for key in keys:
        if not _verifies(image, key, signed, cache):
            raise SigningError(f"the signature by {key.public.source} does not verify; nothing was changed")
    layers = {each.id for each in blobs if oci_sif.stated_digest(each) == oci_digest(signed)}
    return CosignSigned(after.digest, after.signatures, min(layers))


def _verifies(image: Sif, key: PrivateKey, signed: bytes, cache: DigestCache) -> bool:
    """Return whether a signature by `key` over exactly these bytes approves the image."""
    inspection = inspect_signatures(image, (key.public,), Effort())
    hashed = hash_objects(image, inspection.wants, known=cache)
    by_id = {each.id: each for each in image.descriptors}
    approving = [claim for claim in inspection.claims(hashed) if claim.mismatch is None]
    return any(bytes(image.data(by_id[claim.signature])) == signed for claim in approving)


def _purposes(image: Sif, key: PrivateKey) -> list[frozenset[str]]:
    """Return what the signatures by a key, that name the image, say that they are for."""
    inspection = inspect_signatures(image, (key.public,), Effort())
    found = inspection.layout.image
    payloads = [each.payload for each in inspection.signatures if each.payload is not None]
    return [each.purposes for each in payloads if found is not None and each.digest == found.digest]


def _blobs(image: Sif) -> list[Descriptor]:
    return [each for each in image.descriptors if each.type in _TYPES]


def _cache(known: Mapping[int, bytes], without: frozenset[int]) -> DigestCache:
    """Return what is known of a file's blobs, as verifying takes it."""
    return {_want(identity): found for identity, found in known.items() if identity not in without}


def _want(identity: int) -> Want:
    return Want("sha256", (identity,))
