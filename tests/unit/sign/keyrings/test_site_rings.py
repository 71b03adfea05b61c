"""The site's ring: files and directories that the daemon reads too."""

from __future__ import annotations

import os
import stat

import pytest

from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.rings import Removed, RingChange
from eclctl.sign.keyrings.site_rings import SiteRing, without_key
from eclctl.sign.keyrings.transferable import parse_keys
from eclctl.trust.keyring import load_keyring
from tests.helpers.pgp import Key, armor, certificate, packet, user_id

ALICE, BOB, CAROL = Key(), Key(), Key()
SECRET = packet(5, ALICE.body + b"\0\0\x08\x01\0\x01") + user_id(ALICE)
REVOKED = certificate(ALICE, packet(2, ALICE.sign(0x20, ALICE.prefix)), user_id(ALICE))


def block(*keys):
    return armor("PUBLIC KEY BLOCK", b"".join(certificate(key) for key in keys))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "keys.d"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def ring(folder):
    return SiteRing([str(folder)])


def daemons(ring):
    """The fingerprints that the daemon would load."""
    return {each.fingerprint for each in load_keyring(ring.paths).certificates}


def test_each_certificate_has_a_file_of_its_own_that_all_can_read(ring, folder):
    assert ring.add(certificate(ALICE) + certificate(BOB)).changes == (
        RingChange(ALICE.fingerprint, "new"),
        RingChange(BOB.fingerprint, "new"),
    )
    files = [name for name in os.listdir(folder) if not name.startswith(".")]
    assert sorted(files) == sorted([f"{ALICE.fingerprint}.asc", f"{BOB.fingerprint}.asc"])
    assert {stat.S_IMODE(os.stat(folder / name).st_mode) for name in files} == {0o644}
    assert daemons(ring) == {ALICE.fingerprint, BOB.fingerprint}


def test_a_secret_key_leaves_nothing_secret_there(ring, folder):
    ring.add(SECRET)
    assert load_keyring([folder]).secret == ()
    assert ring.keys()[ALICE.fingerprint].has_secret is False


def test_what_is_in_another_file_is_unchanged_and_written_again_only_when_updated(ring, folder):
    (folder / "site-ring.asc").write_bytes(b"The site's keys\n" + block(ALICE, BOB))
    assert ring.add(certificate(ALICE)).changes == (RingChange(ALICE.fingerprint, "unchanged"),)
    assert not (folder / f"{ALICE.fingerprint}.asc").exists()
    assert ring.add(REVOKED).changes == (RingChange(ALICE.fingerprint, "updated"),)
    status = load_keyring([folder]).status(ALICE.fingerprint, ALICE.fingerprint)
    assert status.fault.code == "key-revoked"


def test_removing_takes_a_key_out_of_every_file_and_leaves_the_rest(ring, folder):
    text = b"first\n" + block(ALICE) + b"between\n" + block(ALICE, BOB) + b"last\n" + block(CAROL)
    (folder / "many.asc").write_bytes(text)
    (folder / "binary.pgp").write_bytes(certificate(BOB) + certificate(ALICE))
    (folder / "alone.asc").write_bytes(block(ALICE))
    assert ring.remove(ALICE.fingerprint) == Removed(public=True, secret=False)
    left = (folder / "many.asc").read_bytes()
    assert left.startswith(b"first\nbetween\n")
    assert left.endswith(b"last\n" + block(CAROL))
    assert list(parse_keys((folder / "binary.pgp").read_bytes()).keys) == [BOB.fingerprint]
    assert not (folder / "alone.asc").exists()
    assert daemons(ring) == {BOB.fingerprint, CAROL.fingerprint}
    assert ring.remove(ALICE.fingerprint) == Removed(public=False, secret=False)


def test_a_file_named_by_the_configuration_is_read_and_shortened(tmp_path):
    path = tmp_path / "ring.asc"
    path.write_bytes(block(ALICE, BOB))
    (tmp_path / "other.asc").write_bytes(block(ALICE))
    ring = SiteRing([str(path)])
    assert list(ring.keys()) == [ALICE.fingerprint, BOB.fingerprint]
    ring.remove(ALICE.fingerprint)
    assert list(ring.keys()) == [BOB.fingerprint]
    assert (tmp_path / "other.asc").read_bytes() == block(ALICE)
    with pytest.raises(KeyMaterialError, match="name a directory"):
        ring.add(certificate(CAROL))


def test_links_are_followed_as_the_daemon_follows_them(ring, folder, tmp_path):
    (tmp_path / "managed.asc").write_bytes(block(ALICE))
    (folder / "link.asc").symlink_to(tmp_path / "managed.asc")
    (folder / "folder").mkdir()
    (folder / ".hidden").write_bytes(b"no key")
    assert list(ring.keys()) == [ALICE.fingerprint]
    ring.remove(ALICE.fingerprint)
    assert (tmp_path / "managed.asc").read_bytes() == block(ALICE)
    assert list(ring.keys()) == []


def test_a_damaged_file_is_named(ring, folder):
    (folder / "bad.asc").write_bytes(b"no key")
    with pytest.raises(KeyMaterialError, match=r"bad\.asc: no OpenPGP key found"):
        ring.keys()


def test_the_directory_is_made_where_there_is_none(tmp_path):
    ring = SiteRing([str(tmp_path / "etc" / "keys.d")])
    assert ring.keys() == {}
    ring.add(certificate(ALICE))
    assert list(ring.keys()) == [ALICE.fingerprint]
    assert stat.S_IMODE(os.stat(tmp_path / "etc" / "keys.d").st_mode) == 0o755
    assert len(ring.certificates().certificates) == 1


def test_nothing_is_left_of_a_file_without_keys():
    assert without_key(certificate(ALICE), ALICE.fingerprint) is None
    assert without_key(b"# mine\n" + block(ALICE), ALICE.fingerprint) is None
    assert without_key(block(ALICE).replace(b"\n", b"\r\n") + block(BOB), ALICE.fingerprint) == block(BOB)
