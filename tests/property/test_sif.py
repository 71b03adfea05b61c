"""No byte string makes reader, signature parsers or examination do anything but answer or raise their own error."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.errors import EclctlError
from eclctl.signature import dsse, formats, metadata
from eclctl.terms import Finding, SignatureFormat
from eclctl.verify.examine import examine
from eclctl.verify.reference import CheckedObjects, GivenKeys, verify_scope
from tests.helpers.sifbuilder import corpus_pgp_key, corpus_store, opened, pem_key, sample
from tests.helpers.support import NOW

STORE = corpus_store("site-ring", pem=("p256",))
MATERIAL = GivenKeys(STORE, has_keyring=True, has_keys=True)


def signed():
    builder = sample()
    builder.sign_pgp(corpus_pgp_key("scanner"))
    builder.sign_dsse(pem_key("p256"))
    builder.sign_legacy(corpus_pgp_key("scanner"), group=1)
    return builder.build()


IMAGE = signed()
TABLE = slice(4096, 4096 + 7 * 585)
PATCHES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 127), st.integers(TABLE.start, TABLE.stop - 1), st.integers(0, len(IMAGE) - 1)),
        st.binary(min_size=1, max_size=8),
    ),
    max_size=6,
)


def answers(image):
    """Ask everything of an image; only its own errors may come out."""
    with opened(image) as fd:
        try:
            found = examine(fd, STORE, digests=True)
        except EclctlError:
            found = None
        try:
            report = verify_scope(fd, MATERIAL, CheckedObjects(), NOW)
        except EclctlError:
            report = None
    assert (found is None) == (report is None)
    return found, report


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=2000))
def test_any_bytes_are_refused(data):
    assert answers(data) == (None, None)


@settings(deadline=None, max_examples=300)
@given(PATCHES, st.integers(0, len(IMAGE)))
def test_a_damaged_image_is_answered_and_never_approved_beyond_what_was_signed(patches, length):
    image = bytearray(IMAGE)
    for offset, data in patches:
        image[offset : offset + len(data)] = data
    found, report = answers(bytes(image if patches else image[:length]))
    if found is None:
        return
    members = {item.id for item in found.objects}
    for claim in found.claims:
        assert claim.objects <= members
        assert not (claim.mismatch and claim.objects)
    if report.verified:
        assert any(claim.whole_group and claim.header for claim in found.claims)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.binary(max_size=64), max_size=3))
def test_signatures_by_strangers_add_no_claim(junk):
    builder = sample()
    builder.sign_dsse(pem_key("p256"))
    with opened(builder) as fd:
        before = examine(fd, STORE).claims
    for data in junk:
        builder.attach(data)
    builder.sign_dsse(pem_key("stranger"))
    with opened(builder) as fd:
        after = examine(fd, STORE)
    assert after.claims == before
    assert len(after.failures) == len(junk) + 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.binary(max_size=300) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_text_is_answered_by_every_parser(data):
    assert isinstance(formats.recognize(data), SignatureFormat)
    assert isinstance(dsse.parse_envelope(data), Finding | dsse.Envelope)
    assert isinstance(metadata.parse_metadata(data), Finding)
    assert isinstance(metadata.parse_legacy_digest(data, 1), Finding)
