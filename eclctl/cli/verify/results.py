"""The answer of `eclctl verify` for one image: as text, with [LOCAL] or [REMOTE] before each signer, and as JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from eclctl.cli.terminal.output import finding_as_json, print_json, print_note
from eclctl.dataclass import dataclass
from eclctl.sif.labels import data_type, link
from eclctl.sif.reader import DataType
from eclctl.terms import Finding
from eclctl.text import printable
from eclctl.trust.keyring import KeyStore
from eclctl.trust.signer_types import SIGNER_TYPES
from eclctl.verify.reference import ReferenceReport, ReferenceSignature


@dataclass(frozen=True, slots=True)
class ImageResult:
    """How one image came out: a report, or the error that there is none.

    `store` are the keys that were used, `remote` the fingerprints of those that came from a keyserver.
    """

    image: str
    report: ReferenceReport
    store: KeyStore | None = None
    remote: frozenset[str] = frozenset()

    def signer(self, signature: ReferenceSignature) -> tuple[str, str]:
        """Return what the signer goes by outside, and is called; unescaped.

        A certificate goes by its own fingerprint, in every form that it is given in. Its name is its subject, that of
        an OpenPGP key a user ID, that of a PEM key its file.
        """
        if signature.signer is None:
            return "", ""
        if self.store is None:
            return signature.signer.id, ""
        kind = SIGNER_TYPES[signature.signer.kind]
        return kind.identity(self.store, signature.signer.id), kind.title(self.store, signature.signer.id)

    def is_remote(self, signature: ReferenceSignature) -> bool:
        """Return whether the signer's key came from a keyserver ([REMOTE]); all others are at hand ([LOCAL])."""
        return signature.signer is not None and signature.signer.id in self.remote


def print_as_text(result: ImageResult, options: argparse.Namespace) -> None:
    """Print a result as the reference does: what was verified, and notes on standard error."""
    image = printable(result.image)
    if len(options.images) + len(options.from_file) > 1 or options.from_file:
        print(f"Image: {image}", flush=True)
    if any(descriptor.type == DataType.OCI_ROOT_INDEX for descriptor in result.report.descriptors):
        print_note("INFO:    Image is an OCI-SIF, use `--cosign` to verify cosign compatible signatures.")
    words = ["PGP key material"] if options.keyring or not (options.key or options.certificate) else []
    words += [f"key material from '{printable(path)}'" for path in options.key]
    if options.certificate:
        words.append(f"key material from certificate '{printable(options.certificate)}'")
    print_note(f"INFO:    Verifying image with {' and '.join(words)}")
    for signature in result.report.signatures:
        _print_signature(result, signature)
    if result.report.note:
        print_note(f"WARNING: {printable(result.report.note)}")
    if result.report.error is None:
        print_note(f"INFO:    Verified signature(s) from image '{image}'")
    else:
        print_note(f"FATAL:   failed to verify container '{image}': {printable(result.report.error.message)}")


def _print_signature(result: ImageResult, signature: ReferenceSignature) -> None:
    if signature.signer is not None:
        identity, name = result.signer(signature)
        place = f"{'[REMOTE]' if result.is_remote(signature) else '[LOCAL]':<19}"
        print(f"{place}Signing {SIGNER_TYPES[signature.signer.kind].introduction}: {printable(name)}")
        print(f"{place}Fingerprint: {identity}")
    if signature.error is not None:
        print(f"Error encountered during signature verification: {printable(signature.error.message)}\n", flush=True)
        return
    print("Objects verified:\nID  |GROUP   |LINK    |TYPE\n" + "-" * 48)
    by_id = {descriptor.id: descriptor for descriptor in result.report.descriptors}
    for each in (by_id[identity] for identity in signature.objects):
        print(f"{each.id:<4}|{each.group or 'NONE':<8}|{link(each, wide=True):<8}|{data_type(each)}")
    sys.stdout.flush()


def print_as_json(result: ImageResult, _: argparse.Namespace) -> None:
    """Print a result as one line of JSON."""
    signatures = []
    for signature in result.report.signatures:
        shape = signature_as_json(signature, *result.signer(signature))
        if result.is_remote(signature):
            shape["signer"]["remote"] = True
        signatures.append(shape)
    print_result(result.image, result.report.error, signatures)


def print_result(
    image: str, error: Finding | None, signatures: Sequence[dict[str, Any]], payloads: Sequence[dict[str, Any]] = ()
) -> None:
    """Print the result for an image, as one line of JSON; the image is verified when there is no error."""
    shape = {"image": image, "verified": error is None, "error": finding_as_json(error)}
    print_json({**shape, "signatures": list(signatures), "payloads": list(payloads)})


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
