"""ECL itself, as SingularityCE does it, and images to ask it about: a second opinion on policies made of an ecl.toml.

What verifying an image comes to is the reference's own answer where a corpus manifest has it, and else that of the
mirror of its `verify`, which the manifests test. Everything after that is here, in the dullest way there is, and
shares no code with the import.
"""

from __future__ import annotations

import json
import os
import posixpath
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from eclctl.errors import EclctlError
from eclctl.model import Verification
from eclctl.signature import openpgp
from eclctl.terms import Finding
from eclctl.trust.keyring import KeyStore, judge_claim
from eclctl.verify.examine import examine
from eclctl.verify.reference import CheckedObjects, GivenKeys, verify_scope
from tests.helpers import pgp
from tests.helpers.sifbuilder import GROUP_BITS, SifBuilder, corpus_pgp_key, opened, pem_key, sample
from tests.helpers.support import CORPUS, NOW

KEYS: Mapping[str, str] = json.loads((CORPUS / "keys" / "pgp" / "fingerprints.json").read_text())
RING = openpgp.Keyring.parse((CORPUS / "keys" / "pgp" / "site-ring.asc").read_bytes())
STORE = KeyStore(RING)
_MATERIAL = GivenKeys(STORE, has_keyring=True, has_keys=False)
_ASKED = {"keyring": "keys/pgp/site-ring.asc"}
_LEGACY = _ASKED | {"legacy": True}


@dataclass(frozen=True)
class Verified:
    """What `Verify`, `AllSignedBy` and `AnySignedBy` of the reference's library come to."""

    ok: bool
    by_all: frozenset[str] = frozenset()
    by_any: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Image:
    """An image, what the reference makes of it, and what eclctl does: facts and what is judged out, or an error."""

    name: str
    content: bytes
    modern: Verified
    legacy: Verified
    facts: Verification | None
    rejected: Mapping[int, Finding]


@dataclass(frozen=True)
class Group:
    """An execution group, as an admin writes it."""

    mode: str
    directory: str = ""
    keys: tuple[str, ...] = ()
    tag: str = "name"


@dataclass(frozen=True)
class Ecl:
    """An ecl.toml."""

    groups: tuple[Group, ...] = ()
    activated: bool = True
    legacy: bool = False

    def toml(self) -> bytes:
        lines = [f"activated = {str(self.activated).lower()}", f"legacyinsecure = {str(self.legacy).lower()}"]
        for group in self.groups:
            lines += ["", "[[execgroup]]", f"  tagname = {text(group.tag)}", f'  mode = "{group.mode}"']
            lines += [f"  dirpath = {text(group.directory)}", f"  keyfp = [{', '.join(map(text, group.keys))}]"]
        return "\n".join(lines).encode() + b"\n"

    @classmethod
    def read(cls, content: str) -> Ecl:
        """Take a file that is written as they usually are."""
        top = tomllib.loads(content)
        groups = [
            Group(each["mode"], each["dirpath"], tuple(each["keyfp"]), each["tagname"])
            for each in top.get("execgroup", [])
        ]
        return cls(tuple(groups), top["activated"], top["legacyinsecure"])

    def group(self, path: str) -> Group | None:
        """Return the group of an image: by its directory, exactly, else the first without one."""
        for group in self.groups:
            if posixpath.dirname(path) == group.directory:
                return group
        return next((group for group in self.groups if group.directory == ""), None)

    def should_run(self, path: str, image: Image) -> bool:
        if not self.activated:
            return True
        group = self.group(path)
        verified = image.legacy if self.legacy else image.modern
        if group is None or not verified.ok:
            return False
        listed = {key.lower() for key in group.keys}
        by_all, by_any = ({key.lower() for key in keys} for keys in (verified.by_all, verified.by_any))
        if group.mode == "whitelist":
            return bool(listed & by_all)
        return listed <= by_all if group.mode == "whitestrict" else not listed & by_any


def text(value: str) -> str:
    """Return a TOML string."""
    return json.dumps(value, ensure_ascii=True)


def _manifest(name: str, question: Mapping[str, object]) -> Iterator[tuple[str, dict]]:
    for case in json.loads((CORPUS / name).read_text())["cases"]:
        if case["with"] == question:
            yield Path(case["image"]).name, case


@cache
def _reference() -> dict[str, Verified]:
    """What the reference itself said of modern signatures, by image."""
    found = {}
    for name in ("manifest.json", "manifest-legacy.json"):
        for image, case in _manifest(name, _ASKED):
            signers = (case.get("descriptor_all_signed_by", ()), case.get("descriptor_any_signed_by", ()))
            assert not case["ok"] or signers[1]
            found[image] = Verified(case["ok"], *map(frozenset, signers))
    return found


@cache
def _legacy_reference() -> dict[str, Verified]:
    """What the reference itself said of legacy signatures on the primary partition, by image; all is any there."""
    found = {}
    for image, case in _manifest("manifest-legacy.json", _LEGACY):
        signers = frozenset(each["signer"] for each in case["signatures"])
        found[image] = Verified(case["ok"], signers, signers)
    return found


def _mirrored(content: bytes, *, legacy: bool) -> Verified:
    """What the mirror of the reference's `verify` says; signers are those that the descriptors name."""
    with opened(content) as fd:
        try:
            report = verify_scope(fd, _MATERIAL, CheckedObjects(legacy=legacy), NOW)
        except EclctlError:
            return Verified(ok=False)
    if not report.verified:
        return Verified(ok=False)
    looked_at = {found.id for found in report.signatures}
    tasks: dict[int, set[str]] = {}
    for item in report.descriptors:
        if item.id in looked_at:
            tasks.setdefault(item.link, set()).add(item.entity[:20].hex().upper())
    signed = list(tasks.values())
    return Verified(True, frozenset(set.intersection(*signed)), frozenset(set.union(*signed)))


def _image(name: str, content: bytes) -> Image:
    modern = _reference().get(name) or _mirrored(content, legacy=False)
    legacy = _legacy_reference().get(name) or _mirrored(content, legacy=True)
    with opened(content) as fd:
        try:
            facts = examine(fd, STORE)
        except EclctlError:
            return Image(name, content, modern, legacy, None, {})
    judged = {n: judge_claim(STORE, claim, NOW) for n, claim in enumerate(facts.claims)}
    return Image(name, content, modern, legacy, facts, {n: why for n, why in judged.items() if why is not None})


@cache
def images() -> tuple[Image, ...]:
    """Every image of the corpus, and those that are made here."""
    files = [path for folder in ("images", "legacy") for path in sorted((CORPUS / folder).iterdir())]
    contents = {path.name: path.read_bytes() for path in files if path.suffix == ".sif"}
    return tuple(_image(name, content) for name, content in (contents | dict(_made())).items())


def _made() -> Iterable[tuple[str, bytes]]:
    builder, scanner, mallory = map(corpus_pgp_key, ("builder", "scanner", "mallory"))
    for other in ("scanner", "expired", "revoked", "future", "mallory", "outsider"):
        yield f"made-builder+{other}", _signed(builder, corpus_pgp_key(other))
        yield f"made-{other}+builder", _signed(corpus_pgp_key(other), builder)
    yield "made-all-four", _signed(*map(corpus_pgp_key, ("builder", "scanner", "approver", "release")))
    for key in (scanner, mallory, builder):
        yield f"made-builder+part-{key.raw.hex()[:4]}", _more(lambda image, k=key: image.sign_pgp(k, only=(2,)))
        yield f"made-builder+legacy-{key.raw.hex()[:4]}", _more(lambda image, k=key: image.sign_legacy(k, group=1))
        yield f"made-builder+old-{key.raw.hex()[:4]}", _more(lambda image, k=key: image.sign_legacy(k, identity=3))
        yield f"made-builder+linked-{key.raw.hex()[:4]}", _more(lambda image, k=key: _linked(image, k, 3))
        yield f"made-builder+nowhere-{key.raw.hex()[:4]}", _more(lambda image, k=key: _linked(image, k, 9 | GROUP_BITS))
        yield f"made-old+part-{key.raw.hex()[:4]}", _signed_anew(lambda image, k=key: image.sign_pgp(k, only=(2,)))
    for other in ("expired", "revoked", "mallory", "scanner"):
        yield f"made-old+{other}", _signed_anew(lambda image, name=other: _sign(image, corpus_pgp_key(name)))
    yield "made-builder+dsse", _more(lambda image: image.sign_dsse(pem_key("p256")))
    yield "made-builder+changed", _more(lambda image: image.sign_pgp(scanner, text=sample(uuid=bytes(16)).metadata()))
    yield "made-builder+wrong-fingerprint", _more(lambda image: image.sign_pgp(scanner, fingerprint=builder.raw))
    yield "made-loose-object", _more(lambda image: image.add(b"loose", group=0))
    for uuid, tied in ((bytes(16), "nil"), (bytes(range(16)), "tied")):
        yield f"made-two-groups-{tied}", _two_groups(uuid, (1, builder), (2, builder))
        yield f"made-two-groups-{tied}-each", _two_groups(uuid, (1, builder), (2, scanner))
        yield f"made-two-groups-{tied}-more", _two_groups(uuid, (1, builder), (2, builder), (2, scanner))
        yield f"made-two-groups-{tied}-half", _two_groups(uuid, (1, builder), (1, scanner))
        yield f"made-two-groups-{tied}-unknown", _two_groups(uuid, (1, builder), (2, builder), (2, mallory))
    old = sample()
    old.partition(b"hsqs" + bytes(4092))
    old.sign_legacy(builder, identity=3)
    yield "made-two-primaries", old.build()


def _signed(*keys: pgp.Key) -> bytes:
    image = sample()
    for key in keys:
        _sign(image, key)
    return image.build()


def _sign(image: SifBuilder, key: pgp.Key) -> None:
    image.sign_pgp(key, created=max(pgp.SIGNED, key.created + 1))


def _more(add: object) -> bytes:
    image = sample()
    image.sign_pgp(corpus_pgp_key("builder"))
    add(image)  # type: ignore[operator]
    return image.build()


def _signed_anew(add: Callable[[SifBuilder], object]) -> bytes:
    """A legacy signature on the primary partition, a modern one of the same key, and more."""
    image = sample()
    builder = corpus_pgp_key("builder")
    image.sign_legacy(builder, identity=3)
    image.sign_pgp(builder)
    add(image)
    return image.build()


def _linked(image: SifBuilder, key: pgp.Key, link: int) -> None:
    """A modern signature that is linked to something else than a group that there is."""
    image.attach(pgp.clearsign(key, text=image.metadata()), link=link, fingerprint=key.raw)


def _two_groups(uuid: bytes, *signatures: tuple[int, pgp.Key]) -> bytes:
    image = sample(uuid=uuid)
    image.partition(b"\x53\xef" * 2048, part=4, system=2, group=2)
    for group, key in signatures:
        image.sign_pgp(key, group)
    return image.build()


def put(image: Image, folder: Path) -> str:
    """Put an image into a directory; return its path."""
    path = folder / image.name
    path.write_bytes(image.content)
    path.chmod(0o644)
    return os.fspath(path)
