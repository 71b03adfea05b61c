"""A site with exceptions: who may approve them, files of them, and signatures made in the process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from eclctl.decide.breakglass import Standing, standing
from tests.helpers import pgp
from tests.helpers.engines import RULES, SIGNERS, Site
from tests.helpers.sifbuilder import corpus_pgp_key
from tests.helpers.support import NOW

HALF = "one-builder+scanner.sif"
"""An image that lacks an approval of the rule."""

TERMS = "exceptions: {directory: ../exceptions.d, approvals: {count: 2, of: security}, longest: 72h}\n"
STARTS, ENDS = NOW - timedelta(hours=1), NOW + timedelta(hours=24)
BOTH = ("scanner", "approver")


class BreakGlass(Site):
    """`Site` with a directory of exceptions, in which those of the role security approve them, two at a time."""

    def __init__(self, root: Path, rules: str = RULES, terms: str = TERMS, signers: str = SIGNERS) -> None:
        (root / "exceptions.d").mkdir()
        super().__init__(root, terms + rules, signers=signers)

    @property
    def folder(self) -> Path:
        return self.root / "exceptions.d"

    def grant(self, name: str, *images: Path | str, by: Sequence[str] = BOTH, **fields: object) -> Path:
        """Write an exception for files or path patterns, signed, and load it."""
        signed = fields.pop("signed", NOW - timedelta(hours=1))
        assert isinstance(signed, datetime)
        path = self.write(name, *images, **fields)
        for who in by:
            self.sign(path, who, signed)
        self.reload()
        return path

    def write(self, name: str, *images: Path | str, **fields: object) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(text(name, *images, **fields))
        return path

    def sign(self, path: Path, who: str, at: datetime = NOW - timedelta(hours=1)) -> None:
        key = corpus_pgp_key(who)
        made = pgp.packet(2, key.sign(0x00, path.read_bytes(), created=int(at.timestamp())))
        path.with_name(f"{path.name}.{who}.asc").write_bytes(pgp.armor("SIGNATURE", made))

    def stands(self, name: str, now: datetime = NOW) -> Standing:
        snapshot = self.engine.snapshot
        candidate = next(each for each in snapshot.exceptions.candidates if each.name == name)
        assert snapshot.policy is not None
        return standing(candidate, snapshot.policy, snapshot.store, now)


def text(name: str, *images: Path | str, **fields: object) -> str:
    """An exception as its file; fields that are None are left out."""
    said: dict[str, object] = {
        "version": 1,
        "exception": name,
        "reason": "the scanner is down and node 12 must be drained",
        "users": "[4242]",
        "starts": f"{STARTS:%Y-%m-%dT%H:%M:%SZ}",
        "ends": f"{ENDS:%Y-%m-%dT%H:%M:%SZ}",
    } | fields
    lines = [f"{key}: {value}" for key, value in said.items() if value is not None]
    return "\n".join([*lines, "images:", *(f"  - {image_text(image)}" for image in images)]) + "\n"


def image_text(image: Path | str) -> str:
    if isinstance(image, str):
        return f'{{path: "{image}"}}'
    content = image.read_bytes()
    return f"{{sha256: sha256:{hashlib.sha256(content).hexdigest()}, size: {len(content)}}}"
