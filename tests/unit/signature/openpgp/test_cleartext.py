"""The framing of clear-signed messages: one reading or none."""

from __future__ import annotations

from itertools import count

import pytest

from eclctl.signature import openpgp
from eclctl.signature.openpgp.cleartext import MAX_MESSAGE, MAX_SIGNATURES, parse_cleartext
from tests.helpers.pgp import TEXT, Key, certificate, clearsign, packet
from tests.helpers.support import NOW

KEY = Key()
RING = openpgp.Keyring.parse(certificate(KEY))
GOOD = clearsign(KEY)


def refused(message):
    with pytest.raises(openpgp.VerificationError) as caught:
        openpgp.verify(message, RING, now=NOW)
    return caught.value.finding.code


def text_of(message):
    return openpgp.verify(message, RING, now=NOW).text


def test_good_message_verifies():
    assert text_of(GOOD) == TEXT


def test_last_line_ending_may_be_missing():
    assert text_of(GOOD.removesuffix(b"\n")) == TEXT


def test_lines_may_end_in_cr_lf():
    assert text_of(GOOD.replace(b"\n", b"\r\n")) == TEXT


def test_text_comes_back_with_cr_lf_and_without_trailing_white_space():
    signed = Key()
    message = clearsign(signed, text=b"a\n\n b").replace(b"a\n\n b", b"a \t\n\t\n b")
    assert openpgp.verify(message, certificate(signed), now=NOW).text == b"a\r\n\r\n b"


def test_dash_escapes_are_undone():
    message = clearsign(KEY, text=b"-----BEGIN\nFrom x\n-").replace(
        b"-----BEGIN\nFrom x\n-\n", b"- -----BEGIN\n- From x\n- -\n"
    )
    assert text_of(message) == b"-----BEGIN\r\nFrom x\r\n-"


@pytest.mark.parametrize(
    "line", [b"-x", b"-", b"--", b"-----BEGIN PGP SIGNED MESSAGE-----", b"-----END PGP SIGNATURE-----"]
)
def test_dash_that_is_not_escaped_is_refused(line):
    assert refused(clearsign(KEY, text=TEXT + b"\n" + line)) == "bad-framing"


@pytest.mark.parametrize("around", [b"x", b"\n", b" ", b"\0", b"\xef\xbb\xbf", b"x\n", GOOD], ids=count())
def test_anything_before_the_message_is_refused(around):
    assert refused(around + GOOD) == "bad-framing"


@pytest.mark.parametrize("around", [b"x", b"\n", b" ", b"\0", b"\r", b"x\n", GOOD], ids=count())
def test_anything_after_the_message_is_refused(around):
    assert refused(GOOD + around) == "bad-framing"


@pytest.mark.parametrize("octet", [*(bytes((n,)) for n in range(0x20) if n not in (9, 10)), b"\x7f"])
def test_control_character_in_the_text_is_refused(octet):
    """Also where it is signed: NUL, form feed or a lone carriage return show a reader other lines."""
    assert refused(clearsign(KEY, text=b"a" + octet + b"b")) == "bad-framing"


@pytest.mark.parametrize(
    "header",
    [
        b"Comment: x\n",
        b"Hash: SHA256\nComment: x\n",
        b"NotDashEscaped: x\n",
        b"Hash: SHA256\nVersion: 1\n",
        b"hash: SHA256\n",
        b"Hash : SHA256\n",
        b"Hash: sha256\n",
        b"Hash: SHA256 \n",
        b"Hash:\n",
        b" Hash: SHA256\n",
        b"Hash: SHA256\n evil\n",
        b"Hash: SHA256\n \nevil\n",
        b"Hash: SHA256\n" * 20,
        b"{}\n",
    ],
)
def test_foreign_or_odd_header_is_refused(header):
    assert refused(clearsign(KEY, header=header)) == "bad-framing"


@pytest.mark.parametrize(
    "header", [b"Hash: SHA512\n", b"Hash: MD5\n", b"Hash: SHA256, SHA512\n", b"Hash: SHA256\nHash: SHA1\n", b""]
)
def test_hash_header_that_names_another_hash_or_none_is_refused(header):
    assert refused(clearsign(KEY, header=header)) == "bad-framing"


@pytest.mark.parametrize("header", [b"Hash: SHA256\nHash: SHA256\n", b"Hash: SHA256,SHA256\n"])
def test_hash_header_may_name_the_hash_twice(header):
    assert text_of(clearsign(KEY, header=header)) == TEXT


def test_version_6_needs_no_hash_header():
    """RFC 9580 section 7.1."""
    key = Key(version=6)
    assert openpgp.verify(clearsign(key, header=b""), certificate(key), now=NOW).text == TEXT


def test_separator_must_be_empty():
    assert refused(GOOD.replace(b"Hash: SHA256\n\n", b"Hash: SHA256\n \n")) == "bad-framing"


def test_message_without_text_is_refused():
    assert refused(GOOD.replace(TEXT + b"\n", b"")) == "bad-framing"


def test_empty_text_verifies():
    assert text_of(clearsign(KEY, text=b"")) == b""


def test_signatures_must_all_verify():
    good = packet(2, KEY.sign(1, TEXT))
    other = Key()
    both = clearsign(good + packet(2, other.sign(1, TEXT)))
    assert refused(both) == "unknown-key"
    found = openpgp.verify(both, certificate(KEY) + certificate(other), now=NOW)
    assert [signer.id for signer in found.signers] == [KEY.fingerprint, other.fingerprint]
    assert refused(clearsign(good + packet(2, KEY.sign(1, b"other")))) == "bad-signature"


def test_signatures_are_bounded():
    one = packet(2, KEY.sign(1, TEXT))
    assert text_of(clearsign(one * MAX_SIGNATURES)) == TEXT
    assert refused(clearsign(one * (MAX_SIGNATURES + 1))) == "bad-framing"


@pytest.mark.parametrize(
    "other", [packet(13, b"x"), packet(10, b"PGP"), packet(6, KEY.body), packet(60, b"")], ids=count()
)
def test_other_packets_among_the_signatures_are_refused(other):
    assert refused(clearsign(packet(2, KEY.sign(1, TEXT)) + other)) == "bad-framing"


def test_large_message_is_refused_unread():
    assert refused(clearsign(KEY, text=b"x" * MAX_MESSAGE)) == "bad-framing"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\n",
        b"-----BEGIN PGP SIGNED MESSAGE-----",
        b"-----BEGIN PGP MESSAGE-----\n\nAAAA\n-----END PGP MESSAGE-----\n",
    ],
)
def test_what_is_no_clear_signed_message_is_refused(message):
    assert refused(message) == "bad-framing"


@pytest.mark.parametrize("cut", range(1, len(GOOD) - 1, 7))
def test_truncated_message_is_refused(cut):
    assert refused(GOOD[:cut])


def test_framing_is_checked_before_any_key_is_looked_for():
    with pytest.raises(openpgp.VerificationError) as caught:
        openpgp.check(b"x" + GOOD, openpgp.Keyring.parse())
    assert caught.value.finding.code == "bad-framing"


def test_parsing_gives_text_hashes_and_packets():
    parsed = parse_cleartext(GOOD)
    assert (parsed.text, parsed.hashes, len(parsed.signatures)) == (TEXT, frozenset({"SHA256"}), 1)
