"""A policy of 10,000 rules over 100,000 OpenPGP certificates in 1,000 roles: loading it, and deciding by it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from benchmarks import site
from benchmarks.harness import Result, interleaved, median, note, ratio, seconds
from eclctl.config.accounts import Names
from eclctl.config.settings import Settings
from eclctl.decide.cache import FactCache
from eclctl.decide.driving import drive
from eclctl.decide.engine import Engine
from eclctl.decide.questions import Question
from eclctl.decide.snapshot import Snapshot, build
from eclctl.files.locating import Locator
from eclctl.files.lookup_rights import LookupRights
from eclctl.files.mounts import MountTable
from eclctl.files.syscalls import Credentials, can_assume
from eclctl.model import Caller, Code
from eclctl.verify.hashing import HashPool
from tests.helpers.pgp import Key, certificate

RULES, FINGERPRINTS, ROLES = 10_000, 100_000, 1_000
LOADS_WITHIN = 10.0  # seconds
TIMES_AS_LONG = 1.5  # as a policy of ten rules
QUESTIONS = 1_000
CALLER = Caller(65534, 65534, frozenset(range(2_000, 2_016)))
NAMES = Names({}.get, {}.get)
SIGNERS = {
    "builder": "81F111F6190C46143937EF7C22BC3A3BC942487F",
    "scanner": "F69053E5830DBDBA72B3D8F61BDDA97D14902F26",
    "approver": "25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4",
}
SHAPES: dict[str, Callable[[Path, int, int], str]] = {
    "a directory each": lambda library, number, which: (
        f'{{paths: ["{library}/**"]}}' if number == which else f'{{paths: ["{library}-{number}/**"]}}'
    ),
    "files of one directory": lambda library, number, which: (
        f'{{paths: ["{library}/approved*"]}}' if number == which else f'{{paths: ["{library}/other{number}-*.sif"]}}'
    ),
    "a group each, on one path": lambda library, number, which: (
        f'{{paths: ["{library}/**"], groups: ["{2_010 if number == which else 10_000 + number}"]}}'
    ),
    "a user each, anywhere": lambda _library, number, which: (
        f'{{users: ["{65534 if number == which else 10_000 + number}"]}}'
    ),
}


def measure() -> list[Result]:
    """Load from files, keyring and all; then decide warm, in one process, against the same shape with ten rules."""
    with site.directory() as root:
        image = site.lay_out(root)
        note(f"making {FINGERPRINTS:,} certificates …")
        keys = _certificates(root / "keys.d" / "many.pgp")
        loads: list[float] = []
        decides = [_decides(root, image, shape, keys, loads) for shape in SHAPES]
        detail = (
            f"{RULES:,} rules, {FINGERPRINTS:,} fingerprints, {ROLES:,} roles; {min(loads):.1f} to {max(loads):.1f} s"
        )
        return [Result("loading a large policy", median(loads), LOADS_WITHIN, at_least=False, detail=detail), *decides]


def _certificates(path: Path) -> list[str]:
    """Write minimal Ed25519 certificates; return their fingerprints."""
    made = [Key() for _ in range(FINGERPRINTS - len(SIGNERS))]
    path.write_bytes(b"".join(certificate(key) for key in made))
    return [key.fingerprint for key in made]


def _policy(library: Path, shape: str, keys: list[str], rules: int, roles: int) -> str:
    signers = {**SIGNERS, **{f"s{number}": key for number, key in enumerate(keys)}}
    names = list(signers)
    each = max(len(names) // roles, 2)
    lines = ["version: 1", "signers:", *(f"  {name}: {{pgp: [{key}]}}" for name, key in signers.items()), "roles:"]
    for number in range(roles):
        members = names[1:3] if number == 0 else names[number * each : (number + 1) * each]
        lines.append(f"  r{number}: [{', '.join(members or names[1:3])}]")
    lines.append("rules:")
    for number in range(rules):
        match = SHAPES[shape](library, number, rules // 2)
        role = 0 if number == rules // 2 else number % roles
        lines.append(f"  - name: rule-{number}")
        lines.append(f"    match: {match}")
        lines.append(f"    require: [{{any_of: [builder]}}, {{approvals: {{count: 2, of: r{role}}}}}]")
    return "\n".join(lines) + "\n"


def _decides(root: Path, image: Path, shape: str, keys: list[str], loads: list[float]) -> Result:
    note(f"loading, and deciding: {shape} …")
    files = [root / "policies.d" / f"{size}.yaml" for size in ("large", "small")]
    files[0].write_text(_policy(image.parent, shape, keys, RULES, ROLES))
    files[1].write_text(_policy(image.parent, shape, [], 10, 1))
    large = _loaded(files[0], root / "keys.d", loads)
    small = _loaded(files[1], root / "keys.d" / "site.asc", [])
    with HashPool(1) as pool:
        engines = [_engine(snapshot, pool, image) for snapshot in (large, small)]
        a, b = interleaved(15, *(lambda engine=engine: _p50(engine, image) for engine in engines))
    detail = f"p50 {median(a) * 1e6:.1f} µs against {median(b) * 1e6:.1f} µs by ten rules"
    return Result(f"deciding by {RULES:,} rules, {shape}", ratio(a, b), TIMES_AS_LONG, at_least=False, detail=detail)


def _loaded(policy: Path, keyring: Path, loads: list[float]) -> Snapshot:
    settings = Settings("", "", "", policies=(str(policy),), keyrings=(str(keyring),))
    start = time.perf_counter()
    built = build(settings, NAMES, generation=1, now=datetime.now(UTC))
    loads.append(time.perf_counter() - start)
    if built.snapshot is None:
        raise SystemExit(f"the policy does not load: {built.errors[0]}")
    return built.snapshot


def _engine(snapshot: Snapshot, pool: HashPool, image: Path) -> Engine:
    locator = Locator(MountTable(), frozenset({0, os.getuid()}))
    engine = Engine(locator, pool, FactCache(16), snapshot, file_time=time.time_ns)
    for cached in (False, True):
        with image.open("rb") as file:
            answer = drive(engine, _question(image, file), None, lambda: datetime.now(UTC))
        if (answer.outcome.code, answer.cached) != (Code.REQUIREMENTS_MET, cached):
            raise SystemExit(f"not allowed, or not as warm as it should be: {answer}")
    return engine


def _question(image: Path, file: BinaryIO) -> Question:
    """Ask as users do: with a descriptor, and a name that is looked up with their rights."""
    rights = Credentials(CALLER.uid, CALLER.gid, CALLER.groups) if can_assume() else None
    return Question(str(image), CALLER, file.fileno(), asker=LookupRights(rights))


def _p50(engine: Engine, image: Path) -> float:
    with image.open("rb") as file:
        question, now = _question(image, file), datetime.now(UTC)
        return statistics.median(seconds(lambda: drive(engine, question, None, lambda: now)) for _ in range(QUESTIONS))
