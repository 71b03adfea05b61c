"""cosign's key files: what is read, what is refused before anything is spent on it, and what is written."""

from __future__ import annotations

import base64
import errno
import json
import os
import stat
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from eclctl.errors import KeyMaterialError
from eclctl.sign import cosign_keys
from eclctl.sign.cosign_keys import KeyPair, generate_pair, read_cosign_key, write_pair
from eclctl.signature.keys import parse_public_key
from tests.helpers.support import CORPUS

KEYS = CORPUS / "keys" / "cosign"
PASSWORD = (KEYS / "password.txt").read_bytes().strip()
CI = (KEYS / "ci.key").read_bytes()


def never() -> bytes:
    raise AssertionError("the password was asked for")


def document(text: bytes = CI) -> dict[str, Any]:
    return json.loads(base64.b64decode(b"".join(text.splitlines()[1:-1])))


def pem(members: object, kind: str = "ENCRYPTED SIGSTORE PRIVATE KEY") -> bytes:
    data = members if isinstance(members, bytes) else json.dumps(members).encode()
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (kind.encode(), base64.encodebytes(data), kind.encode())


def sealed(secret: bytes) -> bytes:
    """A key file, well-formed, with anything in it."""
    return cosign_keys._sealed(secret, b"pw")


def refusal(text: bytes) -> str:
    with pytest.raises(KeyMaterialError) as found:
        read_cosign_key(text, never, source="k")
    return str(found.value)


@pytest.mark.parametrize("name", ["ci", "approver", "site", "stranger"])
def test_a_key_that_cosign_made_is_read_with_its_password(name):
    key = read_cosign_key((KEYS / f"{name}.key").read_bytes(), lambda: PASSWORD)
    public = parse_public_key((KEYS / f"{name}.pub").read_bytes())
    assert key.public == public
    assert public.verify(key.sign(b"payload"), b"payload")


def test_a_wrong_password_is_said_to_be_one():
    with pytest.raises(KeyMaterialError, match="k: wrong password, or the file has been changed"):
        read_cosign_key(CI, lambda: b"not it", source="k")


def test_the_older_name_of_the_pem_block_is_the_same():
    text = CI.replace(b"SIGSTORE", b"COSIGN")
    assert read_cosign_key(text, lambda: PASSWORD) == read_cosign_key(CI, lambda: PASSWORD)


def test_a_new_pair_is_read_back_and_belongs_together():
    pair = generate_pair(b"pass word")
    key = read_cosign_key(pair.private, lambda: b"pass word")
    assert key.public == parse_public_key(pair.public)
    assert key.public.algorithm == "P-256"


def test_a_new_key_file_has_the_shape_of_cosign_s():
    text = generate_pair(b"").private
    made, theirs = document(text), document()
    assert text.splitlines()[0] == CI.splitlines()[0]
    assert {len(line) for line in text.splitlines()[1:9]} == {64}
    assert list(made) == list(theirs)
    assert list(made["kdf"]) == list(theirs["kdf"])
    assert made["kdf"]["params"] == theirs["kdf"]["params"]
    assert [len(made["kdf"]["salt"]), len(made["cipher"]["nonce"])] == [44, 32]
    other = document(generate_pair(b"").private)
    assert made["kdf"]["salt"] != other["kdf"]["salt"]
    assert made["cipher"]["nonce"] != other["cipher"]["nonce"]


def test_a_secret_does_not_show_in_the_pair_s_representation():
    pair = generate_pair(b"pw")
    assert "PRIVATE" not in repr(pair)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        (("kdf", "params", "N"), 1 << 30),
        (("kdf", "params", "N"), 65537),
        (("kdf", "params", "r"), 1 << 20),
        (("kdf", "params", "p"), 1000),
        (("kdf", "params", "p"), True),
        (("kdf", "params", "N"), "65536"),
        (("kdf", "params", "N"), -65536),
        (("kdf", "params", "N"), 65536.0),
        (("kdf", "params"), {"N": 65536, "r": 8}),
        (("kdf", "params"), None),
        (("kdf", "name"), "pbkdf2"),
        (("kdf", "salt"), ""),
        (("kdf", "salt"), "!"),
        (("kdf", "salt"), 7),
        (("kdf", "salt"), base64.b64encode(bytes(2000)).decode()),
        (("cipher", "name"), "aes"),
        (("cipher", "nonce"), "AAAA"),
        (("cipher",), []),
        (("ciphertext",), None),
        (("other",), 1),
    ],
)
def test_what_cosign_would_not_write_is_refused_before_a_password_is_asked_for(member, value):
    members = place = document()
    for name in member[:-1]:
        place = place[name]
    place[member[-1]] = value
    assert "the encrypted key is not valid" in refusal(pem(members))


@pytest.mark.parametrize("n", [1 << 15, 1 << 17])
def test_the_other_costs_that_cosign_knows_are_read(n, monkeypatch):
    monkeypatch.setattr(cosign_keys, "_STANDARD", (n, 8, 1))
    text = sealed(b"junk")
    assert document(text)["kdf"]["params"]["N"] == n
    with pytest.raises(KeyMaterialError, match="no PKCS #8 private key"):
        read_cosign_key(text, lambda: b"pw")


@pytest.mark.parametrize("length", [0, 1, 15])
def test_a_ciphertext_that_is_too_short_to_be_one_is_a_wrong_password(length):
    members = document()
    members["ciphertext"] = base64.b64encode(bytes(length)).decode()
    with pytest.raises(KeyMaterialError, match="wrong password"):
        read_cosign_key(pem(members), lambda: PASSWORD)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "a file with a PEM block PRIVATE KEY is needed"),
        ((KEYS / "ci.pub").read_bytes(), "holds a public key"),
        (CI + CI, "holds 2 private keys"),
        (CI[:-40], "the PEM block has no end"),
        (CI.replace(b"eyJ", b"e*J", 1), "the PEM block has no end, or more than base64 in it"),
        (pem(b"[]"), "an object with kdf, cipher, ciphertext and nothing else is needed"),
        (pem(b'{"kdf": 1, "kdf": 2}'), "the same key twice"),
        (pem(b"["), "no JSON"),
        (b" " * 70_000, "larger than 65536 bytes"),
        (pem(b"x", "ENCRYPTED PRIVATE KEY"), "not in cosign's way; `cosign import-key-pair"),
        (pem(b"x", "PRIVATE KEY"), "an unencrypted private key, and cosign signs with encrypted ones; `cosign import"),
        (pem(b"x", "EC PRIVATE KEY"), "an unencrypted private key"),
    ],
)
def test_what_is_no_key_of_cosign_s_is_named(text, words):
    assert words in refusal(text)


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
)
def test_imported_keys_sign_as_they_are_verified_here(key):
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    read = read_cosign_key(sealed(secret), lambda: b"pw")
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert parse_public_key(public).verify(read.sign(b"m"), b"m")


def test_a_key_that_no_verifier_takes_is_refused():
    key = ec.generate_private_key(ec.SECP256K1())
    secret = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(KeyMaterialError, match="secp256k1"):
        read_cosign_key(sealed(secret), lambda: b"pw")


def test_the_private_file_is_its_owner_s_alone_under_any_umask(tmp_path):
    old = os.umask(0)
    try:
        write_pair(str(tmp_path / "ci"), KeyPair(b"secret", b"public"))
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "ci.key").stat().st_mode) == 0o600
    assert (tmp_path / "ci.key").read_bytes() == b"secret"
    assert (tmp_path / "ci.pub").read_bytes() == b"public"


@pytest.mark.parametrize("there", ["ci.key", "ci.pub"])
def test_a_file_that_is_there_stays_and_the_other_is_not_made(tmp_path, there):
    (tmp_path / there).write_bytes(b"old")
    with pytest.raises(KeyMaterialError, match="there already"):
        write_pair(str(tmp_path / "ci"), KeyPair(b"secret", b"public"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {there: b"old"}


def test_both_files_are_replaced_or_neither(tmp_path):
    write_pair(str(tmp_path / "ci"), KeyPair(b"old", b"old"))
    write_pair(str(tmp_path / "ci"), KeyPair(b"new", b"new"), overwrite=True)
    assert (tmp_path / "ci.key").read_bytes() == (tmp_path / "ci.pub").read_bytes() == b"new"
    (tmp_path / "ci.pub").unlink()
    (tmp_path / "ci.pub").mkdir()
    with pytest.raises(KeyMaterialError):
        write_pair(str(tmp_path / "ci"), KeyPair(b"newer", b"newer"), overwrite=True)
    assert (tmp_path / "ci.key").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "ci.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("room", range(4))
def test_a_disk_that_fills_up_takes_no_private_key_away(tmp_path, room, monkeypatch):
    """Whichever write is the first for which there is no room, and although there is none to undo anything either."""
    write_pair(str(tmp_path / "ci"), KeyPair(b"old", b"old"))
    write, left = os.pwrite, [room]

    def full(fd: int, data: bytes, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with suppress(KeyMaterialError):
        write_pair(str(tmp_path / "ci"), KeyPair(b"new", b"new"), overwrite=True)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    state = b"new" if room > 1 else b"old"
    assert found == {"ci.key": state, "ci.pub": state}


def test_a_link_where_the_private_key_would_be_written_is_not_followed(tmp_path):
    (tmp_path / "ci.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyMaterialError):
        write_pair(str(tmp_path / "ci"), KeyPair(b"secret", b"public"))
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "ci.pub").exists()


def test_a_file_that_is_no_key_by_its_size_is_not_replaced(tmp_path):
    (tmp_path / "ci.key").write_bytes(bytes(70_000))
    with pytest.raises(KeyMaterialError, match="which no key is"):
        write_pair(str(tmp_path / "ci"), KeyPair(b"secret", b"public"), overwrite=True)
    assert (tmp_path / "ci.key").stat().st_size == 70_000
