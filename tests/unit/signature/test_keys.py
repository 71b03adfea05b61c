"""PEM public keys are one block, of a kind and size that counts, and named by their content."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from eclctl.errors import KeyMaterialError
from eclctl.signature.keys import parse_public_key
from tests.helpers.sifbuilder import PemKey, pem_key, private_pem
from tests.helpers.support import CORPUS

NAMES = {
    "p256": "P-256",
    "p384": "P-384",
    "p521": "P-521",
    "ed25519": "Ed25519",
    "rsa2048": "RSA-2048",
    "rsa4096": "RSA-4096",
}


@pytest.mark.parametrize(("name", "algorithm"), NAMES.items())
def test_a_key_verifies_what_it_signed_and_nothing_else(name, algorithm):
    key = pem_key(name)
    assert key.public.algorithm == algorithm
    assert key.public.verify(key.sign(b"text"), b"text")
    assert not key.public.verify(key.sign(b"text"), b"other")
    assert not key.public.verify(b"", b"text")
    assert not key.public.verify(pem_key("stranger").sign(b"text"), b"text")


def test_the_id_is_the_digest_of_the_subject_public_key_info():
    text = (CORPUS / "keys" / "pem" / "rsa2048-public.pem").read_bytes()
    spki = load_pem_public_key(text).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert parse_public_key(text).id == f"sha256:{hashlib.sha256(spki).hexdigest()}"


def test_the_same_key_in_two_forms_is_one_key():
    key = pem_key("rsa2048").private.public_key()
    forms = [key.public_bytes(Encoding.PEM, form) for form in (PublicFormat.PKCS1, PublicFormat.SubjectPublicKeyInfo)]
    first, second = (parse_public_key(form, source=str(number)) for number, form in enumerate(forms))
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize("name", NAMES)
def test_the_keyid_is_the_ssh_fingerprint(name):
    assert pem_key(name).public.keyid == pem_key(name).keyid


def small(bits):
    return PemKey(rsa.generate_private_key(65537, bits))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (lambda: b"", "exactly one PEM block"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be parsed"),
        (lambda: pem_key("p256").pem * 2, "exactly one PEM block"),
        (lambda: private_pem(pem_key("p256")), "private key"),
        ((CORPUS / "keys" / "x509" / "leaf.pem").read_bytes, "certificate"),
        ((CORPUS / "keys" / "pgp" / "builder.asc").read_bytes, "as a keyring"),
        (lambda: small(1024).pem, "1024 bits"),
        (lambda: PemKey(ec.generate_private_key(ec.SECP256K1())).pem, "secp256k1"),
        (lambda: PemKey(ed448.Ed448PrivateKey.generate()).pem, "only RSA, ECDSA and Ed25519"),
        (lambda: PemKey(dsa.generate_private_key(2048)).pem, "only RSA, ECDSA and Ed25519"),
        (lambda: b"x" * 70_000, "larger than"),
    ],
    ids=["empty", "garbage", "two", "private", "certificate", "pgp", "rsa-1024", "curve", "ed448", "dsa", "large"],
)
def test_other_files_are_refused_with_a_reason_and_their_name(text, words):
    with pytest.raises(KeyMaterialError, match=words) as caught:
        parse_public_key(text(), source="a.pem")
    assert str(caught.value).startswith("a.pem: ")
