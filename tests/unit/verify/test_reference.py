"""The mirror of the reference's `verify`: its order of checks and its words, on images that the corpus lacks."""

from __future__ import annotations

import struct

import pytest

from eclctl.verify.reference import CheckedObjects, GivenKeys, verify_scope
from tests.helpers import pgp, sifbuilder
from tests.helpers.sifbuilder import SifBuilder, corpus_pgp_key, corpus_store, opened, pem_key, sample
from tests.helpers.support import NOW

BUILDER, SCANNER, MALLORY = (corpus_pgp_key(name) for name in ("builder", "scanner", "mallory"))
EVERYTHING = GivenKeys(corpus_store("site-ring", pem=("p256",)), has_keyring=True, has_keys=True)


def report(image, material=EVERYTHING, **where):
    with opened(image) as fd:
        return verify_scope(fd, material, scope(**where), NOW)


def scope(groups=(), objects=(), **options):
    return CheckedObjects(frozenset(groups), frozenset(objects), **options)


def message(image, **where):
    found = report(image, **where)
    assert not found.verified
    return found.error.message


def two_groups():
    builder = sample()
    builder.partition(b"overlay", sifbuilder.OVERLAY, sifbuilder.EXT3, group=2)
    return builder


def test_a_signed_image_verifies_with_all_its_signatures():
    builder = two_groups()
    builder.sign_pgp(BUILDER, 2)
    builder.sign_pgp(BUILDER, 1)
    builder.sign_dsse(pem_key("p256"), group=1)
    found = report(builder)
    assert found.verified
    assert [(item.id, item.objects) for item in found.signatures] == [(6, (1, 2, 3)), (7, (1, 2, 3)), (5, (4,))]


def test_all_failing_signatures_are_reported_and_the_first_is_the_images_error():
    builder = sample()
    builder.sign_pgp(MALLORY)
    builder.sign_pgp(BUILDER)
    builder.sign_pgp(SCANNER, only=(1,))
    found = report(builder)
    assert found.error.message == "integrity: signature object 4 not valid: openpgp: signature made by unknown entity"
    assert [(item.id, item.valid) for item in found.signatures] == [(4, False), (5, True), (6, False)]
    assert found.signatures[2].error.message == "object 2: object not signed"
    assert found.signatures[2].signer.id == SCANNER.fingerprint


def test_an_unsigned_group_fails_the_image_but_not_another_group():
    builder = two_groups()
    builder.sign_pgp(BUILDER, 1)
    assert message(builder) == "integrity: signature not found for object group 2"
    assert report(builder, groups=[1]).verified
    assert message(builder, groups=[1, 2]) == "integrity: signature not found for object group 2"


def test_a_change_outside_the_scope_does_not_fail_it():
    builder = two_groups()
    builder.sign_pgp(BUILDER, 1)
    builder.sign_pgp(BUILDER, 2)
    builder.entries[3].data = b"changed"
    assert report(builder, groups=[1]).verified
    assert report(builder, objects=[3]).verified
    assert message(builder) == "integrity: data object integrity compromised: 4"


def test_groups_and_objects_can_be_asked_for_together():
    builder = two_groups()
    builder.sign_pgp(BUILDER, 1)
    builder.sign_pgp(BUILDER, 2)
    found = report(builder, groups=[1], objects=[2, 4])
    assert [(item.id, item.objects) for item in found.signatures] == [(5, (1, 2, 3)), (6, (4,))]


def test_the_scope_must_exist():
    builder = sample()
    builder.sign_pgp(BUILDER)
    assert message(builder, groups=[9]) == "integrity: group not found"
    assert message(builder, objects=[9]) == "integrity: object not found"
    assert message(SifBuilder()) == "integrity: no groups found"
    assert message(SifBuilder(), groups=[1]) == "integrity: no objects in image"


def test_a_header_that_counts_every_slot_free_has_no_objects():
    builder = sample()
    builder.sign_pgp(BUILDER)
    image = bytearray(builder.build())
    image[80:88] = struct.pack("<q", builder.slots)
    assert message(bytes(image)) == "integrity: no objects in image"


def test_a_signature_object_cannot_be_the_object_asked_for():
    builder = sample()
    builder.sign_pgp(BUILDER)
    assert not report(builder, objects=[4]).verified


def test_an_object_outside_every_group_fails_every_scope():
    builder = sample()
    builder.sign_pgp(BUILDER)
    builder.add(b"stray", group=0)
    words = "integrity: non-signature object not associated with object group"
    assert message(builder) == words
    assert message(builder, groups=[1]) == words


def test_a_single_object_signature_verifies_only_its_object():
    builder = sample()
    builder.sign_pgp(BUILDER, only=(1,))
    assert report(builder, objects=[1]).verified
    assert message(builder, objects=[2]) == "integrity: object 2: object not signed"


@pytest.mark.parametrize(
    ("material", "words"),
    [
        (GivenKeys(EVERYTHING.store, has_keyring=False, has_keys=True), "PGP clear-sign"),
        (GivenKeys(EVERYTHING.store, has_keyring=True, has_keys=False), "DSSE envelope"),
    ],
    ids=["no-keyring", "no-keys"],
)
def test_a_sort_of_signature_without_material_fails(material, words):
    builder = sample()
    builder.sign_pgp(BUILDER)
    builder.sign_dsse(pem_key("p256"))
    found = report(builder, material)
    assert found.error.message == f"integrity: key material not provided for {words} signature"
    assert [item.valid for item in found.signatures].count(True) == 1


def test_a_signature_from_the_future_fails_now():
    builder = sample()
    builder.sign_pgp(BUILDER, created=int(NOW.timestamp()) + 1)
    assert message(builder).endswith("openpgp: signature expired")


def test_legacy_signatures_are_seen_only_when_asked_for_and_alone():
    builder = sample()
    builder.sign_legacy(BUILDER, group=1)
    assert message(builder) == "integrity: signature not found for object group 1"
    assert report(builder, groups=[1], legacy=True).verified
    builder.sign_pgp(MALLORY)
    assert report(builder, groups=[1], legacy=True).verified


def test_legacy_alone_means_the_primary_partition():
    builder = sample()
    builder.sign_legacy(BUILDER, identity=3)
    found = report(builder, legacy=True)
    assert [item.objects for item in found.signatures] == [(3,)]
    builder.entries[2].extra = b""
    assert message(builder, legacy=True) == "object not found"


def test_legacy_with_two_primary_partitions_is_refused():
    builder = sample()
    builder.partition(b"second")
    assert message(builder, legacy=True) == "multiple objects found"


def test_legacy_all_means_every_object_by_itself():
    builder = sample()
    for identity in (1, 2):
        builder.sign_legacy(BUILDER, identity=identity)
    assert message(builder, legacy=True, every_object=True) == "integrity: signature not found for object 3"
    builder.sign_legacy(BUILDER, identity=3)
    found = report(builder, legacy=True, every_object=True)
    assert [item.objects for item in found.signatures] == [(1,), (2,), (3,)]


def test_a_modern_signature_on_an_object_is_no_legacy_one():
    builder = sample()
    builder.sign_pgp(BUILDER).link = 3
    assert message(builder, legacy=True) == "integrity: the signed text is not a legacy digest"


def test_a_version_6_key_never_matches_as_in_the_reference():
    key = pgp.Key(version=6)
    store = corpus_store("site-ring")
    ring = type(store.pgp).parse(pgp.certificate(key))
    builder = sample()
    builder.attach(pgp.clearsign(key, text=builder.metadata()), fingerprint=key.raw)
    material = GivenKeys(type(store)(ring), has_keyring=True, has_keys=False)
    words = "integrity: fingerprint in descriptor does not correspond to signing entity"
    assert report(builder, material).error.message == words


@pytest.mark.parametrize(
    "damage",
    [(b"END PGP", b"END"), (b"SIGNATURE-----\n\n", b"SIGNATURE-----\n"), (b"SHA256", b"SHA257")],
    ids=["no-end", "no-armor", "no-hash"],
)
def test_a_damaged_legacy_signature_is_not_passed_over_as_one(damage):
    """A whole legacy signature is out of scope; what merely begins like one is a signature that fails."""
    builder = sample()
    builder.sign_pgp(BUILDER)
    entry = builder.sign_legacy(BUILDER, group=1)
    assert report(builder).verified
    entry.data = entry.data.replace(*damage)
    assert message(builder) == "integrity: signature format not recognized"


def test_a_signature_object_asked_for_by_its_id_is_in_no_group():
    builder = sample()
    entry = builder.sign_pgp(BUILDER)
    assert message(builder, objects=[entry.id]) == "integrity: invalid group ID"
