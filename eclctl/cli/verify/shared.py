"""What the forms of `eclctl verify` share: opening an image, and the shape of the answer in JSON."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from eclctl.errors import UnreadableImageError, UnsupportedFileError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eclctl.terms import Finding
    from eclctl.verify.reference import SignatureReport

__all__ = ["FAILED", "OK", "finding_shape", "open_image", "say", "show_json", "signature_shape"]

OK, FAILED = 0, 1


def open_image(image: str) -> int:
    """Open a regular file for reading, without waiting for anybody.

    Raises:
        UnsupportedFileError: It is no regular file.
        UnreadableImageError: It cannot be opened.
    """
    try:
        if not stat.S_ISREG(os.stat(image).st_mode):
            raise UnsupportedFileError("not a regular file")
        return os.open(image, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UnreadableImageError(f"cannot open the image: {error.strerror}") from error
    except ValueError as error:  # a NUL in the name
        raise UnreadableImageError("cannot open the image: the name holds a NUL character") from error


def show_json(
    image: str, error: Finding | None, signatures: Sequence[dict[str, Any]], payloads: Sequence[dict[str, Any]] = ()
) -> None:
    """Print how an image came out, as one line; it is verified when there is no error."""
    shape = {
        "v": 1,
        "image": image,
        "verified": error is None,
        "error": finding_shape(error),
        "signatures": list(signatures),
        "payloads": list(payloads),
    }
    import json  # noqa: PLC0415 - only --json needs it

    print(json.dumps(shape), flush=True)


def signature_shape(signature: SignatureReport, identity: str, name: str) -> dict[str, Any]:
    """Return a signature's shape; its signer, if any, goes by `identity` and is called `name`."""
    signer = signature.signer
    return {
        "id": signature.id,
        "format": signature.format.value,
        "valid": signature.valid,
        "signer": signer and {"kind": signer.kind.value, "id": identity, "name": name},
        "objects": list(signature.objects),
        "error": finding_shape(signature.error),
    }


def say(line: str) -> None:
    """Print a line for people, beside the output."""
    print(line, file=sys.stderr, flush=True)


def finding_shape(finding: Finding | None) -> dict[str, str] | None:
    """Return a finding's shape in JSON, None for none."""
    return None if finding is None else {"code": finding.code, "message": finding.message}
