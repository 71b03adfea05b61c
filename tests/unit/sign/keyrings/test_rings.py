"""The user's ring: adding, merging, removing, and finding keys."""

from __future__ import annotations

import os
import resource
import stat

import pytest

from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.rings import Removed, RingChange, UserRing, only_match, user_ring_directory, user_ring_file
from eclctl.sign.keyrings.transferable import Protection, parse_keys
from eclctl.signature import openpgp
from tests.helpers.pgp import Key, armor, certificate, packet, user_id
from tests.helpers.support import CORPUS

PGP = CORPUS / "keys" / "pgp"
ALICE, BOB = Key(), Key()
SECRET = packet(5, ALICE.body + b"\0\0\x08\x01\0\x01") + user_id(ALICE)
REVOCATION = packet(2, ALICE.sign(0x20, ALICE.prefix))
REVOKED = certificate(ALICE, REVOCATION, user_id(ALICE))


@pytest.fixture
def ring(tmp_path):
    return UserRing(str(tmp_path / "keys"))


def fault(keyring, key=ALICE):
    found = keyring.status(key.fingerprint, key.fingerprint).fault
    return None if found is None else found.code


def secret_certificates(ring):
    return openpgp.Keyring.parse(*(key.public() for key in ring.secret_keys().values()))


def test_an_empty_ring_is_empty_and_is_not_made_by_looking(ring):
    assert ring.keys() == ring.secret_keys() == {}
    assert ring.certificates().certificates == ()
    assert not os.path.exists(ring.directory)


def test_adding_says_what_was_new_updated_and_unchanged(ring):
    assert ring.add(certificate(ALICE)).changes == (RingChange(ALICE.fingerprint, "new"),)
    assert ring.add(certificate(ALICE)).changes == (RingChange(ALICE.fingerprint, "unchanged"),)
    assert ring.add(SECRET).changes == (RingChange(ALICE.fingerprint, "unchanged", "new"),)
    assert ring.add(SECRET).changes == (RingChange(ALICE.fingerprint, "unchanged", "unchanged"),)
    assert ring.add(REVOKED + certificate(BOB)).changes[1] == RingChange(BOB.fingerprint, "new")


def test_adding_what_is_there_writes_nothing(ring):
    ring.add(SECRET)
    before = [os.stat(path).st_ino for path in (ring.public_path, ring.secret_path)]
    ring.add(SECRET)
    assert [os.stat(path).st_ino for path in (ring.public_path, ring.secret_path)] == before


def test_the_files_are_the_users_alone(ring):
    ring.add(SECRET)
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (ring.directory, ring.public_path, ring.secret_path)]
    assert modes == [0o700, 0o600, 0o600]


def test_a_revocation_never_disappears(ring):
    ring.add(REVOKED)
    ring.add(certificate(ALICE))
    ring.add(SECRET)
    assert fault(ring.certificates()) == "key-revoked"
    assert fault(secret_certificates(ring)) == "key-revoked"
    ring.remove(ALICE.fingerprint)
    ring.add(certificate(ALICE))
    assert fault(openpgp.Keyring.parse(ring.secret_keys()[ALICE.fingerprint].whole())) == "key-revoked"


def test_a_revocation_that_another_program_wrote_outlives_the_certificate(ring):
    """SingularityCE writes its public file and knows nothing of what the secret one should hold."""
    ring.add(SECRET)
    with open(ring.public_path, "wb") as file:
        file.write(REVOKED)
    ring.remove(ALICE.fingerprint)
    assert fault(secret_certificates(ring)) == "key-revoked"


def test_a_revocation_alone_revokes_a_key_of_the_ring(ring):
    ring.add(SECRET)
    added = ring.add(armor("PUBLIC KEY BLOCK", REVOCATION))
    assert added.changes == (RingChange(ALICE.fingerprint, "updated"),)
    assert fault(secret_certificates(ring)) == "key-revoked"


def test_a_revocation_of_a_stranger_is_counted_and_changes_nothing(ring):
    ring.add(certificate(BOB))
    assert ring.add(REVOCATION).strangers == 1
    assert fault(ring.certificates(), BOB) is None


def test_public_only_leaves_secret_parts_out(ring):
    assert ring.add(SECRET, public_only=True).changes == (RingChange(ALICE.fingerprint, "new"),)
    assert ring.secret_keys() == {}


def test_removing_takes_what_was_asked_for(ring):
    ring.add(SECRET + certificate(BOB))
    assert ring.remove(ALICE.fingerprint) == Removed(public=True, secret=False)
    assert list(ring.keys()) == [BOB.fingerprint]
    assert list(ring.secret_keys()) == [ALICE.fingerprint]
    assert ring.remove(ALICE.fingerprint, public=True, secret=True) == Removed(public=False, secret=True)
    assert ring.secret_keys() == {}
    assert ring.remove(ALICE.fingerprint) == Removed(public=False, secret=False)


def test_the_corpus_goes_in_and_is_judged_as_before(ring):
    blob = (PGP / "site-ring.asc").read_bytes()
    ring.add(blob)
    assert ring.certificates().digest == openpgp.Keyring.parse(blob).digest


def test_a_ring_in_the_place_of_singularitys_keeps_what_only_singularity_knows(ring):
    old = packet(6, b"\x03" + bytes(20)) + packet(13, b"Old")
    os.mkdir(ring.directory, 0o700)
    with open(ring.public_path, "wb") as file:
        file.write(certificate(BOB) + old)
    os.chmod(ring.public_path, 0o600)
    ring.add(certificate(ALICE))
    with open(ring.public_path, "rb") as file:
        assert len(parse_keys(file.read()).unreadable) == 1
    assert list(ring.keys()) == [BOB.fingerprint, ALICE.fingerprint]


def test_a_damaged_ring_is_named_and_not_written(ring):
    os.mkdir(ring.directory, 0o700)
    with open(ring.public_path, "wb") as file:
        file.write(certificate(BOB)[:-5])
    os.chmod(ring.public_path, 0o600)
    with pytest.raises(KeyMaterialError, match="pgp-public: the keys are damaged"):
        ring.add(certificate(ALICE))
    assert os.path.getsize(ring.public_path) == len(certificate(BOB)) - 5


def test_a_secret_key_comes_out_as_it_went_in(ring):
    ring.add(SECRET)
    found = parse_keys(ring.secret_keys()[ALICE.fingerprint].whole()).keys[ALICE.fingerprint]
    assert found.protections == {ALICE.fingerprint: Protection.NONE}
    assert parse_keys(ring.keys()[ALICE.fingerprint].public()).keys[ALICE.fingerprint].protections == {}


def test_what_revokes_a_new_key_is_kept_beside_the_ring(ring):
    path = ring.add_pair(ALICE.fingerprint, SECRET, b"revoke")
    assert (os.path.basename(path), stat.S_IMODE(os.stat(path).st_mode)) == (f"{ALICE.fingerprint}.rev", 0o600)
    assert list(ring.secret_keys()) == list(ring.keys()) == [ALICE.fingerprint]


def sizes(ring):
    return {name: os.path.getsize(os.path.join(ring.directory, name)) for name in os.listdir(ring.directory)}


@pytest.mark.parametrize("too_long", ["revocation", "certificates"])
def test_a_full_disk_leaves_nothing_of_a_new_pair(ring, too_long):
    """Else a user who is told that it failed makes a second one, and has two."""
    ring.add(certificate(BOB) + packet(13, bytes(5000)))
    before = sizes(ring)
    limit = 1000 if too_long == "certificates" else 8000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(KeyMaterialError, match="too large"):
            ring.add_pair(ALICE.fingerprint, SECRET, bytes(9000 if too_long == "revocation" else 10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sizes(ring) == before


@pytest.mark.parametrize(
    "name",
    [
        ALICE.fingerprint,
        ALICE.fingerprint.lower(),
        "0x" + ALICE.fingerprint,
        " ".join(ALICE.fingerprint[at : at + 4] for at in range(0, 40, 4)),
        ALICE.key_id.hex(),
        "0x" + ALICE.key_id.hex()[-8:],
        "alice@example.org",
        "ALICE@EXAMPLE.ORG",
        "Alice <alice@example.org>",
    ],
    ids=["fingerprint", "lower", "0x", "spaced", "key ID", "short", "address", "upper", "user ID"],
)
def test_a_key_goes_by_fingerprint_key_id_address_and_user_id(ring, name):
    ring.add(certificate(ALICE) + certificate(BOB, user_id(BOB, b"Bob <bob@example.org>")))
    assert only_match(ring.keys().values(), name, "ring").fingerprint == ALICE.fingerprint


@pytest.mark.parametrize("name", ["alice", "example.org", "@", "", "*", "<", "0x", "ABCDEF", "lice@example.org"])
def test_a_part_of_a_name_is_no_name(ring, name):
    ring.add(certificate(ALICE))
    with pytest.raises(KeyMaterialError, match="has no key"):
        only_match(ring.keys().values(), name, "ring")


def test_a_name_that_several_keys_have_is_refused_with_their_fingerprints(ring):
    ring.add(certificate(ALICE) + certificate(BOB))
    with pytest.raises(KeyMaterialError) as caught:
        only_match(ring.keys().values(), "alice@example.org", "ring")
    assert ALICE.fingerprint in str(caught.value)
    assert BOB.fingerprint in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/home/joe"}, "/home/joe/.local/share/eclctl/keys"),
        ({"HOME": "/home/joe", "XDG_DATA_HOME": "/data"}, "/data/eclctl/keys"),
        ({"HOME": "/home/joe", "XDG_DATA_HOME": "data"}, "/home/joe/.local/share/eclctl/keys"),
        ({"HOME": "/home/joe", "XDG_DATA_HOME": "/data", "ECLCTL_KEYS": "/keys"}, "/keys"),
    ],
)
def test_where_a_users_ring_is(environ, expected):
    assert user_ring_directory(environ) == expected


def test_the_file_for_verify_is_there_once_it_holds_something(ring):
    environ = {"ECLCTL_KEYS": ring.directory}
    assert user_ring_file(environ) is None
    ring.add(SECRET)
    assert user_ring_file(environ) == ring.public_path
    ring.remove(ALICE.fingerprint)
    assert user_ring_file(environ) is None
