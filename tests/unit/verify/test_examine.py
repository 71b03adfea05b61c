"""`examine` says which key signed what of an image, and counts nothing that is not proven."""

from __future__ import annotations

import hashlib
import os

import pytest

from eclctl.errors import BusyImageError, MalformedImageError
from eclctl.sif import reader
from eclctl.sif.reader import read
from eclctl.terms import Kind, SignatureFormat, SignerKind
from eclctl.trust.keyring import KeyStore
from eclctl.verify import opening
from eclctl.verify.examine import examine
from eclctl.verify.hashing import DigestCache, HashPool, Want, hash_objects
from tests.helpers import pgp, sifbuilder
from tests.helpers.sifbuilder import (
    GROUP_BITS,
    SifBuilder,
    corpus_pgp_key,
    corpus_store,
    envelope,
    opened,
    pem_key,
    sample,
)
from tests.helpers.support import CORPUS

BUILDER, SCANNER, MALLORY = (corpus_pgp_key(name) for name in ("builder", "scanner", "mallory"))
STORE = corpus_store("site-ring", pem=("p256", "ed25519"))


def facts(image, store=STORE, **options):
    with opened(image) as fd:
        return examine(fd, store, **options)


def failure(image):
    found = facts(image)
    assert found.claims == ()
    assert len(found.failures) == 1
    return found.failures[0].finding.code


def mismatch(image):
    (claim,) = facts(image).claims
    assert claim.objects == frozenset()
    assert not claim.whole_group
    assert not claim.header
    return claim.mismatch.code


def two_groups(**fields):
    builder = sample(**fields)
    builder.partition(b"overlay", sifbuilder.OVERLAY, sifbuilder.EXT3, group=2)
    builder.add(b"sbom", 0x4009, group=2)
    return builder


def test_a_whole_group_signature_covers_its_objects_and_the_header():
    found = facts(CORPUS / "images" / "one-builder.sif")
    (claim,) = found.claims
    assert (claim.signature, claim.group, claim.objects) == (4, 1, {1, 2, 3})
    assert claim.whole_group
    assert claim.header
    assert claim.mismatch is None
    assert (claim.signer.kind, claim.signer.id) == (SignerKind.PGP, BUILDER.fingerprint)
    assert claim.created is not None
    assert found.failures == ()


def test_the_image_is_described_whole():
    found = facts(two_groups())
    assert found.kind is Kind.SIF
    assert found.tied
    assert found.groups == {1: {1, 2, 3}, 2: {4, 5}}
    assert [item.id for item in found.objects] == [1, 2, 3, 4, 5]
    assert found.objects[3].holds == {"partition", "overlay", "ext3"}
    assert not facts(two_groups(uuid=bytes(16))).tied


@pytest.mark.parametrize("algorithm", ["sha224", "sha256", "sha384", "sha512", "sha512_224", "sha512_256"])
def test_every_digest_of_the_format_verifies(algorithm):
    builder = sample()
    builder.sign_pgp(BUILDER, algorithm=algorithm)
    assert facts(builder).claims[0].whole_group


def test_each_group_has_its_own_signature():
    builder = two_groups()
    builder.sign_pgp(BUILDER, 1)
    builder.sign_pgp(SCANNER, 2)
    found = facts(builder)
    assert [(claim.group, claim.objects, claim.whole_group) for claim in found.claims] == [
        (1, {1, 2, 3}, True),
        (2, {4, 5}, True),
    ]


def test_a_signature_over_some_objects_is_no_whole_group():
    builder = sample()
    builder.sign_pgp(BUILDER, only=(1, 3))
    (claim,) = facts(builder).claims
    assert claim.objects == {1, 3}
    assert not claim.whole_group
    assert claim.header
    assert claim.mismatch is None


def test_a_signature_over_nothing_covers_nothing():
    builder = sample()
    builder.sign_pgp(BUILDER, only=())
    (claim,) = facts(builder).claims
    assert claim.objects == frozenset()
    assert not claim.whole_group


def test_an_object_added_after_signing_leaves_a_partial_signature():
    builder = sample()
    builder.sign_pgp(BUILDER)
    builder.add(b"late")
    (claim,) = facts(builder).claims
    assert claim.objects == {1, 2, 3}
    assert not claim.whole_group


def test_two_keys_in_one_envelope_are_two_claims_and_the_same_twice_is_one():
    builder = sample()
    builder.sign_dsse(pem_key("p256"), pem_key("ed25519"))
    builder.sign_dsse(pem_key("p256"), pem_key("p256"))
    found = facts(builder)
    p256, ed25519 = pem_key("p256").public.id, pem_key("ed25519").public.id
    assert [(claim.signature, claim.signer.id) for claim in found.claims] == [(4, p256), (4, ed25519), (5, p256)]
    assert all(claim.format is SignatureFormat.DSSE and claim.created is None for claim in found.claims)


def test_the_descriptors_fingerprint_says_nothing_of_a_dsse_signature():
    builder = sample()
    builder.sign_dsse(pem_key("p256"), fingerprint=BUILDER.raw)
    (claim,) = facts(builder).claims
    assert claim.signer.kind is SignerKind.KEY


def test_a_pgp_signature_whose_descriptor_names_another_key_is_a_failure():
    builder = sample()
    builder.sign_pgp(BUILDER, fingerprint=SCANNER.raw)
    assert failure(builder) == "wrong-fingerprint"
    builder = sample()
    builder.sign_pgp(BUILDER, fingerprint=b"")
    assert failure(builder) == "wrong-fingerprint"


def test_an_unknown_key_is_a_failure_and_costs_no_hashing():
    builder = sample()
    builder.sign_pgp(MALLORY)
    assert failure(builder) == "unknown-key"
    assert facts(builder).digests == {}


def test_a_message_that_a_stranger_signed_too_counts_for_nothing():
    builder = sample()
    text = builder.metadata()
    packets = b"".join(pgp.packet(2, key.sign(1, text, created=pgp.SIGNED)) for key in (BUILDER, MALLORY))
    builder.attach(pgp.clearsign(packets, text=text), fingerprint=BUILDER.raw)
    assert failure(builder) == "unknown-key"


def test_a_signature_does_not_spoil_the_others():
    builder = sample()
    builder.attach(b"junk")
    builder.sign_pgp(MALLORY)
    builder.sign_pgp(BUILDER)
    found = facts(builder)
    assert [claim.signer.id for claim in found.claims] == [BUILDER.fingerprint]
    assert [(item.signature, item.finding.code) for item in found.failures] == [(4, "unrecognized"), (5, "unknown-key")]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda builder: setattr(builder.entries[2], "data", b"evil" + bytes(4092)), "data-changed"),
        (lambda builder: setattr(builder.entries[0], "name", b"other"), "descriptor-changed"),
        (lambda builder: setattr(builder.entries[2], "extra", b"\2"), "descriptor-changed"),
        (lambda builder: setattr(builder.entries[1], "created", 1), "descriptor-changed"),
        (lambda builder: setattr(builder.entries[1], "uid", 1), "descriptor-changed"),
        (lambda builder: setattr(builder.entries[1], "link", 1), "descriptor-changed"),
        (lambda builder: setattr(builder.entries[1], "kind", 0x4007), "descriptor-changed"),
        (lambda builder: setattr(builder, "uuid", bytes(16)), "header-changed"),
        (lambda builder: setattr(builder, "launch", b"#!/bin/evil".ljust(32, b"\0")), "header-changed"),
        (lambda builder: builder.entries.pop(2), "object-missing"),
        (lambda builder: setattr(builder.entries[2], "group", 2), "object-missing"),
    ],
    ids=["data", "name", "extra", "time", "uid", "link", "type", "uuid", "script", "removed", "moved"],
)
def test_the_right_key_over_other_content_is_a_mismatch(change, code):
    builder = sample()
    builder.sign_pgp(BUILDER)
    change(builder)
    assert mismatch(builder) == code


def test_no_data_is_read_when_a_descriptor_already_differs():
    builder = sample()
    builder.sign_pgp(BUILDER)
    builder.entries[2].name = b"other"
    assert facts(builder).digests == {}


def test_swapped_group_numbers_still_verify_as_the_numbers_are_not_signed():
    found = facts(CORPUS / "images" / "groups-swapped.sif")
    assert all(claim.whole_group for claim in found.claims)


@pytest.mark.parametrize("link", [9 | GROUP_BITS, 0, GROUP_BITS, 3, 77])
def test_a_modern_signature_that_is_linked_to_no_group_is_a_failure(link):
    builder = sample()
    builder.sign_pgp(BUILDER).link = link
    assert failure(builder) == "wrong-link"


@pytest.mark.parametrize("hash_type", [0, 6, -1])
def test_a_descriptor_that_names_no_hash_is_a_failure(hash_type):
    builder = sample()
    builder.attach(pgp.clearsign(BUILDER, text=builder.metadata()), fingerprint=BUILDER.raw, hash_type=hash_type)
    assert failure(builder) == "unsupported-hash"


def test_relative_ids_do_not_wrap_around():
    builder = SifBuilder()
    builder.add(b"one", id=0xFFFFFFF0)
    text = builder.metadata().replace(b'"relativeId":0', b'"relativeId":4294967295')
    builder.sign_pgp(BUILDER, text=text).id = 4
    assert failure(builder) == "bad-metadata"


@pytest.mark.parametrize("text", [b"hello", b"{}", b"SIFHASH:\nzz"])
def test_a_signed_text_that_is_no_statement_is_a_failure(text):
    builder = sample()
    builder.sign_pgp(BUILDER, text=text)
    assert failure(builder) == "bad-metadata"


def test_relative_ids_count_from_the_lowest_of_the_group():
    builder = SifBuilder()
    builder.add(b"a", id=7, group=3)
    builder.add(b"b", id=20, group=1)
    builder.add(b"c", id=5, group=3)
    builder.sign_pgp(BUILDER, 3)
    (claim,) = facts(builder).claims
    assert (claim.group, claim.objects, claim.whole_group) == (3, {5, 7}, True)


def test_a_legacy_group_signature_covers_data_alone():
    builder = sample()
    builder.sign_legacy(BUILDER, group=1)
    (claim,) = facts(builder).claims
    assert claim.format is SignatureFormat.LEGACY
    assert (claim.group, claim.objects, claim.whole_group, claim.header) == (1, {1, 2, 3}, True, False)
    builder.entries[0].name = b"other"
    assert facts(builder).claims[0].whole_group
    builder.entries[2].data = bytes(4096)
    assert mismatch(builder) == "data-changed"


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_legacy_object_signature_covers_one_object_and_no_group(algorithm):
    builder = sample()
    builder.sign_legacy(BUILDER, identity=3, algorithm=algorithm)
    (claim,) = facts(builder).claims
    assert (claim.group, claim.objects, claim.whole_group, claim.header) == (None, {3}, False, False)


@pytest.mark.parametrize("link", [9 | GROUP_BITS, 77])
def test_a_legacy_signature_linked_to_nothing_is_a_failure(link):
    builder = sample()
    builder.sign_legacy(BUILDER, group=1).link = link
    assert failure(builder) == "wrong-link"


def test_a_signature_inside_a_group_is_an_object_that_must_be_covered():
    builder = sample()
    builder.sign_pgp(BUILDER)
    builder.entries[-1].group = 1
    found = facts(builder)
    assert found.groups == {1: {1, 2, 3, 4}}
    assert [item.id for item in found.objects] == [1, 2, 3, 4]
    assert not found.claims[0].whole_group


def test_an_object_outside_every_group_is_described_and_covered_by_none():
    builder = sample()
    builder.sign_pgp(BUILDER)
    builder.add(b"stray", group=0)
    found = facts(builder)
    assert found.groups == {1: {1, 2, 3}}
    assert found.objects[-1].group == 0
    assert all(found.objects[-1].id not in claim.objects for claim in found.claims)


def test_digests_of_every_object_are_found_when_asked_for():
    builder = sample()
    expected = {entry.id: "sha256:" + hashlib.sha256(entry.data).hexdigest() for entry in builder.entries}
    assert facts(builder, digests=True).digests == expected
    assert facts(builder).digests == {}


def test_large_objects_are_hashed_by_a_pool_with_the_same_result():
    builder = sample()
    for number in range(5):
        builder.add(bytes([number]) * 700_000)
    builder.sign_pgp(BUILDER)
    builder.sign_pgp(SCANNER, algorithm="sha512")
    builder.sign_legacy(BUILDER, group=1)
    alone = facts(builder, digests=True)
    with HashPool(2) as pool:
        assert facts(builder, digests=True, pool=pool) == alone
    assert all(claim.mismatch is None for claim in alone.claims)


def test_known_digests_are_not_computed_again():
    builder = sample()
    builder.add(b"x" * 700_000)
    builder.sign_pgp(BUILDER)
    known = DigestCache()
    first = facts(builder, known=known)
    builder.entries[3].data = b"y" * 700_000  # the owner of the cache would have dropped it
    assert facts(builder, known=known) == first
    assert mismatch(builder) == "data-changed"


def test_a_file_that_becomes_shorter_while_it_is_hashed_is_busy():
    builder = sample()
    builder.add(b"x" * 3_000_000)
    with opened(builder) as fd:
        image = reader.read(fd)
        os.ftruncate(fd, image.size - 1_000_000)
        with pytest.raises(BusyImageError):
            hash_objects(image, [Want("sha256", (4,))])


def test_a_malformed_image_raises():
    with pytest.raises(MalformedImageError):
        facts(sample().build()[:5000])


def test_more_signatures_than_the_bound_are_failures():
    builder = sample(slots=400)
    for _ in range(opening.MAX_SIGNATURES):
        builder.attach(b"junk")
    builder.sign_pgp(BUILDER)
    found = facts(builder)
    assert found.claims == ()
    assert found.failures[-1].finding.code == "too-many"
    assert len(found.failures) == opening.MAX_SIGNATURES + 1


def test_an_oversized_signature_is_not_read():
    builder = sample()
    builder.attach(envelope(b"x", pem_key("p256")).ljust(opening.MAX_SIGNATURE_SIZE + 1))
    assert failure(builder) == "too-large"


def test_the_bytes_of_all_signatures_together_are_bounded():
    builder = sample()
    for _ in range(9):
        builder.attach(b"x" * opening.MAX_SIGNATURE_SIZE)
    assert [item.finding.code for item in facts(builder).failures] == ["unrecognized"] * 8 + ["too-many"]


def test_a_version_6_signature_counts_when_the_descriptor_has_its_whole_fingerprint():
    key = pgp.Key(version=6)
    store = KeyStore(type(STORE.pgp).parse(pgp.certificate(key)), STORE.listed)
    builder = sample()
    text = pgp.clearsign(key, text=builder.metadata())
    builder.attach(text, fingerprint=key.raw)
    (claim,) = facts(builder, store).claims
    assert claim.signer.id == key.fingerprint
    builder.entries[-1].extra = builder.entries[-1].extra[:24]
    assert facts(builder, store).failures[0].finding.code == "wrong-fingerprint"


def test_the_kind_of_an_image_is_told():
    with opened(CORPUS / "oci" / "app-ci.oci.sif") as fd:
        assert read(fd).kind is Kind.OCI_SIF
    with opened(CORPUS / "images" / "one-builder.sif") as fd:
        assert read(fd).kind is Kind.SIF
