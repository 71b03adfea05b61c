"""Which private keys are read from PEM files, and what is said of everything else."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from eclctl.errors import KeyMaterialError
from eclctl.sign.pem import read_private_key
from tests.helpers.sifbuilder import pem_key, private_pem
from tests.helpers.support import CORPUS

PASSPHRASE = b"correct horse"


def never() -> bytes:
    raise AssertionError("a passphrase was asked for")


def right() -> bytes:
    return PASSPHRASE


def encrypted(form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return pem_key("p256").private.private_bytes(Encoding.PEM, form, BestAvailableEncryption(PASSPHRASE))


def plain(key: object, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def corpus(*parts: str) -> bytes:
    return CORPUS.joinpath("keys", *parts).read_bytes()


@pytest.mark.parametrize("name", ["p256", "p384", "p521", "ed25519", "rsa2048", "rsa4096"])
def test_a_key_signs_what_its_public_half_verifies(name):
    key = read_private_key(private_pem(pem_key(name)), never)
    assert key.public == pem_key(name).public
    assert key.public.verify(key.sign(b"message"), b"message")
    assert not key.public.verify(key.sign(b"message"), b"massage")


@pytest.mark.parametrize("name", ["p256", "rsa2048"])
def test_the_older_form_is_read_also_with_parameters_before_it(name):
    text = plain(pem_key(name).private, PrivateFormat.TraditionalOpenSSL)
    before = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert read_private_key(text, never).public == pem_key(name).public
    assert read_private_key(before + text, never).public == pem_key(name).public


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_opened_with_its_passphrase_alone(form):
    text = encrypted(form)
    assert read_private_key(text, right).public == pem_key("p256").public
    for wrong in (b"wrong", b""):
        with pytest.raises(KeyMaterialError, match=r"k\.pem: wrong passphrase, or the key is damaged"):
            read_private_key(text, lambda wrong=wrong: wrong, source="k.pem")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (corpus("pem", "p256-public.pem"), "a public key, which cannot sign; give the private key"),
        (corpus("pgp", "builder.asc"), "a public key, which cannot sign"),
        (corpus("pgp", "builder-secret.asc"), "an OpenPGP key; import it with `eclctl keys import`"),
        (corpus("x509", "leaf.pem"), "a certificate; give the private key that belongs to it"),
        (plain(pem_key("ed25519").private, PrivateFormat.OpenSSH), "an OpenSSH key; convert a copy"),
        (private_pem(pem_key("p256")) + private_pem(pem_key("p384")), "holds 2 private keys"),
        (corpus("cosign", "ci.key"), "a key of cosign's"),
        (b"", "a PEM block PRIVATE KEY is needed"),
        (b"x" * 70_000, "larger than 65536 bytes"),
        (b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n", "no readable private key"),
        (b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", "no readable private key"),
    ],
)
def test_what_is_no_private_key_is_called_what_it_is(text, message):
    with pytest.raises(KeyMaterialError, match=message) as caught:
        read_private_key(text, never, source="k.pem")
    assert str(caught.value).startswith("k.pem: ")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (rsa.generate_private_key(65537, 1024), "RSA key of 1024 bits"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ec.generate_private_key(ec.SECP224R1()), "secp224r1"),
        (dsa.generate_private_key(2048), "another kind"),
        (ed448.Ed448PrivateKey.generate(), "another kind"),
        (x25519.X25519PrivateKey.generate(), "another kind"),
    ],
    ids=["rsa1024", "secp256k1", "secp224r1", "dsa", "ed448", "x25519"],
)
def test_a_key_that_no_verifier_takes_does_not_sign(key, message):
    with pytest.raises(KeyMaterialError, match=message):
        read_private_key(plain(key), never)


def test_the_secret_is_not_in_what_is_printed_of_a_key():
    key = read_private_key(plain(ed25519.Ed25519PrivateKey.generate()), never)
    assert "PrivateKey object" not in repr(key)


def der(tag: int, *contents: bytes) -> bytes:
    """Return a DER element."""
    content = b"".join(contents)
    size = len(content).to_bytes(4)
    return bytes([tag, 0x84]) + size + content


def number(value: int) -> bytes:
    return der(2, value.to_bytes(value.bit_length() // 8 + 1, signed=True))


def derived_by(name: str, *parameters: bytes) -> bytes:
    """Return an encrypted key whose passphrase is worked on as PBES2 says (RFC 8018 appendix A.4)."""
    derivation = der(0x30, der(6, bytes.fromhex(name)), der(0x30, der(4, b"salt"), *parameters))
    cipher = der(0x30, der(6, bytes.fromhex("60864801650304012a")), der(4, bytes(16)))
    pbes2 = der(0x30, der(6, bytes.fromhex("2a864886f70d01050d")), der(0x30, derivation, cipher))
    text = base64.encodebytes(der(0x30, pbes2, der(4, bytes(64))))
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + text + b"-----END ENCRYPTED PRIVATE KEY-----\n"


SCRYPT, PBKDF2 = "2b06010401da47040b", "2a864886f70d01050c"


@pytest.mark.parametrize(
    "text",
    [
        derived_by(SCRYPT, number(1 << 23), number(8), number(1)),  # 8 GiB
        derived_by(SCRYPT, number(2), number(1 << 28), number(1)),
        derived_by(SCRYPT, number(16384), number(8), number(1 << 20)),
        derived_by(SCRYPT, number(16384), number(-8), number(-1)),
        derived_by(SCRYPT, number(16384), number(8)),
        derived_by(PBKDF2, number(2_000_000_000)),  # a quarter of an hour
        derived_by(PBKDF2, number(1 << 70)),
        derived_by(PBKDF2, number(-1)),
    ],
)
def test_a_key_that_asks_for_too_much_is_refused_before_a_passphrase_is_asked_for(text):
    with pytest.raises(KeyMaterialError, match=r"^k\.pem: opening it would take more time or memory"):
        read_private_key(text, never, source="k.pem")


@pytest.mark.parametrize(
    "text", [derived_by(SCRYPT, number(131072), number(8), number(1)), derived_by(PBKDF2, number(600_000))]
)
def test_what_guides_ask_for_is_taken(text):
    with pytest.raises(KeyMaterialError, match="wrong passphrase, or the key is damaged"):
        read_private_key(text, right)


@pytest.mark.parametrize(
    "content", [b"", b"AAAA", b"MIA=", b"A", b"MP////8=", base64.b64encode(bytes.fromhex("308000000000")), b"-----"]
)
def test_an_encrypted_key_that_is_damaged_is_told(content):
    text = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + content + b"\n-----END ENCRYPTED PRIVATE KEY-----\n"
    with pytest.raises(KeyMaterialError, match="damaged"):
        read_private_key(text, right)


def test_the_block_that_was_looked_at_is_the_one_that_is_opened():
    """Another, which starts where no line does, is not seen by one reader and might be by another."""
    costly = derived_by(SCRYPT, number(1 << 23), number(8), number(1))
    assert read_private_key(b"x" + costly + encrypted(), right).public == pem_key("p256").public
