"""The declarations of a policy file: signers, roles and what is withdrawn. Rules are in `rules`.

Declarations of all files are taken before any rule is read, so that a rule may name what a later file declares.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from eclctl.errors import EclctlError
from eclctl.policy import document
from eclctl.policy.document import MapNode, Node, Report, Scalar, quoted
from eclctl.policy.language import ANYONE, Signer
from eclctl.signature.keys import PublicKey, parse_public_key

_TOP = ("version", "signers", "roles", "withdrawn", "rules", "default")
_SIGNER = ("pgp", "key")
_OTHER_SIGNERS = ("certificate", "cosign", "annotations", "repository")
_WITHDRAWN = ("objects", "manifests", "signers")

_NAME = re.compile(r"\w(?:[\w .@+:/-]{0,62}[\w.@+])?")
_FINGERPRINT = re.compile(r"(?:[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})")
_DIGEST = re.compile(r"sha256:[0-9A-Fa-f]{64}")


class Certificate(Protocol):
    """What the loader needs to know of an OpenPGP certificate: its primary fingerprint, and every key in it."""

    @property
    def fingerprint(self) -> str: ...  # noqa: D102 - upper-case hex

    @property
    def materials(self) -> frozenset[str]: ...  # noqa: D102 - `sha256:<hex of the DER SubjectPublicKeyInfo>`


class Certificates(Protocol):
    """What the loader needs of a keyring; `signature.openpgp.Keyring` is one."""

    @property
    def certificates(self) -> Iterable[Certificate]: ...  # noqa: D102 - all of them

    def get(self, fingerprint: str) -> Certificate | None: ...  # noqa: D102 - by upper-case primary fingerprint


@dataclass(frozen=True, slots=True)
class LoadEnvironment:
    """What a policy refers to outside its files.

    `read_key` returns the content of a PEM file, given a path, and raises OSError or an EclctlError. The resolvers
    return the number of a user or group name, or None.
    """

    keyring: Certificates
    read_key: Callable[[str], bytes]
    resolve_user: Callable[[str], int | None]
    resolve_group: Callable[[str], int | None]


@dataclass(slots=True)
class Declarations:
    """What has been declared so far; `*_places` say where, for messages about it."""

    signers: dict[str, Signer] = field(default_factory=dict)
    signer_places: dict[str, Scalar] = field(default_factory=dict)
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    role_places: dict[str, Scalar] = field(default_factory=dict)
    key_places: list[tuple[str, str, Scalar]] = field(default_factory=list)
    withdrawn_digests: set[str] = field(default_factory=set)
    withdrawn_signers: list[str] = field(default_factory=list)
    rules: list[Node] = field(default_factory=list)
    keys: dict[str, PublicKey] = field(default_factory=dict)
    key_files: dict[str, bytes] = field(default_factory=dict)


def name_of(node: Node, report: Report, what: str) -> str | None:
    """Take a name: 1 to 64 letters, digits, spaces and `_.@+:/-`, since it becomes a metric label and a log field."""
    name = document.text(node, report, what)
    if name is not None and not _NAME.fullmatch(name):
        report.error(node, f"{what} {quoted(name)} is no name", "1 to 64 letters, digits, spaces and _ . @ + : / -")
        return None
    return name


def place(node: Node) -> str:
    """Return `file:line` of a node."""
    return f"{node.mark.file}:{node.mark.line}"


class Declarer:
    """Takes the declarations of one file after the other into `found`."""

    def __init__(self, environment: LoadEnvironment, report: Report) -> None:
        self.found = Declarations()
        self._environment = environment
        self._report = report
        self._roles: list[tuple[Scalar, Node]] = []
        self._withdrawals: list[Node] = []

    def file(self, root: Node) -> None:
        """Take one file's declarations; `finish` must follow the last."""
        fields = document.mapping(root, self._report, "the policy", (*_TOP, "exceptions"), ("version",))
        if fields is None:
            return
        if (exceptions := fields.get("exceptions")) is not None:
            self._report.error(exceptions, "exceptions are not known to this version of eclctl", "remove them")
        self._check_version(fields.get("version"))
        if (default := fields.get("default")) is not None:
            document.choice(default, self._report, "default", ("deny",))
        if (signers := fields.get("signers")) is not None:
            self._signers(signers)
        if (roles := fields.get("roles")) is not None:
            self._roles.extend(document.pairs(roles, self._report, "roles") or ())
        if (withdrawn := fields.get("withdrawn")) is not None:
            self._withdrawals.append(withdrawn)
        if (rules := fields.get("rules")) is not None:
            self.found.rules.extend(document.items(rules, self._report, "rules") or ())

    def finish(self) -> Declarations:
        """Resolve roles and withdrawn signers against the signers of all files."""
        for key, node in self._roles:
            self._role(key, node)
        for node in self._withdrawals:
            self._withdrawn(node)
        return self.found

    def _check_version(self, node: Node | None) -> None:
        if node is None:
            return
        version = document.text(node, self._report, "version")
        if version not in (None, "1"):
            self._report.error(
                node, f"version {quoted(version or '')} is not known to this eclctl", "write 'version: 1'"
            )

    def _signers(self, node: Node) -> None:
        for key, value in document.pairs(node, self._report, "signers") or ():
            name = name_of(key, self._report, "signer")
            if name is None or self._taken(key, name, "signer", self.found.signer_places):
                continue
            if _FINGERPRINT.fullmatch(name):
                self._report.error(
                    key, "a signer cannot be named like a fingerprint", "give it a name and list the key"
                )
                continue
            self.found.signer_places[name] = key
            self.found.signers[name] = Signer(name, self._keys_of(name, value), place(key))

    def _taken(self, key: Scalar, name: str, what: str, places: dict[str, Scalar]) -> bool:
        """Report a name that is reserved, or that another file has declared."""
        if name == ANYONE:
            self._report.error(key, f"'{ANYONE}' is the built-in role of every key in the keyrings", "use another name")
            return True
        if name in places:
            self._report.error(key, f"{what} {quoted(name)} is declared twice (first at {place(places[name])})")
            return True
        return False

    def _keys_of(self, name: str, node: Node) -> tuple[str, ...]:
        what = f"signer {quoted(name)}"
        self._refuse_other_signers(node, what)
        fields = document.mapping(node, self._report, what, (*_SIGNER, *_OTHER_SIGNERS))
        if fields is None:
            return ()
        if not fields:
            self._report.error(node, f"{what} has no keys", "list fingerprints under pgp, or PEM files under key")
        keys: list[str] = []
        for sort, take in (("pgp", self._fingerprint), ("key", self._pem)):
            entries = document.texts(fields[sort], self._report, f"{sort} of {what}") if sort in fields else None
            for entry in entries or ():
                self._add_key(keys, take(entry), name, entry)
        return tuple(keys)

    def _add_key(self, keys: list[str], key: str | None, name: str, entry: Scalar) -> None:
        if key is None:
            return
        if key in keys:
            self._report.warning(entry, f"this key is listed twice for {quoted(name)}")
            return
        keys.append(key)
        self.found.key_places.append((key, name, entry))

    def _refuse_other_signers(self, node: Node, what: str) -> None:
        for key, _ in node.pairs if isinstance(node, MapNode) else ():
            if isinstance(key, Scalar) and key.text in _OTHER_SIGNERS:
                message = f"{what}: certificate and cosign signers are not supported by this version of eclctl"
                self._report.error(key, message, "use pgp or key")

    def _fingerprint(self, entry: Scalar) -> str | None:
        if not _FINGERPRINT.fullmatch(entry.text):
            self._report.error(entry, f"{quoted(entry.text)} is no fingerprint", "40 or 64 hex digits, without spaces")
            return None
        fingerprint = entry.text.upper()
        if self._environment.keyring.get(fingerprint) is None:
            self._report.error(
                entry, f"the key {fingerprint} is in no keyring", "export the certificate to a keyring file"
            )
            return None
        return fingerprint

    def _pem(self, entry: Scalar) -> str | None:
        path = os.path.join(os.path.dirname(entry.mark.file), entry.text)
        try:
            if path not in self.found.key_files:
                self.found.key_files[path] = self._environment.read_key(path)
            key = parse_public_key(self.found.key_files[path], source=document.printable(entry.text))
        except (OSError, EclctlError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._report.error(entry, f"the key file {quoted(entry.text)} cannot be used: {reason}")
            return None
        self.found.keys.setdefault(key.id, key)
        return key.id

    def _role(self, key: Scalar, node: Node) -> None:
        name = name_of(key, self._report, "role")
        if name is None or self._taken(key, name, "role", self.found.role_places):
            return
        self.found.role_places[name] = key
        if name in self.found.signers:
            self._report.warning(key, f"{quoted(name)} is a role and a signer")
        members = document.texts(node, self._report, f"role {quoted(name)}")
        self.found.roles[name] = signer_names(members, self.found, self._report)

    def _withdrawn(self, node: Node) -> None:
        fields = document.mapping(node, self._report, "withdrawn", _WITHDRAWN) or {}
        for sort in ("objects", "manifests"):
            entries = document.texts(fields[sort], self._report, f"withdrawn {sort}") if sort in fields else None
            self.found.withdrawn_digests.update(filter(None, map(self._digest, entries or ())))
        if "signers" in fields:
            entries = document.texts(fields["signers"], self._report, "withdrawn signers")
            names = signer_names(entries, self.found, self._report)
            self.found.withdrawn_signers.extend(name for name in names if name not in self.found.withdrawn_signers)

    def _digest(self, entry: Scalar) -> str | None:
        if not _DIGEST.fullmatch(entry.text):
            self._report.error(entry, f"{quoted(entry.text)} is no digest", "sha256: and 64 hex digits")
            return None
        return entry.text.lower()


def signer_names(entries: tuple[Scalar, ...] | None, found: Declarations, report: Report) -> tuple[str, ...]:
    """Return those entries that name a signer, and report the others."""
    names: list[str] = []
    for entry in entries or ():
        if entry.text in found.signer_places:
            names.append(entry.text)
        elif entry.text in found.role_places or entry.text == ANYONE:
            hint = f"write approvals: {{count: 1, of: {entry.text}}}"
            report.error(entry, f"{quoted(entry.text)} is a role, and a signer is needed here", hint)
        else:
            report.unknown(entry, "signer", entry.text, found.signer_places)
    return tuple(names)
