"""What is taken of a certificate from an untrusted sender: what its own key vouches for, and never a key."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eclctl.signature.openpgp import Certificate, Keyring, judge_signature
from eclctl.signature.openpgp.proven import additions, proven, updated
from tests.helpers.pgp import (
    CERTIFY,
    CREATED,
    SIGN,
    Key,
    certificate,
    flags,
    packet,
    sub,
    subkey,
    time,
    user_id,
    user_id_content,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
OWNER, STRANGER, OTHER = Key(), Key(), Key()
ALICE = b"Alice <alice@example.org>"
PLAIN = certificate(OWNER)


def ring(*blobs: bytes) -> Keyring:
    return Keyring.parse(*blobs)


def revocation(by: Key = OWNER, of: Key = OWNER, **options: object) -> bytes:
    return packet(2, by.sign(0x20, of.prefix, **options))


def worth(found: Keyring, key: Key = OWNER) -> str | None:
    """Why a signature of a year ago does not count now, None when it does."""
    finding = judge_signature(key.fingerprint, key.fingerprint, datetime(2026, 1, 1, tzinfo=UTC), None, found, NOW)
    return None if finding is None else finding.code


def copy_with(*rest: bytes) -> Keyring:
    """Another copy of Alice's certificate, with more in it."""
    return ring(packet(6, OWNER.body) + b"".join(rest))


def own(found: Keyring) -> Certificate:
    certificate_ = found.get(OWNER.fingerprint)
    assert certificate_ is not None
    return certificate_


# -- what counts


def test_a_revocation_by_the_key_itself_counts_at_once() -> None:
    before = ring(PLAIN)
    after = updated(before, copy_with(revocation()))
    assert (worth(before), worth(after)) == (None, "key-revoked")


def test_a_revocation_under_a_hash_that_is_too_weak_for_signatures_still_revokes() -> None:
    assert worth(updated(ring(PLAIN), copy_with(revocation(hash_id=2)))) == "key-revoked"


def test_a_newer_self_signature_brings_the_expiry_that_it_says() -> None:
    short = user_id(OWNER, ALICE, flags(SIGN | CERTIFY), sub(9, time(86400)), created=CREATED + 60)
    assert worth(updated(ring(PLAIN), copy_with(short))) == "key-expired"
    longer = user_id(OWNER, ALICE, flags(SIGN | CERTIFY), created=CREATED + 120)
    assert worth(updated(updated(ring(PLAIN), copy_with(short)), copy_with(longer))) is None


def test_a_name_that_the_owner_changed_is_taken_with_the_revocation_of_the_old_one() -> None:
    gone = packet(13, ALICE) + packet(2, OWNER.sign(0x30, user_id_content(OWNER, ALICE), created=CREATED + 60))
    renamed = user_id(OWNER, b"Alice Miller <alice@example.org>", created=CREATED + 60)
    after = updated(ring(PLAIN), copy_with(gone, renamed))
    assert worth(after) is None
    assert own(after).name == "Alice Miller <alice@example.org>"
    assert worth(updated(ring(PLAIN), copy_with(gone))) == "key-revoked"


def test_a_designated_revoker_counts_when_the_site_has_their_key() -> None:
    named = user_id(OWNER, ALICE, flags(SIGN | CERTIFY), sub(12, bytes((0x80, 22)) + OTHER.raw))
    site, revoked = packet(6, OWNER.body) + named, copy_with(revocation(OTHER))
    both = ring(site, certificate(OTHER))
    assert worth(updated(both, revoked)) == "key-revoked"
    assert updated(ring(site), revoked).digest == ring(site).digest


def test_a_subkey_that_is_known_can_be_revoked() -> None:
    signing = Key()
    bound = subkey(OWNER, signing)
    site = ring(PLAIN + bound)
    content = OWNER.prefix + signing.prefix
    gone = packet(14, signing.body) + packet(2, OWNER.sign(0x28, content, created=CREATED + 60))
    after = updated(site, copy_with(gone))
    status = after.status(OWNER.fingerprint, signing.fingerprint)
    assert status is not None
    assert status.fault is not None
    assert status.fault.code == "key-revoked"
    assert worth(after) is None


# -- what does not


@pytest.mark.parametrize(
    "what",
    [
        revocation(STRANGER),
        packet(2, STRANGER.sign(0x20, OWNER.prefix, issuer=OWNER.issuer())),
        packet(2, OWNER.sign(0x20, STRANGER.prefix)),
        packet(2, b"\x04\x20\x16\x63" + OWNER.sign(0x20, OWNER.prefix)[4:]),
        packet(2, STRANGER.sign(0x1F, OWNER.prefix, flags(SIGN))),
        user_id(STRANGER, b"Mallory"),
        packet(13, b"Mallory") + packet(2, OWNER.sign(0x13, user_id_content(OWNER, ALICE), flags(SIGN))),
        packet(13, b"Mallory"),
        user_id(OWNER, b"SHA-1", hash_id=2, created=CREATED + 60),
        packet(17, b"a picture") + packet(2, OWNER.sign(0x13, OWNER.prefix)),
        packet(2, b"\x04\x20"),
    ],
    ids=[
        "a stranger's revocation",
        "a stranger's, in the owner's name",
        "the owner's, of another key",
        "under an unknown hash",
        "a stranger's direct signature",
        "a stranger's user ID",
        "a signature over another user ID",
        "an unsigned user ID",
        "under SHA-1",
        "a picture",
        "half a signature",
    ],
)
def test_what_the_key_did_not_sign_changes_nothing(what: bytes) -> None:
    site = ring(PLAIN)
    assert updated(site, copy_with(what)) is site


def test_no_key_is_ever_added_neither_a_whole_one_nor_a_subkey() -> None:
    site = ring(PLAIN)
    assert updated(site, ring(certificate(STRANGER))) is site
    assert updated(site, copy_with(subkey(OWNER, Key()))) is site


def test_a_copy_without_the_revocation_takes_it_from_nobody() -> None:
    revoked = ring(packet(6, OWNER.body) + revocation() + user_id(OWNER, ALICE))
    after = updated(revoked, copy_with(user_id(OWNER, ALICE, flags(SIGN | CERTIFY), created=CREATED + 60)))
    assert worth(after) == "key-revoked"


def test_what_is_known_already_is_nothing_new_and_costs_no_verification() -> None:
    assert additions(ring(PLAIN), ring(PLAIN), OWNER.fingerprint) is None


# -- whether facts hold


def test_facts_hold_across_a_revocation_and_another_expiry() -> None:
    site = ring(PLAIN)
    short = user_id(OWNER, ALICE, flags(SIGN | CERTIFY), sub(9, time(86400)), created=CREATED + 60)
    for news in (revocation(), short):
        after = updated(site, copy_with(news))
        assert after.facts == site.facts
        assert after.digest != site.digest


def test_facts_do_not_hold_when_the_certificate_speaks_for_other_keys_than_before() -> None:
    """A key that may not sign by its first self-signature, and may by its second."""
    mute = packet(6, OWNER.body) + user_id(OWNER, ALICE, flags(CERTIFY))
    site = ring(mute)
    after = updated(site, copy_with(user_id(OWNER, ALICE, flags(SIGN | CERTIFY), created=CREATED + 60)))
    assert after.facts != site.facts


# -- what is sent and kept


def test_what_is_proven_reads_as_the_certificate_that_it_was_without_the_strangers_in_it() -> None:
    signing = Key()
    noise = packet(2, STRANGER.sign(0x10, user_id_content(OWNER, ALICE)))
    whole = PLAIN + noise + subkey(OWNER, signing) + packet(13, b"Mallory")
    found = proven(ring(whole), OWNER.fingerprint)
    assert found is not None
    assert (found.user_ids, found.revoked) == (1, False)
    assert (len(found.material.subkeys), len(found.material.direct)) == (1, 0)
    clean = ring(found.packets)
    assert clean.digest == ring(PLAIN + subkey_of(whole)).digest
    assert worth(clean) is None


def subkey_of(whole: bytes) -> bytes:
    """The subkey packet and its binding, which come after the noise."""
    at = whole.index(bytes((0xC0 | 14, 0xFF)))
    end = whole.index(bytes((0xC0 | 13, 0xFF)), at)
    return whole[at:end]


def test_a_self_signature_that_is_to_stay_at_home_is_not_sent() -> None:
    local = user_id(OWNER, b"at home", flags(SIGN), sub(4, b"\0"))
    found = proven(ring(PLAIN + local), OWNER.fingerprint)
    assert found is not None
    assert b"at home" not in found.packets


def test_of_very_many_signatures_the_newest_count_and_every_revocation_outlives_them() -> None:
    many = b"".join(
        packet(2, OWNER.sign(0x13, user_id_content(OWNER, ALICE), flags(SIGN), created=CREATED + number))
        for number in range(100)
    )
    found = proven(ring(packet(6, OWNER.body) + revocation() + packet(13, ALICE) + many), OWNER.fingerprint)
    assert found is not None
    (component,) = found.material.user_ids.values()
    assert len(component.signatures) == 32
    assert found.revoked
    newest = OWNER.sign(0x13, user_id_content(OWNER, ALICE), flags(SIGN), created=CREATED + 99)
    assert newest in component.signatures
