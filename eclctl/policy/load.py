"""Loads a policy: files in, a whole policy or every error out.

In steps: read each file, and those that it includes, into marked nodes; take the declarations of all; number the keys;
read the rules against them. A policy with any error is no policy, and the caller keeps the last good one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from eclctl.config.document import Mark, Problem, Problems, Report
from eclctl.policy.breakglass import read_terms
from eclctl.policy.declare import Declarations, Declarer, LoadEnvironment, PolicyFile, place
from eclctl.policy.holders import Holders, find_holders, warn_of_shared_keys
from eclctl.policy.language import ExceptionTerms, Policy, Rule, Withdrawn, frozen
from eclctl.policy.rules import RuleReader
from eclctl.policy.select import build_index
from eclctl.policy.signer_declarations import KeyringCertificates
from eclctl.policy.sources import Gatherer
from eclctl.policy.withdrawal import withdrawn_keys

__all__ = ["KeyringCertificates", "LoadEnvironment", "Loaded", "PolicyFile", "Problem", "load_policies", "place"]


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
    holders = find_holders(declared, environment.keyring)
    rules = RuleReader(environment, declared, report, holders).rules()
    withdrawn = Withdrawn(
        frozenset(declared.withdrawn_digests),
        tuple(declared.withdrawn_signers),
        withdrawn_keys(declared, holders, environment.keyring, report),
    )
    exceptions = read_terms(declared, holders, withdrawn.keys, report)
    warn_of_shared_keys(declared, holders, report)
    if not declared.rules and sources and not report.errors:
        report.warning(Mark(sources[0].path, 0, 0), "there are no rules, so nothing may run")
    policy = (
        None
        if report.errors
        else _policy(sources, declared, holders, rules, exceptions, withdrawn=withdrawn, host=environment.host)
    )
    if policy is not None and environment.review is not None:
        environment.review(policy, declared, report)
    errors, warnings, notes = (
        _in_order(found, sources, sort)
        for found, sort in ((report.errors, "errors"), (report.warnings, "warnings"), (report.notes, "notes"))
    )
    return Loaded(policy, errors, warnings, notes)


def _policy(
    sources: Sequence[PolicyFile],
    declared: Declarations,
    holders: Holders,
    rules: tuple[Rule, ...],
    exceptions: ExceptionTerms | None,
    *,
    withdrawn: Withdrawn,
    host: str,
) -> Policy:
    material = declared.material
    return Policy(
        digest=_digest([*(source.text for source in sources), *material.files.values()]),
        signers=dict(declared.signers),
        roles=dict(declared.roles),
        rules=rules,
        withdrawn=withdrawn,
        listed=material.listed,
        holders=frozen(holders.by_name),
        shared=holders.shared,
        index=build_index(rules),
        exceptions=exceptions,
        host=host,
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
