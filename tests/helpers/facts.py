"""Images as facts, and policies over made-up keys: what the counting rules are tested with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eclctl.errors import KeyMaterialError
from eclctl.model import Claim, DataObject, Failure, OciContent, Outcome, Verification
from eclctl.policy.evaluate import evaluate
from eclctl.policy.language import Policy
from eclctl.policy.load import Loaded, LoadEnvironment, PolicyFile, load_policies
from eclctl.signature.keys import parse_public_key
from eclctl.terms import Finding, KeyRef, Kind, SignatureFormat, SignerKind
from eclctl.trust.x509 import load_credential
from tests.helpers.support import CORPUS, NOW

LETTERS = "ABCDEF"
PEM_NAMES = ("p256", "p384", "ed25519", "rsa2048")
PEM_FILES = {f"{name}.pem": (CORPUS / "keys" / "pem" / f"{name}-public.pem").read_bytes() for name in PEM_NAMES}
PEM_IDS = {name: parse_public_key(PEM_FILES[f"{name}.pem"]).id for name in PEM_NAMES}
COSIGN_NAMES = ("ci", "approver", "site")
COSIGN_FILES = {f"{name}.pub": (CORPUS / "keys" / "cosign" / f"{name}.pub").read_bytes() for name in COSIGN_NAMES}
COSIGN_IDS = {name: "cosign:" + parse_public_key(COSIGN_FILES[f"{name}.pub"]).id for name in COSIGN_NAMES}
COSIGN_IDS |= {name: "cosign:" + PEM_IDS[name] for name in PEM_NAMES}
X509_FILES = {path.name: path.read_bytes() for path in (CORPUS / "keys" / "x509").glob("*.pem")}


def certificate_id(leaf: str, *, ocsp: bool = False) -> str:
    """The name of a leaf of the corpus, under its intermediate and its root. Its key is the PEM key p256."""
    chain = [X509_FILES["intermediate.pem"]], [X509_FILES["root.pem"]]
    return load_credential(X509_FILES[f"{leaf}.pem"], *chain, ocsp=ocsp).id


def fingerprint(letter: str) -> str:
    """The made-up certificate with one letter as its fingerprint."""
    return letter * 40


@dataclass(frozen=True)
class Certificate:
    fingerprint: str
    materials: frozenset[str]


@dataclass(frozen=True)
class Ring:
    """A keyring as a value: fingerprints, and the keys in each certificate."""

    known: Mapping[str, Certificate]

    @property
    def certificates(self) -> Iterable[Certificate]:
        return self.known.values()

    def get(self, name: str) -> Certificate | None:
        return self.known.get(name)


def ring(*extra: tuple[str, Iterable[str]], letters: str = LETTERS) -> Ring:
    """Certificates AAAA…, BBBB…, each with a key of its own; `extra` adds keys to some."""
    materials = {letter: {f"sha256:{letter}"} for letter in letters}
    for letter, keys in extra:
        materials.setdefault(letter, set()).update(keys)
    return Ring({fingerprint(a): Certificate(fingerprint(a), frozenset(keys)) for a, keys in materials.items()})


def read_key(path: str) -> bytes:
    try:
        return (PEM_FILES | COSIGN_FILES | X509_FILES)[path.rpartition("/")[2]]
    except KeyError:
        raise KeyMaterialError("no such key") from None


HOST = "login1.cluster.example"
USERS = {"alice": 1001, "bob": 1002}
GROUPS = {"hpc-users": 500, "staff": 501}


def load_text(*texts: str | bytes, keyring: Ring | None = None) -> Loaded:
    """Load policy files named 0.yaml, 1.yaml, ..."""
    sources = [
        PolicyFile(f"{number}.yaml", text if isinstance(text, bytes) else text.encode())
        for number, text in enumerate(texts)
    ]
    environment = LoadEnvironment(keyring or ring(), read_key, USERS.get, GROUPS.get, NOW, host=HOST)
    return load_policies(sources, environment)


SIGNERS = "".join(
    f"  {name}: {{pgp: [{fingerprint(name[0].upper())}]}}\n" for name in ("alice", "bob", "carol", "dave")
)
HEAD = f"version: 1\nsigners:\n{SIGNERS}  ci: {{key: [p256.pem]}}\nroles:\n  security: [alice, bob, carol]\nrules:\n"


def policy(rules: str, head: str = HEAD, keyring: Ring | None = None) -> Policy:
    """A policy of these rules over alice (A), bob (B), carol (C), dave (D) and ci (a PEM key)."""
    loaded = load_text(head + rules, keyring=keyring)
    assert loaded.policy is not None, [str(error) for error in loaded.errors]
    return loaded.policy


def rule(require: str, *more: str) -> str:
    lines = "".join(f"    {line}\n" for line in more)
    return f"  - name: it\n    require: {require}\n{lines}"


@dataclass(frozen=True)
class Image:
    """An image with these groups of object IDs; every object holds `holds[id]`, {"partition"} when left out.

    With `subject` it is an OCI-SIF of one image, made of these objects; `carriers` are for signatures.
    """

    groups: Mapping[int, Iterable[int]] = field(default_factory=lambda: {1: (1, 2, 3)})
    loose: tuple[int, ...] = ()
    holds: Mapping[int, set[str]] = field(default_factory=dict)
    tied: bool = True
    subject: tuple[int, ...] = ()
    carriers: tuple[int, ...] = ()
    kind: Kind = Kind.SIF

    def ids(self, group: int) -> frozenset[int]:
        return frozenset(self.groups[group])

    def by(self, letter: str, group: int = 1, *, signature: int = 10, **changes: object) -> Claim:
        """A claim by certificate `letter` over a whole group, header included."""
        return self._claim(KeyRef(SignerKind.PGP, fingerprint(letter)), SignatureFormat.PGP, group, signature, changes)

    def by_pem(self, name: str, group: int = 1, *, signature: int = 20, **changes: object) -> Claim:
        return self._claim(KeyRef(SignerKind.KEY, PEM_IDS[name]), SignatureFormat.DSSE, group, signature, changes)

    def by_certificate(self, name: str, group: int = 1, *, signature: int = 25, **changes: object) -> Claim:
        """A DSSE claim by the certificate `name`, which is a `certificate_id`."""
        return self._claim(KeyRef(SignerKind.CERTIFICATE, name), SignatureFormat.DSSE, group, signature, changes)

    def by_cosign(self, name: str, *, signature: int = 30, **changes: object) -> Claim:
        """A cosign claim by the key `name` over the image."""
        signer = KeyRef(SignerKind.COSIGN, COSIGN_IDS[name])
        image: dict[str, object] = {"group": None, "objects": frozenset(self.subject)}
        bare: dict[str, object] = {"whole_group": False, "header": False}
        return self._claim(signer, SignatureFormat.COSIGN, 0, signature, {**image, **bare, **changes})

    def _claim(
        self, signer: KeyRef, form: SignatureFormat, group: int, signature: int, changes: dict[str, object]
    ) -> Claim:
        fields: dict[str, object] = {
            "signature": signature,
            "format": form,
            "signer": signer,
            "key": signer.id,
            "group": group,
            "objects": self.ids(group) if group in self.groups else frozenset(),
            "whole_group": True,
            "header": True,
        }
        return Claim(**{**fields, **changes})  # type: ignore[arg-type]

    def part(self, letter: str, *objects: int, **changes: object) -> Claim:
        """A claim by certificate `letter` over single objects."""
        return self.by(letter, objects=frozenset(objects), whole_group=False, **changes)

    def legacy(self, letter: str, **changes: object) -> Claim:
        return self.by(letter, **{"format": SignatureFormat.LEGACY, "header": False, **changes})

    def with_claims(
        self, *claims: Claim, failures: tuple[Failure, ...] = (), digests: Mapping[int, str] | None = None
    ) -> Verification:
        groups = {number: frozenset(ids) for number, ids in self.groups.items()}
        where = {item: number for number, ids in groups.items() for item in ids} | dict.fromkeys(self.loose, 0)
        objects = tuple(
            DataObject(item, group, frozenset(self.holds.get(item, {"partition"})), 10, "")
            for item, group in sorted(where.items())
        )
        oci = OciContent(MANIFEST, frozenset(self.subject), frozenset(self.carriers)) if self.subject else None
        kind = Kind.OCI_SIF if self.subject else self.kind
        return Verification(kind, objects, groups, self.tied, claims, failures, digests or {}, oci)


MANIFEST = "sha256:" + "0d" * 32
EXPIRED = Finding("expired", "it expired 2026-02-01")


def decide(made: Policy, verification: Verification, *rejected: int, explain: bool = False) -> Outcome:
    """What the policy's first rule says; `rejected` are indexes of claims that were judged out."""
    return evaluate(made, made.rules[0], verification, dict.fromkeys(rejected, EXPIRED), explain=explain)
