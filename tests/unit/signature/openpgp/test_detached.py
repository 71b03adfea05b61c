"""Detached signatures over a file: over its exact octets, strictly framed, each for itself."""

from __future__ import annotations

import pytest

from eclctl.signature import openpgp
from eclctl.signature.openpgp import FindingCode, GoodSignature, Keyring, VerificationError
from eclctl.signature.openpgp.detached import MAX_DETACHED
from eclctl.terms import Finding
from tests.helpers import pgp

FILE = b"version: 1\nexception: one\n"
ALICE, BOB = pgp.Key(), pgp.Key()
RING = Keyring.parse(pgp.certificate(ALICE), pgp.certificate(BOB, pgp.user_id(BOB)))


def signature(key: pgp.Key, content: bytes = FILE, kind: int = 0x00, **options: object) -> bytes:
    return pgp.packet(2, key.sign(kind, content, **options))


def armored(*packets: bytes) -> bytes:
    return pgp.armor("SIGNATURE", b"".join(packets))


def check(*packets: bytes, content: bytes = FILE) -> list[str]:
    """The fingerprints of those who signed, and the codes of what failed."""
    found = openpgp.check_detached(armored(*packets), content, RING)
    return [each.certificate if isinstance(each, GoodSignature) else str(each.code) for each in found]


def test_a_signature_over_the_exact_octets_names_its_key() -> None:
    assert check(signature(ALICE)) == [ALICE.fingerprint]


@pytest.mark.parametrize("content", [FILE.replace(b"\n", b"\r\n"), FILE + b" ", FILE[:-1], b""])
def test_a_signature_over_anything_else_is_bad(content: bytes) -> None:
    assert check(signature(ALICE), content=content) == [FindingCode.BAD_SIGNATURE]


def test_a_signature_over_text_does_not_count() -> None:
    text = signature(ALICE, FILE.replace(b"\n", b"\r\n"), kind=0x01)
    assert check(text) == [FindingCode.UNSUPPORTED]


@pytest.mark.parametrize("kind", [0x02, 0x10, 0x13, 0x1F, 0x20, 0x40, 0x50])
def test_no_other_type_of_signature_counts(kind: int) -> None:
    assert check(signature(ALICE, kind=kind)) == [FindingCode.UNSUPPORTED]


def test_a_binary_signature_in_a_clear_signed_message_still_does_not_count() -> None:
    message = pgp.clearsign(signature(ALICE, pgp.TEXT))
    assert isinstance(openpgp.check(message, RING).signatures[0], Finding)


def test_several_signatures_stand_each_for_itself() -> None:
    stranger = pgp.Key()
    found = check(signature(ALICE), signature(stranger), signature(BOB))
    assert found == [ALICE.fingerprint, FindingCode.UNKNOWN_KEY, BOB.fingerprint]


def test_a_weak_hash_does_not_count() -> None:
    assert check(signature(ALICE, hash_id=2)) == [FindingCode.WEAK_HASH]


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"hello",
        b"words before\n" + armored(signature(ALICE)),
        armored(signature(ALICE)) + b"words after\n",
        armored(signature(ALICE)) * 2,
        b"\n" + armored(signature(ALICE)),
        signature(ALICE),
        pgp.armor("PUBLIC KEY BLOCK", signature(ALICE)),
        pgp.armor("SIGNATURE", pgp.packet(13, b"alice")),
        pgp.armor("SIGNATURE", signature(ALICE) + pgp.packet(13, b"alice")),
        pgp.armor("SIGNATURE", b"\xff"),
        armored(*[signature(ALICE)] * 17),
        armored(signature(ALICE)).replace(b"-----END PGP SIGNATURE-----", b"-----END PGP MESSAGE-----"),
        armored(signature(ALICE)).replace(b"-----END PGP SIGNATURE-----\n", b""),
        armored(signature(ALICE)).replace(b"\n\n", b"\nApproved-By: bob\n\n", 1),
        armored(signature(ALICE)) + b"\n" * MAX_DETACHED,
    ],
)
def test_anything_but_one_block_of_signatures_is_refused(file: bytes) -> None:
    with pytest.raises(VerificationError) as caught:
        openpgp.check_detached(file, FILE, RING)
    assert caught.value.finding.code == FindingCode.BAD_FRAMING


def test_line_endings_of_the_block_may_be_either() -> None:
    block = armored(signature(ALICE)).replace(b"\n", b"\r\n")
    found = openpgp.check_detached(block, FILE, RING)
    assert [type(each) for each in found] == [GoodSignature]
