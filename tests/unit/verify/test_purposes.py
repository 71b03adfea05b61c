"""What the signatures of whole images say that they are for."""

from __future__ import annotations

import pytest

from eclctl.terms import NO_PURPOSE_KNOWN
from eclctl.verify.examine import examine
from tests.helpers import pgp
from tests.helpers.ocibuilder import cosign_key, cosign_store, oci_sample
from tests.helpers.sifbuilder import GROUP_BITS, corpus_pgp_key, corpus_store, opened, pem_key, sample

BUILDER, KEY = corpus_pgp_key("builder"), cosign_key("ci")
NOTATION = b"\x80\0\0\0\0\x12\0\x04purpose@eclctl.orgscan"


def test_a_pgp_claim_is_for_what_its_hashed_notation_says() -> None:
    image = sample()
    text = image.metadata()
    signature = BUILDER.sign(1, text, pgp.sub(20, NOTATION), created=pgp.SIGNED)
    image.attach(pgp.clearsign(pgp.packet(2, signature), text=text), link=1 | GROUP_BITS, fingerprint=BUILDER.raw)
    image.sign_pgp(BUILDER)
    image.sign_dsse(pem_key("p256"))
    with opened(image) as fd:
        claims = examine(fd, corpus_store("site-ring", pem=("p256",))).claims
    assert [claim.purposes for claim in claims] == [{"scan"}, frozenset(), frozenset()]


@pytest.mark.parametrize(
    ("stated", "purposes"),
    [
        ({}, frozenset()),
        ({"purpose": "scan"}, {"scan"}),
        ({"Purpose": "scan"}, frozenset()),
        ({"purpose": ""}, {NO_PURPOSE_KNOWN}),
        ({"purpose": "scan,approve"}, {NO_PURPOSE_KNOWN}),
        ({"purpose": None}, {NO_PURPOSE_KNOWN}),
        ({"purpose": 7}, {NO_PURPOSE_KNOWN}),
        ({"purpose": ["scan"]}, {NO_PURPOSE_KNOWN}),
    ],
)
def test_a_cosign_claim_is_for_what_its_annotation_says(stated: dict[str, object], purposes: frozenset[str]) -> None:
    """What has that name and cannot be read is not taken for an approval without bounds."""
    image = oci_sample()
    image.sign(KEY, **stated)
    with opened(image.build()) as fd:
        (claim,) = examine(fd, cosign_store(KEY)).claims
    assert claim.purposes == purposes
