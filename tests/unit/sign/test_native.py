"""Signed images are those of the reference, object by object, and nothing is put in place that does not verify."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from eclctl.errors import KeyMaterialError, SigningError
from eclctl.sif.reader import DataType
from eclctl.sign.edit.editing import Edit
from eclctl.sign.native import signing_with_pgp
from eclctl.terms import SignatureFormat, SignerKind
from eclctl.trust.keyring import KeyStore
from eclctl.verify.examine import examine
from eclctl.verify.reference import CheckedObjects, GivenKeys, verify_scope
from tests.helpers import pgp
from tests.helpers.scribes import (
    SIGNED,
    Scribe,
    built,
    corpus_copy,
    objects_of,
    pem_signing,
    pgp_signing,
    private_pem_key,
    scribe,
    sign_file,
    signature_data,
)
from tests.helpers.sifbuilder import corpus_store, opened, sample
from tests.helpers.signing import edit
from tests.helpers.support import CORPUS, NOW

IMAGES = CORPUS / "images"


def verified(path, store: KeyStore, **scope):
    with opened(path) as fd:
        return verify_scope(fd, GivenKeys(store, has_keyring=True, has_keys=True), CheckedObjects(**scope), NOW)


@pytest.mark.parametrize("name", ["ed25519", "rsa2048", "rsa4096"])
def test_a_file_signed_with_a_key_whose_signatures_are_always_the_same_is_the_references(name, tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    assert sign_file(path, pem_signing(name)) == (4,)
    assert path.read_bytes() == (IMAGES / f"one-dsse-{name}.sif").read_bytes()


@pytest.mark.parametrize(
    ("source", "signed", "signing", "options"),
    [
        ("one-unsigned.sif", "one-builder.sif", pgp_signing(), {}),
        ("one-unsigned.sif", "one-approver.sif", pgp_signing("approver"), {}),
        ("one-unsigned.sif", "one-object1.sif", pgp_signing(), {"objects": (1,)}),
        ("one-unsigned.sif", "one-objects1,3.sif", pgp_signing(), {"objects": (3, 1)}),
        ("one-builder.sif", "one-builder+scanner.sif", pgp_signing("scanner"), {}),
        ("one-builder.sif", "one-builder+dsse-p256.sif", pem_signing("p256"), {}),
        ("two-unsigned.sif", "two-builder.sif", pgp_signing(), {}),
        ("two-unsigned.sif", "two-group1-builder.sif", pgp_signing(), {"groups": (1,)}),
        ("two-builder.sif", "two-builder+g1-approver.sif", pgp_signing("approver"), {"groups": (1,)}),
        ("two-unsigned.sif", "two-dsse-p256.sif", pem_signing("p256"), {}),
        ("one-unsigned.sif", "one-dsse-p256+ed25519.sif", pem_signing("p256", "ed25519"), {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_object_is_as_the_reference_makes_it_but_for_what_is_random(source, signed, signing, options, tmp_path):
    path = corpus_copy(source, tmp_path)
    sign_file(path, signing, **options)
    mine, theirs = objects_of(path), objects_of(IMAGES / signed)
    fresh = {each.id for each, _ in objects_of(IMAGES / source)}
    assert len(mine) == len(theirs)
    for (one, digest), (other, other_digest) in zip(mine, theirs, strict=True):
        if one.id in fresh:
            assert (one, digest) == (other, other_digest)
            continue
        # A random salt or nonce makes armor and ASN.1 longer or shorter: offsets and sizes follow from that alone.
        at, size = other.offset, other.size
        assert one._replace(offset=at, size=size) == other
        assert one.size == len(signature_data(path, one.id))


def test_the_new_signature_begins_where_the_last_object_ends(tmp_path):
    path = corpus_copy("one-builder.sif", tmp_path)
    sign_file(path, pgp_signing("scanner"))
    last, new = (each for each, _ in objects_of(path) if each.type == DataType.SIGNATURE)
    assert new.offset == last.offset + last.size
    assert path.stat().st_size == new.offset + new.size


def test_a_clear_signed_message_ends_as_the_references_does(tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    sign_file(path, pgp_signing())
    assert signature_data(path, 4).endswith(b"-----END PGP SIGNATURE-----")


def test_what_others_signed_stays_byte_by_byte_and_still_verifies(tmp_path):
    path = corpus_copy("mixed-builder.sif", tmp_path)
    before = objects_of(path)
    sign_file(path, pgp_signing("scanner"))
    sign_file(path, pem_signing("p521"))
    assert objects_of(path)[: len(before)] == before
    report = verified(path, corpus_store("builder", "scanner", pem=("p521",)))
    assert report.verified, report.error


def test_a_new_signature_in_a_slot_below_an_older_one_leaves_that_one_as_it_was(tmp_path):
    path = corpus_copy("one-builder+scanner.sif", tmp_path)
    edit(path, Edit(remove=frozenset({4})))
    before = signature_data(path, 5)
    assert sign_file(path, pgp_signing("approver")) == (4,)
    assert signature_data(path, 5) == before
    assert verified(path, corpus_store("scanner", "approver")).verified


def test_beside_legacy_signatures_a_new_one_covers_header_and_descriptors(tmp_path):
    path = tmp_path / "legacy.sif"
    shutil.copyfile(CORPUS / "legacy" / "group.sif", path)
    before = objects_of(path)
    sign_file(path, pgp_signing())
    assert objects_of(path)[: len(before)] == before
    assert verified(path, corpus_store("builder")).verified
    assert verified(path, corpus_store("builder", "site-ring"), groups=frozenset({1}), legacy=True).verified


def test_an_oci_sif_is_signed_whole_and_its_cosign_signature_lasts(tmp_path):
    path = tmp_path / "app.oci.sif"
    shutil.copyfile(CORPUS / "oci" / "app-ci.oci.sif", path)
    before = objects_of(path)
    sign_file(path, pgp_signing())
    assert objects_of(path)[: len(before)] == before
    theirs = next(
        each for each, _ in objects_of(CORPUS / "oci-native" / "app-ci+pgp-builder.oci.sif") if each.is_signature
    )
    mine = next(each for each, _ in objects_of(path) if each.is_signature)
    assert (mine.id, mine.link, mine.links_group, mine.tail) == (theirs.id, theirs.link, True, theirs.tail)
    assert verified(path, corpus_store("builder")).verified


@pytest.mark.parametrize(
    ("algorithm", "number"),
    [("sha224", 1), ("sha256", 1), ("sha384", 2), ("sha512", 3), ("sha512_224", 3), ("sha512_256", 3)],
)
def test_every_digest_verifies_and_the_descriptor_names_its_hash(algorithm, number, tmp_path):
    path = corpus_copy("two-unsigned.sif", tmp_path)
    ids = sign_file(path, pgp_signing(algorithm=algorithm), algorithm=algorithm)
    assert {each.hash_type for each, _ in objects_of(path) if each.id in ids} == {number}
    assert verified(path, corpus_store("builder")).verified
    assert f'"digest":"{algorithm}:'.encode() in signature_data(path, ids[0])


def test_an_envelope_is_over_sha256_with_any_digests_in_the_text(tmp_path):
    path = corpus_copy("one-unsigned.sif", tmp_path)
    sign_file(path, pem_signing("p384"), algorithm="sha512")
    signature = objects_of(path)[-1][0]
    assert (signature.hash_type, signature.entity) == (1, bytes(256))
    assert verified(path, corpus_store(pem=("p384",))).verified


def test_a_key_that_may_not_sign_under_a_short_hash_signs_under_the_next_with_the_number_that_was_asked_for(tmp_path):
    made = scribe("lab")  # on P-384
    made.hash_names = ("sha384", "sha512")
    path = corpus_copy("one-unsigned.sif", tmp_path)
    sign_file(path, signing_with_pgp(made, "sha256"))
    assert b"Hash: SHA384\n" in signature_data(path, 4)
    assert objects_of(path)[-1][0].tail == objects_of(IMAGES / "one-lab.sif")[-1][0].tail
    assert verified(path, corpus_store("lab")).verified


def test_a_purpose_is_what_the_signature_says(tmp_path):
    path = corpus_copy("two-unsigned.sif", tmp_path)
    sign_file(path, pgp_signing(purpose="review"))
    with opened(path) as fd:
        claims = examine(fd, corpus_store("builder")).claims
    assert [claim.purposes for claim in claims] == [frozenset({"review"})] * 2


def test_a_key_of_version_6_signs_only_on_request(tmp_path):
    key = pgp.Key(version=6)
    made = Scribe(key, pgp.certificate(key))
    with pytest.raises(KeyMaterialError, match="is a key of version 6: its fingerprint does not fit"):
        signing_with_pgp(made, "sha256")
    path = built(sample(), tmp_path)
    signing = signing_with_pgp(made, "sha256", allow_v6=True)
    sign_file(path, signing)
    assert objects_of(path)[-1][0].entity.startswith(key.raw)
    with opened(path) as fd:
        (claim,) = examine(fd, signing.store).claims
    assert (claim.signer, claim.whole_group, claim.mismatch) == (signing.refs[0], True, None)
    assert verified(path, signing.store).error.code == "wrong-fingerprint"  # as in the reference, whose words it has


def test_who_signs_is_named_by_the_primary_key(tmp_path):
    signing = pem_signing("p256", "ed25519")
    assert [(ref.kind, ref.id) for ref in signing.refs] == [
        (SignerKind.KEY, private_pem_key(name).public.id) for name in ("p256", "ed25519")
    ]
    assert (pgp_signing().format, signing.format) == (SignatureFormat.PGP, SignatureFormat.DSSE)


@pytest.mark.parametrize(
    ("signing", "message"),
    [
        (signing_with_pgp(scribe(said=b'{"version":1}'), "sha256"), "'header' is missing"),
        (signing_with_pgp(scribe(said=sample().metadata()), "sha256"), "header integrity compromised"),
        (signing_with_pgp(scribe("expired"), "sha256"), "openpgp: key expired"),
        (signing_with_pgp(scribe("revoked"), "sha256"), "openpgp: signature made by revoked key"),
    ],
    ids=["no-metadata", "another-image", "expired", "revoked"],
)
def test_a_signature_that_does_not_verify_leaves_the_image_as_it_was(signing, message, tmp_path):
    path = corpus_copy("two-unsigned.sif", tmp_path)
    before = path.read_bytes()
    with pytest.raises(SigningError, match=f"so the image stays as it was: .*{message}"):
        sign_file(path, signing, now=NOW)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_key_that_signs_as_another_leaves_the_image_as_it_was(tmp_path):
    """The descriptor would name one key, and the signature be another's."""
    made = scribe("builder")
    other = pgp.Key(ec.generate_private_key(ec.SECP256R1()))
    made.key = other
    path = corpus_copy("one-unsigned.sif", tmp_path)
    before = path.read_bytes()
    with pytest.raises(SigningError, match="unknown entity"):
        sign_file(path, signing_with_pgp(made, "sha256"))
    assert path.read_bytes() == before


def test_part_of_what_was_to_be_signed_is_not_enough(tmp_path):
    """A signer that leaves objects out makes a signature that verifies, and covers less."""
    builder = sample()
    path = built(builder, tmp_path)
    before = path.read_bytes()
    signing = signing_with_pgp(scribe(said=builder.metadata(only=(1,))), "sha256")
    with pytest.raises(SigningError, match="not over what was to be signed"):
        sign_file(path, signing)
    assert path.read_bytes() == before


def test_one_of_two_keys_is_not_enough(tmp_path):
    lazy = dataclasses.replace(pem_signing("p256", "p384"), seal=pem_signing("p256").seal)
    path = corpus_copy("one-unsigned.sif", tmp_path)
    before = path.read_bytes()
    with pytest.raises(SigningError, match="not by every key"):
        sign_file(path, lazy)
    assert path.read_bytes() == before


def test_a_full_table_is_an_error_that_changes_nothing(tmp_path):
    path = built(sample(slots=4), tmp_path)
    sign_file(path, pem_signing("p256"), now=SIGNED)
    before = path.read_bytes()
    with pytest.raises(SigningError, match="all 4 descriptor slots"):
        sign_file(path, pem_signing("p384"))
    assert path.read_bytes() == before
