"""OCI-SIF: which image in a SIF with OCI blobs a launcher runs, and what is attached to it.

Rules of this module (docs/decisions/0009-what-runs-of-an-oci-sif.md):

1. A blob is found as launchers find it, by the digest in the extra field of its SIF descriptor, and must be there
   exactly once. Its size must be what every reference to it says. What is parsed has been compared with its digest;
   the digests of config and layers are for the caller to compare, since that means reading the image.
2. The image is the one manifest in the one root index whose reference name does not begin with `_cosign`: entries that
   are named so never run. Anything else in the index makes it ambiguous, and then there is no image.
3. `_cosign:sha256-….sig` and `.att` carry signatures when everything in them is a signature by its media type.

Nothing here raises for what an image holds: what is wrong is a finding.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum

from eclctl.dataclass import dataclass
from eclctl.sif.oci import INDEX_TYPES, MANIFEST_TYPES, Content, Manifest, is_digest, parse_index, parse_manifest
from eclctl.sif.reader import DataType, Descriptor, Sif
from eclctl.terms import Finding

MAX_DOCUMENT = 1024 * 1024
"""The longest index or manifest that is read, in bytes."""

MAX_DOCUMENTS = 4 * 1024 * 1024
"""The most bytes of indexes and manifests that are read of one file."""

MAX_COMMAS = 32768
"""The most commas in all of them: many small values cost more than few long ones."""

MAX_PAYLOAD = 64 * 1024
"""The longest simple-signing payload, in bytes. They have about 300."""

MAX_CARRIED = 64 * 1024 * 1024
"""The longest blob that can be an attestation, a bundle or the config of either, in bytes."""

MAX_ALL_CARRIED = 256 * 1024 * 1024
"""The most bytes of all that carries signatures in one file: it is hashed, and its size is not signed."""

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
"""The media type of a layer that is a payload, with the signature in its annotations."""

BUNDLE = "application/vnd.dev.sigstore.bundle"
"""How the media types of cosign's newer format begin."""

_ATTESTATION = "application/vnd.dsse.envelope.v1+json"
REF_NAME = "org.opencontainers.image.ref.name"
"""The annotation by which an index calls what it lists."""

_NEVER_RUNS = "_cosign"
_CARRIER_NAME = re.compile(r"_cosign:sha256-([0-9a-f]{64})(?:\.(?:sig|att))?")


@dataclass(frozen=True, slots=True)
class Blob:
    """A reference to a blob, and the data object that holds it: None when `problem` says why there is none."""

    content: Content
    object: Descriptor | None
    problem: Finding | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """The one image. `digest` names its manifest: `sha256:<hex>`. `name` is its reference name, and mostly "".

    `parts` are config and layers, layers that are listed twice also twice; none when `problem` says what is wrong with
    the manifest or with the way to a part. Their content is not compared with their digests yet.
    """

    digest: str
    name: str
    manifest: Blob
    parts: tuple[Blob, ...] = ()
    problem: Finding | None = None


class AttachmentKind(StrEnum):
    """What is attached to an image: the end of the name that cosign gives it in the root index.

    Each kind that is read has a reader of its own: `verify.cosign` reads `SIGNATURES`. A new kind is one value here,
    and a module that asks `Layout.attached_to` for it.
    """

    SIGNATURES = "sig"
    ATTESTATIONS = "att"
    OTHER = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """An entry of the root index that never runs. `name` is its whole reference name.

    `carries` are the data objects of which nothing can run, with their digests: none when this is no carrier of
    signatures. The `layers` of a cosign manifest are its signatures; there are none when `problem` is set.
    """

    name: str
    manifest: Blob
    layers: tuple[Blob, ...] = ()
    carries: tuple[tuple[int, str], ...] = ()
    problem: Finding | None = None

    @property
    def kind(self) -> AttachmentKind:
        """What it says that it holds, of any image."""
        ends = (kind for kind in AttachmentKind if kind and self.name.endswith(f".{kind}"))
        return next(ends, AttachmentKind.OTHER)


@dataclass(frozen=True, slots=True)
class Layout:
    """What there is in an OCI-SIF.

    `root` is the ID of the root index. `image` is None when `problem` says why nothing here is the one image.
    `bundles` are the IDs of manifests with signatures in cosign's newer format.
    """

    root: int
    image: Image | None = None
    problem: Finding | None = None
    attachments: tuple[Attachment, ...] = ()
    bundles: tuple[int, ...] = ()

    def attached_to(self, digest: str, kind: AttachmentKind) -> tuple[Attachment, ...]:
        """Return the entries of a kind that are attached to the image with this digest."""
        name = attachment_name(digest, kind)
        return tuple(attachment for attachment in self.attachments if attachment.name == name)

    def signatures_of(self, digest: str) -> tuple[Attachment, ...]:
        """Return the entries that hold the cosign signatures of an image: more than one is one too many."""
        return self.attached_to(digest, AttachmentKind.SIGNATURES)


def stated_digest(descriptor: Descriptor) -> str | None:
    """Return the digest in a blob's SIF descriptor, `sha256:<hex>`; None when it states none. A hint until compared."""
    text = descriptor.extra.partition(b"\0")[0].decode("ascii", "replace")
    return text if is_digest(text) else None


def read_layout(sif: Sif) -> Layout:
    """Return what there is in an OCI-SIF.

    Args:
        sif: An open image of the kind OCI-SIF.

    Raises:
        BusyImageError, UnreadableImageError: As `Sif.data`.
    """
    roots = [descriptor for descriptor in sif.descriptors if descriptor.type == DataType.OCI_ROOT_INDEX]
    if len(roots) != 1:
        return Layout(roots[0].id, problem=Finding("several-indexes", f"{len(roots)} OCI root indexes in one file"))
    return _Reader(sif).layout(roots[0])


class _Reader:
    """One reading of one file: where its blobs are, and how much more may be read."""

    def __init__(self, sif: Sif) -> None:
        self._sif = sif
        self._left = MAX_DOCUMENTS
        self._commas = MAX_COMMAS
        self._left_to_carry = MAX_ALL_CARRIED
        self._carriers: set[int] = set()
        self._blobs: dict[str, list[Descriptor]] = {}
        for descriptor in sif.descriptors:
            # A launcher that looks for a digest finds the root index, too.
            if descriptor.type in {DataType.OCI_BLOB, DataType.OCI_ROOT_INDEX}:
                self._blobs.setdefault(stated_digest(descriptor) or "", []).append(descriptor)

    def layout(self, root: Descriptor) -> Layout:
        data = self._read(root)
        index = data if isinstance(data, Finding) else parse_index(data)
        if isinstance(index, Finding):
            return Layout(root.id, problem=index)
        named = [entry for entry in index.manifests if _name(entry).startswith(_NEVER_RUNS)]
        others = [entry for entry in index.manifests if not _name(entry).startswith(_NEVER_RUNS)]
        problem = _ambiguous(others)
        image = None if problem is not None else self._image(others[0])
        attachments = self._attachments(named, image)
        bundles = [attachment.manifest for attachment in attachments if _has_bundle(attachment)]
        # What may hold bundles, too, and has not been looked into: what is no image and no attachment.
        candidates = [entry for entry in named if entry.media_type not in MANIFEST_TYPES]
        candidates += others if len(others) > 1 else []
        bundles += [blob for entry in candidates if (blob := self._bundle(entry)) is not None]
        ids = tuple(dict.fromkeys(blob.object.id if blob.object is not None else root.id for blob in bundles))
        return Layout(root.id, image, problem, tuple(attachments), ids)

    def _image(self, entry: Content) -> Image:
        blob, manifest = self._manifest(entry)
        if isinstance(manifest, Finding):
            return Image(entry.digest, _name(entry), blob, problem=manifest)
        parts = tuple(self._find(content) for content in (manifest.config, *manifest.layers))
        problem = next((part.problem for part in parts if part.problem is not None), None)
        return Image(entry.digest, _name(entry), blob, () if problem is not None else parts, problem)

    def _attachments(self, entries: list[Content], image: Image | None) -> list[Attachment]:
        """Read the entries that never run, the image's signatures first: junk must not use up a bound before them."""
        own = "" if image is None else signatures_name(image.digest)
        ranked = sorted(range(len(entries)), key=lambda number: _name(entries[number]) != own)
        found = {number: self._attachment(entries[number]) for number in ranked}
        return [found[number] for number in range(len(entries))]

    def _attachment(self, entry: Content) -> Attachment:
        if entry.media_type not in MANIFEST_TYPES:
            problem = Finding("wrong-type", f"{_name(entry)[:96]!r} is of media type {entry.media_type[:96]!r}")
            return Attachment(_name(entry), self._find(entry), problem=problem)
        blob, manifest = self._manifest(entry)
        if isinstance(manifest, Finding):
            return Attachment(_name(entry), blob, problem=manifest)
        layers = tuple(self._find(content) for content in manifest.layers)
        config = self._find(manifest.config)
        carries: tuple[tuple[int, str], ...] = ()
        if _CARRIER_NAME.fullmatch(_name(entry)) and all(map(_is_signature, layers)):
            carries = tuple(dict(self._reachable_objects((blob, config, *layers))).items())
        return Attachment(_name(entry), blob, layers, carries)

    def _reachable_objects(self, blobs: Iterable[Blob]) -> Iterator[tuple[int, str]]:
        """Yield ID and digest of what is there, sound, and no larger than such a thing is."""
        for blob in blobs:
            limit = MAX_PAYLOAD if blob.content.media_type == SIMPLE_SIGNING else MAX_CARRIED
            if blob.object is not None and blob.problem is None and blob.content.size <= limit:
                if blob.object.id not in self._carriers and blob.object.size <= self._left_to_carry:
                    self._carriers.add(blob.object.id)
                    self._left_to_carry -= blob.object.size
                if blob.object.id in self._carriers:
                    yield blob.object.id, blob.content.digest

    def _bundle(self, entry: Content) -> Blob | None:
        """Return an entry when it is a manifest of signatures in the newer format, or an index of such manifests."""
        if entry.artifact_type.startswith(BUNDLE):
            return self._find(entry)
        if entry.media_type in INDEX_TYPES:
            blob, data = self._document(entry)
            index = data if isinstance(data, Finding) else parse_index(data)
            found = not isinstance(index, Finding) and any(map(_is_bundle, index.manifests))
            return blob if found else None
        blob, manifest = self._manifest(entry)
        if isinstance(manifest, Finding):
            return None
        found = manifest.artifact_type.startswith(BUNDLE) or any(map(_is_bundle, manifest.layers))
        return blob if found else None

    def _manifest(self, entry: Content) -> tuple[Blob, Manifest | Finding]:
        blob, data = self._document(entry)
        manifest = data if isinstance(data, Finding) else parse_manifest(data)
        if isinstance(manifest, Manifest) and manifest.media_type not in ("", entry.media_type):
            manifest = Finding("bad-manifest", "the index and the manifest name different media types")
        return blob, manifest

    def _document(self, entry: Content) -> tuple[Blob, bytes | Finding]:
        """Find and read an index or manifest, and compare it with its digest."""
        blob = self._find(entry)
        if blob.object is None or blob.problem is not None:
            return blob, blob.problem or _missing(entry)
        data = self._read(blob.object)
        if isinstance(data, bytes) and f"sha256:{hashlib.sha256(data).hexdigest()}" != entry.digest:
            return blob, Finding("data-changed", f"object {blob.object.id} is not what its digest says")
        return blob, data

    def _find(self, content: Content) -> Blob:
        found = self._blobs.get(content.digest, ())
        if not found:
            return Blob(content, None, _missing(content))
        if len(found) > 1:
            ids = ", ".join(str(descriptor.id) for descriptor in found[:8])
            return Blob(content, None, Finding("blob-twice", f"objects {ids} have one digest, {content.digest}"))
        if found[0].size != content.size:
            message = f"object {found[0].id} has {found[0].size} bytes; {content.size} are said of it"
            return Blob(content, found[0], Finding("wrong-size", message))
        return Blob(content, found[0])

    def _read(self, descriptor: Descriptor) -> bytes | Finding:
        if descriptor.size > MAX_DOCUMENT or descriptor.size > self._left:
            return Finding("too-large", f"object {descriptor.id}, of {descriptor.size} bytes, is too large a manifest")
        self._left -= descriptor.size
        data = bytes(self._sif.data(descriptor))
        self._commas -= data.count(b",")
        if self._commas < 0:
            return Finding("too-large", f"object {descriptor.id} makes it more OCI manifests than are looked at")
        return data


def _ambiguous(entries: list[Content]) -> Finding | None:
    """Return why these entries, which are not cosign's, are not exactly one image."""
    if not entries:
        return Finding("no-image", "no matching image / index found")
    if len(entries) > 1:
        return Finding("several-images", "multiple matching images / indices found")
    if entries[0].media_type not in MANIFEST_TYPES:
        return Finding("no-image", f"the OCI index lists {entries[0].media_type[:96]!r}, which is no image")
    return None


def _has_bundle(attachment: Attachment) -> bool:
    return _is_bundle(attachment.manifest.content) or any(_is_bundle(layer.content) for layer in attachment.layers)


def _is_bundle(content: Content) -> bool:
    return content.media_type.startswith(BUNDLE) or content.artifact_type.startswith(BUNDLE)


def _is_signature(layer: Blob) -> bool:
    return layer.content.media_type in {SIMPLE_SIGNING, _ATTESTATION} or layer.content.media_type.startswith(BUNDLE)


def attachment_name(digest: str, kind: AttachmentKind) -> str:
    """Return what the root index calls an attachment of an image, which is none of `OTHER`."""
    return f"_cosign:{digest.replace(':', '-')}.{kind}"


def signatures_name(digest: str) -> str:
    """Return what the root index calls the cosign signatures of an image."""
    return attachment_name(digest, AttachmentKind.SIGNATURES)


def _missing(content: Content) -> Finding:
    return Finding("blob-missing", f"no object holds the blob {content.digest}")


def _name(entry: Content) -> str:
    return entry.annotations.get(REF_NAME, "")
