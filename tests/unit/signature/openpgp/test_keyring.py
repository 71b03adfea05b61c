"""Keyrings: what is read, merged, indexed, and kept apart."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from eclctl.errors import KeyMaterialError
from eclctl.signature import openpgp
from tests import pgp
from tests.pgp import Key, armor, certificate, clearsign, packet, user_id
from tests.support import CORPUS, NOW

BLOCK = "PUBLIC KEY BLOCK"
ALICE, BOB = Key(), Key(version=6)
RINGS = [
    certificate(ALICE) + certificate(BOB),
    armor(BLOCK, certificate(ALICE) + certificate(BOB)),
    armor(BLOCK, certificate(BOB)) + armor(BLOCK, certificate(ALICE)),
]


@pytest.mark.parametrize("ring", RINGS, ids=["binary", "one block", "two blocks"])
def test_certificates_are_found_in_every_form(ring):
    keyring = openpgp.Keyring.parse(ring)
    assert {found.fingerprint for found in keyring.certificates} == {ALICE.fingerprint, BOB.fingerprint}
    assert keyring.get(ALICE.fingerprint).fingerprint == ALICE.fingerprint
    assert keyring.get(ALICE.fingerprint.lower()) is None


def test_digest_depends_on_what_is_in_it_alone():
    user = user_id(ALICE)
    alice = certificate(ALICE, user)
    bob = certificate(BOB)
    same = {
        openpgp.Keyring.parse(alice, bob).digest,
        openpgp.Keyring.parse(bob, alice).digest,
        openpgp.Keyring.parse(armor(BLOCK, alice + bob), alice).digest,
    }
    assert len(same) == 1
    others = [(), (alice,), (certificate(ALICE, user, packet(2, ALICE.sign(0x20, ALICE.prefix))), bob)]
    assert not same & {openpgp.Keyring.parse(*ring).digest for ring in others}


def test_digest_tells_which_key_a_subkey_and_a_signature_belong_to():
    key = Key()
    parts = pgp.subkey(ALICE, key)
    one = certificate(ALICE, user_id(ALICE, b"A")), certificate(BOB, user_id(BOB, b"B"), parts)
    other = certificate(ALICE, user_id(ALICE, b"A"), parts), certificate(BOB, user_id(BOB, b"B"))
    assert openpgp.Keyring.parse(*one).digest != openpgp.Keyring.parse(*other).digest


def test_no_files_make_an_empty_ring():
    assert openpgp.Keyring.parse().certificates == ()


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"hello",
        b"\x00",
        packet(13, b"A"),
        certificate(ALICE)[:-1],
        armor("MESSAGE", certificate(ALICE)),
        armor(BLOCK, certificate(ALICE))[:-10],
        armor(BLOCK, b"hello"),
        b"\xff" * 100,
    ],
    ids=count(),
)
def test_file_that_is_damaged_or_holds_no_certificate_is_an_error(blob):
    with pytest.raises(openpgp.CertificateError):
        openpgp.Keyring.parse(certificate(BOB), blob)
    with pytest.raises(openpgp.VerificationError):
        openpgp.verify(clearsign(ALICE), blob, now=NOW)


@pytest.mark.parametrize("name", ["builder-secret.asc", "scanner-secret.asc"])
def test_private_keys_are_refused_with_advice(name):
    with pytest.raises(KeyMaterialError, match=r"private keys.*--export"):
        openpgp.Keyring.parse((CORPUS / "keys" / "pgp" / name).read_bytes())


@pytest.mark.parametrize("tag", [5, 7])
def test_private_keys_are_refused_whatever_the_block_says(tag):
    with pytest.raises(KeyMaterialError, match="private keys"):
        openpgp.Keyring.parse(armor(BLOCK, certificate(ALICE) + packet(tag, BOB.body)))


def test_certificates_are_in_one_order_whatever_the_files():
    rings = [openpgp.Keyring.parse(*ring) for ring in (RINGS, RINGS[::-1])]
    rings.append(openpgp.Keyring.parse(certificate(BOB) + certificate(ALICE)))
    orders = [[found.fingerprint for found in ring.certificates] for ring in rings]
    assert orders == [sorted((ALICE.fingerprint, BOB.fingerprint))] * 3


@pytest.mark.parametrize(
    "broken",
    [
        packet(6, b""),
        packet(6, b"\x03" + b"x" * 20),
        packet(6, b"\x05" + b"x" * 20),
        packet(6, b"\x04" + b"x" * 20) + user_id(ALICE),
        packet(6, b"\x04\0\0\0\0\x01\xff\xff"),
        packet(6, Key().body) + packet(2, b"") + packet(2, b"\x04"),
        packet(6, Key().body) + packet(13, b"A") + packet(17, b"photo") + packet(2, b"\xff" * 50) + packet(60, b"?"),
    ],
    ids=count(),
)
def test_broken_certificate_does_not_poison_the_others(broken):
    for ring in (broken + certificate(ALICE), certificate(ALICE) + broken):
        assert openpgp.verify(clearsign(ALICE), ring, now=NOW).signers[0].id == ALICE.fingerprint


def test_certificates_show_names_and_key_material():
    key = Key(rsa.generate_private_key(65537, 2048))
    ring = certificate(key, user_id(key, b"Bob \xff"), pgp.subkey(key, ALICE))
    (found,) = openpgp.Keyring.parse(ring).certificates
    assert found.name == "Bob �"
    assert len(found.materials) == 2
    assert found.materials > openpgp.Keyring.parse(certificate(ALICE)).get(ALICE.fingerprint).materials


def test_judging_with_another_keyring_uses_that_keyring():
    """Facts are found once; whether a key still counts is asked of the ring that is trusted now."""
    (fact,) = openpgp.check(clearsign(ALICE), openpgp.Keyring.parse(certificate(ALICE))).signatures
    revoked = openpgp.Keyring.parse(certificate(ALICE, packet(2, ALICE.sign(0x20, ALICE.prefix)), user_id(ALICE)))
    without = openpgp.Keyring.parse(certificate(BOB))

    def judged(ring, now=NOW):
        finding = openpgp.judge(fact.certificate, fact.key, fact.created, fact.expires, ring, now)
        return finding and finding.code

    assert judged(openpgp.Keyring.parse(certificate(ALICE))) is None
    assert judged(revoked) == "key-revoked"
    assert judged(without) == "unknown-key"
    assert judged(openpgp.Keyring.parse(certificate(ALICE)), NOW - timedelta(days=999)) == "key-not-yet-valid"


def test_signature_without_a_time_never_counts():
    ring = openpgp.Keyring.parse(certificate(ALICE))
    assert openpgp.judge(ALICE.fingerprint, ALICE.fingerprint, None, None, ring, NOW).code == "unknown-key"
