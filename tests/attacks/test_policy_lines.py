"""Attacks on policies and on what approvals mean: each test is named after its line of the attack list.

Images are built and signed here, verified for real, and put to a policy over the corpus keys.
"""

from __future__ import annotations

import json

import pytest

from eclctl.model import Caller, Code, Kind, Outcome
from eclctl.policy.evaluate import evaluate, withdrawn
from eclctl.policy.load import Loaded, LoadEnvironment, Source, load
from eclctl.policy.select import select_rule
from eclctl.signature import openpgp
from eclctl.trust.keyring import KeyStore, judge
from eclctl.verify import examine
from tests.sifbuilder import OVERLAY, SifBuilder, corpus_pgp_key, opened, pem_key, sample
from tests.support import CORPUS, NOW

FINGERPRINTS = json.loads((CORPUS / "keys" / "pgp" / "fingerprints.json").read_text(encoding="utf-8"))
RING = openpgp.Keyring.parse((CORPUS / "keys" / "pgp" / "site-ring.asc").read_bytes())
BUILDER, SCANNER, APPROVER = (corpus_pgp_key(name) for name in ("builder", "scanner", "approver"))
CALLER = Caller(1000, 1000)
HEAD = (
    "version: 1\nsigners:\n"
    + "".join(f"  {name}: {{pgp: [{FINGERPRINTS[name]}]}}\n" for name in ("builder", "scanner", "approver", "subkey"))
    + "  ci: {key: [p256-public.pem]}\n"
    + "roles: {reviewers: [builder, scanner, approver]}\n"
)
BY_BUILDER = "rules: [{name: it, require: [{any_of: [builder]}]}]\n"
BY_PARTS = """\
rules:
  - name: it
    require:
      - {any_of: [builder], objects: {groups: [1]}}
      - {any_of: [builder], objects: {groups: [2]}}
"""
BY_TWO = "rules: [{name: it, require: [{approvals: {count: 2, of: reviewers}}]}]\n"


def read_key(path: str) -> bytes:
    return (CORPUS / "keys" / "pem" / path.rpartition("/")[2]).read_bytes()


def loaded(*texts: str | bytes) -> Loaded:
    sources = [Source(f"{n}.yaml", text if isinstance(text, bytes) else text.encode()) for n, text in enumerate(texts)]
    return load(sources, LoadEnvironment(RING, read_key, {}.get, {}.get, NOW))


def ask(image, rules: str, *, head: str = HEAD, path: str | None = "/srv/a.sif") -> Outcome:
    """What the policy says of an image, verified for real."""
    made = loaded(head + rules)
    policy = made.policy
    assert policy is not None, [str(problem) for problem in made.errors]
    store = KeyStore(RING, policy.keys)
    with opened(image) as fd:
        found = examine(fd, store, digests=policy.withdraws_objects)
    judged = {n: judge(store, claim, NOW) for n, claim in enumerate(found.claims)}
    rejected = {n: finding for n, finding in judged.items() if finding is not None}
    rule = select_rule(policy, path=path, kind=found.kind, caller=CALLER)
    assert rule is not None
    return withdrawn(policy, found, rejected) or evaluate(policy, rule, found, rejected)


def corpus(name: str):
    return CORPUS / "images" / f"{name}.sif"


def two_groups(**fields: object) -> SifBuilder:
    """An image of a system in group 1 and an overlay in group 2."""
    builder = sample(**fields)
    builder.partition(b"hsqs" + bytes(2000), part=OVERLAY, group=2, name=b"overlay")
    return builder


def test_mixed_signatures_a_legacy_one_beside_a_new_one_counts_for_nothing() -> None:
    image = sample()
    image.sign_pgp(BUILDER)
    image.sign_legacy(SCANNER, group=1)
    outcome = ask(image, BY_TWO)
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.missing[0].signed == ("builder",)


def test_composed_image_single_object_signatures_of_two_images_never_add_up() -> None:
    """Object 1 signed for one image and objects 2 and 3 for another, under one UUID, by one signer."""
    image = sample()
    image.sign_pgp(BUILDER, only=(1,))
    image.sign_pgp(BUILDER, only=(2, 3))
    assert ask(image, BY_BUILDER).code is Code.REQUIREMENTS_NOT_MET


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (BY_BUILDER, Code.REQUIREMENTS_NOT_MET),
        (
            BY_PARTS,
            Code.OBJECT_NOT_APPROVED,
        ),
    ],
)
def test_composed_image_groups_of_two_images_are_not_tied_by_a_nil_uuid(rules: str, code: Code) -> None:
    image = two_groups(uuid=bytes(16))
    image.sign_pgp(BUILDER, 1)
    image.sign_pgp(BUILDER, 2)
    assert ask(image, rules).code is code


def test_composed_image_the_same_groups_under_a_uuid_are_one_image() -> None:
    image = two_groups()
    image.sign_pgp(BUILDER, 1)
    image.sign_pgp(BUILDER, 2)
    assert ask(image, BY_BUILDER).code is Code.REQUIREMENTS_MET


def test_scoped_rule_only_leaves_any_other_group_unapproved() -> None:
    rules = "rules: [{name: it, require: [{any_of: [scanner], objects: {groups: [2]}}]}]\n"
    image = two_groups()
    image.sign_pgp(SCANNER, 2)
    assert ask(image, rules).code is Code.OBJECT_NOT_APPROVED


def test_uncovered_object_one_that_is_unsigned_denies() -> None:
    assert ask(corpus("one-objects1,3"), BY_BUILDER).code is Code.REQUIREMENTS_NOT_MET
    rules = "rules: [{name: it, require: [{any_of: [builder], objects: {ids: [1, 3]}}]}]\n"
    outcome = ask(corpus("one-objects1,3"), rules)
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "object 2" in outcome.reason


def test_uncovered_object_one_in_no_group_denies() -> None:
    image = sample()
    image.sign_pgp(BUILDER)
    image.add(b"#!/bin/sh\n", group=0)
    assert ask(image, BY_BUILDER).code is Code.OBJECT_NOT_APPROVED


@pytest.mark.parametrize("change", ["header", "name", "extra", "launch"])
def test_header_name_extra_launch_script_changed_denies(change: str) -> None:
    image = sample()
    image.sign_pgp(BUILDER)
    if change == "header":
        image.uuid = bytes([image.uuid[0] ^ 1]) + image.uuid[1:]
    elif change == "launch":
        image.launch = image.launch[:5] + bytes([image.launch[5] ^ 1]) + image.launch[6:]
    elif change == "name":
        image.entries[0].name = b"Other"
    else:
        image.entries[2].extra = bytes([image.entries[2].extra[0] ^ 2]) + image.entries[2].extra[1:]
    assert ask(image, BY_BUILDER).code is Code.TAMPERED


def test_group_renumbering_a_rule_that_says_what_the_group_holds_denies() -> None:
    holds = "rules: [{name: it, require: [{any_of: [builder], objects: {groups: [1], holds: [system]}}, PART]}]\n"
    part = "{any_of: [scanner], objects: {groups: [2], holds: [overlay]}}"
    rules = holds.replace("PART", part)
    assert ask(corpus("two-g1-builder+g2-scanner"), rules).code is Code.REQUIREMENTS_MET
    assert ask(corpus("groups-swapped"), rules).code is Code.REQUIREMENTS_NOT_MET


def test_group_renumbering_a_rule_that_trusts_a_bare_number_is_a_warning() -> None:
    rules = "rules: [{name: it, require: [{any_of: [scanner], objects: {groups: [2]}}]}]\n"
    warnings = loaded(HEAD + rules).warnings
    assert len(warnings) == 1
    assert "bare group number" in warnings[0].message


def test_forged_fingerprint_does_not_grant_the_signer_that_it_names() -> None:
    assert ask(corpus("dsse-trusted-pgp-fingerprint"), BY_BUILDER).code is Code.REQUIREMENTS_NOT_MET
    assert ask(corpus("forged-fingerprint"), BY_BUILDER).code is Code.REQUIREMENTS_NOT_MET


def test_split_approvals_are_none_of_two() -> None:
    outcome = ask(corpus("two-g1-builder+g2-scanner"), BY_TWO)
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.missing[0].have == 0


def test_one_signer_twice_the_same_signature_copied_counts_once() -> None:
    outcome = ask(corpus("one-builder-twice"), BY_TWO)
    assert outcome.missing[0].have == 1


def test_one_signer_twice_a_persons_two_keys_count_once() -> None:
    image = sample()
    image.sign_pgp(BUILDER)
    image.sign_dsse(pem_key("p256"))
    head = HEAD.replace("builder: {pgp", "builder: {key: [p256-public.pem], pgp")
    assert ask(image, BY_TWO, head=head).missing[0].have == 1


def test_one_signer_twice_one_key_listed_under_two_people_counts_once_and_warns() -> None:
    head = HEAD.replace("scanner: {pgp: [", f"scanner: {{pgp: [{FINGERPRINTS['builder']}, ")
    outcome = ask(corpus("one-builder"), BY_TWO, head=head)
    assert outcome.missing[0].have == 1
    assert "also listed for 'builder'" in loaded(head + BY_TWO).warnings[0].message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"version: 1\nrules: []\nrules: []\n", 3),
        (b"version: 1\nsigners: &a {x: 1}\nroles: *a\n", 2),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", 1),
        (b"version: 1\nrules: " + b"[" * 100_000, 2),
        (b"version: 1\nrules: " + b"{a: " * 100_000, 2),
        (b"version: 1\nsigners:\n  a: {pgp: [12345]}\n", 3),
        (b"version: 1\nrules:\n  - {name: x, require: [{any_of: [ci]}], distinct: no}\n", 3),
        (b"version: 1\nrules:\n\t- {name: x}\n", 3),
        (b"version: 1\nsigners: !!python/object/apply:os.system ['id']\n", 2),
        (b"version: 1\n---\nversion: 1\n", 2),
    ],
)
def test_yaml_that_is_no_policy_is_an_error_with_its_line(text: bytes, line: int) -> None:
    made = loaded(text)
    assert made.policy is None
    assert line in {problem.line for problem in made.errors}


def test_yaml_of_100_mb_is_refused_before_it_is_parsed() -> None:
    made = loaded(b"#" * 100_000_000)
    assert made.policy is None
    assert "larger than 16 MiB" in made.errors[0].message


@pytest.mark.parametrize(
    "require",
    [
        "[]",
        "[{any_of: []}]",
        "[{all_of: []}]",
        "[{approvals: {count: 0, of: reviewers}}]",
        "[{approvals: {count: 4, of: reviewers}}]",
        "[{any_of: [builder], objects: {groups: []}}]",
    ],
)
def test_vacuous_rules_are_load_errors(require: str) -> None:
    assert loaded(HEAD + f"rules: [{{name: it, require: {require}}}]\n").policy is None


def test_withdrawn_partition_denies_though_the_file_was_changed_by_one_more_signature() -> None:
    image = sample()
    image.sign_pgp(BUILDER)
    with opened(image) as fd:
        found = examine(fd, KeyStore(RING), digests=True)
    assert ask(image, BY_BUILDER).code is Code.REQUIREMENTS_MET
    image.sign_pgp(SCANNER)
    head = HEAD + f"withdrawn: {{objects: ['{found.digests[3]}']}}\n"
    assert ask(image, BY_BUILDER, head=head).code is Code.WITHDRAWN


PERMISSIVE = "rules: [{name: it, mode: permissive, require: [{any_of: [builder]}], forbid: {signed_by: [scanner]}}]\n"


def test_permissive_allows_what_lacks_approvals_and_nothing_that_is_forbidden_or_tampered() -> None:
    image = sample()
    outcome = ask(image, PERMISSIVE)
    assert (outcome.code, outcome.would) == (Code.PERMISSIVE, Code.REQUIREMENTS_NOT_MET)
    image.sign_pgp(SCANNER)
    assert ask(image, PERMISSIVE).code is Code.FORBIDDEN
    image = sample()
    image.sign_pgp(APPROVER)
    image.entries[2].data = b"hsqs" + b"\1" * 4092
    assert ask(image, PERMISSIVE).code is Code.TAMPERED


@pytest.mark.parametrize(
    ("path", "applies"),
    [
        ("/scratch/a.sif", True),
        ("/scratch/deep/er/a.sif", True),
        ("/scratch2/a.sif", False),
        ("/scratch", False),
        ("/srv/scratch/a.sif", False),
        ("/scratch/\udcff\n\x1b[31m.sif", True),
        (None, False),
    ],
)
def test_paths_match_by_component_on_the_resolved_path(path: str | None, applies: bool) -> None:
    policy = loaded("version: 1\nrules: [{name: it, match: {paths: [/scratch/**]}, decision: allow}]\n").policy
    assert policy is not None
    assert (select_rule(policy, path=path, kind=Kind.SIF, caller=CALLER) is not None) is applies
