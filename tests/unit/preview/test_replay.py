"""Which images and recorded decisions a candidate policy changes."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from eclctl.errors import UnreadableImageError
from eclctl.files.locating import Located
from eclctl.model import Caller, Code, Identity
from eclctl.preview import policy_pair
from eclctl.preview.changes import AnswerChange
from eclctl.preview.replay import replay
from eclctl.preview.withdrawing import digest_of, signatory, with_withdrawn
from eclctl.terms import Verdict
from eclctl.verify.examine import examine
from tests.helpers.breaking import TERMS, BreakGlass
from tests.helpers.engines import RULES, Site
from tests.helpers.previews import LENIENT, history, looking, record, simulate

FULL, TWO, ONE, NONE = (
    "one-builder+scanner+approver.sif",
    "one-builder+scanner.sif",
    "one-builder.sif",
    "one-unsigned.sif",
)
PERMISSIVE = RULES + "    mode: permissive\n"


def fill(site: Site) -> None:
    for name in (FULL, TWO, ONE, NONE):
        site.image(name, name)


def test_the_same_policy_changes_nothing_for_any_image_or_record(site: Site) -> None:
    fill(site)
    lines = [record(str(path), uid=uid) for path in site.library.iterdir() for uid in (1000, 1001)]
    result = simulate(site, site.use_policy(RULES), site.use_policy(RULES), lines)
    assert (result.images, result.decisions, result.flips) == (Counter(unchanged=4), Counter(unchanged=8), False)
    assert result.top.first() == []


def test_an_image_that_the_second_side_cannot_open_is_closed_on_the_first(site: Site) -> None:
    def cannot_open(name: str, *, anywhere: bool) -> Located:
        raise UnreadableImageError(name)

    image, snapshot = site.image(FULL, FULL), site.use_policy(RULES)
    with looking(site, snapshot, snapshot) as pair:
        pair.new = SimpleNamespace(snapshot=snapshot, locator=SimpleNamespace(by_name=cannot_open))  # type: ignore[assignment]
        with pytest.raises(UnreadableImageError):
            pair.look(str(image))
    targets = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert str(image) not in targets


def test_an_image_that_a_stricter_policy_stops_is_listed_with_the_rule_and_the_requirement(site: Site) -> None:
    fill(site)
    old, new = site.use_policy(LENIENT), site.use_policy(RULES)
    result = simulate(site, old, new, [record(str(site.library / TWO), uid=uid, number=uid) for uid in (1, 2, 2)])
    assert result.flips
    assert result.images == {AnswerChange.SAME: 2, AnswerChange.STOPPED: 2}
    assert result.decisions == {AnswerChange.STOPPED: 3}
    entry = result.top.first()[0]
    policy = f"{site.root}/policies.d/policy.yaml"
    assert (entry.path, entry.change) == (str(site.library / TWO), AnswerChange.STOPPED)
    assert (entry.old.code, entry.old.rule) == (Code.REQUIREMENTS_MET, "lenient")
    assert (entry.new.code, entry.new.rule, entry.new.where) == (
        Code.REQUIREMENTS_NOT_MET,
        "production",
        f"{policy}:9",
    )
    assert [(need.text, need.where) for need in entry.new.unmet] == [("2 approvals from security", f"{policy}:13")]
    assert (entry.users, entry.decisions, entry.last) == ({1, 2}, 3, "2026-11-22T12:00:00.000000Z")


def test_an_image_that_a_laxer_policy_lets_run_is_listed_with_what_it_lacked(site: Site) -> None:
    site.image(TWO, TWO)
    result = simulate(site, site.use_policy(RULES), site.use_policy(LENIENT))
    (entry,) = result.top.first()
    assert (entry.change, entry.old.verdict, entry.new.verdict) == (AnswerChange.FREED, Verdict.DENY, Verdict.ALLOW)
    assert [need.text for need in entry.old.unmet] == ["2 approvals from security"]


@pytest.mark.parametrize(("number", "coarse"), [(44, 0), (45, 1)])
def test_images_on_which_rules_name_too_many_groups_are_counted(site: Site, number: int, coarse: int) -> None:
    site.image(ONE, ONE)
    rules = "rules:\n" + "".join(
        f"  - {{name: r{n}, match: {{groups: ['{n}']}}, decision: deny}}\n" for n in range(number)
    )
    assert simulate(site, site.use_policy(rules), site.use_policy(rules)).coarse_images == coarse


def test_who_is_in_three_groups_is_asked_for_where_an_exception_is_for_one(tmp_path: Path) -> None:
    """The rule that allows by an exception, the exception, and the new rule that denies are each for a group."""
    site = BreakGlass(tmp_path)
    image = site.image(TWO, TWO)
    site.grant("drain", image, users=None, groups="[72]")
    reviewed = "  - {name: reviewed, match: {groups: ['71']}, require: [{approvals: {count: 2, of: security}}]}\n"
    refused = "  - {name: refused, match: {groups: ['73']}, decision: deny}\n"
    old = site.use_policy(TERMS + "rules:\n" + reviewed)
    new = site.use_policy(TERMS + "rules:\n" + refused + reviewed)
    result = simulate(site, old, new)
    site.close()
    stopped = [entry for entry in result.top.first() if entry.change is AnswerChange.STOPPED]
    assert [probe.groups for entry in stopped for probe in entry.probes] == [(71, 72, 73)]


def test_enforcing_what_was_permissive_lists_all_images_that_would_stop(site: Site) -> None:
    fill(site)
    result = simulate(site, site.use_policy(PERMISSIVE), site.use_policy(RULES))
    assert {os.path.basename(entry.path) for entry in result.top.first()} == {TWO, ONE, NONE}
    assert {(entry.change, entry.old.would) for entry in result.top.first()} == {
        (AnswerChange.STOPPED, Code.REQUIREMENTS_NOT_MET)
    }


def test_what_a_permissive_rule_would_newly_deny_is_a_change_and_no_flip(site: Site) -> None:
    fill(site)
    result = simulate(site, site.use_policy(LENIENT), site.use_policy(PERMISSIVE))
    assert result.images == {AnswerChange.SAME: 1, AnswerChange.WOULD: 2, AnswerChange.FREED: 1}
    would = [entry for entry in result.top.first() if entry.change is AnswerChange.WOULD]
    assert {(os.path.basename(entry.path), entry.new.would) for entry in would} == {
        (TWO, Code.REQUIREMENTS_NOT_MET),
        (ONE, Code.REQUIREMENTS_NOT_MET),
    }
    only = simulate(site, site.use_policy(LENIENT), site.use_policy(PERMISSIVE), paths=[site.library / TWO])
    assert not only.flips


def test_another_code_with_the_same_verdict_is_a_change_and_no_flip(site: Site) -> None:
    site.image(NONE, NONE)
    denied = RULES.split("    require")[0] + "    decision: deny\n"
    result = simulate(site, site.use_policy(RULES), site.use_policy(denied))
    assert (result.images, result.flips) == ({AnswerChange.CODE: 1}, False)


def test_a_rule_for_named_users_and_groups_is_asked_for_them_and_for_others(site: Site) -> None:
    site.image(ONE, ONE)
    narrow = LENIENT.replace("paths:", "users: ['1500', '1501'], groups: ['77'], paths:")
    result = simulate(site, site.use_policy(LENIENT), site.use_policy(narrow))
    (entry,) = result.top.first()
    assert entry.change is AnswerChange.STOPPED
    assert {(probe.user, probe.groups) for probe in entry.probes} == {(None, ()), (1500, ()), (None, (77,))}


def test_two_rules_that_change_places_are_noticed_for_callers_that_both_match(site: Site) -> None:
    site.image(ONE, ONE)
    text = "  - {name: r7, match: {groups: ['7']}, decision: allow}\n"
    other = "  - {name: r8, match: {groups: ['8']}, decision: deny}\n"
    result = simulate(site, site.use_policy("rules:\n" + text + other), site.use_policy("rules:\n" + other + text))
    (entry,) = result.top.first()
    assert (entry.change, [probe.groups for probe in entry.probes]) == (AnswerChange.STOPPED, [(7, 8)])


def test_the_groups_of_a_user_are_those_they_have_now_and_the_recorded_one(site: Site) -> None:
    site.image(ONE, ONE)
    old, new = site.use_policy(LENIENT), site.use_policy(LENIENT.replace("paths:", "groups: ['77', '88'], paths:"))
    lines = [record(str(site.library / ONE), uid=5), record(str(site.library / ONE), uid=6, gid=88)]
    lines.append(record(str(site.library / ONE), uid=7))
    with looking(site, old, new) as looker:
        known = {5: Caller(5, 5, frozenset({77})), 6: Caller(6, 6, frozenset({6})), 7: Caller(7, 7, frozenset({7}))}
        result = replay(looker, [], history(lines), known.get)
    assert result.decisions == {AnswerChange.SAME: 2, AnswerChange.STOPPED: 1}
    assert result.users == {AnswerChange.SAME: {5, 6}, AnswerChange.STOPPED: {7}}


def test_a_recorded_subordinate_uid_is_asked_for_as_its_user(site: Site) -> None:
    site.image(ONE, ONE)
    old, new = site.use_policy(LENIENT), site.use_policy(LENIENT.replace("paths:", "users: ['1000'], paths:"))
    lines = [record(str(site.library / ONE), uid=uid) for uid in (100001, 300001)]

    def identify(caller: Caller) -> Caller:
        return replace(caller, identity=Identity(1000, frozenset())) if caller.uid == 100001 else caller

    with looking(site, old, new) as looker:
        result = replay(looker, [], history(lines), lambda _: None, identify=identify)
    assert result.users == {AnswerChange.SAME: {100001}, AnswerChange.STOPPED: {300001}}
    assert result.unknown_users == {300001}


def test_a_user_unknown_to_the_host_is_asked_for_with_the_recorded_group_and_counted(site: Site) -> None:
    site.image(ONE, ONE)
    new = site.use_policy(LENIENT.replace("paths:", "groups: ['88'], paths:"))
    result = simulate(site, new, new, [record(str(site.library / ONE), uid=6, gid=88)])
    assert (result.unknown_users, result.drifted) == ({6}, 0)


def test_decisions_on_images_that_are_gone_are_counted_and_not_replayed(site: Site) -> None:
    lines = [record(str(site.library / "gone.sif"), uid=uid) for uid in (1, 2)]
    result = simulate(site, site.use_policy(RULES), site.use_policy(LENIENT), lines)
    assert (result.gone, result.gone_images, result.unjudged_images) == (2, 1, 0)
    assert result.decisions == {}


def test_a_recorded_image_outside_the_library_is_replayed_too(site: Site) -> None:
    path = site.image(TWO, TWO)
    elsewhere = simulate(site, site.use_policy(RULES), site.use_policy(LENIENT), [record(str(path))], paths=[])
    assert elsewhere.images == {AnswerChange.FREED: 1}


def test_a_decision_that_today_would_already_be_otherwise_is_counted(site: Site) -> None:
    path, same = site.image(ONE, ONE), site.use_policy(RULES)
    result = simulate(site, same, same, [record(str(path)), record(str(path), uid=2, decision="deny")])
    assert result.drifted == 1


def test_an_image_that_cannot_be_read_now_is_named_and_nothing_is_said_of_it(site: Site) -> None:
    path = site.image(ONE, ONE)
    os.mkfifo(site.library / "pipe.sif")
    result = simulate(site, site.use_policy(RULES), site.use_policy(LENIENT), [record(str(site.library / "pipe.sif"))])
    assert list(result.unjudged) == [str(site.library / "pipe.sif")]
    assert (result.unjudged_images, result.unjudged_decisions) == (1, 1)
    assert result.images == {AnswerChange.FREED: 1}
    assert path.exists()


def test_a_file_that_no_rule_is_about_is_no_image(site: Site) -> None:
    (site.library / "README").write_text("images of the site")
    result = simulate(site, site.use_policy(RULES), site.use_policy(LENIENT))
    assert (result.files, result.images) == (1, {})


def test_a_sandbox_that_a_rule_is_about_is_an_image(site: Site) -> None:
    (site.library / "box" / ".singularity.d").mkdir(parents=True)
    allow = RULES + '  - {name: boxes, match: {paths: ["@LIBRARY@/**"], kinds: [sandbox]}, decision: allow}\n'
    result = simulate(site, site.use_policy(allow), site.use_policy(RULES))
    assert [(entry.change, entry.old.rule) for entry in result.top.first()] == [(AnswerChange.STOPPED, "boxes")]


def test_each_image_is_read_once_where_the_keys_are_the_same(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(site)
    read: list[str] = []
    examined = policy_pair.Engine.look_up

    def counting(engine: policy_pair.Engine, lookup: policy_pair.Lookup) -> object:
        read.append(lookup.question.image)
        return examined(engine, lookup)

    monkeypatch.setattr(policy_pair.Engine, "look_up", counting)
    old = site.use_policy(RULES)
    new = with_withdrawn(old, digests=frozenset({"sha256:" + "0" * 64}))
    lines = [record(str(path), uid=uid) for path in site.library.iterdir() for uid in range(5)]
    result = simulate(site, old, new, [*lines, record("/a")])
    assert sorted(read) == sorted(str(path) for path in site.library.iterdir())
    assert result.images == {AnswerChange.SAME: 4}


def test_other_keys_are_verified_with_anew(site: Site) -> None:
    site.image(ONE, ONE)
    old = site.use_policy(LENIENT)
    site.use_keyring("scanner.asc")
    new = site.use_policy(LENIENT.replace("builder", "scanner"), "version: 1\nsigners:\n" + _SCANNER)
    result = simulate(site, old, new)
    assert [(entry.change, entry.new.rule) for entry in result.top.first()] == [(AnswerChange.STOPPED, "lenient")]


_SCANNER = "  scanner: {pgp: [F69053E5830DBDBA72B3D8F61BDDA97D14902F26]}\n"


def test_a_withdrawn_signer_stops_what_they_signed_and_nothing_else(site: Site) -> None:
    fill(site)
    old = site.use_policy(LENIENT)
    result = simulate(site, old, with_withdrawn(old, signatories=(signatory(old, "scanner", read_nothing),)))
    assert {os.path.basename(entry.path) for entry in result.top.first()} == {FULL, TWO}
    assert {entry.new.code for entry in result.top.first()} == {Code.WITHDRAWN}


def test_a_withdrawn_object_stops_the_images_that_hold_it(site: Site) -> None:
    site.image(ONE, ONE)
    old = site.use_policy(LENIENT)
    digest = partition(site, ONE)
    result = simulate(
        site, old, with_withdrawn(old, digests=frozenset({digest_of(digest.upper().replace("SHA", "sha"))}))
    )
    assert [entry.change for entry in result.top.first()] == [AnswerChange.STOPPED]
    assert digest in result.top.first()[0].new.reason


def test_limit_keeps_the_weightiest_and_counts_the_others(site: Site) -> None:
    for number in range(200):
        os.link(site.image(TWO, TWO) if number == 0 else site.library / TWO, site.library / f"{number:03}.sif")
    lines = [record(str(site.library / "150.sif"))] * 3
    result = simulate(site, site.use_policy(LENIENT), site.use_policy(RULES), lines, limit=2)
    assert [os.path.basename(entry.path) for entry in result.top.first()] == ["150.sif", "000.sif"]
    assert result.top.counts == {AnswerChange.STOPPED: 201}


def read_nothing(path: str) -> bytes:
    raise AssertionError(path)


def partition(site: Site, name: str) -> str:
    with open(site.library / name, "rb") as file:
        found = examine(file.fileno(), site.engine.snapshot.store, digests=True)
    return next(found.digests[item.id] for item in found.objects if "primary" in item.holds)


def test_an_exception_that_the_candidate_lacks_stops_what_it_allowed_for_the_users_that_it_names(
    tmp_path: Path,
) -> None:
    site = BreakGlass(tmp_path)
    try:
        path = site.image("half.sif", TWO)
        site.grant("emergency", path, users=["4242"])
        granted = site.engine.snapshot
        (site.folder / "emergency.yaml").unlink()
        result = simulate(site, granted, site.reload())
        (entry,) = result.top.first()
        assert (entry.change, entry.old.code) == (AnswerChange.STOPPED, Code.EXCEPTION)
        assert [probe.user for probe in entry.probes] == [4242]
    finally:
        site.close()
