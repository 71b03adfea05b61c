"""What is not warned of: a warning that is wrong, or comes twice, teaches people to pass over warnings."""

from __future__ import annotations

import pytest

from tests.unit.policy.test_check_messages import ALICE, BOB, SIGNERS, Case, files, needs, rule, said

EXPIRED_LEAF = "{file: leaf-expired.pem, intermediates: intermediate.pem, roots: root.pem, ocsp: off}"


@pytest.mark.parametrize(
    "case",
    [
        needs("[{any_of: [ci]}]"),
        needs("[{any_of: [ci, alice]}]"),
        needs("[{any_of: [ci]}, {any_of: [alice]}]"),
        needs("[{any_of: [ci, alice]}, {approvals: {count: 1, of: security}}]", "distinct: true"),
        needs("[{approvals: {count: 2, of: security}}]"),
        needs("[{any_of: [ci], purpose: scan}, {any_of: [alice], purpose: build}]"),
    ],
)
def test_a_rule_that_says_who_approves_is_not_warned_about(case: Case) -> None:
    assert said(case) == ""


def test_a_key_for_one_purpose_does_not_make_one_person_enough() -> None:
    bound = SIGNERS.replace("robot: {key: [p256-public.pem]}", "robot: {key: [p256-public.pem], purpose: scan}")
    bound = bound.replace("carol, robot, oci]", "carol, oci]")
    both = "  - name: it\n    match: {paths: [/srv/**]}\n    message: Ask\n    require:\n"
    scan = "      - {any_of: [robot], purpose: scan}\n"
    assert said(files(bound + both + scan + "      - {any_of: [robot, alice]}\n")).count("one person alone") == 0
    assert (
        said(files(SIGNERS + both + "      - {any_of: [robot]}\n      - {any_of: [robot, ci]}\n")).count("alone") == 1
    )


def test_every_key_in_the_keyrings_is_used_when_anyone_counts() -> None:
    spare = SIGNERS.replace("carol: ", "spare: ").replace("alice, bob, carol", "alice, bob")
    it = "  - {name: it, match: {paths: [/srv/**]}, require: [{approvals: {count: 2, of: anyone}}], message: Ask}\n"
    assert "the signer 'spare'" in said(files(spare))
    assert "the signer 'spare'" not in said(files(spare + it))


def test_a_signer_who_is_only_forbidden_or_withdrawn_is_used() -> None:
    spare = SIGNERS.replace("roles:", "  mallory: {pgp: [5802C950CB0D8BE07A134CAFA3709DE698D7BD64]}\nroles:")
    assert "no rule asks for the signer 'mallory'" in said(files(spare))
    assert "no rule asks" not in said(files(spare + "withdrawn: {signers: [mallory]}\n"))
    forbidding = spare.replace("    message: Ask", "    forbid: {signed_by: [mallory]}\n    message: Ask")
    assert "no rule asks" not in said(files(forbidding))


def test_a_rule_for_some_takes_nothing_from_a_rule_for_all() -> None:
    first = "  - {name: some, match: {paths: [/srv/**], %s}, decision: deny, message: No}\n"
    last = "  - {name: all, match: {paths: [/srv/**]}, decision: deny, message: No}\n"
    for some in (
        "users: [1000]",
        "groups: [100]",
        "hosts: [login*]",
        "times: [mon-fri 08:00-18:00 UTC]",
        "kinds: [sif]",
    ):
        assert said(files(SIGNERS + first % some + last)) == ""
        assert "rule 'again' can never match" in said(
            files(SIGNERS + first % some + (first % some).replace("name: some", "name: again"))
        )


def test_each_key_is_warned_of_once() -> None:
    expired = SIGNERS.replace("{key: [p256-public.pem]}", f"{{certificate: {EXPIRED_LEAF}}}")
    assert said(files(expired)).count("warning: ") == 1


def test_keys_that_are_listed_by_two_do_not_hide_that_each_has_others() -> None:
    shared = SIGNERS.replace(f"alice: {{pgp: [{ALICE}]", f"alice: {{key: [p384-public.pem], pgp: [{ALICE}]")
    shared = shared.replace(f"bob:   {{pgp: [{BOB}]", f"bob:   {{key: [p384-public.pem], pgp: [{BOB}]")
    assert "'alice' shares keys with 'bob'" in said(files(shared))


def test_a_stage_is_shown_where_it_is_written() -> None:
    case = rule(
        "match: {paths: [/srv/**]}",
        "forbid: {signed_by: [ci]}",
        "message: Ask",
        "chain:",
        "  - scan: {any_of: [alice]}",
        "  - build: {any_of: [ci]}",
    )
    assert "warning: policy.yaml:23:16: rule 'it' can never be met" in said(case)
