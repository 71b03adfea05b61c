"""Policies over the corpus' keys, put to images that are verified for real: everything but the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eclctl.model import Caller, Outcome
from eclctl.policy.evaluate import evaluate, too_old, withdrawn
from eclctl.policy.load import Loaded, LoadEnvironment, PolicyFile, load_policies
from eclctl.policy.select import select_rule
from eclctl.signature import openpgp
from eclctl.trust.keyring import KeyStore, judge_claim
from eclctl.verify.examine import examine
from tests.helpers.sifbuilder import SifBuilder, opened
from tests.helpers.support import CORPUS, NOW

RING = openpgp.Keyring.parse((CORPUS / "keys" / "pgp" / "site-ring.asc").read_bytes())
CALLER = Caller(1000, 1000)
_FILES = {path.name: path for sort in ("pem", "cosign", "x509") for path in (CORPUS / "keys" / sort).iterdir()}


def loaded(*texts: str | bytes, files: Mapping[str, bytes] | None = None) -> Loaded:
    """Load policy files named 0.yaml, 1.yaml, ...; key files are the corpus' by name, and `files`."""
    sources = [
        PolicyFile(f"{n}.yaml", text if isinstance(text, bytes) else text.encode()) for n, text in enumerate(texts)
    ]

    def read_key(path: str) -> bytes:
        name = path.rpartition("/")[2]
        return files[name] if files is not None and name in files else _FILES[name].read_bytes()

    return load_policies(sources, LoadEnvironment(RING, read_key, {}.get, {}.get, NOW))


def ask(
    image: bytes | SifBuilder | Path,
    text: str,
    *,
    path: str | None = "/srv/a.sif",
    files: Mapping[str, bytes] | None = None,
) -> Outcome:
    """What a policy says of an image at the corpus' time, when no source can be asked about revocation."""
    made = loaded(text, files=files)
    policy = made.policy
    assert policy is not None, [str(problem) for problem in made.errors]
    store = KeyStore(RING, policy.listed)
    with opened(image) as fd:
        found = examine(fd, store, digests=policy.withdraws_objects)
    judged = {n: judge_claim(store, claim, NOW) for n, claim in enumerate(found.claims)}
    rejected = {n: finding for n, finding in judged.items() if finding is not None}
    rule = select_rule(policy, path=path, kind=found.kind, caller=CALLER, now=NOW)
    assert rule is not None
    return withdrawn(policy, found) or evaluate(policy, rule, found, too_old(rule, found.claims, rejected, NOW))
