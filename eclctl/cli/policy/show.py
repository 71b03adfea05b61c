"""`eclctl policy show`: the policy as it was understood, with everything resolved and where each part is written."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from eclctl.cli.inputs.policies import add_policy_options
from eclctl.cli.policy.check import load_named, problem_fields
from eclctl.cli.terminal.exit_codes import FAILED, OK
from eclctl.cli.terminal.output import print_json, print_problem
from eclctl.cli.terminal.subcommands import Commands, add_command
from eclctl.dataclass import asdict
from eclctl.policy.language import Match, Policy, Requirement, Rule, Signer
from eclctl.report.shapes import condition_fields, match_fields
from eclctl.text import printable

_EXAMPLES = """Users and groups are shown by number. Where a rule names hosts, it says whether
this host is one of them. Rules are in the order in which they are tried.

exit status:
  0  the policy was printed
  1  it does not load
  2  the command line is wrong
  3  the output cannot be written

examples:
  eclctl policy show
  eclctl policy show --keyring site-ring.asc policies.d/
  eclctl policy show --json | jq '.rules[].name'
"""


def add(commands: Commands) -> None:
    """Add the command's parser."""
    text = "Prints the policy as the daemon understands it, and where each part is written."
    show = add_command(commands, "show", text, _EXAMPLES)
    add_policy_options(show)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    built = load_named(options, datetime.now(UTC), lint=False)
    policy, digest = (None, None) if built.snapshot is None else (built.snapshot.policy, built.snapshot.digest)
    if policy is None or digest is None:
        for problem in built.errors:
            print_problem("error", problem)
        if options.json:
            print_json({"policy": None, "errors": [problem_fields(each) for each in built.errors]})
        return FAILED
    if options.json:
        print_json(_shape(policy, digest))
    else:
        print("\n".join(map(printable, _lines(policy, digest))))
    return OK


def _shape(policy: Policy, digest: str) -> dict[str, Any]:
    return {
        "policy": digest,
        "host": policy.host,
        "signers": {name: _signer(signer) for name, signer in policy.signers.items()},
        "roles": {name: list(people) for name, people in policy.roles.items()},
        "withdrawn": {
            "digests": sorted(policy.withdrawn.digests),
            "signers": list(policy.withdrawn.signers),
            "keys": _withdrawn_keys(policy),
        },
        "exceptions": None if policy.exceptions is None else asdict(policy.exceptions),
        "rules": [_rule(rule) for rule in policy.rules],
    }


def _signer(signer: Signer) -> dict[str, Any]:
    return {
        "where": signer.where,
        "keys": list(signer.keys),
        "annotations": dict(sorted(signer.annotations)),
        "repository": None if signer.repository is None else signer.repository.pattern,
        "purposes": sorted(signer.purposes),
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "where": rule.where,
        "match": match_fields(rule.match),
        "decision": rule.decision,
        "require": [_requirement(need) for need in rule.require],
        "chain": list(rule.chain),
        "distinct": rule.distinct,
        "forbidden": list(rule.forbidden),
        **condition_fields(rule),
        "mode": rule.mode,
        "message": rule.message,
    }


def _requirement(need: Requirement) -> dict[str, Any]:
    return {
        "text": need.text,
        "where": need.where,
        "stage": need.stage,
        "purpose": need.purpose,
        "count": need.count,
        "signers": None if need.anyone else list(need.people),
    }


def _withdrawn_keys(policy: Policy) -> list[str]:
    return sorted(name for name, holder in policy.holders.items() if holder.key in policy.withdrawn.keys)


def _lines(policy: Policy, digest: str) -> Iterator[str]:
    yield f"policy {digest}"
    yield f"loaded for host {policy.host or '(unknown)'}"
    yield ""
    yield "signers"
    for signer in policy.signers.values():
        yield from _signer_lines(signer)
    if policy.roles:
        yield ""
        yield "roles"
        yield from (f"  {name}: {', '.join(people)}" for name, people in policy.roles.items())
    if policy.withdraws:
        yield ""
        yield "withdrawn"
        yield from (f"  everything signed by {name}" for name in policy.withdrawn.signers)
        yield from (f"  everything signed with {key}" for key in _withdrawn_keys(policy))
        yield from (f"  {each}" for each in sorted(policy.withdrawn.digests))
    if (terms := policy.exceptions) is not None:
        yield ""
        yield f"exceptions ({terms.where})"
        yield f"  in {terms.directory}, for {terms.longest / 3600:g} hours at most"
        yield f"  approved by {terms.count} of {terms.role}"
    yield ""
    yield "rules, the first that matches decides"
    for rule in policy.rules:
        yield from _rule_lines(rule)
    yield f"  {len(policy.rules) + 1}. everything else is denied"


def _signer_lines(signer: Signer) -> Iterator[str]:
    yield f"  {signer.name} ({signer.where})"
    yield from (f"    {key}" for key in signer.keys)
    if signer.annotations:
        wanted = ", ".join(f"{key}={text}" for key, text in sorted(signer.annotations))
        yield f"    cosign signatures must say {wanted}"
    if signer.repository is not None:
        yield f"    cosign signatures must name {signer.repository.pattern}"
    if signer.purposes:
        yield f"    signatures by PEM keys and certificates are for {', '.join(sorted(signer.purposes))}"


def _rule_lines(rule: Rule) -> Iterator[str]:
    yield f"  {rule.order + 1}. {rule.name} ({rule.where})"
    yield from (f"       {line}" for line in _match_lines(rule.match))
    if rule.decision is not None:
        yield f"       decision: {rule.decision}"
    for need in rule.require:
        stage = "" if need.stage is None else f"stage {need.stage}: "
        yield f"       needs {stage}{need.text} ({need.where})"
    yield from (f"       {line}" for line in _option_lines(rule))


def _match_lines(match: Match) -> Iterator[str]:
    listed = {
        "paths": match.paths and [glob.pattern for glob in match.paths],
        "kinds": sorted(match.kinds),
        "users": match.users and sorted(match.users),
        "groups": match.groups and sorted(match.groups),
        "hosts": match.hosts,
        "times": match.times and [window.text for window in match.times],
    }
    for name, values in listed.items():
        if values is not None:
            never = "" if name != "hosts" or match.here else ": never matches here"
            yield f"{name}: {', '.join(map(str, values))}{never}"


def _option_lines(rule: Rule) -> Iterator[str]:
    shape = _rule(rule)
    if rule.max_age is not None:
        yield f"signatures count for {rule.max_age / 86400:g} days"
    if rule.distinct:
        yield "no person serves two requirements"
    if rule.forbidden:
        yield f"forbidden: {', '.join(rule.forbidden)}"
    for name, default in _DEFAULTS.items():
        if shape[name] != default:
            yield f"{name}: {shape[name]}"


_DEFAULTS = {
    "unknown_signatures": "ignore",
    "discounted_signatures": "ignore",
    "legacy_signatures": "ignore",
    "assurance": "trusted-path",
    "mode": "enforce",
    "message": None,
}
