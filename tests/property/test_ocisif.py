"""No change of an OCI-SIF makes a cosign claim over changed content, and no bytes do anything but answer."""

from __future__ import annotations

import base64
import json
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.errors import EclctlError
from eclctl.model import Verification
from eclctl.sif import oci_sif, reader
from eclctl.sif.oci import Index, Manifest, parse_index, parse_manifest
from eclctl.signature import cosign
from eclctl.terms import Finding
from eclctl.verify.cosign import CosignReport, verify_cosign
from eclctl.verify.examine import examine
from tests.helpers.ocibuilder import (
    MANIFEST_TYPE,
    OciBuilder,
    compact,
    cosign_key,
    cosign_store,
    digest_of,
    oci_sample,
    payload,
)
from tests.helpers.sifbuilder import opened

KEY, STRANGER = cosign_key("ci"), cosign_key("stranger")
STORE = cosign_store(KEY)


def small() -> OciBuilder:
    """An image of two tiny layers, signed, with room for few objects: every byte of it can be tried."""
    builder = OciBuilder()
    builder.sif.slots = 10
    builder.add_image(b"layer one", b"layer two")
    builder.sign(KEY, env="prod")
    return builder


BUILT = small()
FINISHED = BUILT.finish()
IMAGE = FINISHED.build()
START = len(IMAGE) - sum(len(entry.data) for entry in FINISHED.entries)
CONTENT = {entry.id: entry.data for entry in FINISHED.entries}
SUBJECT = frozenset({1, 2, 3, 4})


def asked(image: bytes, *, bounded: bool = False) -> tuple[Verification | None, CosignReport | None]:
    """Ask everything of an image; only its own errors may come out. With `bounded`, see that it takes little memory."""
    if bounded:
        tracemalloc.start()
        answers = asked(image)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64 << 20
        return answers
    with opened(image) as fd:
        try:
            found = examine(fd, STORE)
        except EclctlError:
            found = None
        try:
            report = verify_cosign(fd, STORE.cosign)
        except EclctlError:
            report = None
    assert (found is None) == (report is None)
    return found, report


def is_sound(image: bytes, found: Verification) -> bool:
    """Whether what is claimed is exactly what was signed: each object of the subject, byte for byte."""
    with opened(image) as fd:
        opened_sif = reader.read(fd)
        held = {item.id: bytes(opened_sif.data(item)) for item in opened_sif.descriptors}
    covering = [claim for claim in found.claims if claim.objects]
    signed = sorted(CONTENT[identity] for identity in SUBJECT)
    return all(sorted(held[identity] for identity in claim.objects) == signed for claim in covering)


def test_the_image_as_it_was_signed_is_claimed():
    found, report = asked(IMAGE)
    assert found is not None
    assert report is not None
    assert [claim.objects for claim in found.claims] == [SUBJECT]
    assert report.verified


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80])
def test_no_single_byte_of_data_can_change_under_a_claim(flip):
    """Each byte of subject, payload, annotation, cosign manifest and index, one after the other."""
    claimed = 0
    for offset in range(START, len(IMAGE)):
        image = bytearray(IMAGE)
        image[offset] ^= flip
        found, report = asked(bytes(image))
        assert found is not None
        assert report is not None
        assert is_sound(bytes(image), found), offset
        if report.verified:
            assert any(claim.objects for claim in found.claims), offset
            assert offset >= len(IMAGE) - len(CONTENT[8]), offset  # in the root index, which no key signs
        claimed += any(claim.objects for claim in found.claims)
    assert claimed < len(CONTENT[6]) + len(CONTENT[8])


def test_no_single_byte_of_header_and_table_can_change_what_is_claimed():
    for offset in [*range(128), *range(4096, 4096 + 8 * 585)]:
        image = bytearray(IMAGE)
        image[offset] ^= 0x01
        found, _ = asked(bytes(image))
        assert found is None or is_sound(bytes(image), found), offset


PATCHES = st.lists(
    st.tuples(
        st.one_of(st.integers(4096, 4096 + 8 * 585), st.integers(START, len(IMAGE) - 1), st.integers(0, 127)),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None, max_examples=400)
@given(PATCHES)
def test_a_damaged_image_is_answered_and_never_approved_beyond_what_was_signed(patches):
    image = bytearray(IMAGE)
    for offset, data in patches:
        image[offset : offset + len(data)] = data
    found, _ = asked(bytes(image[: len(IMAGE)]))
    if found is not None:
        assert is_sound(bytes(image[: len(IMAGE)]), found)
        assert not any(claim.mismatch and claim.objects for claim in found.claims)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_text_is_answered_by_every_parser(data):
    assert isinstance(parse_index(data), Index | Finding)
    assert isinstance(parse_manifest(data), Manifest | Finding)
    assert isinstance(cosign.parse_payload(data), Finding)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(["stranger", "text", "junk"]), st.binary(max_size=40)), max_size=4))
def test_signatures_by_strangers_add_no_claim_and_take_none_away(extra):
    builder = small()
    for sort, data in extra:
        if sort == "stranger":
            builder.sign(STRANGER, by=data.hex())
        elif sort == "text":
            builder.sign(STRANGER, data)
        else:
            layer = builder.sign(STRANGER, data)
            layer["annotations"] = {"dev.cosignproject.cosign/signature": base64.b64encode(data).decode()}
    found, report = asked(builder.build())
    assert found is not None
    assert report is not None
    assert [claim.objects for claim in found.claims if claim.signer.id == f"cosign:{KEY.public.id}"] == [SUBJECT]
    assert len(found.claims) == 1
    assert len(found.failures) == len(extra)
    assert report.verified


def mutate(values: object, dice: random.Random, pool: list[object]) -> object:
    """Change one thing somewhere in JSON values."""
    if isinstance(values, dict) and values and dice.random() < 0.9:
        name = dice.choice(list(values))
        match dice.randrange(6):
            case 0:
                return {key: value for key, value in values.items() if key != name}
            case 1:
                return {**values, name.swapcase(): dice.choice(pool)}
            case 2:
                return {**values, dice.choice(["manifests", "layers", "config", "mediaType"]): dice.choice(pool)}
        return {**values, name: mutate(values[name], dice, pool)}
    if isinstance(values, list) and values and dice.random() < 0.9:
        at = dice.randrange(len(values))
        match dice.randrange(4):
            case 0:
                return [*values, values[at]]
            case 1:
                return values[:at] + values[at + 1 :]
        return [*values[:at], mutate(values[at], dice, pool), *values[at + 1 :]]
    return dice.choice(pool)


def test_thousands_of_mutated_indexes_and_manifests_only_answer_in_bounded_memory():
    """Structures are changed and every digest is made right again, so that the parsers see what was changed."""
    dice = random.Random(11)
    pool: list[object] = [
        None,
        True,
        -1,
        0,
        2,
        1 << 70,
        0.5,
        "",
        "sha256:../x",
        MANIFEST_TYPE,
        [],
        {},
        [[]],
        "x" * 5000,
    ]
    pool += [BUILT.index[0], BUILT.index[0]["digest"], BUILT.index[0]["size"], "_cosign", BUILT.signature_name]
    for number in range(3000):
        builder = small()
        if dice.random() < 0.5:
            manifest = mutate(json.loads(CONTENT[4]), dice, pool)
            data = compact(manifest)
            builder.index = []
            builder.entry(data)
            builder.signatures = []
            builder.image = digest_of(data)
            builder.sign(KEY)
        else:
            finished = small()
            finished.finish()
            builder.root = compact(mutate(mutate(json.loads(CONTENT[8]), dice, pool), dice, pool))
        found, report = asked(builder.build(), bounded=number % 20 == 0)
        assert found is not None
        assert report is not None
        if report.verified:
            assert found.oci is not None
            assert any(claim.objects == found.oci.subject for claim in found.claims)
        for claim in found.claims:
            assert claim.mismatch is not None or (found.oci is not None and claim.objects == found.oci.subject)


def hostile_documents() -> dict[str, bytes]:
    entry = {"mediaType": MANIFEST_TYPE, "size": 1, "digest": "sha256:" + "ab" * 32}
    listed = compact(entry)
    room = oci_sif.MAX_DOCUMENT
    head, tail = b'{"schemaVersion":2,"manifests":[', b"]}"
    return {
        "entries": head + b",".join([listed] * (room // (len(listed) + 1) - 1)) + tail,
        "empty objects": head + b",".join([b"{}"] * (room // 3 - 20)) + tail,
        "numbers": head + b",".join([b"1"] * (room // 2 - 40)) + tail,
        "digits": b'{"schemaVersion":' + b"1" * (room - 100) + b"}",
        "depth": b'{"a":' * (room // 6),
        "escapes": b'{"' + b"\\u0041" * (room // 6 - 20) + b'":1}',
        "keys": b"{" + b",".join(b'"%d":1' % number for number in range(60000)) + b"}",
        "strings": head + b",".join([b'""'] * 60000) + tail,
        "spaces": b" " * (room - 2) + b"{}",
    }


@pytest.mark.parametrize("data", hostile_documents().values(), ids=hostile_documents().keys())
def test_a_hostile_index_costs_little_memory(data):
    assert len(data) <= oci_sif.MAX_DOCUMENT
    builder = oci_sample()
    builder.root = data
    found, _ = asked(builder.build(), bounded=True)
    assert found is not None
    assert found.oci is None
    (failure,) = found.failures
    assert failure.finding.code in {"bad-index", "too-large"}


def test_a_payload_of_another_image_never_moves_a_claim():
    """Two images, each signed; the cosign manifest of one is listed under the name of the other."""
    first, second = oci_sample(KEY), oci_sample(layers=3)
    second.sign(KEY, payload(first.image))
    found, report = asked(second.build())
    assert found is not None
    assert report is not None
    assert not report.verified
    assert [claim.objects for claim in found.claims] == [frozenset()]
