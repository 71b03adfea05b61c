"""Envelopes are, byte for byte, those of the reference, and what is opened is what was sealed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eclctl.errors import SigningError
from eclctl.sign.native import seal_envelope as seal
from eclctl.sign.pem import private_key
from eclctl.signature import dsse
from tests.helpers.scribes import private_pem_key, signature_data
from tests.helpers.sifbuilder import PemKey, pem_key
from tests.helpers.support import CORPUS

IMAGES = CORPUS / "images"
NAMES = ("p256", "p384", "p521", "ed25519", "rsa2048", "rsa4096")


def payload_of(path: Path) -> bytes:
    envelope = dsse.parse_envelope(signature_data(path, 4))
    assert isinstance(envelope, dsse.Envelope)
    return envelope.payload


@pytest.mark.parametrize("name", ["ed25519", "rsa2048", "rsa4096"])
def test_a_key_whose_signatures_are_always_the_same_seals_the_references_envelope(name):
    path = IMAGES / f"one-dsse-{name}.sif"
    assert seal(payload_of(path), [private_pem_key(name)]) == signature_data(path, 4)


def test_ecdsa_signatures_differ_from_the_references_in_nothing_else():
    path = IMAGES / "one-dsse-p256+ed25519.sif"
    keys = [private_pem_key("p256"), private_pem_key("ed25519")]
    mine, theirs = json.loads(seal(payload_of(path), keys)), json.loads(signature_data(path, 4))
    mine["signatures"][0]["sig"] = theirs["signatures"][0]["sig"]
    assert json.dumps(mine) == json.dumps(theirs)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_sealed_opens_with_the_public_key(name):
    envelope = dsse.parse_envelope(seal(b"a text", [private_pem_key(name)]))
    assert isinstance(envelope, dsse.Envelope)
    found = dsse.verify_envelope(envelope, [pem_key("stranger").public, pem_key(name).public])
    assert found == (pem_key(name).public,)
    assert envelope.payload == b"a text"


def test_every_key_signs_once_in_the_order_given():
    first, second = private_pem_key("ed25519"), private_pem_key("p384")
    document = json.loads(seal(b"a text", [first, second, first]))
    assert [each["keyid"] for each in document["signatures"]] == [first.public.keyid, second.public.keyid]


def test_no_key_and_more_keys_than_a_reader_looks_at_are_refused():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    keys = [private_key(PemKey(Ed25519PrivateKey.generate()).private, "made") for _ in range(dsse.MAX_SIGNATURES + 1)]
    with pytest.raises(SigningError, match="there are 0 keys"):
        seal(b"", [])
    with pytest.raises(SigningError, match="there are 17 keys"):
        seal(b"", keys)
