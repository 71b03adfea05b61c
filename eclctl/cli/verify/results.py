"""The answer of `eclctl verify` for one image, in JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from eclctl.cli.terminal.output import finding_as_json
from eclctl.terms import Finding
from eclctl.verify.reference import ReferenceSignature

__all__ = ["print_result", "signature_as_json"]


def print_result(
    image: str, error: Finding | None, signatures: Sequence[dict[str, Any]], payloads: Sequence[dict[str, Any]] = ()
) -> None:
    """Print the result for an image, as one line; the image is verified when there is no error."""
    shape = {
        "v": 1,
        "image": image,
        "verified": error is None,
        "error": finding_as_json(error),
        "signatures": list(signatures),
        "payloads": list(payloads),
    }
    print(json.dumps(shape), flush=True)


def signature_as_json(signature: ReferenceSignature, identity: str, name: str) -> dict[str, Any]:
    """Return a signature; `identity` and `name` are those of its signer, if it has one."""
    signer = signature.signer
    return {
        "id": signature.id,
        "format": signature.format.value,
        "valid": signature.valid,
        "signer": signer and {"kind": signer.kind.value, "id": identity, "name": name},
        "objects": list(signature.objects),
        "error": finding_as_json(signature.error),
    }
