"""cosign signatures as claims beside native ones, and the mirror of the reference's `verify --cosign`."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from eclctl.model import Claim, OciContent, Verification
from eclctl.signature.openpgp import Keyring
from eclctl.terms import Finding, KeyRef, Kind, SignatureFormat, SignerKind
from eclctl.trust.keyring import KeyStore, judge_claim
from eclctl.verify import hashing
from eclctl.verify.cosign import MAX_SIGNATURES, CosignReport, verify_cosign
from eclctl.verify.examine import examine
from eclctl.verify.hashing import HashPool
from tests.helpers.ocibuilder import (
    BUNDLE,
    SIGNATURE,
    SQUASHFS_TYPE,
    OciBuilder,
    cosign_key,
    cosign_store,
    digest_of,
    oci_sample,
    payload,
)
from tests.helpers.sifbuilder import DATA, GENERIC, SifBuilder, corpus_pgp_key, corpus_store, opened, pem_key, sample

KEY, OTHER = cosign_key("ci"), cosign_key("other")
STORE = cosign_store(KEY)
OTHER_DIGEST = "sha256:" + "cd" * 32


def examined(image: OciBuilder | SifBuilder, store: KeyStore = STORE, **options) -> Verification:
    with opened(image.build()) as fd:
        return examine(fd, store, **options)


def verified(image: OciBuilder | SifBuilder, *keys) -> CosignReport:
    with opened(image.build()) as fd:
        return verify_cosign(fd, [key.public for key in keys or (KEY,)])


def codes(verification: Verification) -> list[str]:
    return [failure.finding.code for failure in verification.failures]


def test_a_claim_covers_manifest_config_and_layers_of_the_one_image():
    image = oci_sample(KEY)
    found = examined(image)
    name = f"cosign:{KEY.public.id}"
    assert found.kind is Kind.OCI_SIF
    assert found.claims == (
        Claim(
            signature=5,
            format=SignatureFormat.COSIGN,
            signer=KeyRef(SignerKind.COSIGN, name),
            key=name,
            group=None,
            objects=frozenset({1, 2, 3, 4}),
            whole_group=False,
            header=False,
        ),
    )
    assert found.failures == ()
    assert found.oci == OciContent(image.image, frozenset({1, 2, 3, 4}), frozenset({5, 6, 7, 8}))
    assert judge_claim(STORE, found.claims[0], datetime(2026, 1, 1, tzinfo=UTC)) is None


def test_annotations_and_repository_of_a_payload_are_facts():
    builder = oci_sample()
    builder.sign(KEY, payload(builder.image, reference="registry.example/app", env="prod", timestamp=7))
    (claim,) = examined(builder).claims
    assert claim.annotations == {("env", "prod")}
    assert claim.repository == "registry.example/app"


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa", "ed25519"])
def test_every_kind_of_key_signs_an_image(kind):
    key = cosign_key("ci", kind)
    image = oci_sample(key)
    assert len(examined(image, cosign_store(OTHER, key)).claims) == 1
    assert verified(oci_sample(key), key).verified


def test_two_signatures_over_one_payload_are_two_claims_and_one_read():
    builder = oci_sample(KEY, OTHER)
    found = examined(builder, cosign_store(KEY, OTHER))
    assert [claim.signature for claim in found.claims] == [5, 5]
    assert {claim.signer.id for claim in found.claims} == {f"cosign:{key.public.id}" for key in (KEY, OTHER)}


def test_a_key_for_envelopes_verifies_no_cosign_signature_and_the_other_way_round():
    envelopes = KeyStore.of(Keyring.parse(), (KEY.public,))
    found = examined(oci_sample(KEY), envelopes)
    assert (found.claims, codes(found)) == ((), ["unknown-key"])
    signed = sample()
    signed.sign_dsse(pem_key("p256"))
    found = examined(signed, cosign_store(pem_key("p256")))
    assert (found.claims, codes(found)) == ((), ["unknown-key"])


def test_a_signature_that_nobody_verifies_is_a_failure_and_its_image_is_known_all_the_same():
    found = examined(oci_sample(OTHER))
    assert (found.claims, codes(found)) == ((), ["unknown-key"])
    assert found.failures[0].signature == 5
    assert found.oci is not None


def test_no_data_is_hashed_unless_a_key_approved_the_image():
    assert examined(oci_sample(OTHER)).digests == {}
    assert set(examined(oci_sample(KEY)).digests) == {1, 2, 3, 5, 6, 7}


def test_a_payload_for_another_image_is_over_other_content():
    builder = oci_sample()
    builder.sign(KEY, payload(OTHER_DIGEST))
    found = examined(builder)
    (claim,) = found.claims
    assert claim.mismatch is not None
    assert claim.mismatch.code == "other-image"
    assert claim.objects == frozenset()
    assert found.digests == {}


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_changed_layer_config_or_manifest_makes_the_claim_a_mismatch(number):
    builder = oci_sample(KEY)
    entry = builder.sif.entries[number]
    entry.data = entry.data[:-1] + bytes([entry.data[-1] ^ 1])
    (claim,) = examined(builder).claims
    assert claim.mismatch is not None
    assert claim.mismatch.code == "data-changed"
    assert claim.objects == frozenset()


def test_a_layer_that_is_gone_makes_the_claim_a_mismatch_and_the_file_no_image():
    builder = oci_sample(KEY)
    del builder.sif.entries[0]
    found = examined(builder)
    assert found.claims[0].mismatch is not None
    assert found.claims[0].mismatch.code == "blob-missing"
    assert found.oci is None
    assert codes(found) == ["blob-missing"]
    assert found.digests == {}


def change_payload(builder: OciBuilder) -> None:
    entry = builder.sif.entries[4]
    entry.data = entry.data.replace(b"sha256", b"sha257")


def remove_annotation(builder: OciBuilder) -> None:
    del builder.signatures[0]["annotations"]


def break_annotation(builder: OciBuilder) -> None:
    builder.signatures[0]["annotations"][SIGNATURE] += "!"


def lie_about_payload_size(builder: OciBuilder) -> None:
    builder.signatures[0]["size"] += 1


def lose_payload(builder: OciBuilder) -> None:
    builder.signatures[0]["digest"] = OTHER_DIGEST


BROKEN = [
    (change_payload, "data-changed"),
    (remove_annotation, "bad-signature"),
    (break_annotation, "bad-signature"),
    (lie_about_payload_size, "wrong-size"),
    (lose_payload, "blob-missing"),
]


@pytest.mark.parametrize(("change", "code"), BROKEN)
def test_a_broken_signature_is_a_failure(change, code):
    builder = oci_sample(KEY)
    change(builder)
    found = examined(builder)
    assert (found.claims, codes(found)) == ((), [code])


@pytest.mark.parametrize("text", [b"", b"{}", b"[1]", payload(OTHER_DIGEST, kind="atomic container signature")])
def test_a_signed_text_that_is_no_payload_is_a_failure(text):
    builder = oci_sample()
    builder.sign(KEY, text)
    found = examined(builder)
    assert (found.claims, codes(found)) == ((), ["bad-payload"])


def test_a_good_signature_beside_broken_ones_counts():
    builder = oci_sample(OTHER)
    builder.sign(OTHER, b"no payload")
    builder.sign(KEY)
    found = examined(builder)
    assert codes(found) == ["unknown-key", "unknown-key"]
    assert [claim.mismatch for claim in found.claims] == [None]


def test_a_damaged_carrier_carries_nothing():
    builder = oci_sample(KEY)
    finished = builder.finish()
    config = finished.entries[5]
    config.data = bytes(len(config.data))
    found = examined(finished)
    assert found.claims[0].mismatch is None
    assert found.oci is not None
    assert found.oci.carriers == {5, 7, 8}


def test_what_nothing_points_at_is_neither_subject_nor_carrier():
    builder = oci_sample(KEY)
    builder.blob(b"unreachable")
    builder.sif.partition(b"hsqs", part=DATA)
    builder.sif.add(b"anything", GENERIC)
    found = examined(builder)
    assert found.oci is not None
    assert {item.id for item in found.objects} - found.oci.subject - found.oci.carriers == {6, 7, 8}


def test_two_images_are_no_image_and_no_signature_counts():
    builder = oci_sample(KEY)
    builder.add_image(b"another")
    found = examined(builder)
    assert (found.claims, found.oci) == ((), None)
    assert codes(found) == ["several-images", "other-image"]


def test_signatures_for_no_digest_are_nobody_s_when_there_is_no_image():
    builder = oci_sample()
    builder.add_image(b"another")
    builder.entry(builder.manifest([builder.sign(KEY)], b"[]"), "_cosign:.sig")
    builder.signatures = []
    assert examined(builder).claims == ()


def test_two_cosign_manifests_for_one_image_count_for_nothing():
    builder = oci_sample(KEY)
    layer = builder.sign(KEY)
    builder.entry(builder.manifest([layer], b"[]"), builder.signature_name)
    found = examined(builder)
    assert (found.claims, codes(found)) == ((), ["several-manifests"] * 2)
    assert found.oci is not None


def test_signatures_of_an_image_that_is_not_there_are_passed_over_and_said():
    builder = oci_sample(KEY)
    layer = builder.content(payload(OTHER_DIGEST), "application/vnd.dev.cosign.simplesigning.v1+json")
    builder.entry(builder.manifest([layer], b"[]"), f"_cosign:{OTHER_DIGEST.replace(':', '-')}.sig")
    found = examined(builder)
    assert codes(found) == ["other-image"]
    assert [claim.mismatch for claim in found.claims] == [None]
    assert found.oci is not None
    assert {item.id for item in found.objects} == found.oci.subject | found.oci.carriers


def test_a_bundle_is_a_failure_of_its_own_code():
    builder = oci_sample()
    builder.entry(builder.manifest([builder.content(b"{}b", BUNDLE)]), builder.signature_name)
    found = examined(builder)
    assert codes(found) == ["unsupported-signature-format"]
    assert found.failures[0].format is SignatureFormat.COSIGN
    report = verified(builder_with_bundle())
    assert report.error == Finding("no-valid-signatures", "no valid signatures found")
    assert [each.error and each.error.code for each in report.signatures] == ["unsupported-signature-format"]


def builder_with_bundle() -> OciBuilder:
    builder = oci_sample()
    builder.entry(builder.manifest([builder.content(b"{}b", BUNDLE)]), builder.signature_name)
    return builder


def test_only_so_many_signatures_are_looked_at():
    builder = oci_sample(OTHER)
    builder.signatures *= MAX_SIGNATURES + 5
    builder.sign(KEY)
    found = examined(builder)
    assert found.claims == ()
    assert codes(found) == ["too-many", *["unknown-key"] * MAX_SIGNATURES]


def test_a_native_signature_and_a_cosign_signature_are_claims_of_one_verification():
    builder = oci_sample(KEY)
    finished = builder.finish()
    finished.sign_pgp(corpus_pgp_key("builder"))
    store = KeyStore.of(corpus_store("site-ring").pgp, cosign=(KEY.public,))
    found = examined(finished, store)
    native, cosigned = found.claims
    assert (native.format, native.whole_group, native.objects) == (SignatureFormat.PGP, True, frozenset(range(1, 9)))
    assert (cosigned.format, cosigned.objects) == (SignatureFormat.COSIGN, frozenset(range(1, 5)))
    assert (native.mismatch, cosigned.mismatch) == (None, None)


def test_an_image_that_both_kinds_cover_is_read_once(monkeypatch):
    builder = OciBuilder()
    builder.add_image(bytes(hashing.INLINE + 1), bytes(hashing.INLINE + 2))
    builder.sign(KEY)
    finished = builder.finish()
    for name in ("builder", "scanner"):
        finished.sign_pgp(corpus_pgp_key(name))
    extents = []
    real = hashing._hash_extent
    monkeypatch.setattr(
        hashing, "_hash_extent", lambda fd, at, size, *rest: extents.append(size) or real(fd, at, size, *rest)
    )
    store = KeyStore.of(corpus_store("site-ring").pgp, cosign=(KEY.public,))
    with HashPool(1) as pool:
        found = examined(finished, store, pool=pool, digests=True)
    assert len(found.claims) == 3
    assert sorted(extents) == [hashing.INLINE + 1, hashing.INLINE + 2]


def test_a_plain_sif_has_no_oci_content():
    assert examined(sample()).oci is None


def test_the_report_names_image_and_payloads():
    builder = oci_sample(KEY, OTHER, KEY)
    report = verified(builder)
    assert report.verified
    assert (report.blobs, report.digest, report.associated) == (7, builder.image, 3)
    assert len(report.payloads) == 2
    assert [(each.id, each.valid, each.objects) for each in report.signatures] == [
        (5, True, (1, 2, 3, 4)),
        (5, False, ()),
        (5, True, (1, 2, 3, 4)),
    ]
    assert report.signatures[0].signer == KeyRef(SignerKind.COSIGN, KEY.public.id)
    assert len(verified(oci_sample(KEY, OTHER), KEY, OTHER).payloads) == 2


def test_every_damaged_blob_is_named_and_the_first_is_the_error():
    builder = oci_sample(KEY)
    builder.blob(b"nothing points at this", stated=OTHER_DIGEST)
    expected = []
    for entry in (builder.sif.entries[1], builder.sif.entries[5]):
        if entry.id == 2:
            entry.data = b"changed!" + entry.data[8:]
        stated = entry.extra.decode()
        expected.append(f'OCI blob digest mismatch: expected "{stated}", found "{digest_of(entry.data)}"')
    report = verified(builder)
    assert [finding.message for finding in report.damaged] == expected
    assert report.error == report.damaged[0]
    assert report.payloads == ()
    assert [each.error for each in report.signatures] == [report.error]


def test_a_blob_that_states_no_digest_is_an_error():
    builder = oci_sample(KEY)
    builder.blob(b"nothing points at this", stated="sha256:../x")
    report = verified(builder)
    assert report.error is not None
    assert report.error.message == "failed to fetch digest: object 6 states none"


def test_a_payload_for_another_image_is_no_valid_signature():
    builder = oci_sample()
    builder.sign(KEY, payload(OTHER_DIGEST))
    report = verified(builder)
    assert report.error is not None
    assert report.error.message == "no valid signatures found"
    assert report.signatures[0].error is not None
    assert report.signatures[0].error.code == "other-image"


def test_what_is_not_one_image_is_an_error_also_with_a_signature():
    builder = oci_sample(KEY)
    builder.add_image(b"another")
    message = "while fetching image from OCI-SIF: multiple matching images / indices found"
    assert verified(builder).error == Finding("several-images", message)
    assert verified(sample()).error == Finding("not-oci-sif", "not an OCI-SIF")


def test_a_named_image_runs_and_can_be_signed_though_the_reference_s_verify_does_not_find_it():
    def named() -> OciBuilder:
        builder = OciBuilder()
        builder.add_image(b"layer", name="app")
        builder.sign(KEY)
        return builder

    assert [claim.mismatch for claim in examined(named()).claims] == [None]
    message = "while fetching image from OCI-SIF: no matching image / index found"
    assert verified(named()).error == Finding("no-image", message)


def test_an_image_whose_manifest_is_also_an_index_is_an_error_with_every_digest_right():
    builder = OciBuilder()
    manifest = builder.manifest([builder.content(b"layer", SQUASHFS_TYPE)], manifests=[])
    builder.entry(manifest)
    builder.image = digest_of(manifest)
    builder.sign(KEY)
    report = verified(builder)
    assert report.error is not None
    assert report.error.code == "bad-manifest"
    assert not report.signatures[0].valid


def test_base64_of_another_alphabet_is_no_signature():
    builder = oci_sample(KEY)
    text = builder.signatures[0]["annotations"][SIGNATURE]
    builder.signatures[0]["annotations"][SIGNATURE] = base64.urlsafe_b64encode(base64.b64decode(text)).decode() + "\n"
    assert examined(builder).claims == ()
