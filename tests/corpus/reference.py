"""Asks `verify_scope` what the corpus manifests asked the reference."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from eclctl.errors import EclctlError
from eclctl.signature import openpgp
from eclctl.terms import SignerKind
from eclctl.trust.keyring import KeyStore, load_keyring, load_public_keys
from eclctl.verify.reference import CheckedObjects, GivenKeys, ReferenceReport, verify_scope
from tests.helpers.support import CORPUS

AFTER = datetime(2026, 11, 23, tzinfo=UTC)
"""When the corpus is judged: the day after it was made, for some of its signatures carry the real time."""

STRICTER = frozenset(json.loads((CORPUS / "stricter.json").read_text())["images"])


@dataclass(frozen=True)
class Answer:
    """What this project says of one case; `signatures` as (id, PGP signer or "", objects) when verified."""

    ok: bool
    message: str
    signatures: tuple[tuple[int, str, tuple[int, ...]], ...] = ()


@cache
def material(keyring: Path | None, keys: tuple[Path, ...]) -> GivenKeys:
    ring = load_keyring([keyring]) if keyring else openpgp.Keyring.parse()
    return GivenKeys(KeyStore.of(ring, load_public_keys(keys)), keyring is not None, bool(keys))


def scope(question: dict[str, Any]) -> CheckedObjects:
    return CheckedObjects(
        frozenset([question["group"]] if "group" in question else ()),
        frozenset([question["object"]] if "object" in question else ()),
        legacy="legacy" in question or "legacy-all" in question,
        every_object="legacy-all" in question,
    )


def ask(fd: int, keys: GivenKeys, where: CheckedObjects) -> Answer:
    try:
        report = verify_scope(fd, keys, where, AFTER)
    except EclctlError as error:
        return Answer(ok=False, message=str(error))
    return _answer(report)


def ask_file(path: Path, keys: GivenKeys, where: CheckedObjects) -> Answer:
    fd = os.open(path, os.O_RDONLY)
    try:
        return ask(fd, keys, where)
    finally:
        os.close(fd)


def ask_case(case: dict[str, Any], folder: Path) -> Answer:
    question = case["with"]
    keyring = CORPUS / question["keyring"] if "keyring" in question else None
    keys = material(keyring, tuple(CORPUS / path for path in question.get("pem", ())))
    return ask_file(folder / case["image"], keys, scope(question))


def reference_message(error: str) -> str:
    """Return the reference's words without the name of the step that its test program put before them."""
    for step in ("new: ", "load: "):
        error = error.removeprefix(step)
    return error


def name(case: dict[str, Any]) -> str:
    question = case["with"]
    return "-".join([Path(case["image"]).stem, *(f"{key}={_short(value)}" for key, value in question.items())])


def _short(value: object) -> str:
    parts: Iterable[object] = value if isinstance(value, list) else [value]
    return "+".join(Path(str(part)).stem for part in parts)


def _answer(report: ReferenceReport) -> Answer:
    signatures = tuple(
        (found.id, found.signer.id if found.signer.kind is SignerKind.PGP else "", found.objects)
        for found in report.signatures
        if found.valid and found.signer is not None
    )
    return Answer(report.verified, report.error.message if report.error else "", signatures)
