"""Attacks on OpenPGP signatures: each test is named after its line of the attack list."""

from __future__ import annotations

import json

import pytest

from eclctl.signature import openpgp
from tests.helpers.pgp import SIGNED, TEXT, Key, certificate, clearsign, packet, sub, time
from tests.helpers.support import CORPUS, NOW

FOLDER = CORPUS / "openpgp"
CASES = {case["id"]: case for case in json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))["cases"]}
KEY = Key()
RING = certificate(KEY)
GOOD = clearsign(KEY)


def code(name):
    """Return the code that a message of the corpus is refused with, or None when it verifies."""
    case = CASES[name]
    try:
        openpgp.verify((FOLDER / case["msg"]).read_bytes(), (FOLDER / case["cert"]).read_bytes(), now=NOW)
    except openpgp.VerificationError as error:
        return error.finding.code
    return None


def refused(message, ring=RING):
    with pytest.raises(openpgp.VerificationError) as caught:
        openpgp.verify(message, ring, now=NOW)
    return caught.value.finding.code


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hash-SHA1", "weak-hash"),
        ("hash-MD5", "weak-hash"),
        ("alg-rsa1024", "weak-key"),
        ("alg-dsa2048", "weak-key"),
        ("sub-binding-sha1", "bad-certificate"),
        ("sub-back-sha1", "bad-certificate"),
        ("v3sig-rsa-sha256", "unsupported"),
    ],
)
def test_weak_hashes_weak_keys(name, expected):
    assert code(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("key-expired-at-sig", "key-expired"),
        ("sub-expired", "key-expired"),
        ("key-notyet", "key-not-yet-valid"),
        ("sub-binding-future", "signature-from-future"),
        ("sig-expired", "signature-expired"),
        ("sig-future", "signature-from-future"),
    ],
)
def test_openpgp_certificates_expired(name, expected):
    assert code(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "key-revoked-noreason",
        "key-revoked-sha1",
        "key-revoked-soft-before",
        "gpg-key-revoked",
        "sub-primary-revoked",
        "sub-revoked-hard",
        "sub-revoked-soft-before",
        "uid-revoked",
    ],
)
def test_openpgp_certificates_revoked_hard_or_soft(name):
    assert code(name) == "key-revoked"


def test_openpgp_certificates_forged_revocation_is_ignored():
    assert code("key-revoked-forged") is None


@pytest.mark.parametrize("name", ["key-bare", "key-no-selfsig", "key-selfsig-forged", "key-crit-unknown-selfsig"])
def test_openpgp_certificates_no_self_signature(name):
    assert code(name) == "bad-certificate"


@pytest.mark.parametrize("name", ["sub-noback", "sub-adopted", "sub-back-byprimary", "sub-back-wrongkey"])
def test_openpgp_certificates_subkey_without_back_signature_or_forged_binding(name):
    assert code(name) == "bad-certificate"


@pytest.mark.parametrize("name", ["key-primary-noS", "sub-nosign", "sub-nosign-withback"])
def test_openpgp_certificates_no_signing_flag(name):
    assert code(name) == "not-a-signing-key"


@pytest.mark.parametrize("name", ["sig-crit-notation", "sig-crit-pref34"])
def test_openpgp_certificates_unknown_critical_subpacket(name):
    assert code(name) == "unsupported"


@pytest.mark.parametrize("message", [b"junk\n" + GOOD, b"\n" + GOOD, GOOD + b"junk\n", GOOD + b"\n"], ids=range(4))
def test_clear_sign_framing_text_before_or_after(message):
    assert refused(message) == "bad-framing"


@pytest.mark.parametrize("message", [GOOD + GOOD, clearsign(Key()) + GOOD, GOOD + clearsign(Key())], ids=range(3))
def test_clear_sign_framing_second_block(message):
    assert refused(message) == "bad-framing"


@pytest.mark.parametrize("octet", [b"\x0c", b"\0", b"\r", b"\x0b", b"\x1b"])
def test_clear_sign_framing_form_feed_nul_lone_cr(octet):
    for at in (len(b"-----BEGIN"), GOOD.index(TEXT), GOOD.index(TEXT) + 3, len(GOOD) - 40):
        assert refused(GOOD[:at] + octet + GOOD[at:]) == "bad-framing"


@pytest.mark.parametrize("header", [b"Comment: x\n", b"NotDashEscaped: x\n", b"Hash: SHA256\nX: y\n"])
def test_clear_sign_framing_foreign_headers(header):
    assert refused(clearsign(KEY, header=header)) == "bad-framing"


@pytest.mark.parametrize("header", [b"Hash: MD5\n", b"Hash: SHA512\n", b"Hash: SHA256,MD5\n", b""])
def test_clear_sign_framing_hash_that_lies(header):
    assert refused(clearsign(KEY, header=header)) == "bad-framing"


def test_forged_fingerprint_in_the_issuer_grants_nothing():
    """A signature that says that Alice made it does not verify, and is never Mallory's either."""
    mallory = Key()
    forged = packet(2, mallory.sign(1, TEXT, created=SIGNED, issuer=KEY.issuer()))
    assert refused(clearsign(forged), RING + certificate(mallory)) == "bad-signature"


def test_one_signer_twice_is_named_twice_under_one_id():
    """Counting persons is for the policy: both signatures name the same primary key."""
    twice = b"".join(packet(2, KEY.sign(1, TEXT, sub(3, time(n)), created=SIGNED)) for n in (0, 0x7FFFFFFF))
    signers = openpgp.verify(clearsign(twice), RING, now=NOW).signers
    assert [signer.id for signer in signers] == [KEY.fingerprint] * 2
