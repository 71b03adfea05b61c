"""One generation of policy and keys, built whole and never changed: each decision is made under exactly one."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial

from eclctl.config.accounts import Names
from eclctl.config.document import MAX_BYTES, Problem
from eclctl.config.settings import Settings
from eclctl.dataclass import dataclass, field, replace
from eclctl.decide.breakglass import NO_EXCEPTIONS, Exceptions, State, standing
from eclctl.decide.breakglass_load import load_exceptions
from eclctl.decide.policy_digest import policy_digest
from eclctl.errors import ConfigError, EclctlError
from eclctl.files.guarded import Reader, expand, read_guarded
from eclctl.policy.language import Policy
from eclctl.policy.lint import Linter, Remarks, no_remarks
from eclctl.policy.load import Loaded, LoadEnvironment, PolicyFile, load_policies
from eclctl.policy.signer_declarations import KeyringCertificate
from eclctl.signature import openpgp
from eclctl.signature.keys import MAX_CERTIFICATE_FILE
from eclctl.signature.openpgp.proven import updated
from eclctl.trust.keyring import MAX_KEYRING_FILE, KeyStore

_POLICY_SUFFIXES = (".yaml", ".yml")
_MANY_OBJECTS = 500_000
_MOST_ASKED_FOR = 1000  # the highest count of a requirement


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What decisions are made from. `generation` counts successful loads; 0 is the state before the first.

    `digest` is `sha256:<hex>` over every policy, key and exception, None without a policy. `sources` are the policy
    files, as they were read.
    """

    generation: int
    policy: Policy | None
    store: KeyStore
    digest: str | None
    loaded_at: datetime | None
    sources: tuple[PolicyFile, ...] = field(default=(), repr=False)
    exceptions: Exceptions = field(default=NO_EXCEPTIONS, repr=False)

    @classmethod
    def empty(cls) -> Snapshot:
        """Return the snapshot under which everything is denied."""
        return cls(0, None, KeyStore(openpgp.Keyring.parse()), None, None)


@dataclass(frozen=True, slots=True)
class Built:
    """A snapshot, or every error that kept it from being built."""

    snapshot: Snapshot | None
    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Pause the cyclic garbage collector: of the million objects of a large policy, it would find none to free.

    It is not shown them afterwards either, when they are many: looking through them would hold up every answer. They
    hold each other in no cycle, so they go with the snapshot.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            if gc.get_count()[0] > _MANY_OBJECTS:
                gc.freeze()
            gc.enable()


@_without_collecting()
def build(
    settings: Settings,
    names: Names,
    *,
    generation: int,
    now: datetime,
    read: Reader = read_guarded,
    lint: bool = False,
    learnt: openpgp.Keyring | None = None,
    remarks: Remarks = no_remarks,
) -> Built:
    """Read every keyring and policy that the settings name. Never raises for what it reads: all errors are returned.

    With `lint`, a policy that loads is looked at for what its author may not mean, which judges every certificate;
    `remarks` says what this host's mounts mean for the paths of a rule.
    `learnt` are copies of certificates from elsewhere: they add to those in the keyrings what their own keys vouch for.
    """
    errors: list[Problem] = []
    warnings: list[Problem] = []
    ring = _keyring(settings.keyrings, errors, warnings, read)
    if ring is not None and learnt is not None:
        ring = updated(ring, learnt)
    unread = len(errors)
    sources = _sources(settings.policies, errors, read)
    known = ring if ring is not None else _AnyCertificate()
    read_key = partial(read, limit=MAX_CERTIFICATE_FILE)  # what is too long for a key is refused as one
    review = Linter(ring, now, os.path.realpath, remarks).review if lint and ring is not None else None
    read_sources = partial(_read_sources, read=read)
    environment = LoadEnvironment(
        known, read_key, names.user, names.group, now, review=review, host=names.host, read_sources=read_sources
    )
    loaded = load_policies(sources, environment) if len(errors) == unread else Loaded(None, (), ())
    errors += loaded.errors
    warnings += loaded.warnings
    if loaded.policy is None or errors or ring is None:
        return Built(None, tuple(errors), tuple(warnings))
    store = KeyStore(ring, loaded.policy.listed)
    exceptions, problems = load_exceptions(
        loaded.policy.exceptions, ring, read=read, resolve_user=names.user, resolve_group=names.group
    )
    warnings += problems
    warnings += _not_in_force(exceptions, loaded.policy, store, now)
    digest = policy_digest(loaded.policy, store, exceptions)
    snapshot = Snapshot(generation, loaded.policy, store, digest, now, tuple(sources), exceptions)
    return Built(snapshot, (), tuple(warnings), loaded.notes)


def refreshed(snapshot: Snapshot, learnt: openpgp.Keyring, *, now: datetime) -> Snapshot | None:
    """Return the next generation of a snapshot, which knows more of its certificates; None when it knew all that.

    Nothing is read: what was learnt of a key counts, even when the policy's files do not load meanwhile.
    """
    ring = updated(snapshot.store.pgp, learnt)
    if ring is snapshot.store.pgp or snapshot.policy is None:
        return None
    store = KeyStore(ring, snapshot.store.listed)
    digest = policy_digest(snapshot.policy, store, snapshot.exceptions)
    return replace(snapshot, generation=snapshot.generation + 1, store=store, digest=digest, loaded_at=now)


def _not_in_force(exceptions: Exceptions, policy: Policy, store: KeyStore, now: datetime) -> list[Problem]:
    """Return why exceptions are refused, or lack approvals: an admin put them there so that they count."""
    found: list[Problem] = []
    for candidate in exceptions.candidates:
        found += (replace(each, message=f"exception refused: {each.message}") for each in candidate.problems)
        stands = standing(candidate, policy, store, now)
        if stands.state is State.UNAPPROVED:
            hint = "; ".join(stands.discounted) or f"sign it: gpg --armor --detach-sign {candidate.file}"
            found.append(Problem(candidate.file, 0, 0, f"exception not approved: {stands.why}", hint))
    return found


class _AnyCertificate:
    """Stands for the keyring when one cannot be read, so that what else is wrong with the policy is found as well."""

    @property
    def certificates(self) -> Iterable[KeyringCertificate]:
        return (_Assumed(str(number), frozenset({str(number)})) for number in range(_MOST_ASKED_FOR))

    def get(self, fingerprint: str) -> KeyringCertificate | None:
        return _Assumed(fingerprint, frozenset({fingerprint}))


@dataclass(frozen=True, slots=True)
class _Assumed:
    fingerprint: str
    materials: frozenset[str]


def _keyring(
    paths: tuple[str, ...], errors: list[Problem], warnings: list[Problem], read: Reader
) -> openpgp.Keyring | None:
    blobs: dict[str, bytes] = {}
    for path in _expanded(paths, (), errors):
        try:
            blobs[path] = read(path, limit=MAX_KEYRING_FILE)
        except EclctlError as error:
            errors.append(Problem(path, 0, 0, f"the keyring {error}"))
    try:
        ring = openpgp.Keyring.parse(*blobs.values())
    except EclctlError as error:
        errors += _blamed(blobs) or [Problem(", ".join(paths), 0, 0, f"no keyring: {error}")]
        return None
    advice = "only its public part is used; take the private key out of this file"
    for path, blob in blobs.items() if ring.secret else ():
        secret = openpgp.Keyring.parse(blob).secret
        warnings.extend(Problem(path, 0, 0, f"holds the private key {key}", advice) for key in secret)
    return None if errors else ring


def _blamed(blobs: Mapping[str, bytes]) -> list[Problem]:
    """Return what is wrong with each file of certificates by itself."""
    found: list[Problem] = []
    for path, blob in blobs.items():
        try:
            openpgp.Keyring.parse(blob)
        except EclctlError as error:
            found.append(Problem(path, 0, 0, f"no keyring: {error}"))
    return found


def _sources(paths: tuple[str, ...], errors: list[Problem], read: Reader) -> list[PolicyFile]:
    sources: list[PolicyFile] = []
    for path in _expanded(paths, _POLICY_SUFFIXES, errors):
        try:
            sources.append(PolicyFile(path, read(path, limit=MAX_BYTES)))
        except ConfigError as error:
            errors.append(Problem(path, 0, 0, f"the policy {error}"))
    if not sources and not errors:
        where = ", ".join(paths)
        errors.append(Problem(where, 0, 0, "there is no policy here", "put a .yaml file there"))
    return sources


def _read_sources(path: str, *, read: Reader) -> list[PolicyFile]:
    """Return the policy at a path, or those of a directory; raise ConfigError where there is none."""
    sources: list[PolicyFile] = []
    for file in expand((path,), _POLICY_SUFFIXES):
        try:
            sources.append(PolicyFile(file, read(file, limit=MAX_BYTES)))
        except ConfigError as error:
            raise error if file == path else ConfigError(f"{file} {error}") from error
    return sources


def _expanded(paths: tuple[str, ...], suffixes: tuple[str, ...], errors: list[Problem]) -> list[str]:
    try:
        return expand(paths, suffixes)
    except ConfigError as error:
        errors.append(Problem(os.path.commonpath(paths), 0, 0, str(error)))
        return []
