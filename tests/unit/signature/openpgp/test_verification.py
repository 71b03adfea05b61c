"""Which key made a signature, and which signatures count for nothing at any time."""

from __future__ import annotations

from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa

from eclctl.signature.openpgp.keys import OpenPgpKey
from tests.helpers import pgp
from tests.helpers.pgp import (
    CREATED,
    SIGN,
    SIGNED,
    Key,
    certificate,
    clearsign,
    flags,
    packet,
    refusal,
    sub,
    time,
    user_id,
    verify,
)
from tests.helpers.support import NOW

DAY = 86400
PRESENT = int(NOW.timestamp())


@cache
def rsa_key(bits):
    return rsa.generate_private_key(65537, bits)


@pytest.fixture
def alice():
    return Key()


@pytest.mark.parametrize(
    ("make", "hash_id", "name"),
    [
        (lambda: Key(rsa_key(2048)), 8, b"SHA256"),
        (lambda: Key(rsa_key(2048)), 11, b"SHA224"),
        (lambda: Key(rsa_key(3072)), 9, b"SHA384"),
        (lambda: Key(ec.generate_private_key(ec.SECP256R1())), 8, b"SHA256"),
        (lambda: Key(ec.generate_private_key(ec.SECP384R1())), 9, b"SHA384"),
        (lambda: Key(ec.generate_private_key(ec.SECP521R1())), 10, b"SHA512"),
        (Key, 8, b"SHA256"),
        (lambda: Key(legacy=False), 10, b"SHA512"),
        (lambda: Key(ed448.Ed448PrivateKey.generate()), 10, b"SHA512"),
        (lambda: Key(version=6), 8, b"SHA256"),
        (lambda: Key(rsa_key(2048), version=6), 10, b"SHA512"),
        (lambda: Key(ec.generate_private_key(ec.SECP256R1()), version=6), 8, b"SHA256"),
        (lambda: Key(ed448.Ed448PrivateKey.generate(), version=6), 10, b"SHA512"),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else None,
)
def test_every_supported_algorithm_verifies(make, hash_id, name):
    key = make()
    body = key.sign(1, pgp.TEXT, created=SIGNED, hash_id=hash_id)
    found = verify(clearsign(packet(2, body), header=b"Hash: " + name + b"\n"), certificate(key))
    assert found.text == pgp.TEXT
    assert [signer.id for signer in found.signers] == [key.fingerprint]


@pytest.mark.parametrize(
    ("make", "hash_id", "name"),
    [
        (lambda: Key(ec.generate_private_key(ec.SECP256R1())), 11, b"SHA224"),
        (lambda: Key(ec.generate_private_key(ec.SECP384R1())), 8, b"SHA256"),
        (lambda: Key(ec.generate_private_key(ec.SECP521R1())), 9, b"SHA384"),
        (Key, 11, b"SHA224"),
        (lambda: Key(ed448.Ed448PrivateKey.generate()), 8, b"SHA256"),
    ],
)
def test_digest_shorter_than_the_key_needs_is_refused(make, hash_id, name):
    """RFC 9580 sections 5.2.3.2 to 5.2.3.5."""
    key = make()
    body = key.sign(1, pgp.TEXT, created=SIGNED, hash_id=hash_id)
    assert refusal(clearsign(packet(2, body), header=b"Hash: " + name + b"\n"), certificate(key)) == "weak-hash"


@pytest.mark.parametrize("make", [lambda: rsa_key(1024), lambda: dsa.generate_private_key(2048)], ids=["rsa", "dsa"])
def test_weak_or_deprecated_key_is_refused(make):
    key = Key(make())
    assert refusal(clearsign(key), certificate(key)) == "weak-key"


def test_another_key_of_the_same_algorithm_is_unknown(alice):
    assert refusal(clearsign(Key()), certificate(alice)) == "unknown-key"


def test_signature_over_other_text_is_bad(alice):
    body = alice.sign(1, b"other", created=SIGNED)
    assert refusal(clearsign(packet(2, body)), certificate(alice)) == "bad-signature"


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x10, 0x13, 0x18, 0x19, 0x1F, 0x20, 0x40, 0x50])
def test_only_text_signatures_count(alice, kind):
    body = alice.sign(kind, pgp.TEXT, created=SIGNED)
    assert refusal(clearsign(packet(2, body)), certificate(alice)) == "unsupported"


def test_signature_of_another_version_than_its_key_is_refused():
    """RFC 9580 section 5.2: a version 6 key makes version 6 signatures, a version 4 key version 4 ones."""
    new = Key(version=6)
    old = Key(new.private, legacy=False)
    body = old.sign(1, pgp.TEXT, created=SIGNED, issuer=new.issuer())
    assert refusal(clearsign(packet(2, body)), certificate(new)) == "bad-signature"


def test_signature_of_another_algorithm_than_its_key_is_refused():
    key = Key(rsa_key(2048))
    ring = certificate(key)
    key.algorithm = 3
    assert refusal(clearsign(key), ring) == "bad-signature"


@pytest.mark.parametrize("version", [4, 6])
def test_digest_prefix_is_checked_in_version_6_as_in_the_reference(version):
    key = Key(version=version)
    body = key.sign(1, pgp.TEXT, created=SIGNED)
    at = len(body) - (64 + 1 + 16 + 1 if version == 6 else 2 * (2 + 32) + 1)
    message = clearsign(packet(2, body[:at] + bytes((body[at] ^ 1,)) + body[at + 1 :]))
    if version == 6:
        assert refusal(message, certificate(key)) == "bad-signature"
    else:
        assert verify(message, certificate(key))


def test_legacy_eddsa_in_a_version_6_key_is_refused():
    """RFC 9580 section 5.5.5.5."""
    key = Key(version=6, legacy=True)
    assert refusal(clearsign(key), certificate(key)) == "unsupported"


@pytest.mark.parametrize(("bits", "exponent"), [(2048, (1 << 24) + 1), (16400, 65537), (2048, 1)])
def test_rsa_numbers_that_make_verifying_slow_or_void_are_refused(bits, exponent):
    material = pgp.mpi((1 << bits) - 1) + pgp.mpi(exponent)
    assert OpenPgpKey.parse(b"\x04" + time(CREATED) + b"\x01" + material).weakness.code == "unsupported"


class TestIssuer:
    def test_key_id_alone_in_the_unhashed_area_is_enough(self, alice):
        body = alice.sign(1, pgp.TEXT, created=SIGNED, issuer=b"", unhashed=sub(16, alice.key_id))
        assert verify(clearsign(packet(2, body)), certificate(alice)).signers[0].id == alice.fingerprint

    @pytest.mark.parametrize("unhashed", [lambda k: sub(16, k.key_id), lambda k: sub(33, b"\x04" + k.raw)])
    def test_one_hint_that_names_another_key_refuses(self, alice, unhashed):
        body = alice.sign(1, pgp.TEXT, created=SIGNED, unhashed=unhashed(Key()))
        assert refusal(clearsign(packet(2, body)), certificate(alice)) == "unknown-key"

    def test_key_id_in_the_hashed_area_of_version_6_refuses(self):
        """RFC 9580 section 5.2.3.12."""
        key = Key(version=6)
        body = key.sign(1, pgp.TEXT, sub(16, key.key_id), created=SIGNED)
        assert refusal(clearsign(packet(2, body)), certificate(key)) == "unsupported"

    def test_signature_without_any_hint_is_refused(self, alice):
        body = alice.sign(1, pgp.TEXT, created=SIGNED, issuer=b"")
        assert refusal(clearsign(packet(2, body)), certificate(alice)) == "unknown-key"


class TestSubpackets:
    def test_unknown_critical_subpacket_refuses(self, alice):
        body = alice.sign(1, pgp.TEXT, sub(99, b"x", critical=True), created=SIGNED)
        assert refusal(clearsign(packet(2, body)), certificate(alice)) == "unsupported"

    def test_unknown_subpacket_that_is_not_critical_is_ignored(self, alice):
        body = alice.sign(1, pgp.TEXT, sub(99, b"x"), created=SIGNED, unhashed=sub(98, b"x", critical=True))
        assert verify(clearsign(packet(2, body)), certificate(alice))

    @pytest.mark.parametrize("kind", [2, 3, 4, 9, 25, 27])
    def test_subpacket_that_must_be_single_refuses_twice(self, alice, kind):
        body = {2: time(SIGNED), 3: time(0), 9: time(0)}.get(kind, b"\x01")
        twice = sub(kind, body) * (1 if kind == 2 else 2)
        signature = alice.sign(1, pgp.TEXT, twice, created=SIGNED)
        assert refusal(clearsign(packet(2, signature)), certificate(alice)) == "unsupported"

    def test_signature_that_is_not_exportable_refuses(self, alice):
        body = alice.sign(1, pgp.TEXT, sub(4, b"\0"), created=SIGNED)
        assert refusal(clearsign(packet(2, body)), certificate(alice)) == "unsupported"

    @pytest.mark.parametrize("critical", [False, True])
    @pytest.mark.parametrize(
        ("kind", "good", "bad"),
        [
            (5, bytes(2), bytes(3)),
            (6, b"x\0", b"x"),
            (29, b"\0", b""),
            (35, b"\x04" + bytes(20), b"\x04" + bytes(32)),
            (35, b"\x06" + bytes(32), b""),
            (39, bytes(2), bytes(3)),
        ],
    )
    def test_known_subpacket_with_another_form_refuses(self, alice, kind, good, bad, critical):
        """As in the reference. What is in them changes nothing here."""
        for body, accepted in ((good, True), (bad, False)):
            signature = alice.sign(1, pgp.TEXT, sub(kind, body, critical=critical), created=SIGNED)
            message = clearsign(packet(2, signature))
            vouching = certificate(alice, user_id(alice, b"A", flags(SIGN), sub(kind, body, critical=critical)))
            if accepted:
                assert verify(message, vouching)
            else:
                assert refusal(message, certificate(alice)) == "unsupported"
                assert refusal(clearsign(alice), vouching) == "bad-certificate"

    @pytest.mark.parametrize("kind", [7, 12])
    def test_critical_subpacket_that_the_reference_does_not_know_refuses(self, alice, kind):
        body = alice.sign(1, pgp.TEXT, sub(kind, bytes(22), critical=True), created=SIGNED)
        assert refusal(clearsign(packet(2, body)), certificate(alice)) == "unsupported"
        body = alice.sign(1, pgp.TEXT, sub(kind, bytes(22)), created=SIGNED)
        assert verify(clearsign(packet(2, body)), certificate(alice))

    @pytest.mark.parametrize("hashed", [True, False])
    def test_embedded_signature_must_be_one_whole_back_signature(self, alice, hashed):
        good = alice.sign(0x19, b"x")
        nested = alice.sign(0x19, b"x", sub(32, good))
        undated = alice.sign(0x19, b"x", created=None)
        critical = alice.sign(0x19, b"x", sub(99, b"", critical=True))
        bad = [b"", good[:1], good[:20], alice.sign(0x18, b"x"), nested, undated, critical]
        for parts, accepted in [((good,), True), ((good, good), False), *(((body,), False) for body in bad)]:
            subpackets = b"".join(sub(32, part) for part in parts)
            where = {"unhashed": b"" if hashed else subpackets}
            body = alice.sign(1, pgp.TEXT, *([subpackets] if hashed else []), created=SIGNED, **where)
            message = clearsign(packet(2, body))
            assert verify(message, certificate(alice)) if accepted else refusal(message, certificate(alice))

    def test_too_many_subpackets_refuse(self, alice):
        body = alice.sign(1, pgp.TEXT, sub(99, b"") * 300, created=SIGNED)
        assert refusal(clearsign(packet(2, body)), certificate(alice)) == "unsupported"

    def test_creation_time_counts_only_where_it_is_hashed(self, alice):
        body = alice.sign(1, pgp.TEXT, created=None, unhashed=sub(2, time(SIGNED)))
        assert refusal(clearsign(packet(2, body)), certificate(alice)) == "unsupported"

    def test_expiration_in_the_unhashed_area_is_ignored(self, alice):
        body = alice.sign(1, pgp.TEXT, created=SIGNED, unhashed=sub(3, time(1)))
        assert verify(clearsign(packet(2, body)), certificate(alice)).signers[0].expires is None

    @pytest.mark.parametrize("critical", [False, True])
    def test_notation_refuses_only_when_critical(self, alice, critical):
        notation = sub(20, b"\x80\0\0\0" + b"\0\x04\0\x01" + b"x@y.z"[:4] + b"v", critical=critical)
        message = clearsign(packet(2, alice.sign(1, pgp.TEXT, notation, created=SIGNED)))
        if critical:
            assert refusal(message, certificate(alice)) == "unsupported"
        else:
            assert verify(message, certificate(alice))
