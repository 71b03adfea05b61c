"""Loads a policy: files in, a whole policy or every error out.

In steps: read each file, and those that it includes, into marked nodes; take the declarations of all; number the keys;
read the rules against them. A policy with any error is no policy, and the caller keeps the last good one.

`include: [site.d, projects/alpha.yaml]` names files and directories, relative to the file that names them. Of a
directory, its policy files are taken in name order. Each file is read once: one that is named again is an error, so
that no circle can be made, and what a policy says does not depend on which way a file was found.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from types import MappingProxyType
from typing import NamedTuple

from eclctl.config import document
from eclctl.config.document import MapNode, Mark, Node, Problem, Problems, Report, Scalar, read_document
from eclctl.dataclass import dataclass, field
from eclctl.errors import EclctlError
from eclctl.policy.breakglass import read_terms
from eclctl.policy.declare import Declarations, Declarer, LoadEnvironment, PolicyFile, place
from eclctl.policy.holders import find_holders, warn_of_shared_keys, withdrawn_keys
from eclctl.policy.language import Policy, Withdrawn
from eclctl.policy.rules import RuleReader
from eclctl.policy.select import build_index
from eclctl.text import quoted

__all__ = ["LoadEnvironment", "Loaded", "PolicyFile", "Problem", "load_policies", "place"]

INCLUDE = "include"
MAX_DEPTH = 8
"""How deep files may include others."""
MAX_FILES = 10_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy, or the errors that kept it from loading; warnings come with both, notes with a policy."""

    policy: Policy | None
    errors: tuple[Problem, ...]
    warnings: tuple[Problem, ...]
    notes: tuple[Problem, ...] = ()


def load_policies(sources: Sequence[PolicyFile], environment: LoadEnvironment) -> Loaded:
    """Load a policy from files in the order given, which is the order of their rules; what one includes follows it.

    Never raises for what the files say. All that is wrong is in `errors`, with its place, and `policy` is None then.
    """
    report = Report()
    declarer = Declarer(environment, report)
    if not sources:
        report.error(Mark("policy", 0, 0), "there is no policy file", "add a file that ends in .yaml")
    documents = Gatherer(environment, report).gather(sources)
    sources = [each.source for each in documents]
    for each in documents:
        if each.root is not None:
            declarer.file(each.root)
    declared = declarer.finish()
    policy = _policy(sources, declared, environment, report)
    if policy is not None and environment.review is not None:
        environment.review(policy, declared, report)
    sorts = ((report.errors, "errors"), (report.warnings, "warnings"), (report.notes, "notes"))
    return Loaded(policy, *(_in_order(found, sources, sort) for found, sort in sorts))


def _policy(
    sources: Sequence[PolicyFile], declared: Declarations, environment: LoadEnvironment, report: Report
) -> Policy | None:
    """Return what has been declared as a policy; None when there is any error."""
    holders = find_holders(declared)
    rules = RuleReader(environment, declared, report, holders).rules()
    withdrawn = Withdrawn(
        frozenset(declared.withdrawn_digests),
        tuple(declared.withdrawn_signers),
        withdrawn_keys(declared, holders, report),
    )
    exceptions = read_terms(declared, holders, withdrawn.keys, report)
    warn_of_shared_keys(declared, holders, report)
    if report.errors:
        return None
    if not declared.rules:
        report.warning(Mark(sources[0].path, 0, 0), "there are no rules, so nothing may run")
    return Policy(
        digest=_digest([*(source.text for source in sources), *declared.material.files.values()]),
        signers=dict(declared.signers),
        roles=dict(declared.roles),
        rules=rules,
        withdrawn=withdrawn,
        listed=declared.material.listed,
        holders=MappingProxyType(dict(holders.by_name)),
        shared=holders.shared,
        index=build_index(rules),
        exceptions=exceptions,
        host=environment.host,
    )


def _digest(parts: Sequence[bytes]) -> str:
    """Return one digest over all parts; each is hashed alone first, so that none can run into the next."""
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    return "sha256:" + hashlib.sha256(digests).hexdigest()


def _in_order(problems: Problems, sources: Sequence[PolicyFile], sort: str) -> tuple[Problem, ...]:
    """Return problems by file, in the order given, and then by place; last, how many more there are."""
    order = {source.path: number for number, source in enumerate(sources)}
    found = sorted(problems, key=lambda found: (order.get(found.file, -1), found.line, found.column))
    if problems.left_out:
        message = f"{problems.left_out} more {sort} are not shown"
        found.append(Problem(found[-1].file, 0, 0, message, "look at these first"))
    return tuple(found)


class Document(NamedTuple):
    """A policy file, and its root; None when it is no YAML that can be taken, which has been reported."""

    source: PolicyFile
    root: Node | None


@dataclass(slots=True)
class Gatherer:
    """Reads the files of one policy into `found`."""

    environment: LoadEnvironment
    report: Report
    found: list[Document] = field(default_factory=list)
    _known: dict[str, str] = field(default_factory=dict)

    def gather(self, sources: Sequence[PolicyFile]) -> list[Document]:
        """Read the files that are given, and those that they include."""
        given = "it is one of the policies that are named or lie in a directory"
        self._known.update({os.path.normpath(source.path): given for source in sources})
        for source in sources:
            self._take(source, 0)
        return self.found

    def _take(self, source: PolicyFile, depth: int) -> None:
        root = read_document(source.path, source.text, self.report)
        self.found.append(Document(source, root))
        # Reading all of the file reports what else is wrong with it.
        pairs = root.pairs if isinstance(root, MapNode) else ()
        node = next((value for key, value in pairs if isinstance(key, Scalar) and key.text == INCLUDE), None)
        for entry in document.texts(node, self.report, INCLUDE) or () if node is not None else ():
            if depth >= MAX_DEPTH:
                self.report.error(entry, f"files include files more than {MAX_DEPTH} deep", "include them further up")
                return
            for included in self._read(entry):
                self._once(included, entry, depth)

    def _once(self, source: PolicyFile, entry: Scalar, depth: int) -> None:
        name = os.path.normpath(source.path)
        if name in self._known:
            self.report.error(entry, f"the file {quoted(source.path)} is included twice", self._known[name])
        elif len(self.found) >= MAX_FILES:
            self.report.error(entry, f"a policy has at most {MAX_FILES} files")
        else:
            self._known[name] = f"it is included at {entry.mark.file}:{entry.mark.line} already"
            self._take(source, depth + 1)

    def _read(self, entry: Scalar) -> Sequence[PolicyFile]:
        path = os.path.normpath(os.path.join(os.path.dirname(entry.mark.file), entry.text))
        try:
            sources = self.environment.read_sources(path)
        except (OSError, EclctlError) as error:
            reason = (error.strerror or "") if isinstance(error, OSError) else str(error)
            self.report.error(entry, f"the include {quoted(entry.text)} cannot be used: {reason}")
            return ()
        if not sources:
            self.report.warning(entry, f"the include {quoted(entry.text)} is a directory without policies")
        return sources
