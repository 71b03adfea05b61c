"""What `eclctl sign` says: what a signature will cover, what to know about it, and what became of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eclctl.cli.sign import policy as sign_policy
from eclctl.cli.sign.policy import Outlook, wrapped
from eclctl.cli.terminal.output import finding_as_json, print_note
from eclctl.sif import labels
from eclctl.sign.coverage import Part
from eclctl.sign.native import Signing
from eclctl.terms import Finding, KeyRef
from eclctl.text import counted, printable
from eclctl.trust.signer_types import SIGNER_TYPES

__all__ = ["SigningReport", "show_coverage", "show_outcome", "show_warnings", "size_text"]

_KIB = 1024


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
        show_outcome(self.image, self.error)

    def show_json(self) -> None:
        """Print one line."""
        signing = self.signing
        shape: dict[str, Any] = {
            "v": 1,
            "image": self.image,
            "signed": self.error is None,
            "error": finding_as_json(self.error),
            "format": None if signing is None else signing.format.value,
            "signers": [] if signing is None else [_signer(signing, ref) for ref in signing.refs],
            "hash": self.algorithm or None,
            "purpose": next(iter(signing.purposes), None) if signing is not None else None,
            "signatures": [
                {"id": identity, "group": part.group, "objects": list(part.ids), "whole_group": part.whole}
                for identity, part in self.made
            ],
            "warnings": [finding_as_json(warning) for warning in self.warnings],
            "policy": None if self.outlook is None else sign_policy.outlook_as_json(self.outlook),
        }
        print(json.dumps(shape), flush=True)


def show_coverage(image: str, parts: Sequence[Part], signing: Signing, algorithm: str) -> None:
    """Print what will be signed, with which key and how."""
    count = counted(len(parts), "signature")
    print(f"To be signed in {printable(image)}: {count} ({algorithm.upper().replace('SHA', 'SHA-', 1)})")
    for ref in signing.refs:
        print(f"Signing {SIGNER_TYPES[ref.kind].introduction}: {printable(_name(signing, ref))}")
        print(f"Fingerprint: {ref.id}")
    for purpose in sorted(signing.purposes):
        print(f"Purpose: {printable(purpose)}")
    print(f"ID  |GROUP   |{'TYPE':<22}|{'SIZE':>10} |NAME\n" + "-" * 72)
    for part in parts:
        for each in part.objects:
            columns = f"{each.id:<4}|{each.group:<8}|{labels.data_type(each):<22}|{size_text(each.size):>10} |"
            print(columns + printable(each.name))
    print("and the image's header: launch script, version and UUID", flush=True)


def show_outcome(image: str, error: Finding | None) -> None:
    """Say in one line how it came out; `error` is why nothing was made."""
    if error is not None:
        print_note(f"FATAL:   failed to sign container '{printable(image)}': {printable(error.message)}")
        return
    print_note(f"INFO:    Signature created and applied to image '{printable(image)}'")


def show_warnings(warnings: Sequence[Finding]) -> None:
    """Print each warning, in lines at most 80 columns wide where words allow."""
    for warning in warnings:
        print_note("\n".join(wrapped(f"WARNING: {printable(warning.message)}", " " * len("WARNING: "))))


def _signer(signing: Signing, ref: KeyRef) -> dict[str, str]:
    return {"kind": ref.kind.value, "id": ref.id, "name": _name(signing, ref)}


def _name(signing: Signing, ref: KeyRef) -> str:
    """Return what a signer is called: a user ID or the file of a PEM key. Unescaped."""
    return SIGNER_TYPES[ref.kind].title(signing.store, ref.id)


def size_text(size: int) -> str:
    """Return a number of bytes in the largest unit that it fills."""
    number, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < _KIB:
            break
        number, unit = number / _KIB, larger
    return f"{size} B" if unit == "B" else f"{number:.1f} {unit}"
