"""`eclctl push`: an OCI-SIF as an OCI image, or any SIF whole, into a registry."""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Callable, Iterator
from typing import Any

from eclctl.cli.inputs.images import open_regular_file
from eclctl.cli.inputs.registries import (
    add_registry_options,
    connect,
    print_transfer_failure,
    show_progress,
    teller,
)
from eclctl.cli.terminal.exit_codes import OK, USAGE
from eclctl.cli.terminal.output import print_json
from eclctl.cli.terminal.parser import Parser
from eclctl.dataclass import dataclass
from eclctl.errors import BusyImageError, EclctlError, MalformedImageError, RemoteError
from eclctl.remote.http.limits import CHUNK
from eclctl.remote.registry.client import Registry
from eclctl.remote.registry.images import EMPTY_CONFIG, SIF_CONFIG, SIF_LAYERS, find_signatures, signature_tag
from eclctl.remote.registry.names import Reference, parse_reference
from eclctl.remote.registry.transfer import BlobSource, push_blob
from eclctl.sif import oci_sif, reader
from eclctl.sif.oci_sif import Attachment, Blob, Layout
from eclctl.sif.reader import Sif
from eclctl.sign.new_oci_sif import compact
from eclctl.terms import Finding, Kind
from eclctl.text import counted, printable

_TEXT = """\
Pushes an image to a registry. To docker://, an OCI-SIF goes as the OCI image
that it holds: manifest, config and squashfs layers, byte by byte, so that its
digest stays and so do its cosign signatures (--with-cosign). PGP and PEM
signatures are the file's, and stay behind. To oras://, a SIF of either kind
goes as the file that it is, with all that is in it. What the registry has
already is not sent again."""

_EXAMPLES = """\
exit status: 0 pushed, 1 not pushed, 2 usage, 3 when the output cannot be
written

examples:
  eclctl push solver.oci.sif docker://registry.example/prod/solver:1.2
  eclctl push --with-cosign solver.oci.sif \\
      docker://registry.example/prod/solver:1.2
  eclctl push solver.sif oras://registry.example/prod/solver:1.2
  eclctl push --no-https solver.sif oras://localhost:5000/solver:1.2"""

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_TITLE = "org.opencontainers.image.title"


@dataclass(frozen=True, slots=True)
class _Manifest:
    """A manifest to push, and the blobs that must be there before it."""

    raw: bytes
    media_type: str
    tag: str
    blobs: tuple[BlobSource, ...]

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.raw).hexdigest()}"


def run(argv: list[str]) -> int:
    """Run the command with the arguments after its name and return the exit status."""
    options = _parser().parse_args(argv)
    # What is told as JSON however it ends; what comes to be known is put into it.
    known = {"image": options.image, "reference": options.reference, "digest": None, "signatures": None}
    known |= {"blobs": None, "sent": None, "warnings": []}
    try:
        reference = parse_reference(options.reference)
        if reference.digest:
            raise RemoteError("a push names a tag; the digest follows from the image")  # noqa: TRY301
    except RemoteError as error:
        return print_transfer_failure("push", error, as_json=options.json, **known) and USAGE
    known["reference"] = str(reference)
    try:
        fd = open_regular_file(options.image)
        try:
            _push(options, reference, fd, known)
        finally:
            os.close(fd)
    except (EclctlError, OSError) as error:
        return print_transfer_failure("push", error, as_json=options.json, **known)
    _report(known, as_json=options.json)
    return OK


def _parser() -> Parser:
    parser = Parser("eclctl push", _TEXT, _EXAMPLES)
    parser.add_argument("image", metavar="IMAGE", help="a SIF or OCI-SIF image")
    parser.add_argument("reference", metavar="REFERENCE", help="docker://HOST[:PORT]/NAME:TAG or oras://…")
    parser.add_argument("--with-cosign", action="store_true", help="also push an OCI-SIF's cosign signatures")
    parser.add_argument(
        "-F", "--force", action="store_true", help="replace cosign signatures of others in the registry"
    )
    add_registry_options(parser)
    return parser


def _push(options: argparse.Namespace, reference: Reference, fd: int, known: dict[str, Any]) -> None:
    before = os.fstat(fd)
    try:
        image = reader.read(fd)
    except MalformedImageError as error:
        raise MalformedImageError(f"{options.image}: {error}; `eclctl sif list` says what there is") from error
    tell = teller("push", known, as_json=options.json)
    if reference.scheme == "oras":
        manifests = [_sif_manifest(options.image, reference.tag, fd, image.size)]
    else:
        manifests = list(_oci_manifests(image, reference.tag, tell, with_cosign=options.with_cosign))
    known |= {"digest": manifests[-1].digest, "signatures": manifests[0].tag if len(manifests) > 1 else None}
    known["blobs"] = sum(len(manifest.blobs) for manifest in manifests)
    registry = connect(options, reference, tell, push=True)
    if len(manifests) > 1 and not options.force:
        _require_nothing_lost(registry, manifests[-1].digest, manifests[0])
    known["sent"] = _send(registry, manifests, os.path.basename(options.image))
    after = os.fstat(fd)
    if (before.st_size, before.st_ctime_ns) != (after.st_size, after.st_ctime_ns):
        raise BusyImageError(
            "the image changed while it was pushed; what arrived is what its digests say, push it again"
        )


def _sif_manifest(path: str, tag: str, fd: int, size: int) -> _Manifest:
    """The manifest of a whole SIF file, as SingularityCE and Apptainer write it."""
    blob = BlobSource(_hash(fd, size, os.path.basename(path)), size, fd)
    config = BlobSource(f"sha256:{hashlib.sha256(EMPTY_CONFIG).hexdigest()}", len(EMPTY_CONFIG), data=EMPTY_CONFIG)
    title = os.fsencode(os.path.basename(path)).decode("utf-8", "replace")
    layer = {"mediaType": SIF_LAYERS[0], "size": size, "digest": blob.digest, "annotations": {_TITLE: title}}
    raw = compact(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {"mediaType": SIF_CONFIG, "size": config.size, "digest": config.digest},
            "layers": [layer],
        }
    )
    return _Manifest(raw, _MANIFEST_TYPE, tag, (blob, config))


def _hash(fd: int, size: int, name: str) -> str:
    digest = hashlib.sha256()
    with show_progress(f"hashing {name}", size) as advance:
        for start in range(0, size, CHUNK):
            digest.update(chunk := reader.pread(fd, min(CHUNK, size - start), start))
            advance(len(chunk))
    return f"sha256:{digest.hexdigest()}"


def _oci_manifests(image: Sif, tag: str, tell: Callable[[str], None], *, with_cosign: bool) -> Iterator[_Manifest]:
    """Yield the manifest of the signatures, if they are wanted, and then that of the image: it is never there alone."""
    if image.kind is not Kind.OCI_SIF:
        raise RemoteError("non OCI SIF images can only be pushed to OCI registries via oras://")
    layout = oci_sif.read_layout(image)
    found = layout.image
    if found is None or found.problem is not None:
        raise _malformed(found.problem if found is not None else layout.problem)
    signatures = layout.signatures_of(found.digest)
    _warn_of_what_stays(image, layout, tell, carried=with_cosign and bool(signatures))
    if with_cosign and not signatures:
        tell("the image has no cosign signatures to push")
    elif with_cosign:
        yield _signature_manifest(image, signatures, signature_tag(found.digest))
    manifest = found.manifest
    yield _Manifest(_read(image, manifest), manifest.content.media_type, tag, _sources(image, found.parts))


def _signature_manifest(image: Sif, attachments: tuple[Attachment, ...], tag: str) -> _Manifest:
    if len(attachments) > 1:
        raise MalformedImageError(f"{len(attachments)} entries of the root index hold the image's signatures")
    attachment = attachments[0]
    if attachment.problem is not None or not attachment.carries:
        raise _malformed(attachment.problem or Finding("malformed", "its entry for signatures holds something else"))
    raw = _read(image, attachment.manifest)
    blobs = [descriptor for descriptor in image.descriptors if descriptor.id in dict(attachment.carries)]
    digests = dict(attachment.carries)
    sources = tuple(
        BlobSource(digests[each.id], each.size, image.fd, each.offset)
        for each in blobs
        if digests[each.id] != attachment.manifest.content.digest
    )
    return _Manifest(raw, attachment.manifest.content.media_type, tag, sources)


def _warn_of_what_stays(image: Sif, layout: Layout, tell: Callable[[str], None], *, carried: bool) -> None:
    """Warn of what is in the file and not in the OCI image: a pull does not bring it."""
    native = sum(1 for descriptor in image.descriptors if descriptor.is_signature)
    if native:
        what = "a PGP or PEM signature stays" if native == 1 else f"{native} PGP or PEM signatures stay"
        tell(f"{what} behind: docker:// carries the OCI image, not the SIF file around it; oras:// carries all of it")
    if layout.attachments and not carried:
        tell("what cosign attached to the image stays behind; --with-cosign carries its signatures")
    others = sum(
        1 for each in image.descriptors if each.type < reader.DataType.OCI_ROOT_INDEX and not each.is_signature
    )
    if others:
        tell(f"{others} data objects outside the OCI image stay behind")


def _sources(image: Sif, parts: tuple[Blob, ...]) -> tuple[BlobSource, ...]:
    found = {}
    for part in parts:
        assert part.object is not None
        found[part.content.digest] = BlobSource(part.content.digest, part.object.size, image.fd, part.object.offset)
    return tuple(found.values())


def _read(image: Sif, blob: Blob) -> bytes:
    assert blob.object is not None
    return bytes(image.data(blob.object))


def _malformed(finding: Finding | None) -> MalformedImageError:
    return MalformedImageError(finding.message if finding is not None else "there is no image in it")


def _require_nothing_lost(registry: Registry, digest: str, ours: _Manifest) -> None:
    """Refuse to replace signatures in the registry that the file does not have: the work of others would be lost."""
    there = find_signatures(registry, digest)
    if there is None or there.document.raw == ours.raw:
        return
    have = {blob.digest for blob in ours.blobs}
    lost = sum(1 for layer in there.manifest.layers if layer.digest not in have)
    if lost:
        raise RemoteError(
            f"the registry holds {counted(lost, 'cosign signature')} of this image that the file does not have; "
            "pull it --with-cosign and sign that, or give --force to lose them"
        )


def _send(registry: Registry, manifests: list[_Manifest], name: str) -> int:
    """Push everything; return how many blobs had to be sent."""
    total = sum(blob.size for manifest in manifests for blob in manifest.blobs)
    with show_progress(f"pushing {name}", total) as advance:
        sent = [push_blob(registry, blob, advance) for manifest in manifests for blob in manifest.blobs]
    for manifest in manifests:
        registry.put_manifest(manifest.raw, manifest.media_type, manifest.tag)
    return sum(sent)


def _report(known: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({**known, "error": None})
        return
    print(f"pushed {printable(known['image'])} to {known['reference']}")
    print(f"digest {known['digest']}")
    if known["signatures"] is not None:
        print(f"cosign signatures at :{known['signatures']}")
    sent, blobs = known["sent"], known["blobs"]
    print(f"{sent} of {blobs} blobs sent; the registry had the others" if sent < blobs else f"{blobs} blobs sent")
