"""What is said of a key: its length, its end, and what is wrong with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa

from eclctl.sign.keyrings.keyfacts import facts, signing_keys
from eclctl.sign.keyrings.transferable import Protection, parse_keys
from eclctl.signature import openpgp
from tests.helpers.pgp import CREATED, SIGN, Key, certificate, flags, packet, sub, subkey, time, user_id
from tests.helpers.support import CORPUS, NOW

PGP = CORPUS / "keys" / "pgp"
DAY = 86400


def of(blob, now=NOW):
    (key,) = parse_keys(blob).keys.values()
    return facts(key, openpgp.Keyring.parse(blob), now)


def moment(seconds):
    return datetime.fromtimestamp(seconds, UTC)


@pytest.mark.parametrize(
    ("name", "algorithm", "bits", "problem"),
    [
        ("builder", "RSA", 4096, None),
        ("scanner", "Ed25519", 256, None),
        ("lab", "ECDSA", 384, None),
        ("dsa", "DSA", 2048, "DSA keys are deprecated"),
        ("expired", "RSA", 2048, "it has expired"),
        ("revoked", "Ed25519", 256, "it is revoked"),
        ("future", "RSA", 2048, "it is not valid yet"),
        ("encryptonly", "RSA", 2048, "none of its keys is made for signing"),
        ("subkey", "RSA", 2048, None),
    ],
)
def test_the_keys_of_the_corpus_are_described(name, algorithm, bits, problem):
    found = of((PGP / f"{name}.asc").read_bytes())
    assert (found.algorithm, found.bits) == (algorithm, bits)
    assert (found.problem and found.problem.message) == problem
    assert found.user_id == f"{name.capitalize()} (corpus 101) <{name}@site101.example>"
    assert bool(found.signs_with) == (problem is None)


@pytest.mark.parametrize(
    ("private", "version", "algorithm", "bits"),
    [
        (rsa.generate_private_key(65537, 2048), 4, "RSA", 2048),
        (ec.generate_private_key(ec.SECP521R1()), 4, "ECDSA", 521),
        (ed25519.Ed25519PrivateKey.generate(), 4, "Ed25519", 256),
        (ed25519.Ed25519PrivateKey.generate(), 6, "Ed25519", 256),
        (ed448.Ed448PrivateKey.generate(), 6, "Ed448", 456),
        (dsa.generate_private_key(1024), 4, "DSA", 1024),
    ],
)
def test_lengths_are_in_bits_with_every_algorithm(private, version, algorithm, bits):
    found = of(certificate(Key(private, version)))
    assert (found.algorithm, found.bits) == (algorithm, bits)


def test_a_weak_key_says_why():
    found = of(certificate(Key(rsa.generate_private_key(65537, 1024))))
    assert (found.bits, found.problem.code) == (1024, "weak-key")
    assert found.problem.message == "RSA key of 1024 bits: at least 2048 are needed"


def test_the_end_is_that_of_the_key_that_signs():
    primary, signing = Key(), Key()
    never = of(certificate(primary))
    assert (never.created, never.expires) == (moment(CREATED), None)
    ends = of(certificate(primary, user_id(primary, b"A", flags(SIGN), sub(9, time(900 * DAY)))))
    assert ends.expires == moment(CREATED + 900 * DAY)
    bound = subkey(primary, signing, flags(SIGN), sub(9, time(800 * DAY)))
    certifies = user_id(primary, b"A", flags(1))
    assert of(certificate(primary, certifies, bound)).expires == moment(CREATED + 800 * DAY)


def test_a_self_signature_that_ends_ends_the_key():
    primary = Key()
    found = of(certificate(primary, user_id(primary, b"A", flags(SIGN), sub(3, time(900 * DAY)))))
    assert found.expires == moment(CREATED + 900 * DAY)
    late = of(certificate(primary, user_id(primary, b"A", flags(SIGN), sub(3, time(DAY)))))
    assert late.problem.message == "what vouches for it has expired"


def test_the_newest_subkey_signs_before_older_ones_and_the_primary_key():
    primary, old, new = Key(), Key(created=CREATED + DAY), Key(created=CREATED + 2 * DAY)
    blob = certificate(primary, user_id(primary), subkey(primary, old), subkey(primary, new))
    ring = openpgp.Keyring.parse(blob)
    (found,) = ring.certificates
    names = [key.fingerprint for key in signing_keys(found, ring, NOW)]
    assert names == [new.fingerprint, old.fingerprint, primary.fingerprint]


def test_protection_is_that_of_a_key_that_can_sign():
    primary, signing = Key(), Key()
    stub = packet(5, primary.body + b"\xff\x00\x65\x00GNU\x01") + user_id(primary)
    bound = subkey(primary, signing)
    secret = packet(7, signing.body + b"\0\0\x08\x01\0\x01") + bound[len(packet(14, signing.body)) :]
    assert of(stub + secret).protection is Protection.NONE
    assert of(stub).protection is Protection.ABSENT
    assert of(certificate(primary)).protection is None


def test_a_designated_revoker_in_the_ring_revokes():
    primary, revoker = Key(), Key()
    named = user_id(primary, b"A", flags(SIGN), sub(12, b"\x80" + bytes((revoker.algorithm,)) + revoker.raw))
    blob = certificate(primary, packet(2, revoker.sign(0x20, primary.prefix)), named)
    ring = openpgp.Keyring.parse(blob, certificate(revoker))
    key = parse_keys(blob).keys[primary.fingerprint]
    assert facts(key, ring, NOW + timedelta(days=1)).problem.message == "it is revoked"
