"""Which private keys are read from PEM files, and what is said of everything else."""

from __future__ import annotations

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
from tests.sifbuilder import pem_key, private_pem
from tests.support import CORPUS

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
        (corpus("pem", "p256-public.pem"), "a public key, with which nobody can sign; give the private key"),
        (corpus("pgp", "builder.asc"), "a public key, with which nobody can sign"),
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
def test_a_key_that_nobody_would_verify_with_does_not_sign(key, message):
    with pytest.raises(KeyMaterialError, match=message):
        read_private_key(plain(key), never)


def test_the_secret_is_not_in_what_is_printed_of_a_key():
    key = read_private_key(plain(ed25519.Ed25519PrivateKey.generate()), never)
    assert "PrivateKey object" not in repr(key)
