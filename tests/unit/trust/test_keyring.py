"""Key stores have one digest in any order, and judge at the time given."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from eclctl.errors import KeyMaterialError
from eclctl.model import Claim
from eclctl.signature import openpgp
from eclctl.terms import KeyRef, SignatureFormat, SignerKind
from eclctl.trust.keyring import KeyStore, judge_claim, load_keyring, load_public_keys
from tests.helpers import pgp
from tests.helpers.sifbuilder import corpus_store, pem_key
from tests.helpers.support import CORPUS, NOW

PGP = CORPUS / "keys" / "pgp"
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
SIGNED = datetime(2026, 1, 1, tzinfo=UTC)


def claim(signer, kind=SignerKind.PGP, created=SIGNED, expires=None):
    return Claim(4, SignatureFormat.PGP, KeyRef(kind, signer), signer, 1, frozenset({1}), True, True, created, expires)


def test_the_digest_depends_on_content_and_not_on_order():
    one = corpus_store("builder", "scanner", pem=("p256", "ed25519"))
    other = corpus_store("scanner", "builder", pem=("ed25519", "p256", "p256"))
    assert one.digest == other.digest
    assert one.digest.startswith("sha256:")
    digests = {corpus_store("builder").digest, corpus_store("builder", pem=("p256",)).digest, one.digest}
    assert len(digests) == 3


def test_a_pem_key_counts_for_as_long_as_it_is_listed():
    key = pem_key("p256").public.id
    fact = claim(key, SignerKind.KEY, created=None)
    assert judge_claim(corpus_store(pem=("p256",)), fact, NOW) is None
    assert judge_claim(corpus_store(pem=("ed25519",)), fact, NOW).code == "unknown-key"


def test_a_pgp_claim_is_judged_at_the_time_given():
    store = corpus_store("site-ring")
    assert judge_claim(store, claim(BUILDER), NOW) is None
    assert judge_claim(store, claim(BUILDER), SIGNED - timedelta(seconds=1)).code == "signature-from-future"
    assert judge_claim(store, claim(BUILDER, expires=NOW), NOW).code == "signature-expired"
    assert judge_claim(corpus_store("scanner"), claim(BUILDER), NOW).code == "unknown-key"


def test_revocation_changes_the_next_judgement():
    revoked = "F5A4C20B8C7054A68A09D71A88B82E9124DD2498"
    assert judge_claim(corpus_store("revoked-before"), claim(revoked), NOW) is None
    assert judge_claim(corpus_store("revoked"), claim(revoked), NOW).code == "key-revoked"


def test_keyrings_come_from_files_and_directories_in_any_form(tmp_path):
    (tmp_path / "b.asc").write_bytes((PGP / "builder.asc").read_bytes())
    (tmp_path / "a.gpg").write_bytes(pgp.certificate(pgp.Key()))
    (tmp_path / ".hidden.asc").write_text("junk")
    (tmp_path / "b.asc~").write_text("junk")
    (tmp_path / "below").mkdir()
    ring = load_keyring([tmp_path, PGP / "scanner.asc"])
    assert len(list(ring.certificates)) == 3
    assert ring.get(BUILDER) is not None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("junk"), "bad.asc: ."),
        (os.mkfifo, "not a regular file"),
        (lambda path: None, "No such file"),
    ],
    ids=["junk", "fifo", "missing"],
)
def test_a_bad_keyring_file_is_named(tmp_path, make, words):
    path = tmp_path / "bad.asc"
    make(path)
    with pytest.raises(KeyMaterialError, match=words) as caught:
        load_keyring([PGP / "builder.asc", path])
    assert str(caught.value).startswith(f"{path}: ")


def test_a_bad_key_file_is_named(tmp_path):
    path = tmp_path / "bad.pem"
    path.write_text("junk")
    with pytest.raises(KeyMaterialError, match="exactly one PEM block") as caught:
        load_public_keys([path])
    assert str(caught.value).startswith(f"{path}: ")


def test_a_directory_in_place_of_a_key_file_is_named_and_not_left_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyMaterialError, match="not a regular file") as caught:
        load_public_keys([tmp_path])
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_oversized_key_file_is_not_read(tmp_path):
    path = tmp_path / "big.pem"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(KeyMaterialError, match="larger than"):
        load_public_keys([path])


def test_an_empty_store_trusts_nobody():
    store = KeyStore(openpgp.Keyring.parse())
    assert judge_claim(store, claim(BUILDER), NOW).code == "unknown-key"
