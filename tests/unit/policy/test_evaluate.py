"""The counting rules: each test says in one sentence what must count and what must not."""

from __future__ import annotations

import pytest

from eclctl.model import Code, Failure
from eclctl.policy import n_of_m
from eclctl.policy.evaluate import evaluate, withdrawn
from eclctl.policy.language import Policy
from eclctl.terms import Finding, SignatureFormat, Verdict
from tests.helpers.facts import HEAD, PEM_IDS, Image, decide, fingerprint, policy, ring, rule

ONE = Image()
TWO = Image({1: (1, 2), 2: (3,)}, holds={3: {"partition", "overlay"}})
ALICE = policy(rule("[{any_of: [alice]}]"))
BOTH = policy(rule("[{approvals: {count: 2, of: security}}]"))


def test_a_signature_over_the_whole_group_and_the_header_approves_the_image() -> None:
    outcome = decide(ALICE, ONE.with_claims(ONE.by("A")))
    assert (outcome.code, outcome.verdict, outcome.signers) == (Code.REQUIREMENTS_MET, Verdict.ALLOW, ("alice",))
    assert outcome.rule_where == "0.yaml:11"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ((), "has not signed"),
        ((ONE.by("B"),), "has not signed"),
        ((ONE.by("A", header=False),), "signed only parts"),
        ((ONE.part("A", 1, 2),), "signed only parts: objects 1, 2"),
        ((ONE.part("A", 1), ONE.part("A", 2), ONE.part("A", 3)), "signed only parts"),
        ((ONE.by("A", objects=frozenset({1, 2})),), "signed"),
        ((ONE.by("A", group=2),), "signed"),
        ((ONE.by("A", group=None),), "signed only parts"),
        ((ONE.legacy("A"),), "legacy signature"),
    ],
)
def test_anything_less_than_a_whole_group_and_the_header_approves_nothing(claims: tuple, why: str) -> None:
    outcome = decide(ALICE, ONE.with_claims(*claims))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert why in outcome.requirements[0].signers[0].why


def test_a_signature_that_was_judged_out_counts_for_nothing_and_is_explained() -> None:
    outcome = decide(ALICE, ONE.with_claims(ONE.by("A", signature=5)), 0)
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.requirements[0].signers[0].why == "signature 5 does not count: it expired 2026-02-01"
    assert "signature 5 by alice does not count: it expired 2026-02-01" in outcome.reason


def test_a_key_that_no_signer_lists_counts_for_no_one() -> None:
    assert decide(ALICE, ONE.with_claims(ONE.by("F"))).code is Code.REQUIREMENTS_NOT_MET


def test_a_person_must_approve_every_group_of_the_image() -> None:
    outcome = decide(ALICE, TWO.with_claims(TWO.by("A", 1)))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.requirements[0].signers[0].why == "signed only group 1 of 2"
    assert decide(ALICE, TWO.with_claims(TWO.by("A", 1), TWO.by("A", 2))).code is Code.REQUIREMENTS_MET


def test_a_person_may_approve_groups_with_different_keys() -> None:
    made = policy(rule("[{any_of: [alice]}]"), HEAD.replace("alice: {pgp", "alice: {key: [p384.pem], pgp"))
    assert decide(made, TWO.with_claims(TWO.by("A", 1), TWO.by_pem("p384", 2))).code is Code.REQUIREMENTS_MET


def test_several_groups_mean_nothing_together_under_a_nil_uuid() -> None:
    image = Image(TWO.groups, tied=False)
    outcome = decide(ALICE, image.with_claims(image.by("A", 1), image.by("A", 2)))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert "nothing ties" in outcome.requirements[0].signers[0].why


def test_one_group_needs_no_uuid() -> None:
    image = Image(tied=False)
    assert decide(ALICE, image.with_claims(image.by("A"))).code is Code.REQUIREMENTS_MET


def test_parts_approved_under_a_nil_uuid_do_not_make_an_image() -> None:
    image = Image(TWO.groups, tied=False)
    made = policy(rule("[{any_of: [alice], objects: {groups: [1]}}, {any_of: [bob], objects: {groups: [2]}}]"))
    outcome = decide(made, image.with_claims(image.by("A", 1), image.by("B", 2)))
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "nil UUID" in outcome.reason


def test_an_image_without_objects_or_groups_is_denied() -> None:
    for image in (Image({}), Image({}, loose=(1,))):
        outcome = decide(ALICE, image.with_claims())
        assert outcome.code is Code.REQUIREMENTS_NOT_MET
        assert "no object group" in outcome.reason


def test_a_claim_on_objects_of_an_image_without_groups_counts_for_nothing() -> None:
    image = Image({}, loose=(1,))
    made = policy(rule("[{any_of: [alice], objects: {ids: [1]}}]"))
    claim = ONE.by("A", objects=frozenset({1}), whole_group=False)
    assert decide(made, image.with_claims(claim)).code is Code.REQUIREMENTS_NOT_MET


def test_an_object_in_no_group_is_never_covered() -> None:
    image = Image(loose=(4,))
    outcome = decide(ALICE, image.with_claims(image.by("A")))
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "object 4" in outcome.reason


# How many


def test_two_approvals_need_two_people() -> None:
    assert decide(BOTH, ONE.with_claims(ONE.by("A"), ONE.by("C"))).signers == ("alice", "carol")
    outcome = decide(BOTH, ONE.with_claims(ONE.by("A")))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.reason == "1 of 2 approvals from security (alice)"
    missing = outcome.missing[0]
    assert (missing.needed, missing.have, missing.signed, missing.could_sign) == (2, 1, ("alice",), ("bob", "carol"))


def test_the_same_signer_twice_counts_once() -> None:
    assert decide(BOTH, ONE.with_claims(ONE.by("A", signature=4), ONE.by("A", signature=5))).missing[0].have == 1


def test_two_subkeys_of_a_key_count_once() -> None:
    assert decide(BOTH, ONE.with_claims(ONE.by("A", key="1" * 40), ONE.by("A", key="2" * 40))).missing[0].have == 1


def test_a_persons_two_keys_count_once() -> None:
    made = policy(
        rule("[{approvals: {count: 2, of: security}}]"), HEAD.replace("alice: {pgp", "alice: {key: [p384.pem], pgp")
    )
    assert decide(made, ONE.with_claims(ONE.by("A"), ONE.by_pem("p384"))).missing[0].have == 1


def test_split_approvals_are_no_approval() -> None:
    outcome = decide(BOTH, TWO.with_claims(TWO.by("A", 1), TWO.by("B", 2)))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.missing[0].have == 0


def test_all_of_needs_each_and_names_who_is_missing() -> None:
    made = policy(rule("[{all_of: [alice, bob]}]"))
    outcome = decide(made, ONE.with_claims(ONE.by("B")))
    assert outcome.reason == "not signed by alice yet (1 of 2: bob)"
    assert outcome.missing[0].could_sign == ("alice",)
    assert decide(made, ONE.with_claims(ONE.by("B"), ONE.by("A"))).signers == ("alice", "bob")


def test_every_requirement_must_be_met() -> None:
    made = policy(rule("[{any_of: [ci]}, {any_of: [bob]}]"))
    assert decide(made, ONE.with_claims(ONE.by_pem("p256"))).code is Code.REQUIREMENTS_NOT_MET
    assert decide(made, ONE.with_claims(ONE.by_pem("p256"), ONE.by("B"))).signers == ("ci", "bob")


# One key, one person

SHARED = HEAD.replace("alice: {pgp", "alice: {key: [p384.pem], pgp").replace("bob: {pgp", "bob: {key: [p384.pem], pgp")
SHARING = policy(rule("[{approvals: {count: 2, of: security}}]"), SHARED)


def test_a_key_listed_for_two_people_counts_for_one() -> None:
    outcome = decide(SHARING, ONE.with_claims(ONE.by_pem("p384")))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.missing[0].have == 1
    assert [signer.counts for signer in outcome.requirements[0].signers].count(True) == 1


@pytest.mark.parametrize("letter", ["A", "B"])
def test_a_shared_key_counts_for_the_signer_that_it_helps(letter: str) -> None:
    outcome = decide(SHARING, ONE.with_claims(ONE.by_pem("p384"), ONE.by(letter)))
    assert outcome.signers == ("alice", "bob")


def test_a_shared_key_does_not_count_for_two_people_in_two_requirements() -> None:
    made = policy(rule("[{any_of: [alice]}, {any_of: [bob]}]"), SHARED)
    assert decide(made, ONE.with_claims(ONE.by_pem("p384"))).code is Code.REQUIREMENTS_NOT_MET
    assert decide(made, ONE.with_claims(ONE.by_pem("p384"), ONE.by("B"))).code is Code.REQUIREMENTS_MET


def test_one_key_as_certificate_and_as_pem_file_is_one_key() -> None:
    keyring = ring(("A", [PEM_IDS["p384"]]))
    made = policy(
        rule("[{approvals: {count: 2, of: security}}]"),
        HEAD.replace(f"bob: {{pgp: [{fingerprint('B')}]", "bob: {key: [p384.pem]"),
        keyring,
    )
    assert decide(made, ONE.with_claims(ONE.by("A"), ONE.by_pem("p384"))).missing[0].have == 1
    assert decide(made, ONE.with_claims(ONE.by("C"), ONE.by_pem("p384"))).signers == ("bob", "carol")


def test_two_certificates_that_share_a_subkey_are_one_key() -> None:
    keyring = ring(("A", ["sha256:x"]), ("B", ["sha256:x"]))
    made = policy(rule("[{approvals: {count: 2, of: security}}]"), keyring=keyring)
    assert decide(made, ONE.with_claims(ONE.by("A"), ONE.by("B"))).missing[0].have == 1


def test_too_many_ways_to_share_keys_out_count_for_no_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(n_of_m, "MAX_ASSIGNMENTS", 1)
    assert decide(SHARING, ONE.with_claims(ONE.by_pem("p384"), ONE.by("A"))).missing[0].have == 1


# Distinct


def test_distinct_wants_another_person_for_each_place() -> None:
    wants = "[{any_of: [alice, bob]}, {any_of: [alice]}]"
    image = ONE.with_claims(ONE.by("A"))
    assert decide(policy(rule(wants)), image).code is Code.REQUIREMENTS_MET
    outcome = decide(policy(rule(wants, "distinct: true")), image)
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert "serves another requirement" in str(outcome.requirements)


def test_distinct_finds_the_arrangement_that_works() -> None:
    made = policy(rule("[{any_of: [alice, bob]}, {any_of: [alice]}, {any_of: [bob, carol]}]", "distinct: true"))
    image = ONE.with_claims(ONE.by("A"), ONE.by("B"), ONE.by("C"))
    assert decide(made, image).code is Code.REQUIREMENTS_MET
    assert decide(made, ONE.with_claims(ONE.by("A"), ONE.by("B"))).code is Code.REQUIREMENTS_NOT_MET


# Anyone


def test_anyone_is_every_certificate_and_a_named_signer_is_one_person() -> None:
    head = HEAD.replace(
        f"alice: {{pgp: [{fingerprint('A')}]", f"alice: {{pgp: [{fingerprint('A')}, {fingerprint('E')}]"
    )
    made = policy(rule("[{approvals: {count: 2, of: anyone}}]"), head)
    assert decide(made, ONE.with_claims(ONE.by("A"), ONE.by("E"))).missing[0].have == 1
    assert decide(made, ONE.with_claims(ONE.by("A"), ONE.by("F"))).signers == ("F" * 40, "alice")


def test_anyone_does_not_include_pem_keys() -> None:
    made = policy(rule("[{approvals: {count: 1, of: anyone}}]"))
    assert decide(made, ONE.with_claims(ONE.by_pem("p256"))).code is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize(
    ("needs", "more"),
    [
        ("[{any_of: [alice]}]", ""),
        ("[{any_of: [alice]}, {any_of: [bob]}]", " 1 more of the rule's requirements is not met"),
        ("[{any_of: [alice]}, {any_of: [bob]}, {any_of: [carol]}]", " 2 more of the rule's requirements are not met"),
    ],
)
def test_the_reason_counts_what_else_is_missing(needs: str, more: str) -> None:
    outcome = decide(policy(rule(needs)), ONE.with_claims())
    assert outcome.reason.startswith("not signed by alice yet (0 of 1)")
    assert outcome.reason.partition(";")[2] == more


# Parts


def test_a_rule_on_one_group_alone_leaves_the_others_uncovered() -> None:
    made = policy(rule("[{any_of: [bob], objects: {groups: [2]}}]"))
    outcome = decide(made, TWO.with_claims(TWO.by("B", 2)))
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "objects 1, 2" in outcome.reason


def test_rules_on_parts_cover_the_image_together() -> None:
    made = policy(rule("[{any_of: [alice], objects: {groups: [1]}}, {any_of: [bob], objects: {groups: [2]}}]"))
    assert decide(made, TWO.with_claims(TWO.by("A", 1), TWO.by("B", 2))).code is Code.REQUIREMENTS_MET
    assert decide(made, TWO.with_claims(TWO.by("A", 2), TWO.by("B", 1))).code is Code.REQUIREMENTS_NOT_MET


def test_a_group_must_hold_what_the_rule_says() -> None:
    made = policy(rule("[{any_of: [alice]}, {any_of: [bob], objects: {groups: [2], holds: [overlay]}}]"))
    whole = (TWO.by("A", 1), TWO.by("A", 2))
    assert decide(made, TWO.with_claims(*whole, TWO.by("B", 2))).code is Code.REQUIREMENTS_MET
    other = Image(TWO.groups, holds={1: {"partition", "overlay"}})
    outcome = decide(made, other.with_claims(*whole, other.by("B", 2)))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert "no such group" in outcome.reason


def test_a_missing_group_or_object_is_never_approved() -> None:
    made = policy(rule("[{any_of: [alice], objects: {groups: [2]}}]"))
    assert decide(made, ONE.with_claims(ONE.by("A"))).code is Code.REQUIREMENTS_NOT_MET
    made = policy(rule("[{any_of: [alice], objects: {ids: [9]}}]"))
    outcome = decide(made, ONE.with_claims(ONE.by("A", objects=frozenset({1, 2, 3, 9}))))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert "no object 9" in outcome.reason


def test_several_groups_must_each_be_approved_by_one_person() -> None:
    made = policy(rule("[{any_of: [alice, bob], objects: {groups: [1, 2]}}]"))
    assert decide(made, TWO.with_claims(TWO.by("A", 1), TWO.by("B", 2))).code is Code.REQUIREMENTS_NOT_MET
    assert decide(made, TWO.with_claims(TWO.by("A", 1), TWO.by("A", 2))).code is Code.REQUIREMENTS_MET


def test_holds_alone_means_every_group_that_holds_it() -> None:
    image = Image({1: (1,), 2: (2,), 3: (3,)}, holds={2: {"overlay"}, 3: {"overlay", "data"}})
    made = policy(rule("[{any_of: [alice]}, {any_of: [bob], objects: {holds: [overlay]}}]"))
    whole = tuple(image.by("A", group) for group in (1, 2, 3))
    assert decide(made, image.with_claims(*whole, image.by("B", 2))).code is Code.REQUIREMENTS_NOT_MET
    assert decide(made, image.with_claims(*whole, image.by("B", 2), image.by("B", 3))).code is Code.REQUIREMENTS_MET


def test_holds_that_no_group_holds_is_not_met() -> None:
    made = policy(rule("[{any_of: [alice], objects: {holds: [sbom]}}]"))
    assert decide(made, ONE.with_claims(ONE.by("A"))).code is Code.REQUIREMENTS_NOT_MET


def test_objects_by_number_need_one_signature_over_all_of_them() -> None:
    made = policy(rule("[{any_of: [alice]}, {any_of: [bob], objects: {ids: [1, 3]}}]"))
    whole = ONE.by("A")
    assert decide(made, ONE.with_claims(whole, ONE.part("B", 1), ONE.part("B", 3))).code is Code.REQUIREMENTS_NOT_MET
    assert decide(made, ONE.with_claims(whole, ONE.part("B", 1, 3))).code is Code.REQUIREMENTS_MET
    assert decide(made, ONE.with_claims(whole, ONE.by("B"))).code is Code.REQUIREMENTS_MET
    assert decide(made, ONE.with_claims(whole, ONE.part("B", 1, 3, header=False))).code is Code.REQUIREMENTS_NOT_MET


def test_objects_by_number_must_hold_what_the_rule_says() -> None:
    made = policy(rule("[{any_of: [alice]}, {any_of: [bob], objects: {ids: [3], holds: [overlay]}}]"))
    claims = (TWO.by("A", 1), TWO.by("A", 2), TWO.by("B", 2))
    assert decide(made, TWO.with_claims(*claims)).code is Code.REQUIREMENTS_MET
    other = Image(TWO.groups)
    assert decide(made, other.with_claims(*claims)).code is Code.REQUIREMENTS_NOT_MET


def test_objects_by_number_alone_leave_the_rest_uncovered() -> None:
    made = policy(rule("[{any_of: [alice], objects: {ids: [1]}}]"))
    outcome = decide(made, ONE.with_claims(ONE.part("A", 1)))
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "objects 2, 3" in outcome.reason


# Legacy

LEGACY = policy(rule("[{any_of: [alice]}]", "legacy_signatures: accept"))


def test_an_accepted_legacy_signature_approves_an_image_of_one_group() -> None:
    assert decide(LEGACY, ONE.with_claims(ONE.legacy("A"))).code is Code.REQUIREMENTS_MET


@pytest.mark.parametrize(
    "image",
    [
        ONE.with_claims(ONE.legacy("A", objects=frozenset({1, 2}))),
        ONE.with_claims(ONE.legacy("A", whole_group=False)),
        TWO.with_claims(TWO.legacy("A", group=1), TWO.legacy("A", group=2)),
        TWO.with_claims(TWO.legacy("A", objects=frozenset({1, 2, 3}))),
    ],
)
def test_a_legacy_signature_that_does_not_cover_one_whole_group_approves_nothing(image) -> None:
    assert decide(LEGACY, image).code is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize("part", ["groups: [1]", "ids: [1]", "holds: [partition]"])
def test_a_legacy_signature_never_serves_a_part(part: str) -> None:
    made = policy(rule(f"[{{any_of: [alice], objects: {{{part}}}}}]", "legacy_signatures: accept"))
    claim = ONE.legacy("A", header=True)
    assert decide(made, ONE.with_claims(claim)).code is Code.REQUIREMENTS_NOT_MET


def test_a_legacy_signature_over_other_content_matters_only_where_legacy_is_accepted() -> None:
    changed = ONE.legacy("A", objects=frozenset(), mismatch=Finding("object", "object 1 was changed"))
    image = ONE.with_claims(ONE.by("A"), changed)
    assert decide(ALICE, image).code is Code.REQUIREMENTS_MET
    assert decide(LEGACY, image).code is Code.TAMPERED


# What no approval makes up for

CHANGED = ONE.by("D", signature=7, objects=frozenset(), mismatch=Finding("object", "object 2 was changed"))


def test_a_signature_over_other_content_denies_by_any_signer() -> None:
    outcome = decide(ALICE, ONE.with_claims(ONE.by("A"), CHANGED))
    assert outcome.code is Code.TAMPERED
    assert "signature 7 by dave is over other content than the image holds: object 2 was changed" in outcome.reason


def test_an_expired_signature_over_other_content_counts_for_nothing() -> None:
    assert decide(ALICE, ONE.with_claims(ONE.by("A"), CHANGED), 1).code is Code.REQUIREMENTS_MET


def test_a_flat_allow_does_not_allow_what_was_tampered_with() -> None:
    made = policy("  - {name: all, decision: allow}\n")
    assert decide(made, ONE.with_claims(CHANGED)).code is Code.TAMPERED
    assert decide(made, ONE.with_claims()).code is Code.RULE_ALLOW


def test_a_rule_may_deny() -> None:
    made = policy("  - {name: none, decision: deny, message: ask us}\n")
    outcome = decide(made, ONE.with_claims(ONE.by("A")))
    assert (outcome.code, outcome.message) == (Code.RULE_DENY, "ask us")


FORBID = policy(rule("[{any_of: [alice]}]", "forbid: {signed_by: [dave]}", "mode: permissive"))


@pytest.mark.parametrize(
    "claim", [ONE.by("D"), ONE.part("D", 1), ONE.legacy("D"), ONE.by("D", header=False), CHANGED], ids=str
)
def test_any_signature_by_a_forbidden_signer_denies(claim) -> None:
    assert decide(FORBID, ONE.with_claims(ONE.by("A"), claim)).code is Code.FORBIDDEN


def test_an_expired_signature_by_a_forbidden_signer_still_shows_that_they_signed() -> None:
    assert decide(FORBID, ONE.with_claims(ONE.by("A"), ONE.by("D")), 1).code is Code.FORBIDDEN


def test_a_forbidden_key_is_forbidden_under_every_name() -> None:
    keyring = ring(("F", ["sha256:D"]))
    made = policy(rule("[{any_of: [alice]}]", "forbid: {signed_by: [dave]}"), keyring=keyring)
    assert decide(made, ONE.with_claims(ONE.by("A"), ONE.by("F"))).code is Code.FORBIDDEN


UNKNOWN = Failure(9, SignatureFormat.PGP, Finding("unknown-key", "made by an unknown key"))


def test_unknown_signatures_are_ignored_unless_the_rule_denies_them() -> None:
    image = ONE.with_claims(ONE.by("A"), failures=(UNKNOWN,))
    assert decide(ALICE, image).code is Code.REQUIREMENTS_MET
    outcome = decide(policy(rule("[{any_of: [alice]}]", "unknown_signatures: deny")), image)
    assert outcome.code is Code.UNKNOWN_SIGNATURE
    assert "signature 9" in outcome.reason


def test_signatures_that_do_not_count_are_ignored_unless_the_rule_denies_them() -> None:
    strict = policy(rule("[{any_of: [alice]}]", "discounted_signatures: deny"))
    expired = ONE.with_claims(ONE.by("A"), ONE.by("B"))
    part = TWO.with_claims(TWO.by("A", 1), TWO.by("A", 2), TWO.part("B", 1))
    legacy = ONE.with_claims(ONE.by("A"), ONE.legacy("B"))
    for image, rejected in ((expired, (1,)), (part, ())):
        assert decide(ALICE, image, *rejected).code is Code.REQUIREMENTS_MET
        assert decide(strict, image, *rejected).code is Code.DISCOUNTED_SIGNATURE
    assert decide(strict, expired).code is Code.REQUIREMENTS_MET
    assert decide(strict, legacy, 1).code is Code.REQUIREMENTS_MET


def _withdrawing(what: str) -> Policy:
    return policy(rule("[{any_of: [alice]}]"), HEAD.replace("rules:", f"withdrawn: {{{what}}}\nrules:"))


DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize("sort", ["objects", "manifests"])
def test_a_withdrawn_object_is_found_by_its_digest(sort: str) -> None:
    made = _withdrawing(f"{sort}: ['sha256:{'0A' * 32}']")
    others = {1: "sha256:1", 2: "sha256:2", 3: "sha256:3"}
    image = ONE.with_claims(ONE.by("A"), digests={**others, 2: DIGEST})
    outcome = withdrawn(made, image)
    assert outcome is not None
    assert outcome.code is Code.WITHDRAWN
    assert "object 2" in outcome.reason
    assert withdrawn(made, ONE.with_claims(ONE.by("A"), digests=others)) is None


def test_an_object_whose_digest_is_not_known_is_not_taken_for_harmless() -> None:
    outcome = withdrawn(_withdrawing(f"objects: ['{DIGEST}']"), ONE.with_claims(digests={1: "sha256:1"}))
    assert outcome is not None
    assert outcome.verdict is Verdict.DENY


def test_everything_that_a_withdrawn_signer_signed_is_withdrawn_however_they_signed_it() -> None:
    made = _withdrawing("signers: [dave]")
    for claim in (ONE.by("D"), ONE.part("D", 1), ONE.legacy("D"), CHANGED):
        outcome = withdrawn(made, ONE.with_claims(ONE.by("A"), claim))
        assert outcome is not None
        assert outcome.code is Code.WITHDRAWN
    assert withdrawn(made, ONE.with_claims(ONE.by("A"))) is None


# Permissive

PERMISSIVE = policy(rule("[{any_of: [alice]}]", "mode: permissive", "message: ask us"))


def test_permissive_allows_what_lacks_approvals_and_records_what_it_would_have_said() -> None:
    outcome = decide(PERMISSIVE, ONE.with_claims())
    assert (outcome.code, outcome.verdict) == (Code.PERMISSIVE, Verdict.ALLOW)
    assert (outcome.would, outcome.mode) == (Code.REQUIREMENTS_NOT_MET, "permissive")
    assert outcome.missing[0].could_sign == ("alice",)


def test_permissive_softens_nothing_else() -> None:
    assert decide(PERMISSIVE, ONE.with_claims(CHANGED)).code is Code.TAMPERED
    loose = Image(loose=(4,))
    assert decide(PERMISSIVE, loose.with_claims(loose.by("A"))).code is Code.OBJECT_NOT_APPROVED


# Explaining


def test_an_allow_is_explained_only_when_asked() -> None:
    image = ONE.with_claims(ONE.by("A", signature=4))
    assert decide(ALICE, image).requirements == ()
    report = decide(ALICE, image, explain=True).requirements[0]
    assert (report.met, report.where, report.signers[0].why) == (True, "0.yaml:12", "signed (signature 4)")


def test_the_message_of_a_rule_is_for_those_who_are_denied() -> None:
    made = policy(rule("[{any_of: [alice]}]", "message: ask us"))
    assert decide(made, ONE.with_claims()).message == "ask us"
    assert decide(made, ONE.with_claims(ONE.by("A")), explain=True).message is None


def test_evaluating_does_not_depend_on_the_order_of_claims() -> None:
    claims = [ONE.by("A"), ONE.by("B"), ONE.by_pem("p384")]
    rules = SHARING.rules[0]
    first = evaluate(SHARING, rules, ONE.with_claims(*claims), {})
    assert first.signers == evaluate(SHARING, rules, ONE.with_claims(*reversed(claims)), {}).signers


def test_a_signature_on_an_object_is_none_on_a_group_of_that_object_alone() -> None:
    image = Image({1: (1,)})
    assert decide(ALICE, image.with_claims(image.part("A", 1))).code is Code.REQUIREMENTS_NOT_MET


def test_a_requirement_on_several_groups_is_not_met_under_a_nil_uuid() -> None:
    image = Image(TWO.groups, tied=False)
    made = policy(rule("[{any_of: [alice], objects: {groups: [1, 2]}}]"))
    assert decide(made, image.with_claims(image.by("A", 1), image.by("A", 2))).code is Code.REQUIREMENTS_NOT_MET
