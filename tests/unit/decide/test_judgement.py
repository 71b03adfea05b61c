"""Each command that says whether an image may run says the same as `check`."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

import pytest

from eclctl.config.document import Mark
from eclctl.decide.facts import Facts
from eclctl.decide.judgement import judge_image
from eclctl.decide.place import TrustedPlace
from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller, Code, Outcome
from eclctl.policytest.cases import Case, Expectation
from eclctl.policytest.running import Runner
from eclctl.report.survey import image_report as stands
from eclctl.sign.outlook import outcome_at
from eclctl.terms import Assurance, Verdict
from eclctl.trust.revocation import Status
from eclctl.verify.examine import examine
from tests.helpers.engines import CALLER, RULES, Site
from tests.helpers.previews import looking

MEMBER = Caller(7, 77)
ONE = """\
rules:
  - name: one
    match: {paths: ["@LIBRARY@/**"]}
    require: [{any_of: [builder]}]
"""
MODES = {
    "permissive": "    mode: permissive\n",
    "forbid": "    forbid: {signed_by: [scanner]}\n",
    "unknown": "    unknown_signatures: deny\n",
    "old": "    max_signature_age: 1h\n",
}
ALLOW = 'rules:\n  - {name: free, match: {paths: ["@LIBRARY@/**"]}, decision: allow}\n'
DENY = 'rules:\n  - {name: shut, match: {paths: ["@LIBRARY@/**"]}, decision: deny}\n'
MEMBERS = """\
rules:
  - name: members
    match: {paths: ["@LIBRARY@/**"], groups: ["77"]}
    decision: allow
  - name: others
    match: {paths: ["@LIBRARY@/**"]}
    require: [{any_of: [scanner]}]
"""
CHAIN = """\
rules:
  - name: chain
    match: {paths: ["@LIBRARY@/**"]}
    chain: [{build: {any_of: [builder]}}, {approve: {any_of: [approver]}}]
"""
WITHDRAWN = "withdrawn: {signers: [scanner]}\n"
ELSEWHERE = 'rules:\n  - {name: elsewhere, match: {paths: ["/elsewhere/**"]}, decision: allow}\n'
FULL, HALF, SCANNED, NONE = (
    "one-builder+scanner+approver.sif",
    "one-builder.sif",
    "one-scanner.sif",
    "one-unsigned.sif",
)
SITUATIONS = [
    (RULES, FULL, CALLER, Code.REQUIREMENTS_MET),
    (RULES, HALF, CALLER, Code.REQUIREMENTS_NOT_MET),
    (RULES, NONE, CALLER, Code.REQUIREMENTS_NOT_MET),
    (RULES + MODES["permissive"], HALF, CALLER, Code.PERMISSIVE),
    (RULES + MODES["forbid"], FULL, CALLER, Code.FORBIDDEN),
    (RULES + MODES["old"], FULL, CALLER, Code.REQUIREMENTS_NOT_MET),
    (ONE + MODES["unknown"], "one-builder+mallory.sif", CALLER, Code.UNKNOWN_SIGNATURE),
    (ONE, "dsse-other-image.sif", CALLER, Code.REQUIREMENTS_NOT_MET),
    (ONE, "gpg-expired-key.sif", CALLER, Code.REQUIREMENTS_NOT_MET),
    (ONE, "two-group1-builder.sif", CALLER, Code.REQUIREMENTS_NOT_MET),
    (ONE, "ungrouped-unsigned.sif", CALLER, Code.REQUIREMENTS_NOT_MET),
    (ALLOW, NONE, CALLER, Code.RULE_ALLOW),
    (DENY, FULL, CALLER, Code.RULE_DENY),
    (MEMBERS, NONE, MEMBER, Code.RULE_ALLOW),
    (MEMBERS, NONE, CALLER, Code.REQUIREMENTS_NOT_MET),
    (MEMBERS, SCANNED, CALLER, Code.REQUIREMENTS_MET),
    (CHAIN, HALF, CALLER, Code.REQUIREMENTS_NOT_MET),
    (CHAIN, FULL, CALLER, Code.REQUIREMENTS_MET),
    (WITHDRAWN + RULES, FULL, CALLER, Code.WITHDRAWN),
    (WITHDRAWN + ALLOW, SCANNED, CALLER, Code.WITHDRAWN),
    (ELSEWHERE, FULL, CALLER, Code.NO_RULE),
]
UNREADABLE = [
    (ONE, "struct-truncated-header.sif", CALLER, Code.MALFORMED),
    (ONE, "struct-version-99.sif", CALLER, None),
]
EXPECTED = Expectation(Mark("t.yaml", 1, 1), Verdict.DENY, Code.NO_RULE)


def case(path: str, caller: Caller, now: datetime) -> Case:
    worth, told = Assurance.TRUSTED_PATH, Status.GOOD
    return Case("it", EXPECTED.mark, path, path, caller, "rootfs", now, worth, told, None, EXPECTED)


def from_check(site: Site, path: str, caller: Caller) -> Outcome:
    """What `check` says of an image that is read for it."""
    site.engine.flush()
    return site.ask(path, caller).outcome


def from_kept_facts(site: Site, path: str, caller: Caller) -> Outcome:
    """What `check` says when the facts are kept."""
    site.engine.prefetch(path)
    return site.ask(path, caller).outcome


def from_explain(site: Site, path: str, caller: Caller) -> Outcome:
    return site.ask(path, caller, explain=True).outcome


def from_simulate(site: Site, path: str, caller: Caller) -> Outcome:
    with looking(site, site.engine.snapshot, site.engine.snapshot) as looker:
        image = looker.look(path)
        try:
            old, new = image.ask(caller, "rootfs")
        finally:
            image.close()
    assert old.outcome == new.outcome
    return new.outcome


def from_a_policy_test(site: Site, path: str, caller: Caller) -> Outcome:
    runner = Runner(site.engine.snapshot)
    try:
        return runner.run(case(path, caller, site.now)).decision.outcome
    finally:
        runner.close()


def from_report(site: Site, path: str, caller: Caller) -> Outcome | None:
    """What `report` says under the rule that this caller gets; None of a file that no rule is about."""
    rule = site.ask(path, caller).rule
    assert site.engine.prefetch(path).status in {"kept", "known", "failed"}
    (kept,) = (each for each in site.engine.cache.kept() if each.path == path)
    found = stands(site.engine.snapshot, kept, site.engine.statuses, site.now)
    if found is None:
        return None
    (standing,) = (each for each in found.standings if rule is None or each.name == rule)
    return standing.outcome


def facts_of(site: Site, path: str) -> Facts:
    store, policy = site.engine.snapshot.store, site.engine.snapshot.policy
    assert policy is not None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found = examine(descriptor, store, digests=policy.withdraws_objects)
        return Facts(store.digest, found, digested=policy.withdraws_objects)
    finally:
        os.close(descriptor)


def from_sign(site: Site, path: str, caller: Caller) -> Outcome:
    found = facts_of(site, path).verification
    assert found is not None
    return outcome_at(site.engine.snapshot, found, path, caller, site.now)


def from_the_function(site: Site, path: str, caller: Caller) -> Outcome:
    return judge_image(site.engine.snapshot, facts_of(site, path), TrustedPlace(path), caller, site.now).outcome


READERS = [from_check, from_kept_facts, from_explain, from_simulate, from_a_policy_test]
USERS = [*READERS, from_report, from_sign, from_the_function]


def said(outcome: Outcome | None) -> tuple[object, ...] | None:
    """All of an outcome but the report on each requirement, which is made when it is asked for."""
    if outcome is None:
        return None
    return (
        outcome.verdict,
        outcome.code,
        outcome.reason,
        outcome.rule,
        outcome.rule_where,
        outcome.mode,
        outcome.signers,
        outcome.missing,
        outcome.message,
        outcome.would,
        outcome.exception,
    )


@pytest.mark.parametrize(("rules", "image", "caller", "code"), SITUATIONS)
def test_every_command_says_the_same(site: Site, rules: str, image: str, caller: Caller, code: Code) -> None:
    site.use_policy(rules)
    path = str(site.image("a.sif", image))
    answers = {user.__name__: said(user(site, path, caller)) for user in USERS}
    expected = answers["from_check"]
    assert expected is not None
    assert expected[1] is code
    assert answers == dict.fromkeys(answers, expected)


@pytest.mark.parametrize(("rules", "image", "caller", "code"), UNREADABLE)
def test_every_command_that_reads_the_image_says_the_same_of_a_broken_one(
    site: Site, rules: str, image: str, caller: Caller, code: Code | None
) -> None:
    site.use_policy(rules)
    path = str(site.image("a.sif", image))
    answers = {user.__name__: said(user(site, path, caller)) for user in [*READERS, from_report]}
    expected = answers["from_check"]
    assert expected is not None
    assert expected[0] is Verdict.DENY
    assert code is None or expected[1] is code
    assert answers == dict.fromkeys(answers, expected)


def test_the_place_counts_for_the_function_as_for_check(site: Site) -> None:
    path = site.image("a.sif", FULL)
    path.chmod(0o666)
    checked = site.ask(path).outcome
    located = site.ask(path)
    place = TrustedPlace(str(path), assurance=Assurance.NONE, weak=located.weak)
    judged = judge_image(site.engine.snapshot, facts_of(site, str(path)), place, CALLER, site.now)
    assert checked.code is Code.ASSURANCE_TOO_LOW
    assert judged.outcome == checked


def test_time_counts_for_every_command(site: Site) -> None:
    site.use_policy(RULES + "    max_signature_age: 3650d\n")
    path = str(site.image("a.sif", FULL))
    codes = []
    for _ in range(2):
        (answer,) = {said(user(site, path, CALLER)) for user in USERS}
        assert answer is not None
        codes.append(answer[1])
        site.now += timedelta(days=3651)
    assert codes == [Code.REQUIREMENTS_MET, Code.REQUIREMENTS_NOT_MET]


def test_without_a_policy_nothing_may_run(site: Site) -> None:
    facts = facts_of(site, str(site.image("a.sif", FULL)))
    found = judge_image(Snapshot.empty(), facts, TrustedPlace("/a.sif"), CALLER, site.now)
    assert (found.outcome.verdict, found.outcome.code, found.rule) == (Verdict.DENY, Code.NO_POLICY, None)


def test_facts_without_anything_in_them_are_a_bug_that_denies(site: Site) -> None:
    facts = Facts(site.engine.snapshot.store.digest, None)
    found = judge_image(site.engine.snapshot, facts, TrustedPlace("/a.sif"), CALLER, site.now)
    assert (found.outcome.verdict, found.outcome.code) == (Verdict.DENY, Code.INTERNAL_ERROR)
