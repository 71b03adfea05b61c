"""What it costs to start a command: processor time against an interpreter that only imports what the command needs."""

from __future__ import annotations

import compileall
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, ratio

BOUND = 2.0

_CRYPTOGRAPHY = """\
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, ed448, padding, rsa
"""
"""The part of cryptography that reads an OpenPGP key and verifies its signatures: neither x509 nor ciphers."""


@dataclass(frozen=True)
class Start:
    """One command, and the imports that it cannot do without, as Python code."""

    name: str
    arguments: tuple[str | Path, ...]
    floor: str


def measure() -> list[Result]:
    """Every command does its work: it reads small files and prints a few lines."""
    note("starting commands …")
    _compile()
    with site.directory() as root:
        return [_measured(start) for start in _starts(root)]


def _starts(root: Path) -> list[Start]:
    image = site.lay_out(root)
    ring, policies = root / "keys.d" / "site.asc", root / "policies.d"
    own = root / "own-ring"
    _run([site.ECLCTL, "keys", "import", "--keyring-dir", own, ring])
    return [
        # The signatures of a PGP image are over a digest of JSON; a ring of keys verifies them.
        Start("verify", ("--local", "--keyring", ring, image), "import argparse, json, hashlib\n" + _CRYPTOGRAPHY),
        # The policy is YAML. What its fingerprints are worth is seen in the ring, whose self-signatures are verified.
        Start(
            "policy check",
            ("--keyring", ring, policies),
            "import argparse, hashlib\nfrom yaml import CSafeLoader\n" + _CRYPTOGRAPHY,
        ),
        # What a key is good for is seen in its self-signatures.
        Start("keys list", ("--keyring-dir", own), "import argparse, hashlib\n" + _CRYPTOGRAPHY),
        Start("sif list", (image,), "import argparse, os, struct\n"),
    ]


def _measured(start: Start) -> Result:
    ours = [site.ECLCTL, *start.name.split(), *start.arguments]
    floor = [sys.executable, "-c", start.floor]
    a, b = interleaved(41, lambda: _run(ours), lambda: _run(floor))
    detail = f"processor time {median(a) * 1e3:.1f} ms against {median(b) * 1e3:.1f} ms"
    name = f"eclctl {start.name} against an interpreter with its imports"
    return Result(name, ratio(a, b), BOUND, at_least=False, detail=detail)


def _run(command: Sequence[str | Path]) -> float:
    """Run a command and return the seconds of processor time, user and system, that it took.

    Raises:
        SystemExit: It failed.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None  # it is a pipe
    with process.stderr as stream:
        said = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: {said.decode(errors='replace')}")
    return usage.ru_utime + usage.ru_stime


def _compile() -> None:
    """Compile the bytecode of both sides, so that no run compiles and neither side has an advantage."""
    for name in ("eclctl", "cryptography", "yaml"):
        spec = importlib.util.find_spec(name)
        for place in (spec and spec.submodule_search_locations) or ():
            compileall.compile_dir(place, quiet=2)
