"""OCI-SIF images made in memory: an image of any layers, cosign signatures by any key, with any errors in them.

As in `sifbuilder`, everything is laid out by hand, without the code under test.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from eclctl.signature.keys import PublicKey
from eclctl.signature.openpgp import Keyring
from eclctl.trust.keyring import KeyStore
from tests.helpers.sifbuilder import OCI_BLOB, ROOT_INDEX, Entry, PemKey, SifBuilder

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
SQUASHFS_TYPE = "application/vnd.sylabs.image.layer.v1.squashfs"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
ATTESTATION = "application/vnd.dsse.envelope.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
REF_NAME = "org.opencontainers.image.ref.name"
TYPE = "cosign container image signature"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


@cache
def cosign_key(name: str = "ci", kind: str = "p256") -> PemKey:
    """Return a private key for cosign signatures: one for each name and kind, made here."""
    match kind:
        case "p256":
            return PemKey(ec.generate_private_key(ec.SECP256R1()))
        case "p384":
            return PemKey(ec.generate_private_key(ec.SECP384R1()))
        case "rsa":
            return PemKey(rsa.generate_private_key(65537, 2048))
    return PemKey(ed25519.Ed25519PrivateKey.generate())


def cosign_store(*keys: PemKey | PublicKey) -> KeyStore:
    """Return a store that lists keys for cosign signatures and for nothing else."""
    public = tuple(key.public if isinstance(key, PemKey) else key for key in keys)
    return KeyStore.of(Keyring.parse(), (), (), public)


def payload(digest: str, *, reference: str = "", kind: str = TYPE, **optional: Any) -> bytes:
    """Return a simple-signing payload as cosign writes it."""
    critical = {"identity": {"docker-reference": reference}, "image": {"docker-manifest-digest": digest}, "type": kind}
    return compact({"critical": critical, "optional": optional or None})


@dataclass
class OciBuilder:
    """An OCI-SIF under construction. Blobs are added in the order in which SingularityCE writes them."""

    sif: SifBuilder = field(default_factory=lambda: SifBuilder(uuid=bytes(16), launch=bytes(32)))
    index: list[dict[str, Any]] = field(default_factory=list)
    image: str = ""
    signatures: list[dict[str, Any]] = field(default_factory=list)
    root: bytes | None = None

    def blob(self, data: bytes, *, stated: str | None = None, once: bool = True, **fields: Any) -> Entry:
        """Add a blob unless it is there; `stated` is what its descriptor says of its digest."""
        extra = (stated or digest_of(data)).encode()
        for entry in self.sif.entries:
            if once and entry.kind == OCI_BLOB and entry.extra == extra:
                return entry
        return self.sif.add(data, OCI_BLOB, extra=extra, **fields)

    def content(self, data: bytes, media_type: str, **members: Any) -> dict[str, Any]:
        """Add a blob and return a content descriptor of it."""
        self.blob(data)
        return {"mediaType": media_type, "size": len(data), "digest": digest_of(data), **members}

    def manifest(self, layers: list[dict[str, Any]], config: bytes = b"{}", **members: Any) -> bytes:
        """Add a config and return a manifest, which is not added yet."""
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.content(config, CONFIG_TYPE),
            "layers": layers,
            **members,
        }
        return compact(document)

    def entry(self, manifest: bytes, name: str | None = None, **members: Any) -> dict[str, Any]:
        """Add a manifest and list it in the index."""
        if name is not None:
            members["annotations"] = {REF_NAME: name, **members.get("annotations", {})}
        listed = self.content(manifest, members.pop("media_type", MANIFEST_TYPE), **members)
        self.index.append(listed)
        return listed

    def add_image(self, *layers: bytes, name: str | None = None, config: bytes = b'{"os":"linux"}') -> str:
        """Add an image of squashfs layers; return its digest."""
        contents = [self.content(layer, SQUASHFS_TYPE) for layer in layers]
        manifest = self.manifest(contents, config)
        self.entry(manifest, name)
        self.image = self.image or digest_of(manifest)
        return digest_of(manifest)

    def sign(
        self, key: PemKey, text: bytes | None = None, *, media_type: str = SIMPLE_SIGNING, **optional: Any
    ) -> dict[str, Any]:
        """Sign the image, or a payload."""
        text = payload(self.image, **optional) if text is None else text
        signature = base64.b64encode(key.sign(text)).decode()
        layer = self.content(text, media_type, annotations={SIGNATURE: signature})
        self.signatures.append(layer)
        return layer

    @property
    def signature_name(self) -> str:
        return f"_cosign:{self.image.replace(':', '-')}.sig"

    def finish(self) -> SifBuilder:
        """Add the cosign manifest, if there are signatures, and the root index; return the SIF."""
        if self.signatures:
            diff_ids = [layer["digest"] for layer in self.signatures]
            self.entry(self.manifest(self.signatures, compact({"rootfs": diff_ids})), self.signature_name)
        document = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": self.index}
        data = compact(document) if self.root is None else self.root
        self.sif.slots = max(self.sif.slots, len(self.sif.entries) + 4)
        self.sif.add(data, ROOT_INDEX, extra=digest_of(data).encode())
        return self.sif

    def build(self) -> bytes:
        """Return the file."""
        return self.finish().build()


def oci_sample(*keys: PemKey, layers: int = 2) -> OciBuilder:
    """Return an image of small layers that each of the keys signed, not finished."""
    builder = OciBuilder()
    builder.add_image(*(b"hsqs" + bytes([number]) * 4092 for number in range(layers)))
    for key in keys:
        builder.sign(key)
    return builder
