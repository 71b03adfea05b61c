"""What `eclctl sign --cosign` says: what a signature will cover, what to know about it, and what became of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from eclctl.cli.sign import policy as sign_policy
from eclctl.cli.sign.policy import Outlook
from eclctl.cli.sign.report import show_outcome, show_warnings, size_text
from eclctl.cli.terminal.output import finding_as_json
from eclctl.sif.reader import Sif
from eclctl.sign.cosign_sign import CosignSigned, Subject
from eclctl.signature.keys import PublicKey
from eclctl.terms import Finding, SignatureFormat, SignerKind
from eclctl.text import counted, printable

__all__ = ["CosignSigningReport", "show_cosign_coverage", "show_outlook"]

_ROLES = ("manifest", "config")


@dataclass(frozen=True, slots=True)
class CosignSigningReport:
    """What becomes of one image: who signs what, what was made, and `error` when nothing was.

    `annotations` are what the signer adds beside the purpose.
    """

    image: str
    keys: tuple[PublicKey, ...] = ()
    purpose: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    made: CosignSigned | None = None
    subject: Subject | None = None
    warnings: tuple[Finding, ...] = ()
    outlook: Outlook | None = None
    error: Finding | None = None

    def show_text(self) -> None:
        """Say in one line how it came out, after what is to be known of the file and was not asked about."""
        if self.error is None:
            show_warnings([warning for warning in self.warnings if warning.code == "note"])
        show_outcome(self.image, self.error)

    def show_json(self) -> None:
        """Print one line, of the shape that native signing prints, with what cosign adds."""
        made, subject = self.made, self.subject
        objects = [] if subject is None else list(subject.objects)
        shape: dict[str, Any] = {
            "v": 1,
            "image": self.image,
            "signed": self.error is None,
            "error": finding_as_json(self.error),
            "format": SignatureFormat.COSIGN.value,
            "signers": [_signer(key) for key in self.keys],
            "hash": None if made is None else "sha256",
            "purpose": self.purpose,
            "signatures": []
            if made is None
            else [{"id": made.payload, "group": None, "objects": objects, "whole_group": False} for _ in self.keys],
            "warnings": [finding_as_json(warning) for warning in self.warnings],
            "policy": None if self.outlook is None else sign_policy.outlook_as_json(self.outlook),
            "digest": None if made is None else made.digest,
            "annotations": dict(self.annotations),
            "count": None if made is None else made.signatures,
            "broken": [] if subject is None else list(subject.breaks),
        }
        print(json.dumps(shape), flush=True)


def show_cosign_coverage(image: str, file: Sif, subject: Subject, report: CosignSigningReport) -> None:
    """Print what will be signed, with which key and how."""
    count = len(report.keys)
    number = counted(count, "cosign signature")
    print(f"To be signed in {printable(image)}: {number} of the image\n{subject.digest}")
    for key in report.keys:
        print(f"Signing key: {printable(key.source)}\nFingerprint: {key.id}")
    if report.purpose is not None:
        print(f"Purpose: {printable(report.purpose)}")
    for name, text in sorted(report.annotations.items()):
        print(f"Annotation: {printable(name)}={printable(text)}")
    print(f"ID  |{'PART':<10}|{'SIZE':>16}\n" + "-" * 32)
    sizes = {each.id: each.size for each in file.descriptors}
    for place, identity in enumerate(subject.objects):
        role = _ROLES[place] if place < len(_ROLES) else "layer"
        print(f"{identity:<4}|{role:<10}|{size_text(sizes[identity]):>16}")
    print("and nothing else: neither the image's header nor any other object of the file", flush=True)


def show_outlook(found: Outlook, *, as_json: bool) -> None:
    """Print what a policy will say of the image."""
    if as_json:
        return  # it is part of what is printed in the end
    for line in sign_policy.outlook_lines(found):
        print(line)
    sys.stdout.flush()


def _signer(key: PublicKey) -> dict[str, str]:
    return {"kind": SignerKind.COSIGN.value, "id": key.id, "name": key.source}
