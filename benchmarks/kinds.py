"""Warm decisions by the kind of signature that they rest on: a certificate, OCSP and all, against an OpenPGP key."""

from __future__ import annotations

import json
import shutil
import socket
import time
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, pinned, ratio
from examples.responder import authority

# "No more than" an OpenPGP key, by the few per cent that single runs differ.
BOUND = 1.05

IMAGES = 100  # different ones
ROUNDS = 12
RELEASE = site.ROOT / "examples" / "keys" / "release.pub"
POLICY = """\
version: 1
signers:
  builder: {{pgp: [81F111F6190C46143937EF7C22BC3A3BC942487F]}}
  release: {{certificate: {{file: ../certs/release.pem, roots: ../certs/root.pem, ocsp: require}}}}
rules:
  - name: openpgp-key
    match: {{paths: ["{library}/openpgp-key/**"]}}
    require: [{{any_of: [builder]}}]
  - name: certificate
    match: {{paths: ["{library}/certificate/**"]}}
    require: [{{any_of: [release]}}]
"""
SOURCES = {"openpgp-key": "one-builder.sif", "certificate": "one-dsse-p256.sif"}  # names of one length


def measure() -> list[Result]:
    """One signature each, of images whose facts are kept; the responder's answers are kept too."""
    note("warm decisions on a certificate …")
    with site.directory() as root, authority(RELEASE, timedelta(days=1)) as release:
        site.lay_out(root)
        release.write(root / "certs")
        (root / "policies.d" / "policy.yaml").write_text(POLICY.format(library=root / "library"))
        kinds = [_images(root, kind) for kind in SOURCES]
        time.sleep(0.1)  # facts of a file that changed within the clock tick are not kept
        path = root / "check.sock"
        with site.serving(site.daemon(root), path, 0), pinned(1), ExitStack() as stack:
            for images in kinds:
                _warm_up(path, images)
            batches = [stack.enter_context(site.Batch(images)) for images in kinds]
            pgp, certificate = interleaved(61, *(lambda batch=batch: _seconds(path, batch) for batch in batches))
    each = IMAGES * ROUNDS / 1e6
    detail = f"{median(certificate) / each:.1f} µs a decision against {median(pgp) / each:.1f} µs on an OpenPGP key"
    return [Result("warm decision on a certificate", ratio(certificate, pgp), BOUND, at_least=False, detail=detail)]


def _images(root: Path, kind: str) -> list[Path]:
    folder = root / "library" / kind
    folder.mkdir()
    images = [folder / f"{number}.sif" for number in range(IMAGES)]
    for image in images:
        shutil.copyfile(site.CORPUS / "images" / SOURCES[kind], image)
    return images


def _warm_up(path: Path, images: list[Path]) -> None:
    for image in (*images, *images):
        site.ask(path, site.request(image), image)
    answers = [json.loads(site.ask(path, site.request(image), image))["result"] for image in images]
    if {(answer["decision"], answer["cached"]) for answer in answers} != {("allow", True)}:
        raise SystemExit(f"not all are warm and allowed: {answers[0]}")


def _seconds(path: Path, batch: site.Batch) -> float:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        start = time.perf_counter()
        for _ in range(ROUNDS):
            batch.send(peer)
            answered = 0
            while answered < IMAGES:
                answered += peer.recv(1 << 20).count(b"\n")
        return time.perf_counter() - start
