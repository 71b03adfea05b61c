"""Which keys of a certificate are revoked, expired or not bound, and when the others count."""

from __future__ import annotations

from datetime import timedelta

import pytest

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
    refusal,
    sub,
    time,
    user_id,
    verify,
)
from tests.helpers.support import NOW

DAY = 86400
PRESENT = int(NOW.timestamp())


@pytest.fixture
def alice():
    return Key()


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
