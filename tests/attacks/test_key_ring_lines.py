"""Attacks on key rings: each test is named after its line of the attack list."""

from __future__ import annotations

import json
import os
import stat
import tracemalloc

import pytest

from eclctl.cli.keys import command as keys
from eclctl.cli.policy import command as policy
from eclctl.errors import KeyMaterialError
from eclctl.sign.keyrings.rings import MAX_RING, UserRing
from eclctl.sign.keyrings.site_rings import SiteRing
from eclctl.sign.keyrings.transferable import parse_keys
from eclctl.signature import openpgp
from tests.helpers.pgp import Key, armor, certificate, packet, user_id, user_id_content

ALICE, MALLORY = Key(), Key()
SECRET = packet(5, ALICE.body + b"\0\0\x08\x01\0\x01") + user_id(ALICE)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to others")


@pytest.fixture
def ring(tmp_path, monkeypatch):
    monkeypatch.setenv("ECLCTL_KEYS", str(tmp_path / "keys"))
    return UserRing(str(tmp_path / "keys"))


@pytest.mark.parametrize(
    "name",
    [
        b"\x1b]0;title\x07\x1b[2JAlice",
        b"Alice\r\n1)  User: Bob",
        b"Alice \xe2\x80\xaemoc.elpmaxe@ecila",
        b"Alice\xff\xfe",
        b"A" * 5000,
        b"",
    ],
)
@pytest.mark.parametrize("command", [["list"], ["list", "--json"], ["import"], ["import", "--json"], ["remove"]])
def test_hostile_user_ids_reach_no_terminal(ring, capsys, tmp_path, name, command):
    blob = certificate(MALLORY, user_id(MALLORY, name))
    ring.add(blob)
    (tmp_path / "file").write_bytes(blob)
    what = {"import": [str(tmp_path / "file")], "remove": [MALLORY.fingerprint]}.get(command[0], [])
    assert keys.run([*command, *what]) == 0
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "\n1)" not in text
    if "--json" in command:
        json.loads(shown.out)


def test_hostile_user_ids_take_no_name_from_another_key(ring, capsys):
    ring.add(certificate(ALICE))
    ring.add(certificate(MALLORY, packet(13, b"x <alice@example.org>"), user_id(MALLORY, b"Mallory")))
    assert keys.run(["export", "--armor", "alice@example.org"]) == 1
    assert ALICE.fingerprint in capsys.readouterr().err
    assert keys.run(["export", "--armor", ALICE.fingerprint]) == 0


def test_huge_files_are_refused_before_they_are_read_whole(ring, tmp_path, capsys):
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 42)
    tracemalloc.start()
    try:
        assert keys.run(["import", str(tmp_path / "huge")]) == 1
        assert tracemalloc.get_traced_memory()[1] < 3 * MAX_RING
    finally:
        tracemalloc.stop()
    assert "larger than" in capsys.readouterr().err
    assert keys.run(["import", "/dev/zero"]) == 1
    assert not os.path.exists(ring.directory)


def test_huge_certificates_of_strangers_signatures_can_be_cleaned(ring):
    """Every user can put any number of certifications on a key: a key from a keyserver is taken without them."""
    content = user_id_content(ALICE, b"Alice <alice@example.org>")
    one = MALLORY.sign(0x10, content)
    flood = b"".join(packet(2, one[:-4] + count.to_bytes(4)) for count in range(5000))
    ring.add(certificate(ALICE, user_id(ALICE) + flood), self_only=True)
    assert os.path.getsize(ring.public_path) < 1000


def test_huge_numbers_of_keys_take_no_more_than_their_size(ring):
    """A packet of two octets each, ten thousand times: work stays in step with the file."""
    blob = certificate(ALICE) + packet(6, b"\x03") * 10_000 + packet(14, b"\x04") * 10_000
    ring.add(blob)
    assert len(parse_keys(blob).unreadable) == 10_000
    assert list(ring.keys()) == [ALICE.fingerprint]


def test_secret_files_with_wrong_modes_are_mended_and_told(ring, capsys):
    ring.add(SECRET)
    os.chmod(ring.directory, 0o755)
    os.chmod(ring.secret_path, 0o664)
    assert keys.run(["list", "--secret"]) == 0
    err = capsys.readouterr().err
    assert "was open to others (mode 0755)" in err
    assert "pgp-secret was open to others (mode 0664)" in err
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (ring.directory, ring.secret_path)] == [0o700, 0o600]


@needs_root
@pytest.mark.parametrize("link", [True, False])
def test_ring_directory_of_another_is_refused_linked_or_not(tmp_path, monkeypatch, capsys, link):
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    (theirs / "pgp-public").write_bytes(certificate(MALLORY))
    os.chown(theirs, 12345, 12345)
    os.chown(theirs / "pgp-public", 12345, 12345)
    (tmp_path / "keys").symlink_to("theirs") if link else os.rename(theirs, tmp_path / "keys")
    monkeypatch.setenv("ECLCTL_KEYS", str(tmp_path / "keys"))
    (tmp_path / "file").write_bytes(SECRET)
    for command in (
        ["list"],
        ["list", "--secret"],
        ["import", str(tmp_path / "file")],
        ["export", MALLORY.fingerprint],
    ):
        assert keys.run(command) == 1
        assert "belongs to the user with number 12345, not to you" in capsys.readouterr().err


@needs_root
def test_ring_file_of_another_is_refused(ring):
    ring.add(SECRET)
    os.chown(ring.secret_path, 12345, 12345)
    with pytest.raises(KeyMaterialError, match="12345, not to you"):
        ring.secret_keys()[ALICE.fingerprint].whole()


def test_ring_file_that_is_a_link_is_refused_and_never_written_through(ring, tmp_path):
    ring.add(SECRET)
    os.rename(ring.secret_path, tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", ring.secret_path)
    with pytest.raises(KeyMaterialError):
        ring.add(certificate(MALLORY))
    assert list(parse_keys((tmp_path / "elsewhere").read_bytes()).keys) == [ALICE.fingerprint]


def test_ring_revocation_cannot_be_undone_by_an_older_copy(ring, tmp_path):
    """Not by importing, not by removing the certificate first, not by a copy of the secret key."""
    revoked = certificate(ALICE, packet(2, ALICE.sign(0x20, ALICE.prefix)), user_id(ALICE))
    ring.add(SECRET)
    ring.add(revoked)
    ring.remove(ALICE.fingerprint)
    for older in (certificate(ALICE), SECRET, armor("PRIVATE KEY BLOCK", SECRET)):
        ring.add(older)
        found = openpgp.Keyring.parse(ring.secret_keys()[ALICE.fingerprint].whole())
        assert found.status(ALICE.fingerprint, ALICE.fingerprint).fault.code == "key-revoked"
    site = SiteRing([str(tmp_path / "keys.d")])
    site.add(revoked)
    site.add(certificate(ALICE))
    status = site.certificates().status(ALICE.fingerprint, ALICE.fingerprint)
    assert status.fault.code == "key-revoked"


def test_ring_secret_key_is_not_replaced_by_what_another_sends(ring):
    ring.add(SECRET)
    ring.add(packet(5, ALICE.body + b"\0\0\x08\xff\0\xff") + user_id(ALICE))
    assert b"\0\0\x08\x01\0\x01" in ring.secret_keys()[ALICE.fingerprint].whole()
    assert b"\0\0\x08\xff\0\xff" not in ring.secret_keys()[ALICE.fingerprint].whole()


def test_ring_never_gives_secret_parts_away_with_a_certificate(ring, tmp_path, capsys):
    ring.add(SECRET)
    SiteRing([str(tmp_path / "keys.d")]).add(ring.secret_keys()[ALICE.fingerprint].whole())
    assert keys.run(["export", "-o", str(tmp_path / "out"), ALICE.fingerprint]) == 0
    for path in (tmp_path / "out", tmp_path / "keys.d" / f"{ALICE.fingerprint}.asc", ring.public_path):
        with open(path, "rb") as file:
            assert not any(key.has_secret for key in parse_keys(file.read()).keys.values())


def test_ring_of_a_user_decides_nothing(ring, tmp_path, monkeypatch, capsys):
    """What is in it makes no policy load: the keys of the policies are the site's."""
    monkeypatch.chdir(tmp_path)
    rules = "rules: [{name: all, match: {kinds: [sif]}, require: [{any_of: [alice]}]}]\ndefault: deny\n"
    (tmp_path / "policy.yaml").write_text(f"version: 1\nsigners: {{alice: {{pgp: [{ALICE.fingerprint}]}}}}\n{rules}")
    (tmp_path / "ring.asc").write_bytes(armor("PUBLIC KEY BLOCK", certificate(ALICE)))
    (tmp_path / "other.asc").write_bytes(armor("PUBLIC KEY BLOCK", certificate(MALLORY)))
    ring.add(certificate(ALICE))
    assert policy.run(["check", "--keyring", "ring.asc", "policy.yaml"]) == 0
    assert policy.run(["check", "--keyring", "other.asc", "policy.yaml"]) == 1
    assert ALICE.fingerprint in capsys.readouterr().err


def test_ring_lock_of_the_site_cannot_be_held_by_its_readers(tmp_path):
    SiteRing([str(tmp_path / "keys.d")]).add(certificate(ALICE))
    assert stat.S_IMODE(os.stat(tmp_path / "keys.d" / ".lock").st_mode) == 0o600


def test_huge_files_of_copies_of_one_key_hold_what_all_copies_say():
    """Each copy costs what itself holds: with what those before it hold, a file of 10 MB would take many minutes."""
    primary = packet(6, ALICE.body)
    copies = b"".join(primary + packet(13, b"%d" % number) for number in range(50_000))
    (key,) = parse_keys(copies + SECRET).keys.values()
    assert len(key.user_ids) == 50_001
    assert set(key.protections) == {ALICE.fingerprint}


def test_huge_files_of_revocations_are_refused():
    with pytest.raises(KeyMaterialError, match="more than 1000 signatures without a key"):
        parse_keys(b"".join(packet(2, b"%d" % number) for number in range(1001)))
