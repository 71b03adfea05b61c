"""Signing a large image: copying it, hashing it and flushing the copy, against one hashlib pass over it."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, ratio, seconds
from eclctl.image.sif import Descriptor
from eclctl.sign.editing import Edit, NewObject, editing
from tests.sifbuilder import SIGNATURE, SifBuilder, envelope, pem_key

MIB = 1 << 20


def measure() -> list[Result]:
    with site.directory() as root:
        image = root / "image.sif"
        note("writing an image of 1 GiB …")
        _write(image)
        return [_against_hashlib(image), _memory(image)]


def _write(path: Path) -> None:
    builder = SifBuilder()
    builder.add(b"bootstrap: docker\n")
    builder.partition(os.urandom(MIB) * 1024)
    path.write_bytes(builder.build())


def _sign(image: Path) -> None:
    """Add a signature with a PEM key, or put a newer one in its place."""
    with editing(str(image)) as opened:
        digests = opened.copy([1, 2], ["sha256"])
        text = b"".join(digests.values()).hex().encode()
        new = NewObject(SIGNATURE, envelope(text, pem_key("ed25519")), link=1, links_group=True, extra=b"\1\0\0\0")
        opened.commit(Edit(add=(new,), remove=_signatures(opened.image.descriptors)), datetime.now(UTC))


def _signatures(descriptors: tuple[Descriptor, ...]) -> frozenset[int]:
    return frozenset(one.id for one in descriptors if one.is_signature)


def _hash(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        hashlib.file_digest(file, "sha256")


def _against_hashlib(image: Path) -> Result:
    note("1 GiB signed …")
    a, b = interleaved(9, lambda: seconds(lambda: _sign(image)), lambda: seconds(lambda: _hash(image)))
    detail = f"{median(a):.2f} s, on the disk, against {median(b):.2f} s of one hashlib pass"
    return Result("1 GiB signed with a PEM key", ratio(a, b), 1.1, at_least=False, detail=detail)


def _memory(image: Path) -> Result:
    tracemalloc.start()
    _sign(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return Result("most memory while 1 GiB is signed, MiB", peak / MIB, 16, at_least=False, detail="whatever its size")
