"""What `eclctl sign` says: what a signature will cover, what to know about it, and what became of it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eclctl.cli.sign.policy import Outlook, outlook_as_json, outlook_lines
from eclctl.cli.terminal.exit_codes import FAILED
from eclctl.cli.terminal.output import finding_as_json, print_json, print_note, wrapped
from eclctl.dataclass import dataclass, field
from eclctl.errors import EclctlError
from eclctl.sif import labels
from eclctl.sif.reader import Sif
from eclctl.sign.coverage import Part
from eclctl.sign.native import Signing
from eclctl.signature.keys import PublicKey
from eclctl.terms import Finding, SignatureFormat, SignerKind
from eclctl.text import counted, printable
from eclctl.trust.signer_types import SIGNER_TYPES

if TYPE_CHECKING:
    from eclctl.sign.cosign_sign import CosignSigned, Subject

_KIB = 1024
_ROLES = ("manifest", "config")


@dataclass(frozen=True, slots=True)
class SigningReport:
    """What became of one image.

    `made` are the new signature objects, by ID, with what each covers; `error` is why there are none.
    """

    image: str
    signing: Signing | None = None
    algorithm: str = ""
    made: tuple[tuple[int, Part], ...] = ()
    warnings: tuple[Finding, ...] = ()
    outlook: Outlook | None = None
    error: Finding | None = None

    def show_text(self) -> None:
        """Say in one line how it came out; the details were shown before the user was asked."""
        _show_outcome(self.image, self.error)

    def show_json(self) -> None:
        """Print one line."""
        signing = self.signing
        fields = {
            "format": None if signing is None else signing.format.value,
            "signers": [],
            "hash": self.algorithm or None,
            "purpose": next(iter(signing.purposes), None) if signing is not None else None,
            "signatures": [
                {"id": identity, "group": part.group, "objects": list(part.ids), "whole_group": part.whole}
                for identity, part in self.made
            ],
        }
        if signing is not None:
            titles = {ref: SIGNER_TYPES[ref.kind].title(signing.store, ref.id) for ref in signing.refs}
            fields["signers"] = [{"kind": ref.kind.value, "id": ref.id, "name": titles[ref]} for ref in signing.refs]
        _print_report(self, fields)


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
        _show_outcome(self.image, self.error)

    def show_json(self) -> None:
        """Print one line, of the shape that native signing prints, with what cosign adds."""
        made, subject, kind = self.made, self.subject, SignerKind.COSIGN.value
        objects = [] if subject is None else list(subject.objects)
        payload = None if made is None else made.payload
        signature = {"id": payload, "group": None, "objects": objects, "whole_group": False}
        fields = {
            "format": SignatureFormat.COSIGN.value,
            "signers": [{"kind": kind, "id": key.id, "name": key.source} for key in self.keys],
            "hash": None if made is None else "sha256",
            "purpose": self.purpose,
            "signatures": [signature for _ in self.keys if made is not None],
            "digest": None if made is None else made.digest,
            "annotations": dict(self.annotations),
            "count": None if made is None else made.signatures,
            "broken": [] if subject is None else list(subject.breaks),
        }
        _print_report(self, fields)


def _print_report(report: SigningReport | CosignSigningReport, fields: Mapping[str, Any]) -> None:
    shape = {"image": report.image, "signed": report.error is None, "error": finding_as_json(report.error)}
    warnings = [finding_as_json(warning) for warning in report.warnings]
    outlook = None if report.outlook is None else outlook_as_json(report.outlook)
    print_json({**shape, **fields, "warnings": warnings, "policy": outlook})


def refuse(options: argparse.Namespace, error: EclctlError, kind: type[SigningReport | CosignSigningReport]) -> int:
    """Say why nothing was signed at all; return the exit status."""
    for image in options.images if options.json else ():
        kind(image, error=Finding(error.code, str(error))).show_json()
    print_note(f"FATAL:   failed to sign container: {printable(str(error))}")
    return FAILED


def show_coverage(image: str, parts: Sequence[Part], signing: Signing, algorithm: str) -> None:
    """Print what will be signed, with which key and how."""
    count = counted(len(parts), "signature")
    print(f"To be signed in {printable(image)}: {count} ({algorithm.upper().replace('SHA', 'SHA-', 1)})")
    for ref in signing.refs:
        entry = SIGNER_TYPES[ref.kind]
        print(f"Signing {entry.introduction}: {printable(entry.title(signing.store, ref.id))}")
        print(f"Fingerprint: {ref.id}")
    for purpose in sorted(signing.purposes):
        print(f"Purpose: {printable(purpose)}")
    print(f"ID  |GROUP   |{'TYPE':<22}|{'SIZE':>10} |NAME\n" + "-" * 72)
    for part in parts:
        for each in part.objects:
            columns = f"{each.id:<4}|{each.group:<8}|{labels.data_type(each):<22}|{_size_text(each.size):>10} |"
            print(columns + printable(each.name))
    print("and the image's header: launch script, version and UUID", flush=True)


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
        print(f"{identity:<4}|{role:<10}|{_size_text(sizes[identity]):>16}")
    print("and nothing else: neither the image's header nor any other object of the file", flush=True)


def show_outlook(found: Outlook | None) -> None:
    """Print what a policy will say of the image, if one was asked."""
    for line in outlook_lines(found) if found is not None else ():
        print(line, flush=True)


def _show_outcome(image: str, error: Finding | None) -> None:
    """Say in one line how it came out; `error` is why nothing was made."""
    if error is not None:
        print_note(f"FATAL:   failed to sign container '{printable(image)}': {printable(error.message)}")
        return
    print_note(f"INFO:    Signature created and applied to image '{printable(image)}'")


def show_warnings(warnings: Sequence[Finding]) -> None:
    """Print each warning, in lines at most 80 columns wide where words allow."""
    for warning in warnings:
        print_note("\n".join(wrapped(f"WARNING: {printable(warning.message)}", later=" " * len("WARNING: "))))


def _size_text(size: int) -> str:
    """Return a number of bytes in the largest unit that it fills."""
    number, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < _KIB:
            break
        number, unit = number / _KIB, larger
    return f"{size} B" if unit == "B" else f"{number:.1f} {unit}"
