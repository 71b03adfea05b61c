"""`eclctl verify --cosign`: what the cosign signatures of OCI-SIF images say, as the reference says it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from eclctl.cli.inputs.images import open_regular_file
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_note
from eclctl.cli.verify.results import print_result, signature_as_json
from eclctl.errors import EclctlError
from eclctl.terms import Finding
from eclctl.text import printable
from eclctl.trust.keyring import load_public_keys
from eclctl.verify.hashing import HashPool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from eclctl.signature.keys import PublicKey
    from eclctl.verify.cosign import CosignReport


def cosign_options_error(options: argparse.Namespace) -> str | None:
    """Return what is wrong with the other options beside `--cosign`."""
    if not options.cosign:
        return None
    if not options.key:
        return "--cosign needs a public --key FILE"
    others = {
        "--keyring": options.keyring,
        "--certificate": options.certificate,
        "--local": options.local,
        "--group-id": options.group_id,
        "--sif-id": options.sif_id,
        "--all": options.all,
        "--legacy-insecure": options.legacy_insecure,
    }
    other = next((name for name, value in others.items() if value), None)
    return None if other is None else f"{other} is not for --cosign, which verifies an OCI image with a public --key"


def verify_all(images: Sequence[str], options: argparse.Namespace) -> int:
    """Verify images with the keys of `--key`, show how each came out, and return the exit status.

    Raises:
        KeyMaterialError: A key cannot be read.
    """
    keys = load_public_keys(options.key)
    status = OK
    with HashPool.beside_caller() as pool:
        for image in images:
            report = _verify(image, keys, pool)
            if options.json:
                names = {key.id: key.source for key in keys}
                signers = (each.signer.id if each.signer is not None else "" for each in report.signatures)
                named = zip(report.signatures, signers, strict=True)
                signatures = [signature_as_json(each, signer, names.get(signer, "")) for each, signer in named]
                print_result(image, report.error, signatures, report.payloads)
            else:
                _show_text(image, report, options, heading=len(images) > 1)
            status = status if report.verified else FAILED
    return status


def _verify(image: str, keys: Sequence[PublicKey], pool: HashPool) -> CosignReport:
    from eclctl.verify.cosign import CosignReport, verify_cosign  # noqa: PLC0415 - only --cosign needs it

    try:
        fd = open_regular_file(image)
        try:
            report = verify_cosign(fd, keys, pool=pool)
        finally:
            os.close(fd)
    except EclctlError as error:
        return CosignReport(Finding(error.code, str(error)))
    if report.error is not None and report.error.code == "not-oci-sif":
        return CosignReport(Finding(report.error.code, f'{report.error.message}: "{image}"'))
    return report


def _show_text(image: str, report: CosignReport, options: argparse.Namespace, *, heading: bool) -> None:
    if heading:
        print(f"Image: {printable(image)}", flush=True)
    words = " and ".join(f"key material from '{printable(path)}'" for path in options.key)
    print_note(f"INFO:    Verifying image with sigstore/cosign signature, using {words}")
    if report.blobs:
        print_note(f"INFO:    Verifying digests for {report.blobs} OCI Blobs")
    if report.digest and not report.damaged:
        print_note(f"INFO:    Image digest: {report.digest}")
        print_note(f"INFO:    Image has {report.associated} associated signatures")
        print_note(f"INFO:    Image has {len(report.payloads)} signatures that are valid with provided key material")
    for finding in report.damaged[1:]:
        print_note(f"ERROR:   {printable(finding.message)}")
    for signature in report.signatures:
        if signature.error is not None and signature.error.code == "unsupported-signature-format":
            print_note(f"WARNING: {printable(signature.error.message)}")
    if report.error is not None:
        print_note(f"FATAL:   {printable(report.error.message)}")
    else:
        print(_array(report.payloads), flush=True)


def _array(payloads: Sequence[dict[str, Any]]) -> str:
    """Return payloads as the reference prints them: keys in order, and nothing that a terminal would obey."""
    text = json.dumps(payloads, separators=(",", ":"), sort_keys=True).replace("\x7f", "\\u007f")
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
