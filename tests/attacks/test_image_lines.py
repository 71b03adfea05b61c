"""Attacks on the image itself, one test or more for each line: what the facts say, and what `verify` answers.

Whether a fact then allows anything is the policy's part; here no person is named who did not sign what is in the file.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import tempfile

import pytest

from eclctl.errors import EclctlError, MalformedImageError
from eclctl.sif import reader
from eclctl.terms import SignatureFormat, SignerKind
from eclctl.verify.examine import examine
from eclctl.verify.reference import CheckedObjects, GivenKeys, verify_scope
from tests.helpers import pgp
from tests.helpers.sifbuilder import (
    DESCRIPTOR,
    PAYLOAD_TYPE,
    SifBuilder,
    corpus_pgp_key,
    corpus_store,
    envelope,
    opened,
    pem_key,
    sample,
)
from tests.helpers.support import CORPUS, NOW

BUILDER, SCANNER = corpus_pgp_key("builder"), corpus_pgp_key("scanner")
STORE = corpus_store("site-ring", pem=("p256",))
ALL = GivenKeys(STORE, has_keyring=True, has_keys=True)


def facts(image):
    with opened(image) as fd:
        return examine(fd, STORE)


def verified(image):
    with opened(image) as fd:
        return verify_scope(fd, ALL, CheckedObjects(), NOW).verified


def approves_nothing(image):
    """Return whether no claim covers anything and `verify` fails."""
    return not verified(image) and all(not claim.objects and not claim.whole_group for claim in facts(image).claims)


def test_mixed_signatures_keep_the_legacy_one_apart():
    """mixed signatures | legacy beside new."""
    builder = sample()
    builder.sign_legacy(BUILDER, group=1)
    builder.sign_pgp(SCANNER)
    legacy, modern = facts(builder).claims
    assert (legacy.format, legacy.header) == (SignatureFormat.LEGACY, False)
    assert (modern.format, modern.signer.id) == (SignatureFormat.PGP, SCANNER.fingerprint)
    with opened(builder) as fd:
        report = verify_scope(fd, ALL, CheckedObjects(), NOW)
    assert [found.id for found in report.signatures] == [5]


def test_composed_image_is_a_mismatch_under_another_header():
    """composed image | object A signed for image X, object B for image Y."""
    image_x, image_y = sample(uuid=b"x" * 16), sample(uuid=b"y" * 16)
    from_x, from_y = image_x.sign_pgp(BUILDER, only=(1, 2)), image_y.sign_pgp(BUILDER, only=(3,))
    image_x.entries = [*image_x.entries[:2], image_y.entries[2], from_x, from_y]
    from_y.id = 5
    found = {claim.signature: claim for claim in facts(image_x).claims}
    assert found[5].mismatch.code == "header-changed"
    assert not found[5].objects


def test_composed_image_with_a_nil_uuid_is_not_tied_and_never_whole():
    """composed image | … same or nil UUID."""
    builder = sample(uuid=bytes(16))
    builder.sign_pgp(BUILDER, only=(1, 2))
    builder.sign_pgp(BUILDER, only=(3,))
    found = facts(builder)
    assert not found.tied
    assert not any(claim.whole_group for claim in found.claims)
    assert not verified(builder)


@pytest.mark.parametrize("group", [0, 2])
def test_uncovered_object_is_in_no_claim(group):
    """uncovered object | one object unsigned, or in no group."""
    builder = sample()
    builder.sign_pgp(BUILDER)
    builder.add(b"stray", group=group)
    assert not verified(builder)
    found = facts(builder)
    assert 5 in {item.id for item in found.objects}
    assert all(5 not in claim.objects for claim in found.claims)


# Header fields that are signed, and every signed field of the first object's descriptor, with its tail.
SIGNED_BYTES = [0, 31, 48, 63] + [
    4096 + offset for offset in (0, 13, 14, 16, 25, 26, 41, 42, 57, 58, 65, 66, 72, 73, 100, 200, 201, 300, 584)
]


@pytest.mark.parametrize("offset", SIGNED_BYTES)
def test_header_name_extra_launch_script_changed_is_never_approved(offset):
    """header, name, extra, launch script changed | one flipped byte."""
    builder = sample()
    builder.sign_pgp(BUILDER)
    builder.sign_dsse(pem_key("p256"))
    image = bytearray(builder.build())
    image[offset] ^= 1
    try:
        assert approves_nothing(bytes(image))
    except MalformedImageError:
        assert 4096 + 17 <= offset < 4096 + 33  # where the object lies, and how long it is


def test_header_name_extra_changed_leaves_a_legacy_claim_over_data_alone():
    """header, name, extra, launch script changed | (legacy: only with opt-in)."""
    builder = sample()
    builder.sign_legacy(BUILDER, group=1)
    builder.entries[0].name = b"changed"
    (claim,) = facts(builder).claims
    assert (claim.format, claim.header) == (SignatureFormat.LEGACY, False)
    assert not verified(builder)


@pytest.mark.parametrize(
    "name", ["forged-fingerprint.sif", "dsse-trusted-pgp-fingerprint.sif", "wrong-fingerprint.sif"]
)
def test_forged_fingerprint_names_no_signer(name):
    """forged fingerprint | DSSE signature whose descriptor carries a trusted PGP fingerprint."""
    with opened(CORPUS / "images" / name) as fd:
        claims = examine(fd, corpus_store("site-ring", pem=("p256", "stranger"))).claims
    assert all(claim.signer.kind is SignerKind.KEY for claim in claims)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'{"version":1', b'{"version":1,"version":1', 1),
        lambda text: text.replace(b'"header"', b'"Header"', 1),
        lambda text: text.replace(b'{"version":1', b'{"Version":2,"version":1', 1),
        lambda text: text.replace(b'{"version":1', b'{"comment":"x","version":1', 1),
        lambda text: text.replace(b'"relativeId":0', b'"relativeId":NaN', 1),
        lambda text: text.replace(b'"relativeId":0', b'"relativeId":0.0', 1),
        lambda text: text.replace(b'"relativeId":0', b'"relativeId":4294967296', 1),
        lambda text: text.replace(b'"relativeId":1', b'"relativeId":4294967295', 1),
        lambda text: text.replace(b'"version":1', b'"version":2', 1),
        lambda text: text.replace(b'"version":1', b'"version":' + b"[" * 2_000 + b"]" * 2_000, 1),
        lambda text: text + b"\n{}",
    ],
    ids=["twice", "variant", "variant-too", "unknown", "nan", "float", "2^32", "near-2^32", "version", "depth", "rest"],
)
def test_json_that_could_be_read_in_two_ways_is_invalid(change):
    """JSON | duplicate, case-variant or unknown keys, NaN, depth, wrong version, relativeId near 2³²."""
    text = change(sample().metadata())
    for sign in (lambda b: b.sign_pgp(BUILDER, text=text), lambda b: b.sign_dsse(pem_key("p256"), text=text)):
        builder = sample()
        sign(builder)
        assert approves_nothing(builder)


def with_payload_type(payload_type, *, shown=PAYLOAD_TYPE):
    builder = sample()
    data = json.loads(envelope(builder.metadata(), pem_key("p256"), payload_type=payload_type))
    builder.attach(json.dumps(data | {"payloadType": shown}).encode())
    return builder


def without_pae():
    builder = sample()
    text = builder.metadata()
    data = json.loads(envelope(text, pem_key("p256")))
    data["signatures"][0]["sig"] = base64.b64encode(pem_key("p256").sign(text)).decode()
    builder.attach(json.dumps(data).encode())
    return builder


def without_signatures():
    builder = sample()
    data = json.loads(envelope(builder.metadata(), pem_key("p256")))
    builder.attach(json.dumps(data | {"signatures": []}).encode())
    return builder


def from_another_image():
    builder, other = sample(), sample(uuid=b"other image here")
    builder.attach(envelope(other.metadata(), pem_key("p256")))
    return builder


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_payload_type("text/plain"),
        lambda: with_payload_type("text/plain", shown="text/plain"),
        lambda: with_payload_type(PAYLOAD_TYPE, shown="text/plain"),
        without_pae,
        without_signatures,
        from_another_image,
    ],
    ids=["type-shown", "type", "type-hidden", "no-pae", "no-signatures", "another-image"],
)
def test_dsse_envelopes_that_do_not_count(make):
    """DSSE | wrong payload type, signature not over the PAE, no signatures, another image's envelope."""
    assert approves_nothing(make())


EXTREMES = [-1, -(1 << 63), (1 << 63) - 1, 1 << 62, 1 << 32, (1 << 31) - 1]
HEADER_COUNTS = {"total": 88, "table offset": 96, "table size": 104}
OBJECT_FIELDS = {"offset": 4096 + 17, "size": 4096 + 25}


@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("field", [*HEADER_COUNTS, *OBJECT_FIELDS])
def test_sif_integers_that_are_impossible_are_malformed_at_once(field, value):
    """SIF integers | counts and sizes negative, huge, overflowing."""
    image = bytearray(sample().build())
    at = (HEADER_COUNTS | OBJECT_FIELDS)[field]
    image[at : at + 8] = struct.pack("<q", value)
    malformed_at_once(bytes(image))


@pytest.mark.parametrize(("field", "value"), [("id", 1), ("id", 0)])
def test_sif_integers_duplicate_objects_are_malformed(field, value):
    """SIF integers | … duplicate objects."""
    builder = sample()
    setattr(builder.entries[1], field, value)
    malformed_at_once(builder)


def test_sif_integers_overlapping_objects_are_malformed():
    """SIF integers | overlapping … objects."""
    builder = sample()
    builder.entries[1].offset = 4096 + 48 * DESCRIPTOR.size
    malformed_at_once(builder)


@pytest.mark.parametrize("length", [0, 1, 64, 127, 128, 4096, 5000, 30_000, 32_175, 33_000])
def test_sif_integers_truncation_is_malformed(length):
    """SIF integers | … truncation."""
    malformed_at_once(sample().build()[:length])


def test_sif_integers_a_full_table_of_overlapping_objects_is_malformed():
    """SIF integers | the most slots there may be, all of them used."""
    builder = SifBuilder(slots=reader.MAX_SLOTS)
    builder.entries = [entry for number in range(reader.MAX_SLOTS - 1) for entry in [_entry(number + 1)]]
    builder.entries.append(_entry(1))
    malformed_at_once(builder)


def _entry(identity):
    builder = SifBuilder()
    return builder.add(b"", id=identity)


def malformed_at_once(image):
    """Refuse with the reader's own error, having read no more than a prefix and the largest table."""
    read = []
    real = os.pread

    def counting(fd, size, offset):
        read.append(size)
        return real(fd, size, offset)

    with opened(image) as fd, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", counting)
        with pytest.raises(MalformedImageError):
            examine(fd, STORE)
    assert sum(read) <= 65_536 + reader.MAX_SLOTS * DESCRIPTOR.size


def test_file_kinds_an_8_eib_sparse_file_is_refused_without_reading_it():
    """file kinds | … 8 EiB sparse."""
    with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
        file.write(sample().build())
        try:
            os.ftruncate(file.fileno(), (1 << 63) - 4097)
        except OSError:
            try:
                os.ftruncate(file.fileno(), 1 << 43)
            except OSError:
                pytest.skip("needs a file system with huge sparse files")
        with pytest.raises(MalformedImageError, match="holes"):
            examine(file.fileno(), STORE)


def test_file_kinds_a_fifo_and_a_directory_are_refused_without_waiting(tmp_path):
    """file kinds | FIFO … directory."""
    os.mkfifo(tmp_path / "fifo")
    for path, flags in ((tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK), (tmp_path, os.O_RDONLY)):
        fd = os.open(path, flags)
        try:
            with pytest.raises(EclctlError, match="not a regular file"):
                examine(fd, STORE)
        finally:
            os.close(fd)


def test_one_signer_twice_is_one_key():
    """one signer twice | same signature copied."""
    builder = sample()
    first = builder.sign_pgp(BUILDER)
    builder.attach(first.data, fingerprint=BUILDER.raw)
    assert {claim.key for claim in facts(builder).claims} == {BUILDER.fingerprint}


def test_clear_sign_framing_a_text_around_the_signed_one_is_never_parsed():
    """clear-sign framing | only the text that was verified is ever parsed."""
    builder = sample()
    signed = pgp.clearsign(BUILDER, text=b'{"version":1}')
    forged = b"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + builder.metadata() + b"\n"
    builder.attach(forged + signed[signed.index(b"-----BEGIN PGP SIGNATURE") :], fingerprint=BUILDER.raw)
    builder.attach(forged + signed, fingerprint=BUILDER.raw)
    builder.attach(signed + forged, fingerprint=BUILDER.raw)
    assert facts(builder).claims == ()
    assert not verified(builder)
