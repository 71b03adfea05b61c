"""What an OpenPGP signature says that it is for: by a notation that it covers, and by no other."""

from __future__ import annotations

import pytest

from eclctl.signature import openpgp
from eclctl.signature.openpgp.signature import PURPOSE_NOTATION
from eclctl.terms import NO_PURPOSE_KNOWN, Finding
from tests.helpers.pgp import SIGNED, TEXT, Key, certificate, clearsign, packet, sub, user_id

HUMAN, BINARY = b"\x80\0\0\0", b"\0\0\0\0"


def notation(value: bytes, *, name: str = PURPOSE_NOTATION, flags: bytes = HUMAN, critical: bool = False) -> bytes:
    lengths = len(name.encode()).to_bytes(2) + len(value).to_bytes(2)
    return sub(20, flags + lengths + name.encode() + value, critical=critical)


def checked(*subpackets: bytes, unhashed: bytes = b"") -> openpgp.GoodSignature | Finding:
    key = Key()
    ring = openpgp.Keyring.parse(certificate(key, user_id(key)))
    signature = key.sign(1, TEXT, *subpackets, created=SIGNED, unhashed=unhashed)
    (found,) = openpgp.check(clearsign(packet(2, signature)), ring).signatures
    return found


def stated(*subpackets: bytes, unhashed: bytes = b"") -> frozenset[str]:
    found = checked(*subpackets, unhashed=unhashed)
    assert isinstance(found, openpgp.GoodSignature)
    return found.purposes


def test_a_signature_without_the_notation_states_nothing() -> None:
    assert stated() == frozenset()
    assert stated(notation(b"scan", name="purpose@other.example"), notation(b"x", name="purpose")) == frozenset()


def test_every_hashed_notation_is_a_purpose() -> None:
    assert stated(notation(b"scan")) == {"scan"}
    assert stated(notation(b"scan"), notation(b"approve"), notation(b"scan")) == {"scan", "approve"}


def test_what_the_signature_does_not_cover_states_nothing() -> None:
    """Anyone can add to the unhashed area."""
    assert stated(unhashed=notation(b"scan")) == frozenset()
    assert stated(notation(b"scan"), unhashed=notation(b"approve")) == {"scan"}


@pytest.mark.parametrize("value", [b"", b"Scan", b"a b", b"-scan", b"scan\n", b"\xff", b"a" * 33, "sc\u0430n".encode()])
def test_a_purpose_that_cannot_be_read_is_not_taken_for_none(value: bytes) -> None:
    assert stated(notation(value)) == {NO_PURPOSE_KNOWN}


def test_a_purpose_that_is_not_said_to_be_text_cannot_be_read() -> None:
    assert stated(notation(b"scan", flags=BINARY)) == {NO_PURPOSE_KNOWN}


def test_the_notation_must_not_be_critical() -> None:
    """The reference knows no notations: what it refuses is refused here."""
    found = checked(notation(b"scan", critical=True))
    assert isinstance(found, Finding)
    assert "unknown critical notation: purpose@eclctl.org" in found.message


def test_a_notation_of_wrong_length_is_no_signature() -> None:
    assert isinstance(checked(sub(20, HUMAN + b"\0\x12\0\x05" + PURPOSE_NOTATION.encode() + b"scan")), Finding)
