"""A described image is to the engine what a real one is: the same claims, and the same answers."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from eclctl.model import Claim, Code, Verification
from eclctl.policytest.cases import Supposed
from eclctl.terms import Kind, SignatureFormat, SignerKind
from eclctl.verify.examine import examine
from tests.helpers.policy_tests import NOT_MET, case, errors, loaded, one, results
from tests.helpers.sifbuilder import opened
from tests.helpers.support import CORPUS, NOW

GROUPS = "groups: {1: [deffile, generic-json, [primary, squashfs]], 2: [[overlay, squashfs], sbom]}\n"
LEGACY = "groups: {1: [deffile, [primary, squashfs]]}\n"
LEGACY_2 = "groups: {1: [deffile, [primary, squashfs]], 2: [[overlay, squashfs]]}\n"
NATIVE_OCI = (
    "kind: oci-sif\ngroups: {1: [oci-blob, oci-blob, oci-blob, oci-blob, oci-blob, oci-blob, oci-root-index]}\n"
)

# Real images of the corpus, and the descriptions that must come to the same.
SAME = {
    "images/one-unsigned.sif": "signed_by: []",
    "images/one-builder.sif": "signed_by: [builder]",
    "images/one-builder+scanner+approver.sif": "signed_by: [builder, scanner, approver]",
    "images/one-builder-twice.sif": "signed_by: [builder]\nsignatures: [builder]",
    "images/one-builder+mallory.sif": "signatures: [builder, {unknown: true}]",
    "images/one-revoked.sif": "signatures: [{by: F5A4C20B8C7054A68A09D71A88B82E9124DD2498}]",
    "images/gpg-subkey.sif": "signed_by: [subkey]",
    "images/one-object1.sif": "signatures: [{by: builder, objects: [1]}]",
    "images/one-objects1,3.sif": "signatures: [{by: builder, objects: [1, 3]}]",
    "images/one-dsse-p256.sif": "signatures: [{by: robot, with: key}]",
    "images/two-builder.sif": GROUPS + "signed_by: [builder]",
    "images/two-builder+g1-approver.sif": GROUPS + "signatures: [builder, {by: approver, groups: [1]}]",
    "images/two-group1-builder.sif": GROUPS + "signatures: [{by: builder, groups: [1]}]",
    "images/ungrouped-unsigned.sif": "ungrouped: [generic]",
    "legacy/group.sif": LEGACY + "signatures: [{by: builder, legacy: true}]",
    "legacy/group-data-changed.sif": LEGACY + "signatures: [{by: builder, legacy: true, tampered: true}]",
    "legacy/all-objects.sif": LEGACY + "signatures: [{by: builder, legacy: true, objects: [1, 2]}]",
    "legacy/object-primary.sif": LEGACY + "signatures: [{by: builder, legacy: true, objects: [2]}]",
    "legacy/two-signers.sif": LEGACY + "signatures: [{by: builder, legacy: true}, {by: scanner, legacy: true}]",
    "legacy/two-groups.sif": LEGACY_2 + "signatures: [{by: builder, legacy: true}]",
    "legacy/two-groups-one-signed.sif": LEGACY_2 + "signatures: [{by: builder, legacy: true, groups: [1]}]",
    "oci/app-unsigned.oci.sif": "kind: oci-sif\nsigned_by: []",
    "oci-native/app-pgp-builder.oci.sif": "kind: oci-sif\nsigned_by: [builder]",
}


def described(folder: Path, body: str) -> Verification:
    """The facts of the image that a test describes."""
    made = loaded(folder, one(body))
    assert made.errors == ()
    image = case(made).image
    assert isinstance(image, Supposed)
    return image.verification


def comparable(found: Verification) -> object:
    """Facts without the names and numbers that no policy asks about: those of signatures, and times."""
    objects = [(item.id, item.group, item.holds) for item in found.objects]
    oci = None if found.oci is None else (found.oci.subject, found.oci.carriers)
    claims = sorted(map(repr, map(_claim, found.claims)))
    return found.kind, objects, dict(found.groups), found.tied, oci, claims, [each.format for each in found.failures]


def _claim(claim: Claim) -> object:
    return (
        (claim.format, claim.signer, claim.key, claim.group, sorted(claim.objects)),
        (claim.whole_group, claim.header, claim.mismatch is None, claim.created is None),
    )


@pytest.mark.parametrize("image", SAME)
def test_a_description_gives_the_facts_of_the_real_image(image: str, tmp_path: Path) -> None:
    made = loaded(tmp_path, one(SAME[image]))
    assert made.snapshot is not None
    with opened(CORPUS / image) as fd:
        real = examine(fd, made.snapshot.store)
    supposed = case(made).image
    assert isinstance(supposed, Supposed)
    assert comparable(supposed.verification) == comparable(real)


RULES = """\
rules:
  - name: legacy
    match: {paths: [/legacy/**]}
    require: [{any_of: [builder]}]
    legacy_signatures: accept
  - name: parts
    match: {paths: [/parts/**]}
    require:
      - {any_of: [builder], objects: {groups: [1], holds: [primary]}}
      - {any_of: [approver], objects: {groups: [1], holds: [primary]}}
      - {any_of: [builder], objects: {groups: [2], holds: [overlay]}}
  - name: strict
    match: {paths: [/strict/**]}
    require: [{any_of: [builder]}]
    unknown_signatures: deny
    forbid: {signed_by: [scanner]}
  - name: anyone
    match: {paths: [/anyone/**], kinds: [sif, oci-sif]}
    require: [{approvals: {count: 1, of: anyone}}]
"""


@pytest.mark.parametrize("rule", ["legacy", "parts", "strict", "anyone"])
def test_a_description_gets_the_answers_of_the_real_image(rule: str, tmp_path: Path) -> None:
    tests = ""
    for number, (image, body) in enumerate(SAME.items()):
        for name, what in ((f"r{number}", f"image: {CORPUS / image}"), (f"d{number}", body)):
            tests += one(f"path: /{rule}/a.sif\n{what}", name=name)
    found = [result.decision.outcome for result in results(tmp_path, tests, RULES)]
    assert len(found) == 2 * len(SAME)
    for real, supposed in zip(found[::2], found[1::2], strict=True):
        assert (supposed.code, supposed.rule, supposed.signers, supposed.missing) == (
            *(real.code, real.rule, real.signers, real.missing),
        )


def test_a_cosign_claim_covers_the_image_with_what_the_signer_asks_for(tmp_path: Path) -> None:
    found = described(tmp_path, "kind: oci-sif\nsigned_by: [ci]")
    (claim,) = found.claims
    assert (claim.format, claim.group, claim.header) == (SignatureFormat.COSIGN, None, False)
    assert claim.objects == frozenset({1, 2, 3}) == (found.oci.subject if found.oci else None)
    assert (dict(claim.annotations), claim.repository) == ({"env": "prod"}, "registry.example/prod/app")


def test_a_cosign_claim_can_lack_what_the_signer_asks_for(tmp_path: Path) -> None:
    rules = "rules: [{name: r, match: {kinds: [oci-sif]}, require: [{any_of: [ci]}]}]\n"
    tests = "".join(
        one(f"kind: oci-sif\nsignatures: [{{by: ci{more}}}]", name=f"t{number}")
        for number, more in enumerate(["", ", annotations: {env: test}", ", repository: elsewhere.example/prod/app"])
    )
    codes = [result.decision.code for result in results(tmp_path, tests, rules)]
    assert codes == [Code.REQUIREMENTS_MET, Code.REQUIREMENTS_NOT_MET, Code.REQUIREMENTS_NOT_MET]


def test_a_signer_with_both_sorts_signs_an_oci_image_natively_unless_the_test_says_cosign(tmp_path: Path) -> None:
    found = described(tmp_path, "kind: oci-sif\nsignatures: [robot, {by: robot, with: cosign}]")
    assert {claim.format for claim in found.claims} == {SignatureFormat.DSSE, SignatureFormat.COSIGN}
    claims = described(tmp_path / "other", "kind: oci-sif\nsigned_by: [vendor]").claims
    assert SignerKind.COSIGN not in {each.signer.kind for each in claims}


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        ("", Code.REQUIREMENTS_MET),
        (", expired: true", Code.REQUIREMENTS_NOT_MET),
        (", revoked: true", Code.REQUIREMENTS_NOT_MET),
        (", legacy: true", Code.REQUIREMENTS_NOT_MET),
        (", objects: [1, 3]", Code.REQUIREMENTS_NOT_MET),
        (", tampered: true", Code.TAMPERED),
        (", age: 1w", Code.REQUIREMENTS_MET),
        (", age: 9999d", Code.REQUIREMENTS_NOT_MET),  # from before there was the key
    ],
)
def test_what_is_said_of_a_signature_decides(flags: str, code: Code, tmp_path: Path) -> None:
    rules = "rules: [{name: r, require: [{any_of: [builder]}]}]\n"
    (result,) = results(tmp_path, one(f"signatures: [{{by: builder{flags}}}]"), rules)
    assert result.decision.code is code


def test_a_revoked_certificate_counts_for_nothing_and_responders_say_so(tmp_path: Path) -> None:
    rules = "rules: [{name: r, require: [{any_of: [release]}]}]\n"
    bodies = (
        "signed_by: [release]",
        "signatures: [{by: release, revoked: true}]",
        "ocsp: unavailable\nsigned_by: [release]",
    )
    tests = "".join(one(body, name=f"t{number}") for number, body in enumerate(bodies))
    good, revoked, unasked = (result.decision for result in results(tmp_path, tests, rules))
    assert good.code is Code.REQUIREMENTS_MET
    assert revoked.code is unasked.code is Code.REQUIREMENTS_NOT_MET
    assert "it is revoked, as the test supposes" in revoked.reason
    assert "not known to be good" in unasked.reason


def test_of_a_key_with_several_names_only_the_one_that_signs_is_supposed_to_be_revoked(tmp_path: Path) -> None:
    """The certificate of `release` is over the key of `robot`, whose signature a DSSE signature is as well."""
    rules = "".join(
        f"  - {{name: {who}, match: {{paths: [/{who}/*]}}, require: [{{any_of: [{who}]}}]}}\n"
        for who in ("release", "robot")
    )
    body = "signatures: [{by: release, revoked: true}]"
    tests = "".join(one(f"path: /{who}/a\n{body}", name=who) for who in ("release", "robot"))
    found = [result.decision.code for result in results(tmp_path, tests, "rules:\n" + rules)]
    assert found == [Code.REQUIREMENTS_NOT_MET, Code.REQUIREMENTS_MET]


def test_a_key_that_is_really_expired_counts_for_nothing_however_it_is_described(tmp_path: Path) -> None:
    rules = "rules: [{name: r, require: [{any_of: [expired]}]}]\n"
    (result,) = results(tmp_path, one("signed_by: [expired]", NOT_MET), rules)
    assert result.passed
    assert "expired" in result.decision.reason


def test_a_signature_is_for_the_purposes_that_it_states(tmp_path: Path) -> None:
    body = (
        "kind: oci-sif\nsignatures: [builder, {by: builder, purpose: scan}, {by: builder, purpose: [scan, build]}, "
        "{by: ci, purpose: scan}, {by: ci, annotations: {purpose: build}}, robot]"
    )
    claims = described(tmp_path, body).claims
    assert [set(claim.purposes) for claim in claims[:5]] == [set(), {"scan"}, {"scan", "build"}, {"scan"}, {"build"}]
    assert dict(claims[3].annotations) == {"env": "prod", "purpose": "scan"}
    assert not any(claim.purposes for claim in claims[5:])


def test_stages_of_a_chain_ask_for_purposes(tmp_path: Path) -> None:
    rules = (
        "rules:\n  - name: r\n    chain:\n      - build: {any_of: [builder]}\n"
        "      - scan: {any_of: [scanner], purpose: scan}\n"
    )
    bodies = ("signed_by: [builder, scanner]", "signatures: [builder, {by: scanner, purpose: scan}]")
    tests = "".join(one(body, name=f"t{number}") for number, body in enumerate(bodies))
    tests += one(
        "signed_by: [scanner]", "{decision: deny, code: requirements-not-met, stages: [build, scan]}", name="no"
    )
    found = results(tmp_path, tests, rules)
    assert [result.decision.code for result in found[:2]] == [Code.REQUIREMENTS_NOT_MET, Code.REQUIREMENTS_MET]
    assert found[2].passed


def test_signatures_are_made_at_the_time_of_the_test(tmp_path: Path) -> None:
    (claim,) = described(tmp_path, "signatures: [{by: builder, age: 2d}]").claims
    assert claim.created == NOW - timedelta(days=2)


def test_digests_can_be_given_so_that_what_is_withdrawn_is_found(tmp_path: Path) -> None:
    digest = "sha256:" + "ab" * 32
    rules = f"withdrawn: {{objects: [{digest}]}}\nrules: [{{name: r, require: [{{any_of: [builder]}}]}}]\n"
    tests = one(f"signed_by: [builder]\ndigests: {{3: {digest.upper().replace('SHA', 'sha')}}}")
    tests += one("signed_by: [builder]", name="other")
    assert [result.decision.code for result in results(tmp_path, tests, rules)] == [
        Code.WITHDRAWN,
        Code.REQUIREMENTS_MET,
    ]


@pytest.mark.parametrize("kind", [Kind.SANDBOX, Kind.SQUASHFS, Kind.EXT3, Kind.OTHER])
def test_kinds_without_signatures_are_judged_by_kind(kind: Kind, tmp_path: Path) -> None:
    rules = f"rules: [{{name: r, match: {{kinds: [{kind}]}}, decision: allow}}]\n"
    tests = one(f"kind: {kind}") + one("kind: sif\nsigned_by: []", name="sif")
    assert [result.decision.code for result in results(tmp_path, tests, rules)] == [Code.RULE_ALLOW, Code.NO_RULE]


WRONG = {
    "signed_by: [bilder]": "unknown signer 'bilder' (did you mean 'builder'?)",
    "signatures: [{by: builder, tampred: true}]": "unknown key 'tampred' in a signature of test 'it' (did you mean",
    "signatures: [{}]": "a signature of test 'it' needs 'by' (or write unknown: true)",
    "signatures: [{unknown: true, by: builder}]": "by of a signature by an unknown key says nothing (remove it)",
    "signatures: [{by: builder, with: cosign}]": "signer 'builder' has no key of the sort cosign (they have: pgp)",
    "signed_by: [ci]": "signer 'ci' has no key that can sign an image of kind sif (they have: cosign)",
    "signatures: [{by: robot, with: cosign}]": "only images of the kind oci-sif carry cosign signatures",
    "signatures: [{by: robot, expired: true}]": "expired says nothing of a signature by a PEM key",
    "signatures: [{by: robot, revoked: true}]": "revoked says nothing of a signature by a PEM key",
    "signatures: [{by: robot, purpose: scan}]": "purpose says nothing of a signature by a PEM key (it cannot say so",
    "signatures: [{by: builder, purpose: 'a b'}]": "'a b' is no purpose (1 to 32 of",
    "kind: oci-sif\nsignatures: [{by: ci, purpose: [a, b]}]": "a cosign signature states one purpose (write one word)",
    "signatures: [{by: release, age: 1d}]": "age says nothing of a signature by a certificate",
    "signatures: [{by: quiet, revoked: true}]": "the policy does not ask whether the certificate of quiet is revoked",
    "signatures: [{by: builder, annotations: {a: b}}]": "annotations says nothing of a signature by a PGP key",
    "kind: oci-sif\nsignatures: [{by: ci, groups: [1]}]": "groups says nothing of a signature by a cosign key",
    "signatures: [{by: builder, groups: [2]}]": "the image has no group 2 that can be signed (there are: 1)",
    "signatures: [{by: builder, objects: [4]}]": "the image has no object 4 that can be signed (there are: 1, 2, 3)",
    "signatures: [{by: builder, objects: [1], groups: [1]}]": "a signature of test 'it' has both groups and objects",
    GROUPS + "signatures: [{by: builder, objects: [1, 4]}]": "one signature covers objects of one group alone",
    "groups: {1: [systm]}": "unknown word for an object 'systm' (did you mean 'system'?)",
    "groups: {}": "groups of test 'it' is an empty mapping",
    "groups: {0: [primary]}": "a group of test 'it' must be a number from 1 to",
    "digests: {9: sha256:00}": "test 'it' has no object 9 (its objects are 1 to 3, as they are written)",
    "digests: {3: sha256:00}": "'sha256:00' is no digest (sha256: and 64 hex digits)",
    "kind: sandbox\nsigned_by: [builder]": "test 'it' is of kind sandbox, which has neither groups nor signatures",
    "kind: sandbx": "kind of test 'it' must be one of",
    "signed_by: [security]": "unknown signer 'security'",
}


@pytest.mark.parametrize("body", WRONG)
def test_what_cannot_be_of_an_image_is_an_error_with_its_place(body: str, tmp_path: Path) -> None:
    found = errors(tmp_path, one(body))
    assert len(found) == 1
    line, column, message = found[0].split(":", 2)
    assert line.isdigit()
    assert column.isdigit()
    assert message.strip().startswith(WRONG[body])
