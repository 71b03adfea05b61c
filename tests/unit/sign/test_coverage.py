"""What will be signed, and what is said of it before."""

from __future__ import annotations

import pytest

from eclctl.errors import SigningError
from eclctl.sif import reader
from eclctl.sign.coverage import already_signed, plan_coverage, signing_warnings
from tests.helpers.sifbuilder import OCI_BLOB, ROOT_INDEX, corpus_pgp_key, corpus_store, opened, pem_key, sample
from tests.helpers.support import CORPUS


def two_groups(**fields):
    builder = sample(**fields)
    builder.add(b"overlay", group=2)
    builder.add(b"sbom", group=2)
    return builder


def planned(builder, groups=(), objects=()):
    with opened(builder) as fd:
        return [(part.group, part.ids, part.whole) for part in plan_coverage(reader.read(fd), groups, objects)]


def warned(builder, groups=(), objects=()):
    with opened(builder) as fd:
        image = reader.read(fd)
        return {found.code: found.message for found in signing_warnings(image, plan_coverage(image, groups, objects))}


def signed_before(image, store, groups=(), objects=(), purposes=frozenset()):
    with opened(image) as fd:
        found = reader.read(fd)
        return [each.message for each in already_signed(found, plan_coverage(found, groups, objects), store, purposes)]


def test_every_group_gets_a_signature_of_its_own():
    assert planned(two_groups()) == [(1, (1, 2, 3), True), (2, (4, 5), True)]


def test_groups_are_signed_as_they_are_chosen_and_each_once():
    assert planned(two_groups(), groups=(2, 1, 2)) == [(2, (4, 5), True), (1, (1, 2, 3), True)]


def test_objects_of_one_group_share_a_signature_and_follow_the_groups():
    assert planned(two_groups(), groups=(2,), objects=(4, 3, 1)) == [
        (2, (4, 5), True),
        (1, (1, 3), False),
        (2, (4,), False),
    ]


def test_all_objects_of_a_group_one_by_one_are_the_group():
    assert planned(two_groups(), objects=(5, 4)) == [(2, (4, 5), True)]


def test_objects_are_in_the_order_of_their_ids_wherever_their_slots_are():
    builder = sample()
    builder.entries.reverse()
    assert planned(builder) == [(1, (1, 2, 3), True)]


@pytest.mark.parametrize(
    ("groups", "objects", "message"),
    [
        ((9,), (), r"integrity: group not found: 9; there are: 1, 2"),
        ((), (9,), r"integrity: object not found: 9; there are: 1, 2, 3, 4, 5"),
    ],
)
def test_what_is_not_there_is_refused_in_the_references_words(groups, objects, message):
    with pytest.raises(SigningError, match=message):
        planned(two_groups(), groups, objects)


def test_an_object_outside_of_every_group_cannot_be_signed():
    builder = sample()
    builder.add(b"loose", group=0)
    with pytest.raises(SigningError, match="integrity: invalid group ID: object 4 is in no object group"):
        planned(builder, objects=(4,))


def test_an_image_without_groups_cannot_be_signed():
    builder = sample()
    for entry in builder.entries:
        entry.group = 0
    with pytest.raises(SigningError, match="integrity: no groups found"):
        planned(builder)


def test_a_plain_image_is_signed_without_a_word():
    assert warned(two_groups()) == {}


def test_single_objects_approve_nothing_by_themselves():
    assert "(1, 4) approves nothing by itself" in warned(two_groups(), objects=(4, 1))["single-objects"]


def test_a_group_left_out_is_mentioned():
    assert warned(two_groups(), groups=(1,))["groups-left-out"].startswith("nothing is signed of group 2:")


def test_several_groups_without_a_uuid_never_approve_the_whole_image():
    assert "never approve the whole image" in warned(two_groups(uuid=bytes(16)))["not-tied"]
    assert warned(sample(uuid=bytes(16))) == {}


def test_an_object_outside_of_every_group_is_mentioned_in_the_references_words():
    builder = sample()
    builder.add(b"loose", group=0)
    builder.sign_pgp(corpus_pgp_key("builder"))
    words = "non-signature object not associated with object group: 4;"
    assert warned(builder)["ungrouped-object"].startswith(words)


def test_a_native_signature_of_an_oci_sif_is_lost_by_a_push_and_comes_last():
    builder = sample()
    builder.add(b"{}", ROOT_INDEX)
    builder.add(b"{}", OCI_BLOB)
    assert warned(builder).keys() == {"lost-by-push", "cosign-first"}


@pytest.mark.parametrize(
    ("name", "ring", "groups", "objects", "expected"),
    [
        ("one-builder.sif", "builder", (), (), ["this key has signed group 1 before (signature 4)"]),
        ("one-builder-twice.sif", "builder", (), (), ["this key has signed group 1 before (signature 4, 5)"]),
        ("one-builder.sif", "scanner", (), (), []),
        ("one-builder.sif", "builder", (), (1,), []),
        ("one-object1.sif", "builder", (), (1,), ["this key has signed objects 1 before (signature 4)"]),
        ("one-object1.sif", "builder", (), (), []),
        ("two-group1-builder.sif", "builder", (2,), (), []),
        ("clearsign-two-blocks.sif", "builder", (), (), []),
    ],
)
def test_a_key_that_signed_the_same_before_is_told(name, ring, groups, objects, expected):
    found = signed_before(CORPUS / "images" / name, corpus_store(ring), groups, objects)
    assert found == [f"{message}; one key counts once" for message in expected]


def test_a_signature_for_another_purpose_is_no_repetition():
    store = corpus_store("builder")
    image = CORPUS / "images" / "one-builder.sif"
    assert signed_before(image, store, purposes=frozenset({"review"})) == []


def test_a_pem_key_that_signed_before_is_told_and_a_legacy_signature_is_none():
    builder = sample()
    builder.sign_legacy(corpus_pgp_key("builder"), group=1)
    builder.sign_dsse(pem_key("p256"), pem_key("p384"))
    assert len(signed_before(builder, corpus_store(pem=("p384",)))) == 1
    assert signed_before(builder, corpus_store("builder")) == []
