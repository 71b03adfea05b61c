"""Keyrings: what is read, merged, indexed, and kept apart."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from eclctl.signature import openpgp
from eclctl.signature.openpgp.errors import PacketError
from eclctl.signature.openpgp.keys import public_part
from eclctl.signature.openpgp.packets import read_packets
from tests.helpers import pgp
from tests.helpers.pgp import Key, armor, certificate, clearsign, packet, user_id
from tests.helpers.support import CORPUS, NOW

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


def secret_packets(ring):
    """Return a binary ring with every key turned into a secret one: its public part, then something unencrypted."""
    tags = {6: 5, 14: 7}
    return b"".join(
        packet(tags.get(tag, tag), body + (b"\0" + b"secret" if tag in tags else b""))
        for tag, body in read_packets(ring)
    )


SECRETS = sorted(path.name for path in (CORPUS / "keys" / "pgp").glob("*-secret.asc"))
EVERY_ALGORITHM = [
    Key(rsa.generate_private_key(65537, 2048)),
    Key(ec.generate_private_key(ec.SECP521R1())),
    Key(),
    Key(legacy=False),
    Key(ed448.Ed448PrivateKey.generate()),
    Key(version=6),
    Key(rsa.generate_private_key(65537, 2048), version=6),
]


@pytest.mark.parametrize("name", SECRETS)
def test_of_a_private_key_file_the_public_part_is_the_certificate(name):
    secret = openpgp.Keyring.parse((CORPUS / "keys" / "pgp" / name).read_bytes())
    public = openpgp.Keyring.parse((CORPUS / "keys" / "pgp" / name.replace("-secret", "")).read_bytes())
    assert [found.fingerprint for found in secret.certificates] == [found.fingerprint for found in public.certificates]
    assert secret.secret == tuple(found.fingerprint for found in public.certificates)
    assert public.secret == ()
    keys = [[key.fingerprint for key in found.keys] for ring in (secret, public) for found in ring.certificates]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("key", EVERY_ALGORITHM, ids=count())
@pytest.mark.parametrize("form", ["binary", "armored", "armored as public"])
def test_private_keys_of_every_algorithm_have_a_public_part(key, form):
    subkey = Key(version=key.version)
    rest = user_id(key) if key.version == 4 else packet(2, key.sign(0x1F, key.prefix, pgp.flags(3)))
    ring = certificate(key, rest, pgp.subkey(key, subkey))
    secret = secret_packets(ring)
    if form != "binary":
        secret = armor("PRIVATE KEY BLOCK" if form == "armored" else BLOCK, secret)
    assert openpgp.Keyring.parse(secret).digest == openpgp.Keyring.parse(ring).digest
    assert openpgp.Keyring.parse(secret).secret == (key.fingerprint,)
    assert openpgp.verify(clearsign(subkey), secret, now=NOW).signers[0].id == key.fingerprint


@pytest.mark.parametrize("algorithm", [2, 16, 17, 18, 25, 26])
def test_public_part_ends_where_the_algorithm_says(algorithm):
    number = pgp.mpi(5)
    curve = b"\x03abc" + number
    octets = {
        25: bytes(32),
        26: bytes(56),
        18: curve + b"\x03\x01\x08\x07",
        2: number * 2,
        16: number * 3,
        17: number * 4,
    }
    public = b"\x04" + pgp.time(1) + bytes((algorithm,)) + octets[algorithm]
    assert public_part(public + b"\0secret") == public
    with pytest.raises(PacketError):
        public_part(public[:-1])


def test_a_secret_subkey_alone_is_reported_under_its_certificate():
    ring = openpgp.Keyring.parse(certificate(ALICE) + packet(7, Key().body + b"\0"), certificate(BOB))
    assert ring.secret == (ALICE.fingerprint,)


@pytest.mark.parametrize("body", [b"", b"\x04", b"\x03" + bytes(40), b"\x04" + bytes(40), b"\x06" + b"\xff" * 20])
def test_a_private_key_that_cannot_be_read_leaves_the_others(body):
    junk = packet(5, body) + user_id(ALICE, b"not mine")
    ring = openpgp.Keyring.parse(junk + certificate(ALICE) + packet(7, body))
    assert [found.fingerprint for found in ring.certificates] == [ALICE.fingerprint]
    assert ring.certificates[0].name == "Alice <alice@example.org>"


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
        finding = openpgp.judge_signature(fact.certificate, fact.key, fact.created, fact.expires, ring, now)
        return finding and finding.code

    assert judged(openpgp.Keyring.parse(certificate(ALICE))) is None
    assert judged(revoked) == "key-revoked"
    assert judged(without) == "unknown-key"
    assert judged(openpgp.Keyring.parse(certificate(ALICE)), NOW - timedelta(days=999)) == "key-not-yet-valid"


def test_signature_without_a_time_never_counts():
    ring = openpgp.Keyring.parse(certificate(ALICE))
    assert openpgp.judge_signature(ALICE.fingerprint, ALICE.fingerprint, None, None, ring, NOW).code == "unknown-key"
