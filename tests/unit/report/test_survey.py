"""How images stand under a policy: by rule, for all callers, now and when a key has ended."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import timedelta

import pytest

from eclctl.decide.cache import Kept
from eclctl.model import Caller, Code
from eclctl.report.keys import listed_keys, turning
from eclctl.report.survey import ImageReport, Stand, Survey, image_report, usable
from eclctl.trust.signer_types import Lifetime
from tests.helpers.engines import RULES, Site
from tests.helpers.support import CORPUS, NOW

BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
FULL, HALF, UNSIGNED = "one-builder+scanner+approver.sif", "one-builder.sif", "one-unsigned.sif"
MEMBERS = """\
rules:
  - name: members
    match: {paths: ["@LIBRARY@/**"], groups: ["77"]}
    decision: allow
  - name: all
    match: {paths: ["@LIBRARY@/**"]}
    require: [{any_of: [builder]}, {any_of: [scanner]}]
  - name: never-reached
    match: {paths: ["@LIBRARY@/**"]}
    decision: allow
"""


def known(site: Site, *names: str) -> list[Kept]:
    """Have the engine examine images of the corpus, and return what it keeps."""
    for name in names:
        assert site.engine.prefetch(str(site.image(name, name))).status == "kept", name
    return site.engine.cache.kept()


def reports(site: Site, *names: str) -> dict[str, ImageReport]:
    found = [image_report(site.engine.snapshot, kept, site.engine.statuses, site.now) for kept in known(site, *names)]
    return {os.path.basename(report.path): report for report in found if report is not None}


def survey(site: Site, *names: str, **lives: Lifetime) -> Survey:
    """Survey images, when signers' keys live as it is said."""
    keys = listed_keys(site.engine.snapshot, site.engine.statuses, site.now)
    changed = [replace(key, about=key.about._replace(life=lives.get(key.signers[0], key.about.life))) for key in keys]
    found = Survey(site.engine.snapshot, site.engine.statuses, turning(changed, site.now), site.now)
    found.add(known(site, *names))
    return found


def test_images_are_approved_pending_or_denied(site: Site) -> None:
    found = reports(site, FULL, HALF, UNSIGNED)
    assert {name: report.stand for name, report in found.items()} == {
        FULL: Stand.APPROVED,
        HALF: Stand.PENDING,
        UNSIGNED: Stand.DENIED,
    }
    assert [each.outcome.code for each in found[HALF].standings] == [Code.REQUIREMENTS_NOT_MET]
    assert [each.signer for each in found[FULL].signatures] == ["builder", "scanner", "approver"]


def test_it_is_as_a_decision_says_for_every_caller(site: Site) -> None:
    site.use_policy(MEMBERS)
    found = reports(site, FULL, HALF, UNSIGNED)
    for name, report in found.items():
        by_rule = {standing.name: standing for standing in report.standings}
        assert list(by_rule) == ["members", "all"]
        for caller in (Caller(1, 77), Caller(1, 1)):
            decision = site.ask(report.path, caller)
            standing = by_rule[decision.rule]
            assert (standing.outcome.verdict, standing.outcome.code) == (decision.verdict, decision.code), name
            assert standing.everybody is (caller.gid != 77)


def test_what_one_caller_may_run_is_approved(site: Site) -> None:
    site.use_policy(MEMBERS)
    found = survey(site, UNSIGNED)
    assert (found.images.approved, found.images.denied) == (1, 0)
    assert found.by_rule["members"].approved == found.by_rule["all"].denied == 1
    assert "never-reached" not in found.by_rule


def test_a_permissive_rule_is_counted_as_if_it_were_enforced(site: Site) -> None:
    site.use_policy(RULES.replace("    require:", "    mode: permissive\n    require:"))
    found = survey(site, FULL, HALF, UNSIGNED)
    assert (found.images.approved, found.images.pending, found.images.denied) == (1, 1, 1)


def test_what_is_withdrawn_is_denied_before_every_rule(site: Site) -> None:
    site.use_policy(MEMBERS + "withdrawn: {signers: [builder]}\n")
    report = reports(site, HALF)[HALF]
    assert [(standing.name, standing.outcome.code) for standing in report.standings] == [(None, Code.WITHDRAWN)]
    assert report.stand is Stand.DENIED


def test_signatures_that_are_too_old_for_a_rule_approve_nothing(site: Site) -> None:
    rules = MEMBERS.replace("    require: [", "    max_signature_age: AGE\n    require: [")
    for age, stand in (("9999d", Stand.APPROVED), ("1d", Stand.DENIED)):
        site.use_policy(rules.replace("AGE", age))
        assert reports(site, FULL)[FULL].standings[1].stand is stand


def test_a_rule_of_another_host_says_nothing_and_one_of_some_hours_not_for_everybody(site: Site) -> None:
    site.use_policy(MEMBERS.replace('groups: ["77"]', "times: [mon-fri 08:00-18:00 UTC]"))
    assert [(each.name, each.everybody) for each in reports(site, HALF)[HALF].standings] == [
        ("members", False),
        ("all", True),
    ]
    site.use_policy(MEMBERS.replace('groups: ["77"]', "hosts: [no-such-host]"))
    assert [each.name for each in reports(site, HALF)[HALF].standings] == ["all"]


def test_a_damaged_image_is_denied_and_a_file_that_is_no_image_is_not_counted(site: Site) -> None:
    (site.library / "README").write_text("about these images")
    assert site.engine.prefetch(str(site.library / "README")).status == "kept"
    site.engine.prefetch(str(site.image("broken.sif", "struct-object-id-zero.sif")))
    found = survey(site, FULL)
    assert (found.images.approved, found.images.denied, found.files) == (1, 1, 1)


def test_facts_found_with_other_keys_say_nothing(site: Site) -> None:
    known(site, FULL)
    site.use_keyring("builder.asc")
    signers = f"version: 1\nsigners: {{builder: {{pgp: [{BUILDER}]}}}}\n"
    site.use_policy("rules: [{name: all, require: [{any_of: [builder]}]}]\n", signers)
    found = survey(site)
    assert (found.outdated, found.images.approved) == (1, 0)


def test_facts_without_digests_do_not_do_for_a_policy_that_withdraws_objects(site: Site) -> None:
    (kept,) = known(site, FULL)
    snapshot = site.use_policy(RULES + f"withdrawn: {{objects: ['sha256:{'0' * 64}']}}\n")
    assert usable(snapshot, kept.facts) is kept.facts.digested


def test_an_image_without_a_name_is_under_no_rule_for_paths(site: Site) -> None:
    (kept,) = known(site, FULL)
    report = image_report(site.engine.snapshot, kept._replace(path=None), site.engine.statuses, site.now)
    assert report is not None
    assert [standing.outcome.code for standing in report.standings] == [Code.NO_RULE]


def test_images_are_counted_that_a_key_will_leave_unapproved(site: Site) -> None:
    soon = Lifetime(ends=site.now + timedelta(days=3))
    found = survey(site, FULL, HALF, UNSIGNED, builder=soon, scanner=Lifetime(ends=site.now + timedelta(days=90)))
    assert [key.signers for key in found.turning] == [("builder",)]
    assert found.concerned == {(BUILDER, BUILDER): 1}, "half-approved images run neither before nor after"


def test_an_approval_that_others_make_up_for_depends_on_nobody(site: Site) -> None:
    site.use_policy(RULES.replace("any_of: [builder]", "any_of: [builder, scanner]"))
    found = survey(site, FULL, builder=Lifetime(ends=site.now + timedelta(days=3)))
    assert not found.concerned


def test_images_are_counted_that_a_key_left_unapproved_when_it_expired(site: Site) -> None:
    expired = json.loads((CORPUS / "keys" / "pgp" / "fingerprints.json").read_text())["expired"]
    rules = "rules: [{name: one, match: {paths: ['@LIBRARY@/**']}, require: [{any_of: [someone]}]}]\n"
    site.use_policy(rules, f"version: 1\nsigners: {{someone: {{pgp: [{expired}]}}}}\n")
    (key,) = listed_keys(site.engine.snapshot, site.engine.statuses, NOW)
    assert key.about.life.ends is not None
    site.now = key.about.life.ends + timedelta(days=1)
    found = survey(site, "gpg-expired-key.sif")
    assert [each.state(site.now) for each in found.turning] == ["expired"]
    assert list(found.concerned.values()) == [1]


@pytest.mark.parametrize(
    ("days", "state"), [(-40, "expired"), (-1, "expired"), (1, "expiring"), (29, "expiring"), (31, "ok")]
)
def test_a_key_is_said_to_expire_thirty_days_ahead(site: Site, days: int, state: str) -> None:
    (key, *_) = listed_keys(site.engine.snapshot, site.engine.statuses, NOW)
    key = replace(key, about=key.about._replace(life=Lifetime(ends=NOW + timedelta(days=days))))
    assert key.state(NOW) == state
    assert bool(turning([key], NOW)) is (-30 <= days <= 30)


def test_keys_of_the_ring_are_listed_only_where_anyone_may_sign(site: Site) -> None:
    named = list(listed_keys(site.engine.snapshot, site.engine.statuses, NOW))
    assert [key.signers for key in named] == [("builder",), ("scanner",), ("approver",)]
    assert named[0].where == f"{site.root}/policies.d/policy.yaml:3"
    site.use_policy("rules: [{name: any, require: [{approvals: {count: 1, of: anyone}}]}]\n")
    everybody = list(listed_keys(site.engine.snapshot, site.engine.statuses, NOW))
    assert len(everybody) > len(named)
    assert any(not key.signers for key in everybody)
