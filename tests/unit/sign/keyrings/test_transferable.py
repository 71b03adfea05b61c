"""Transferable keys: packets in, the same packets out, and merging that loses nothing."""

from __future__ import annotations

import hashlib

import pytest

from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.transferable import Protection, armored, holds_armor, parse_keys, protection
from eclctl.signature import openpgp
from tests.helpers.pgp import Key, armor, certificate, packet, subkey, user_id, user_id_content
from tests.helpers.support import CORPUS

KEYS = sorted((CORPUS / "keys" / "pgp").glob("*.asc"))
ALICE, MALLORY = Key(), Key()
REVOCATION = ALICE.sign(0x20, ALICE.prefix)
STUB = b"\xff\x00\x65\x00GNU\x01"
CARD = b"\xff\x00\x65\x00GNU\x02\x10" + b"D276000124010304"
PROTECTED = b"\xfe\x07\x03\x02" + b"saltsalt" + b"\xff" + bytes(16) + b"encrypted"


def secret(key: Key = ALICE, how: bytes = b"\0\0\x08\x01\0\x01") -> bytes:
    """A secret key with a user ID; `how` is what stands behind the public part."""
    return packet(5, key.body + how) + user_id(key)


def only(blob):
    (key,) = parse_keys(blob).keys.values()
    return key


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.name)
def test_what_is_read_and_written_again_is_the_same_to_our_verifier(path):
    blob = path.read_bytes()
    file = parse_keys(blob)
    again = openpgp.Keyring.parse(*(key.public() for key in file.keys.values()))
    assert again.digest == openpgp.Keyring.parse(blob).digest
    assert again.secret == ()
    whole = openpgp.Keyring.parse(*(key.whole() for key in file.keys.values()))
    assert whole.secret == openpgp.Keyring.parse(blob).secret


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.name)
def test_armor_holds_what_was_put_into_it(path):
    keys = [key.whole() for key in parse_keys(path.read_bytes()).keys.values()]
    text = armored(keys, secret=False)
    assert holds_armor(text)
    assert b"".join(key.whole() for key in parse_keys(text).keys.values()) == b"".join(keys)
    assert max(len(line) for line in text.split(b"\n")) <= 64


def test_the_checksum_of_armor_is_the_published_one():
    """CRC-24/OPENPGP of "123456789" is 21CF02."""
    assert armored([b"123456789"], secret=False).split(b"\n")[-3] == b"=Ic8C"


def test_merging_two_copies_keeps_what_either_has():
    with_subkey = certificate(ALICE, user_id(ALICE), subkey(ALICE, sub := Key()))
    revoked = certificate(ALICE, packet(2, REVOCATION), user_id(ALICE, b"Alice <alice@other.example>"))
    for first, second in ((with_subkey, revoked), (revoked, with_subkey)):
        merged = only(first).merge(only(second))
        ring = openpgp.Keyring.parse(merged.public())
        status = ring.status(ALICE.fingerprint, ALICE.fingerprint)
        assert status.fault.code == "key-revoked"
        assert set(merged.user_ids) == {"Alice <alice@example.org>", "Alice <alice@other.example>"}
        assert ring.status(ALICE.fingerprint, sub.fingerprint) is not None


def test_two_copies_in_one_file_are_one_key():
    file = parse_keys(
        certificate(ALICE) + certificate(MALLORY) + certificate(ALICE, packet(2, REVOCATION), user_id(ALICE))
    )
    assert list(file.keys) == [ALICE.fingerprint, MALLORY.fingerprint]
    assert REVOCATION in file.keys[ALICE.fingerprint].public()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (b"\0\0\x08\x01\0\x01", Protection.NONE),
        (PROTECTED, Protection.PASSPHRASE),
        (STUB, Protection.ABSENT),
        (CARD, Protection.CARD),
    ],
)
def test_how_a_secret_key_is_protected_is_told(how, expected):
    assert protection(ALICE.body + how) is expected
    assert only(secret(how=how)).protections == {ALICE.fingerprint: expected}


def test_a_key_that_is_here_takes_the_place_of_a_stub_and_of_nothing_else():
    stub, here = only(secret(how=STUB)), only(secret(how=PROTECTED))
    assert stub.merge(here).protections == here.merge(stub).protections == {ALICE.fingerprint: Protection.PASSPHRASE}
    other = only(secret(how=PROTECTED + b"of mallory"))
    assert here.merge(other).whole() == here.whole()


def test_what_strangers_certified_can_be_left_out_and_revocations_not():
    content = user_id_content(ALICE, b"Alice <alice@example.org>")
    strange = MALLORY.sign(0x10, content)
    designated = MALLORY.sign(0x20, ALICE.prefix)
    blob = certificate(ALICE, packet(2, designated), user_id(ALICE) + packet(2, strange))
    cleaned = only(blob).without_foreign_signatures().public()
    assert strange not in cleaned
    assert designated in cleaned
    assert openpgp.Keyring.parse(cleaned).certificates[0].name == "Alice <alice@example.org>"


def test_a_revocation_alone_is_taken_by_the_key_that_made_it_and_by_no_other():
    (loose,) = parse_keys(packet(2, REVOCATION)).revocations
    assert only(certificate(MALLORY)).revoked_by(loose) is None
    revoked = only(certificate(ALICE)).revoked_by(loose)
    assert openpgp.Keyring.parse(revoked.public()).status(*[ALICE.fingerprint] * 2).fault.code == "key-revoked"


def test_a_forged_revocation_is_not_taken():
    forged = MALLORY.sign(0x20, ALICE.prefix, issuer=ALICE.issuer())
    assert only(certificate(ALICE)).revoked_by(forged) is None


def test_signatures_that_revoke_nothing_are_not_taken_as_revocations():
    assert only(certificate(ALICE)).revoked_by(ALICE.sign(0x1F, ALICE.prefix)) is None
    assert only(certificate(ALICE)).revoked_by(b"\x04 ") is None


def test_a_key_of_an_unknown_version_is_kept_as_it_is_and_the_others_are_read():
    old = packet(6, b"\x03" + bytes(20)) + packet(13, b"Old")
    file = parse_keys(certificate(ALICE) + old + certificate(MALLORY))
    assert list(file.keys) == [ALICE.fingerprint, MALLORY.fingerprint]
    (kept,) = file.unreadable
    assert hashlib.sha256(bytes(kept)).digest() == hashlib.sha256(_legacy(old)).digest()


def _legacy(blob: bytes) -> bytes:
    from eclctl.sign.keyrings.transferable import _packet
    from eclctl.signature.openpgp.packets import read_packets

    return b"".join(_packet(tag, body) for tag, body in read_packets(blob))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"not keys",
        armor("SIGNATURE", packet(2, REVOCATION)),
        b"\x99\xff",
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n",
        packet(6, ALICE.body)[:-3],
    ],
    ids=["empty", "text", "signature", "length", "armor", "cut"],
)
def test_what_is_no_file_of_keys_is_refused(blob):
    with pytest.raises(KeyMaterialError):
        parse_keys(blob)


def test_a_damaged_subkey_costs_nothing_but_itself():
    blob = certificate(ALICE) + packet(14, b"\x04") + packet(2, REVOCATION)
    assert REVOCATION not in only(blob).public()
    assert openpgp.Keyring.parse(only(blob).public()).certificates[0].fingerprint == ALICE.fingerprint


def test_long_packets_are_written_and_read():
    blob = certificate(ALICE) + packet(17, b"\x01" * 70_000)
    assert only(only(blob).public()).public() == only(blob).public()
