"""Attacks on policies and on what approvals mean: each test is named after its line of the attack list.

Images are built and signed here, verified for real, and put to a policy over the corpus keys.
"""

from __future__ import annotations

import json

import pytest

from eclctl.model import Code, Outcome
from eclctl.policy.select import select_rule
from eclctl.terms import Kind
from eclctl.trust.keyring import KeyStore
from eclctl.verify.examine import examine
from tests.helpers import deciding
from tests.helpers.deciding import CALLER, RING, loaded
from tests.helpers.ocibuilder import OciBuilder, oci_sample
from tests.helpers.sifbuilder import OVERLAY, PemKey, SifBuilder, corpus_pgp_key, opened, pem_key, sample
from tests.helpers.support import CORPUS, NOW

FINGERPRINTS = json.loads((CORPUS / "keys" / "pgp" / "fingerprints.json").read_text(encoding="utf-8"))
BUILDER, SCANNER, APPROVER = (corpus_pgp_key(name) for name in ("builder", "scanner", "approver"))
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


def ask(image, rules: str, *, head: str = HEAD, **more) -> Outcome:
    """What a policy of some of the corpus' signers says of an image, verified for real."""
    return deciding.ask(image, head + rules, **more)


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


LEAF = "certificate: {file: leaf.pem, intermediates: [intermediate.pem], roots: [root.pem], ocsp: off}"
TWO_OF_THEM = "  scanner: {pgp: [SCANNER]}\nroles: {them: [one, other, scanner]}\n".replace(
    "SCANNER", FINGERPRINTS["scanner"]
)
BY_TWO_OF_THEM = "rules: [{name: it, require: [{approvals: {count: 2, of: them}}]}]\n"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("key: [p256-public.pem]", LEAF),
        (LEAF, LEAF.replace("leaf", "leaf-anyeku")),
        (LEAF, "cosign: [p256-public.pem]"),
    ],
    ids=["PEM and certificate", "two certificates", "certificate and cosign"],
)
def test_one_signer_twice_one_key_under_two_names_counts_once_under_any_signer(one: str, other: str) -> None:
    image = oci_sample(pem_key("p256")).finish()
    image.sign_dsse(pem_key("p256"))
    both = f"version: 1\nsigners:\n  one: {{{one}}}\n  other: {{{other}}}\n{TWO_OF_THEM}"
    outcome = ask(image, BY_TWO_OF_THEM, head=both)
    assert (outcome.code, outcome.missing[0].have) == (Code.REQUIREMENTS_NOT_MET, 1)
    assert "is also listed for 'one'" in loaded(both + BY_TWO_OF_THEM).warnings[0].message
    image.sign_pgp(SCANNER)
    assert ask(image, BY_TWO_OF_THEM, head=both).code is Code.REQUIREMENTS_MET


def test_one_signer_twice_a_person_with_a_key_as_pem_as_certificate_and_for_cosign_counts_once() -> None:
    image = oci_sample(pem_key("p256")).finish()
    image.sign_dsse(pem_key("p256"))
    image.sign_pgp(BUILDER)
    everything = f"key: [p256-public.pem], cosign: [p256-public.pem], {LEAF}, pgp: [{FINGERPRINTS['builder']}]"
    head = f"version: 1\nsigners:\n  one: {{{everything}}}\n  other: {{key: [p384-public.pem]}}\n{TWO_OF_THEM}"
    outcome = ask(image, BY_TWO_OF_THEM, head=head)
    assert outcome.missing[0].signed == ("one",)


BY_COSIGN = "version: 1\nsigners: {ci: {cosign: [p256-public.pem]}}\nrules: [{name: it, require: [{any_of: [ci]}]}]\n"


def cosigned(change: str, key: PemKey) -> SifBuilder:
    """An OCI-SIF that a key signed with cosign, and with something beside its image."""
    builder: OciBuilder = oci_sample(key)
    if change == "second image":
        builder.add_image(b"hsqs" + bytes(100))
    elif change == "blob that nothing refers to":
        builder.blob(b"#!/bin/sh\n")
    image = builder.finish()
    if change == "partition":
        image.partition(b"hsqs" + bytes(100), part=OVERLAY)
    elif change == "object in no group":
        image.add(b"#!/bin/sh\n", group=0)
    return image


def test_uncovered_object_an_image_signed_with_cosign_alone_is_approved() -> None:
    assert ask(cosigned("nothing", pem_key("p256")), BY_COSIGN, head="").code is Code.REQUIREMENTS_MET


@pytest.mark.parametrize("change", ["second image", "blob that nothing refers to", "partition", "object in no group"])
def test_uncovered_object_beside_an_image_signed_with_cosign_denies(change: str) -> None:
    outcome = ask(cosigned(change, pem_key("p256")), BY_COSIGN, head="")
    expected = Code.REQUIREMENTS_NOT_MET if change == "second image" else Code.OBJECT_NOT_APPROVED
    assert outcome.code is expected


def test_uncovered_object_beside_an_image_signed_with_cosign_is_covered_by_a_native_signature() -> None:
    image = cosigned("partition", pem_key("p256"))
    image.sign_pgp(BUILDER)
    text = BY_COSIGN.replace("{any_of: [ci]}", "{any_of: [ci]}, {any_of: [builder]}")
    text = text.replace("signers: {", f"signers: {{builder: {{pgp: [{FINGERPRINTS['builder']}]}}, ")
    assert ask(image, text, head="").code is Code.REQUIREMENTS_MET
    assert ask(image, BY_COSIGN, head="").code is Code.OBJECT_NOT_APPROVED


def test_uncovered_object_a_native_signature_approves_no_file_of_two_images() -> None:
    image = cosigned("second image", pem_key("p256"))
    image.sign_pgp(BUILDER)
    outcome = ask(image, BY_BUILDER)
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "must hold exactly one image" in outcome.reason


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


def test_lost_requirement_an_item_beside_a_stage_of_its_name_is_still_asked_for() -> None:
    """The scanner's item asks for the purpose scan, and a stage of that name is written for another signer."""
    rules = """\
rules:
  - name: it
    require:
      - {any_of: [scanner], purpose: scan}
    chain:
      - scan: {any_of: [builder]}
"""
    image = sample()
    image.sign_pgp(BUILDER)
    outcome = ask(image, rules)
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert [missing.requirement for missing in outcome.missing] == ["1 approval from scanner with the purpose scan"]


def test_withdrawn_partition_denies_though_the_file_was_changed_by_one_more_signature() -> None:
    image = sample()
    image.sign_pgp(BUILDER)
    with opened(image) as fd:
        found = examine(fd, KeyStore(RING), digests=True)
    assert ask(image, BY_BUILDER).code is Code.REQUIREMENTS_MET
    image.sign_pgp(SCANNER)
    head = HEAD + f"withdrawn: {{objects: ['{found.digests[3]}']}}\n"
    assert ask(image, BY_BUILDER, head=head).code is Code.WITHDRAWN


@pytest.mark.parametrize("sort", ["manifests", "objects"])
def test_withdrawn_manifest_of_an_oci_image_denies_by_its_digest_alone(sort: str) -> None:
    builder = oci_sample(pem_key("p256"))
    digest = builder.image
    image = builder.finish()
    assert ask(image, BY_COSIGN, head="").code is Code.REQUIREMENTS_MET
    text = f"{BY_COSIGN}withdrawn: {{{sort}: ['{digest}']}}\n"
    assert ask(image, text, head="").code is Code.WITHDRAWN


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
    assert (select_rule(policy, path=path, kind=Kind.SIF, caller=CALLER, now=NOW) is not None) is applies
