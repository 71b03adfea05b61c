"""Cosign claims: who they count for, what they approve, and what they leave uncovered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eclctl.model import Code, Failure, OciContent
from eclctl.policy.evaluate import withdrawn
from eclctl.policy.language import Policy
from eclctl.policy.report import signatures
from eclctl.terms import Finding, Kind, SignatureFormat, Verdict
from tests.helpers.facts import (
    COSIGN_IDS,
    MANIFEST,
    PEM_IDS,
    Image,
    certificate_id,
    decide,
    fingerprint,
    load_text,
    policy,
    ring,
    rule,
)

HEAD = (
    "version: 1\nsigners:\n"
    f"  alice: {{pgp: [{fingerprint('A')}]}}\n"
    f"  bob: {{pgp: [{fingerprint('B')}], cosign: [site.pub]}}\n"
    "  ci: {cosign: [ci.pub]}\n"
    "  prod: {cosign: [approver.pub], annotations: {env: prod, team: hpc}}\n"
    "  repo: {cosign: [p384.pem], repository: registry.example/prod/**}\n"
    "roles:\n  reviewers: [alice, bob, ci, prod]\nrules:\n"
)
OCI = Image({1: (1, 2, 3, 4, 5)}, subject=(1, 2, 3), carriers=(4, 5))
EXTRA = Image({1: (1, 2, 3, 4, 5, 6)}, subject=(1, 2, 3), carriers=(4, 5))
SEVERAL = Image({1: (1, 2, 3, 4, 5)}, kind=Kind.OCI_SIF)
ENV = frozenset({("env", "prod"), ("team", "hpc"), ("creator", "Singularity")})


def asking(require: str, *more: str, head: str = HEAD) -> Policy:
    return policy(rule(require, *more), head)


CI = asking("[{any_of: [ci]}]")
PROD = asking("[{any_of: [prod]}]")
REPO = asking("[{any_of: [repo]}]")
TWO = asking("[{approvals: {count: 2, of: reviewers}}]")


def test_a_cosign_signature_approves_the_image() -> None:
    outcome = decide(CI, OCI.with_claims(OCI.by_cosign("ci")))
    assert (outcome.code, outcome.signers) == (Code.REQUIREMENTS_MET, ("ci",))


def test_a_cosign_signature_by_another_key_does_not() -> None:
    outcome = decide(CI, OCI.with_claims(OCI.by_cosign("approver", annotations=ENV)))
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.reason == "not signed by ci yet (0 of 1)"


@pytest.mark.parametrize("objects", [frozenset(), frozenset({1, 2}), frozenset({4, 5})])
def test_a_cosign_signature_over_less_than_the_image_approves_nothing(objects: frozenset[int]) -> None:
    assert decide(CI, OCI.with_claims(OCI.by_cosign("ci", objects=objects))).code is Code.REQUIREMENTS_NOT_MET


def test_an_image_of_which_nothing_is_known_is_not_approved() -> None:
    image = replace(OCI.with_claims(OCI.by_cosign("ci")), oci=OciContent(MANIFEST, frozenset(), frozenset()))
    assert decide(CI, image).code is Code.REQUIREMENTS_NOT_MET


def test_a_cosign_signature_means_nothing_in_a_file_that_is_no_oci_sif() -> None:
    plain = Image({1: (1, 2, 3)})
    claim = OCI.by_cosign("ci", objects=frozenset({1, 2, 3}))
    assert decide(CI, plain.with_claims(claim)).code is Code.REQUIREMENTS_NOT_MET


def test_a_cosign_signature_that_was_judged_out_counts_for_nothing() -> None:
    assert decide(CI, OCI.with_claims(OCI.by_cosign("ci")), 0).code is Code.REQUIREMENTS_NOT_MET


def test_a_cosign_key_signs_nothing_but_cosign_signatures() -> None:
    """One key, listed for cosign: neither a DSSE envelope by it nor a PEM signer's cosign signature counts."""
    assert decide(REPO, OCI.with_claims(OCI.by_pem("p384"))).code is Code.REQUIREMENTS_NOT_MET
    made = asking("[{any_of: [pem]}]", head=HEAD.replace("roles:", "  pem: {key: [p256.pem]}\nroles:", 1))
    assert decide(made, OCI.with_claims(OCI.by_cosign("p256"))).code is Code.REQUIREMENTS_NOT_MET
    assert decide(made, OCI.with_claims(OCI.by_pem("p256"))).code is Code.REQUIREMENTS_MET


# Annotations and repositories


@pytest.mark.parametrize(
    ("annotations", "why"),
    [
        (ENV, None),
        (ENV - {("creator", "Singularity")}, None),
        (frozenset(), "it lacks the annotation 'env=prod'"),
        (ENV - {("team", "hpc")}, "it lacks the annotation 'team=hpc'"),
        ({("env", "dev"), ("team", "hpc")}, "its annotation 'env' is 'dev', and 'prod' is asked for"),
        ({("env", "PROD"), ("team", "hpc")}, "its annotation 'env' is 'PROD', and 'prod' is asked for"),
        ({("ENV", "prod"), ("team", "hpc")}, "it lacks the annotation 'env=prod'"),
    ],
)
def test_all_annotations_that_are_asked_for_must_be_in_the_signature(annotations, why: str | None) -> None:
    claim = OCI.by_cosign("approver", signature=9, annotations=frozenset(annotations))
    outcome = decide(PROD, OCI.with_claims(claim), explain=True)
    (report,) = signatures(PROD, PROD.rules[0], OCI.with_claims(claim), {})
    assert (outcome.code is Code.REQUIREMENTS_MET) is (why is None)
    assert report.counts is (why is None)
    if why is not None:
        assert report.why == why
        assert report.signer == "prod"
        assert outcome.reason == (
            f"no signature by prod counts yet (0 of 1); signature 9 by prod does not count: {why}"
        )
        assert outcome.requirements[0].signers[0].why == f"signature 9 does not count: {why}"


@pytest.mark.parametrize(
    ("repository", "why"),
    [
        ("registry.example/prod/app", None),
        ("registry.example/prod/a/b", None),
        ("registry.example/production/app", "it names the repository 'registry.example/production/app', and"),
        ("registry.example/prod", "it names the repository 'registry.example/prod', and"),
        ("", "it names no repository, and 'registry.example/prod/**' is asked for"),
    ],
)
def test_the_repository_must_match_and_an_empty_one_never_does(repository: str, why: str | None) -> None:
    claim = OCI.by_cosign("p384", signature=9, repository=repository)
    outcome = decide(REPO, OCI.with_claims(claim), explain=True)
    assert (outcome.code is Code.REQUIREMENTS_MET) is (why is None)
    assert why is None or why in outcome.requirements[0].signers[0].why


def test_without_a_pattern_any_repository_counts() -> None:
    for repository in ("", "registry.example/dev/app"):
        assert decide(CI, OCI.with_claims(OCI.by_cosign("ci", repository=repository))).verdict is Verdict.ALLOW


def test_what_a_signature_says_of_itself_is_quoted_in_messages() -> None:
    image = OCI.with_claims(OCI.by_cosign("p384", repository="a\x1b[31m\n" + "x" * 500))
    (report,) = signatures(REPO, REPO.rules[0], image, {})
    assert report.why.isprintable()
    assert len(report.why) < 200


SHARED = (
    "version: 1\nsigners:\n  dev: {cosign: [ci.pub], annotations: {env: dev}}\n"
    f"  prod: {{cosign: [ci.pub], annotations: {{env: prod}}}}\n  alice: {{pgp: [{fingerprint('A')}]}}\n"
    "roles:\n  both: [dev, prod, alice]\nrules:\n"
)
DEV, PRODUCTION = frozenset({("env", "dev")}), frozenset({("env", "prod")})


def test_a_key_listed_twice_counts_for_the_signer_that_its_signature_fits() -> None:
    made = asking("[{any_of: [prod]}]", head=SHARED)
    assert decide(made, OCI.with_claims(OCI.by_cosign("ci", annotations=DEV))).code is Code.REQUIREMENTS_NOT_MET
    image = OCI.with_claims(OCI.by_cosign("ci", annotations=DEV), OCI.by_cosign("ci", annotations=PRODUCTION))
    outcome = decide(made, image)
    assert (outcome.code, outcome.signers) == (Code.REQUIREMENTS_MET, ("prod",))
    assert [each.signer for each in signatures(made, made.rules[0], image, {})] == ["dev", "prod"]


def test_a_signature_that_fits_no_signer_says_so_for_each() -> None:
    made = asking("[{any_of: [prod]}]", head=SHARED)
    (report,) = signatures(made, made.rules[0], OCI.with_claims(OCI.by_cosign("ci")), {})
    assert report.signer == "dev or prod"
    assert report.why == "it lacks the annotation 'env=dev' for dev; it lacks the annotation 'env=prod' for prod"


def test_two_signatures_of_one_key_with_the_annotations_of_two_people_are_one_approval() -> None:
    made = asking("[{approvals: {count: 2, of: both}}]", head=SHARED)
    image = OCI.with_claims(OCI.by_cosign("ci", annotations=DEV), OCI.by_cosign("ci", annotations=PRODUCTION))
    assert decide(made, image).missing[0].have == 1
    image = OCI.with_claims(OCI.by_cosign("ci", annotations=DEV), OCI.by("A"))
    assert decide(made, image).signers == ("dev", "alice")


# One person, one approval


def test_a_person_who_signs_with_cosign_and_pgp_is_one() -> None:
    image = OCI.with_claims(OCI.by("B"), OCI.by_cosign("site"))
    assert decide(TWO, image).missing[0].have == 1
    image = OCI.with_claims(OCI.by("B"), OCI.by_cosign("site"), OCI.by_cosign("ci"))
    assert decide(TWO, image).signers == ("bob", "ci")


def test_a_person_with_keys_of_four_sorts_counts_once() -> None:
    everything = (
        f"pgp: [{fingerprint('A')}], key: [p384.pem], cosign: [site.pub], "
        "certificate: {file: leaf.pem, intermediates: intermediate.pem, roots: root.pem, ocsp: off}"
    )
    bob = f"{{pgp: [{fingerprint('B')}]}}"
    head = f"version: 1\nsigners:\n  a: {{{everything}}}\n  b: {bob}\nroles: {{r: [a, b]}}\nrules:\n"
    made = asking("[{approvals: {count: 2, of: r}}]", head=head)
    mine = (OCI.by("A"), OCI.by_pem("p384"), OCI.by_certificate(certificate_id("leaf")), OCI.by_cosign("site"))
    assert decide(made, OCI.with_claims(*mine)).missing[0].have == 1
    assert decide(made, OCI.with_claims(*mine, OCI.by("B"))).signers == ("a", "b")
    for claim in mine:
        assert decide(made, OCI.with_claims(claim, OCI.by("B"))).code is Code.REQUIREMENTS_MET


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("key: [p256.pem]", "cosign: [p256.pem]"),
        (
            "key: [p256.pem]",
            "certificate: {file: leaf.pem, intermediates: intermediate.pem, roots: root.pem, ocsp: off}",
        ),
        (
            "cosign: [p256.pem]",
            "certificate: {file: leaf.pem, intermediates: intermediate.pem, roots: root.pem, ocsp: off}",
        ),
        (f"pgp: [{fingerprint('A')}]", "cosign: [p256.pem]"),
    ],
)
def test_one_key_under_two_names_is_never_two_people(one: str, other: str) -> None:
    signers = f"  a: {{{one}}}\n  b: {{{other}}}\n  c: {{cosign: [ci.pub]}}\n"
    head = f"version: 1\nsigners:\n{signers}roles: {{r: [a, b, c]}}\nrules:\n"
    made = policy(rule("[{approvals: {count: 2, of: r}}]"), head, ring(("A", [PEM_IDS["p256"]])))
    both = (OCI.by("A"), OCI.by_pem("p256"), OCI.by_certificate(certificate_id("leaf")), OCI.by_cosign("p256"))
    assert decide(made, OCI.with_claims(*both)).missing[0].have == 1
    assert decide(made, OCI.with_claims(*both, OCI.by_cosign("ci"))).code is Code.REQUIREMENTS_MET


def test_distinct_counts_a_cosign_signer_for_one_requirement() -> None:
    wants = "[{any_of: [ci, bob]}, {any_of: [ci]}]"
    assert decide(asking(wants), OCI.with_claims(OCI.by_cosign("ci"))).code is Code.REQUIREMENTS_MET
    distinct = asking(wants, "distinct: true")
    assert decide(distinct, OCI.with_claims(OCI.by_cosign("ci"))).code is Code.REQUIREMENTS_NOT_MET
    assert decide(distinct, OCI.with_claims(OCI.by_cosign("ci"), OCI.by_cosign("site"))).code is Code.REQUIREMENTS_MET


def test_anyone_does_not_include_cosign_keys_and_certificates() -> None:
    made = asking("[{approvals: {count: 1, of: anyone}}]")
    assert decide(made, OCI.with_claims(OCI.by_cosign("site"))).code is Code.REQUIREMENTS_NOT_MET
    cosigned = OCI.with_claims(OCI.by_cosign("approver"))
    assert "does not count" not in decide(made, cosigned).reason
    assert decide(made, OCI.with_claims(OCI.by("B"))).signers == ("bob",)


# What is covered


def test_an_object_beside_the_image_is_not_approved_by_cosign() -> None:
    outcome = decide(CI, EXTRA.with_claims(EXTRA.by_cosign("ci")))
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert outcome.reason == (
        "object 6 is not covered by any approval that rule 'it' asks for: "
        "a cosign signature covers the image's manifest, config and layers alone"
    )


def test_an_object_in_no_group_beside_the_image_is_not_approved() -> None:
    loose = Image({1: (1, 2, 3, 4, 5)}, loose=(6,), subject=(1, 2, 3), carriers=(4, 5))
    outcome = decide(CI, loose.with_claims(loose.by_cosign("ci")))
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "no signature can cover object 6" in outcome.reason


def test_cosign_covers_the_image_in_any_groups() -> None:
    """A group number is not signed, and a digest is: where the manifest leads is what the signature is over."""
    for groups, loose in (({}, (1, 2, 3, 4, 5)), ({1: (1, 2), 2: (3, 4, 5)}, ())):
        image = Image(groups, loose=loose, subject=(1, 2, 3), carriers=(4, 5), tied=False)
        assert decide(CI, image.with_claims(image.by_cosign("ci"))).code is Code.REQUIREMENTS_MET


def test_a_native_signature_does_not_cover_what_is_in_no_group_though_the_manifest_leads_there() -> None:
    image = Image({1: (1, 2, 4, 5)}, loose=(3,), subject=(1, 2, 3), carriers=(4, 5))
    outcome = decide(asking("[{any_of: [alice]}]"), image.with_claims(image.by("A"), image.by_cosign("ci")))
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "object 3 is not covered" in outcome.reason


def test_a_native_signature_that_is_asked_for_covers_what_cosign_does_not() -> None:
    made = asking("[{any_of: [ci]}, {any_of: [alice]}]")
    cosigned, native = EXTRA.by_cosign("ci"), EXTRA.by("A")
    assert decide(made, EXTRA.with_claims(cosigned, native)).code is Code.REQUIREMENTS_MET
    assert decide(made, EXTRA.with_claims(cosigned)).code is Code.REQUIREMENTS_NOT_MET
    assert decide(made, EXTRA.with_claims(native)).code is Code.REQUIREMENTS_NOT_MET


def test_a_native_signature_that_is_not_asked_for_covers_nothing() -> None:
    assert decide(CI, EXTRA.with_claims(EXTRA.by_cosign("ci"), EXTRA.by("A"))).code is Code.OBJECT_NOT_APPROVED


def test_a_person_who_signed_both_ways_covers_all_that_either_covers() -> None:
    made = asking("[{any_of: [bob]}]")
    assert decide(made, EXTRA.with_claims(EXTRA.by_cosign("site"))).code is Code.OBJECT_NOT_APPROVED
    assert decide(made, EXTRA.with_claims(EXTRA.by_cosign("site"), EXTRA.by("B"))).code is Code.REQUIREMENTS_MET
    loose = Image({1: (1, 2, 4, 5)}, loose=(3,), subject=(1, 2, 3), carriers=(4, 5))
    for claims in ((loose.by_cosign("site"),), (loose.by_cosign("site"), loose.by("B"))):
        assert decide(made, loose.with_claims(*claims)).code is Code.REQUIREMENTS_MET


def test_a_requirement_on_a_part_covers_its_part_beside_cosign() -> None:
    image = Image(
        {1: (1, 2, 3, 4, 5), 2: (6,)}, holds={6: {"partition", "overlay"}}, subject=(1, 2, 3), carriers=(4, 5)
    )
    made = asking("[{any_of: [ci]}, {any_of: [alice], objects: {groups: [2], holds: [overlay]}}]")
    cosigned, overlay = image.by_cosign("ci"), image.by("A", 2)
    assert decide(made, image.with_claims(cosigned, overlay)).code is Code.REQUIREMENTS_MET
    assert decide(made, image.with_claims(cosigned)).code is Code.REQUIREMENTS_NOT_MET
    untied = Image(image.groups, holds=image.holds, subject=(1, 2, 3), carriers=(4, 5), tied=False)
    assert decide(made, untied.with_claims(cosigned, overlay)).code is Code.OBJECT_NOT_APPROVED


@pytest.mark.parametrize("part", ["groups: [1]", "ids: [1, 2, 3]", "holds: [partition]"])
def test_a_cosign_signature_never_approves_a_part(part: str) -> None:
    made = asking(f"[{{any_of: [bob], objects: {{{part}}}}}]")
    for changes in ({}, {"header": True, "whole_group": True, "group": 1, "objects": frozenset({1, 2, 3, 4, 5})}):
        outcome = decide(made, OCI.with_claims(OCI.by_cosign("site", **changes)))
        assert outcome.code is Code.REQUIREMENTS_NOT_MET
        assert outcome.requirements[0].signers[0].why == "signed the image with cosign, which approves no part of one"


@pytest.mark.parametrize("require", ["[{any_of: [alice]}]", "[{any_of: [alice], objects: {holds: [partition]}}]"])
def test_in_a_file_of_several_oci_images_nothing_is_approved(require: str) -> None:
    made = asking(require)
    outcome = decide(made, SEVERAL.with_claims(SEVERAL.by("A")))
    assert outcome.code is Code.OBJECT_NOT_APPROVED
    assert "must hold exactly one image" in outcome.reason
    softened = asking(require, "mode: permissive")
    assert decide(softened, SEVERAL.with_claims(SEVERAL.by("A"))).verdict is Verdict.DENY


def test_a_file_of_several_oci_images_without_signatures_is_told_so() -> None:
    outcome = decide(CI, SEVERAL.with_claims())
    assert outcome.code is Code.REQUIREMENTS_NOT_MET
    assert outcome.reason.endswith("this OCI-SIF must hold exactly one image, else it is not certain what would run")
    failure = Failure(1, SignatureFormat.COSIGN, Finding("several-images", "2 images in the OCI index"))
    assert decide(CI, SEVERAL.with_claims(failures=(failure,))).reason.endswith("(2 images in the OCI index)")


def test_a_native_signature_approves_an_oci_sif_of_one_image() -> None:
    assert decide(asking("[{any_of: [alice]}]"), EXTRA.with_claims(EXTRA.by("A"))).code is Code.REQUIREMENTS_MET


# What no approval makes up for


@pytest.mark.parametrize(
    "claim",
    [
        OCI.by_cosign("approver"),
        OCI.by_cosign("approver", annotations=ENV),
        OCI.by_cosign("approver", repository="x", mismatch=Finding("blob", "other")),
    ],
    ids=["without its annotations", "with them", "over other content"],
)
def test_a_forbidden_or_withdrawn_signer_is_known_by_any_cosign_signature(claim) -> None:
    image = OCI.with_claims(OCI.by_cosign("ci"), claim)
    assert decide(asking("[{any_of: [ci]}]", "forbid: {signed_by: [prod]}"), image).code is Code.FORBIDDEN
    made = asking("[{any_of: [ci]}]", head=HEAD.replace("rules:", "withdrawn: {signers: [prod]}\nrules:"))
    outcome = withdrawn(made, image)
    assert outcome is not None
    assert outcome.code is Code.WITHDRAWN
    assert "prod" in outcome.reason


def test_a_cosign_signature_over_other_content_denies_with_any_annotations() -> None:
    changed = OCI.by_cosign(
        "approver", signature=9, objects=frozenset(), mismatch=Finding("blob", "layer 1 was changed")
    )
    outcome = decide(CI, OCI.with_claims(OCI.by_cosign("ci"), changed))
    assert outcome.code is Code.TAMPERED
    assert "signature 9 by prod is over other content than the image holds: layer 1 was changed" in outcome.reason


def test_a_withdrawn_manifest_denies_by_its_digest() -> None:
    head = HEAD.replace("rules:", f"withdrawn: {{manifests: ['{MANIFEST}']}}\nrules:")
    made = asking("[{any_of: [ci]}]", head=head)
    assert made.withdraws_objects
    others = {number: f"sha256:{number:064}" for number in (1, 2, 4, 5)}
    outcome = withdrawn(made, OCI.with_claims(OCI.by_cosign("ci"), digests=others | {3: MANIFEST}))
    assert outcome is not None
    assert outcome.code is Code.WITHDRAWN
    assert withdrawn(made, OCI.with_claims(digests=others | {3: "sha256:3"})) is None


# Formats that are not read

NEW = Failure(7, SignatureFormat.COSIGN, Finding("unsupported-signature-format", "sign it in the older format"))


def test_a_signature_in_the_newer_cosign_format_is_named_when_it_may_be_what_is_missing() -> None:
    outcome = decide(CI, OCI.with_claims(failures=(NEW,)))
    assert outcome.code is Code.UNSUPPORTED_SIGNATURE_FORMAT
    assert outcome.reason == (
        "not signed by ci yet (0 of 1); signature 7 may be that, and is not read: sign it in the older format"
    )
    assert outcome.missing[0].could_sign == ("ci",)


def test_it_is_not_named_when_no_signer_who_could_sign_uses_cosign() -> None:
    made = asking("[{any_of: [alice]}]")
    assert decide(made, OCI.with_claims(failures=(NEW,))).code is Code.REQUIREMENTS_NOT_MET
    made = asking("[{all_of: [alice, ci]}]")
    signed = OCI.with_claims(OCI.by_cosign("ci"), failures=(NEW,))
    assert decide(made, signed).code is Code.REQUIREMENTS_NOT_MET
    made = asking("[{any_of: [bob], objects: {holds: [partition]}}]")
    assert decide(made, OCI.with_claims(failures=(NEW,))).code is Code.REQUIREMENTS_NOT_MET
    other = Failure(7, SignatureFormat.COSIGN, Finding("unknown-key", "nobody"))
    assert decide(CI, OCI.with_claims(failures=(other,))).code is Code.REQUIREMENTS_NOT_MET


def test_it_does_not_matter_when_the_requirements_are_met() -> None:
    assert decide(CI, OCI.with_claims(OCI.by_cosign("ci"), failures=(NEW,))).code is Code.REQUIREMENTS_MET


def test_a_permissive_rule_softens_it_as_it_does_what_is_not_met() -> None:
    outcome = decide(asking("[{any_of: [ci]}]", "mode: permissive"), OCI.with_claims(failures=(NEW,)))
    assert (outcome.code, outcome.would) == (Code.PERMISSIVE, Code.UNSUPPORTED_SIGNATURE_FORMAT)


# Explaining


def test_who_has_only_cosign_keys_is_not_said_to_be_able_to_sign_a_plain_sif_or_a_part() -> None:
    made = asking("[{approvals: {count: 1, of: reviewers}}]")
    assert decide(made, OCI.with_claims()).missing[0].could_sign == ("alice", "bob", "ci", "prod")
    assert decide(made, Image().with_claims()).missing[0].could_sign == ("alice", "bob")
    made = asking("[{approvals: {count: 1, of: reviewers}, objects: {holds: [partition]}}]")
    assert decide(made, OCI.with_claims()).missing[0].could_sign == ("alice", "bob")


def test_what_a_cosign_signature_covers_is_said() -> None:
    image = OCI.with_claims(OCI.by_cosign("ci", signature=4), OCI.by_cosign("p256", signature=5))
    known, unknown = signatures(CI, CI.rules[0], image, {})
    assert (known.signer, known.counts) == ("ci", True)
    assert known.why == "it covers the image's manifest, config and layers (objects 1, 2, 3)"
    assert (unknown.signer, unknown.counts) == (COSIGN_IDS["p256"], False)
    report = decide(CI, image, explain=True).requirements[0]
    assert report.signers[0].why == "signed (signature 4)"


def test_a_good_signature_and_one_that_does_not_fit_are_told_apart() -> None:
    image = OCI.with_claims(
        OCI.by_cosign("approver", signature=4), OCI.by_cosign("approver", signature=5, annotations=ENV)
    )
    report = decide(PROD, image, explain=True).requirements[0]
    assert report.signers[0].why == "signed (signature 5)"
    assert [each.counts for each in signatures(PROD, PROD.rules[0], image, {})] == [False, True]


def test_the_example_of_the_documentation_loads() -> None:
    text = HEAD + rule("[{any_of: [prod, repo]}, {approvals: {count: 2, of: reviewers}}]", "distinct: true")
    assert load_text(text).errors == ()
