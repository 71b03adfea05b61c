"""Withdrawals: what a name or digest stands for, and today's policy with it withdrawn."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from eclctl.dataclass import dataclass, replace
from eclctl.decide.snapshot import Snapshot
from eclctl.errors import ConfigError, EclctlError
from eclctl.policy.language import Policy, Withdrawn
from eclctl.sif.kind import sniff
from eclctl.signature import openpgp
from eclctl.signature.keys import parse_public_key
from eclctl.terms import Kind
from eclctl.trust.keyring import KeyStore
from eclctl.trust.signer_types import names_called
from eclctl.trust.signer_types.cosign_key import CosignKey
from eclctl.verify.examine import examine
from eclctl.verify.hashing import hash_file

_FINGERPRINT = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Signatory:
    """Whose signatures are to be withdrawn: a signer with all their keys, or one key.

    `signer` is None for a key. `keys` are key numbers (`Holder.key`), `names` what policies call these keys, and
    `people` all signers that they belong to.
    """

    signer: str | None
    keys: frozenset[int]
    names: tuple[str, ...]
    people: tuple[str, ...]


def digest_of(text: str) -> str:
    """Return a digest as policies have it.

    Raises:
        ConfigError: it is none.
    """
    digest = text.lower()
    if not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{text!r} is no digest: write sha256: and 64 hex digits")
    return digest


def signatory(snapshot: Snapshot, text: str, read: Callable[[str], bytes]) -> Signatory:
    """Return what `text` stands for: a signer's name, a fingerprint, `sha256:<hex>` of a key or certificate, or a file.

    Args:
        snapshot: today's policy and keys.
        text: as an admin wrote it.
        read: returns the content of a key file, or raises ConfigError.

    Raises:
        ConfigError: it stands for no key of today's policy; the message says what could be meant.
    """
    policy = snapshot.policy
    if policy is None:
        raise ConfigError("no policy is loaded")
    if text in policy.signers:
        signer = policy.signers[text]
        return _signatory(policy, frozenset(policy.holders[key].key for key in signer.keys), text)
    names = _names(snapshot, text) or _names_in_file(snapshot, text, read)
    if not names:
        near = difflib.get_close_matches(text, policy.signers, 1)
        hint = f"did you mean {near[0]!r}?" if near else "name a signer, a fingerprint, sha256:… or a key file"
        raise ConfigError(f"{text!r} is no signer and no key of today's policy; {hint}")
    return _signatory(policy, frozenset(policy.holders[name].key for name in names), None)


def _signatory(policy: Policy, keys: frozenset[int], signer: str | None) -> Signatory:
    held = {name: holder for name, holder in policy.holders.items() if holder.key in keys}
    people = {person for holder in held.values() for person in holder.people if person in policy.signers}
    return Signatory(signer, keys, tuple(sorted(held)), tuple(sorted(people)))


def _names(snapshot: Snapshot, text: str) -> list[str]:
    """Return what the policy calls a key that goes by its fingerprint or digest."""
    compact = "".join(text.split())
    fingerprint = compact.upper()
    if _FINGERPRINT.fullmatch(fingerprint):
        return [
            each.fingerprint
            for each in snapshot.store.pgp.certificates
            if fingerprint in {each.fingerprint, *(key.fingerprint for key in each.keys)}
        ]
    digest, policy = compact.lower().removeprefix(CosignKey.prefix), snapshot.policy
    if policy is not None and text in policy.holders:
        return [text]
    if policy is None or not _DIGEST.fullmatch(digest):
        return []
    pgp = [each.fingerprint for each in snapshot.store.pgp.certificates if digest in each.materials]
    return [*names_called(policy.listed, digest), *pgp]


def _names_in_file(snapshot: Snapshot, path: str, read: Callable[[str], bytes]) -> list[str]:
    """Return what the policy calls the keys in a file: OpenPGP certificates, a PEM key, or an X.509 certificate."""
    try:
        content = read(path)
    except ConfigError:
        return []
    return [found for name in _of_content(content) for found in _names(snapshot, name)]


def _of_content(content: bytes) -> list[str]:
    if b"-----BEGIN CERTIFICATE-----" in content:
        try:
            leaf = x509.load_pem_x509_certificates(content)[0]
        except ValueError:
            return []
        return ["sha256:" + leaf.fingerprint(SHA256()).hex()]
    with suppress(EclctlError):
        return [parse_public_key(content).id]
    with suppress(EclctlError):
        return [each.fingerprint for each in openpgp.Keyring.parse(content).certificates]
    return []


def with_withdrawn(
    snapshot: Snapshot, *, signatories: tuple[Signatory, ...] = (), digests: frozenset[str] = frozenset()
) -> Snapshot:
    """Return a snapshot in which these are withdrawn too. Its `digest` is None: no file says so yet."""
    policy = snapshot.policy
    if policy is None:
        return snapshot
    named = [each.signer for each in signatories if each.signer is not None]
    withdrawn = Withdrawn(
        policy.withdrawn.digests | digests,
        tuple(dict.fromkeys([*policy.withdrawn.signers, *named])),
        policy.withdrawn.keys.union(*(each.keys for each in signatories)),
    )
    return replace(snapshot, policy=replace(policy, withdrawn=withdrawn), digest=None)


@dataclass(frozen=True, slots=True)
class WithdrawableContent:
    """What to withdraw to stop an image wherever it lies: the list of `withdrawn`, the digest, and of what it is."""

    sort: str
    digest: str
    what: str


def content_of(path: str, store: KeyStore) -> WithdrawableContent:
    """Return the digest that stands for what an image runs.

    That is its primary partition, the manifest of an OCI-SIF, or all of a file that is no SIF image. Signatures can be
    stripped from a file and objects added to it; what it runs stays the same.

    Raises:
        EclctlError: the image cannot be read or is malformed.
        ConfigError: it has no single such part, or is a directory.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise ConfigError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConfigError(f"{path} is not a file: a directory has no digest; withdraw its signers, or write a rule")
        return _content(path, fd, store)
    finally:
        os.close(fd)


def _content(path: str, fd: int, store: KeyStore) -> WithdrawableContent:
    if sniff(fd) is not Kind.SIF:
        return WithdrawableContent("objects", hash_file(fd)[1], "the whole file")
    found = examine(fd, store, digests=True)
    if found.oci is not None:
        return WithdrawableContent("manifests", found.oci.manifest, "the manifest of its OCI image")
    primary = [item for item in found.objects if {"partition", "primary"} <= item.holds]
    if len(primary) != 1:
        objects = ", ".join(f"{item.id} ({found.digests[item.id]})" for item in found.objects)
        raise ConfigError(f"{path} has no single primary partition; choose with --object from its objects: {objects}")
    return WithdrawableContent(
        "objects", found.digests[primary[0].id], f"object {primary[0].id}, its primary partition"
    )
