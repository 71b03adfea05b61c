"""What a registry holds under a name: which manifest, and what may be done with its layers.

An index leads to the one image for an architecture. What is read is read as strictly as in a file (`sif.oci`).
"""

from __future__ import annotations

from typing import Any, Final

from eclctl import strictjson
from eclctl.dataclass import dataclass
from eclctl.errors import RemoteError
from eclctl.remote.http.client import escaped
from eclctl.remote.registry.client import ManifestDocument, MissingError, Registry
from eclctl.sif.oci import INDEX_TYPES, Content, Manifest, parse_index, parse_manifest
from eclctl.sif.oci_sif import MAX_CARRIED, MAX_PAYLOAD, SIMPLE_SIGNING
from eclctl.terms import Finding

_SQUASHFS_LAYER: Final = "application/vnd.sylabs.image.layer.v1.squashfs"
_EXT3_LAYER: Final = "application/vnd.sylabs.image.layer.v1.ext3"
SIF_LAYERS: Final = ("application/vnd.sylabs.sif.layer.v1.sif", "appliciation/vnd.sylabs.sif.layer.tar")
"""Media types of a layer that is a whole SIF file: today's, and the misspelt one of Singularity before 3.7."""

SIF_CONFIG: Final = "application/vnd.sylabs.sif.config.v1+json"
EMPTY_CONFIG: Final = b"{}"
MAX_CONFIG: Final = 4 * 1024 * 1024
"""The longest image config that is looked into, in bytes."""

_MAX_SIGNATURES: Final = 256


@dataclass(frozen=True, slots=True)
class FoundManifest:
    """A manifest of the registry. `root` is the digest that the name led to: another, where that is an index."""

    document: ManifestDocument
    manifest: Manifest
    root: str


def find_image(registry: Registry, chosen: str, architecture: str) -> FoundManifest:
    """Return the manifest that a tag or digest names: of an index, that of its image for an architecture.

    Raises:
        RemoteError: there is none, or none that can be read in one way alone.
    """
    document = registry.manifest(chosen)
    root = document.digest
    if document.media_type in INDEX_TYPES:
        entry = _for_architecture(document, architecture)
        document = registry.manifest(entry.digest)
        if len(document.raw) != entry.size:
            raise RemoteError(f"{entry.digest} has {len(document.raw)} bytes; the index says {entry.size}")
        if document.media_type != entry.media_type:
            raise RemoteError(f"{entry.digest} is {document.media_type}; the index says {escaped(entry.media_type)}")
    return FoundManifest(document, _manifest(document), root)


def find_signatures(registry: Registry, digest: str) -> FoundManifest | None:
    """Return the manifest with the cosign signatures of an image; None when there is none.

    Raises:
        RemoteError: what is there holds something else than signatures.
    """
    try:
        document = registry.manifest(signature_tag(digest))
    except MissingError:
        return None
    manifest = _manifest(document)
    if len(manifest.layers) > _MAX_SIGNATURES or manifest.config.size > MAX_CARRIED:
        raise RemoteError(f"{signature_tag(digest)} is larger than signatures are")
    for layer in manifest.layers:
        if layer.media_type != SIMPLE_SIGNING or layer.size > MAX_PAYLOAD:
            raise RemoteError(
                f"{signature_tag(digest)} holds {escaped(layer.media_type)} of {layer.size} bytes, which is no "
                "signature that an OCI-SIF carries; pull without --with-cosign"
            )
    return FoundManifest(document, manifest, document.digest)


def signature_tag(digest: str) -> str:
    """Return the tag under which cosign keeps the signatures of an image."""
    return f"{digest.replace(':', '-')}.sig"


def require_runnable_layers(manifest: Manifest) -> None:
    """Require that an OCI-SIF of these layers runs: squashfs, and last perhaps a writable ext3 overlay.

    Raises:
        RemoteError: they are others; the message says what to do.
    """
    if not manifest.layers:
        raise RemoteError("the image has no layers")
    for number, layer in enumerate(manifest.layers, start=1):
        last = number == len(manifest.layers)
        if layer.media_type == _SQUASHFS_LAYER or (last and layer.media_type == _EXT3_LAYER):
            continue
        if layer.media_type in SIF_LAYERS:
            raise RemoteError("this is a whole SIF file, not an OCI image: pull it by oras://")
        raise RemoteError(
            f"layer {number} of {len(manifest.layers)} is {escaped(layer.media_type)}, and an OCI-SIF holds squashfs. "
            "What is converted has another digest than what was signed: have it converted where it is built "
            "(singularity pull --oci, then eclctl sign and push), and pull that"
        )


def sif_layer(manifest: Manifest) -> Content:
    """Return the one layer that is a whole SIF file.

    Raises:
        RemoteError: this is no such artifact.
    """
    if len(manifest.layers) != 1:
        raise RemoteError(
            f"ORAS SIF image should have a single layer, found {len(manifest.layers)}; OCI images are pulled by docker://"
        )
    layer = manifest.layers[0]
    if layer.media_type not in SIF_LAYERS:
        raise RemoteError(f"invalid layer mediatype: {escaped(layer.media_type)}; OCI images are pulled by docker://")
    return layer


def architecture_of(config: bytes) -> str:
    """Return the architecture that an image's config names, "" where it names none."""
    try:
        members = strictjson.loads(config, any_number=True)
    except strictjson.JsonError as error:
        raise RemoteError(f"the image's config cannot be read in one way alone: {error}") from None
    return _architecture(members)


def _architecture(members: Any) -> str:
    members = members if isinstance(members, dict) else {}
    names = [members.get("architecture"), members.get("variant")]
    words = [name for name in names if isinstance(name, str) and name]
    return "/".join(words) if words and words[0] == names[0] else ""


def _for_architecture(document: ManifestDocument, architecture: str) -> Content:
    index = parse_index(document.raw)
    if isinstance(index, Finding):
        raise RemoteError(index.message)
    members = strictjson.loads(document.raw, any_number=True)
    offered = set()
    for entry, raw in zip(index.manifests, members["manifests"], strict=True):
        platform = raw.get("platform")
        system = platform.get("os") if isinstance(platform, dict) else None
        name = _architecture(platform)
        on_linux = system in ("linux", "") or not isinstance(system, str)
        if on_linux and architecture in {name, name.partition("/")[0]}:
            return entry
        offered.add(escaped(name))
    names = ", ".join(sorted(offered - {"", "unknown"})) or "none"
    raise RemoteError(f"there is no image for linux on {architecture}; there are: {names}; choose one with --arch")


def _manifest(document: ManifestDocument) -> Manifest:
    manifest = parse_manifest(document.raw)
    if isinstance(manifest, Finding):
        raise RemoteError(f"{document.digest}: {manifest.message}")
    return manifest
