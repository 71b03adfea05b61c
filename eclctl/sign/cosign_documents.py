"""The JSON of a cosign signature: payload, config and manifest that hold signatures, and the root index that names it.

The bytes are those of Go's encoder in SingularityCE (`oci-tools`, `pkg/sif/update.go`) and cosign (`pkg/oci/mutate`),
member for member, for signatures by both lie in one manifest. What they would lose, lacking a field for it, is kept.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from eclctl import strictjson
from eclctl.errors import SigningError
from eclctl.sif.oci_sif import REF_NAME, SIMPLE_SIGNING
from eclctl.sign.new_oci_sif import compact, oci_digest
from eclctl.signature.cosign import ANNOTATION, PAYLOAD_TYPE

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
"""The media type of a manifest that is made here."""

_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_ZERO_TIME = "0001-01-01T00:00:00Z"
_CONTENT = ("mediaType", "size", "digest", "data", "urls", "annotations", "platform", "artifactType")
_MANIFEST = ("schemaVersion", "mediaType", "config", "layers", "annotations", "subject")
_INDEX = ("schemaVersion", "mediaType", "manifests", "annotations", "subject")
_CONFIG = ("architecture", "author", "container", "created", "docker_version", "history", "os", "rootfs", "config")
_EMPTY_CONFIG = {"architecture": "", "created": _ZERO_TIME, "os": "", "config": {}}


def payload(image: str, optional: Mapping[str, str | int]) -> bytes:
    """Return a simple-signing payload (containers-signature(5)) over an image.

    Args:
        image: The digest of its manifest, `sha256:<hex>`.
        optional: What the signer adds.
    """
    critical = {
        "identity": {"docker-reference": ""},
        "image": {"docker-manifest-digest": image},
        "type": PAYLOAD_TYPE,
    }
    return compact({"critical": critical, "optional": dict(sorted(optional.items()))})


def layer(signed: bytes, signature: bytes) -> dict[str, Any]:
    """Return the content descriptor of a payload, with the signature over it in its annotations."""
    annotations = {ANNOTATION: base64.b64encode(signature).decode("ascii")}
    return {"mediaType": SIMPLE_SIGNING, "size": len(signed), "digest": oci_digest(signed), "annotations": annotations}


def config_with(old: bytes | None, held: Sequence[str], added: Sequence[str]) -> bytes:
    """Return the config of a manifest of signatures, with more layers.

    It is never run, but other tools find the layers by it. So what is no config becomes one, and one that leaves layers
    out, as that of a bare artifact does, gets them: else the next tool that signs would lose them.

    Args:
        old: The config until now, None for none.
        held: The digests of the layers until now.
        added: Those of the layers that join them.
    """
    members: dict[str, Any] = dict(_EMPTY_CONFIG)
    with suppress(SigningError):
        members |= _object(old, "config")
    rootfs = members.get("rootfs")
    rootfs = rootfs if isinstance(rootfs, dict) else {}
    history, known = members.get("history"), rootfs.get("diff_ids")
    before = known if isinstance(known, list) and len(known) == len(held) else held
    past = history if isinstance(history, list) else [{"created": _ZERO_TIME} for _ in held]
    members["history"] = [*past, *({"created": _ZERO_TIME} for _ in added)]
    members["rootfs"] = {"type": "layers", **rootfs, "diff_ids": [*before, *added]}
    return compact(_ordered(members, _CONFIG))


def manifest_with(old: bytes | None, config: bytes, layers: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a manifest of signatures with another config and more layers.

    Args:
        old: The manifest until now, as `sif.oci.parse_manifest` takes it; None for none.
        config: The new config.
        layers: The content descriptors of the layers that join those that are there.
    """
    members = _object(old, "cosign manifest")
    members = members or {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": {"mediaType": _CONFIG_TYPE}}
    content = {**members["config"], "size": len(config), "digest": oci_digest(config)}
    if content.get("data"):
        content["data"] = base64.b64encode(config).decode("ascii")
    members["config"] = _content(content)
    members["layers"] = [_content(each) for each in (*members.get("layers", ()), *layers)]
    return compact(_ordered(members, _MANIFEST))


def root_with(old: bytes, name: str, manifest: bytes, media_type: str) -> bytes:
    """Return a root index in which `name` is a manifest of signatures.

    Args:
        old: The root index until now, as `sif.oci.parse_index` takes it.
        name: The reference name.
        manifest: The manifest of signatures.
        media_type: Its media type.
    """
    members = _object(old, "root index")
    kept = [entry for entry in members["manifests"] if (entry.get("annotations") or {}).get(REF_NAME) != name]
    entry = {
        "mediaType": media_type,
        "size": len(manifest),
        "digest": oci_digest(manifest),
        "annotations": {REF_NAME: name},
        "artifactType": _object(manifest, "cosign manifest")["config"].get("mediaType"),
    }
    members["manifests"] = [_content(each) for each in (*kept, entry)]
    return compact(_ordered(members, _INDEX))


def _object(data: bytes | None, what: str) -> dict[str, Any]:
    """Return the members of a document, none where there is no document."""
    if data is None:
        return {}
    try:
        members = strictjson.loads(data, any_number=True)
    except strictjson.JsonError as error:
        raise SigningError(f"the {what} is not valid JSON: {error}") from None
    if not isinstance(members, dict):
        raise SigningError(f"the {what} is no JSON object")
    return members


def _content(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return a content descriptor as Go writes it: no empty members, and what is a map in order."""
    full = {name: value for name, value in members.items() if value or name == "size"}
    if "annotations" in full:
        full["annotations"] = dict(sorted(full["annotations"].items()))
    return _ordered(full, _CONTENT)


def _ordered(members: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return members in the order of `names`; those that are not named come after, in their own."""
    first = {name: members[name] for name in names if name in members}
    return {**first, **members}
