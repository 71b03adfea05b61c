"""The declarations of a policy file: signers, roles and what is withdrawn. Rules are in `rules`.

Declarations of all files are taken before any rule is read, so that a rule may name what a later file declares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime

from eclctl.config import document
from eclctl.config.document import MapNode, Node, Report, Scalar
from eclctl.dataclass import dataclass, field
from eclctl.errors import ConfigError
from eclctl.policy.globs import Glob, compile_repository, repository_objection
from eclctl.policy.language import ANYONE, Policy, Signer
from eclctl.policy.signer_declarations import (
    DECLARATIONS,
    FINGERPRINT,
    OPTIONS,
    KeyringCertificates,
    SignerFiles,
    key_words,
    signer_keys,
)
from eclctl.terms import is_purpose
from eclctl.text import quoted
from eclctl.trust.signer_types import signer_type

TOP_KEYS = ("version", "include", "signers", "roles", "withdrawn", "exceptions", "rules", "default")
WITHDRAWN_KEYS = ("objects", "manifests", "signers", "keys")

_NAME = re.compile(r"\w(?:[\w .@+:/-]{0,62}[\w.@+])?")
DIGEST = re.compile(r"sha256:[0-9A-Fa-f]{64}")

PURPOSE_SHAPE = "1 to 32 of a-z, 0-9, '.', '_' and '-', as in scan"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy file: its path, for messages and for the files that it names relative to it, and its content."""

    path: str
    text: bytes


def _no_files(path: str) -> Sequence[PolicyFile]:
    del path
    raise ConfigError("there are no files to include here")


@dataclass(frozen=True, slots=True)
class LoadEnvironment:
    """What a policy refers to outside its files.

    `read_key` returns the content of a key or certificate file, given a path, and raises OSError or an EclctlError.
    The resolvers return the number of a user or group name, or None. `now` (aware, UTC) is when certificates are looked
    at, to warn of those that have expired; what a policy means does not depend on it. `review` is given a policy that
    loads, to warn of more. `host` is the name of the host that it is loaded for, "" when that is not known.
    `read_sources` returns the policy file at a path, or those of a directory in name order, and raises as `read_key`.
    """

    keyring: KeyringCertificates
    read_key: Callable[[str], bytes]
    resolve_user: Callable[[str], int | None]
    resolve_group: Callable[[str], int | None]
    now: datetime
    review: Callable[[Policy, Declarations, Report], None] | None = None
    host: str = ""
    read_sources: Callable[[str], Sequence[PolicyFile]] = _no_files


@dataclass(slots=True)
class Declarations:
    """What has been declared so far; `*_places` say where, for messages about it."""

    material: SignerFiles
    signers: dict[str, Signer] = field(default_factory=dict)
    signer_places: dict[str, Scalar] = field(default_factory=dict)
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    role_places: dict[str, Scalar] = field(default_factory=dict)
    key_places: list[tuple[str, str, Scalar]] = field(default_factory=list)
    withdrawn_digests: set[str] = field(default_factory=set)
    withdrawn_signers: list[str] = field(default_factory=list)
    withdrawn_keys: list[Scalar] = field(default_factory=list)
    rules: list[Node] = field(default_factory=list)
    exceptions: Node | None = None


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
        self.found = Declarations(SignerFiles(environment.read_key, environment.keyring, report, environment.now))
        self._environment = environment
        self._report = report
        self._roles: list[tuple[Scalar, Node]] = []
        self._withdrawals: list[Node] = []

    def file(self, root: Node) -> None:
        """Take one file's declarations; `finish` must follow the last."""
        fields = document.mapping(root, self._report, "the policy", TOP_KEYS, ("version",))
        if fields is None:
            return
        if (exceptions := fields.get("exceptions")) is not None:  # `policy.breakglass` reads them
            if self.found.exceptions is not None:
                message = f"exceptions are declared twice (first at {place(self.found.exceptions)})"
                hint = "keep one: there is one directory of exceptions, and one way to approve"
                self._report.error(exceptions, message, hint)
            else:
                self.found.exceptions = exceptions
        version, default = fields.get("version"), fields.get("default")
        if version is not None and (word := document.text(version, self._report, "version")) not in {None, "1"}:
            message = f"version {quoted(word or '')} is not known to this eclctl"
            self._report.error(version, message, "write 'version: 1'")
        if default is not None and document.text(default, self._report, "default") not in {None, "deny"}:
            hint = "leave it out, or write 'default: deny'; what may run without approvals needs a rule"
            self._report.error(default, "default can only be 'deny'", hint)
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

    def _signers(self, node: Node) -> None:
        for key, value in document.pairs(node, self._report, "signers") or ():
            name = name_of(key, self._report, "signer")
            if name is None or self._taken(key, name, "signer", self.found.signer_places):
                continue
            if FINGERPRINT.fullmatch(name):
                message = "a signer cannot be named like a fingerprint"
                self._report.error(key, message, "give it a name and list the key")
                continue
            self.found.signer_places[name] = key
            self.found.signers[name] = self._signer(name, value, place(key))

    def _taken(self, key: Scalar, name: str, what: str, places: dict[str, Scalar]) -> bool:
        """Report a name that is reserved, or that another file has declared."""
        if name == ANYONE:
            self._report.error(key, f"'{ANYONE}' is the built-in role of every key in the keyrings", "use another name")
            return True
        if name in places:
            self._report.error(key, f"{what} {quoted(name)} is declared twice (first at {place(places[name])})")
            return True
        return False

    def _signer(self, name: str, node: Node, where: str) -> Signer:
        what = f"signer {quoted(name)}"
        fields = document.mapping(node, self._report, what, signer_keys()) or {}
        self._require_keys(node, fields, what)
        annotations = self._annotations(fields["annotations"], what) if "annotations" in fields else frozenset()
        repository = self._repository(fields["repository"], what) if "repository" in fields else None
        purposes = self._purposes(fields["purpose"], what) if "purpose" in fields else frozenset()
        return Signer(name, self._keys_of(name, fields, what), where, annotations, repository, purposes)

    def _require_keys(self, node: Node, fields: dict[str, Node], what: str) -> None:
        words = key_words()
        if isinstance(node, MapNode) and not any(map(fields.__contains__, words)):
            hint = f"list some under {', '.join(words[:-1])} or {words[-1]}"
            self._report.error(node, f"{what} has no keys", hint)
            return
        given = [declaration.options for declaration in DECLARATIONS.values() if declaration.word in fields]
        for option in OPTIONS:
            if option.name in fields and not any(option.name in options for options in given):
                message = option.about.format(name=option.name, what=what)
                self._report.error(fields[option.name], message, option.hint)

    def _keys_of(self, name: str, fields: dict[str, Node], what: str) -> tuple[str, ...]:
        keys: list[str] = []
        for declaration in DECLARATIONS.values():
            if declaration.word in fields:
                for entry, key in declaration.read(self.found.material, fields[declaration.word], what):
                    self._add_key(keys, key, name, entry)
        return tuple(keys)

    def _annotations(self, node: Node, what: str) -> frozenset[tuple[str, str]]:
        where = f"annotations of {what}"
        found: set[tuple[str, str]] = set()
        pairs = document.pairs(node, self._report, where)
        for key, value in pairs or ():
            named = document.text(key, self._report, f"a key of {where}")
            text = document.text(value, self._report, f"{quoted(key.text)} in {where}")
            if named is not None and text is not None:
                found.add((named, text))
        if pairs == ():
            self._report.error(node, f"{where} is an empty mapping", "leave the key out, or say what must be there")
        return frozenset(found)

    def _purposes(self, node: Node, what: str) -> frozenset[str]:
        """Take what DSSE signatures are for: a word, or a list of words."""
        where = f"purpose of {what}"
        entries = document.text_or_texts(node, self._report, where) or ()
        for entry in entries:
            if not is_purpose(entry.text):
                self._report.error(entry, f"{where} is {quoted(entry.text)}, which is no purpose", PURPOSE_SHAPE)
        return frozenset(entry.text for entry in entries)

    def _repository(self, node: Node, what: str) -> Glob | None:
        pattern = document.text(node, self._report, f"repository of {what}")
        if pattern is None:
            return None
        wrong = repository_objection(pattern)
        if wrong is not None:
            self._report.error(node, f"the repository {quoted(pattern)} {wrong[0]}", wrong[1])
            return None
        return compile_repository(pattern)

    def _add_key(self, keys: list[str], key: str, name: str, entry: Scalar) -> None:
        if key in keys:
            self._report.warning(entry, f"this {signer_type(key).noun} is listed twice for {quoted(name)}")
            return
        keys.append(key)
        self.found.key_places.append((key, name, entry))

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
        fields = document.mapping(node, self._report, "withdrawn", WITHDRAWN_KEYS) or {}
        for sort in ("objects", "manifests"):
            entries = document.texts(fields[sort], self._report, f"withdrawn {sort}") if sort in fields else None
            for entry in entries or ():
                if DIGEST.fullmatch(entry.text):
                    self.found.withdrawn_digests.add(entry.text.lower())
                else:
                    self._report.error(entry, f"{quoted(entry.text)} is no digest", "sha256: and 64 hex digits")
        if "signers" in fields:
            entries = document.texts(fields["signers"], self._report, "withdrawn signers")
            names = signer_names(entries, self.found, self._report)
            self.found.withdrawn_signers.extend(name for name in names if name not in self.found.withdrawn_signers)
        if "keys" in fields:
            self.found.withdrawn_keys += document.texts(fields["keys"], self._report, "withdrawn keys") or ()


def signer_names(
    entries: tuple[Scalar, ...] | None, found: Declarations, report: Report, *, asked: bool = False
) -> tuple[str, ...]:
    """Return those entries that name a signer, and report the others. `asked`: a rule asks for their approvals."""
    names: list[str] = []
    for entry in entries or ():
        if entry.text in found.signer_places:
            names.append(entry.text)
        elif entry.text in found.role_places or entry.text == ANYONE:
            hint = f"write approvals: {{count: 1, of: {entry.text}}}" if asked else "list its signers instead"
            report.error(entry, f"{quoted(entry.text)} is a role, and a signer is needed here", hint)
        else:
            report.unknown(entry, "signer", entry.text, found.signer_places)
    return tuple(names)
