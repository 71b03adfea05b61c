"""Cold examinations: large images against one hashlib pass, two at once, and many small ones a second."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, pinned, ratio, seconds
from eclctl.errors import EclctlError
from eclctl.model import Verification
from eclctl.trust.keyring import KeyStore
from eclctl.verify.examine import examine
from eclctl.verify.hashing import HashPool
from tests.helpers.ocibuilder import OciBuilder, cosign_key, cosign_store
from tests.helpers.sifbuilder import SifBuilder, corpus_pgp_key, corpus_store

MIB = 1 << 20
LAYERS = 20
SMALL = 500
MALFORMED = 3000
HOSTILE = (b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, b"\xff" * 7 + b"\x7f", b"\x01\0\0\0\0\0\0\0", b"\x80" * 8)


def measure() -> list[Result]:
    with site.directory() as root:
        images = [root / "one.sif", root / "three.sif", root / "two.sif"]
        note("writing three images of 1 GiB …")
        for image, keys in zip(images, (["scanner"], ["scanner", "approver", "builder"], ["scanner"]), strict=True):
            _write(image, keys)
        store = corpus_store("site-ring")
        results = [_against_hashlib(image, count, store) for image, count in zip(images, (1, 3), strict=False)]
        results += [_together(images[0], images[2], store), _oci(root), _small(store)]
        good = (site.CORPUS / "images" / "one-builder+scanner+approver.sif").read_bytes()
        results += _malformed(root, store, "malformed image", good, (0, 128, 4096, 8192))
        good = (site.CORPUS / "oci" / "layers-ci+approver.oci.sif").read_bytes()
        places = (4096, 4096 + 10 * 585, len(good) - 4096, len(good))
        return results + _malformed(root, cosign_store(cosign_key()), "malformed OCI-SIF", good, places)


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


def _oci(root: Path) -> Result:
    """An image of many layers, none of which is hashed whole by one thread while the other waits."""
    note(f"writing an OCI-SIF of 1 GiB in {LAYERS} layers …")
    image, builder = root / "layers.oci.sif", OciBuilder()
    layers = [number.to_bytes(4) * 256 * (1024 * 1024 // LAYERS) for number in range(LAYERS)]
    builder.add_image(*layers)
    builder.sign(cosign_key())
    image.write_bytes(builder.build())
    store, pool = cosign_store(cosign_key()), HashPool(2)
    (claim,) = _examine(image, store, pool).claims
    if claim.mismatch or len(claim.objects) != LAYERS + 2:
        raise SystemExit(f"no good signature: {claim}")
    a, b = interleaved(9, lambda: seconds(lambda: _examine(image, store, pool)), lambda: seconds(lambda: _hash(image)))
    pool.close()
    image.unlink()
    detail = f"{median(a):.2f} s against {median(b):.2f} s of one hashlib pass"
    return Result(f"1 GiB OCI-SIF of {LAYERS} layers cold, cosign", ratio(a, b), 1.1, at_least=False, detail=detail)


def _malformed(root: Path, store: KeyStore, what: str, good: bytes, places: tuple[int, int, int, int]) -> list[Result]:
    """The slowest and the most memory-hungry of many damaged images, each read as the daemon reads it."""
    note(f"{what}s …")
    random = Random(7)
    path = root / "malformed.sif"
    slowest, hungriest = 0.0, 0
    for number in range(MALFORMED):
        damaged = bytearray(good)
        for _ in range(random.randint(1, 6)):
            at = random.choice((random.randrange(*places[:2]), random.randrange(*places[2:])))
            damaged[at : at + 8] = random.choice(HOSTILE)[: len(good) - at]
        path.write_bytes(damaged)
        took, peak = _cost(path, store, memory=number % 10 == 0)
        slowest, hungriest = max(slowest, took), max(hungriest, peak)
    detail = f"of {MALFORMED:,} images with hostile headers, descriptors and OCI JSON"
    if "OCI" not in what:
        detail = f"of {MALFORMED:,} images with hostile headers and descriptors"
    return [
        Result(f"slowest {what}, ms", slowest * 1000, 50, at_least=False, detail=detail),
        Result(f"most memory for a {what}, MiB", hungriest / MIB, 64, at_least=False, detail=detail),
    ]


def _cost(path: Path, store: KeyStore, *, memory: bool) -> tuple[float, int]:
    """Return seconds, or the peak of allocated bytes, which is measured apart because measuring it is slow."""

    def read() -> None:
        fd = os.open(path, os.O_RDONLY)
        with suppress(EclctlError):
            examine(fd, store, pool=None)
        os.close(fd)

    if not memory:
        return seconds(read), 0
    tracemalloc.start()
    read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return 0.0, peak
