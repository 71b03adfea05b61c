"""Cold examinations: large images against one hashlib pass, two at once, and many small ones a second."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, pinned, ratio, seconds
from eclctl.model import Verification
from eclctl.trust.keyring import KeyStore
from eclctl.verify import HashPool, examine
from tests.sifbuilder import SifBuilder, corpus_pgp_key, corpus_store

MIB = 1 << 20
SMALL = 500


def measure() -> list[Result]:
    with site.directory() as root:
        images = [root / "one.sif", root / "three.sif", root / "two.sif"]
        note("writing three images of 1 GiB …")
        for image, keys in zip(images, (["scanner"], ["scanner", "approver", "builder"], ["scanner"]), strict=True):
            _write(image, keys)
        store = corpus_store("site-ring")
        results = [_against_hashlib(image, count, store) for image, count in zip(images, (1, 3), strict=False)]
        return [*results, _together(images[0], images[2], store), _small(store)]


def _write(path: Path, keys: list[str]) -> None:
    builder = SifBuilder()
    builder.add(b"bootstrap: docker\n")
    builder.partition(os.urandom(MIB) * 1024)
    for key in keys:
        builder.sign_pgp(corpus_pgp_key(key))
    path.write_bytes(builder.build())


def _examine(path: Path, store: KeyStore, pool: HashPool) -> Verification:
    fd = os.open(path, os.O_RDONLY)
    try:
        return examine(fd, store, pool=pool)
    finally:
        os.close(fd)


def _hash(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        hashlib.file_digest(file, "sha256")


def _against_hashlib(image: Path, signatures: int, store: KeyStore) -> Result:
    note(f"1 GiB with {signatures} signature(s) …")
    pool = HashPool(2)
    claims = _examine(image, store, pool).claims
    if len(claims) != signatures or any(claim.mismatch for claim in claims):
        raise SystemExit(f"not {signatures} good signatures: {claims}")
    a, b = interleaved(9, lambda: seconds(lambda: _examine(image, store, pool)), lambda: seconds(lambda: _hash(image)))
    pool.close()
    detail = f"{median(a):.2f} s against {median(b):.2f} s of one hashlib pass"
    return Result(f"1 GiB cold, {signatures} signature(s)", ratio(a, b), 1.05, at_least=False, detail=detail)


def _together(first: Path, second: Path, store: KeyStore) -> Result:
    note("two images of 1 GiB at once …")
    pool = HashPool(2)

    def both() -> None:
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda image: _examine(image, store, pool), (first, second)))

    a, b = interleaved(9, lambda: seconds(lambda: _examine(first, store, pool)), lambda: seconds(both))
    pool.close()
    detail = f"two in {median(b):.2f} s, one in {median(a):.2f} s"
    return Result("throughput of two at once, in ones", 2 * ratio(a, b), 1.8, at_least=True, detail=detail)


def _small(store: KeyStore) -> Result:
    note("small images …")
    image = site.CORPUS / "images" / "one-builder.sif"
    pool = HashPool(1)

    def rate() -> float:
        return SMALL / seconds(lambda: [_examine(image, store, pool) for _ in range(SMALL)])

    with pinned(0):
        (rates,) = interleaved(9, rate)
    pool.close()
    detail = f"RSA-4096, on one core, {min(rates):,.0f} to {max(rates):,.0f} in 9 runs"
    return Result("small images verified a second", median(rates), 1500, at_least=True, detail=detail)
