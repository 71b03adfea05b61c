"""What is said before signing of a policy is what the policy says afterwards."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from eclctl.decide.snapshot import Snapshot
from eclctl.model import Caller, Code
from eclctl.sign.coverage import plan_coverage
from eclctl.sign.outlook import outcome_at, unknown_keys, with_signatures
from eclctl.trust.keyring import KeyStore
from eclctl.verify.examine import examine
from tests.helpers.deciding import RING, loaded
from tests.helpers.scribes import corpus_copy, pem_signing, pgp_signing, sign_file
from tests.helpers.support import NOW

BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
SCANNER = "F69053E5830DBDBA72B3D8F61BDDA97D14902F26"
APPROVER = "25B8EEE0382B85FDCBDD9B4F7A750C002A7A02D4"
SIGNERS = f"""\
version: 1
signers:
  builder:  {{pgp: [{BUILDER}]}}
  scanner:  {{pgp: [{SCANNER}]}}
  approver: {{pgp: [{APPROVER}], key: [p384-public.pem]}}
  ci:       {{key: [p256-public.pem]}}
roles: {{security: [scanner, approver]}}
"""
CHAIN = """\
rules:
  - name: production
    match: {paths: ["/srv/**"]}
    chain:
      - build:  {any_of: [builder, ci]}
      - review: {any_of: [approver], purpose: review}
default: deny
"""
APPROVALS = """\
rules:
  - name: production
    match: {paths: ["/srv/**"]}
    require:
      - any_of: [builder]
      - approvals: {count: 2, of: security}
default: deny
"""
OVERLAY = """\
rules:
  - name: overlay
    match: {paths: ["/srv/**"]}
    require:
      - any_of: [builder]
      - any_of: [ci]
        objects: {groups: [2], holds: [overlay]}
default: deny
"""
STRICT = """\
rules:
  - name: strict
    match: {paths: ["/srv/**"]}
    require: [{any_of: [ci]}]
    unknown_signatures: deny
default: deny
"""
OBJECT = """\
rules:
  - name: partition
    match: {paths: ["/srv/**"]}
    require:
      - any_of: [builder]
        objects: {ids: [3]}
default: deny
"""
PATH, CALLER = "/srv/a.sif", Caller(1000, 1000)


def snapshot(rules: str) -> Snapshot:
    policy = loaded(SIGNERS + rules).policy
    assert policy is not None
    store = KeyStore(RING, policy.listed)
    return Snapshot(1, policy, store, policy.digest, NOW)


def facts(path, made):
    fd = os.open(path, os.O_RDONLY)
    try:
        return examine(fd, made.store)
    finally:
        os.close(fd)


def parts_of(path, groups=(), objects=()):
    from eclctl.sif import reader

    fd = os.open(path, os.O_RDONLY)
    try:
        return plan_coverage(reader.read(fd), groups, objects)
    finally:
        os.close(fd)


CASES = [
    ("one-unsigned.sif", CHAIN, ("pgp", "builder"), {}),
    ("one-builder.sif", CHAIN, ("pgp", "approver", "review"), {}),
    ("one-builder.sif", CHAIN, ("pgp", "approver", "scan"), {}),
    ("one-unsigned.sif", CHAIN, ("pem", "p256"), {}),
    ("two-builder.sif", APPROVALS, ("pgp", "scanner"), {}),
    ("two-builder+g1-approver.sif", APPROVALS, ("pgp", "scanner"), {}),
    ("two-builder.sif", APPROVALS, ("pgp", "scanner"), {"groups": (2,)}),
    ("one-builder+scanner.sif", APPROVALS, ("pem", "p384"), {}),
    ("one-builder+scanner.sif", APPROVALS, ("pgp", "scanner"), {}),
    ("two-builder.sif", OVERLAY, ("pem", "p256"), {"groups": (2,)}),
    ("two-unsigned.sif", OVERLAY, ("pgp", "builder"), {"objects": (1, 4)}),
    ("one-dsse-p256.sif", STRICT, ("pgp", "mallory"), {}),
    ("one-dsse-p256.sif", STRICT, ("pem", "ed25519"), {}),
    ("one-unsigned.sif", STRICT, ("pem", "p256", "ed25519"), {}),
    ("one-unsigned.sif", OBJECT, ("pgp", "builder"), {"objects": (3,)}),
    ("mixed-unsigned.sif", APPROVALS, ("pgp", "builder"), {}),
]


def signing_of(kind, *names):
    if kind == "pem":
        return pem_signing(*names)
    return pgp_signing(names[0], purpose=names[1] if len(names) > 1 else None, now=NOW)


@pytest.mark.parametrize(("name", "rules", "key", "scope"), CASES)
def test_what_is_foretold_is_what_the_policy_says_of_the_signed_image(name, rules, key, scope, tmp_path):
    path, made, signing = corpus_copy(name, tmp_path), snapshot(rules), signing_of(*key)
    before = facts(path, made)
    foretold = with_signatures(before, parts_of(path, **scope), signing, made.store, NOW)
    sign_file(path, signing, now=NOW, **scope)
    after = facts(path, made)
    assert set(foretold.claims) == set(after.claims)
    assert [each.signature for each in foretold.failures] == [each.signature for each in after.failures]
    worded = replace(foretold, failures=after.failures)  # why a signature has no signer has other words beforehand
    assert outcome_at(made, worded, PATH, CALLER, NOW) == outcome_at(made, after, PATH, CALLER, NOW)


def test_the_outlooks_of_these_cases_differ(tmp_path):
    """Else the comparison above could not fail."""
    codes = set()
    for name, rules, key, scope in CASES:
        made, path = snapshot(rules), corpus_copy(name, tmp_path)
        before = facts(path, made)
        foretold = with_signatures(before, parts_of(path, **scope), signing_of(*key), made.store, NOW)
        outcomes = [outcome_at(made, each, PATH, CALLER, NOW) for each in (before, foretold)]
        codes |= {(outcome.code, number) for number, outcome in enumerate(outcomes)}
    assert {(Code.REQUIREMENTS_NOT_MET, 0), (Code.REQUIREMENTS_MET, 1), (Code.REQUIREMENTS_NOT_MET, 1)} < codes
    assert {(Code.UNKNOWN_SIGNATURE, 1), (Code.OBJECT_NOT_APPROVED, 1)} < codes


def test_the_stage_that_is_still_missing_is_named(tmp_path):
    path, made = corpus_copy("one-unsigned.sif", tmp_path), snapshot(CHAIN)
    before = facts(path, made)
    foretold = with_signatures(before, parts_of(path), pgp_signing(now=NOW), made.store, NOW)
    assert [each.stage for each in outcome_at(made, before, PATH, CALLER, NOW).missing] == ["build", "review"]
    (missing,) = outcome_at(made, foretold, PATH, CALLER, NOW).missing
    assert (missing.stage, missing.could_sign) == ("review", ("approver",))


def test_a_path_that_no_rule_covers_is_said(tmp_path):
    path, made = corpus_copy("one-unsigned.sif", tmp_path), snapshot(CHAIN)
    outcome = outcome_at(made, facts(path, made), "/home/a.sif", CALLER, NOW)
    assert outcome.code is Code.NO_RULE


def test_keys_that_the_policy_does_not_know_are_told():
    store = snapshot(CHAIN).store
    assert unknown_keys(pgp_signing("mallory"), store) == pgp_signing("mallory").refs
    assert unknown_keys(pgp_signing("builder"), store) == ()
    assert unknown_keys(pem_signing("p256", "ed25519"), store) == pem_signing("ed25519").refs
