"""`eclctl keys`: list, import, export and remove, on rings of files."""

from __future__ import annotations

import io
import json
import os
import stat
import sys

import pytest

from eclctl.cli.inputs import keyrings, keyservers
from eclctl.cli.keys import command as keys
from eclctl.cli.verify import command as verify
from eclctl.sign.keyrings.rings import UserRing
from eclctl.sign.keyrings.transferable import parse_keys
from tests.helpers.pgp import Key, armor, certificate, packet
from tests.helpers.support import CORPUS

PGP = CORPUS / "keys" / "pgp"
BUILDER = "81F111F6190C46143937EF7C22BC3A3BC942487F"
SCANNER = "F69053E5830DBDBA72B3D8F61BDDA97D14902F26"
ALICE = Key()


@pytest.fixture(autouse=True)
def ring(tmp_path, monkeypatch):
    """The user's ring, empty."""
    monkeypatch.setenv("ECLCTL_KEYS", str(tmp_path / "keys"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    return UserRing(str(tmp_path / "keys"))


@pytest.fixture
def run(capsys):
    """Run a command; return its exit status, output and error output."""

    def run(*arguments):
        try:
            status = keys.run([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_a_listing_is_the_references_with_end_and_problem_added(run, ring):
    run("import", PGP / "builder.asc", PGP / "expired.asc")
    status, out, err = run("list")
    assert (status, err) == (0, "")
    assert (
        out
        == f"""Public key listing ({ring.public_path}):

0)  User:              Builder (corpus 101) <builder@site101.example>
    Creation time:     2025-12-01 00:00:00 +0000 UTC
    Fingerprint:       {BUILDER}
    Length (in bits):  4096
    Expires:           never

1)  User:              Expired (corpus 101) <expired@site101.example>
    Creation time:     2020-06-01 00:00:00 +0000 UTC
    Fingerprint:       5802C950CB0D8BE07A134CAFA3709DE698D7BD64
    Length (in bits):  2048
    Expires:           2021-06-01 00:00:00 +0000 UTC
    Problem:           it has expired

"""
    )


def test_secret_keys_are_listed_with_their_protection(run, ring):
    run("import", PGP / "scanner-secret.asc")
    status, out, _ = run("list", "--secret")
    assert status == 0
    assert f"Private key listing ({ring.secret_path}):" in out
    assert "Protected:         NO passphrase: all who can read the file can sign" in out
    assert "Protected" not in run("list")[1]


def test_json_has_the_documented_shape(run, ring):
    run("import", PGP / "scanner-secret.asc")
    status, out, _ = run("list", "--secret", "--json")
    assert status == 0
    name = "Scanner (corpus 101) <scanner@site101.example>"
    assert json.loads(out) == {
        "v": 1,
        "ring": ring.secret_path,
        "secret": True,
        "keys": [
            {
                "fingerprint": SCANNER,
                "user": name,
                "users": [name],
                "created": "2025-12-01T00:00:00+00:00",
                "expires": None,
                "algorithm": "Ed25519",
                "bits": 256,
                "signs_with": [SCANNER],
                "problem": None,
                "protection": "none",
            }
        ],
    }


def test_an_empty_ring_is_listed_empty(run):
    assert run("list")[0] == run("list", "--secret")[0] == 0
    assert json.loads(run("list", "--json")[1])["keys"] == []


def test_single_keys_are_listed_by_name(run):
    run("import", PGP / "site-ring.asc")
    status, out, _ = run("list", "--json", "scanner@site101.example", BUILDER)
    assert [key["fingerprint"] for key in json.loads(out)["keys"]] == [SCANNER, BUILDER]
    status, _, err = run("list", "nobody")
    assert (status, "there is no key 'nobody'" in err) == (1, True)


def test_an_import_says_what_became_of_each_key(run, ring):
    status, out, err = run("import", PGP / "builder.asc")
    assert (status, err) == (0, "")
    assert out == f"new{'':<20}{BUILDER}\n{'':<23}Builder (corpus 101) <builder@site101.example>\n"
    _, out, err = run("import", PGP / "builder-secret.asc")
    assert out.startswith(f"unchanged, secret new  {BUILDER}\n")
    assert "has no passphrase" in err
    assert run("import", PGP / "builder-secret.asc")[1].startswith("unchanged, secret unchanged")


def test_a_revocation_revokes_and_stays(run):
    run("import", PGP / "revoked-before.asc")
    assert "Problem" not in run("list")[1]
    status, out, err = run("import", PGP / "revoked.asc")
    assert (status, out.startswith("updated")) == (0, True)
    assert "counts for nothing: it is revoked" in err
    run("import", PGP / "revoked-before.asc")
    assert "Problem:           it is revoked" in run("list")[1]


def test_an_import_in_json_has_each_file(run, tmp_path):
    (tmp_path / "bad").write_bytes(b"no key")
    status, out, err = run("import", "--json", PGP / "builder.asc", tmp_path / "bad")
    good, bad = json.loads(out)["files"]
    assert status == 1
    assert [(key["fingerprint"], key["public"], key["secret"]) for key in good["keys"]] == [(BUILDER, "new", None)]
    assert (good["error"], bad["keys"]) == (None, [])
    assert bad["error"] == {"code": "key-material", "message": "no OpenPGP key found"}
    assert err == f"eclctl keys import: {tmp_path / 'bad'}: no OpenPGP key found\n"


def test_a_file_that_is_missing_is_named_once(run, tmp_path):
    status, _, err = run("import", tmp_path / "none")
    assert (status, err) == (
        1,
        f"eclctl keys import: {tmp_path / 'none'}: cannot be opened: No such file or directory\n",
    )


def test_standard_input_is_a_file_too(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((PGP / "builder.asc").read_bytes())))
    status, out, _ = run("import", "-")
    assert (status, out.startswith("new")) == (0, True)


def test_what_is_passed_over_is_counted(run, tmp_path):
    odd = packet(6, b"\x03" + bytes(20)) + packet(13, b"Old") + certificate(ALICE)
    (tmp_path / "odd").write_bytes(odd)
    (tmp_path / "loose").write_bytes(armor("PUBLIC KEY BLOCK", packet(2, Key().sign(0x20, ALICE.prefix))))
    assert "1 keys of a version or kind not known here were passed over" in run("import", tmp_path / "odd")[2]
    assert "1 revocations were passed over" in run("import", tmp_path / "loose")[2]


def test_an_export_can_be_imported_and_is_armored_when_asked(run, tmp_path):
    run("import", PGP / "builder-secret.asc")
    for armored in ([], ["--armor"]):
        for secret in ([], ["--secret"]):
            path = tmp_path / f"out{len(armored)}{len(secret)}"
            status, out, err = run("export", *armored, *secret, "-o", path, "builder@site101.example")
            assert status == 0
            assert str(path) in out
            (found,) = parse_keys(path.read_bytes()).keys.values()
            assert (found.fingerprint, found.has_secret) == (BUILDER, bool(secret))
            assert path.read_bytes().startswith(b"-----BEGIN PGP P") == bool(armored)
            assert stat.S_IMODE(path.stat().st_mode) == (0o600 if secret else 0o644)
            assert ("without a passphrase" in err) == bool(secret)


def test_an_export_in_json_says_what_is_in_which_file(run, ring, tmp_path):
    run("import", PGP / "builder-secret.asc")
    status, out, _ = run("export", "--json", "--secret", "-o", tmp_path / "out", BUILDER)
    shape = json.loads(out)
    (key,) = shape.pop("keys")
    assert (status, shape) == (0, {"v": 1, "ring": ring.secret_path, "secret": True, "file": str(tmp_path / "out")})
    assert (key["fingerprint"], key["protection"]) == (BUILDER, "none")


@pytest.mark.parametrize("option", ["--json", "--force"])
def test_what_is_about_an_exports_file_needs_one(run, option):
    run("import", PGP / "builder.asc")
    status, out, err = run("export", option, BUILDER)
    assert (status, out) == (2, "")
    assert err.startswith(f"eclctl keys export: {option} goes with -o FILE; ")


def test_an_export_goes_to_standard_output(ring, capfdbinary):
    ring.add((PGP / "builder.asc").read_bytes())
    assert keys.run(["export", BUILDER]) == 0
    assert parse_keys(capfdbinary.readouterr().out).keys.keys() == {BUILDER}


def test_an_export_of_one_of_several_is_refused_and_writes_nothing(run, ring, tmp_path):
    ring.add(certificate(ALICE) + certificate(Key()))
    status, _, err = run("export", "-o", tmp_path / "out", "alice@example.org")
    assert (status, "may be any of several keys" in err) == (1, True)
    assert not (tmp_path / "out").exists()


def test_an_export_replaces_a_file_only_by_force(run, tmp_path):
    run("import", PGP / "builder.asc")
    (tmp_path / "out").write_bytes(b"mine")
    status, _, err = run("export", "-o", tmp_path / "out", BUILDER)
    assert (status, "--force" in err, (tmp_path / "out").read_bytes()) == (1, True, b"mine")
    assert run("export", "-F", "-o", tmp_path / "out", BUILDER)[0] == 0
    assert parse_keys((tmp_path / "out").read_bytes()).keys.keys() == {BUILDER}


def test_a_public_key_is_not_exported_as_secret(run):
    run("import", PGP / "builder.asc")
    status, _, err = run("export", "--secret", BUILDER)
    assert (status, "pgp-secret has no key" in err) == (1, True)


def test_removing_takes_the_certificate_and_leaves_the_secret_key(run, ring):
    run("import", PGP / "builder-secret.asc")
    status, out, err = run("remove", BUILDER.lower())
    assert (status, out) == (0, f"Removed the certificate {BUILDER}\n")
    assert "The secret key is still there" in err
    assert list(ring.secret_keys()) == [BUILDER]


def test_a_secret_key_is_not_removed_unasked(run, ring):
    run("import", PGP / "builder-secret.asc")
    for which in ("--secret", "--both"):
        status, _, err = run("remove", which, BUILDER)
        assert (status, "add --yes" in err) == (1, True)
    assert list(ring.secret_keys()) == list(ring.keys()) == [BUILDER]
    assert run("remove", "--both", "--yes", "0x" + BUILDER)[1] == f"Removed the certificate and secret key {BUILDER}\n"
    assert ring.secret_keys() == ring.keys() == {}


def test_less_than_a_fingerprint_removes_nothing(run, ring):
    run("import", PGP / "builder.asc")
    for name in (BUILDER[-16:], BUILDER[-8:], "builder@site101.example"):
        status, _, err = run("remove", name)
        assert (status, f"did you mean {BUILDER}?" in err) == (1, True)
    assert list(ring.keys()) == [BUILDER]


def test_removing_what_is_not_there_says_so(run):
    status, out, err = run("remove", "--json", BUILDER)
    assert (status, json.loads(out)["error"]["code"]) == (1, "key-material")
    assert f"no key {BUILDER}" in err


def test_the_sites_ring_is_another(run, tmp_path, ring):
    site = tmp_path / "keys.d"
    status, out, err = run("import", "--site", "--keyring-dir", site, PGP / "builder-secret.asc")
    assert (status, out.startswith("new ")) == (0, True)
    assert "holds private keys" in err
    assert os.listdir(site) == [".lock", f"{BUILDER}.asc"] or sorted(os.listdir(site)) == [".lock", f"{BUILDER}.asc"]
    assert BUILDER in run("list", "--site", "--keyring-dir", site)[1]
    assert ring.keys() == {}
    for refused in (["list", "--secret"], ["export", "--secret", BUILDER], ["remove", "--secret", BUILDER]):
        status, _, err = run(*refused, "--site", "--keyring-dir", site)
        assert (status, "has no secret keys" in err) == (1, True)
    status, _, err = run("remove", "--site", "--keyring-dir", site, BUILDER)
    assert (status, "eclctl reload" in err) == (0, True)
    assert BUILDER not in run("list", "--site", "--keyring-dir", site)[1]


def test_what_changes_in_the_sites_ring_is_said_to_need_a_reload(run, tmp_path):
    site = ("--site", "--keyring-dir", tmp_path / "keys.d")
    hint = "A daemon knows of it from its next reload: eclctl reload\n"
    assert run("import", PGP / "builder.asc", *site)[2] == hint
    assert run("import", PGP / "builder.asc", *site)[2] == ""
    assert run("remove", BUILDER, *site)[2] == hint


@pytest.mark.parametrize("command", ["list", "newpair", "import x"])
def test_an_empty_name_is_no_ring(run, command):
    """A script whose variable is not set would otherwise work on the ring of the user who runs it."""
    status, _, err = run(*command.split(), "--keyring-dir", "")
    assert (status, "an empty name is no directory" in err) == (2, True)


def test_the_sites_ring_is_nobodys_own(run, tmp_path, monkeypatch):
    """Into one's own ring a key comes by a key ID as well."""
    site = tmp_path / "keys.d"
    site.mkdir()
    monkeypatch.setattr(keyrings, "SYSTEM_KEYS", str(site))
    for command in (["import", str(PGP / "builder.asc")], ["list"], ["newpair", "--no-passphrase", "--name", "Joe"]):
        status, _, err = run(*command, "--keyring-dir", site)
        assert (status, "is the site's ring: say --site" in err) == (1, True)
    assert list(site.iterdir()) == []


def test_the_sites_ring_is_the_one_that_its_configuration_names(run, tmp_path):
    config = tmp_path / "config.yaml"
    sockets = "version: 1\nsockets: {check: /x/c, admin: /x/a}\n"
    config.write_text(f"{sockets}state_dir: /x\npolicies: [p]\nkeyrings: [{tmp_path}/ring]\n")
    assert run("import", "--site", "--config", config, PGP / "builder.asc")[0] == 0
    assert (tmp_path / "ring" / f"{BUILDER}.asc").exists()
    config.write_text("version: 2\n")
    status, _, err = run("list", "--site", "--config", config)
    assert (status, str(config) in err) == (1, True)
    assert "add --site" in run("list", "--config", config)[2]


def test_verify_looks_into_the_users_ring_when_nothing_is_named(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(verify, "SYSTEM_KEYS", str(tmp_path / "none"))
    image = str(CORPUS / "images" / "one-builder.sif")
    assert verify.run([image]) == 2
    assert "none of your own" in capsys.readouterr().err
    run("import", PGP / "builder-secret.asc")
    assert verify.run([image]) == 0
    assert "private key" not in capsys.readouterr().err
    assert verify.run(["--keyring", str(PGP / "mallory-ring.asc"), image]) == 1
    assert verify.run(["--key", str(CORPUS / "keys" / "pem" / "p256-public.pem"), image]) == 1


@pytest.mark.parametrize(
    "arguments", [[], ["nothing"], ["list", "--site", "extra", "--bits"], ["remove"], ["newpair", "x"]]
)
def test_usage_errors_are_2(run, arguments):
    assert run(*arguments)[0] == 2


@pytest.mark.parametrize("command", ["newpair", "list", "import", "export", "remove"])
def test_help_ends_in_examples_and_fits_a_terminal(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0
    assert f"eclctl keys {command}" in out.partition("examples:")[2]
    assert max(len(line) for line in out.splitlines()) <= 80


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--email", "no address", "--no-passphrase"], "is no email address"),
        (["--name", "Joe <x>", "--no-passphrase"], "has one of"),
        (["--name", "Joe\nKey-Type: DSA", "--no-passphrase"], "characters that do not show"),
        (["--name", "Joe\x1b[2J", "--no-passphrase"], "characters that do not show"),
        (["--name", " ", "--no-passphrase"], "white space"),
        (["--no-passphrase"], "give --name or --email"),
        (["--name", "Joe", "--bit-length", "1024"], "is none of 2048"),
        (["--name", "Joe", "--bit-length", "8192"], "is none of 2048"),
        (["--name", "Joe", "--type", "ed25519", "--bit-length", "2048"], "is for RSA"),
        (["--name", "Joe", "--expire", "0d"], "is no time"),
        (["--name", "Joe", "--expire", "80y"], "leads beyond 2105"),
        (["--name", "Joe", "--expire", "99999y"], "leads beyond 2105"),
        (["--email", "joe@site.example", "--comment", "demo", "--no-passphrase"], "a comment stands behind a name"),
        (["--name", "Joe", "--push=perhaps"], "neither true nor false"),
        (["--name", "Joe", "--url", "https://x"], "add --push"),
    ],
)
def test_what_is_wrong_with_a_wish_for_a_pair_is_told(run, ring, arguments, why):
    status, _, err = run("newpair", *arguments)
    assert (status, why in err) == (2, True), err
    assert not os.path.exists(ring.directory)


@pytest.mark.parametrize(("url", "why"), [([], "no keyserver is named"), (["--url", "ftp://x"], "is no keyserver")])
def test_whom_to_push_to_is_known_before_a_pair_is_made(run, ring, monkeypatch, url, why):
    monkeypatch.setenv("XDG_CONFIG_HOME", ring.directory)
    monkeypatch.setattr(keyservers, "SYSTEM_CONFIG", f"{ring.directory}/none.yaml")
    status, _, err = run("newpair", "--name", "Joe", "--no-passphrase", "--push", *url)
    assert (status, why in err) == (1, True)
    assert not os.path.exists(ring.directory)


def test_a_pair_without_a_passphrase_must_be_meant(run, ring, monkeypatch):
    monkeypatch.delenv("ECLCTL_KEY_PASSPHRASE", raising=False)
    status, _, err = run("newpair", "--name", "Joe", "--password", "")
    assert (status, "say --no-passphrase" in err) == (1, True)
    status, _, err = run("newpair", "--name", "Joe")
    assert (status, "--passphrase-fd" in err) == (1, True)
    assert not os.path.exists(ring.directory)
