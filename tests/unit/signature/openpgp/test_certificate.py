"""Which keys of a certificate may sign, and when."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa

from eclctl.signature import openpgp
from eclctl.signature.openpgp.keys import PublicKey
from tests.helpers import pgp
from tests.helpers.pgp import (
    CERTIFY,
    CREATED,
    SIGN,
    SIGNED,
    Key,
    certificate,
    clearsign,
    flags,
    packet,
    sub,
    time,
    user_id,
)
from tests.helpers.support import NOW

DAY = 86400
PRESENT = int(NOW.timestamp())


def verify(message, *certificates, now=NOW):
    return openpgp.verify(message, b"".join(certificates), now=now)


def refusal(message, *certificates, now=NOW):
    with pytest.raises(openpgp.VerificationError) as caught:
        verify(message, *certificates, now=now)
    return caught.value.finding.code


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
    assert PublicKey.parse(b"\x04" + time(CREATED) + b"\x01" + material).weakness.code == "unsupported"


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


class TestTimes:
    def test_signature_counts_from_its_creation_until_it_expires(self, alice):
        body = alice.sign(1, pgp.TEXT, sub(3, time(DAY)), created=PRESENT)
        message, ring = clearsign(packet(2, body)), certificate(alice)
        assert verify(message, ring, now=NOW)
        assert verify(message, ring, now=NOW + timedelta(days=1, seconds=-1))
        assert refusal(message, ring, now=NOW + timedelta(days=1)) == "signature-expired"
        assert refusal(message, ring, now=NOW - timedelta(seconds=1)) == "signature-from-future"

    def test_key_counts_until_its_self_signature_says(self, alice):
        lifetime = PRESENT + DAY - CREATED
        ring = certificate(alice, user_id(alice, b"A", flags(SIGN), sub(9, time(lifetime))))
        assert verify(clearsign(alice), ring)
        assert refusal(clearsign(alice), ring, now=NOW + timedelta(days=1)) == "key-expired"

    def test_lifetime_of_zero_is_for_ever(self, alice):
        ring = certificate(alice, user_id(alice, b"A", flags(SIGN), sub(9, time(0))))
        assert verify(clearsign(alice), ring)

    def test_newer_self_signature_prolongs_the_key(self, alice):
        short = user_id(alice, b"A", flags(SIGN), sub(9, time(DAY)))
        longer = alice.sign(0x13, pgp.user_id_content(alice, b"A"), flags(SIGN), created=SIGNED + DAY)
        assert refusal(clearsign(alice), certificate(alice, short)) == "key-expired"
        assert verify(clearsign(alice), certificate(alice, short, packet(2, longer)))

    def test_newer_self_signature_shortens_the_key(self, alice):
        shorter = alice.sign(0x13, pgp.user_id_content(alice, b"A"), flags(SIGN), sub(9, time(DAY)), created=SIGNED)
        assert refusal(clearsign(alice), certificate(alice, user_id(alice, b"A"), packet(2, shorter))) == "key-expired"

    def test_lifetime_in_a_direct_key_signature_counts_when_the_user_id_has_none(self, alice):
        direct = packet(2, alice.sign(0x1F, alice.prefix, sub(9, time(DAY))))
        assert refusal(clearsign(alice), certificate(alice, direct, user_id(alice))) == "key-expired"

    def test_signature_older_than_its_key_is_refused(self):
        young = Key(created=SIGNED + DAY)
        assert refusal(clearsign(young), certificate(young)) == "key-not-yet-valid"

    def test_self_signature_from_the_future_does_not_count_yet(self, alice):
        ring = certificate(alice, user_id(alice, b"A", flags(SIGN), created=PRESENT + DAY))
        assert refusal(clearsign(alice), ring) == "signature-from-future"
        assert verify(clearsign(alice), ring, now=NOW + timedelta(days=1))

    def test_self_signature_that_expired_does_not_count(self, alice):
        ring = certificate(alice, user_id(alice, b"A", flags(SIGN), sub(3, time(DAY))))
        assert refusal(clearsign(alice), ring) == "signature-expired"

    def test_subkey_expires_with_its_primary_key(self, alice):
        key = Key()
        ring = certificate(alice, user_id(alice, b"A", flags(CERTIFY), sub(9, time(DAY))), pgp.subkey(alice, key))
        assert refusal(clearsign(key), ring) == "key-expired"

    def test_subkey_expires_by_its_binding(self, alice):
        key = Key()
        ring = certificate(alice, user_id(alice), pgp.subkey(alice, key, flags(SIGN), sub(9, time(DAY))))
        assert refusal(clearsign(key), ring) == "key-expired"

    def test_back_signature_that_expired_does_not_count(self, alice):
        key = Key()
        back = sub(32, key.sign(0x19, alice.prefix + key.prefix, sub(3, time(DAY))))
        ring = certificate(alice, user_id(alice), pgp.subkey(alice, key, back=back))
        assert refusal(clearsign(key), ring) == "signature-expired"


class TestSelfSignatures:
    def test_certificate_without_user_id_vouches_for_nothing(self, alice):
        assert refusal(clearsign(alice), packet(6, alice.body)) == "bad-certificate"

    def test_self_signature_by_another_key_vouches_for_nothing(self, alice):
        forged = Key().sign(0x13, pgp.user_id_content(alice, b"A"), flags(SIGN), issuer=alice.issuer())
        assert refusal(clearsign(alice), certificate(alice, packet(13, b"A"), packet(2, forged))) == "bad-certificate"

    def test_newest_self_signature_with_a_critical_notation_is_not_passed_over(self, alice):
        """What it demands is not known here, so what an older one allowed does not hold any more."""
        notation = sub(20, b"\x80\0\0\0\0\x04\0\x01x@y.v", critical=True)
        newer = packet(
            2, alice.sign(0x13, pgp.user_id_content(alice, b"A"), flags(SIGN), notation, created=CREATED + 1)
        )
        ring = certificate(alice, user_id(alice, b"A"), newer)
        assert refusal(clearsign(alice), ring) == "bad-certificate"
        key = Key()
        content = alice.prefix + key.prefix
        back = sub(32, key.sign(0x19, content))
        newer = packet(2, alice.sign(0x18, content, flags(SIGN), notation, back, created=CREATED + 1))
        ring = certificate(alice, user_id(alice), pgp.subkey(alice, key), newer)
        assert refusal(clearsign(key), ring) == "bad-certificate"

    @pytest.mark.parametrize("critical", [False, True])
    def test_self_signature_with_a_critical_notation_vouches_for_nothing(self, alice, critical):
        notation = sub(20, b"\x80\0\0\0\0\x04\0\x01x@y.v", critical=critical)
        ring = certificate(alice, user_id(alice, b"A", flags(SIGN), notation))
        if critical:
            assert refusal(clearsign(alice), ring) == "bad-certificate"
        else:
            assert verify(clearsign(alice), ring)

    def test_self_signature_that_also_names_another_key_vouches_for_nothing(self, alice):
        named = user_id(alice, b"A", flags(SIGN), unhashed=sub(16, Key().key_id))
        assert refusal(clearsign(alice), certificate(alice, named)) == "bad-certificate"

    def test_signature_on_a_photo_is_not_taken_for_one_on_the_user_id(self, alice):
        revocation = bytearray(alice.sign(0x30, b"photo"))
        revocation[3] = 3
        ring = certificate(alice, user_id(alice), packet(17, b"photo"), packet(2, bytes(revocation)))
        assert verify(clearsign(alice), ring)

    def test_self_signature_under_sha1_vouches_for_nothing(self, alice):
        assert refusal(clearsign(alice), certificate(alice, user_id(alice, hash_id=2))) == "bad-certificate"

    def test_broken_newer_self_signature_does_not_hide_an_older_good_one(self, alice):
        bad = alice.sign(0x13, pgp.user_id_content(alice, b"other"), flags(CERTIFY), created=SIGNED)
        assert verify(clearsign(alice), certificate(alice, user_id(alice), packet(2, bad)))

    @pytest.mark.parametrize("signature_flags", [(flags(CERTIFY),), (sub(11, b"\x09"),), (flags(0x20),)])
    def test_primary_key_needs_the_signing_flag(self, alice, signature_flags):
        ring = certificate(alice, user_id(alice, b"A", *signature_flags))
        assert refusal(clearsign(alice), ring) == "not-a-signing-key"

    def test_newest_self_signature_decides_about_flags(self, alice):
        newer = alice.sign(0x13, pgp.user_id_content(alice, b"A"), flags(CERTIFY), created=SIGNED)
        ring = certificate(alice, user_id(alice, b"A", flags(SIGN)), packet(2, newer))
        assert refusal(clearsign(alice), ring) == "not-a-signing-key"

    def test_user_id_marked_primary_decides_before_a_newer_one(self, alice):
        marked = user_id(alice, b"A", flags(SIGN), sub(25, b"\x01"))
        newer = user_id(alice, b"B", flags(CERTIFY), created=SIGNED)
        found = verify(clearsign(alice), certificate(alice, marked, newer))
        assert found.signers[0].name == "A"

    def test_name_is_one_that_the_certificate_vouches_for(self, alice):
        claimed = packet(13, b"Root <root@example.org>")
        assert verify(clearsign(alice), certificate(alice, claimed, user_id(alice, b"A"))).signers[0].name == "A"

    def test_version_6_needs_a_direct_key_signature(self):
        key = Key(version=6)
        assert refusal(clearsign(key), certificate(key, user_id(key))) == "bad-certificate"


class TestSubkeys:
    def test_good_signing_subkey_signs_for_its_primary_key(self, alice):
        key = Key()
        found = verify(clearsign(key), certificate(alice, user_id(alice), pgp.subkey(alice, key)))
        assert (found.signers[0].id, found.signers[0].key) == (alice.fingerprint, key.fingerprint)

    def test_subkey_of_version_6_verifies(self):
        primary, key = Key(version=6), Key(version=6)
        direct = packet(2, primary.sign(0x1F, primary.prefix, flags(CERTIFY)))
        assert verify(clearsign(key), certificate(primary, direct, pgp.subkey(primary, key)))

    @pytest.mark.parametrize(
        "back",
        [
            lambda alice, key: b"",
            lambda alice, key: sub(32, alice.sign(0x19, alice.prefix + key.prefix)),
            lambda alice, key: sub(32, key.sign(0x18, alice.prefix + key.prefix)),
            lambda alice, key: sub(32, key.sign(0x19, key.prefix + alice.prefix)),
            lambda alice, key: sub(32, key.sign(0x19, alice.prefix + key.prefix, hash_id=2)),
            lambda alice, key: sub(32, key.sign(0x19, alice.prefix + key.prefix)) * 2,
            lambda alice, key: sub(32, b""),
        ],
        ids=["none", "by primary", "wrong type", "wrong order", "sha1", "two", "empty"],
    )
    def test_subkey_without_a_good_back_signature_is_refused(self, alice, back):
        key = Key()
        ring = certificate(alice, user_id(alice), pgp.subkey(alice, key, back=back(alice, key)))
        assert refusal(clearsign(key), ring) == "bad-certificate"

    def test_back_signature_that_names_another_key_is_refused(self, alice):
        key = Key()
        back = sub(32, key.sign(0x19, alice.prefix + key.prefix, issuer=Key().issuer()))
        ring = certificate(alice, user_id(alice), pgp.subkey(alice, key, back=back))
        assert refusal(clearsign(key), ring) == "bad-certificate"

    def test_subkey_of_another_version_than_its_primary_key_is_not_used(self):
        primary, key = Key(version=6), Key()
        direct = packet(2, primary.sign(0x1F, primary.prefix, flags(CERTIFY)))
        ring = certificate(primary, direct, pgp.subkey(primary, key))
        assert refusal(clearsign(key), ring) == "unknown-key"

    def test_subkey_does_not_count_before_its_primary_key(self, alice):
        primary = Key(created=PRESENT + DAY)
        ring = certificate(primary, user_id(primary), pgp.subkey(primary, alice))
        assert refusal(clearsign(alice), ring) == "key-not-yet-valid"

    def test_subkey_without_signing_flag_is_refused(self, alice):
        key = Key()
        ring = certificate(alice, user_id(alice), pgp.subkey(alice, key, flags(0x0C)))
        assert refusal(clearsign(key), ring) == "not-a-signing-key"

    def test_binding_by_another_key_binds_nothing(self, alice):
        key, mallory = Key(), Key()
        forged = mallory.sign(0x18, alice.prefix + key.prefix, flags(SIGN), issuer=alice.issuer())
        ring = certificate(alice, user_id(alice), packet(14, key.body), packet(2, forged))
        assert refusal(clearsign(key), ring) == "bad-certificate"

    def test_adopted_subkey_stays_its_owners(self, alice):
        """Mallory's certificate lists Alice's subkey: it signs for Alice, wherever in the ring they stand."""
        key, mallory = Key(), Key()
        owner = certificate(alice, user_id(alice), pgp.subkey(alice, key))
        thief = certificate(mallory, user_id(mallory), pgp.subkey(mallory, key, back=b""))
        for ring in ((owner, thief), (thief, owner)):
            assert [signer.id for signer in verify(clearsign(key), *ring).signers] == [alice.fingerprint]

    def test_key_that_two_certificates_rightly_hold_is_refused(self, alice):
        """It is not known which of the two signed."""
        key, bob = Key(), Key()
        rings = [certificate(owner, user_id(owner), pgp.subkey(owner, key)) for owner in (alice, bob)]
        assert refusal(clearsign(key), *rings) == "bad-certificate"

    def test_certificate_that_lists_its_primary_key_as_subkey_is_one_owner(self, alice):
        ring = certificate(alice, user_id(alice), pgp.subkey(alice, alice, flags(0x0C)))
        assert verify(clearsign(alice), ring).signers[0].id == alice.fingerprint

    def test_broken_subkey_leaves_the_primary_key_usable(self, alice):
        ring = certificate(alice, user_id(alice), packet(14, b"\x04garbage"), pgp.subkey(alice, Key(), back=b""))
        assert verify(clearsign(alice), ring)


class TestRevocations:
    @pytest.mark.parametrize("reason", [None, 0, 1, 2, 3])
    @pytest.mark.parametrize("created", [CREATED, SIGNED + DAY, PRESENT + 365 * DAY])
    def test_any_revocation_of_the_primary_key_refuses(self, alice, reason, created):
        why = b"" if reason is None else sub(29, bytes((reason,)))
        revocation = packet(2, alice.sign(0x20, alice.prefix, why, created=created))
        assert refusal(clearsign(alice), certificate(alice, revocation, user_id(alice))) == "key-revoked"

    def test_revocation_of_the_primary_key_revokes_its_subkeys(self, alice):
        key = Key()
        revocation = packet(2, alice.sign(0x20, alice.prefix))
        ring = certificate(alice, revocation, user_id(alice), pgp.subkey(alice, key))
        assert refusal(clearsign(key), ring) == "key-revoked"

    @pytest.mark.parametrize("extra", [sub(99, b"", critical=True), sub(2, time(SIGNED)), b"\x05"])
    def test_revocation_with_strange_subpackets_still_revokes(self, alice, extra):
        revocation = packet(2, alice.sign(0x20, alice.prefix, extra))
        assert refusal(clearsign(alice), certificate(alice, revocation, user_id(alice))) == "key-revoked"

    @pytest.mark.parametrize("hash_id", [1, 2, 11])
    def test_revocation_under_a_weak_hash_still_revokes(self, alice, hash_id):
        revocation = packet(2, alice.sign(0x20, alice.prefix, hash_id=hash_id))
        assert refusal(clearsign(alice), certificate(alice, revocation, user_id(alice))) == "key-revoked"

    def test_revocation_under_a_hash_that_nobody_can_compute_revokes(self, alice):
        body = bytearray(alice.sign(0x20, alice.prefix))
        body[3] = 3
        assert refusal(clearsign(alice), certificate(alice, packet(2, bytes(body)), user_id(alice))) == "key-revoked"

    def test_forged_revocation_is_ignored(self, alice):
        forged = packet(2, Key().sign(0x20, alice.prefix, issuer=alice.issuer()))
        assert verify(clearsign(alice), certificate(alice, forged, user_id(alice)))

    def test_revocation_of_another_key_is_ignored(self, alice):
        other = packet(2, alice.sign(0x20, Key().prefix))
        assert verify(clearsign(alice), certificate(alice, other, user_id(alice)))

    def test_subkey_revocation_refuses_the_subkey_alone(self, alice):
        key = Key()
        revocation = packet(2, alice.sign(0x28, alice.prefix + key.prefix, sub(29, b"\x03")))
        ring = certificate(alice, user_id(alice), pgp.subkey(alice, key), revocation)
        assert refusal(clearsign(key), ring) == "key-revoked"
        assert verify(clearsign(alice), ring)

    def test_revocation_in_any_copy_of_a_certificate_counts(self, alice):
        revocation = packet(2, alice.sign(0x20, alice.prefix))
        stale, fresh = certificate(alice), certificate(alice, revocation, user_id(alice))
        for ring in ((stale, fresh), (fresh, stale)):
            assert refusal(clearsign(alice), *ring) == "key-revoked"

    def test_revoked_user_id_does_not_vouch(self, alice):
        revocation = packet(2, alice.sign(0x30, pgp.user_id_content(alice, b"A")))
        ring = certificate(alice, user_id(alice, b"A"), revocation)
        assert refusal(clearsign(alice), ring) == "key-revoked"
        assert verify(clearsign(alice), ring, packet(13, b"B"), user_id(alice, b"B")).signers[0].name == "B"

    def test_designated_revoker_revokes(self, alice):
        bob = Key()
        named = user_id(alice, b"A", flags(SIGN), sub(12, b"\x80\x16" + bob.raw))
        revocation = packet(2, bob.sign(0x20, alice.prefix))
        ring = certificate(alice, revocation, named)
        assert refusal(clearsign(alice), ring) == "key-revoked"
        assert refusal(clearsign(alice), ring, certificate(bob)) == "key-revoked"

    @pytest.mark.parametrize("options", [{}, {"hash_id": 2}])
    @pytest.mark.parametrize("critical", [False, True])
    def test_revoker_is_designated_also_where_nothing_else_would_count(self, alice, critical, options):
        bob = Key()
        designation = alice.sign(0x1F, alice.prefix, sub(12, b"\x80\x16" + bob.raw, critical=critical), **options)
        revocation = packet(2, bob.sign(0x20, alice.prefix))
        rest = (packet(2, designation), user_id(alice))
        assert verify(clearsign(alice), certificate(alice, *rest), certificate(bob))
        assert refusal(clearsign(alice), certificate(alice, revocation, *rest), certificate(bob)) == "key-revoked"

    def test_forged_revocation_in_the_name_of_a_designated_revoker_is_ignored(self, alice):
        bob = Key()
        named = user_id(alice, b"A", flags(SIGN), sub(12, b"\x80\x16" + bob.raw))
        forged = packet(2, Key().sign(0x20, alice.prefix, issuer=bob.issuer()))
        assert verify(clearsign(alice), certificate(alice, forged, named), certificate(bob))

    def test_revocation_that_names_nobody_is_not_a_designated_revokers(self, alice):
        named = user_id(alice, b"A", flags(SIGN), sub(12, b"\x80\x16" + Key().raw))
        unnamed = packet(2, Key().sign(0x20, alice.prefix, issuer=b""))
        assert verify(clearsign(alice), certificate(alice, unnamed, named))

    def test_revocation_by_somebody_who_is_not_designated_is_ignored(self, alice):
        bob = Key()
        revocation = packet(2, bob.sign(0x20, alice.prefix))
        assert verify(clearsign(alice), certificate(alice, revocation, user_id(alice)), certificate(bob))


def test_certificate_with_too_many_signatures_is_not_used(alice):
    """Each costs a verification: an attacker who floods a certificate gets it refused, not a stalled daemon."""
    junk = [packet(2, alice.sign(0x30, b"%d" % number)) for number in range(1100)]
    ring = certificate(alice, user_id(alice), *junk)
    assert refusal(clearsign(alice), ring) == "bad-certificate"
