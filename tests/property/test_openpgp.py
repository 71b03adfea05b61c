"""No bytes make the verifier do anything but answer or raise its own error, and none change what was signed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eclctl.signature import openpgp
from tests.helpers.pgp import CREATED, TEXT, Key, armor, certificate, clearsign, packet, subkey, user_id
from tests.helpers.support import CORPUS, NOW

FOLDER = CORPUS / "openpgp"
ACCEPTED = [
    case
    for case in json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))["cases"]
    if case["expect"] == "accept"
]
ALICE, MALLORY, SUBKEY = Key(), Key(), Key()
RING = certificate(ALICE, user_id(ALICE), subkey(ALICE, SUBKEY))
GOOD = clearsign(ALICE)
PARTS = [
    b"-----BEGIN PGP SIGNED MESSAGE-----",
    b"-----BEGIN PGP SIGNATURE-----",
    b"-----END PGP SIGNATURE-----",
    b"Hash: SHA256",
    b"\n",
    b"\r\n",
    b"- ",
    b"=AAAA",
    TEXT,
]


def answer(message, ring):
    """Return what verifying gives, None when it refuses; any other exception than its own fails the test."""
    try:
        return openpgp.verify(message, ring, now=NOW)
    except openpgp.VerificationError:
        return None


@given(st.binary(max_size=300))
def test_any_bytes_as_message(message):
    assert answer(message, RING) is None


@given(st.lists(st.sampled_from(PARTS) | st.binary(max_size=8), max_size=20).map(b"".join))
def test_any_framing_as_message(message):
    assert answer(message, RING) is None


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_as_keyring(ring, armored):
    assert answer(GOOD, armor("PUBLIC KEY BLOCK", ring) if armored else ring) is None


@given(st.lists(st.tuples(st.sampled_from([2, 6, 13, 14, 17, 60]), st.binary(max_size=60)), max_size=12))
def test_any_packets_as_certificate_grant_nothing(packets):
    ring = packet(6, ALICE.body) + b"".join(packet(tag, body) for tag, body in packets)
    assert answer(GOOD, ring) is None


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_any_signature_packet_body(body, unhashed):
    good = ALICE.sign(1, TEXT, unhashed=unhashed)
    assert answer(clearsign(packet(2, body)), RING) is None
    found = answer(clearsign(packet(2, good)), RING)
    assert found is None or found.text == TEXT


@st.composite
def edits(draw, data):
    """Return `data` with a few octets replaced, removed or inserted."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(changed)))
        changed[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4) | st.sampled_from(PARTS))
    return bytes(changed)


@settings(max_examples=400)
@given(edits(GOOD))
def test_edited_message_is_refused_or_says_the_same(message):
    found = answer(message, RING)
    assert found is None or (found.text, [signer.id for signer in found.signers]) == (TEXT, [ALICE.fingerprint])


@settings(max_examples=400)
@given(edits(RING))
def test_edited_keyring_names_no_other(ring):
    found = answer(GOOD, ring)
    assert found is None or [signer.id for signer in found.signers] == [ALICE.fingerprint]


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case["id"])
def test_every_octet_of_an_accepted_message_matters_or_changes_nothing(case):
    """Each octet of each message that verifies is damaged in turn: no other text, no other signer, no other error."""
    message = (FOLDER / case["msg"]).read_bytes()
    keyring = openpgp.Keyring.parse((FOLDER / case["cert"]).read_bytes())
    good = openpgp.verify(message, keyring, now=NOW)
    for at, octet in enumerate(message):
        for other in (octet ^ 0x01, octet ^ 0x20, 0x0A):
            found = answer(message[:at] + bytes((other,)) + message[at + 1 :], keyring)
            assert found is None or (found.text, found.signers) == (good.text, good.signers)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0x20, 0x28, 0x30, 0x13, 0x18, 0x1F]))
def test_signatures_by_others_in_a_certificate_change_nothing(created, kind):
    """No signature of Mallory about Alice changes what her certificate is worth."""
    for content in (ALICE.prefix, ALICE.prefix + SUBKEY.prefix):
        for issuer in (MALLORY.issuer(), ALICE.issuer()):
            extra = packet(2, MALLORY.sign(kind, content, created=created, issuer=issuer))
            assert answer(GOOD, RING + extra) == answer(GOOD, RING)


@given(st.permutations([certificate(ALICE, user_id(ALICE, b"A")), certificate(MALLORY), RING]), st.integers(0, 2))
def test_order_and_repetition_of_certificates_change_nothing(certificates, repeated):
    certificates = [*certificates, certificates[repeated]]
    keyring = openpgp.Keyring.parse(*certificates)
    assert keyring.digest == openpgp.Keyring.parse(*reversed(certificates)).digest
    assert answer(GOOD, keyring) == answer(GOOD, openpgp.Keyring.parse(*reversed(certificates)))


@given(st.integers(CREATED, 2**31), st.integers(CREATED, 2**31), st.integers(0, 2**31))
def test_signature_that_expired_stays_expired(signed, created, lifetime):
    """Verifying never comes back as time goes on, once the signature or its key ran out."""
    key = Key(created=created)
    facts = openpgp.check(clearsign(key, created=signed), openpgp.Keyring.parse(certificate(key))).signatures
    assert len(facts) == 1
    keyring = openpgp.Keyring.parse(certificate(key))
    (fact,) = facts
    expires = fact.created.fromtimestamp(signed + lifetime, fact.created.tzinfo)
    moments = [fact.created.fromtimestamp(at, fact.created.tzinfo) for at in range(CREATED, 2**32, 2**27)]
    counted = [
        openpgp.judge_signature(fact.certificate, fact.key, fact.created, expires, keyring, moment) is None
        for moment in moments
    ]
    assert "".join("1" if counts else "0" for counts in counted).strip("0").count("0") == 0
