"""Signing a large image, the whole command but the start of Python, against one hashlib pass over it."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, ratio, seconds
from eclctl.cli.sign import command as sign
from tests.helpers.sifbuilder import SifBuilder

MIB = 1 << 20
KEY = site.CORPUS / "keys" / "pem" / "ed25519-private.pem"


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
    """Run the whole command: look, read the key, hash, sign, verify, write, flush."""
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        if sign.run(["--yes", "--key", str(KEY), str(image)]) != 0:
            raise SystemExit("the image was not signed")


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
    return Result(
        "most memory while 1 GiB is signed, MiB", peak / MIB, 16, at_least=False, detail="at any size of the image"
    )
